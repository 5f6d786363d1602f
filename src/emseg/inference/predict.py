"""Predict a volume window by window, in memory that does not depend on its depth."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TypeVar, get_args

import numpy as np
import torch

from emseg.errors import UserError, unknown_name
from emseg.inference.accumulator import OutputDtype, WindowSum
from emseg.inference.activations import PROBABILITIES, Activation, activation_function, distances
from emseg.inference.blending import Blending
from emseg.inference.tta import Ensemble, Forward, merged_views
from emseg.inference.windows import WindowGrid, window_grid
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.symmetry import Offset
from emseg.progress import track
from emseg.volumes import Volume, from_array, read_padded
from emseg.volumes.padding import PaddingMode

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Window = tuple[int, ...]


def predict(
    net: Forward,
    volume: Volume | np.ndarray,
    *,
    channels: int,
    window_size: Sequence[int],
    normalize: Callable[[np.ndarray], np.ndarray],
    sw_batch_size: int = 1,
    overlap: float | Sequence[float] = 0.5,
    blending: Blending = "gaussian",
    padding_mode: PaddingMode = "reflect",
    snap_to_edge: bool = False,
    pad: Sequence[int] | None = None,
    activation: Activation = "sigmoid",
    channel_activations: Sequence[str] | None = None,
    output_dtype: OutputDtype = "float32",
    offsets: Sequence[Sequence[int]] | None = None,
    edge_side: EdgeSide = "destination",
    tta: Ensemble | None = None,
    device: torch.device | str = "cpu",
    accumulator_device: torch.device | str | None = None,
    autocast_dtype: torch.dtype | None = None,
    write: Callable[[int, np.ndarray], None] | None = None,
    first_plane: int = 0,
) -> np.ndarray | None:
    """The prediction, (channels, Z, Y, X) from `first_plane` on, or None if `write` is given.

    `net`, in eval mode, maps normalized values (by `normalize`), (N, C_in, *window) float32 on
    `device`, to logits (N, channels, *window). Windows (`window_grid`) are activated
    (`activation_function`), their views merged (`tta`) and blended (`weight_map`); given the
    channels' `offsets` (zero: no affinity), edges that leave a window count only if no window has
    them inside. uint8 is round(255 p). `write(start, planes)` gets finished planes in order; from
    `first_plane` on they equal those of an uninterrupted run. Raises UserError for bad arguments.
    """
    image = from_array(volume) if isinstance(volume, np.ndarray) else volume
    grid = window_grid(
        image.shape, window_size=window_size, overlap=overlap, pad=pad, snap_to_edge=snap_to_edge
    )
    check_options(output_dtype, activation, padding_mode, sw_batch_size, channel_activations)
    edges = _edges(offsets, edge_side, channels, len(grid.shape))
    activate = activation_function(activation, channel_activations)
    forward = _activated(net, activate, (channels, *grid.window), device, autocast_dtype)
    if tta is not None:
        forward = merged_views(forward, tta, window=grid.window, offsets=edges, edge_side=edge_side)
    sums = WindowSum(
        grid,
        blending=blending,
        offsets=edges,
        edge_side=edge_side,
        dtype=output_dtype,
        device=accumulator_device or device,
        first=first_plane,
    )
    load = partial(_load, image, grid, normalize, padding_mode, torch.device(device))
    blocks = _blocks(sums, forward, load, sw_batch_size)
    if write is None:
        return _collected(blocks, sums)
    for start, planes in blocks:
        write(start, planes)
    return None


def check_options(
    dtype: OutputDtype,
    activation: Activation,
    padding: PaddingMode,
    batch_size: int,
    channel_activations: Sequence[str] | None = None,
) -> None:
    """Raises UserError if settings of `predict` are unknown or contradict each other."""
    if batch_size < 1:
        raise UserError(f"inference.window.sw_batch_size {batch_size}: must be at least 1")
    if padding not in get_args(PaddingMode):
        raise unknown_name("padding_mode", padding, get_args(PaddingMode), where="inference.window")
    if dtype not in get_args(OutputDtype):
        raise unknown_name("output_dtype", dtype, get_args(OutputDtype), where="inference")
    if dtype == "uint8" and activation not in PROBABILITIES:
        raise UserError(
            f"inference.output_dtype uint8 holds probabilities, not activation '{activation}' "
            f"(allowed: activation {', '.join(PROBABILITIES)}, or output_dtype float16, float32)"
        )
    if dtype == "uint8" and distances(channel_activations):
        raise UserError(
            "inference.output_dtype uint8 holds probabilities, and channel "
            f"{distances(channel_activations)[0]} is a distance (allowed: float16, float32)"
        )


def _edges(
    offsets: Sequence[Sequence[int]] | None, edge_side: EdgeSide, channels: int, axes: int
) -> list[Offset]:
    if edge_side not in get_args(EdgeSide):
        raise unknown_name("edge_side", edge_side, get_args(EdgeSide))
    if offsets is None:
        return [(0,) * axes] * channels
    if len(offsets) != channels or any(len(offset) != axes for offset in offsets):
        raise UserError(
            f"offsets {list(offsets)}: must be one of {axes} voxels for each of {channels} channels"
        )
    return [tuple(offset) for offset in offsets]


def _activated(
    net: Forward,
    activate: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    device: torch.device | str,
    autocast_dtype: torch.dtype | None,
) -> Forward:
    kind = torch.device(device).type

    def forward(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            logits = net(batch)
        if logits.shape[1:] != shape:
            raise UserError(
                f"network output of shape {tuple(logits.shape[1:])}: must be {shape}, the "
                "channels and the window"
            )
        return activate(logits.float())

    return forward


def _load(
    image: Volume,
    grid: WindowGrid,
    normalize: Callable[[np.ndarray], np.ndarray],
    padding_mode: PaddingMode,
    device: torch.device,
    windows: list[Window],
) -> torch.Tensor:
    patches = []
    for window in windows:
        start = grid.corner(window)
        stop = [first + n for first, n in zip(start, grid.window, strict=True)]
        patch = normalize(read_padded(image, start, stop, mode=padding_mode))
        patches.append(patch.reshape(-1, *grid.window))
    batch = torch.from_numpy(np.stack(patches))
    # With pinned memory the copy runs at the same time as the network.
    return (batch.pin_memory() if device.type == "cuda" else batch).to(device, non_blocking=True)


@torch.inference_mode()
def _blocks(
    sums: WindowSum,
    forward: Forward,
    load: Callable[[list[Window]], torch.Tensor],
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    grid = sums.grid
    rows, depth = grid.starts[0], grid.shape[0]
    needed = [i for i, start in enumerate(rows) if min(start + grid.window[0], depth) > sums.next]
    batches = [batch for row in needed for batch in grid.batches(row, batch_size)]
    total = len(rows) * len(grid.batches(0, batch_size))
    loaded = track(
        _ahead(batches, load),
        total=total,
        done=total - len(batches),
        label="predict",
        unit="voxel",
        each=math.prod(grid.shape) / total,
    )
    for row, batches_of_row in groupby(loaded, key=lambda pair: pair[0][0][0]):
        for windows, batch in batches_of_row:
            values = forward(batch).to(sums.sums.device)
            for window, patch in zip(windows, values, strict=True):
                sums.add(window, patch)
        yield from sums.take(rows[row + 1] if row + 1 < len(rows) else depth)


def _ahead(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[tuple[Item, Loaded]]:
    """Each item with the result of `load`, which already runs for the next item."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        started = ((item, reader.submit(load, item)) for item in items)
        following = next(started, None)
        while following is not None:
            (item, loading), following = following, next(started, None)
            yield item, loading.result()


def _collected(blocks: Iterable[tuple[int, np.ndarray]], sums: WindowSum) -> np.ndarray:
    first = sums.next
    depth, *section = sums.grid.shape
    result = np.empty((len(sums.sums), depth - first, *section), sums.dtype)
    for start, planes in blocks:
        result[:, start - first : start - first + planes.shape[1]] = planes
    return result
