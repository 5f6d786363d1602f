import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emseg.decoding.agglomeration.waterz_child import waterz_partitions
from emseg.kernels.agglomeration import mean_scores, merge_regions, quantile_scores, roots_below
from emseg.kernels.region_edges import EDGE, find_edges
from reference.agglomeration import bin_of, merges, quantile_of, samples_of, score_of, whole

FUNCTIONS = ["mean", "aff15_his256", "aff50_his256", "aff85_his256", "hist_quant_50"]
NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def edges_of(graph):
    """EDGE array of {(u, v): affinities}, sorted by (u, v)."""
    rows = [
        (u, v, max(own), len(own), sum(whole(affinity) for affinity in own))
        for (u, v), own in sorted(graph.items())
    ]
    return np.array(rows, EDGE)


def histograms_of(graph, merge_function):
    """(starts, bins, weights) of the edges, sorted by (u, v); none for the mean."""
    starts, bins, weights = [0], [], []
    for _, own in sorted(graph.items()):
        if merge_function != "mean":
            values, counts = np.unique(samples_of(own, merge_function), return_counts=True)
            bins.extend(values)
            weights.extend(counts)
        starts.append(len(bins))
    return np.array(starts, np.int32), np.array(bins, np.uint8), np.array(weights, np.int32)


def merged(edges, histograms, merge_function, until, fragments, levels=False):
    """(parents, heights) by the kernel."""
    quantile, until = quantile_of(merge_function), np.float32(until)
    scores = quantile_scores(*histograms, quantile) if quantile else mean_scores(edges, levels)
    waiting = np.flatnonzero(scores < until)
    keys = scores[waiting].view(np.uint32).astype(np.uint64) << np.uint64(32)
    queue = np.sort(keys | waiting.astype(np.uint64))
    parents = np.arange(fragments + 1, dtype=np.int32)
    heights = np.full(fragments + 1, np.inf, np.float32)
    merge_regions(edges, scores, queue, *histograms, quantile, levels, until, parents, heights)
    return parents, heights


def check_against_reference(graph, merge_function, until, fragments, levels=False):
    histograms = histograms_of(graph, merge_function)
    parents, heights = merged(edges_of(graph), histograms, merge_function, until, fragments, levels)
    samples = {pair: samples_of(own, merge_function) for pair, own in graph.items()}
    done = merges(samples, quantile_of(merge_function), until, levels)
    expected = np.arange(fragments + 1), np.full(fragments + 1, np.inf, np.float32)
    for larger, smaller, score in done:
        expected[0][larger], expected[1][larger] = smaller, score
    np.testing.assert_array_equal(parents, expected[0])
    np.testing.assert_array_equal(heights, expected[1])
    return done


@st.composite
def graphs(draw):
    """({(u, v): affinities}, number of fragments)."""
    fragments = draw(st.integers(2, 12))
    pairs = [(u, v) for v in range(2, fragments + 1) for u in range(1, v)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=40))
    # Few levels, for ties of scores and of means; or any.
    levels = draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))
    one = st.sampled_from(levels) if draw(st.booleans()) else st.floats(0, 1, width=32)
    many = draw(st.sampled_from([1, 3, 12]))
    return {pair: draw(st.lists(one, min_size=1, max_size=many)) for pair in chosen}, fragments


@settings(deadline=None, max_examples=250)
@given(graphs(), st.sampled_from(FUNCTIONS), st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.booleans())
def test_merges_are_those_of_the_reference(drawn, merge_function, until, levels):
    graph, fragments = drawn
    done = check_against_reference(graph, merge_function, until, fragments, levels)
    heights = [score for _, _, score in done]
    assert heights == sorted(heights)


@settings(deadline=None, max_examples=100)
@given(graphs(), st.sampled_from(FUNCTIONS), st.floats(0, 1, width=32))
def test_a_tree_cut_at_a_threshold_is_that_of_a_run_stopped_there(drawn, merge_function, threshold):
    graph, fragments = drawn
    facts = edges_of(graph), histograms_of(graph, merge_function), merge_function
    parents, heights = merged(*facts, 1.0, fragments)
    joined = parents < np.arange(fragments + 1)
    assert (heights[joined] <= heights[parents[joined]]).all()
    stopped, _ = merged(*facts, threshold, fragments)
    roots = list(range(fragments + 1))
    for fragment in range(1, fragments + 1):
        roots[fragment] = roots[stopped[fragment]] if stopped[fragment] < fragment else fragment
    found = roots_below(parents, heights, np.float32(threshold))
    np.testing.assert_array_equal(found, roots)


