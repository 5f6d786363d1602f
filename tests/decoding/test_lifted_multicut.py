import numpy as np

from decoding.test_multicut import FACTS, RULES, UNITS, cells
from emseg.decoding.agglomeration.supervoxels import given_supervoxels
from emseg.decoding.edges import axis_edges
from emseg.decoding.lifted_multicut import lifted_multicut
from emseg.decoding.multicut import links, multicut
from emseg.decoding.ranges import LongEdge
from emseg.kernels.affinity import affinities, erode_labels
from emseg.kernels.region_edges import SUM_UNIT
from reference.multicut import distant_contacts

LONG = [*UNITS, (2, 0, 0), (0, -6, 0), (0, 3, 5)]
SIX = {"offsets": LONG, "edge_side": "destination"}


def noisy(seed: int, noise: float = 0.25) -> np.ndarray:
    truth = erode_labels(cells(seed, (5, 48, 52), 2, 4), radius=(0, 1, 1))
    values, _ = affinities(truth, offsets=LONG, edge_side="destination")
    drawn = np.random.default_rng(seed).normal(0, noise, values.shape)
    return np.clip(0.15 + 0.7 * values + drawn, 0, 1).astype(np.float32)


def test_links_are_all_long_pairs_of_fragments_that_do_not_touch():
    random = np.random.default_rng(0)
    blobs = np.repeat(np.repeat(np.arange(1, 37).reshape(3, 3, 4), 2, 1), 3, 2).astype(np.uint32)
    prediction = random.random((6, *blobs.shape), np.float32)
    graph = given_supervoxels(
        blobs, prediction, edges=axis_edges(UNITS, "destination"), histograms=False
    ).graph
    long = [LongEdge(3, (-2, 0, 0)), LongEdge(4, (0, 4, 0)), LongEdge(5, (0, -1, 2))]
    found = links(blobs, prediction, long, graph)
    expected: dict[tuple[int, int], list[float]] = {}
    for edge in long:
        for pair, own in distant_contacts(blobs, prediction[edge.channel], edge.partner).items():
            expected.setdefault(pair, []).extend(own)
    touching = {(u, v) for u, v in zip(graph.edges["u"], graph.edges["v"], strict=True)}
    assert touching & set(expected)
    expected = {pair: own for pair, own in expected.items() if pair not in touching}
    pairs = list(zip(found["u"].tolist(), found["v"].tolist(), strict=True))
    assert pairs == sorted(expected)
    np.testing.assert_array_equal(found["count"], [len(expected[pair]) for pair in pairs])
    sums = [sum(expected[pair]) for pair in pairs]
    np.testing.assert_allclose(found["sum"] / SUM_UNIT, sums, atol=1e-6)


def test_links_of_weight_0_leave_a_multicut_and_others_change_it():
    prediction = noisy(0, noise=1.0)
    plain = multicut(prediction[:3], **RULES, **FACTS)
    np.testing.assert_array_equal(
        lifted_multicut(prediction, lifted_weight=0.0, **RULES, **SIX), plain
    )
    assert (lifted_multicut(prediction, lifted_weight=5.0, **RULES, **SIX) != plain).any()


def test_a_gap_in_the_nearest_affinities_is_bridged_and_a_leak_is_closed():
    # Two cells side by side in eight sections. Affinities from section 3 to 4 are undecided; the
    # pairs over two sections and over the cells' boundary know better.
    truth = np.where(np.arange(40) < 20, 1, 2).astype(np.int32) * np.ones((8, 30, 1), np.int32)
    apart = erode_labels(truth, radius=(0, 1, 1))
    offsets = [*UNITS, (2, 0, 0), (0, 0, 8)]
    values, _ = affinities(apart, offsets=offsets, edge_side="destination")
    prediction = (0.1 + 0.8 * values).astype(np.float32)
    prediction[0, 4] = 0.45
    facts = {"offsets": offsets, "edge_side": "destination"}
    cut = multicut(prediction[:3], **FACTS)
    assert cut.max() == 4
    labels = lifted_multicut(prediction, **facts)
    assert labels.max() == 2
    assert len(np.unique(np.stack([labels, truth])[:, apart > 0], axis=1).T) == 2
