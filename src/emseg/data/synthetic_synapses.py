"""Synapses of a synthetic volume: clefts at contacts, pre- and post-synaptic masks beside them."""

import math
import mmap
from dataclasses import dataclass

import edt
import numpy as np
from numba import njit

from emseg.data.synthetic_render import vesicle

CONTACT_NM = 110.0  # radius of the patch of membrane that a synapse takes
CLEFT_NM = 16.0  # depth of the cleft mask on either side of the contact
SIDE_NM = 75.0  # depth of the pre- and post-synaptic masks beyond the cleft
SMALLEST = 12  # voxels that each of the four parts must have
TRIES_PER_SYNAPSE = 12


@dataclass(frozen=True)
class Synapses:
    """Masks of synapse ids (from 1), and `partners`: id -> (pre label, post label)."""

    clefts: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    partners: dict[int, tuple[int, int]]


def place_synapses(
    raw: np.ndarray,
    labels: np.ndarray,
    *,
    voxel_size: np.ndarray,
    per_um3: float,
    key: int,
    rng: np.random.Generator,
) -> Synapses:
    """Synapses at random contacts of two neurites, painted into `raw` in place."""
    synapses = Synapses(*(_sparse_zeros(labels.shape) for _ in range(3)), partners={})
    wanted = int(round(per_um3 * labels.size * float(np.prod(voxel_size)) * 1e-9))
    apart = 2 * math.hypot(CONTACT_NM, CLEFT_NM + SIDE_NM)
    sites = np.empty((0, 3))
    for start in rng.integers(0, labels.shape, (wanted * TRIES_PER_SYNAPSE, 3)):
        if len(sites) == wanted:
            break
        toward = 1 + int(rng.integers(2))
        flipped = bool(rng.integers(2))
        site = _contact_from(labels, start, toward)
        if site is None:
            continue
        if (np.linalg.norm(sites - site * voxel_size, axis=1) < apart).any():
            continue
        if _place(raw, labels, synapses, site, toward, flipped, voxel_size, key):
            sites = np.vstack([sites, site * voxel_size])
    return synapses


def _sparse_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """uint32 zeros in small pages, which take memory only where something is written."""
    return np.frombuffer(mmap.mmap(-1, 4 * math.prod(shape)), np.uint32).reshape(shape)


def _contact_from(labels: np.ndarray, start: np.ndarray, axis: int) -> np.ndarray | None:
    """The last voxel before the next other neurite along `axis`, or None."""
    line = labels[start[0], start[1], start[2] :] if axis == 2 else labels[
        start[0], start[1] :, start[2]
    ]  # fmt: skip
    change = np.flatnonzero(line[1:] != line[:-1])
    if change.size == 0 or line[change[0]] == 0 or line[change[0] + 1] == 0:
        return None
    site = start.copy()
    site[axis] += change[0]
    return site


def _place(
    raw: np.ndarray,
    labels: np.ndarray,
    synapses: Synapses,
    site: np.ndarray,
    toward: int,
    flipped: bool,
    voxel_size: np.ndarray,
    key: int,
) -> bool:
    """Writes one synapse, unless a part of it would be too small."""
    half = np.ceil(CONTACT_NM / voxel_size).astype(int)
    low = np.maximum(site - half, 0)
    high = np.minimum(site + half + 1, labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    beyond = site.copy()
    beyond[toward] += 1
    names = int(labels[tuple(site)]), int(labels[tuple(beyond)])
    before, after = names[::-1] if flipped else names
    to_pre = _distance_to(labels[box], before, voxel_size)
    to_post = _distance_to(labels[box], after, voxel_size)
    offsets = np.ogrid[box]
    squared = sum(((o - c) * s) ** 2 for o, c, s in zip(offsets, site, voxel_size, strict=True))
    near = squared <= CONTACT_NM**2
    depth = max(CLEFT_NM, 1.01 * float(voxel_size.min()))
    in_pre, in_post = to_pre == 0, to_post == 0
    cleft_pre = near & in_pre & (to_post <= depth)
    cleft_post = near & in_post & (to_pre <= depth)
    pre = near & in_pre & (to_post > depth) & (to_post <= depth + SIDE_NM)
    post = near & in_post & (to_pre > depth) & (to_pre <= depth + SIDE_NM)
    if min(int(part.sum()) for part in (cleft_pre, cleft_post, pre, post)) < SMALLEST:
        return False
    number = len(synapses.partners) + 1
    synapses.partners[number] = before, after
    synapses.clefts[box][cleft_pre | cleft_post] = number
    synapses.pre[box][pre] = number
    synapses.post[box][post] = number
    _paint(raw[box], cleft_pre | cleft_post, pre, post, to_pre, low * voxel_size, voxel_size, key)
    return True


def _distance_to(labels: np.ndarray, name: int, voxel_size: np.ndarray) -> np.ndarray:
    elsewhere = np.ascontiguousarray(labels != name)
    return edt.edt(elsewhere, anisotropy=tuple(voxel_size.tolist()), black_border=False)


@njit(cache=True, nogil=True)
def _paint(raw, cleft, pre, post, to_pre, origin, voxel_size, key):
    """Dark cleft, a density fading into the post-synaptic side, vesicles on the other."""
    for z in range(raw.shape[0]):
        for y in range(raw.shape[1]):
            for x in range(raw.shape[2]):
                v = np.float32(raw[z, y, x])
                if cleft[z, y, x]:
                    v *= np.float32(0.5)
                elif post[z, y, x]:
                    v *= np.float32(1) - np.float32(0.45) * np.float32(
                        math.exp(-to_pre[z, y, x] / 30.0)
                    )
                elif pre[z, y, x]:
                    at_z = np.float32(origin[0] + z * voxel_size[0])
                    at_y = np.float32(origin[1] + y * voxel_size[1])
                    at_x = np.float32(origin[2] + x * voxel_size[2])
                    v += vesicle(at_z, at_y, at_x, np.float32(0.85), np.uint64(key))
                raw[z, y, x] = min(max(v, np.float32(0)), np.float32(255))