def random_graph(rng, nodes, count, most, distinct):
    """`count` edges, a third of them at one of five hubs; up to `most` affinities each."""
    hubs = rng.integers(1, nodes + 1, 5)
    graph = {}
    while len(graph) < count:
        u, v = rng.integers(1, nodes + 1, 2)
        if rng.random() < 1 / 3:
            u = rng.choice(hubs)
        if u != v:
            values = rng.integers(0, distinct + 1, rng.integers(1, most + 1)) / distinct
            graph[int(min(u, v)), int(max(u, v))] = values.astype(np.float32).tolist()
    return graph


# Merging all of so many edges needs more rows of histograms than there are at first, and gives
# them back; the table of pairs is built anew many times.
@pytest.mark.parametrize(
    "merge_function, most, distinct", [("mean", 5, 50), ("aff85_his256", 1, 10**6)]
)
def test_a_graph_of_hubs(merge_function, most, distinct):
    graph = random_graph(np.random.default_rng(distinct), 300, 3000, most, distinct)
    assert len(check_against_reference(graph, merge_function, 1.0, 300)) > 250


@pytest.mark.parametrize("most, distinct", [(20, 10**6), (60, 300), (3, 1000)])
def test_histograms_of_many_samples(most, distinct):
    graph = random_graph(np.random.default_rng(most), 200, 1500, most, distinct)
    assert len(check_against_reference(graph, "hist_quant_50", 1.0, 200)) > 150


@pytest.mark.parametrize("merge_function", FUNCTIONS)
def test_stars_that_merge_one_after_another(merge_function):
    # Each merge renames the edges of the smaller star, and the three together fill any table of
    # pairs that has room for what is left of them.
    for leaves in [(3, 6, 10), (3, 7, 9), (0, 10, 8), (24, 51, 88), (100, 215, 365)]:
        graph, last = {(1, 2): [0.9], (2, 3): [0.8]}, 3
        for hub, count in zip((1, 2, 3), leaves, strict=True):
            graph |= {(hub, last + 1 + leaf): [0.1] for leaf in range(count)}
            last += count
        done = check_against_reference(graph, merge_function, 0.5, last)
        assert [pair for *pair, _ in done] == [[2, 1], [3, 1]]


def test_scores_of_a_mean_are_of_the_exact_sum():
    values = np.random.default_rng(0).random(1000, np.float32).tolist()
    [score] = mean_scores(edges_of({(1, 2): values}), False)
    assert score == score_of([whole(value) for value in values], 0)
    assert abs(score - (1 - np.mean(values))) < 1e-7


def smooth_affinities(seed, shape=(24, 48, 48)):
    noise = np.random.default_rng(seed).standard_normal((3, *shape))
    smooth = gaussian_filter(noise, (0, 1.2, 1.2, 1.2))
    return (1 / (1 + np.exp(-3 * smooth / smooth.std()))).astype(np.float32)


@pytest.mark.parametrize(
    "merge_function, queue",
    [("mean", 0), ("aff50_his256", 256), ("aff85_his256", 256), ("hist_quant_50", 256)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_waterz_merges_its_fragments_alike(merge_function, queue, seed):
    affinities = smooth_affinities(seed)
    fragments, partitions = waterz_partitions(
        affinities,
        NINE,
        merge_function=merge_function,
        aff_threshold=(0.1, 0.99),
        discretize_queue=queue,
    )
    count, at = int(fragments.max()), np.zeros((3, 3), np.int64)
    edges, contacts = find_edges(fragments, affinities, at, 3, None, count, 10**9, True)
    order = np.lexsort((edges["v"], edges["u"]))
    histograms = _histograms(edges, contacts, order, merge_function)
    parents, heights = merged(edges[order], histograms, merge_function, 0.9, count)
    counts = []
    for threshold, roots in partitions:
        found = roots_below(parents, heights, np.float32(threshold))
        np.testing.assert_array_equal(found, roots)
        counts.append(len(np.unique(roots)))
    assert count > counts[0] > counts[2] > counts[4] > counts[-1] > 1


def _histograms(edges, contacts, order, merge_function):
    if merge_function == "mean":
        return np.zeros(len(edges) + 1, np.int32), np.empty(0, np.uint8), np.empty(0, np.int32)
    if merge_function.startswith("aff"):
        bins = [bin_of(affinity) for affinity in edges["max"][order].tolist()]
        starts = np.arange(len(edges) + 1, dtype=np.int32)
        return starts, np.array(bins, np.uint8), np.ones(len(edges), np.int32)
    rank = np.argsort(order)
    samples, weights = np.unique(256 * rank[contacts >> 8] + (contacts & 255), return_counts=True)
    starts = np.searchsorted(samples >> 8, np.arange(len(edges) + 1))
    return starts.astype(np.int32), (samples & 255).astype(np.uint8), weights.astype(np.int32)
