"""Lifted multicut: a multicut that also uses affinities between fragments that do not touch."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.decoding.cut_costs import check_beta, cut_costs, segment_table
from emseg.decoding.cut_solvers import Solver, bioimage, check_solver, solve
from emseg.decoding.decoder_forms import Sharing, Sweep
from emseg.decoding.distance_fragments import fragments_and_graph
from emseg.decoding.edges import check_prediction, check_values, probabilities
from emseg.decoding.multicut import section_rules
from emseg.decoding.ranges import LongEdge, near_and_long
from emseg.decoding.region_graph import RegionGraph, added_up
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.distant_pairs import distant_edges


@dataclass(frozen=True, eq=False)
class LiftedGraph:
    """A region graph, and the links of fragments that do not touch (EDGE, sorted by (u, v))."""

    graph: RegionGraph
    lifted: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return self.graph.sizes

    @property
    def nbytes(self) -> int:
        return self.graph.nbytes + self.lifted.nbytes


def lifted_multicut(
    prediction: np.ndarray,
    *,
    beta: float = 0.5,
    lifted_weight: float = 1.0,
    boundary_threshold: float = 0.25,
    seed_sigma: float = 2.0,
    weight_sigma: float = 2.0,
    boundary_weight: float = 0.9,
    min_fragment_size: int = 100,
    solver: Solver = "kernighan_lin",
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> np.ndarray:
    """Labels (Z, Y, X) of the partition whose cut contacts and cut links cost the least found.

    `prediction` (C, Z, Y, X) as for `multicut`: the shortest channel along each axis is for
    fragments and contacts; the voxel pairs of all others, at least one, link fragments that do not
    touch. A link between different segments costs as much as a contact with its mean affinity (but
    n_max is that of links), times `lifted_weight`; segments are connected by contacts only. The
    rest is as for `multicut`.

    Horňáková et al., "Analysis and optimization of graph decompositions by lifted multicuts", ICML
    2017; Beier et al., Nature Methods 2017. Raises UserError without bioimage-cpp, its solver.
    """
    given = locals()
    [(_, labels)] = lifted_multicut_sweep(**given | {"beta": [beta]})
    return labels


def lifted_multicut_sweep(
    prediction: np.ndarray,
    *,
    beta: Sequence[float],
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """(beta, labels), ascending, as of `lifted_multicut`, whose other `arguments` it takes.

    All share fragments, region graph and links.
    """
    check_beta(beta)
    labels, graph = _fragments(prediction, offsets=offsets, edge_side=edge_side, **arguments)
    for value, table in _segment_tables(graph, beta=beta, **arguments):
        yield value, table[labels]


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
    found, _ = added_up(np.concatenate(parts), None, len(graph.sizes) - 1)
    return found[~np.isin(_keys(found), _keys(graph.edges))]


def _keys(edges: np.ndarray) -> np.ndarray:
    return edges["u"].astype(np.int64) << 32 | edges["v"]


def _fragments(
    prediction: np.ndarray,
    *,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> tuple[np.ndarray, LiftedGraph]:
    """(labels, graph) of the fragments; they depend on the arguments in `_sharing_key`."""
    bioimage("graph")
    rules = section_rules(arguments)
    check_prediction(prediction, offsets=offsets)
    near, long = near_and_long(offsets, edge_side, decoder="lifted_multicut")
    check_values([prediction], prediction.dtype)
    labels, graph = fragments_and_graph(prediction, near, rules)
    return labels, LiftedGraph(graph, links(labels, prediction, long, graph))


def _segment_tables(
    graph: LiftedGraph,
    *,
    beta: Sequence[float],
    lifted_weight: float = 1.0,
    solver: Solver = "kernighan_lin",
    **_: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """(beta, table), ascending: table[f] is the label of the segment with the fragment f."""
    check_solver(solver)
    if not (math.isfinite(lifted_weight) and lifted_weight >= 0):
        raise UserError(f"decoding.lifted_weight is {lifted_weight}; it is 0 or more")
    edges = graph.graph.edges
    for value in check_beta(beta):
        segments = solve(
            len(graph.sizes) - 1,
            edges,
            cut_costs(edges, value),
            lifted=graph.lifted,
            lifted_costs=lifted_weight * cut_costs(graph.lifted, value),
            solver=solver,
        )
        yield value, segment_table(segments[1:])


def _sharing_key(arguments: Mapping[str, Any]) -> Hashable:
    return "lifted", section_rules(arguments)  # the graph is not that of `multicut`


SWEEP = Sweep(
    decoder=lifted_multicut,
    argument="beta",
    function=lifted_multicut_sweep,
    sharing=Sharing(key=_sharing_key, fragments=_fragments, tables=_segment_tables),
)
