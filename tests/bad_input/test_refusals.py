"""A mistake in settings, volumes or a checkpoint is one line, before any work, in every mode."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bad_input.spoilt import (
    CHECKPOINT,
    LABELS,
    SHAPE,
    TUTORIAL,
    Spoil,
    cut,
    file_instead_of,
    holds,
    nothing,
    saved,
    spoil,
    with_nan,
    write,
)

Refusal = Callable[..., str]
WEIGHTS = ["--checkpoint", CHECKPOINT]
SELECT = "inference.model.select_channel"


TRAINING = [
    (nothing, ["--force"], ["--force", "not for train"]),
    (nothing, ["--verify"], ["--verify", "not for train"]),
    (nothing, ["data.train.image=rw.h5"], ["'rw.h5' does not exist", "did you mean 'raw.h5'"]),
    (nothing, ["data.train.image=raw.h5:volumes/raw"], ["'volumes/raw'", "allowed: main"]),
    (nothing, ["data.train.image=raw.txt"], ["raw.txt", ".h5", ".zarr", ".tif"]),
    (nothing, ["data.train.label=lost/labels.h5"], ["no folder 'lost'"]),
    (nothing, ["data.train.label=null"], ["raw.h5", "no label"]),
    (nothing, ["data.train.range=[4,20]"], ["raw.h5", "[4, 20]", "12 voxels"]),
    (nothing, ["data.split_train_range=[0,20]"], ["raw.h5", "[0, 20]"]),
    (nothing, ["data.val.image=lost.h5"], ["'lost.h5' does not exist"]),
    (spoil("labels.h5", LABELS[:, :20]), [], ["labels.h5", "(12, 20, 24)", "(12, 24, 24)"]),
    (spoil("labels.h5", LABELS.astype(np.float32)), [], ["labels.h5", "float32", "integers"]),
    (spoil("raw.h5", np.zeros(SHAPE, np.int16)), [], ["raw.h5", "int16", "intensity_range"]),
    (with_nan, [], ["raw.h5", "NaN"]),
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
        ["loss=bce_dice", "monitor.checkpoint.monitor=train_loss_bce"],
        ["'train_loss_bce'", "allowed: train_loss_total_epoch, train_loss_total_step"],
    ),
    (nothing, ["monitor.checkpoint.monitor=val_loss_total"], ["val_loss_total", "data.val"]),
    (nothing, ["model.init_from=lost.ckpt"], ["lost.ckpt", "does not exist"]),
    (
        nothing,
        [f"model.init_from={CHECKPOINT}", "model.width=[4,6]"],
        [CHECKPOINT, "another architecture", "encoder.1."],
    ),
    (nothing, [*WEIGHTS, "model.width=[4,6]"], ["another architecture", "encoder.1."]),
    (file_instead_of("outputs"), [], ["outputs/tiny/"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), TRAINING)
def test_training(refusal: Refusal, make: Spoil, words: list[str], parts: list[str]) -> None:
    make()
    holds(refusal(*words), parts)


@pytest.mark.parametrize(
    ("mode", "words", "parts"),
    [
        ("train", ["data.train.image=rw.h5"], ["'rw.h5' does not exist"]),
        ("train", ["data.dataloader.patch_size=[8,15,16]"], ["stride [2, 2, 2]"]),
        ("train", ["augment=iso", "data.dataloader.patch_size=[8,8,16]"], ["must have one size"]),
        (
            "train",
            ["data.split_train_range=[0,8]", "data.split_val_range=[8,12]"],
            ["smaller than a patch [8, 16, 16]"],
        ),
        ("train", [*WEIGHTS, "model.width=[4,6]"], ["another architecture"]),
        ("infer", ["data.test.image=rw.h5"], ["'rw.h5' does not exist"]),
        ("test", ["data.test.range=[4,20]"], ["raw.h5", "[4, 20]"]),
        ("tune", ["data.test.label=null"], ["tuning needs truth"]),
    ],
)
def test_a_check_opens_the_volumes(
    refusal: Refusal, mode: str, words: list[str], parts: list[str]
) -> None:
    holds(refusal("--mode", mode, "--check", *words), parts)


PREDICTION = [
    (
        nothing,
        ["inference.window.window_size=[7,16,16]"],
        ["inference.window.window_size [7, 16, 16]", "stride [2, 2, 2]", "[8, 16, 16]"],
    ),
    (
        nothing,
        [
            "inference.test_time_augmentation.enabled=true",
            "inference.test_time_augmentation.rotation90_axes=[[0,1]]",
            "inference.window.window_size=[8,16,16]",
        ],
        ["rotation90_axes", "[8, 16, 16]"],
    ),
    (
        nothing,
        ["inference.output_dtype=uint8", "inference.activation=none"],
        ["output_dtype uint8", "'none'"],
    ),
    (nothing, ["inference.crop_pad=[4,4,4,4,4,4]"], ["inference.crop_pad"]),
    (nothing, ["model.norm=none"], ["another architecture", "unknown"]),
    (nothing, ["target.edge_side=source"], ["target edge_side destination", "source"]),
    (
        spoil("raw.h5", np.zeros((2, *SHAPE), np.uint8), axes="czyx"),
        [],
        ["raw.h5", "2 channels", "1"],
    ),
    (file_instead_of("outputs/tiny/run/results_step=1"), [], ["results_step=1"]),
    (saved({"weights": torch.zeros(3)}), [], [CHECKPOINT, "no training checkpoint"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), PREDICTION)
def test_prediction(refusal: Refusal, make: Spoil, words: list[str], parts: list[str]) -> None:
    make()
    holds(refusal("--mode", "infer", *WEIGHTS, *words), parts)


MASK = ["decoding=affinity_cc", "decoding.affinity_mask_path"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["decoding.thresholds=7"], ["decoding.thresholds", "7"]),
        (["decoding.merge_function=aff85_his255"], ["'aff85_his255'", "mean 'aff85_his256'"]),
        (["inference.activation=none"], ["logits", "inference.activation=sigmoid"]),
        ([f"{SELECT}=[0,1,3]"], [SELECT, "3 is no channel", "0 to 2"]),
        ([f"{SELECT}=[0,1]"], ["one channel along each axis", SELECT]),
        ([MASK[0], f"{MASK[1]}=lost.h5"], ["'lost.h5' does not exist"]),
        ([MASK[0], f"{MASK[1]}=small.h5"], [f"{MASK[1]}: small.h5", "(4, 4, 4)", "(12, 24, 24)"]),
        ([MASK[0], f"{MASK[1]}=channels.h5"], ["channels.h5", "2 channels", "a mask has none"]),
        ([MASK[0], f"{MASK[1]}=turned.h5"], ["turned.h5", "axes zxy", "zyx"]),
    ],
)
def test_decoding(refusal: Refusal, words: list[str], parts: list[str]) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint8))
    write("channels.h5", np.ones((2, *SHAPE), np.uint8), axes="czyx")
    write("turned.h5", np.ones(SHAPE, np.uint8), axes="zxy")
    holds(refusal("--mode", "test", *WEIGHTS, *words), parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tune.metric=adapted_rnd"], ["tune.metric", "did you mean 'adapted_rand'"]),
        (["tune.search_space.thresholds.high=1.5"], ["tune.search_space", "1.5"]),
        (
            ["tune.search_space.merge_function.choices=[mean,median]"],
            ["tune.search_space", "decoding.merge_function", "'median'", "mean"],
        ),
        (["data.test.label=null"], ["truth", "no label"]),
        (["decoding.dust_remove_size=-1"], ["decoding.dust_remove_size", "-1"]),
        (
            [
                *("decoding=affinity_cc", f"{MASK[1]}=lost.h5", "tune=default"),
                "tune.search_space={threshold: {low: 0, high: 1}}",
            ],
            ["'lost.h5' does not exist"],
        ),
    ],
)
def test_tuning(refusal: Refusal, words: list[str], parts: list[str]) -> None:
    holds(refusal("--mode", "tune", *WEIGHTS, *words), parts)


def test_the_test_after_tuning(refusal: Refusal) -> None:
    Path("tiny.yaml").write_text(TUTORIAL + "tune: {data: {test: {image: tuned.h5}}}\n")
    shutil.copy("raw.h5", "tuned.h5")
    cut("raw.h5")()
    told = refusal("--mode", "tune-test", *WEIGHTS)
    holds(told, ["raw.h5", "truncated"])


@pytest.mark.parametrize(
    ("mode", "given", "parts"),
    [
        ("decode", ["--input", "raw.h5"], ["raw.h5", "not written by emseg"]),
        ("decode", ["--input", "lost.h5"], ["'lost.h5' does not exist"]),
        ("evaluate", ["--input", "small.h5"], ["small.h5", "(4, 4, 4)", "(12, 24, 24)"]),
        ("evaluate", ["--input", "float.h5"], ["float32", "integers"]),
        ("decode", WEIGHTS, ["results_step=1", "--mode infer"]),
        ("evaluate", WEIGHTS, ["results_step=1", "--mode decode"]),
    ],
)
def test_a_stage_alone(refusal: Refusal, mode: str, given: list[str], parts: list[str]) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint32))
    write("float.h5", np.ones(SHAPE, np.float32))
    holds(refusal("--mode", mode, *given), parts)
