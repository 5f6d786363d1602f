"""A study's volume, and its trials done in full: each decoded and scored by itself."""

import time
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from affinities import NEAREST, SIDE, made_affinities, made_labels
from engines import emseg_decoder, waterz_decoder

from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.voi import voi
from emseg.runs.artifacts import FORMAT_VERSION
from emseg.volumes import open_volume, write_volume

Parameters = dict[str, Any]
Scores = tuple[float, float]  # adapted Rand error, variation of information


def prepare_study(folder: Path, shape: tuple[int, int, int], data: str | None) -> None:
    """Nothing; the folder gets what a study needs: `prediction.h5` and `labels.h5`, the truth."""
    # Large ids, as pinky40 has, cost scikit-image time and memory.
    labels, _ = fastremap.renumber(made_labels(shape, data)[0])
    facts = {
        "format_version": FORMAT_VERSION,
        "fingerprint": f"{folder} {shape}",
        "kind": "prediction",
        "channels": ["z", "y", "x"],
        "offsets": [list(offset) for offset in NEAREST],
        "edge_side": SIDE,
        "step": 0,
    }
    affinities, where = made_affinities(shape, data), folder / "prediction.h5"
    folder.mkdir()
    write_volume(where, affinities, axes="czyx", voxel_size=None, attributes=facts)
    write_volume(folder / "labels.h5", labels, axes="zyx", voxel_size=None, attributes={})


def full_trials(
    engine: str, folder: Path, sets: list[Parameters], queue: int = 0
) -> list[tuple[float, Scores]]:
    """For each set its seconds and its (adapted Rand error, VOI), decoded and scored by itself.

    By waterz (its queue: 0 exact, 256 in bins) and scikit-image, or by emseg's own decoder and
    metrics. The volume is in memory.
    """
    affinities = open_volume(folder / "prediction.h5")[...]
    truth = open_volume(folder / "labels.h5")[...]
    decoders = []
    for each in sets:
        limits = (each["aff_threshold.0"], each["aff_threshold.1"])
        arguments = (each["merge_function"], limits, each["thresholds"])
        if engine == "waterz":
            decoders.append(waterz_decoder(*arguments, queue=queue))
        else:
            decoders.append(emseg_decoder(*arguments))
    evaluate = _by_scikit_image if engine == "waterz" else _by_emseg
    small = (slice(16), slice(32), slice(32))
    evaluate(decoders[0](np.ascontiguousarray(affinities[(slice(None), *small)])), truth[small])
    found = []
    for decode in decoders:
        start = time.perf_counter()
        scores = evaluate(decode(affinities), truth)
        found.append((time.perf_counter() - start, scores))
    return found


def _by_scikit_image(labels: np.ndarray, truth: np.ndarray) -> Scores:
    from skimage.metrics import adapted_rand_error, variation_of_information

    error, _, _ = adapted_rand_error(truth, labels, ignore_labels=(0,))
    return float(error), float(sum(variation_of_information(truth, labels, ignore_labels=(0,))))


def _by_emseg(labels: np.ndarray, truth: np.ndarray) -> Scores:
    error = adapted_rand(labels, truth, variant="skimage")["adapted_rand_skimage"]
    return error, voi(labels, truth)["voi_sum"]
