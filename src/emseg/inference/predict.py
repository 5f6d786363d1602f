"""Predict a volume window by window, in memory that does not depend on its depth."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby

import numpy as np
import torch

from emseg.data.target_facts import ChannelActivation
from emseg.errors import UserError
from emseg.inference.accumulator import WindowSum
from emseg.inference.patches import Batch, Patches
from emseg.inference.settings import (
    Activation,
    Blending,
    Ensemble,
    OutputDtype,
    Settings,
)
from emseg.inference.tta import Forward, merged_views
from emseg.inference.windows import Span, window_grid
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.symmetry import Offset
from emseg.progress import track
from emseg.volumes import Volume, from_array
from emseg.volumes.padding import PaddingMode


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
    channel_activations: Sequence[ChannelActivation] | None = None,
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

    Args:
        net, normalize, device, ... write: see `predict_volume`; an array is (Z, Y, X).
        channels: of the network's output. The other arguments, from `window_size`: see `Settings`.

    Raises:
        UserError: arguments are out of range or do not fit, or the network's output is not finite.
    """
    settings = Settings(
        window_size=tuple(window_size),
        overlap=overlap if isinstance(overlap, int | float) else tuple(overlap),
        pad=() if pad is None else tuple(pad),
        snap_to_edge=snap_to_edge,
        padding_mode=padding_mode,
        sw_batch_size=sw_batch_size,
        blending=blending,
        activation=activation,
        output_dtype=output_dtype,
        offsets=_offsets(offsets, channels, len(window_size)),
        edge_side=edge_side,
        channel_activations=tuple(channel_activations) if channel_activations else None,
        tta=tta,
    )
    return predict_volume(
        net,
        from_array(volume) if isinstance(volume, np.ndarray) else volume,
        settings,
        normalize=normalize,
        device=device,
        accumulator_device=accumulator_device,
        autocast_dtype=autocast_dtype,
        write=write,
        region=[(first_plane * (axis == 0), size) for axis, size in enumerate(volume.shape)],
    )


