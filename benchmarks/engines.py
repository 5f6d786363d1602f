"""Decoding by emseg and by waterz as other benchmarks measure it, each in a process of its own.

An input is a `.npy` file, loaded before the clock starts, or a `.h5` file, opened before: emseg
then reads it block by block, waterz needs it as a whole. Peaks are what /proc tells, hence Linux.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from affinities import (
    AFF_THRESHOLD,
    NEAREST,
    SIDE,
    describe,
    made_affinities,
    predicted_affinities,
)

from emseg.blocks.child import ChildWorker
from emseg.blocks.serving import output_to
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.evaluation import contingency
from emseg.evaluation.voi import split_and_merge
from emseg.volumes import Volume, from_array, open_volume, write_volume

ROUNDS = 3
# Seconds after which a slow peer is not run again.
LONG = 60.0
THRESHOLD = 0.5
NINE = [round(0.1 * step, 1) for step in range(1, 10)]
Decoder = Callable[[np.ndarray | Volume], np.ndarray]


def alone(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What the function returns in a fresh process: nothing is warm, nobody else's peak counts."""
    with ChildWorker() as child:
        return child.call(function, *arguments, **named)


def prepare(path: Path, shape: tuple[int, int, int] | None, origin: str | None) -> dict[str, float]:
    """`describe` of the affinities that are put at `path`, as `.npy` and as `.h5`.

    They are made of the real objects in the folder `origin`, or, without a shape, those of the
    prediction `origin`.
    """
    if shape is None:
        assert origin is not None
        affinities = predicted_affinities(origin)
    else:
        affinities = made_affinities(shape, origin)
    np.save(path.with_suffix(".npy"), affinities)
    write_volume(path.with_suffix(".h5"), affinities, axes="czyx", voxel_size=None, attributes={})
    return describe(affinities)


def prepare_noise(path: Path, shape: tuple[int, ...]) -> None:
    """Nothing; at `path` affinities of which each is drawn by itself: fragments without end."""
    noise = np.random.default_rng(0).random((3, *shape), np.float32)
    np.save(path.with_suffix(".npy"), noise)


def measure(
    engine: str,
    source: Path,
    result: Path | None,
    *,
    merge_function: str,
    threads: int | None = None,
    gib: float | None = None,
    queue: int = 0,
) -> tuple[float, float]:
    """(seconds from affinities to labels, GB at the peak above what a decode of a toy leaves).

    The peak includes the affinities where they are loaded. With one thread the process keeps to one
    core. `threads` and `gib`, the memory limit, are emseg's, `queue` (0 exact, 256 bins) waterz's.
    Labels are put at `result`.
    """
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if engine == "waterz":
        decode = waterz_decoder(merge_function, queue=queue)
    else:
        decode = emseg_decoder(merge_function, threads=threads, gib=gib)
    stored = source.suffix == ".h5"
    # Kernels are compiled, or loaded from numba's cache, before it counts.
    toy = np.random.default_rng(0).random((3, 16, 32, 32), np.float32)
    decode(from_array(toy, axes="czyx") if stored else toy)
    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak counts
    before = _memory("VmRSS")
    affinities = open_volume(source) if stored else np.load(source)
    start = time.perf_counter()
    labels = decode(affinities)
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM") - before
    if result is not None:
        np.save(result, labels.astype(np.uint32, copy=False))
    return seconds, peak


def emseg_decoder(
    merge_function: Any,
    aff_threshold: tuple[float, float] = AFF_THRESHOLD,
    threshold: float = THRESHOLD,
    *,
    threads: int | None = None,
    gib: float | None = None,
) -> Decoder:
    """A function from affinities to labels, by emseg."""
    return partial(
        agglomerate,
        thresholds=threshold,
        merge_function=merge_function,
        aff_threshold=aff_threshold,
        threads=threads,
        memory_limit=gib,
        offsets=NEAREST,
        edge_side=SIDE,
    )


def waterz_decoder(
    merge_function: str,
    aff_threshold: tuple[float, float] = AFF_THRESHOLD,
    threshold: float = THRESHOLD,
    *,
    queue: int = 0,
) -> Decoder:
    """A function from affinities to labels (uint64), by waterz, in this process and quietly."""
    import waterz

    score = "OneMinus<MeanAffinity<RegionGraphType,ScoreValue>>"
    if merge_function != "mean":
        quantile = merge_function.removeprefix("aff").removesuffix("_his256")
        histogram = f"HistogramQuantileAffinity<RegionGraphType,{quantile},ScoreValue,256,true>"
        score = f"OneMinus<{histogram}>"

    def decode(affinities: np.ndarray | Volume) -> np.ndarray:
        if isinstance(affinities, Volume):
            affinities = affinities.read((0, 0, 0), affinities.shape)
        with tempfile.TemporaryFile() as dropped, output_to(dropped.fileno()):
            [labels] = waterz.agglomerate(
                affinities,
                [threshold],
                aff_threshold_low=aff_threshold[0],
                aff_threshold_high=aff_threshold[1],
                scoring_function=score,
                discretize_queue=queue,
            )
        return np.asarray(labels)

    return decode


def sweep_seconds(source: Path, *, merge_function: str, threads: int) -> dict[str, float]:
    """Median seconds for one threshold, for the largest of nine alone, and for all the nine."""
    affinities = np.load(source)

    def timed(thresholds: list[float]) -> float:
        start = time.perf_counter()
        decoder = Agglomerate(
            merge_function=merge_function, aff_threshold=AFF_THRESHOLD, threads=threads
        )
        for _ in decoder.sweep(affinities, thresholds, offsets=NEAREST, edge_side=SIDE):
            pass
        return time.perf_counter() - start

    cases = {"one": [THRESHOLD], "largest": [NINE[-1]], "nine": NINE}
    timed(NINE)
    rounds = [{name: timed(case) for name, case in cases.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in cases}


def compare(one: Path, two: Path) -> tuple[int, int, float]:
    """(segments of one, segments of two, the variation of information between them in bits).

    Background counts as a segment like others: 0 bits say that the partitions are equal.
    """
    table = contingency(np.load(one, mmap_mode="r"), np.load(two, mmap_mode="r"))
    segments = [np.count_nonzero(np.unique(ids)) for ids in (table.segmentation, table.truth)]
    return int(segments[0]), int(segments[1]), sum(split_and_merge(table))


def _memory(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{entry}:")]
    return int(found.split()[1]) * 1024 / 1e9
