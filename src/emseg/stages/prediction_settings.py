"""The settings of a prediction; a window size is the config's, the recorded one, or chosen once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emseg.blocks.memory import memory_within
from emseg.config.schema import Root
from emseg.errors import UserError
from emseg.inference.settings import Ensemble, Settings
from emseg.inference.tta import merged_views
from emseg.inference.windows import (
    bytes_per_voxel,
    choose_window,
    least_window,
    overlap_of,
    window_grid,
)
from emseg.kernels.symmetry import views
from emseg.models.stride import check_input
from emseg.runs.artifacts import SUFFIXES, existing
from emseg.stages.devices import resolve_devices
from emseg.stages.network import Trained
from emseg.volumes import Volume, default_chunks, read_attributes
from emseg.volumes.cells import Cells
from emseg.volumes.partial import unfinished_attributes


def settings_of(image: Volume, trained: Trained, root: Root) -> Settings:
    """The config's settings, with a window chosen for the image if the config sets none.

    The choice depends on the image's shape, the training patch, the network and half of
    `system.memory`, or of the GPU's memory if that is less.
    """
    least, window = least_settings(trained, root), root.inference.window
    if window.window_size is not None or _fixed(trained) is not None:
        return least
    memory = window_memory(image, trained, root)
    size = choose_window(
        image.shape,
        least=least.window_size,
        stride=_stride(trained),
        pad=least.pad,
        overlap=window.overlap,
        fits=lambda size: memory.batches(size) >= 1,
        square=_turned(root),
    )
    return _with_window(size, trained, root)


@dataclass(frozen=True)
class WindowMemory:
    """What windows take of the memory for predictions, in bytes.

    Attributes:
        budget: half of `system.memory`, or of the GPU's if that is less.
        voxel: of a window, in the network.
        planes: of the sums of windows, for a whole section and for a cell.
        together: windows in a batch.
    """

    budget: int
    voxel: int
    planes: tuple[int, int]
    together: int

    def batch(self, size: Sequence[int]) -> int:
        """Of the network, for a batch of windows of that size."""
        return self.together * math.prod(size) * self.voxel

    def sums(self, size: Sequence[int]) -> int:
        """Of the sums of windows of that size."""
        return size[0] * self.planes[self.in_cells(size)]

    def in_cells(self, size: Sequence[int]) -> bool:
        """Whether the sums for a whole section do not fit, and cells are predicted one by one."""
        return size[0] * self.planes[0] > self.budget // 2

    def batches(self, size: Sequence[int]) -> int:
        """How many batches fit at a time."""
        return max(self.budget - self.sums(size), 0) // self.batch(size)


def window_memory(image: Volume, trained: Trained, root: Root) -> WindowMemory:
    """What windows over the image take; UserError if the network cannot be measured."""
    least = least_settings(trained, root)
    return WindowMemory(
        budget=_budget(root),
        voxel=bytes_per_voxel(trained.net, trained.facts.in_channels, least.window_size),
        planes=_plane_bytes(image, least),
        together=root.inference.window.sw_batch_size,
    )


def sums_in_cells(image: Volume, settings: Settings, root: Root) -> bool:
    """Whether the image is predicted cell by cell, as in `WindowMemory`, whatever the network."""
    memory = WindowMemory(_budget(root), voxel=0, planes=_plane_bytes(image, settings), together=0)
    return memory.in_cells(settings.window_size)


def _budget(root: Root) -> int:
    memory, device = memory_within(root.system.memory), resolve_devices(root.system).torch_device
    if device.type == "cuda":
        memory = min(memory, torch.cuda.get_device_properties(device).total_memory)
    return memory // 2


def _plane_bytes(image: Volume, settings: Settings) -> tuple[int, int]:
    _, height, width = Cells.of(image.shape, default_chunks(image.shape)).size
    channels = len(settings.offsets)
    return 4 * channels * image.shape[1] * image.shape[2], 4 * channels * height * width


def least_settings(trained: Trained, root: Root) -> Settings:
    """The config's settings, with the smallest possible window if it sets none.

    Raises:
        UserError: settings that contradict each other.
    """
    return _with_window(_least(trained, root), trained, root)


def check_settings(trained: Trained, root: Root) -> None:
    """Raises UserError for settings that do not fit the network or each other."""
    settings = least_settings(trained, root)
    check_input(settings.window_size, trained.net, key="inference.window.window_size")
    _check_crop(root, settings)
    # Built only for its checks; nothing is predicted.
    merged_views(trained.net, settings)


def recorded_settings(
    folder: Path, name: str, trained: Trained, root: Root
) -> Iterator[tuple[Settings, Mapping[str, Any], Path | None]]:
    """Those with a window chosen for the prediction `name` in the folder: (settings, attributes,
    begun).

    First those of unfinished ones, which will become the path `begun`, then of a finished one, with
    None. Empty if the config sets the window.
    """
    if root.inference.window.window_size is not None:
        return
    paths = [folder / f"{name}{end}" for end in SUFFIXES]
    found: list[tuple[Path | None, Mapping[str, Any]]]
    found = [(path, unfinished_attributes(path) or {}) for path in paths]
    found += [(None, read_attributes(path)) for path in existing(folder, name)]
    for begun, stored in found:
        size = tuple(stored.get("window_size") or ())
        # Early versions used the training patch as window, and recorded nothing.
        if size and stored.get("window_chosen", size == trained.facts.patch_size):
            yield _with_window(size, trained, root), stored, begun


def in_words(settings: Settings, shape: Sequence[int], root: Root) -> str:
    """The number and size of windows of a volume of `shape`, for the user."""
    count = math.prod(map(len, window_grid(shape, settings).starts))
    chosen = root.inference.window.window_size is None
    more = " (chosen; inference.window.window_size sets it)" if chosen else ""
    return f"{count} windows of {list(settings.window_size)}{more}"


def _check_crop(root: Root, settings: Settings) -> None:
    """The prediction always covers exactly the image; crop_pad may only say the same.

    The SNEMI pages subtract the longest offset of the channels in use from the pad at the start,
    because their first planes have no edge; that means the same extent.
    """
    crop_pad = root.inference.crop_pad
    if crop_pad is None:
        return
    for axis, pad in enumerate(settings.pad):
        lead, trail = crop_pad[2 * axis : 2 * axis + 2]
        short = {0, *(abs(offset[axis]) for offset in settings.offsets)}
        if not (pad - lead in short and trail == pad):
            raise UserError(
                f"inference.crop_pad {list(crop_pad)} does not crop the pad "
                f"{list(settings.pad)} back to the image's support; null derives it"
            )


def _with_window(size: tuple[int, ...], trained: Trained, root: Root) -> Settings:
    config, window, target = root.inference, root.inference.window, trained.target
    asked = config.test_time_augmentation
    tta = None
    if asked.enabled:
        chosen = views(asked.flip_axes or (), asked.rotation90_axes or ())
        tta = Ensemble(chosen, asked.ensemble_mode)
    return Settings(
        window_size=size,
        overlap=overlap_of(size, _least(trained, root), window.overlap),
        pad=config.pad,
        snap_to_edge=window.snap_to_edge,
        padding_mode=window.padding_mode,
        sw_batch_size=window.sw_batch_size,
        blending=window.blending,
        activation=config.activation,
        output_dtype=config.output_dtype,
        offsets=target.offsets or ((0, 0, 0),) * len(target.channels),
        edge_side=target.edge_side or "destination",
        channel_activations=target.activations,
        tta=tta,
    )


def _least(trained: Trained, root: Root) -> tuple[int, ...]:
    """The size that is set, the only one that the network takes, or the smallest choice."""
    size = root.inference.window.window_size or _fixed(trained)
    return size or least_window(trained.facts.patch_size, _stride(trained), _turned(root))


def _fixed(trained: Trained) -> tuple[int, ...] | None:
    fixed = getattr(trained.net, "volume_size", None)
    return None if fixed is None else tuple(fixed)


def _stride(trained: Trained) -> Sequence[int]:
    return getattr(trained.net, "stride", None) or (1, 1, 1)


def _turned(root: Root) -> list[tuple[int, int]]:
    augmentation = root.inference.test_time_augmentation
    return [*(augmentation.rotation90_axes or [])] if augmentation.enabled else []
