"""Inputs that draw from files that are gone, or of which next to nothing is stored."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from bad_input.spoilt import CHECKPOINT, LABELS, SHAPE, holds
from emseg.cli import main

Refusal = Callable[..., str]
RAW = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
HUGE = (10**6, 10**6, 10**6)

TRAIN: list[str] = []
INFER = ["--mode", "infer", "--checkpoint", CHECKPOINT]
TEST = ["--mode", "test", "--checkpoint", CHECKPOINT, "decoding=affinity_cc"]
DECODE = ["--mode", "decode", "--input"]
EVALUATE = ["--mode", "evaluate", "--input"]


def lost_by_virtual_data_set(name: str, array: np.ndarray) -> str:
    """A location whose second half is in a file that is not there."""
    halves = np.split(array, 2)
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    for number, half in enumerate(halves):
        with h5py.File(f"{name}_{number}.h5", "w") as file:
            file["a"] = half
        part = slice(number * len(half), (number + 1) * len(half))
        layout[part] = h5py.VirtualSource(f"{name}_{number}.h5", "a", half.shape)
    with h5py.File(f"{name}.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    Path(f"{name}_1.h5").rename("elsewhere")
    return f"{name}.h5"


def lost_chunks(name: str, array: np.ndarray) -> str:
    zarr.save_array(f"{name}.zarr", array, zarr_format=2)
    chunk = Path(f"{name}.zarr/0.0.0")
    chunk.unlink()
    chunk.symlink_to(f"annex/{name}_1.h5")
    return f"{name}.zarr"


USES = [
    (TRAIN, "data.train.image={}", RAW),
    (TRAIN, "data.train.label={}", LABELS),
    (TRAIN, "data.train.mask={}", LABELS),
    (INFER, "data.test.image={}", RAW),
    (TEST, "data.test.label={}", LABELS),
    (TEST, "decoding.affinity_mask_path={}", LABELS),
    (EVALUATE, "{}", LABELS),
    (DECODE, "{}", RAW),
]


@pytest.mark.parametrize(("words", "where", "array"), USES)
def test_a_missing_source_is_named_before_any_work(refusal: Refusal, words, where, array):
    location = lost_by_virtual_data_set("set", array)
    holds(refusal(*words, where.format(location)), ["'set.h5:a' draws from 'set_1.h5'", "which"])


@pytest.mark.parametrize(("words", "where", "array"), [USES[1], USES[3], USES[6]])
def test_a_chunk_that_is_a_link_to_nothing_is_named(refusal: Refusal, words, where, array):
    location = lost_chunks("set", array)
    told = refusal(*words, where.format(location))
    holds(told, ["'set.zarr/0.0.0' is a link to 'annex/set_1.h5', which does not exist"])


def huge_hdf5() -> str:
    with h5py.File("huge.h5", "w") as file:
        data = file.create_dataset("a", HUGE, np.uint8, chunks=(64, 64, 64))
        data[0, 0, 0] = 1
    return "huge.h5"


def huge_hdf5_in_one_piece() -> str:
    with h5py.File("huge.h5", "w") as file:
        file.create_dataset("a", HUGE, np.uint8)
    return "huge.h5"


FEW, NONE = "chunks: 1 of 3814697265625 present", "voxels: 0 of 1000000000000000000 present"
HUGE_FILES = [
    *((huge_hdf5, FEW, *use[:2]) for use in USES),
    (huge_hdf5_in_one_piece, NONE, *USES[0][:2]),
]


@pytest.mark.parametrize(("make", "told", "words", "where"), HUGE_FILES)
def test_a_tiny_file_of_a_huge_shape_is_refused(refusal: Refusal, make, told, words, where):
    location = make()
    refused = refusal(*words, where.format(location))
    if words == DECODE:  # It is no prediction of ours in the first place.
        holds(refused, [location])
    elif "affinity_mask_path" in where:  # It has not the voxels of its image.
        holds(refused, ["huge", "shape (1000000, 1000000, 1000000)"])
    else:
        holds(refused, [location, told, "GiB"])


def test_absent_chunks_are_told_and_no_more(capsys):
    array = zarr.create_array("labels.zarr", shape=SHAPE, chunks=(4, 24, 24), dtype="u4")
    array[:4] = LABELS[:4]
    capsys.readouterr()
    words = ["labels.h5", "data.test.label=labels.zarr", "evaluation/metrics=[adapted_rand]"]
    assert main(["--config", "tiny.yaml", *EVALUATE, *words]) == 0
    told = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "absent" in line and "warning" in line
    ]
    assert told == [
        "emseg: warning: labels.zarr has chunks: 1 of 3 present; what is absent is read as the "
        "fill value"
    ]


def virtual(truth: np.ndarray) -> str:
    with h5py.File("truth.h5", "w") as file:
        file["a"] = truth
    layout = h5py.VirtualLayout(truth.shape, truth.dtype)
    layout[...] = h5py.VirtualSource("truth.h5", "a", truth.shape)
    with h5py.File("set.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    return "set.h5"


def in_raw_file(truth: np.ndarray) -> str:
    truth.tofile("truth.h5")
    with h5py.File("set.h5", "w") as file:
        file.create_dataset("a", truth.shape, truth.dtype, external=[("truth.h5", 0, truth.nbytes)])
    return "set.h5"


@pytest.mark.parametrize(
    ("make", "verify"), [(virtual, False), (virtual, True), (in_raw_file, False)]
)
def test_a_truth_corrected_in_a_file_behind_is_evaluated_anew(capsys, make, verify):
    """With --verify under the same size and time, too."""
    location = make(LABELS)
    metrics = "evaluation/metrics=[adapted_rand]"
    words = [*EVALUATE, "labels.h5", f"data.test.label={location}", metrics]

    def score(*more: str) -> float:
        capsys.readouterr()
        assert main(["--config", "tiny.yaml", *words, *more]) == 0
        return float(capsys.readouterr().out.splitlines()[1].split()[1])

    assert score() == 0
    before = Path("truth.h5").stat()
    set_before = Path("set.h5").stat()
    corrected = LABELS.copy()
    corrected[:, :6] = 3
    make(corrected)
    os.utime("set.h5", ns=(0, set_before.st_mtime_ns))
    time = before.st_mtime_ns if verify else before.st_mtime_ns - 10**9
    os.utime("truth.h5", ns=(0, time))
    assert Path("truth.h5").stat().st_size == before.st_size
    assert score(*["--verify"] * verify) > 0.1
