import os
import resource
import signal
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from waterz import agglomerate
from waterz._agglomerate import _load_prebuilt

from emseg.blocks.child import ChildWorker
from emseg.blocks.serving import output_to
from emseg.decoding.agglomeration import waterz_child
from emseg.decoding.agglomeration.waterz_child import waterz_partitions
from emseg.errors import UserError
from reference.components import numbered

THRESHOLDS = [0.15, 0.3, 0.45, 0.6]
SCORES = {
    "mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>",
    "aff85_his256": "OneMinus<HistogramQuantileAffinity<RegionGraphType, 85, ScoreValue, 256>>",
    "hist_quant_50": (
        "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256, false>>"
    ),
}
FACTS = {"merge_function": "mean", "aff_threshold": (0.1, 0.95)}


def noise(shape=(8, 24, 24)):
    return np.random.default_rng(0).random((3, *shape), np.float32)


def in_this_process(affinities, thresholds, merge_function="mean", queue=0, fragments=None):
    """Every segmentation that waterz yields, as it yields it."""
    with tempfile.TemporaryFile() as dropped, output_to(dropped.fileno()):
        found = agglomerate(
            affinities,
            thresholds,
            fragments=None if fragments is None else fragments.astype(np.uint64),
            aff_threshold_low=0.1,
            aff_threshold_high=0.95,
            scoring_function=SCORES[merge_function],
            discretize_queue=queue,
        )
        return [segmentation.copy() for segmentation in found]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "merge_function, queue",
    [("mean", 0), ("aff85_his256", 0), ("aff85_his256", 256), ("hist_quant_50", 0)],
)
def test_the_partitions_are_those_of_waterz_itself(merge_function, queue, temporary, capfd):
    affinities = noise()
    fragments, partitions = waterz_partitions(
        affinities,
        THRESHOLDS,
        merge_function=merge_function,
        aff_threshold=(0.1, 0.95),
        discretize_queue=queue,
    )
    assert capfd.readouterr() == ("", "")
    first, *others = in_this_process(affinities, [0, *THRESHOLDS], merge_function, queue)
    assert fragments.dtype == np.uint32
    np.testing.assert_array_equal(fragments, first)
    ids, voxels = np.unique(fragments[fragments > 0], return_index=True)
    np.testing.assert_array_equal(ids, np.arange(len(ids)) + 1)
    assert (np.diff(voxels) > 0).all()
    assert [threshold for threshold, _ in partitions] == THRESHOLDS
    for (_, roots), segmentation in zip(partitions, others, strict=True):
        assert roots.dtype == np.uint32
        np.testing.assert_array_equal(roots[fragments], segmentation)
    counts = [len(np.unique(roots)) for _, roots in partitions]
    assert fragments.max() > counts[0] > counts[1] > counts[2] > counts[3] > 1
    if queue == 256:
        exact = in_this_process(affinities, THRESHOLDS, merge_function)
        assert any((one != two).any() for one, two in zip(exact, others, strict=True))


affinities_with_ties = st.tuples(*[st.integers(1, 5)] * 3).flatmap(
    lambda shape: arrays(
        np.float32, (3, *shape), elements=st.sampled_from([0, 0.05, 0.25, 0.5, 0.75, 0.96, 1])
    )
)


@settings(deadline=None, max_examples=200)
@given(affinities_with_ties, st.sampled_from(list(SCORES)), st.sampled_from([0, 256]))
def test_waterz_numbers_as_we_rely_on(affinities, merge_function, queue):
    yielded = in_this_process(affinities, [-1, 0, 0.3, 0.8], merge_function, queue)
    fragments = yielded[0]
    np.testing.assert_array_equal(fragments, numbered(fragments))
    np.testing.assert_array_equal(fragments, yielded[1])
    for segmentation in yielded:
        np.testing.assert_array_equal(segmentation == 0, fragments == 0)
        for segment in np.unique(segmentation):
            assert fragments[segmentation == segment].min() == segment


