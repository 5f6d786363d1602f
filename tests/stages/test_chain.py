"""Every result is of just what it was made from: what changed underneath is made again."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from emseg.config.schema_data import VolumeConfig
from emseg.runs.artifacts import find_current
from emseg.stages import decode as decoding
from emseg.stages import evaluate as evaluation
from emseg.stages.decode import decode
from emseg.stages.decode_job import DecodeJob
from emseg.stages.evaluate import evaluate
from emseg.stages.sources import open_sources
from emseg.stages.sweep_rows import rows_of
from emseg.stages.trial import Task
from emseg.volumes import open_volume, write_volume
from emseg.volumes.content import content_now, stored_content
from stages.conftest import write
from stages.nearest_facts import FACTS

PREDICTION, SEGMENTATION = "test_im_prediction", "test_im_segmentation"
LEAF = {"_target_": "emseg.decoding.affinity_cc.affinity_cc", "threshold": 0.5}
RAND = {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"}
SHAPE = (6, 7, 8)


def under_the_same_time(path, change):
    """Changes a file so that neither its size nor its time tells."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def edit_voxels(path):
    with h5py.File(path, "r+") as file:
        stored = file["main"]
        stored[...] = (stored[...] * 0.5).astype(stored.dtype)


def invert(path):
    with h5py.File(path, "r+") as file:
        file["main"][:] = 255 - file["main"][:]


def test_another_image_under_the_same_size_and_time(experiment, work):
    image = Path("test.h5")
    with h5py.File(image, "w") as file:  # not compressed, so that any content has this size
        file["main"] = np.random.default_rng(0).integers(0, 256, (20, 24, 24), np.uint8)
    experiment.emseg("test")
    segmentation = experiment.results / f"{SEGMENTATION}.h5"
    old = open_volume(segmentation)[...]
    under_the_same_time(image, invert)
    work.clear()
    assert experiment.emseg("test", "--verify") == 0
    assert work == ["infer", "decode", "evaluate"]
    assert len(json.loads((experiment.results / "metrics.json").read_text())["records"]) == 2
    assert not np.array_equal(open_volume(segmentation)[...], old)


