"""What runs again, and what a prediction file holds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from emseg.stages import devices, prediction_parts
from emseg.stages.devices import Devices
from emseg.volumes import open_volume, read_attributes, write_volume
from stages.conftest import OFFSETS, SHAPE, Experiment, write
from stages.tiny_tutorial import cells, environment

ALL = ["infer", "decode", "evaluate"]


def test_a_second_test_computes_nothing(experiment, work, capsys):
    assert experiment.emseg("test") == 0
    assert work == ALL
    prediction = experiment.results / "test_im_prediction.h5"
    before = prediction.stat().st_mtime_ns
    first = capsys.readouterr()
    assert experiment.emseg("test") == 0
    assert work == ALL
    assert prediction.stat().st_mtime_ns == before
    second = capsys.readouterr()
    for told in ("inference skipped", "decoding skipped", "not computed again"):
        assert told in second.err and told not in first.err
    assert second.out == first.out  # the same table


def test_what_runs_again(experiment, work):
    experiment.emseg("test")
    for words, stages in (
        (["inference.window.overlap=0.5"], ALL),
        (["inference.window.overlap=0.5"], []),
        (["inference.window.overlap=0.5", "inference.window.blending=bump"], ALL),
        # The first segmentation and its scores are still there.
        ([], ["infer"]),
        (["decoding.threshold=0.6"], ["decode", "evaluate"]),
        (["decoding.threshold=0.6", "evaluation/metrics=[voi]"], ["evaluate"]),
        (["decoding.threshold=0.6", "evaluation/metrics=[voi]", "evaluation.enabled=false"], []),
        (["decoding.threshold=0.6", "inference.window.sw_batch_size=1"], []),
        (["decoding.threshold=0.6", "system.num_workers=2", "system.seed=1"], []),
        ([], []),
        (["inference.model.select_channel=[0,1,3]"], ["decode", "evaluate"]),
        (["--force", "inference.model.select_channel=[0,1,3]"], ALL),
        (["inference.model.select_channel=[0,1,3]", "data.test.resolution=[40,6,6]"], ALL),
        (["data.intensity_percentiles=[1,99]"], ALL),
        (["data.intensity_percentiles=[1,99]"], []),
    ):
        work.clear()
        assert experiment.emseg("test", *words) == 0
        assert work == stages, words


def test_another_image_or_checkpoint_at_the_same_path(experiment, work):
    experiment.emseg("test")
    write(Path("test.h5"), cells(SHAPE, seed=7)[0])
    work.clear()
    experiment.emseg("test")
    assert work == ALL
    stored = torch.load(experiment.checkpoint, weights_only=True)
    name = next(name for name in stored["state_dict"] if name.startswith("net."))
    stored["state_dict"][name] += 1e-3
    torch.save(stored, experiment.checkpoint)
    work.clear()
    experiment.emseg("test")
    assert work == ALL


def test_only_verify_sees_other_content_of_equal_size_and_time(experiment, work):
    image = Path("test.h5")
    with h5py.File(image, "w") as file:
        file["main"] = cells(SHAPE, seed=7)[0]
    experiment.emseg("test")
    assert experiment.emseg("test", "--verify") == 0
    assert work == ALL  # to verify is not to run again
    times = image.stat()
    with h5py.File(image, "r+") as file:
        file["main"][3, 4, 5] ^= 255
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert image.stat().st_size == times.st_size
    work.clear()
    experiment.emseg("test")
    assert work == []
    experiment.emseg("test", "--verify")
    assert "infer" in work
    work.clear()
    for words in (["--verify"], []):
        experiment.emseg("test", *words)
    assert work == []


def test_a_prediction_says_what_it_is(experiment, work):
    experiment.emseg("infer")
    assert work == ["infer"]
    volume = open_volume(experiment.results / "test_im_prediction.h5")
    stored = volume.attributes
    assert (volume.channels, volume.shape, volume.axes) == (4, SHAPE, "zyx")
    assert volume.voxel_size == (30, 6, 6)
    assert volume.dtype == np.float32
    assert stored["offsets"] == OFFSETS
    assert (stored["edge_side"], stored["activation"]) == ("destination", "probability")
    assert (stored["step"], stored["kind"], stored["format_version"]) == (3, "prediction", 1)


def test_a_prediction_beyond_the_memory_is_zarr_and_takes_the_others_place(experiment, work):
    experiment.emseg("test")
    whole = open_volume(experiment.results / "test_im_prediction.h5")[...]
    work.clear()
    # Where the result is there in one format, no other is made.
    experiment.emseg("test", "system.memory=1e-6")
    assert work == []
    experiment.emseg("test", "system.memory=1e-6", "--force")
    names = {path.name for path in experiment.results.iterdir()}
    assert {"test_im_prediction.zarr", "test_im_segmentation.zarr"} <= names
    assert not {"test_im_prediction.h5", "test_im_segmentation.h5"} & names
    assert not any(".partial" in name for name in names)
    assert np.array_equal(open_volume(experiment.results / "test_im_prediction.zarr")[...], whole)
    work.clear()
    experiment.emseg("test")
    assert work == []


def test_another_format_version_is_refused(experiment, work, capsys):
    experiment.emseg("infer")
    path = experiment.results / "test_im_prediction.h5"
    attributes = read_attributes(path) | {"format_version": 99}
    volume = open_volume(path)
    write_volume(path, volume[...], axes="czyx", voxel_size=None, attributes=attributes)
    capsys.readouterr()
    for mode in ("infer", "decode"):
        assert experiment.emseg(mode) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "format_version 99" in told and "test_im_prediction.h5" in told
    assert read_attributes(path)["format_version"] == 99


def test_killed_it_goes_on_from_its_ledger(experiment, monkeypatch):
    raw, _ = cells((40, 24, 24), seed=3)
    write(Path("deep.h5"), raw)
    words = ["data.test.image=deep.h5", "data.test.label=null", "inference.output_dtype=uint8"]
    given = ["--config", "tiny.yaml", "--mode", "infer", "--checkpoint", str(experiment.checkpoint)]
    script = Path(__file__).with_name("killed_infer.py")
    command = [sys.executable, script, "20", *given, *words]
    killed = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    path = experiment.results / "test_im_prediction.h5"
    assert not path.exists()
    first = []
    predict = prediction_parts.predict_volume

    def noting(*arguments, **named):
        first.append(named["region"][0][0])
        return predict(*arguments, **named)

    monkeypatch.setattr(prediction_parts, "predict_volume", noting)
    torch.set_num_threads(1)
    assert experiment.emseg("infer", *words) == 0
    resumed = path.read_bytes()
    assert experiment.emseg("infer", *words, "--force") == 0
    assert first == [16, 0]
    assert path.read_bytes() == resumed


def test_all_volumes_are_checked_before_the_first_is_predicted(experiment, work, capsys):
    write_volume("bad.h5", np.full(SHAPE, np.nan, np.float32), axes="zyx", **PLAIN)
    write_volume("rgb.h5", np.zeros((3, *SHAPE), np.uint8), axes="czyx", **PLAIN)
    for image, told in (("bad.h5", "NaN"), ("rgb.h5", "3 channels")):
        experiment.test_on({"good": {"image": "test.h5"}, "bad": {"image": image}})
        assert experiment.emseg("test") == 2
        message = capsys.readouterr().err
        assert told in message and message.count("\n") == 1
    experiment.test_on({"image": "test.h5"})
    assert experiment.emseg("test", "inference.window.window_size=[8,15,16]") == 2
    assert "stride" in capsys.readouterr().err
    assert work == []
    assert not [*experiment.run.glob("results_step=*")]


def test_several_gpus_are_said_to_be_one(experiment, work, monkeypatch, capsys):
    two = Devices("gpu", count=2, nodes=1, workers=0, warning=None)
    monkeypatch.setattr(devices, "resolve_devices", lambda _: two)
    line = "system.num_gpus: there are 2, inference predicts on one"
    for times in (1, 0):  # nothing is predicted the second time
        assert experiment.emseg("infer") == 0
        assert capsys.readouterr().err.count(line) == times
    assert work == ["infer"]


PLAIN = {"voxel_size": None, "attributes": {}}


@pytest.mark.parametrize("inside", [True, False])
def test_where_results_go(experiment: Experiment, work, inside, capsys):
    checkpoint = experiment.checkpoint
    if not inside:
        checkpoint = Path("elsewhere.ckpt")
        shutil.move(experiment.checkpoint, checkpoint)
    before = {*Path("outputs/tiny").iterdir()}
    given = ["test", "--checkpoint", str(checkpoint)]
    assert experiment.emseg(*given, checkpoint=False) == 0
    new = {*Path("outputs/tiny").iterdir()} - before
    assert len(new) == (not inside)
    run = new.pop() if new else experiment.run.relative_to(experiment.folder)
    assert (run / "results_step=3" / "metrics.json").is_file()
    assert {"config.yaml", "run.log"} <= {path.name for path in run.iterdir()}
    assert f"results: {run}/results_step=3" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["sw_device", "output_device"])
def test_devices_of_windows_are_those_that_are_there(key, capsys):
    there = Devices("gpu", 1, 1, 0, None)
    none = Devices("cpu", 1, 1, 0, None)
    assert prediction_parts._device(key, None, there).type == "cuda"
    assert prediction_parts._device(key, "cpu", there).type == "cpu"
    assert prediction_parts._device(key, "cuda", there).type == "cuda"
    assert capsys.readouterr().err == ""
    assert prediction_parts._device(key, "cuda", none).type == "cpu"
    assert f"inference.window.{key}=cuda, but no GPU" in capsys.readouterr().err


def test_percentiles_are_those_of_the_volume_that_is_predicted(experiment):
    words = ("data.test.range=[4,20]", "inference.window.overlap=0")
    experiment.emseg("infer", "data.intensity_percentiles=[5,95]", *words)
    values = open_volume(experiment.results / "test_im_prediction.h5")[...]
    low, high = np.percentile(open_volume("test.h5")[4:20, :, :], [5, 95])
    experiment.emseg("infer", f"data.intensity_range=[{low},{high}]", *words)
    again = open_volume(experiment.results / "test_im_prediction.h5")[...]
    np.testing.assert_array_equal(values, again)


def test_nothing_is_left_of_a_prediction_that_cannot_begin(experiment, capsys):
    stored = torch.load(experiment.checkpoint, weights_only=True)
    for tensor in stored["state_dict"].values():
        tensor.fill_(1e30)
    torch.save(stored, experiment.checkpoint)
    assert experiment.emseg("infer") == 2
    assert "plane 0 is not finite" in capsys.readouterr().err
    assert not [*experiment.run.glob("results_step=*/*prediction*")]
