import errno
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emseg.decoding.agglomeration import rounds
from emseg.decoding.agglomeration.edge_files import Edges, added_up, in_file
from emseg.decoding.agglomeration.merging import merge
from emseg.decoding.agglomeration.region_graph import Histograms, RegionGraph
from emseg.decoding.agglomeration.supervoxels import given_supervoxels
from emseg.decoding.agglomeration.waterz_child import waterz_partitions
from emseg.decoding.edges import axis_edges
from emseg.errors import UserError
from emseg.kernels.region_edges import EDGE
from reference.agglomeration import bin_of, merges, quantile_of, samples_of, score_of, whole

FUNCTIONS = ["mean", "aff15_his256", "aff50_his256", "aff85_his256", "hist_quant_50"]
NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def graph_of(contacts, fragments):
    """The region graph of {(u, v): affinities}; its sizes count for nothing."""
    rows, starts, bins, weights = [], [0], [], []
    for (u, v), own in sorted(contacts.items()):
        rows.append((u, v, max(own), len(own), sum(whole(affinity) for affinity in own)))
        values, counts = np.unique([bin_of(affinity) for affinity in own], return_counts=True)
        bins.extend(values)
        weights.extend(counts)
        starts.append(len(bins))
    kinds = (starts, np.int32), (bins, np.uint8), (weights, np.int32)
    histograms = Histograms(*(np.array(values, dtype) for values, dtype in kinds))
    return RegionGraph(np.array(rows, EDGE), histograms, np.ones(fragments + 1, np.int64))


def merged(contacts, fragments, merge_function, until, levels=False, filed=False, **how):
    queue = 256 if levels else 0
    graph = graph_of(contacts, fragments)
    if filed:
        graph = replace(graph, edges=in_file(graph.edges[:, None], EDGE, None))
    return merge(graph, merge_function=merge_function, until=until, discretize_queue=queue, **how)


def check_against_reference(contacts, fragments, merge_function, until, levels=False, **how):
    tree = merged(contacts, fragments, merge_function, until, levels, **how)
    samples = {pair: samples_of(own, merge_function) for pair, own in contacts.items()}
    done = merges(samples, quantile_of(merge_function), until, levels)
    parents, heights = np.arange(fragments + 1), np.full(fragments + 1, np.inf, np.float32)
    for larger, smaller, score in done:
        parents[larger], heights[larger] = smaller, score
    np.testing.assert_array_equal(tree.parents, parents)
    np.testing.assert_array_equal(tree.heights, heights)
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


# How it is done, which must not count: groups of two regions at first make up to five rounds.
WAYS = st.fixed_dictionaries(
    {
        "most_regions": st.sampled_from([2, 3, 5, 1024]),
        "threads": st.sampled_from([1, 3]),
        "filed": st.booleans(),
        "memory": st.sampled_from([None, None, 1, 4_500, 16_000]),  # 1 contact, 2, 7,
    }
)


@settings(deadline=None, max_examples=70)
@given(graphs(), st.sampled_from(FUNCTIONS), st.sampled_from([0.3, 0.6, 1.0]), st.booleans(), WAYS)
def test_merges_are_those_of_the_reference(drawn, merge_function, until, levels, way):
    done = check_against_reference(*drawn, merge_function, until, levels, **way)
    heights = [score for _, _, score in done]
    assert heights == sorted(heights)


@settings(deadline=None, max_examples=70)
@given(graphs(), st.sampled_from(FUNCTIONS), st.floats(0, 1, width=32))
def test_a_tree_cut_at_a_threshold_is_that_of_a_run_stopped_there(drawn, merge_function, threshold):
    tree = merged(*drawn, merge_function, 1.0)
    joined = tree.parents < np.arange(len(tree.parents))
    assert (tree.heights[joined] <= tree.heights[tree.parents[joined]]).all()
    stopped = merged(*drawn, merge_function, threshold)
    np.testing.assert_array_equal(tree.roots(threshold), stopped.roots(threshold))


