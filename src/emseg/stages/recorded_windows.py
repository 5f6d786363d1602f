"""The windows for predicting a volume: the config's, the recorded ones, else chosen once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emseg.blocks.memory import memory_within
from emseg.config.schema import Root
from emseg.inference.window_choice import (
    Windows,
    bytes_per_voxel,
    choose_windows,
    least_window,
    shared,
)
from emseg.inference.windows import window_grid
from emseg.runs.artifacts import SUFFIXES, existing
from emseg.stages.devices import resolve_devices
from emseg.stages.network import Trained
from emseg.volumes import Volume, read_attributes
from emseg.volumes.partial import unfinished_attributes


def windows_of(image: Volume, trained: Trained, root: Root) -> Windows:
    """The windows that the config sets, else those chosen for the image.

    The choice depends on the image's shape, the training patch, the network and half of
    `system.memory`, or of the GPU's memory if that is less.
    """
    config, least = root.inference, least_windows(trained, root)
    if not least.chosen or _fixed(trained):
        return least
    memory, device = memory_within(root.system.memory), resolve_devices(root.system).torch_device
    if device.type == "cuda":
        memory = min(memory, torch.cuda.get_device_properties(device).total_memory)
    each = bytes_per_voxel(trained.net, trained.facts.in_channels, least.size)
    section = 4 * len(trained.target.channels) * image.shape[1] * image.shape[2]

    def fits(size: Sequence[int]) -> bool:
        batch = config.window.sw_batch_size * size[0] * size[1] * size[2]
        return batch * each + size[0] * section <= memory // 2

    return choose_windows(
        image.shape,
        least=least.size,
        stride=_stride(trained),
        pad=config.pad,
        overlap=config.window.overlap,
        fits=fits,
        square=_turned(root),
    )


def least_windows(trained: Trained, root: Root) -> Windows:
    """The windows that the config sets, else the smallest possible choice."""
    window = root.inference.window
    if window.window_size is not None:
        overlap = 0.5 if window.overlap is None else window.overlap
        return Windows(window.window_size, overlap, chosen=False)
    fixed = _fixed(trained)
    size = fixed or least_window(trained.facts.patch_size, _stride(trained), _turned(root))
    return _with_overlap(size, trained, root)


def recorded_windows(
    folder: Path, name: str, trained: Trained, root: Root
) -> Iterator[tuple[Windows, Mapping[str, Any], Path | None]]:
    """The choices for the prediction `name` in the folder: (windows, attributes, begun).

    First those of unfinished ones, which will become the path `begun`, then of a finished one, with
    None. Empty if the config sets the windows.
    """
    if root.inference.window.window_size is not None:
        return
    paths = [folder / f"{name}{end}" for end in SUFFIXES]
    found = [(path, unfinished_attributes(path) or {}) for path in paths]
    found += [(None, read_attributes(path)) for path in existing(folder, name)]
    for begun, stored in found:
        size = tuple(stored.get("window_size") or ())
        # Early versions used the training patch as window, and recorded nothing.
        if size and stored.get("window_chosen", size == trained.facts.patch_size):
            yield _with_overlap(size, trained, root), stored, begun


def in_words(windows: Windows, shape: Sequence[int], root: Root) -> str:
    """The number and size of windows of a volume of `shape`, for the user."""
    grid = window_grid(
        shape,
        window_size=windows.size,
        overlap=windows.overlap,
        pad=root.inference.pad,
        snap_to_edge=root.inference.window.snap_to_edge,
    )
    count = math.prod(map(len, grid.starts))
    chosen = " (chosen; inference.window.window_size sets it)" if windows.chosen else ""
    return f"{count} windows of {list(windows.size)}{chosen}"


def _with_overlap(size: tuple[int, ...], trained: Trained, root: Root) -> Windows:
    least = _fixed(trained) or least_window(
        trained.facts.patch_size, _stride(trained), _turned(root)
    )
    return Windows(size, shared(size, least, root.inference.window.overlap), chosen=True)


def _fixed(trained: Trained) -> tuple[int, ...] | None:
    fixed = getattr(trained.net, "volume_size", None)
    return None if fixed is None else tuple(fixed)


def _stride(trained: Trained) -> Sequence[int]:
    return getattr(trained.net, "stride", None) or (1, 1, 1)


def _turned(root: Root) -> list[tuple[int, int]]:
    augmentation = root.inference.test_time_augmentation
    return [*(augmentation.rotation90_axes or [])] if augmentation.enabled else []
