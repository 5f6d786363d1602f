"""The evaluation in blocks: its regions voxel by voxel, and equal numbers to the last digit."""

import csv
import importlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error, variation_of_information

from emseg.config import load
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.volumes import open_volume
from test_docs import REPOSITORY

CHUNK, SEAM = (8, 10, 16), (1, 2, 3)
WORDS = (
    "decoding=agglomerate_sections",
    "decoding.thresholds=0.5",
    "decoding.biases=[0.0, 0.0, 0.0]",
    "evaluation/metrics=[voi,adapted_rand_skimage,counts]",
    "sweep.grid={biases: [[0.0, 0.0, 0.0], [-0.5, -1.0, -1.0]], thresholds: [0.3, 0.5]}",
)


@pytest.fixture(scope="module")
def blockwise():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "benchmarks")
        yield importlib.import_module("blockwise")


def near(voxel, shape, chunk, seam):
    """Whether the voxel is one of the `seam` on either side of a face, along any axis."""
    return any(
        face - width <= at <= face + width - 1
        for at, size, step, width in zip(voxel, shape, chunk, seam, strict=True)
        for face in range(size)
        if face > 0 and face % step == 0
    )


@settings(deadline=None, max_examples=100)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    chunk=st.tuples(*[st.integers(1, 10)] * 3),
    seam=st.tuples(*[st.integers(0, 4)] * 3),
    seed=st.integers(0, 99),
)
def test_seam_and_interior_part_the_volume_voxel_by_voxel(blockwise, shape, chunk, seam, seed):
    wanted = np.array([near(v, shape, chunk, seam) for v in np.ndindex(shape)]).reshape(shape)
    np.testing.assert_array_equal(blockwise.seam_mask(shape, chunk, seam), wanted)
    truth = np.random.default_rng(seed).integers(-1, 3, shape)
    regions = blockwise.regions_of(truth, chunk, seam)
    for name, there in (("full", wanted | True), ("seam", wanted), ("nonseam", ~wanted)):
        if name in regions:
            np.testing.assert_array_equal(regions[name], np.where(there, truth, -1))
        else:
            assert not (truth[there] > 0).any()


@pytest.fixture
def report(blockwise, experiment, capsys):
    """The records, throughput, summary and last line of the experiment's evaluation."""
    experiment.test_on({"a": {"image": "test.h5", "label": "test_labels.h5"}})
    numbers = [str(number) for number in (*CHUNK, "--seam", *SEAM)]
    words = ["--config", str(experiment.config), "--checkpoint", str(experiment.checkpoint)]
    blockwise.main([*words, "--chunk", *numbers, "--", *WORDS])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    folder = experiment.results
    records, summary = (
        json.loads((folder / f"blockwise_scale_{name}.json").read_text())
        for name in ("records", "summary")
    )
    tables = []
    for name in ("blockwise_scale_records", "blockwise_throughput"):
        with (folder / f"{name}.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    return records, summary, tables, line


def test_blocks_have_the_numbers_of_the_whole_in_every_region(report, experiment, blockwise):
    records, summary, (table, throughput), line = report
    assert line["benchmark"] == "blockwise" and line["equal"] is True
    regions = ("full", "seam", "nonseam")
    assert len(records) == len(table) == 2 * 2 * 2 * len(regions)
    assert [row["num_chunks"] for row in throughput] == ["1", "18"] * 2
    timed = ("decoded", "postprocess_sec", "metrics_sec")
    bare = [{k: v for k, v in row.items() if k not in timed} for row in records]
    ways = [row["decoded"] for row in records]
    whole, blocks = (
        [row for row, one in zip(bare, ways, strict=True) if one == way]
        for way in ("whole", "blocks")
    )
    assert whole == blocks
    check_by_hand(records, experiment)
    for region in ("full", "seam"):
        own = [m for m in summary["per_group"] if m["region"] == region]
        assert summary[f"best_{region}_by_voi_sum"]["voi_sum"] == min(m["voi_sum"] for m in own)
        least = min(m["adapted_rand_error"] for m in own)
        assert summary[f"best_{region}_by_adapted_rand"]["adapted_rand_error"] == least


def check_by_hand(records, experiment):
    decoder = load(experiment.config, mode="test", overrides=WORDS).root.decoding
    stored = open_volume("test_labels.h5")[...].astype(np.int64)
    at_seam = np.array([near(v, stored.shape, CHUNK, SEAM) for v in np.ndindex(stored.shape)])
    at_seam = at_seam.reshape(stored.shape)
    there = {"full": at_seam | True, "seam": at_seam, "nonseam": ~at_seam}
    for row in (row for row in records if row["decoded"] == "blocks"):
        biases = [row[f"calibration_bias_{axis}"] for axis in "zyx"]
        decoding = decoder | {"thresholds": row["threshold"], "biases": biases}
        path = experiment.results / "a_prediction.h5"
        labels = labels_of(DecodeJob(path, decoding, None)).astype(np.int64)
        truth = np.where(there[row["region"]], stored, 0)
        error, *_ = adapted_rand_error(truth, labels, ignore_labels=(0,))
        split, merge = variation_of_information(truth, labels, ignore_labels=(0,))
        found = [row[name] for name in ("adapted_rand_error", "voi_split", "voi_merge")]
        assert found == pytest.approx([error, split, merge], abs=1e-12)
        assert row["n_voxels"] == np.count_nonzero(truth)


def test_blocks_that_give_other_labels_are_refused(blockwise, experiment, monkeypatch):
    real = blockwise._blocks

    def other(*words):
        for value, labels, seconds in real(*words):
            labels[0, 0, 0] += 1
            yield value, labels, seconds

    monkeypatch.setattr(blockwise, "_blocks", other)
    words = ["--config", str(experiment.config), "--checkpoint", str(experiment.checkpoint)]
    with pytest.raises(blockwise.UserError, match="give other labels"):
        blockwise.main([*words, "--chunk", "8", "16", "16", "--", *WORDS])
