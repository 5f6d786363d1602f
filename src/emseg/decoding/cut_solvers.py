"""Partitions of graphs by the solvers of bioimage-cpp, an optional dependency."""

import importlib
from types import ModuleType
from typing import Any, Literal

import numpy as np

from emseg.decoding.cut_costs import cut_energy
from emseg.errors import UserError

Solver = Literal["kernighan_lin", "greedy_additive"]


def bioimage(module: str) -> ModuleType:
    """A module of bioimage-cpp. Raises UserError if that is not installed."""
    try:
        return importlib.import_module(f"bioimage_cpp.{module}")
    except ImportError as error:
        raise UserError(
            "multicut, lifted_multicut and mutex_watershed run on bioimage-cpp: "
            'pip install "emseg[multicut]"'
        ) from error


def solve(
    count: int,
    edges: np.ndarray,
    costs: np.ndarray,
    *,
    lifted: np.ndarray,
    lifted_costs: np.ndarray,
    solver: Solver,
) -> np.ndarray:
    """Segments of the fragments 0 to `count` (int64; 0 is alone) with the least energy found.

    `edges` and `lifted` are arrays of `emseg.kernels.region_edges.EDGE`, sorted by (u, v), u < v,
    none in both. A segment is connected by `edges`. The energy is the sum of the `costs` of all
    edges, lifted ones too, between different segments. `greedy_additive` joins the ends of the edge
    with the highest cost again and again; `kernighan_lin` then moves fragments between segments.
    Of the two results the better is returned.
    """
    objective, greedy, refining = _problem(count, edges, costs, lifted, lifted_costs)
    start = _connected(edges, greedy.optimize(objective))
    if solver == "greedy_additive":
        return start

    def energy(segments: np.ndarray) -> float:
        return cut_energy(edges, costs, segments) + cut_energy(lifted, lifted_costs, segments)

    objective.labels = start.astype(np.uint64)
    refined = _connected(edges, refining.optimize(objective))
    return refined if energy(refined) <= energy(start) else start


def _problem(
    count: int, edges: np.ndarray, costs: np.ndarray, lifted: np.ndarray, lifted_costs: np.ndarray
) -> tuple[Any, Any, Any]:
    """(objective, greedy solver, the solver that improves its result), lifted or not."""
    graphs = bioimage("graph")
    ends = np.stack([edges["u"], edges["v"]], axis=1).astype(np.uint64)
    graph = graphs.UndirectedGraph.from_unique_edges(count + 1, ends)
    if len(lifted):
        solvers = bioimage("graph.lifted_multicut")
        far = np.stack([lifted["u"], lifted["v"]], axis=1).astype(np.uint64)
        objective = solvers.LiftedMulticutObjective(
            graph, costs, lifted_uvs=far, lifted_costs=lifted_costs
        )
        greedy = solvers.LiftedGreedyAdditiveMulticut()
        return objective, greedy, solvers.LiftedKernighanLinMulticut()
    solvers = bioimage("graph.multicut")
    objective = solvers.MulticutObjective(graph, costs)
    return objective, solvers.GreedyAdditiveMulticut(), solvers.KernighanLinMulticut()


def _connected(edges: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """The pieces of the segments that are connected by edges, int64."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    within = edges[segments[edges["u"]] == segments[edges["v"]]]
    shape = (len(segments), len(segments))
    joined = coo_array((np.ones(len(within), bool), (within["u"], within["v"])), shape=shape)
    return connected_components(joined, directed=False)[1].astype(np.int64)