def test_edited_results_do_not_pass(experiment, work, capsys):
    experiment.emseg("test")
    for name, edit, made in (
        (PREDICTION, edit_voxels, ["infer"]),
        (SEGMENTATION, edit_place, ["decode"]),
    ):
        path = experiment.results / f"{name}.h5"
        before = open_volume(path)[...]
        times = path.stat()
        edit(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        work.clear()
        capsys.readouterr()
        assert experiment.emseg("test", "--verify") == 0
        assert work == made  # what is made again is the same, and so is all below it
        told = f"{name}.h5 was changed after it was written: made anew"
        assert told in capsys.readouterr().err
        np.testing.assert_array_equal(open_volume(path)[...], before)


def edit_place(path):
    with h5py.File(path, "r+") as file:
        file["main"].attrs["resolution"] = [30.0, 6.0, 7.0]


def test_edited_zarr_results_do_not_pass(experiment, work):
    small = "system.memory=1e-6"
    experiment.emseg("test", small)
    first, second = (experiment.results / f"{name}.zarr" for name in (PREDICTION, SEGMENTATION))
    whole = [open_volume(path)[...] for path in (first, second)]
    chunks = sorted(path for path in (first / "main" / "c").rglob("*") if path.is_file())
    chunks[0].unlink()
    zarr.open_array(second / "main", mode="r+")[3, 4:9] += 1
    work.clear()
    assert experiment.emseg("test", small, "--verify") == 0
    assert work[0] == "infer" and "evaluate" not in work
    for path, before in zip((first, second), whole, strict=True):
        np.testing.assert_array_equal(open_volume(path)[...], before)


def test_what_was_made_of_an_edited_prediction_is_not_current(experiment, work, capsys):
    experiment.emseg("infer")
    edit_voxels(experiment.results / f"{PREDICTION}.h5")
    assert experiment.emseg("decode") == 0
    assert "is taken as it is now" in capsys.readouterr().err
    edited = open_volume(experiment.results / f"{SEGMENTATION}.h5").attributes["fingerprint"]
    work.clear()
    assert experiment.emseg("test", "--verify") == 0
    assert work == ["infer", "decode", "evaluate"]
    sound = open_volume(experiment.results / f"{SEGMENTATION}.h5").attributes["fingerprint"]
    assert sound != edited


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A prediction, its image and its truth, not compressed, in the current folder."""
    monkeypatch.chdir(tmp_path)
    predict()
    write(Path("im.h5"), np.ones(SHAPE, np.uint8))
    with h5py.File("truth.h5", "w") as file:
        file["main"] = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE) // 50


def predict(seed=0, name="im_prediction.h5", **facts):
    values = np.random.default_rng(seed).random((3, *SHAPE), np.float32)
    write_volume(name, values, axes="czyx", voxel_size=(30, 6, 6), attributes=FACTS | facts)


def decoded(**options):
    job, target = DecodeJob(Path("im_prediction.h5"), LEAF, None), Path("im_segmentation.h5")
    return decode(job, segmentation=target, **{"force": False, "verify": False} | options)


def source():
    return open_sources({"im": VolumeConfig(image="im.h5", label="truth.h5")}, split="test")


def scored(**options):
    options = {"folder": Path(), "force": False, "verify": False} | options
    return evaluate({"im": Path("im_segmentation.h5")}, source(), metrics={"r": RAND}, **options)


def counting(monkeypatch, module, name):
    calls, original = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls


def records():
    return json.loads(Path("metrics.json").read_text())["records"]


def test_a_prediction_with_other_bytes_makes_the_segmentation_stale(here, monkeypatch):
    """As from another device, under the same fingerprint; also without --verify."""
    made = counting(monkeypatch, decoding, "labels_of")
    first = open_volume(decoded())[...]
    predict(seed=1)
    assert not np.array_equal(open_volume(decoded())[...], first)
    predict(seed=0)  # the first again: what was made of it is kept
    np.testing.assert_array_equal(open_volume(decoded())[...], first)
    assert len(made) == 2


def test_an_edited_segmentation_is_scored_as_it_is_with_a_line(here, monkeypatch, capsys):
    path, made = decoded(), counting(monkeypatch, evaluation, "count_overlaps")
    edit_voxels(path)
    for _ in range(2):  # the edit has a record of its own, and is found again by its content
        scored()
        assert "is scored as it is now" in capsys.readouterr().err
        assert (len(records()), len(made)) == (1, 1)
    (record,) = records().values()
    told = record["segmentations"]["im"]["content"]
    assert told == content_now(path) != stored_content(open_volume(path).attributes)


@pytest.mark.parametrize(("verify", "times"), [(False, 1), (True, 2)])
def test_another_truth_under_the_same_size_and_time(here, monkeypatch, verify, times):
    decoded()
    made = counting(monkeypatch, evaluation, "count_overlaps")
    first = scored()
    under_the_same_time(Path("truth.h5"), halve)
    assert (scored(verify=verify) != first) == verify
    scored(verify=True)
    assert len(made) == 2 and (times == 1 or scored(verify=True) == scored())


def halve(path):
    with h5py.File(path, "r+") as file:
        file["main"][:] = file["main"][:] // 2


@pytest.mark.parametrize("score", [0.0, None, "x", [1], "missing", "hash"])
def test_a_score_that_was_changed_is_computed_anew(here, monkeypatch, capsys, score):
    decoded()
    first, path = scored(), Path("metrics.json")
    kept = json.loads(path.read_text())
    (record,) = kept["records"].values()
    if score == "hash":
        record["sha256"] = None
    elif score == "missing":
        del record["volumes"]
    else:
        record["volumes"]["im"]["adapted_rand_skimage"] = score
    path.write_text(json.dumps(kept))
    capsys.readouterr()
    assert scored() == first
    assert "was changed: computed anew" in capsys.readouterr().err
    assert scored() == first
    assert "holds this evaluation" in capsys.readouterr().err


def test_results_of_before_the_hash_are_current_but_cannot_be_verified(here):
    told = []
    predict(contents={})
    with h5py.File("im_prediction.h5", "r+") as file:
        attributes = file["main"].attrs
        names = json.loads(attributes["json_attributes"])
        names.remove("content")
        attributes["json_attributes"] = json.dumps(names)
        del attributes["content"]
    facts = {"inputs": [], "report": told.append}
    found = [
        find_current(Path(), "im_prediction", FACTS["fingerprint"], verify=verify, **facts)
        for verify in (False, True)
    ]
    assert found == [Path("im_prediction.h5"), None]
    assert told == ["im_prediction.h5 has no hash of its content, which --verify needs: made anew"]


def test_rows_of_a_sweep_are_of_one_truth(here, monkeypatch):
    from emseg.stages import sweep_rows

    made = []

    def scores(task, arguments, swept):
        made.append(1)
        return {None: {"voi": 1.0}}

    monkeypatch.setattr(sweep_rows, "scores_by_value", scores)

    def swept(verify):
        task = Task(DecodeJob(Path("im_prediction.h5"), LEAF, None), *source(), {"r": RAND}, "")
        combinations = [({"threshold": 0.5}, None)]
        rows_of([task], combinations, Path("rows.json"), affinities=False, verify=verify)
        return len(made)

    assert [swept(False), swept(True)] == [1, 1]
    under_the_same_time(Path("truth.h5"), halve)
    assert [swept(False), swept(True), swept(True)] == [1, 2, 2]


def test_the_content_covers_place_and_voxels_whatever_the_format(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.random((2, 37, 8, 9), np.float32)
    told = {"fingerprint": "f", "n": None, "offsets": [[0, 0, 1], [0, 1, 0]], "t": [1, 2.5]}
    place = {"axes": "czyx", "voxel_size": (30, 6, 6), "offset": (1, 2, 3)}
    hashes = set()
    for name in ("a.h5", "a.zarr"):
        write_volume(tmp_path / name, array, attributes=told, **place)
        assert content_now(tmp_path / name) == stored_content(
            open_volume(tmp_path / name).attributes
        )
        hashes.add(content_now(tmp_path / name))
    assert len(hashes) == 1
    for changes in ({"voxel_size": (30, 6, 7)}, {"offset": None}, {"attributes": {**told, "n": 1}}):
        write_volume(tmp_path / "b.h5", array, **({"attributes": told} | place | changes))
        hashes.add(content_now(tmp_path / "b.h5"))
    write_volume(tmp_path / "b.h5", array[:, :, ::-1], attributes=told, **place)
    hashes.add(content_now(tmp_path / "b.h5"))
    assert len(hashes) == 5
    write(tmp_path / "c.h5", array[0])
    assert content_now(tmp_path / "c.h5") is None


# The hash that the versions before `element_size_um` was a voxel size stored for this volume.
EARLIER = "239d72e829535c5e41ed75b1b180a05f18b8b3eb1f9669462274d7134297c965"


@pytest.mark.parametrize("changed", [None, "voxel", "unit"])
def test_a_hash_of_earlier_versions_is_still_that_of_the_content(tmp_path, changed):
    path = tmp_path / "a.h5"
    facts = {"kind": "segmentation", "fingerprint": "f"}
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_volume(path, array, axes="zyx", voxel_size=(30, 6, 6), attributes=facts)
    with h5py.File(path, "r+") as file:
        stored = file["main"].attrs
        stored["content"] = json.dumps(json.loads(stored["content"]) | {"sha256": EARLIER})
        if changed == "voxel":
            file["main"][0, 0, 0] = 1
        if changed == "unit":
            stored["unit"] = "nm"
    assert (content_now(path) == EARLIER) == (changed is None)