@settings(deadline=None, max_examples=70)
@given(
    fragments=st.integers(1, 400),
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    most=st.integers(0, 100),
    seed=st.integers(0, 9),
)
def test_edges_that_the_memory_does_not_hold(fragments, lengths, most, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        part = np.zeros(length, EDGE)
        part["u"], part["v"] = np.sort(rng.integers(1, fragments + 1, (2, length)), axis=0)
        part["max"], part["sum"] = rng.random(length), rng.integers(0, 2**40, length)
        part["count"] = rng.integers(1, 9, length)
        parts.append(part)
    expected, _ = added_up(np.concatenate(parts), fragments)
    edges = Edges(fragments, most=most, folder=None)
    for part in parts:
        edges.add(part)
    found = edges.added_up()
    assert edges.total == sum(lengths)
    assert isinstance(found, np.memmap) == (edges.total > most and len(expected) > 0)
    np.testing.assert_array_equal(found, expected)
    pairs = found[["u", "v"]].tolist()
    assert pairs == sorted({*pairs}) and all(u < v for u, v in pairs)


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


# Regions of many neighbours, which merge with each other: tables of pairs are filled anew.
@pytest.mark.parametrize("most_regions", [20, 1024])
@pytest.mark.parametrize(
    "merge_function, most, distinct",
    [("mean", 5, 50), ("aff85_his256", 1, 10**6), ("hist_quant_50", 60, 300)],
)
def test_a_graph_of_hubs(merge_function, most, distinct, most_regions):
    contacts = random_graph(np.random.default_rng(distinct), 300, 3000, most, distinct)
    how = {"most_regions": most_regions, "threads": 2}
    assert len(check_against_reference(contacts, 300, merge_function, 1.0, **how)) > 250


@pytest.mark.parametrize("merge_function", FUNCTIONS)
def test_stars_that_merge_one_after_another(merge_function):
    # Each merge renames the edges of the smaller star, and the three together fill any table of
    # pairs that has room for what is left of them.
    for leaves in [(3, 6, 10), (3, 7, 9), (0, 10, 8), (24, 51, 88), (100, 215, 365)]:
        graph, last = {(1, 2): [0.9], (2, 3): [0.8]}, 3
        for hub, count in zip((1, 2, 3), leaves, strict=True):
            graph |= {(hub, last + 1 + leaf): [0.1] for leaf in range(count)}
            last += count
        done = check_against_reference(graph, last, merge_function, 0.5)
        assert [pair for *pair, _ in done] == [[2, 1], [3, 1]]


def test_scores_of_a_mean_are_of_the_exact_sum():
    values = np.random.default_rng(0).random(1000, np.float32).tolist()
    score = merged({(1, 2): values}, 2, "mean", 1.0).heights[2]
    assert score == score_of([whole(value) for value in values], 0)
    assert abs(score - (1 - np.mean(values))) < 1e-7


def smooth_affinities(seed, shape=(24, 48, 48)):
    noise = np.random.default_rng(seed).standard_normal((3, *shape))
    smooth = gaussian_filter(noise, (0, 1.2, 1.2, 1.2))
    return (1 / (1 + np.exp(-3 * smooth / smooth.std()))).astype(np.float32)


def test_segments_of_its_fragments_are_those_of_waterz():
    # The mean has no ties here; of equal scores waterz takes what was queued first.
    affinities = smooth_affinities(0)
    fragments, partitions = waterz_partitions(
        affinities, NINE, merge_function="mean", aff_threshold=(0.1, 0.999)
    )
    found = given_supervoxels(
        fragments, affinities, edges=axis_edges(UNITS, "destination"), histograms=False
    )
    tree = merge(found.graph, merge_function="mean", until=0.9, most_regions=100)
    counts = []
    for threshold, theirs in partitions:
        np.testing.assert_array_equal(tree.roots(threshold), theirs)
        counts.append(len(np.unique(theirs)))
    assert fragments.max() > counts[0] > counts[2] > counts[4] > counts[-1] > 1


def test_a_full_disk_is_one_line(monkeypatch):
    def full(path, _):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rounds.np, "save", full)
    contacts = random_graph(np.random.default_rng(0), 50, 200, 3, 100)
    with pytest.raises(UserError, match="emseg-merging-.*No space left on device"):
        merged(contacts, 50, "mean", 1.0, memory=16_000)
