from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.errors import UserError
from emseg.evaluation import contingency
from reference.metrics import labelled_pairs

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


@settings(deadline=None, max_examples=120)
@given(pair=pairs())
def test_the_table_counts_every_pair(pair):
    table = contingency(*pair)
    expected = Counter(labelled_pairs(*pair))
    assert as_dict(table) == expected
    assert list(as_dict(table)) == sorted(expected)
    assert table.voxels == pair[1].size
    assert table.labelled == sum(expected.values())
    assert table.background == sum(n for (_, two), n in expected.items() if two == 0)
    by_truth, by_segment = Counter(), Counter()
    for (one, two), count in expected.items():
        by_truth[one] += count
        by_segment[two] += count
    assert table.truth_sizes.tolist() == [by_truth[one] for one in sorted(by_truth)]
    assert table.segmentation_sizes.tolist() == [by_segment[two] for two in sorted(by_segment)]


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


def test_many_pairs_in_several_chunks():
    rng = np.random.default_rng(0)
    segmentation = rng.integers(0, 2**63, 3000, dtype=np.uint64)[
        rng.integers(0, 3000, (3, 900, 500))
    ]
    truth = rng.integers(0, 40, (3, 900, 500)).astype(np.uint8)
    found = as_dict(contingency(segmentation, truth))
    assert found == Counter(labelled_pairs(segmentation, truth))
    assert len(found) > 100_000


def test_views_need_no_copy():
    volume = np.random.default_rng(0).integers(0, 5, (6, 7, 8))
    found = contingency(volume[::2, ::-1].T, volume[::2].T)
    assert as_dict(found) == Counter(labelled_pairs(volume[::2, ::-1].T, volume[::2].T))


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
