"""Segmentations of earlier settings stay beside the latest, and are the latest again when asked."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from emseg.runs.earlier import earlier, make_latest
from emseg.stages import decode as stage
from emseg.stages.decode import decode
from emseg.stages.decode_job import DecodeJob
from emseg.volumes import open_volume, read_attributes, write_volume
from stages.nearest_facts import FACTS

LEAF = {"_target_": "emseg.decoding.affinity_cc.affinity_cc"}
LATEST = Path("im_segmentation.h5")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The thresholds that were decoded with; a prediction is in the current folder."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).random((3, 6, 7, 8), np.float32)
    write_volume("im_prediction.h5", values, axes="czyx", voxel_size=None, attributes=FACTS)
    done, labels_of = [], stage.labels_of
    monkeypatch.setattr(
        stage, "labels_of", lambda job, _: done.append(job.decoding["threshold"]) or labels_of(job)
    )
    return done


def at(threshold, *, latest=LATEST, **options):
    job = DecodeJob(Path("im_prediction.h5"), LEAF | {"threshold": threshold}, None)
    return decode(job, segmentation=latest, **{"force": False, "verify": False} | options)


def thresholds(paths):
    return sorted(read_attributes(path)["decoding"]["threshold"] for path in paths)


@pytest.mark.parametrize("verify", [False, True])
def test_going_back_decodes_nothing(made, verify):
    labels = {}
    for threshold in (0.3, 0.5, 0.7):
        labels[threshold] = open_volume(at(threshold))[...]
    assert thresholds(earlier(LATEST)) == [0.3, 0.5]
    for path in earlier(LATEST):
        name = read_attributes(path)["fingerprint"][:8]
        assert path.name == f"im_segmentation.{name}.h5"
    for threshold in (0.5, 0.3, 0.3, 0.7):
        assert at(threshold, verify=verify) == LATEST
        np.testing.assert_array_equal(open_volume(LATEST)[...], labels[threshold])
        assert thresholds([LATEST, *earlier(LATEST)]) == [0.3, 0.5, 0.7]
    assert made == [0.3, 0.5, 0.7]


@pytest.mark.parametrize(("keep", "kept"), [(0, []), (1, [0.5]), (2, [0.3, 0.5])])
def test_the_oldest_go(made, keep, kept):
    # 0.3 was the latest after 0.1 and 0.7 were.
    for threshold in (0.1, 0.7, 0.3, 0.5, 0.9):
        at(threshold, keep=keep)
    assert thresholds(earlier(LATEST)) == kept
    assert [*Path().glob("*.tmp")] == []


def test_the_same_settings_again_leave_nothing_beside(made):
    at(0.5)
    at(0.3)
    at(0.5, force=True)
    assert thresholds([LATEST]) == [0.5] and thresholds(earlier(LATEST)) == [0.3]


def test_across_formats(made):
    """As when the memory changes: there is one latest."""
    at(0.3)
    at(0.5, latest=Path("im_segmentation.zarr"))
    assert not LATEST.exists()
    assert thresholds(earlier(LATEST)) == [0.3]
    assert at(0.3, latest=Path("im_segmentation.zarr")) == LATEST
    assert thresholds(earlier(LATEST)) == [0.5]
    assert made == [0.3, 0.5]


def test_a_kill_between_renames_loses_neither(made, monkeypatch):
    at(0.3)
    at(0.5)
    (old,) = earlier(LATEST)
    rename = Path.rename

    def dying(path, to):
        if path == old:
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):
        make_latest(old, "im_segmentation")
    monkeypatch.setattr(Path, "rename", rename)
    assert not LATEST.exists() and thresholds(earlier(LATEST)) == [0.3, 0.5]
    at(0.3)
    assert thresholds([LATEST]) == [0.3] and thresholds(earlier(LATEST)) == [0.5]
    assert made == [0.3, 0.5]


def test_a_failed_decode_leaves_the_latest(made, monkeypatch):
    at(0.3)

    def failing(*_):
        raise MemoryError

    monkeypatch.setattr(stage, "labels_of", failing)
    with pytest.raises(MemoryError):
        at(0.5)
    assert thresholds([LATEST]) == [0.3] and earlier(LATEST) == []


def test_names_alike_are_other_volumes(made):
    at(0.3)
    at(0.5)
    for name in ("im_segmentation.raw.h5", "im_segmentation.12345678.txt", "im2_segmentation.h5"):
        Path(name).touch()
    assert len(earlier(LATEST)) == 1


def test_metrics_json_lists_them(experiment, work, monkeypatch):
    experiment.emseg("test")
    experiment.emseg("test", "decoding.threshold=0.6")
    kept = json.loads((experiment.results / "metrics.json").read_text())
    latest, other = kept["segmentations"]["test_im"]
    assert latest["file"] == "test_im_segmentation.h5"
    assert (latest["decoding"]["threshold"], other["decoding"]["threshold"]) == (0.6, 0.5)
    assert (experiment.results / other["file"]).is_file()
    made_of = {
        record["segmentations"]["test_im"]["fingerprint"] for record in kept["records"].values()
    }
    assert made_of == {latest["fingerprint"], other["fingerprint"]}
    # Evaluate finds the earlier one too, and it is the latest again.
    assert experiment.emseg("evaluate") == 0
    assert work == ["infer", "decode", "evaluate", "decode", "evaluate"]
    kept = json.loads((experiment.results / "metrics.json").read_text())
    assert kept["segmentations"]["test_im"][0]["decoding"]["threshold"] == 0.5


def test_scores_of_a_file_go_beside_it_with_a_line(experiment, work, capsys):
    experiment.emseg("infer")
    experiment.emseg("decode")
    capsys.readouterr()
    for folder in (Path(), Path("elsewhere")):
        folder.mkdir(exist_ok=True)
        path = folder / "mine.h5"
        path.write_bytes((experiment.results / "test_im_segmentation.h5").read_bytes())
        assert experiment.emseg("evaluate", "--input", str(path), checkpoint=False) == 0
        line = f"metrics.json and overview.png lie beside the input, in {folder.absolute()}"
        assert line in capsys.readouterr().err
        assert (folder / "metrics.json").is_file()


def test_a_segmentation_among_others_in_a_file_is_scored(experiment, work):
    experiment.emseg("infer")
    experiment.emseg("decode")
    with h5py.File(experiment.results / "test_im_segmentation.h5") as file:
        labels = file["main"][...]
    with h5py.File("many.h5", "w") as file:
        file["labels"] = labels
        file["raw"] = np.zeros(labels.shape, np.uint8)
    assert experiment.emseg("evaluate", "--input", "many.h5:labels", checkpoint=False) == 0
    assert json.loads(Path("metrics.json").read_text())["segmentations"] == {}
