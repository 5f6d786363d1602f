"""Run lengths along skeletons, from the config to metrics.json and to the trials of tune."""

import json
from pathlib import Path

import numpy as np
import pytest

from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError
from emseg.evaluation.erl import nerl
from emseg.stages import scores as stage
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.stages.evaluate import evaluate
from emseg.stages.scores import try_metrics
from emseg.stages.sources import open_sources
from emseg.stages.trial import Task, score_curve
from emseg.volumes import write_volume

SHAPE = (12, 20, 24)
METRICS = {"nerl": {"_target_": "emseg.evaluation.erl.nerl", "tolerances": [0.0, 5.0]}}
RAND = {"rand": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "snemi"}}


def written(folder: Path, name: str, array: np.ndarray, **attributes: object) -> None:
    axes = "czyx" if array.ndim == 4 else "zyx"
    write_volume(
        folder / f"{name}.h5",
        array,
        axes=axes,
        voxel_size=(30.0, 6.0, 6.0),
        attributes=attributes,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image, skeletons along columns of four neurons, a segmentation and a prediction."""
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 5).reshape(1, 2, 2), np.ones((12, 10, 12))).astype(np.uint32)
    written(tmp_path, "image", rng.integers(0, 256, SHAPE, dtype=np.uint8))
    broken = labels.copy()
    broken[6:][labels[6:] == 2] = 9
    broken[labels == 3] = 4
    written(tmp_path, "segmentation", broken)
    parts = {}
    for label in range(1, 5):
        y, x = np.argwhere(labels[0] == label)[37]
        nodes = np.stack([np.arange(12) * 30, np.full(12, y * 6), np.full(12, x * 6)], axis=1)
        parts[f"{label}/vertices_nm_zyx"] = nodes.astype(np.float32)
        parts[f"{label}/edges"] = np.stack([np.arange(11), np.arange(1, 12)], axis=1)
    np.savez(tmp_path / "skeletons.npz", **parts)
    affinities = rng.random((3, *SHAPE), dtype=np.float32)
    written(
        tmp_path,
        "prediction",
        affinities,
        format_version=1,
        fingerprint="toy",
        kind="prediction",
        channels=["0-0-1", "0-1-0", "1-0-0"],
        offsets=[[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        edge_side="destination",
        activation="probability",
        step=1,
    )
    return tmp_path


def sources(folder: Path, **more: object):
    volume = VolumeConfig(image="image.h5", path=str(folder), skeletons="skeletons.npz", **more)
    return open_sources({"": volume}, split="test", lone_name="cube")


def test_segmentation_is_scored_along_skeletons_without_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emseg.stages.truth.BLOCK_VOXELS", 3 * 20 * 24)
    found = evaluate(
        {"cube": folder / "segmentation.h5"},
        sources(folder),
        metrics=METRICS,
        folder=folder,
        force=False,
        verify=False,
    )["cube"]
    # Four lines of 330 nm: one whole, one of 150 + 150 around a split, two lost to a merger.
    assert found["nerl"] == pytest.approx((330**2 + 2 * 150**2) / (4 * 330**2))
    assert (found["n_splits"], found["n_mergers"]) == (1, 2)
    record = json.loads((folder / "metrics.json").read_text())["records"]
    assert len(record) == 1


def test_other_skeletons_are_another_evaluation(folder: Path) -> None:
    paths = {"cube": folder / "segmentation.h5"}
    rest = {"metrics": METRICS, "folder": folder, "force": False, "verify": False}
    before = evaluate(paths, sources(folder), **rest)["cube"]["nerl"]
    with np.load(folder / "skeletons.npz") as stored:
        first = {name: stored[name] for name in stored if name.startswith("1/")}
    np.savez(folder / "skeletons.npz", **first)
    assert evaluate(paths, sources(folder), **rest)["cube"]["nerl"] == 1 != before


@pytest.mark.parametrize("thresholds", [None, [0.2, 0.5, 0.8]])
def test_trials_score_what_a_full_decode_scores(folder: Path, thresholds) -> None:
    decoding = {
        "_target_": "emseg.decoding.agglomerate.agglomerate",
        "aff_threshold": [0.1, 0.9],
        "merge_function": "mean",
    }
    [source] = sources(folder)
    job = DecodeJob(folder / "prediction.h5", decoding, None)
    task = Task(job, source, METRICS, "nerl")
    curve = score_curve([task], {}, thresholds and ("thresholds", thresholds))
    for value, found in curve:
        own = decoding if value is None else decoding | {"thresholds": value}
        labels = labels_of(DecodeJob(folder / "prediction.h5", own, None))
        skeletons = source.skeletons()
        assert found == nerl(labels, None, skeletons=skeletons)["nerl"]
    assert len(curve) == (len(thresholds) if thresholds else 1)


def test_what_is_missing_is_named(folder: Path) -> None:
    paths = {"cube": folder / "segmentation.h5"}
    rest = {"folder": folder, "force": False, "verify": False}
    with pytest.raises(UserError, match=r"adapted_rand needs truth: set data.test.label"):
        evaluate(paths, sources(folder), metrics=METRICS | RAND, **rest)
    labelled = VolumeConfig(image="image.h5", label="segmentation.h5", path=str(folder))
    [bare] = open_sources({"": labelled}, split="test", lone_name="cube")
    with pytest.raises(UserError, match=r"nerl needs skeletons: set data.test.skeletons"):
        evaluate(paths, [bare], metrics=METRICS, **rest)


def test_what_is_missing_is_named_before_any_prediction(folder: Path) -> None:
    with pytest.raises(UserError, match=r"adapted_rand needs truth: set data.test.label"):
        try_metrics(METRICS | RAND, sources(folder))
    labelled = VolumeConfig(image="image.h5", label="segmentation.h5", path=str(folder))
    with pytest.raises(UserError, match=r"nerl needs skeletons: set data.test.skeletons"):
        try_metrics(METRICS, open_sources({"": labelled}, split="test", lone_name="cube"))
    (folder / "skeletons.npz").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"skeletons.npz holds no skeletons"):
        try_metrics(METRICS, sources(folder))


def test_skeletons_outside_the_image_or_beside_a_range_are_refused(folder: Path) -> None:
    with np.load(folder / "skeletons.npz") as stored:
        parts = dict(stored)
    parts["1/vertices_nm_zyx"][0, 0] = 400
    np.savez(folder / "skeletons.npz", **parts)
    with pytest.raises(UserError, match=r"a node at voxel \[13, .* is outside"):
        sources(folder)[0].skeletons()
    with pytest.raises(UserError, match="null beside skeletons"):
        sources(folder, range=(0, 6))


def test_names_are_known_before_any_skeleton_is_read() -> None:
    names = stage.score_names(stage.build_metrics(METRICS))
    assert {"nerl", "nerl_5", "erl", "n_mergers"} <= set(names)
