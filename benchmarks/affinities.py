"""Affinities of real objects, as a trained network predicts them: the input of other benchmarks.

    python benchmarks/affinities.py [--quick] [--data FOLDER] [--fib25 PREDICTION.h5]

prints what decides the cost of decoding them, beside the same of a network's own prediction.
FOLDER holds the real volumes (the default is what EMSEG_TEST_DATA names); without it the objects
are synthetic.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import edt
import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from emseg.blocks.store import MemoryStore
from emseg.decoding.agglomeration.limits import EdgeLimit
from emseg.decoding.agglomeration.supervoxels import find_supervoxels
from emseg.decoding.edges import axis_edges, destination_affinities
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import open_volume

NEAREST = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
SIDE: EdgeSide = "destination"
AFF_THRESHOLD = (0.1, 0.999)
SHAPE, QUICK = (64, 256, 256), (32, 128, 128)

# A logit is INSIDE far from all borders and lower by BORDER on one; in between it follows a bell of
# the distance, BLUR pixels wide, where a section is SECTION pixels thick. DOUBT is the standard
# deviation of a smooth noise that all axes share, OWN that of one that they do not share; both are
# a normal noise smeared over so many voxels.
#
# The noise is that of an RSUNet, trained on FIB-25 for 450 steps (100x250x250 voxels of its
# prediction). There logits are 2.5 inside and -2.2 on borders, with a bell of 1.9 voxels; those of
# two axes correlate by 0.96, those of neighbours by 0.97, five voxels apart by 0.68. This formula
# with (2.5, 4.7, 1.6, 0.35), blurs of 1.9, 3.5 and 2 voxels and FIB-25's objects, against the
# network's own prediction: 16.5 and 16.6 voxels per fragment, 5.0 and 4.2 edges per fragment, 0.33
# and 0.36 of affinities below 0.5, none and none above 0.999. A network that is trained to the end
# is surer: the same prediction with its logits three times as large has 95 voxels and 2.9 edges per
# fragment, 0.36 below 0.5 and 0.40 above 0.999. The numbers below lie between, at 64x256x256: 61
# voxels and 3.4 edges per fragment, 0.22 below 0.5 and 0.46 above 0.999.
INSIDE, BORDER, DOUBT, OWN = 8.5, 13.5, 2.0, 0.3
BLUR, SECTION = 1.4, 2.5
DOUBT_BLUR, OWN_BLUR = (1.5, 3.5, 3.5), (1.0, 2.5, 2.5)


def made_labels(shape: Sequence[int], data: str | None) -> tuple[np.ndarray, str]:
    """Objects uint32 (Z, Y, X), mirrored where the shape asks for more of them; their origin."""
    file = Path(data) / "pinky40" / "connectomics_512.h5" if data else None
    if file and file.is_file():
        with h5py.File(file) as stored:
            # Dense neurites; up to the section 320 most is one glia cell.
            labels, origin = stored["volumes/labels/neuron_ids"][-shape[0] :], "pinky40"
    else:
        # Not at the top: what it brings would slow the start of each measured process.
        from emseg.synthetic.synthesize import synthesize

        small = tuple(min(size, 256) for size in shape)
        labels, origin = synthesize(small, seed=0).labels, "synthetic"
    labels = labels[tuple(map(slice, shape))]
    beyond = [(0, size - there) for size, there in zip(shape, labels.shape, strict=True)]
    return np.pad(labels, beyond, mode="symmetric").astype(np.uint32), origin


def made_affinities(shape: Sequence[int], data: str | None) -> np.ndarray:
    """Probabilities float32 (3, Z, Y, X) that voxel v and the one before it are in one object."""
    labels, _ = made_labels(shape, data)
    rng = np.random.default_rng(0)
    distance = edt.edt(labels, anisotropy=(SECTION, 1, 1), black_border=False)
    logits = np.empty((3, *shape), np.float32)
    logits[:] = INSIDE + DOUBT * _noise(rng, shape, DOUBT_BLUR)
    for axis, logit in enumerate(logits):
        apart = np.diff(labels, axis=axis, prepend=labels.take([0], axis)) != 0
        # The distance is that to the next object's voxels; the border is half a voxel before it.
        away = np.where(apart, 0, np.maximum(distance - 0.5, 0))
        logit -= BORDER * np.exp(-np.square(away / BLUR) / 2)
        logit += OWN * _noise(rng, shape, OWN_BLUR)
    np.exp(-logits, out=logits)
    return np.divide(1, 1 + logits, out=logits)


def predicted_affinities(prediction: str | Path) -> np.ndarray:
    """The affinities of an emseg prediction file with the nearest neighbours, as those made."""
    volume = open_volume(prediction)
    offsets, side = volume.attributes["offsets"], volume.attributes["edge_side"]
    chosen = [offsets.index(list(offset)) for offset in NEAREST]
    values = volume.read((0, 0, 0), volume.shape, channels=chosen)
    return destination_affinities(values, axis_edges(NEAREST, side))


def describe(affinities: np.ndarray) -> dict[str, float]:
    """What decides the cost of decoding, and on how many voxels two right watersheds may differ."""
    shape = affinities.shape[1:]
    found = find_supervoxels(
        affinities,
        edges=axis_edges(NEAREST, SIDE),
        rule=AFF_THRESHOLD,
        histograms=False,
        store=MemoryStore(shape),
        block_shape=shape,
        threads=1,
        limit=EdgeLimit(2**40),
    )
    fragments = found.numbering.count
    return {
        "voxels_per_fragment": round(float(np.prod(shape)) / fragments, 1),
        "edges_per_fragment": round(len(found.graph.edges) / fragments, 2),
        "below_0.5": round(float((affinities < 0.5).mean()), 3),
        "above_0.999": round(float((affinities > 0.999).mean()), 3),
        "ties": count_ties(affinities),
    }


def count_ties(affinities: np.ndarray) -> int:
    """Voxels whose strongest affinities are equal, above the low and below the high threshold."""
    low, high = map(np.float32, AFF_THRESHOLD)
    outside = np.pad(affinities, [(0, 0), (0, 1), (0, 1), (0, 1)], constant_values=-1)
    # Of the first plane of an axis the pairs lead out of the volume.
    for axis in range(3):
        np.moveaxis(outside[axis], axis, 0)[0] = -1
    ties = 0
    for z in range(affinities.shape[1]):
        here = outside[:, z, :-1, :-1]
        after = outside[0, z + 1, :-1, :-1], outside[1, z, 1:, :-1], outside[2, z, :-1, 1:]
        around = np.stack([*here, *after])
        strongest = around.max(axis=0)
        between = (strongest > low) & (strongest < high)
        ties += int((between & ((around == strongest).sum(axis=0) > 1)).sum())
    return ties


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    parser.add_argument("--fib25", help="a network's prediction")
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else SHAPE
    found = {"x".join(map(str, shape)): describe(made_affinities(shape, arguments.data))}
    if arguments.fib25:
        found["fib25"] = describe(predicted_affinities(arguments.fib25))
    for name, facts in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in facts.items()))
    print(json.dumps({"benchmark": "affinities", **found}))


def _noise(
    rng: np.random.Generator, shape: Sequence[int], blur: tuple[float, float, float]
) -> np.ndarray:
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), blur)
    return noise / noise.std()


if __name__ == "__main__":
    main()