def predict_volume(
    net: Forward,
    image: Volume,
    settings: Settings,
    *,
    normalize: Callable[[np.ndarray], np.ndarray],
    device: torch.device | str = "cpu",
    accumulator_device: torch.device | str | None = None,
    autocast_dtype: torch.dtype | None = None,
    write: Callable[[int, np.ndarray], None] | None = None,
    region: Sequence[Span] | None = None,
    skip_empty: bool = False,
    mask: Volume | None = None,
    lanes: int | None = None,
) -> np.ndarray | None:
    """The prediction (channels, Z, Y, X) of the region, or None if `write` is given.

    Args:
        net: in eval mode, maps (N, C_in, *window) float32 on `device` to logits
            (N, channels, *window).
        settings: all else that decides the values.
        normalize: maps a patch as stored to float32 values for the network, of the same shape.
        accumulator_device: where windows are summed; None: `device`.
        autocast_dtype: of the network's mixed precision; None: without.
        write: gets finished planes in order, as `write(start, planes)`, planes (channels, 1, Y, X)
            of the region.
        region: (start, stop) for each axis, None: all; its values are those of the whole volume.
        skip_empty: whether windows of a single grey value are not computed and count as 0.
        mask: of the image; windows in which it is all 0 are not computed either.
        lanes: how many batches a CPU predicts at a time, which share its threads; None: one for
            each thread, so that values do not depend on the number of threads.

    Raises:
        UserError: image and window do not fit, or the network's output has another shape or is
            not finite.
    """
    grid = window_grid(image.shape, settings)
    forward = _activated(net, settings, torch.device(device).type, autocast_dtype)
    forward = merged_views(forward, settings)
    sums = WindowSum(
        grid,
        settings,
        device=accumulator_device or device,
        region=region or [(0, size) for size in grid.shape],
    )
    patches = Patches(
        image, grid, normalize, settings.padding_mode, torch.device(device), skip_empty, mask
    )
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    lanes = min(threads if lanes is None else lanes, threads)
    forward_in_order = partial(_in_lanes, forward=forward, lanes=lanes, threads=threads // lanes)
    blocks = _blocks(sums, forward_in_order, patches, settings.sw_batch_size)
    if write is None:
        return _collected(blocks, sums)
    for start, planes in blocks:
        write(start, planes)
    return None


def _offsets(
    offsets: Sequence[Sequence[int]] | None, channels: int, axes: int
) -> tuple[Offset, ...]:
    if offsets is None:
        return ((0,) * axes,) * channels
    if len(offsets) != channels:
        raise UserError(f"offsets {offsets}: must be one for each of {channels} channels")
    return tuple(map(tuple, offsets))


def _activated(
    net: Forward, settings: Settings, device: str, autocast_dtype: torch.dtype | None
) -> Forward:
    """The network with its activations, in float32."""
    shape = (len(settings.offsets), *settings.window_size)
    scale = 0.2 if settings.activation == "scale_sigmoid" else 1.0

    def forward(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            logits = net(batch)
        if logits.shape[1:] != shape:
            raise UserError(
                f"network output of shape {tuple(logits.shape[1:])}: must be {shape}, the "
                "channels and the window"
            )
        logits = logits.float()
        if settings.activation == "none":
            return logits
        values = torch.sigmoid(logits if scale == 1 else scale * logits)
        if settings.distances:
            values[:, settings.distances] = torch.tanh(logits[:, settings.distances])
        return values

    return forward


@torch.inference_mode()
def _blocks(
    sums: WindowSum,
    forward: Callable[[Iterator[Batch]], Iterator[Batch]],
    patches: Patches,
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    grid, (first, stop) = sums.grid, sums.region[0]
    rows, across = grid.starts[0], [(-grid.window[0], stop), *sums.region[1:]]
    # Batches are those of the whole volume, since a value's last bits depend on what is beside it.
    of_first_row = [
        batch
        for batch in grid.batches(0, batch_size)
        if any(grid.meets(window, across) for window in batch)
    ]
    needed = [row for row, start in enumerate(rows) if start < stop]
    total = len(needed) * len(of_first_row)
    needed = [row for row in needed if rows[row] + grid.window[0] > first]
    batches = ([(row, *at) for _, *at in batch] for row in needed for batch in of_first_row)
    predicted = track(
        forward(patches.ahead(batches)),
        total=total,
        done=total - len(needed) * len(of_first_row),
        label="predict",
        unit="voxel",
        each=stop * math.prod(sums.sums.shape[2:]) / total,
    )
    for row, batches_of_row in groupby(predicted, key=lambda batch: batch.windows[0][0]):
        for windows, values, counts in batches_of_row:
            values = values.to(sums.sums.device)
            for window, patch, counted in zip(windows, values, counts, strict=True):
                if counted:
                    sums.add(window, patch)
        yield from sums.take(min(rows[row + 1], stop) if row + 1 < len(rows) else stop)


def _in_lanes(
    loaded: Iterator[Batch], *, forward: Forward, lanes: int, threads: int
) -> Iterator[Batch]:
    """Each batch with its prediction, in order; so many threads for each lane.

    Several threads for one batch wait for each other, and sum in an order that depends on their
    number.
    """

    @torch.inference_mode()
    def predicted(batch: Batch) -> Batch:
        return batch._replace(values=forward(batch.values)) if any(batch.counts) else batch

    if lanes == 1:
        yield from map(predicted, loaded)
        return
    running: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (threads,)) as pool:
        for batch in loaded:
            running.append(pool.submit(predicted, batch))
            if len(running) > lanes:
                yield running.popleft().result()
        for one in running:
            yield one.result()


def _collected(blocks: Iterable[tuple[int, np.ndarray]], sums: WindowSum) -> np.ndarray:
    first = sums.next
    channels, _, *section = sums.sums.shape
    result = np.empty((channels, sums.stop - first, *section), sums.dtype)
    for start, planes in blocks:
        result[:, start - first : start - first + planes.shape[1]] = planes
    return result
