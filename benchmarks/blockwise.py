"""Decoding in blocks beside decoding the whole: labels, scores near the seams, time.

    python benchmarks/blockwise.py [--quick] [--data FOLDER]
    python benchmarks/blockwise.py --config TUTORIAL --checkpoint CKPT [--conf FOLDER] [KEY=VALUE …]

both with [--chunk Z Y X] [--seam Z Y X] [--out FOLDER]. With a tutorial it takes the volumes of
data.test, their predictions (made if they are not there), and the combinations of sweep.grid; else
affinities made of FOLDER's objects (see affinities.py; synthetic ones without it). Blocks wait on
the disk between the thresholds of a calibration, which all but the first find there.

Scores are of the volume (`full`), of what lies within the seam's width of a face between two chunks
(`seam`) and of the rest (`nonseam`). The files are those of dbMiM's blockwise report, and are
written to --out, or beside the predictions: blockwise_scale_records.json and .csv,
blockwise_scale_summary.json, blockwise_throughput.csv.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg.blocks.grid import grid
from emseg.config import check_targets, load
from emseg.datasets.dbmim_tables import MEASURED, WHOLE, check_publishable, measured, published
from emseg.decoding.agglomeration.section_fragments import region_of
from emseg.errors import UserError
from emseg.evaluation.means import Row, best_of, means_of, write_table
from emseg.runs.artifacts import write_json
from emseg.runs.folder_store import FolderStore
from emseg.stages.decode_job import DecodeJob, decoder_input, labels_by_value
from emseg.stages.scores import build_metrics, score, score_names
from emseg.stages.search_space import with_parameters
from emseg.stages.sweep import combinations
from emseg.stages.sweep_rows import Combination, flat
from emseg.stages.test import Session, decode_job, infer_sources, rehearsed_sources
from emseg.stages.truth import read_truth
from emseg.volumes import write_volume

Three = tuple[int, int, int]

CHUNK, SEAM, SHAPE = (32, 512, 512), (2, 16, 16), (64, 1024, 1024)
QUICK_CHUNK, QUICK_SEAM, QUICK_SHAPE = (12, 48, 64), (1, 4, 4), (32, 128, 128)
SCORED = (*MEASURED, "metrics_sec")
DECODER = {
    "_target_": "emseg.decoding.agglomerate.agglomerate",
    "thresholds": 0.5,
    "merge_function": "hist_quant_50",
    "fragments": "sections",
    "discretize_queue": 256,
    "backend": "numba",
    "biases": [0.0, 0.0, 0.0],
}
METRICS = {
    "voi": {"_target_": "emseg.evaluation.voi.voi"},
    "rand": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"},
    "counts": {"_target_": "emseg.evaluation.counts.counts"},
}
GRID = [({"biases": b}, ("thresholds", [0.3, 0.5])) for b in ([0.0, 0.0, 0.0], [-0.5, -1.0, -1.0])]


@dataclass(frozen=True)
class Sample:
    """A prediction to decode, and its truth (Z, Y, X), signed: -1 where it does not count."""

    name: str
    job: DecodeJob
    truth: np.ndarray


@dataclass(frozen=True)
class Study:
    """What is done to every sample: decoders, scores, the chunks and how wide their seams are."""

    combinations: Sequence[Combination]
    metrics: Sequence[partial]
    chunk: Three
    seam: Three


def main(words: Sequence[str] | None = None) -> None:
    arguments = _parse(words)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.config is None:
            folder = arguments.out
            samples, study = made_sample(arguments, Path(scratch))
        else:
            samples, study, folder = predicted_samples(arguments)
        records, throughput = compare(samples, study, Path(scratch))
    summary = summarize(records, throughput, study, n=len(samples))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "blockwise_scale_records.json", records)
        write_table(folder / "blockwise_scale_records.csv", records)
        write_table(folder / "blockwise_throughput.csv", throughput)
        write_json(folder / "blockwise_scale_summary.json", summary)
    for row in throughput:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    print(json.dumps({"benchmark": "blockwise", **outcome(records, throughput)}))


def predicted_samples(arguments: argparse.Namespace) -> tuple[list[Sample], Study, Path]:
    """A tutorial's test volumes, its sweep, and where its results are."""
    loaded = load(
        arguments.config, mode="sweep", overrides=arguments.overrides, conf=arguments.conf
    )
    check_targets(loaded, "sweep")
    root = loaded.root
    session = Session(loaded, force=False, verify=False, command="benchmarks/blockwise.py")
    sources = rehearsed_sources(session)
    metrics = build_metrics(root.evaluation.metrics)
    check_publishable(
        root.decoding,
        root.sweep.grid,
        name=root.sweep.name,
        scores=score_names(metrics),
        axes=[source.image.axes for source in sources],
        selected=root.inference.model.selected is not None,
    )
    found, _ = combinations(root.sweep, root.decoding, ())
    with ExitStack() as locks:
        predictions = infer_sources(session, arguments.checkpoint, sources, locks)
    samples = [
        Sample(one.name, decode_job(session, predictions[one.name]), _signed(read_truth(one)))
        for one in sources
    ]
    folder = arguments.out or next(iter(predictions.values())).parent
    return samples, Study(found, metrics, arguments.chunk, arguments.seam), folder


