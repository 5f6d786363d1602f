"""Input files as users spoil them, and what a refusal must say."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from emseg.volumes import write_volume

TUTORIAL = """\
defaults:
  - /base
  - override /system: cpu
  - override /model: rsunet_iso
  - override /augment: none
  - override /optimization/scheduler: constant
  - override /tune: tune_waterz
  - _self_
experiment_name: tiny
system: {num_workers: 0}
data:
  train: {image: raw.h5, label: labels.h5}
  test: {image: raw.h5, label: labels.h5}
  dataloader: {batch_size: 1, patch_size: [8, 16, 16]}
model: {width: [4, 4], down_factors: [[2, 2, 2]], stem_factor: [1, 1, 1]}
optimization: {max_steps: 1, n_steps_per_epoch: 1}
monitor: {logging: {images: {n_images: 0}}}
"""
SHAPE = (12, 24, 24)
LABELS = np.ones(SHAPE, np.uint32)
LABELS[:, 12:] = 2
CHECKPOINT = "outputs/tiny/run/checkpoints/last.ckpt"
Spoil = Callable[[], None]


def write(name: str, array: np.ndarray, *, axes: str = "zyx") -> None:
    write_volume(Path(name), array, axes=axes, voxel_size=(10, 10, 10), attributes={})


def nothing() -> None:
    """The input files are sound."""


def spoil(name: str, array: np.ndarray, *, axes: str = "zyx") -> Spoil:
    return lambda: write(name, array, axes=axes)


def cut(name: str) -> Spoil:
    """The file without its second half."""

    def halve() -> None:
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) // 2])

    return halve


def with_nan() -> None:
    image = np.full(SHAPE, 0.5, np.float32)
    image[7, 3, 3] = np.nan
    write("raw.h5", image)


def file_instead_of(folder: str) -> Spoil:
    """A folder that cannot be written to, for root neither."""

    def put() -> None:
        if Path(folder).exists():
            shutil.rmtree(folder)
        Path(folder).write_text("in the way")

    return put


def saved(contents: object) -> Spoil:
    return lambda: torch.save(contents, CHECKPOINT)


def holds(told: str, parts: list[str]) -> None:
    assert [part for part in parts if part not in told] == [], told
