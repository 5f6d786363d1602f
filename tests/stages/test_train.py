"""Training through its stage: what it leaves in the run folder, and what it refuses before."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emseg import cli
from emseg.config import load
from emseg.errors import UserError
from emseg.training.checkpoints import read_checkpoint
from emseg.training.supervised import Supervised
from emseg.volumes import open_volume, write_volume
from stages.tiny_tutorial import DEMO, TINY, train_tiny, weights, write_volumes

LABELLED = "image: datasets/demo/train_raw.h5, label: datasets/demo/train_labels.h5"


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    write_volumes(folder)
    return folder


@pytest.fixture(autouse=True)
def workplace(volumes, tmp_path, monkeypatch):
    (tmp_path / "datasets").symlink_to(volumes / "datasets")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def last(volumes) -> Path:
    """The last checkpoint of a run of three steps, which no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(volumes)
        return train_tiny("optimization.max_steps=3").resolve() / "checkpoints" / "last.ckpt"


def _refusing_to_read(monkeypatch) -> None:
    def patches(*_, **__):
        raise AssertionError("the volumes are read")

    monkeypatch.setattr("emseg.stages.patches.PatchDataset", patches)


def _names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


def _scalars(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def test_the_saved_config_gives_the_same_settings_with_devices_resolved(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    devices = ("system=all-gpu-cpu", "system.num_workers=-1", "system.num_gpus=4")
    run = train_tiny(*devices)
    for mode in ("train", "test", "tune"):
        asked = load(DEMO, mode=mode, overrides=[*TINY, *devices]).root
        resolved = replace(asked, system=replace(asked.system, num_gpus=0, num_workers=1))
        assert load(run / "config.yaml", mode=mode, overrides=[]).root == resolved
    line = "system.num_gpus=4, but this machine has 0: going on with the CPU"
    assert capsys.readouterr().err.count(line) == 1
    assert (run / "run.log").read_text().count(line) == 1


def test_what_a_validated_training_logs_and_keeps():
    run = train_tiny(
        "optimization.max_steps=4",
        "data.split_train_range=[0,8]",
        "data.split_val_range=[8,12]",
        "monitor.checkpoint.monitor=val_loss_total",
        "monitor.checkpoint.save_last=false",
        "monitor.logging.log_every_n_steps=1",
        "monitor.logging.images.every_n_epochs=1",
        "loss=bce_dice",
    )
    line = "trained on train_raw (8x40x40); validated on train_raw (4x40x40)"
    assert line in (run / "run.log").read_text()
    names = sorted(_names(run))
    before_loss = [name.rpartition("=")[0] for name in names]
    assert before_loss == ["step=2-val_loss_total", "step=4-val_loss_total"]
    facts = read_checkpoint(run / "checkpoints" / names[0])["emseg"]
    assert (facts["axes"], facts["voxel_size"]) == ("zyx", (30.0, 6.0, 6.0))
    events = _scalars(run)
    by_step = {"train_loss_total_step", "train_loss_bce", "train_loss_dice", "lr"}
    by_epoch = {"train_loss_total_epoch", "val_loss_total", "val_loss_bce", "val_loss_dice"}
    assert set(events.Tags()["scalars"]) == by_step | by_epoch | {"epoch"}
    assert {len(events.Scalars(tag)) for tag in by_step} == {4}
    assert {len(events.Scalars(tag)) for tag in by_epoch} == {2}
    assert set(events.Tags()["images"]) == {"train/0", "val/0"}
    assert len(events.Images("train/0")) == 2


def test_init_from_takes_weights_and_nothing_else(last):
    run = train_tiny(
        f"model.init_from='{last}'",
        "optimization.max_steps=1",
        "optimization.optimizer.lr=1e-12",
        "optimization.scheduler.warmup_epochs=0",
        "optimization.scheduler.min_lr=0",
        "optimization.ema.enabled=false",
    )
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert stored["global_step"] == 1
    assert {float(s["step"]) for s in stored["optimizer_states"][0]["state"].values()} == {1.0}
    before, after = weights(last), weights(run / "checkpoints" / "last.ckpt")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)


def test_init_from_another_architecture_names_the_keys(last):
    with pytest.raises(UserError, match=r"another architecture .*encoder\.1.*6.*for.*8"):
        train_tiny(f"model.init_from='{last}'", "model.width=[4,8]")


def test_validation_by_range_is_validation_on_a_volume_of_that_range():
    by_range = train_tiny("data.split_train_range=[0,8]", "data.split_val_range=[8,12]")
    by_volume = train_tiny("data.train.range=[0,8]", f"data.val={{{LABELLED}, range: [8,12]}}")
    losses = [_scalars(run).Scalars("val_loss_total")[0].value for run in (by_range, by_volume)]
    assert losses[0] == losses[1]
    whole = train_tiny("data.split_train_range=[0,8]", f"data.val={{{LABELLED}}}")
    assert _scalars(whole).Scalars("val_loss_total")[0].value != losses[0]


def test_validation_interval_counts_optimizer_steps(monkeypatch):
    steps = []
    original = Supervised.validation_step

    def counted(module, batch, index):
        steps.append(module.global_step)
        return original(module, batch, index)

    monkeypatch.setattr(Supervised, "validation_step", counted)
    run = train_tiny(
        "data.split_train_range=[0,8]",
        "data.split_val_range=[8,12]",
        "optimization.max_steps=7",
        "optimization.n_steps_per_epoch=4",
        "optimization.accumulate_grad_batches=3",
        "optimization.val_check_interval=2",
        "optimization.val_steps_per_epoch=3",
    )
    assert steps == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    # Seven steps of three micro-batches of two samples.
    assert stored["PatchDataModule"]["next_index"] == 42


def test_resumed_run_goes_on_in_its_folder():
    run = train_tiny("optimization.max_steps=3")
    last = run / "checkpoints" / "last.ckpt"
    resumed = train_tiny("optimization.max_steps=5", checkpoint=last)
    assert resumed.resolve() == run.resolve()
    assert read_checkpoint(last)["global_step"] == 5
    assert len([name for name in _names(run) if "train_loss" in name]) == 3
    assert load(run / "config.yaml", mode="train", overrides=[]).root.optimization.max_steps == 5
    # Three best of the whole run: of the first part's two epochs and the second's one.
    assert (run / "run.log").read_text().count("command: emseg") == 2
    assert len(list(run.parent.iterdir())) == 1


def test_a_checkpoint_of_an_earlier_version_outside_any_run_goes_on_in_a_new_one(last):
    stored = torch.load(last, weights_only=True)
    for kind in ("optimizer", "scheduler"):
        del stored["emseg"][kind]
    torch.save(stored, "copied.ckpt")
    overrides = ("optimization.max_steps=4", "optimization.optimizer.lr=0.5")
    run = train_tiny(*overrides, checkpoint=Path("copied.ckpt"))
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor.checkpoint.monitor=train_loss_totl_epoch"], "did you mean 'train_loss_total_e"),
        (["monitor.checkpoint.monitor=val_loss_total"], "needs validation: set data.val or"),
        (["optimization.precision=16-mixed"], "precision: 16-mixed needs a GPU"),
        (
            ["monitor.checkpoint.save_last=false", "monitor.checkpoint.save_top_k=0"],
            "no checkpoint",
        ),
        (["data.dataloader.patch_size=[4,17,17]"], r"\[4, 17, 17\] is not divisible"),
        (["data.train.label=datasets/demo/train_labels.h5:no"], "'no'.*main"),
    ],
)
def test_refused_before_a_run_is_made_and_volumes_are_read(overrides, message, monkeypatch):
    _refusing_to_read(monkeypatch)
    with pytest.raises(UserError, match=message):
        train_tiny("system.num_gpus=0", *overrides)
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("optimization.max_steps=3",), "step 3 of 3 .*raise optimization.max_steps=3$"),
        ((), "step 3 of 2 .*raise optimization.max_steps=2$"),
        (
            ("optimization.max_steps=null", "optimization.max_epochs=1"),
            r"step 3 of 2 .*raise optimization.max_epochs=1 \(of 2 steps\)$",
        ),
        (("optimization.max_epochs=1",), "max_steps=2 and optimization.max_epochs=1"),
    ],
)
def test_a_training_that_has_all_its_steps_is_refused(last, words, told, monkeypatch):
    _refusing_to_read(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in last.parents[1].rglob("*")}
    with pytest.raises(UserError, match=f"{last}: .*{told}"):
        train_tiny(*words, checkpoint=last)
    assert {path: path.stat().st_mtime_ns for path in last.parents[1].rglob("*")} == before
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.width=[4,8]"], "another architecture .*encoder.1"),
        (["optimization.ema.enabled=false"], "cannot go on without"),
        (["target.edge_side=source"], "trained for target edge_side destination"),
        (["optimization.optimizer.lr=0.5"], r"optimizer\.lr: .* with 0\.5 .*model\.init_from"),
        (["optimization/optimizer=sgd"], r"optimizer\._target_: .*'torch\.optim\.SGD'"),
        (["optimization.scheduler.min_lr=2e-5"], r"scheduler\.min_lr: .* with 2e-05 "),
    ],
)
def test_checkpoint_that_the_config_cannot_go_on_from_is_refused(last, overrides, message):
    with pytest.raises(UserError, match=message):
        train_tiny("optimization.max_steps=4", *overrides, checkpoint=last)