def made_sample(arguments: argparse.Namespace, scratch: Path) -> tuple[list[Sample], Study]:
    """Affinities of known objects, as a prediction file in the folder."""
    from affinities import NEAREST, SIDE, made_affinities, made_labels

    shape = QUICK_SHAPE if arguments.quick else SHAPE
    about = {
        "format_version": 1,
        "fingerprint": "made",
        "kind": "prediction",
        "channels": ["z", "y", "x"],
        "offsets": NEAREST,
        "edge_side": SIDE,
        "activation": "probability",
        "step": 0,
    }
    affinities, path = made_affinities(shape, arguments.data), scratch / "made_prediction.h5"
    write_volume(path, affinities, axes="czyx", voxel_size=None, attributes=about)
    labels, origin = made_labels(shape, arguments.data)
    sample = Sample(origin, DecodeJob(path, DECODER, None), _signed(labels))
    return [sample], Study(GRID, build_metrics(METRICS), arguments.chunk, arguments.seam)


def compare(samples: Sequence[Sample], study: Study, scratch: Path) -> tuple[list[Row], list[Row]]:
    """(records, throughput): a row a sample, combination, way to decode and region, and their time.

    A UserError where blocks give other labels than the whole.
    """
    records: list[Row] = []
    throughput: list[Row] = []
    for sample, (number, (arguments, swept)) in itertools.product(
        samples, enumerate(study.combinations)
    ):
        job = _with(sample.job, arguments)
        swept = swept or ("thresholds", [job.decoding["thresholds"]])
        store = FolderStore(scratch / f"{sample.name}_{number}", purpose={})
        ways = {"whole": _whole(job, swept), "blocks": _blocks(job, swept, study.chunk, store)}
        taken = dict.fromkeys(ways, 0.0)
        regions = regions_of(sample.truth, study.chunk, study.seam)
        row = {"sample": sample.name} | flat(arguments)
        for whole, blocks in zip(*ways.values(), strict=True):
            if not np.array_equal(whole[1], blocks[1]):
                raise UserError(f"{sample.name}: blocks of {study.chunk} give other labels")
            for way, (value, labels, seconds) in zip(ways, (whole, blocks), strict=True):
                taken[way] += seconds
                about = row | {swept[0]: value}
                for region, truth in regions.items():
                    told = published(about, job.decoding) | {"decoded": way, "region": region}
                    start = time.perf_counter()
                    found = score(labels, truth, metrics=study.metrics, voxel_size=None)
                    timed = {"metrics_sec": time.perf_counter() - start}
                    records.append(told | measured(found | {"seconds": seconds}) | timed)
        throughput += _throughput(published(row, job.decoding), sample, study, taken)
    return records, throughput


def seam_mask(shape: Sequence[int], chunk: Sequence[int], seam: Sequence[int]) -> np.ndarray:
    """Bool (Z, Y, X): voxels of which a face between two chunks is within the seam, per axis."""
    near = np.zeros(tuple(shape), np.bool_)
    for axis, (size, step, width) in enumerate(zip(shape, chunk, seam, strict=True)):
        marks = np.moveaxis(near, axis, 0)
        for face in range(step, size, step):
            marks[max(face - width, 0) : face + width] = True
    return near


def regions_of(truth: np.ndarray, chunk: Three, seam: Three) -> dict[str, np.ndarray]:
    """The truth of each region, -1 elsewhere; those without any object are left out."""
    near = seam_mask(truth.shape, chunk, seam)
    found = {
        "full": truth,
        "seam": np.where(near, truth, -1),
        "nonseam": np.where(near, -1, truth),
    }
    return {name: own for name, own in found.items() if (own > 0).any()}


