import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.errors import UserError
from emseg.evaluation import Accumulator, contingency
from reference.metrics import known_pairs

DTYPES = st.sampled_from(["int8", "uint16", "int32", "uint32", "int64", "uint64"])


@st.composite
def labels(draw, shape, lowest):
    """Ids of any integer dtype, up to its largest; few different ones."""
    dtype = np.dtype(draw(DTYPES))
    lowest = lowest if dtype.kind == "i" else 0
    ids = draw(st.lists(st.integers(lowest, np.iinfo(dtype).max), min_size=1, max_size=5))
    return np.array(ids, dtype)[
        draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 4))) % len(ids)
    ]


@st.composite
def pairs(draw):
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple))
    return draw(labels(shape, 0)), draw(labels(shape, -1))


def as_dict(table):
    entries = zip(
        table.truth.tolist(), table.segmentation.tolist(), table.counts.tolist(), strict=True
    )
    return {(one, two): count for one, two, count in entries}


def check_sums(table, expected):
    """The entries are the expected ones in order, and so is all that is summed over them."""
    assert as_dict(table) == expected
    assert list(as_dict(table)) == sorted(expected)
    assert table.counted == sum(expected.values())
    assert table.unsegmented == sum(n for (_, two), n in expected.items() if two == 0)
    by_truth, by_segment = Counter(), Counter()
    for (one, two), count in expected.items():
        by_truth[one] += count
        by_segment[two] += count
    assert table.truth_sizes.tolist() == [by_truth[one] for one in sorted(by_truth)]
    assert table.segmentation_sizes.tolist() == [by_segment[two] for two in sorted(by_segment)]


@settings(deadline=None, max_examples=120)
@given(pair=pairs())
def test_the_table_counts_every_pair(pair):
    table = contingency(*pair)
    expected = Counter(known_pairs(*pair))
    check_sums(table, expected)
    check_sums(table.objects, {pair: n for pair, n in expected.items() if pair[0] != 0})
    assert table.voxels == table.objects.voxels == pair[1].size


@settings(deadline=None, max_examples=60)
@given(pair=pairs(), cut=st.integers(0, 6))
def test_parts_add_up_to_the_whole(pair, cut):
    segmentation, truth = pair
    parts = contingency(segmentation[:cut], truth[:cut]) + contingency(
        segmentation[cut:], truth[cut:]
    )
    whole = contingency(segmentation, truth)
    assert as_dict(parts) == as_dict(whole)
    assert parts.voxels == whole.voxels


@settings(deadline=None, max_examples=60)
@given(pair=pairs(), cuts=st.lists(st.integers(0, 6), max_size=3), data=st.data())
def test_blocks_count_in_any_order(pair, cuts, data):
    segmentation, truth = pair
    edges = [0, *sorted(cuts), len(truth)]
    blocks = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    whole = contingency(segmentation, truth)
    parts = Accumulator()
    for block in data.draw(st.permutations(blocks)):
        # A block may come in a wider type than another.
        wider = truth.dtype != np.uint64 and data.draw(st.booleans())
        parts.add(segmentation[block], truth[block].astype(np.int64 if wider else truth.dtype))
    assert as_dict(parts.table()) == as_dict(whole)
    assert list(as_dict(parts.table())) == list(as_dict(whole))
    assert parts.table().voxels == whole.voxels


def test_memory_grows_with_pairs_alone():
    pairs = Accumulator()
    block = np.arange(2**16, dtype=np.uint32).reshape(64, 1024) // 512
    pairs.add(block, block)
    tracemalloc.start()
    for _ in range(20):
        pairs.add(block, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < block.nbytes / 4
    assert pairs.table().voxels == 21 * block.size


@st.composite
def volumes_and_luts(draw):
    segmentation = draw(arrays.arrays(np.uint16, 40, elements=st.integers(0, 9)))
    truth = draw(arrays.arrays(np.int32, 40, elements=st.integers(-1, 4)))
    dtype = np.dtype(draw(DTYPES))
    ids = draw(st.lists(st.integers(0, np.iinfo(dtype).max), min_size=10, max_size=12))
    few = draw(st.booleans())
    return segmentation, truth, np.array(ids, dtype) // (np.iinfo(dtype).max // 3 if few else 1)


@settings(deadline=None, max_examples=120)
@given(drawn=volumes_and_luts())
def test_a_merged_table_is_that_of_the_merged_voxels(drawn):
    segmentation, truth, lut = drawn
    merged = contingency(segmentation, truth).merged(lut)
    expected = contingency(lut[segmentation], truth)
    for name in ("truth", "segmentation", "counts"):
        found, wanted = getattr(merged, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        assert found.tolist() == wanted.tolist(), name
    assert merged.voxels == expected.voxels
    assert as_dict(merged.objects) == as_dict(contingency(segmentation, truth).objects.merged(lut))


def test_many_fragments_are_merged():
    rng = np.random.default_rng(0)
    fragments = rng.integers(0, 50_000, 200_000).astype(np.uint32)
    truth = rng.integers(-1, 300, 200_000)
    table = contingency(fragments, truth)
    for lut in (rng.integers(0, 700, 50_000), rng.integers(0, 2**62, 50_000) // 2**50 * 2**50):
        merged = table.merged(lut)
        assert as_dict(merged) == as_dict(contingency(lut[fragments], truth))


@pytest.mark.parametrize(
    "lut, words",
    [
        (np.arange(4), r"lut has the shape \(4,\): segmentation ids go up to 4"),
        (np.ones((5, 5), int), r"\(5, 5\)"),
        (np.ones(5), "lut is float64"),
        (np.array([0, 1, 2, -3, 4]), "lut holds the id -3"),
    ],
)
def test_a_lut_that_does_not_fit_is_refused(lut, words):
    table = contingency(np.array([0, 4]), np.array([1, 1]))
    with pytest.raises(UserError, match=words):
        table.merged(lut)


def test_many_pairs_in_several_chunks():
    rng = np.random.default_rng(0)
    segmentation = rng.integers(0, 2**63, 3000, dtype=np.uint64)[
        rng.integers(0, 3000, (3, 900, 500))
    ]
    truth = rng.integers(0, 40, (3, 900, 500)).astype(np.uint8)
    found = as_dict(contingency(segmentation, truth))
    assert found == Counter(known_pairs(segmentation, truth))
    assert len(found) > 100_000


def test_views_need_no_copy():
    volume = np.random.default_rng(0).integers(0, 5, (6, 7, 8))
    found = contingency(volume[::2, ::-1].T, volume[::2].T)
    assert as_dict(found) == Counter(known_pairs(volume[::2, ::-1].T, volume[::2].T))


def test_a_boolean_is_the_id_1_or_0():
    rng = np.random.default_rng(0)
    segmentation, truth = rng.random((2, 4, 5)) < 0.5
    expected = contingency(segmentation.astype(np.uint8), truth.astype(np.uint8))
    assert as_dict(contingency(segmentation, truth)) == as_dict(expected)


@pytest.mark.parametrize(
    "segmentation, truth, words",
    [
        (np.ones((2, 3), int), np.ones((3, 2), int), r"\(2, 3\), the truth \(3, 2\)"),
        (np.ones(2), np.ones(2, int), "segmentation is float64"),
        (np.ones(2, int), np.ones(2, np.float32), "truth is float32"),
        (np.array([1, -1]), np.ones(2, int), "segmentation holds the id -1"),
        (np.ones(2, int), np.array([1, -2]), "truth holds the id -2"),
    ],
)
def test_what_are_no_ids_is_refused(segmentation, truth, words):
    with pytest.raises(UserError, match=words):
        contingency(segmentation, truth)