def test_foreign_and_truncated_checkpoints_are_refused(last, capsys):
    torch.save({"state_dict": {"net.x": torch.zeros(1)}}, "foreign.ckpt")
    whole = last.read_bytes()
    Path("truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    for name, message in (("foreign", "no checkpoint of emseg"), ("truncated", "cannot be read")):
        arguments = ["--config", str(DEMO), "--checkpoint", f"{name}.ckpt", *TINY]
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_volumes_that_were_trained_on_are_told_at_the_test(capsys):
    run = train_tiny("data.train.range=[4,12]")
    image = "datasets/demo/train_raw.h5"
    regions = read_checkpoint(run / "checkpoints" / "last.ckpt")["emseg"]["trained_on"]
    assert regions == [
        {"image": f"{Path(image).absolute()}:main", "first": [4, 0, 0], "stop": [12, 40, 40]}
    ]
    own = (f"data.test.image={image}", "data.test.label=datasets/demo/train_labels.h5")
    for words, told in (
        ((), 0),
        ((*own, "data.test.range=[0,4]"), 0),
        ((*own, "data.test.range=[0,5]"), 1),
        ((*own, "evaluation.enabled=false"), 0),
        ((own[0], "data.test.label=null"), 0),
    ):
        capsys.readouterr()
        _test_again(run, *words)
        assert capsys.readouterr().err.count("test_im was trained on: its scores") == told


def _test_again(run, *words):
    last = run / "checkpoints" / "last.ckpt"
    fast = ("inference.window.overlap=0",)
    arguments = ["--config", str(DEMO), "--mode", "test", "--checkpoint", str(last), *TINY, *fast]
    assert cli.main([*arguments, *words]) == 0


def test_how_patches_were_drawn_is_logged(capsys):
    every = "monitor.logging.log_every_n_steps=1"
    run = train_tiny(every, "data.reject_sampling={size_thres: 200, p: 0.5}")
    tags = set(_scalars(run).Tags()["scalars"])
    assert {"train_draws", "train_background_patches"} <= tags
    assert "no draw was accepted" not in capsys.readouterr().err
    # No patch has as much foreground, and no luck.
    sparse = np.zeros((12, 40, 40), np.uint8)
    sparse[[0, 6, 9], ::8, ::16] = 1
    sparse[[0, 6, 9], ::8, 8::16] = 2
    write_volume("sparse.h5", sparse, axes="zyx", voxel_size=None, attributes={})
    run = train_tiny(
        every,
        "data.train.label=sparse.h5",
        "data.split_train_range=[0,8]",
        "data.split_val_range=[8,12]",
        "data.reject_sampling={size_thres: 20, p: 1.0}",
    )
    log = (run / "run.log").read_text()
    assert "warning: for 4 of 4 patches of training no draw was accepted" in log
    assert "warning: for 2 of 2 patches of validation no draw was accepted" in log
    (drawn,) = _scalars(run).Scalars("train_draws")
    (background,) = _scalars(run).Scalars("train_background_patches")
    assert (drawn.value, background.value) == (50, 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.test.resolution=[8,8,8]", r"voxels of \[8.0, 8.0, 8.0\] nm.*on \[30.0, 6.0, 6.0\]"),
        ("data.test.resolution=[30,6,6.01]", None),
    ],
)
def test_image_unlike_those_of_the_training_is_said(last, override, message, capsys):
    capsys.readouterr()
    arguments = ["--config", str(DEMO), "--mode", "infer", "--checkpoint", str(last), *TINY]
    assert cli.main([*arguments, "data.test.label=null", override]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == (message is not None)
    for warning in warnings:
        assert re.search(message, warning)


def test_other_intensities_than_in_training_are_said(last, capsys):
    facts = read_checkpoint(last)["emseg"]["intensities"]
    assert facts["dtype"] == "uint8" and 0 < facts["stored"][0] < facts["stored"][1] < 255
    raw = open_volume("datasets/demo/test_raw.h5")[...]
    write_volume("wide.h5", raw * np.uint16(16), axes="zyx", voxel_size=(30, 6, 6), attributes={})
    wide = ("data.test.image=wide.h5", "data.test.label=null", "inference.window.overlap=0")
    words = ("--config", str(DEMO), "--mode", "infer", *TINY, *wide)
    checkpoint = ("--checkpoint", str(last))
    for given, told in (((), 1), (("data.intensity_range=[0,4080]",), 0)):
        capsys.readouterr()
        assert cli.main([*words, *checkpoint, *given]) == 0
        error = capsys.readouterr().err
        assert error.count("warning: wide.h5:main has intensities from") == told
        assert error.count("(uint16), the training's were") == told
    # In training: of its own type, and validation unlike training.
    run = train_tiny("data.train.image=wide.h5", f"data.val={{{LABELLED}}}")
    log = (run / "run.log").read_text()
    assert "warning: wide.h5:main has intensities from" in log
    assert "a small part of 0 to 65535" in log
    assert "warning: datasets/demo/train_raw.h5:main has intensities from" in log
