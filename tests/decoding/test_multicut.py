import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.decoding.cut_costs import cut_costs, cut_energy, segment_table
from emseg.decoding.cut_solvers import solve
from emseg.decoding.multicut import Multicut, multicut
from emseg.errors import UserError
from emseg.kernels.affinity import affinities, erode_labels
from emseg.kernels.region_edges import EDGE, SUM_UNIT
from reference.multicut import energy, hang_together, least_energy

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}
NAMES = ("greedy_additive", "kernighan_lin")


def edges_of(pairs: list[tuple[int, int]], means: list[float], counts: list[int]) -> np.ndarray:
    edges = np.zeros(len(pairs), EDGE)
    edges["u"], edges["v"] = np.array(pairs, int).reshape(-1, 2).T
    edges["count"] = counts
    edges["sum"] = [round(m * n * SUM_UNIT) for m, n in zip(means, counts, strict=True)]
    return edges


def cells(seed: int, shape: tuple[int, int, int], rows: int, columns: int) -> np.ndarray:
    """Convex cells that shift from section to section, int32 from 1 on."""
    random, count = np.random.default_rng(seed), rows * columns
    grid = np.stack(np.indices((rows, columns)), axis=-1).reshape(-1, 2)
    seeds = (grid + random.uniform(0.35, 0.65, (count, 2))) * shape[1:] / (rows, columns)
    drift = random.uniform(-0.5, 0.5, (count, 2))
    z, y, x = np.indices(shape)
    at = seeds[:, :, None, None, None] + drift[:, :, None, None, None] * z
    return ((at[:, 0] - y) ** 2 + (at[:, 1] - x) ** 2).argmin(0).astype(np.int32) + 1


@st.composite
def graphs(draw):
    """(number of nodes, base edges with costs, lifted edges with costs, none in both)."""
    count = draw(st.integers(2, 6))
    every = [(u, v) for u in range(count) for v in range(u + 1, count)]
    kinds = draw(st.lists(st.sampled_from(["base", "lifted", ""]), min_size=len(every)))
    kinds = (kinds + [""] * len(every))[: len(every)]
    seed = draw(st.integers(0, 10**6))
    costs = np.random.default_rng(seed).normal(size=len(every)).tolist()
    found = {"base": {}, "lifted": {}, "": {}}
    for pair, kind, cost in zip(every, kinds, costs, strict=True):
        found[kind][pair] = cost
    return count, found["base"], found["lifted"]


def solved(count, base, lifted, solver):
    arrays = [edges_of(list(of), [0.5] * len(of), [1] * len(of)) for of in (base, lifted)]
    costs = [np.array(list(of.values())) for of in (base, lifted)]
    return solve(count, arrays[0], costs[0], lifted=arrays[1], lifted_costs=costs[1], solver=solver)


@settings(deadline=None, max_examples=150)
@given(graph=graphs(), with_lifted=st.booleans())
def test_energies_lie_between_the_least_of_all_partitions_and_the_greedy_start(graph, with_lifted):
    count, base, lifted = graph
    lifted = lifted if with_lifted else {}
    found = {name: solved(count, base, lifted, name) for name in NAMES}
    least = least_energy(count, base, lifted)
    reached = {name: energy(base, own) + energy(lifted, own) for name, own in found.items()}
    assert least - 1e-9 <= reached["kernighan_lin"] <= reached["greedy_additive"] + 1e-9
    assert all(hang_together(base, own.tolist()) for own in found.values())


def test_of_small_graphs_most_are_solved_to_the_optimum_and_more_than_greedily():
    random, optimal, examples = np.random.default_rng(0), dict.fromkeys(NAMES, 0), 60
    for _ in range(examples):
        every = [(u, v) for u in range(7) for v in range(u + 1, 7)]
        base = {pair: random.normal() for pair in every if random.random() < 0.6}
        least = least_energy(7, base, {})
        for name in NAMES:
            optimal[name] += energy(base, solved(7, base, {}, name)) <= least + 1e-9
    assert optimal["kernighan_lin"] >= 0.9 * examples
    assert optimal["kernighan_lin"] > optimal["greedy_additive"]


def test_costs_are_log_odds_of_the_mean_affinity_weighed_by_size():
    edges = edges_of([(1, 2), (1, 3), (2, 3)], [0.8, 0.3, 1.0], [4, 10, 1])
    p = [0.001 + 0.998 * own for own in (0.2, 0.7, 0.0)]
    odds = [math.log((1 - own) / own) for own in p]
    np.testing.assert_allclose(
        cut_costs(edges, 0.5), [0.4 * odds[0], odds[1], 0.1 * math.log(999)], rtol=1e-7
    )
    np.testing.assert_allclose(
        cut_costs(edges, 0.2), np.array([0.4, 1, 0.1]) * (np.array(odds) + math.log(4)), rtol=1e-7
    )
    assert cut_costs(edges[:0], 0.5).shape == (0,)


def test_energy_and_tables_by_hand():
    edges, costs = edges_of([(1, 2), (1, 3), (2, 3)], [1] * 3, [1] * 3), np.array([1.0, 2.0, -4.0])
    assert cut_energy(edges, costs, np.array([9, 5, 5, 7])) == -2.0
    assert segment_table(np.array([7, 3, 7, 5])).tolist() == [0, 1, 2, 1, 3]


def test_true_affinities_come_back_as_the_cells_they_are_of():
    truth = cells(0, (6, 60, 70), 3, 3)
    apart = erode_labels(truth, radius=(0, 1, 1))
    prediction, _ = affinities(apart, offsets=UNITS, edge_side="destination")
    labels = multicut(prediction * np.uint8(255), **FACTS)
    assert labels.dtype == np.uint32 and labels.min() == 1
    inside = np.stack([labels, truth])[:, apart > 0]
    assert len(np.unique(truth)) == 9
    assert len(np.unique(inside, axis=1).T) == labels.max() == 9
    # Fragments are of sections, so that it was the multicut that joined them.
    alone = multicut(prediction * np.uint8(255) * np.uint8([0, 1, 1])[:, None, None, None], **FACTS)
    assert alone.max() >= 6 * 9


def noisy(seed: int = 0, shape: tuple[int, int, int] = (4, 48, 52)) -> np.ndarray:
    truth = cells(seed, shape, 2, 4)
    values, _ = affinities(
        erode_labels(truth, radius=(0, 1, 1)), offsets=UNITS, edge_side="destination"
    )
    noise = np.random.default_rng(seed).normal(0, 0.25, values.shape)
    return np.clip(0.15 + 0.7 * values + noise, 0, 1).astype(np.float32)


RULES = {"min_fragment_size": 20, "weight_sigma": 1.0}


def test_larger_betas_cut_more_and_segments_are_numbered_by_first_voxels():
    found = dict(Multicut(**RULES).sweep(noisy(), [0.05, 0.5, 0.9], **FACTS))
    for labels in found.values():
        _, first = np.unique(labels, return_index=True)
        assert (np.diff(first) > 0).all() and labels.min() == 1
    assert found[0.05].max() < found[0.5].max() < found[0.9].max()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimage_cpp.graph", None)
    with pytest.raises(UserError, match=r'pip install "emseg\[multicut\]"$'):
        multicut(noisy(), **FACTS)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (3, 5, 1), (2, 4, 3)])
def test_tiny_volumes_have_labels_too(shape):
    prediction = np.random.default_rng(0).random((3, *shape), np.float32)
    labels = multicut(prediction, **FACTS)
    assert labels.shape == shape and labels.min() == 1
