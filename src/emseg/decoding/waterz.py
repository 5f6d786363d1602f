"""Watershed and agglomeration by the waterz package."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from emseg.blocks.capture import output_to
from emseg.decoding.edges import check_prediction, check_values, destination_affinities
from emseg.decoding.sweep import Sweep
from emseg.errors import UserError, unknown_name
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.components import renumber

# What the package brings compiled: no compiler is ever asked for.
MergeFunction = Literal[
    "mean",
    "aff10_his256",
    "aff15_his256",
    "aff20_his256",
    "aff25_his256",
    "aff30_his256",
    "aff35_his256",
    "aff40_his256",
    "aff45_his256",
    "aff50_his256",
    "aff55_his256",
    "aff60_his256",
    "aff65_his256",
    "aff70_his256",
    "aff75_his256",
    "aff80_his256",
    "aff85_his256",
    "aff90_his256",
    "aff95_his256",
]


def waterz(
    prediction: np.ndarray,
    *,
    thresholds: float = 0.5,
    merge_function: MergeFunction = "aff85_his256",
    aff_threshold: tuple[float, float] = (0.1, 0.999),
    dust_remove_size: int = 0,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> np.ndarray:
    """Labels (Z, Y, X) of a watershed's fragments, merged while their score is below a threshold.

    `prediction` (3, Z, Y, X) holds probabilities that a pair lies in one object: float32, float16
    or uint8 (0 to 255); one channel per axis, in any order, as `axis_edges` has it. Fragments
    join voxels over edges of at least `aff_threshold[1]` and each voxel to its strongest edge;
    a voxel with no edge above `aff_threshold[0]` is background, 0 (0 <= low < high <= 1). The
    score of two fragments is 1 - s, where s is, for `mean`, the mean affinity between them, for
    `affQ_his256` the Q-th percentile of a histogram of 256 bins that begins with the largest
    affinity of a contact and grows by merging; `thresholds`, in [0, 1], is where merging stops (a
    larger one merges more, 0 leaves the fragments). Segments of fewer than `dust_remove_size`
    voxels become 0.

    Labels are numbered 1, 2, … by their first voxel in C order: uint32, or uint64 for 2^32 voxels
    and more. The queue of merges is exact, not one of 256 bins (waterz: discretize_queue=0), as
    PyTorch Connectomics has it. What waterz prints on standard output is dropped; that is a matter
    of the whole process, so call it from one thread only.

    Funke et al., "Large scale image segmentation with structured loss", TPAMI 2019; waterz 0.10.
    """
    sweep = waterz_sweep(
        prediction,
        thresholds=[thresholds],
        merge_function=merge_function,
        aff_threshold=aff_threshold,
        dust_remove_size=dust_remove_size,
        offsets=offsets,
        edge_side=edge_side,
    )
    return next(sweep)[1]


def waterz_sweep(
    prediction: np.ndarray,
    *,
    thresholds: Sequence[float],
    merge_function: MergeFunction = "aff85_his256",
    aff_threshold: tuple[float, float] = (0.1, 0.999),
    dust_remove_size: int = 0,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, labels) as of `waterz`, thresholds ascending, for about the cost of the last.

    All of them share one watershed, one region graph and one run of merges.
    """
    check_prediction(prediction, offsets=offsets)
    check_values([prediction], prediction.dtype)
    low, high = _checked(thresholds, merge_function, aff_threshold, dust_remove_size)
    affinities = destination_affinities(prediction, offsets=offsets, edge_side=edge_side)
    ascending = sorted(set(thresholds))
    segmentations = _agglomerate(affinities, ascending, merge_function, low, high)
    for threshold, segmentation in zip(ascending, segmentations, strict=True):
        # waterz goes on in the array that it yields; these numbers are in one of the caller's own.
        yield threshold, renumber(segmentation, min_size=dust_remove_size)


SWEEP = Sweep(decoder=waterz, argument="thresholds", function=waterz_sweep)


def _agglomerate(
    affinities: np.ndarray,
    thresholds: Sequence[float],
    merge_function: str,
    low: float,
    high: float,
) -> Iterator[np.ndarray]:
    from waterz import agglomerate

    segmentations: Iterator[Any] = agglomerate(
        affinities,
        thresholds,
        aff_threshold_low=low,
        aff_threshold_high=high,
        scoring_function=_scoring(merge_function),
        discretize_queue=0,
    )
    for _ in thresholds:
        # Around each step alone: between two of them the caller's output is the caller's.
        with tempfile.TemporaryFile() as dropped, output_to(dropped.fileno(), streams=("stdout",)):
            segmentation = next(segmentations)
        yield segmentation


def _scoring(merge_function: str) -> str:
    if merge_function == "mean":
        return "OneMinus<MeanAffinity<RegionGraphType,ScoreValue>>"
    quantile = merge_function.removeprefix("aff").removesuffix("_his256")
    return f"OneMinus<HistogramQuantileAffinity<RegionGraphType,{quantile},ScoreValue,256,true>>"


def _checked(
    thresholds: Sequence[float],
    merge_function: str,
    aff_threshold: Sequence[float],
    dust_remove_size: int,
) -> tuple[float, float]:
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise UserError(f"decoding.thresholds is {threshold}; scores lie in [0, 1]")
    allowed = get_args(MergeFunction)
    if merge_function not in allowed:
        raise unknown_name(
            "merge function", merge_function, allowed, where="decoding.merge_function"
        )
    if len(aff_threshold) != 2 or not 0 <= aff_threshold[0] < aff_threshold[1] <= 1:
        raise UserError(
            f"decoding.aff_threshold is {list(aff_threshold)}; it is [low, high] with "
            "0 <= low < high <= 1"
        )
    if dust_remove_size < 0:
        raise UserError(f"decoding.dust_remove_size is {dust_remove_size}; it is 0 or more voxels")
    return float(aff_threshold[0]), float(aff_threshold[1])
