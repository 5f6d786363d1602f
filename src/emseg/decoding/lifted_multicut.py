"""Lifted multicut: a multicut that also uses affinities between fragments that do not touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from emseg.bounds import finite
from emseg.decoding.cut_costs import cut_costs
from emseg.decoding.decoder import as_function
from emseg.decoding.edges import AxisEdge, Offsets
from emseg.decoding.multicut import Multicut
from emseg.decoding.ranges import LongEdge, near_and_long
from emseg.kernels.affinity import EdgeSide


@dataclass(frozen=True, kw_only=True)
class LiftedMulticut(Multicut):
    """Labels (Z, Y, X) of the partition whose cut contacts and cut links cost the least found.

    A link between different segments costs as much as a contact with its mean affinity (but n_max
    is that of links), times `lifted_weight`; segments are connected by contacts only. Horňáková et
    al., "Analysis and optimization of graph decompositions by lifted multicuts", ICML 2017; Beier
    et al., Nature Methods 2017.

    Args:
        prediction: (C, Z, Y, X) as for `multicut`, which has the other settings: the shortest
            channel along each axis is for fragments and contacts; the voxel pairs of all others, at
            least one, link fragments that do not touch.
        lifted_weight: 0 or more.

    Raises:
        UserError: as for `multicut`, and without longer channels.
    """

    lifted_weight: Annotated[float, finite(0)] = 1.0

    def _near_and_long(
        self, offsets: Offsets, edge_side: EdgeSide
    ) -> tuple[Sequence[AxisEdge], list[LongEdge]]:
        return near_and_long(offsets, edge_side, decoder="lifted_multicut")

    def _lifted_costs(self, lifted: np.ndarray, beta: float) -> np.ndarray:
        return self.lifted_weight * cut_costs(lifted, beta)


lifted_multicut = as_function(LiftedMulticut)