def test_given_fragments_keep_their_numbers():
    affinities = noise((4, 8, 8))
    ids = np.random.default_rng(1).permutation(64).repeat(4).reshape(4, 8, 8).astype(np.uint16)
    before = ids.copy()
    fragments, [(_, roots)] = waterz_partitions(affinities, [0.5], fragments=ids, **FACTS)
    np.testing.assert_array_equal(ids, before)
    np.testing.assert_array_equal(fragments, ids)
    [expected] = in_this_process(affinities, [0.5], fragments=ids)
    np.testing.assert_array_equal(roots[fragments], expected)
    assert 1 < len(np.unique(roots)) < ids.max()
    # With gaps between the ids all is the same, but for the numbers.
    gaps = ids.astype(np.uint64) * 1000
    closed, [(_, same)] = waterz_partitions(affinities, [0.5], fragments=gaps, **FACTS)
    np.testing.assert_array_equal(closed, ids)
    np.testing.assert_array_equal(same, roots)


def test_more_time_than_the_limit(temporary):
    words = r"decoding.time_limit, 0\.3 s; .*aff_threshold.*decoding.backend=numba"
    with pytest.raises(UserError, match=words):
        waterz_partitions(noise((60, 160, 160)), [0.9], time_limit=0.3, **FACTS)


def test_in_a_child_that_is_stopped_nothing_is_left(temporary):
    with ChildWorker() as trial:
        fragments, _ = trial.call(waterz_partitions, noise((2, 8, 8)), [0.5], **FACTS)
        assert fragments.shape == (2, 8, 8)
        with pytest.raises(TimeoutError):
            trial.call(waterz_partitions, noise((60, 160, 160)), [0.9], timeout=1, **FACTS)
        assert list(temporary.iterdir()) == []


# The mapped input, numpy's array, and what C++ asks for (and then ends the process) at two places.
@pytest.mark.parametrize("megabytes", [1, 2, 8, 60])
def test_more_memory_than_the_limit(megabytes, temporary, capfd):
    limit = megabytes * 2**20
    words = rf"decoding.memory_limit, {limit / 2**30:.3g} GiB; .*aff_threshold.*backend=numba"
    with pytest.raises(UserError, match=words):
        waterz_partitions(
            noise((32, 64, 64)),
            [0.9],
            merge_function="aff85_his256",
            aff_threshold=(0.1, 0.95),
            memory_limit=limit,
        )
    assert capfd.readouterr() == ("", "")


def end_by_signal(folder, thresholds, aff_threshold, scoring_function, discretize_queue):
    os.write(2, b"first words\nwords\nmore words\nlast words\n")
    os.kill(os.getpid(), signal.SIGSEGV if discretize_queue else signal.SIGKILL)


@pytest.mark.parametrize(
    "queue, words",
    [
        (256, r"waterz: .* signal SIGSEGV; printed last: words \| more words \| last words$"),
        (0, r"SIGKILL \(perhaps because memory ran out; .*numba\); .*last words$"),
    ],
)
def test_a_crash_names_its_signal_and_the_last_words(queue, words, temporary, monkeypatch):
    monkeypatch.setattr(waterz_child, "run_waterz", end_by_signal)
    with pytest.raises(UserError, match=words):
        waterz_partitions(noise((2, 2, 2)), [0.5], discretize_queue=queue, **FACTS)


def test_no_room_for_the_arrays(temporary):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=rf"a folder in {temporary}, .*TMPDIR"):
            waterz_partitions(noise((20, 20, 20)), [0.5], **FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_child_imports_little():
    with ChildWorker() as child:
        child.call(waterz_child.warm_up, SCORES["mean"], 0)
        names = child.call(eval, "sorted(__import__('sys').modules)")
    assert {"waterz", "waterz._prebuilt.agglomerate"} <= set(names)
    heavy = ("torch", "lightning", "pytorch_lightning", "monai", "numba", "scipy", "hydra")
    assert not set(heavy) & set(names)


@pytest.mark.parametrize("queue", [0, 256])
def test_every_merge_function_is_compiled(queue):
    assert len(waterz_child._SCORES) == 1 + 2 * 18
    for name, function in waterz_child._SCORES.items():
        assert _load_prebuilt(function, queue), name


def test_thresholds_must_ascend():
    for thresholds in ([0.5, 0.4], [0.5, 0.5]):
        with pytest.raises(ValueError, match="do not ascend"):
            waterz_partitions(noise((2, 2, 2)), thresholds, **FACTS)
