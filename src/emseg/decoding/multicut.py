"""Multicut: fragments of sections, partitioned at the least cost of cut contacts."""

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from emseg.decoding.cut_costs import check_beta, cut_costs, segment_table
from emseg.decoding.cut_solvers import Solver, bioimage, check_solver, solve
from emseg.decoding.decoder_forms import Sharing, Sweep
from emseg.decoding.distance_fragments import SectionRules, fragments_and_graph
from emseg.decoding.edges import axis_edges, check_prediction, check_values
from emseg.decoding.region_graph import RegionGraph
from emseg.kernels.affinity import EdgeSide


def multicut(
    prediction: np.ndarray,
    *,
    beta: float = 0.5,
    boundary_threshold: float = 0.25,
    seed_sigma: float = 2.0,
    weight_sigma: float = 2.0,
    boundary_weight: float = 0.9,
    min_fragment_size: int = 100,
    solver: Solver = "kernighan_lin",
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> np.ndarray:
    """Labels (Z, Y, X) of the partition of fragments whose cut contacts cost the least found.

    `prediction` (3, Z, Y, X) holds probabilities that a pair lies in one object: float32, float16
    or uint8 (0 to 255); one channel per axis, in any order, see `axis_edges`. Labels are uint32,
    numbered 1, 2, … by their first voxel in C order; there is no background.

    Fragments are made in each section (axis 0), from seeds far from boundaries, see `SectionRules`.
    Cutting a contact of two fragments with the mean affinity 1 - p over n pairs of voxels costs
    n / n_max (log((1 - p) / p) + log((1 - beta) / beta)), with p scaled to [0.001, 0.999].
    A larger `beta`, in (0, 1), cuts more. `solver` `kernighan_lin` starts from the result of
    `greedy_additive`, and is never worse.

    The decoder that SSNS-Net's authors call LMC (Huang et al. 2022), after Beier et al.,
    Nature Methods 2017. Raises UserError without bioimage-cpp, its solver.
    """
    given = locals()
    [(_, labels)] = multicut_sweep(**given | {"beta": [beta]})
    return labels


def multicut_sweep(
    prediction: np.ndarray,
    *,
    beta: Sequence[float],
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """(beta, labels), ascending, as of `multicut`, whose other `arguments` it takes.

    All share fragments and region graph.
    """
    check_beta(beta)
    labels, graph = _fragments(prediction, offsets=offsets, edge_side=edge_side, **arguments)
    for value, table in _segment_tables(graph, beta=beta, **arguments):
        yield value, table[labels]


def _fragments(
    prediction: np.ndarray,
    *,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> tuple[np.ndarray, RegionGraph]:
    """(labels, graph) of the fragments; they depend on the arguments in `_sharing_key`."""
    bioimage("graph")
    rules = section_rules(arguments)
    check_prediction(prediction, offsets=offsets)
    edges = axis_edges(offsets, edge_side)
    check_values([prediction], prediction.dtype)
    return fragments_and_graph(prediction, edges, rules)


def _segment_tables(
    graph: RegionGraph, *, beta: Sequence[float], solver: Solver = "kernighan_lin", **_: Any
) -> Iterator[tuple[float, np.ndarray]]:
    """(beta, table), ascending: table[f] is the label of the segment with the fragment f."""
    check_solver(solver)
    none = graph.edges[:0]
    for value in check_beta(beta):
        segments = solve(
            len(graph.sizes) - 1,
            graph.edges,
            cut_costs(graph.edges, value),
            lifted=none,
            lifted_costs=np.empty(0),
            solver=solver,
        )
        yield value, segment_table(segments[1:])


def section_rules(arguments: Mapping[str, Any]) -> SectionRules:
    """The rules of fragments from a decoder's arguments; others have `multicut`'s defaults."""
    own = inspect.signature(multicut).parameters
    names = (field.name for field in fields(SectionRules))
    return SectionRules(**{name: arguments.get(name, own[name].default) for name in names})


def _sharing_key(arguments: Mapping[str, Any]) -> Hashable:
    return section_rules(arguments)


SWEEP = Sweep(
    decoder=multicut,
    argument="beta",
    function=multicut_sweep,
    sharing=Sharing(key=_sharing_key, fragments=_fragments, tables=_segment_tables),
)
