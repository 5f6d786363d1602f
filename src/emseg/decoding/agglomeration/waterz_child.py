"""The waterz package in a child process, which isolates its output, memory and crashes."""

import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.errors import UserError

# The scores that the package contains in compiled form, so that no compiler is needed.
_HISTOGRAM = "OneMinus<HistogramQuantileAffinity<RegionGraphType,{},ScoreValue,256,{}>>"
_SCORES = {"mean": "OneMinus<MeanAffinity<RegionGraphType,ScoreValue>>"}
for _quantile in range(10, 100, 5):
    _SCORES[f"aff{_quantile}_his256"] = _HISTOGRAM.format(_quantile, "true")
    _SCORES[f"hist_quant_{_quantile}"] = _HISTOGRAM.format(_quantile, "false")

# Scores are 0 or more, so that waterz yields the fragments at this threshold.
_BEFORE_ALL_MERGES = -1.0


def waterz_partitions(
    affinities: np.ndarray,
    thresholds: Sequence[float],
    *,
    merge_function: str,
    aff_threshold: tuple[float, float],
    discretize_queue: Literal[0, 256] = 0,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    fragments: np.ndarray | None = None,
) -> tuple[np.ndarray, list[tuple[float, np.ndarray]]]:
    """(fragments, [(threshold, roots)]) by waterz: its watershed, and which fragments it merges.

    `affinities` are of `destination_affinities`; `thresholds` ascend. Fragments are uint32 (uint64
    for 2^32 voxels and more), numbered by their first voxel in C order, 0 is background. `roots`
    has an entry per id: the smallest id of a fragment of the same segment. Given `fragments` (any
    unsigned integers) replace the watershed; only gaps between their ids are closed. Arrays are
    exchanged through a temporary folder, 16 bytes per voxel, which is always removed.

    Raises:
        UserError: waterz, whose output is dropped, takes more than `time_limit` seconds, without
            imports, or `memory_limit` bytes, with its input (Linux only), or crashes.
    """
    if list(thresholds) != sorted(set(thresholds)):
        raise ValueError(f"the thresholds {list(thresholds)} do not ascend")
    score = (_SCORES[merge_function], discretize_queue)
    with tempfile.TemporaryDirectory(prefix="emseg-waterz-") as name, ChildWorker() as child:
        folder = Path(name)
        try:
            np.save(folder / "affinities.npy", affinities)
            if fragments is not None:
                np.save(folder / "given.npy", _without_gaps(fragments))
            child.call(warm_up, *score)
            child.call(
                run_waterz,
                folder,
                [_BEFORE_ALL_MERGES, *thresholds],
                aff_threshold,
                *score,
                timeout=time_limit,
                memory_limit=memory_limit,
            )
        except (MemoryError, ChildCrash, OSError) as error:
            raise _explained(error, child.output, time_limit, memory_limit) from error
        roots = [np.load(folder / f"roots_{index}.npy") for index in range(len(thresholds))]
        return np.load(folder / "fragments.npy"), list(zip(thresholds, roots, strict=True))


def warm_up(scoring_function: str, discretize_queue: int) -> None:
    """Imports all that waterz needs, before the limits apply."""
    from waterz import agglomerate

    # Makes a generator, which is never started.
    nothing = np.zeros((3, 1, 1, 1), np.float32)
    agglomerate(nothing, [], scoring_function=scoring_function, discretize_queue=discretize_queue)


def run_waterz(
    folder: Path,
    thresholds: Sequence[float],
    aff_threshold: tuple[float, float],
    scoring_function: str,
    discretize_queue: int,
) -> None:
    """Writes fragments.npy and roots_*.npy from affinities.npy (and given.npy) in the folder.

    The segmentation at the first threshold is the fragments; each other one has a file of roots.
    """
    from waterz import agglomerate

    given = folder / "given.npy"
    segmentations: Any = agglomerate(
        np.load(folder / "affinities.npy", mmap_mode="r"),
        thresholds,
        fragments=np.load(given).astype(np.uint64, copy=False) if given.exists() else None,
        aff_threshold_low=aff_threshold[0],
        aff_threshold_high=aff_threshold[1],
        scoring_function=scoring_function,
        discretize_queue=discretize_queue,
    )
    fragments = next(segmentations)
    dtype = np.uint32 if fragments.size < 2**32 else np.uint64
    np.save(folder / "fragments.npy", fragments.astype(dtype))
    voxels = _voxel_of_each(fragments)
    # waterz yields the same array each time, with more merged.
    for index, segmentation in enumerate(segmentations):
        # waterz merges the larger id into the smaller, so a segment's id is its smallest fragment.
        roots = segmentation.reshape(-1)[voxels].astype(dtype)
        roots[0] = 0
        np.save(folder / f"roots_{index}.npy", roots)


def _voxel_of_each(fragments: np.ndarray) -> np.ndarray:
    voxels = np.zeros(int(fragments.max()) + 1, np.int64)
    plane = fragments[0].size
    # Plane by plane, so that the table of indices is short.
    for z, ids in enumerate(fragments):
        voxels[ids.reshape(-1)] = np.arange(z * plane, (z + 1) * plane)
    return voxels


def _without_gaps(fragments: np.ndarray) -> np.ndarray:
    known, where = np.unique(fragments, return_inverse=True)
    first = int(known[0] != 0)
    if known[-1] == len(known) - 1 + first:
        return fragments
    # In the order of the ids, since waterz breaks ties by ids.
    return (where.reshape(fragments.shape) + first).astype(np.uint64)


def _explained(
    error: Exception, printed: str, time_limit: float | None, memory_limit: int | None
) -> UserError:
    fewer = (
        "make fewer fragments (a larger decoding.aff_threshold[0], smoother affinities) or take "
        "decoding.backend=numba"
    )
    if isinstance(error, TimeoutError):
        return UserError(
            f"waterz needs more than decoding.time_limit, {time_limit:g} s; raise it, {fewer}"
        )
    # An allocation that fails in C++ ends the process, after a message by C++ or the loader.
    if isinstance(error, MemoryError) or re.search("bad_alloc|cannot allocate memory", printed):
        if memory_limit is None:
            return UserError(f"waterz ran out of memory; {fewer}")
        return UserError(
            f"waterz needs more than decoding.memory_limit, {memory_limit / 2**30:.3g} GiB; "
            f"raise it, {fewer}"
        )
    if isinstance(error, ChildCrash):
        last = " | ".join(printed.strip().splitlines()[-3:])
        short = error.exitcode == -signal.SIGKILL
        hint = f" (perhaps because memory ran out; {fewer})" if short else ""
        return UserError(f"decoding.backend=waterz: {error}{hint}; printed last: {last or '-'}")
    return UserError(
        f"waterz takes its arrays from a folder in {tempfile.gettempdir()}, which failed: {error}; "
        "set TMPDIR to one with 16 bytes free per voxel"
    )
