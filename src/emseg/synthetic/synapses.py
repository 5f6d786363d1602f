"""Synapses at contacts of two neurites: clefts, and the masks on both sides of them."""

import math
from dataclasses import dataclass

import edt
import numpy as np

from emseg.synthetic.appearance import draw_vesicles
from emseg.synthetic.neurites import balls_in

CONTACT_NM = 110.0  # radius of a synapse's patch of membrane
CLEFT_NM = 16.0  # depth of the cleft mask on either side of the contact
SIDE_NM = 75.0  # depth of the pre- and post-synaptic masks beyond the cleft
SMALLEST = 12  # voxels that each of the four parts must have
TRIES = 50  # for each synapse
VESICLES_PER_UM3 = 7000  # in a pre-synaptic side


@dataclass(frozen=True)
class Synapses:
    """Synapse s has `clefts == s` on both sides of a contact of two neurites.

    `pre == s` is inside label `partners[s][0]`, `post == s` inside label `partners[s][1]`; ids are
    uint32, from 1.
    """

    clefts: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    partners: dict[int, tuple[int, int]]


def place_synapses(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    voxel_size: np.ndarray,
    per_um3: float,
    rng: np.random.Generator,
) -> Synapses:
    """Synapses at random contacts of two neurites, which are drawn into the image (float32)."""
    synapses = Synapses(*(np.zeros(labels.shape, np.uint32) for _ in range(3)), partners={})
    wanted = round(per_um3 * labels.size * float(np.prod(voxel_size)) * 1e-9)
    apart = 2 * math.hypot(CONTACT_NM, CLEFT_NM + SIDE_NM)
    contacts = _contacts(labels, np.argsort(voxel_size, kind="stable")[:2])
    sites = np.empty((0, 3))
    # One in each slab along the first axis, so that the part for a test has some too.
    for slab in np.array_split(contacts, wanted) if wanted else []:
        for site, beyond in rng.permutation(slab)[:TRIES]:
            if (np.linalg.norm(sites - site * voxel_size, axis=1) < apart).any():
                continue
            pair = rng.permutation([labels[tuple(site)], labels[tuple(beyond)]])
            if _place(image, labels, synapses, site, pair, voxel_size, rng):
                sites = np.vstack([sites, site * voxel_size])
                break
    return synapses


def _contacts(labels: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(N, 2, 3): pairs of voxels along `axes` in two neurites, sorted by the first axis."""
    found = []
    for axis in axes:
        moved = np.moveaxis(labels, axis, 0)
        here, beyond = moved[:-1], moved[1:]
        place = np.argwhere((here != beyond) & (here > 0) & (beyond > 0))
        site = np.insert(place[:, 1:], axis, place[:, 0], axis=1)
        found.append(np.stack([site, site + (np.arange(3) == axis)], axis=1))
    pairs = np.concatenate(found)
    return pairs[pairs[:, 0, 0].argsort(kind="stable")]


def _place(
    image: np.ndarray,
    labels: np.ndarray,
    synapses: Synapses,
    site: np.ndarray,
    pair: np.ndarray,
    voxel_size: np.ndarray,
    rng: np.random.Generator,
) -> bool:
    """Makes a synapse at `site` if all its parts fit there, and returns whether it did."""
    (box, inside) = next(
        balls_in(labels.shape, [site * voxel_size], [CONTACT_NM], voxel_size=voxel_size)
    )
    in_pre, in_post = (labels[box] == name for name in pair)
    to_pre, to_post = (
        edt.edt(~cell, anisotropy=tuple(voxel_size.tolist()), parallel=1)
        for cell in (in_pre, in_post)
    )
    near = inside >= 0
    depth = max(CLEFT_NM, 1.01 * float(voxel_size.min()))
    cleft_pre = near & in_pre & (to_post <= depth)
    cleft_post = near & in_post & (to_pre <= depth)
    pre = near & in_pre & (to_post > depth) & (to_post <= depth + SIDE_NM)
    post = near & in_post & (to_pre > depth) & (to_pre <= depth + SIDE_NM)
    if min(np.count_nonzero(part) for part in (cleft_pre, cleft_post, pre, post)) < SMALLEST:
        return False
    number = len(synapses.partners) + 1
    synapses.partners[number] = int(pair[0]), int(pair[1])
    cleft = cleft_pre | cleft_post
    synapses.clefts[box][cleft] = number
    synapses.pre[box][pre] = number
    synapses.post[box][post] = number
    around = image[box]
    around[cleft] *= 0.5
    around[post] *= 1 - 0.45 * np.exp(-to_pre[post] / 30)
    chance = VESICLES_PER_UM3 * float(np.prod(voxel_size)) * 1e-9
    draw_vesicles(around, pre & (to_post > 2 * depth), chance, voxel_size, rng)
    return True