def summarize(
    records: Sequence[Row], throughput: Sequence[Row], study: Study, *, n: int
) -> dict[str, Any]:
    """The means over `n` samples, and the best of each region that all of them have."""
    beside = {"sample", *SCORED, *WHOLE}
    columns = list(dict.fromkeys(name for row in records for name in row if name not in beside))
    scores = [name for name in SCORED if all(name in row for row in records)]
    means = means_of(records, columns, scores)
    best: dict[str, Any] = {}
    for region, (name, key) in itertools.product(
        ("full", "seam"), (("voi_sum", "voi_sum"), ("adapted_rand", "adapted_rand_error"))
    ):
        own = [m for m in means if m["region"] == region and m["decoded"] == "blocks"]
        best[f"best_{region}_by_{name}"] = best_of(own, key, "minimize", n=n)
    return {
        "chunk_size": study.chunk,
        "seam_width": study.seam,
        "num_records": len(records),
        "throughput_records": throughput,
        "per_group": means,
        **best,
    }


def outcome(records: Sequence[Row], throughput: Sequence[Row]) -> dict[str, Any]:
    """How much longer blocks take, and whether every score is the same."""
    seconds: dict[str, list[float]] = {"whole": [], "blocks": []}
    for row in throughput:
        seconds[row["decoded"]].append(row["postprocess_sec"])
    pairs = zip(seconds["whole"], seconds["blocks"], strict=True)
    timed = {"decoded", "postprocess_sec", "metrics_sec"}
    kept: dict[str, list[Row]] = {"whole": [], "blocks": []}
    for row in records:
        kept[row["decoded"]].append({k: v for k, v in row.items() if k not in timed})
    return {
        "ratios": {"whole_to_blocks": round(statistics.median(a / b for a, b in pairs), 2)},
        "equal": kept["whole"] == kept["blocks"],
    }


def _whole(job: DecodeJob, swept: Any) -> Iterator[tuple[Any, np.ndarray, float]]:
    name, values = swept
    start = time.perf_counter()
    for value, labels in labels_by_value(job, name, values):
        yield value, labels, time.perf_counter() - start
        start = time.perf_counter()


def _blocks(
    job: DecodeJob, swept: Any, chunk: Three, store: FolderStore
) -> Iterator[tuple[Any, np.ndarray, float]]:
    decoder, prediction, facts = decoder_input(job)
    name, values = swept
    for value in values:
        start = time.perf_counter()
        labels = np.empty(prediction.shape, np.uint32)
        one = replace(decoder, **{name: value})
        for block, part in one.blocks(prediction, store=store, block_shape=chunk, **facts):
            labels[block.slices] = part
        yield value, labels, time.perf_counter() - start


def _throughput(
    told: Row, sample: Sample, study: Study, taken: Mapping[str, float]
) -> Iterator[Row]:
    shape = sample.truth.shape
    blocks = grid(shape, study.chunk)
    regions = [region_of(block, shape) for block in blocks]
    read = sum(int(np.prod(np.subtract(stop, start))) for start, stop in regions)
    del told["threshold"]
    for way, seconds in taken.items():
        chunks = {f"chunk_{axis}": size for axis, size in zip("dhw", study.chunk, strict=True)}
        yield told | {
            "decoded": way,
            "num_chunks": len(blocks) if way == "blocks" else 1,
            **chunks,
            "seam_fraction": float(seam_mask(shape, study.chunk, study.seam).mean()),
            "total_voxels": sample.truth.size,
            "voxels_read": read if way == "blocks" else sample.truth.size,
            "postprocess_sec": round(seconds, 3),
            "voxels_per_sec": round(sample.truth.size / seconds),
        }


def _with(job: DecodeJob, arguments: Mapping[str, Any]) -> DecodeJob:
    decoding = with_parameters(job.decoding, arguments)
    return DecodeJob(job.prediction, decoding, job.select, job.allow, job.memory)


def _signed(truth: np.ndarray) -> np.ndarray:
    return truth.astype(np.int64, copy=False)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    add = parser.add_argument
    add("--quick", action="store_true", help="a small volume and small chunks")
    add("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    add("--config", type=Path, help="a tutorial with a sweep")
    add("--checkpoint", type=Path, help="its network")
    add("--conf", type=Path, action="append", default=[], help="more choices")
    add("--chunk", type=int, nargs=3, help="voxels of a chunk (32 512 512)")
    add("--seam", type=int, nargs=3, help="how far a seam reaches (2 16 16)")
    add("--out", type=Path, help="where the files go")
    add("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args(words)
    if (arguments.config is None) != (arguments.checkpoint is None):
        parser.error("--config and --checkpoint go together")
    arguments.chunk = tuple(arguments.chunk or (QUICK_CHUNK if arguments.quick else CHUNK))
    arguments.seam = tuple(arguments.seam or (QUICK_SEAM if arguments.quick else SEAM))
    return arguments


if __name__ == "__main__":
    main()
