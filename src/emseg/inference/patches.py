"""Patches of windows, read while the network predicts those before them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from emseg.inference.windows import WindowGrid
from emseg.volumes import Volume, read_padded
from emseg.volumes.padding import PaddingMode

Window = tuple[int, ...]


class Batch(NamedTuple):
    """Windows, their patches or predictions (N, C, *window), and which of them count."""

    windows: list[Window]
    values: torch.Tensor
    counts: list[bool]


@dataclass(frozen=True)
class Patches:
    """The network's input for windows of an image.

    Attributes:
        normalize: as of `predict_volume`.
        device: where patches are put.
        skip_empty: whether windows of a single grey value do not count.
        mask: of the image; windows in which it is all 0 do not count either.
    """

    image: Volume
    grid: WindowGrid
    normalize: Callable[[np.ndarray], np.ndarray]
    padding_mode: PaddingMode
    device: torch.device
    skip_empty: bool
    mask: Volume | None

    def ahead(self, batches: Iterable[list[Window]]) -> Iterator[Batch]:
        """The batches in order; the next one is read meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            started = (reader.submit(self._load, windows) for windows in batches)
            following = next(started, None)
            while following is not None:
                loading, following = following, next(started, None)
                yield loading.result()

    def _load(self, windows: list[Window]) -> Batch:
        patches, counts = [], []
        for window in windows:
            start = self.grid.corner(window)
            stop = [first + n for first, n in zip(start, self.grid.window, strict=True)]
            stored = read_padded(self.image, start, stop, mode=self.padding_mode)
            empty = self.skip_empty and stored.min() == stored.max()
            counts.append(not empty and not self._masked_out(start, stop))
            patches.append(self.normalize(stored).reshape(-1, *self.grid.window))
        batch = torch.from_numpy(np.stack(patches))
        if self.device.type == "cuda":  # with pinned memory the copy runs beside the network
            batch = batch.pin_memory()
        return Batch(windows, batch.to(self.device, non_blocking=True), counts)

    def _masked_out(self, start: Window, stop: list[int]) -> bool:
        if self.mask is None:
            return False
        first = [max(at, 0) for at in start]
        last = [min(at, size) for at, size in zip(stop, self.mask.shape, strict=True)]
        return not self.mask.read(first, last).any()
