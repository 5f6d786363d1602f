"""What would stop decoding, scoring or tuning is said before anything is predicted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bad_input.spoilt import (
    CHECKPOINT,
    SHAPE,
    TUTORIAL,
    Spoil,
    cut,
    file_instead_of,
    holds,
    nothing,
    spoil,
    write,
)

Refusal = Callable[..., str]

SELECT = "inference.model.select_channel"
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
    (
        spoil("raw.h5", np.zeros((2, *SHAPE), np.uint8), axes="czyx"),
        [],
        ["raw.h5", "2 channels", "1"],
    ),
    (file_instead_of("outputs/tiny/run/results_step=1"), [], ["results_step=1"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), PREDICTION)
def test_prediction(refusal: Refusal, make: Spoil, words: list[str], parts: list[str]) -> None:
    make()
    holds(refusal("--mode", "infer", "--checkpoint", CHECKPOINT, *words), parts)


DECODING = [
    (["decoding.thresholds=7"], ["decoding.thresholds", "7", "[0, 1]"]),
    (["decoding.merge_function=aff85_his255"], ["'aff85_his255'", "did you mean 'aff85_his256'"]),
    (["decoding.aff_threshold=[0.9,0.1]"], ["decoding.aff_threshold", "[0.9, 0.1]"]),
    (["decoding.dust_remove_size=-1"], ["decoding.dust_remove_size", "-1"]),
    (["inference.activation=none"], ["logits", "inference.activation=sigmoid"]),
    ([f"{SELECT}=[0,1,3]"], [SELECT, "3 is no channel", "0 to 2"]),
    ([f"{SELECT}=[0,1]"], ["one channel along each axis", SELECT]),
    (["decoding=affinity_cc", "decoding.threshold=7"], ["decoding.threshold", "7"]),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=lost.h5"],
        ["'lost.h5' does not exist"],
    ),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=small.h5"],
        ["decoding.affinity_mask_path: small.h5", "(4, 4, 4)", "(12, 24, 24)"],
    ),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=channels.h5"],
        ["decoding.affinity_mask_path: channels.h5", "2 channels", "a mask has none"],
    ),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=turned.h5"],
        ["decoding.affinity_mask_path: turned.h5", "axes zxy", "zyx"],
    ),
]


@pytest.mark.parametrize("mode", ["test", "tune"])
@pytest.mark.parametrize(("words", "parts"), DECODING)
def test_decoding(refusal: Refusal, mode: str, words: list[str], parts: list[str]) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint8))
    write("channels.h5", np.ones((2, *SHAPE), np.uint8), axes="czyx")
    write("turned.h5", np.ones(SHAPE, np.uint8), axes="zxy")
    if "decoding=affinity_cc" in words and mode == "tune":
        words = [*words, "tune=default", "tune.search_space={threshold: {low: 0, high: 1}}"]
    holds(refusal("--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tune.metric=adapted_rnd"], ["tune.metric", "did you mean 'adapted_rand'"]),
        (["tune.search_space.thresholds.high=1.5"], ["tune.search_space", "1.5", "[0, 1]"]),
        (
            ["tune.search_space.merge_function.choices=[mean,median]"],
            ["tune.search_space", "decoding.merge_function", "'median'", "mean"],
        ),
        (["data.test.label=null"], ["truth", "no label"]),
    ],
)
def test_tuning(refusal: Refusal, words: list[str], parts: list[str]) -> None:
    holds(refusal("--mode", "tune", "--checkpoint", CHECKPOINT, *words), parts)


def test_the_test_after_tuning(refusal: Refusal) -> None:
    Path("tiny.yaml").write_text(TUTORIAL + "tune: {data: {test: {image: tuned.h5}}}\n")
    shutil.copy("raw.h5", "tuned.h5")
    cut("raw.h5")()
    told = refusal("--mode", "tune-test", "--checkpoint", CHECKPOINT)
    holds(told, ["raw.h5", "truncated"])


@pytest.mark.parametrize(
    ("mode", "input_file", "parts"),
    [
        ("decode", "raw.h5", ["raw.h5", "not written by emseg"]),
        ("decode", "lost.h5", ["'lost.h5' does not exist"]),
        ("evaluate", "small.h5", ["small.h5", "(4, 4, 4)", "(12, 24, 24)"]),
        ("evaluate", "float.h5", ["float32", "integers"]),
        ("decode", None, ["results_step=1", "--mode infer"]),
        ("evaluate", None, ["results_step=1", "--mode decode"]),
    ],
)
def test_a_stage_alone(
    refusal: Refusal, mode: str, input_file: str | None, parts: list[str]
) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint32))
    write("float.h5", np.ones(SHAPE, np.float32))
    given = ["--checkpoint", CHECKPOINT] if input_file is None else ["--input", input_file]
    holds(refusal("--mode", mode, *given), parts)
