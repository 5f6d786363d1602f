"""Multicut: fragments of sections, partitioned at the least cost of cut contacts."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

import numpy as np

from emseg.bounds import Rule
from emseg.decoding.agglomeration.distance_fragments import SectionRules, fragments_and_graph
from emseg.decoding.agglomeration.region_graph import RegionGraph, added_up
from emseg.decoding.cut_costs import cut_costs, segment_table
from emseg.decoding.cut_solvers import Solver, bioimage, solve
from emseg.decoding.decoder import Sharing, as_function
from emseg.decoding.edges import (
    AxisEdge,
    Offsets,
    axis_edges,
    check_prediction,
    check_values,
    probabilities,
)
from emseg.decoding.ranges import LongEdge
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.distant_pairs import distant_edges


@dataclass(frozen=True, eq=False)
class CutGraph:
    """Contacts and links of the fragments 1 to `count`, arrays of EDGE, sorted by (u, v)."""

    count: int
    edges: np.ndarray
    # Of fragments that do not touch.
    lifted: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.edges.nbytes + self.lifted.nbytes


@dataclass(frozen=True, kw_only=True)
class Multicut(SectionRules, Sharing):
    """Labels (Z, Y, X) of the partition of fragments whose cut contacts cost the least found.

    Fragments are made in each section (axis 0), from seeds far from boundaries, see `SectionRules`.
    Cutting a contact of two fragments with the mean affinity 1 - p over n pairs of voxels costs n /
    n_max (log((1 - p) / p) + log((1 - beta) / beta)), with p scaled to [0.001, 0.999]. The decoder
    that SSNS-Net's authors call LMC (Huang et al. 2022), after Beier et al., Nature Methods 2017.

    Args:
        prediction: (3, Z, Y, X), probabilities that a pair lies in one object: float32, float16 or
            uint8 (0 to 255); one channel per axis, in any order.
        boundary_threshold, seed_sigma, weight_sigma, boundary_weight, min_fragment_size: see
            `SectionRules`.
        beta: between 0 and 1; a larger one cuts more.
        solver: `kernighan_lin` starts from the result of `greedy_additive`, and is never worse.
        offsets, edge_side: of the channels, see `axis_edges`.

    Returns:
        uint32, numbered 1, 2, … by their first voxel in C order; there is no background.

    Raises:
        UserError: a prediction of another kind, or no bioimage-cpp, the solver's package.
    """

    swept: ClassVar[str] = "beta"

    beta: Annotated[float, Rule("between 0 and 1", lambda beta: 0 < beta < 1)] = 0.5
    solver: Solver = "kernighan_lin"

    def sweep(
        self,
        prediction: np.ndarray,
        values: Sequence[float],
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(beta, labels): all share fragments and graph."""
        self.ascending(values)
        labels, graph = self.make_fragments(prediction, offsets=offsets, edge_side=edge_side)
        for beta, table in self.tables(graph, values):
            yield beta, table[labels]

    def fragments_key(self) -> Hashable:
        settings = {field.name: getattr(self, field.name) for field in fields(SectionRules)}
        return type(self), SectionRules(**settings)

    def make_fragments(
        self, prediction: np.ndarray, *, offsets: Offsets, edge_side: EdgeSide
    ) -> tuple[np.ndarray, CutGraph]:
        bioimage("graph")
        check_prediction(prediction, offsets=offsets)
        near, long = self._near_and_long(offsets, edge_side)
        check_values([prediction], prediction.dtype)
        labels, graph = fragments_and_graph(prediction, near, self)
        lifted = links(labels, prediction, long, graph) if long else graph.edges[:0]
        return labels, CutGraph(len(graph.sizes) - 1, graph.edges, lifted)

    def tables(
        self, graph: CutGraph, values: Sequence[float]
    ) -> Iterator[tuple[float, np.ndarray]]:
        for beta in self.ascending(values):
            segments = solve(
                graph.count,
                graph.edges,
                cut_costs(graph.edges, beta),
                lifted=graph.lifted,
                lifted_costs=self._lifted_costs(graph.lifted, beta),
                solver=self.solver,
            )
            yield beta, segment_table(segments[1:])

    def _near_and_long(
        self, offsets: Offsets, edge_side: EdgeSide
    ) -> tuple[Sequence[AxisEdge], list[LongEdge]]:
        return axis_edges(offsets, edge_side), []

    def _lifted_costs(self, lifted: np.ndarray, beta: float) -> np.ndarray:
        return cut_costs(lifted, beta)


def links(
    labels: np.ndarray, prediction: np.ndarray, long: Sequence[LongEdge], graph: RegionGraph
) -> np.ndarray:
    """The links of fragments that do not touch: an array of EDGE, sorted by (u, v)."""
    levels = probabilities(prediction.dtype)
    parts = []
    for edge in long:
        values = prediction[edge.channel]
        if values.dtype == np.float16:
            # Bits have the order of float16 and index `levels`, except those of -0.0.
            values = np.maximum(np.ascontiguousarray(values).view(np.int16), 0)
        parts.append(distant_edges(labels, values, levels, edge.partner))
    found, _ = added_up(np.concatenate(parts), len(graph.sizes) - 1)
    return found[~np.isin(_keys(found), _keys(graph.edges))]


def _keys(edges: np.ndarray) -> np.ndarray:
    return edges["u"].astype(np.int64) << 32 | edges["v"]


multicut = as_function(Multicut)
