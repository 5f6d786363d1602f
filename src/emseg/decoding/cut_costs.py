"""The costs of cutting edges of a graph of fragments, and of a whole partition."""

import numpy as np

from emseg.kernels.region_edges import SUM_UNIT

# Distance of probabilities from 0 and 1, where costs would be infinite.
LEAST_PROBABILITY = 0.001


def cut_costs(edges: np.ndarray, beta: float) -> np.ndarray:
    """The cost of cutting each edge, float64 (E,): above 0 for one that should not be cut.

    `edges` is an array of `emseg.kernels.region_edges.EDGE`. With p = 1 - the mean affinity, scaled
    from [0, 1] to [0.001, 0.999], a cost is log((1 - p) / p) + log((1 - beta) / beta), times the
    edge's number of pairs of voxels divided by the largest such number.
    """
    if not len(edges):
        return np.empty(0)
    mean = edges["sum"] / (edges["count"] * float(SUM_UNIT))
    p = LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * (1 - mean)
    costs = np.log((1 - p) / p) + np.log((1 - beta) / beta)
    return costs * (edges["count"] / edges["count"].max())


def cut_energy(edges: np.ndarray, costs: np.ndarray, segments: np.ndarray) -> float:
    """The sum of the costs of all edges between different segments.

    `segments[f]` is the segment of fragment f, numbered in any way; `edges` as for `cut_costs`.
    """
    return float(costs[segments[edges["u"]] != segments[edges["v"]]].sum())


def segment_table(segments: np.ndarray) -> np.ndarray:
    """The label of each fragment's segment, uint32, from 1 on in the order of fragments.

    `segments` are those of the fragments 1, 2, …; entry 0 of the result is 0, the background.
    """
    _, first, places = np.unique(segments, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(first)) + 1
    return np.concatenate([[0], ranks[places]]).astype(np.uint32)
