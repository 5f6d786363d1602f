"""A mistake in the config, the volumes or a checkpoint is one line, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bad_input.spoilt import (
    CHECKPOINT,
    LABELS,
    SHAPE,
    Spoil,
    cut,
    file_instead_of,
    holds,
    nothing,
    saved,
    spoil,
    with_nan,
    without_voxels,
)

Refusal = Callable[..., str]

KEYS = [
    (["data.dataloader.batch_sze=2"], ["batch_sze", "did you mean 'data.dataloader.batch_size'"]),
    (["model.widht=[4,4]"], ["widht", "did you mean 'model.width'"]),
    (["data.dataloader.batch_size=two"], ["data.dataloader.batch_size", "'two'", "int"]),
    (["model.width=four"], ["model.width", "'four'"]),
    (["inference.window.overlap=1.5"], ["inference.window.overlap", "1.5", "[0, 1)"]),
    (["model.num_groups=0"], ["model.num_groups=0", "1 or more"]),
    (["model.norm=grup"], ["model.norm", "'grup'", "did you mean 'group'"]),
    (["evaluation/metrics=[adapted_rnd]"], ["'adapted_rnd'", "did you mean 'adapted_rand'"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("words", "parts"), KEYS)
def test_keys_and_values(refusal: Refusal, mode: str, words: list[str], parts: list[str]) -> None:
    holds(refusal("--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)


VOLUMES = [
    (nothing, ["image=rw.h5"], ["'rw.h5' does not exist", "did you mean 'raw.h5'"]),
    (nothing, ["image=raw.h5:volumes/raw"], ["'volumes/raw'", "allowed: main"]),
    (nothing, ["label=lost/labels.h5"], ["no folder 'lost'"]),
    (nothing, ["image=raw.txt"], ["raw.txt", ".h5", ".zarr", ".tif"]),
    (nothing, ["range=[4,20]"], ["raw.h5", "[4, 20]", "12 voxels"]),
    (spoil("labels.h5", LABELS[:, :20]), [], ["labels.h5", "(12, 20, 24)", "(12, 24, 24)"]),
    (spoil("labels.h5", LABELS.astype(np.float32)), [], ["labels.h5", "float32", "integers"]),
    (spoil("labels.h5", LABELS.astype(np.int32) - 8), [], ["labels.h5", "label -7"]),
    (spoil("raw.h5", np.zeros(SHAPE, np.int16)), [], ["raw.h5", "int16", "intensity_range"]),
    (spoil("raw.h5", np.full(SHAPE, 9.0, np.float32)), [], ["raw.h5", "9", "intensity_range"]),
    (with_nan, [], ["raw.h5", "NaN"]),
    (without_voxels, [], ["raw.h5", "empty"]),
    (cut("raw.h5"), [], ["raw.h5", "truncated"]),
    (lambda: Path("raw.h5").write_text("no volume"), [], ["raw.h5", "not an HDF5 file"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("make", "words", "parts"), VOLUMES)
def test_volumes(
    refusal: Refusal, mode: str, make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    split = "train" if mode == "train" else "test"
    given = [] if mode == "train" else ["--checkpoint", CHECKPOINT]
    words = [f"data.{split}.{word}" for word in words]
    holds(refusal("--mode", mode, *given, *words), parts)


TRAINING = [
    (nothing, ["--force"], ["--force", "not for train"]),
    (nothing, ["--verify"], ["--verify", "not for train"]),
    (
        nothing,
        ["loss=bce_dice", "monitor.checkpoint.monitor=train_loss_bce"],
        ["'train_loss_bce'", "allowed: train_loss_total_epoch, train_loss_total_step"],
    ),
    (nothing, ["data.train.label=null"], ["raw.h5", "no label"]),
    (
        nothing,
        ["data.dataloader.patch_size=[16,16,16]"],
        ["raw.h5", "smaller than a patch [16, 16, 16]", "data.pad_small=true"],
    ),
    (
        nothing,
        ["data.dataloader.patch_size=[8,15,16]"],
        ["data.dataloader.patch_size [8, 15, 16]", "stride [2, 2, 2]", "[8, 14, 16]"],
    ),
    (
        nothing,
        ["optimization/scheduler=warmup_cosine_lr", "optimization.scheduler.warmup_epochs=5"],
        ["optimization.scheduler.warmup_epochs", "5 steps"],
    ),
    (
        nothing,
        ["monitor.checkpoint.monitor=train_loss_totl"],
        ["'train_loss_totl'", "monitor.checkpoint.monitor", "did you mean 'train_loss_total_"],
    ),
    (nothing, ["monitor.checkpoint.monitor=val_loss_total"], ["val_loss_total", "data.val"]),
    (nothing, ["data.split_train_range=[0,20]"], ["raw.h5", "[0, 20]"]),
    (nothing, ["data.val.image=lost.h5"], ["'lost.h5' does not exist"]),
    (nothing, ["optimization.precision=16-mixed"], ["optimization.precision", "needs a GPU"]),
    (nothing, ["optimization.optimizer.lr=-1"], ["optimization.optimizer", "learning rate", "-1"]),
    (nothing, ["loss.channel_weights=[1,2]"], ["channel_weights", "2", "3"]),
    (nothing, ["model.init_from=lost.ckpt"], ["lost.ckpt", "does not exist"]),
    (
        nothing,
        [f"model.init_from={CHECKPOINT}", "model.width=[4,6]"],
        [CHECKPOINT, "another architecture", "encoder.1."],
    ),
    (file_instead_of("outputs"), [], ["outputs/tiny/"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), TRAINING)
def test_training(refusal: Refusal, make: Spoil, words: list[str], parts: list[str]) -> None:
    make()
    holds(refusal(*words), parts)


FITTING = [
    ("train", ["data.train.image=rw.h5"], ["'rw.h5' does not exist"]),
    ("train", ["data.train.range=[4,20]"], ["raw.h5", "[4, 20]"]),
    ("train", ["data.split_train_range=[0,20]"], ["raw.h5", "[0, 20]"]),
    ("train", ["data.dataloader.patch_size=[16,16,16]"], ["smaller than a patch [16, 16, 16]"]),
    ("train", ["data.dataloader.patch_size=[8,15,16]"], ["stride [2, 2, 2]"]),
    ("train", ["augment=iso", "data.dataloader.patch_size=[8,8,16]"], ["must have one size"]),
    (
        "train",
        ["data.split_train_range=[0,8]", "data.split_val_range=[8,12]"],
        ["smaller than a patch [8, 16, 16]"],
    ),
    ("train", ["--checkpoint", CHECKPOINT, "model.width=[4,6]"], ["another architecture"]),
    ("infer", ["data.test.image=rw.h5"], ["'rw.h5' does not exist"]),
    ("test", ["data.test.range=[4,20]"], ["raw.h5", "[4, 20]"]),
    ("tune", ["data.test.label=null"], ["tuning needs truth"]),
]


@pytest.mark.parametrize(("mode", "words", "parts"), FITTING)
def test_a_check_opens_the_volumes(
    refusal: Refusal, mode: str, words: list[str], parts: list[str]
) -> None:
    holds(refusal("--mode", mode, "--check", *words), parts)


CHECKPOINTS = [
    (nothing, ["model.width=[4,6]"], ["another architecture", "encoder.1."]),
    (nothing, ["model.norm=none"], ["another architecture", "unknown"]),
    (nothing, ["target.edge_side=source"], ["target edge_side destination", "source"]),
    (lambda: Path(CHECKPOINT).write_text("weights"), [], [CHECKPOINT]),
    (cut(CHECKPOINT), [], [CHECKPOINT]),
    (saved({"weights": torch.zeros(3)}), [], [CHECKPOINT, "no training checkpoint"]),
    (saved({"state_dict": {}, "global_step": 1}), [], [CHECKPOINT, "no checkpoint of emseg"]),
    (saved({"state_dict": Path("x"), "global_step": 1}), [], [CHECKPOINT, "refused"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("make", "words", "parts"), CHECKPOINTS)
def test_checkpoints(
    refusal: Refusal, mode: str, make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    holds(refusal("--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)
