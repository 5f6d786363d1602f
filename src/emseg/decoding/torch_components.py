"""Connected components of a voxel graph on a device, by pointer jumping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from emseg.kernels.components import EDGE_BITS

if TYPE_CHECKING:
    import torch


def device_components(
    flags: np.ndarray, *, forward: tuple[bool, bool, bool], device: str | None = None
) -> np.ndarray:
    """What `edge_components` returns for the same flags, computed by torch on a device.

    `device` is torch's name of one; None is a GPU if there is one, else the CPU. Each voxel points
    to a voxel of its component that is not after it, at first to a neighbour. Pointers then jump to
    the ends of their chains, and edges between two ends join these, until no edge does: about the
    logarithm of a component's length in rounds. Takes some 40 bytes per voxel there.
    """
    import torch

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bits = torch.from_numpy(np.ascontiguousarray(flags)).to(place)
    shape = bits.shape
    pointers = torch.arange(bits.numel(), device=place).reshape(shape)
    foreground = bits != 0
    pairs = []
    for axis, bit in enumerate(EDGE_BITS):
        before, after = _sides(axis)
        on = (bits[before if forward[axis] else after] & bit) != 0
        foreground[before] |= on
        foreground[after] |= on
        pairs.append((before, after, on))
    for before, after, on in pairs:
        lower = torch.minimum(pointers[before], pointers[after])
        pointers[after] = torch.where(on, lower, pointers[after])
    ends = _jumped(pointers.reshape(-1))
    apart = []
    for before, after, on in pairs:
        one, two = (ends.reshape(shape)[side] for side in (before, after))
        on &= one != two
        apart.append(torch.stack([one[on], two[on]]))
    ends = _joined(ends, *torch.cat(apart, dim=1))
    first = foreground.reshape(-1) & (ends == torch.arange(len(ends), device=place))
    ranks = torch.cumsum(first, 0)
    labels = torch.where(foreground.reshape(-1), ranks[ends], 0)
    return labels.cpu().numpy().astype(_label_type(flags)).reshape(flags.shape)


def _joined(ends: torch.Tensor, ones: torch.Tensor, twos: torch.Tensor) -> torch.Tensor:
    """The ends after joining the edges from `ones` to `twos`, which are ends, too."""
    import torch

    while True:
        apart = ones != twos
        ones, twos = ones[apart], twos[apart]
        if not len(ones):
            return ends
        lower, upper = torch.minimum(ones, twos), torch.maximum(ones, twos)
        # An end points to an earlier one, so pointers never form a circle.
        ends = _jumped(ends.scatter_reduce(0, upper, lower, "amin"))
        ones, twos = ends[ones], ends[twos]


def _jumped(pointers: torch.Tensor) -> torch.Tensor:
    while True:
        further = pointers[pointers]
        if bool((further == pointers).all()):
            return pointers
        pointers = further


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    whole = [slice(None)] * axis
    return (*whole, slice(None, -1)), (*whole, slice(1, None))


def _label_type(flags: np.ndarray) -> type[np.unsignedinteger]:
    return np.uint32 if flags.size < 2**32 else np.uint64
