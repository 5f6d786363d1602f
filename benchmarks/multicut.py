"""Multicut beside watershed and agglomeration on one prediction, each tuned on other sections.

    python benchmarks/multicut.py --prediction FILE --truth FILE:DATASET [--tune 160 200]
                                  [--test 200 250] [--rounds N]
    python benchmarks/multicut.py --quick

Sections (axis 0) are numbered as in the truth; the prediction may begin later, as its offset says.
What a decoder sweeps is chosen by adapted Rand error on the sections to tune on; scored and timed
are the sections to test on, decoded by themselves. Adapted Rand and VOI (bits) are scikit-image's,
truth 0 left out. Predictions with longer offsets also go to lifted multicut and mutex watershed.
`--quick` makes cells with noise instead. Energies are those of the costs that multicut cuts.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import adapted_rand_error, variation_of_information

from emseg.decoding.agglomerate import Agglomerate
from emseg.decoding.cut_costs import cut_costs, cut_energy
from emseg.decoding.cut_solvers import solve
from emseg.decoding.lifted_multicut import LiftedMulticut
from emseg.decoding.multicut import Multicut
from emseg.decoding.mutex_watershed import mutex_watershed
from emseg.kernels.affinity import EdgeSide, affinities, erode_labels
from emseg.volumes import open_volume

ROUNDS = 3
BETAS = [0.05, *(round(0.1 * step, 1) for step in range(1, 10))]
THRESHOLDS = [round(0.05 * step, 2) for step in range(2, 19)]
WEIGHTS = (0.1, 0.3, 1.0)
STRIDES = ((1, 10, 10), (4, 4, 4))
OFFSETS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (6, 0, 0), (0, 6, 0), (0, 0, 6)]
Labels = Iterator[tuple[Any, np.ndarray]]


@dataclass(frozen=True)
class Part:
    """Affinities (C, Z, Y, X) of some sections, all channels, and their truth (Z, Y, X)."""

    prediction: np.ndarray
    truth: np.ndarray
    offsets: Sequence[Sequence[int]]
    edge_side: EdgeSide

    @property
    def near(self) -> dict[str, Any]:
        """The nearest channels alone, as decoders take them."""
        lengths = [np.abs(offset).sum() for offset in self.offsets]
        chosen = [channel for channel, length in enumerate(lengths) if length == 1]
        offsets = [self.offsets[channel] for channel in chosen]
        own = np.ascontiguousarray(self.prediction[chosen])
        return {"prediction": own, "offsets": offsets, "edge_side": self.edge_side}

    @property
    def all(self) -> dict[str, Any]:
        return {
            "prediction": self.prediction,
            "offsets": self.offsets,
            "edge_side": self.edge_side,
        }


def by_agglomerate(part: Part, values: Sequence[float], **arguments: Any) -> Labels:
    return Agglomerate(**arguments).sweep(values=values, **part.near)


def by_multicut(part: Part, values: Sequence[float], **arguments: Any) -> Labels:
    return Multicut(**arguments).sweep(values=values, **part.near)


def by_lifted(part: Part, values: Sequence[float], *, lifted_weight: float) -> Labels:
    return LiftedMulticut(lifted_weight=lifted_weight).sweep(values=values, **part.all)


def by_mutex(part: Part, values: Sequence[tuple[int, int, int]]) -> Labels:
    for strides in values:
        yield strides, mutex_watershed(**part.all, strides=strides)


SECTIONS = {"fragments": "sections", "merge_function": "hist_quant_50", "discretize_queue": 256}
NEAR: dict[str, tuple[Callable[..., Labels], Sequence[Any]]] = {
    "agglomerate": (by_agglomerate, THRESHOLDS),
    "agglomerate, mean": (partial(by_agglomerate, merge_function="mean"), THRESHOLDS),
    "agglomerate_sections": (partial(by_agglomerate, **SECTIONS), THRESHOLDS),
    "multicut, greedy": (partial(by_multicut, solver="greedy_additive"), BETAS),
    "multicut": (by_multicut, BETAS),
}
LONG: dict[str, tuple[Callable[..., Labels], Sequence[Any]]] = {
    **{
        f"lifted, weight {weight:g}": (partial(by_lifted, lifted_weight=weight), BETAS)
        for weight in WEIGHTS
    },
    "mutex_watershed": (by_mutex, STRIDES),
}


def rand_error(labels: np.ndarray, truth: np.ndarray) -> float:
    return float(adapted_rand_error(truth, labels, ignore_labels=(0,))[0])


def row(subject: Callable[..., Labels], best: Any, test: Part, rounds: int) -> list[float]:
    """[adapted Rand error, VOI split, VOI merge, median seconds] on the sections to test on."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        [(_, labels)] = subject(test, [best])
        seconds.append(time.perf_counter() - start)
    # H(labels | truth), what splits cost, comes first.
    split, merge = variation_of_information(test.truth, labels, ignore_labels=(0,))
    return [rand_error(labels, test.truth), split, merge, statistics.median(seconds)]


def energies(part: Part, beta: float) -> dict[str, float]:
    """Fragments, contacts, and the energies of the greedy start and of what is made of it."""
    _, graph = Multicut().make_fragments(**part.near)
    costs, none = cut_costs(graph.edges, beta), graph.edges[:0]
    found = {"fragments": graph.count, "contacts": len(costs)}
    for solver in ("greedy_additive", "kernighan_lin"):
        segments = solve(
            graph.count,
            graph.edges,
            costs,
            lifted=none,
            lifted_costs=np.empty(0),
            solver=solver,
        )
        found[solver] = cut_energy(graph.edges, costs, segments)
    return found


def stored(prediction: str, truth: str, sections: tuple[int, int]) -> Part:
    """The sections of two volumes."""
    predicted, true = open_volume(prediction), open_volume(truth)
    size = predicted.voxel_size or (1.0, 1.0, 1.0)
    begins = 0 if predicted.offset is None else round(predicted.offset[0] / size[0])
    low, high = sections
    if not begins <= low < high <= begins + predicted.shape[0]:
        last = begins + predicted.shape[0]
        raise SystemExit(f"sections {low} to {high}: the prediction has {begins} to {last}")
    shape = predicted.shape[1:]
    return Part(
        predicted.read((low - begins, 0, 0), (high - begins, *shape)),
        true.read((low, 0, 0), (high, *shape)),
        predicted.attributes["offsets"],
        predicted.attributes["edge_side"],
    )


def made(seed: int) -> Part:
    """Cells that lean, and affinities with smooth noise."""
    random, shape = np.random.default_rng(seed), (16, 120, 120)
    seeds, lean = random.random((20, 2, 1, 1, 1)) * 120, random.normal(size=(20, 2, 1, 1, 1))
    z, y, x = np.indices(shape)
    at = seeds + lean * z
    truth = ((at[:, 0] - y) ** 2 + (at[:, 1] - x) ** 2).argmin(0).astype(np.int32) + 1
    apart = erode_labels(truth, radius=(0, 1, 1))
    values, _ = affinities(apart, offsets=OFFSETS, edge_side="destination")
    soft = gaussian_filter(values.astype(np.float32), (0, 0.5, 1, 1))
    noise = gaussian_filter(random.normal(size=values.shape), (0, 0, 1.5, 1.5))
    prediction = np.clip(soft + 0.2 * noise / noise.std(), 0, 1).astype(np.float32)
    return Part(prediction, truth, OFFSETS, "destination")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prediction", help="a prediction of affinities, as infer writes it")
    parser.add_argument("--truth", help="labels, FILE or FILE:DATASET")
    parser.add_argument("--tune", type=int, nargs=2, default=(160, 200))
    parser.add_argument("--test", type=int, nargs=2, default=(200, 250))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="made cells, a minute")
    arguments = parser.parse_args()
    if arguments.quick:
        tune, test = made(0), made(1)
    elif arguments.prediction and arguments.truth:
        files = arguments.prediction, arguments.truth
        tune, test = stored(*files, arguments.tune), stored(*files, arguments.test)
    else:
        parser.error("--prediction and --truth, or --quick")
    subjects = NEAR | (LONG if len(test.offsets) > 3 else {})
    print(f"{'':24} {'tuned':>12} {'ARAND':>7} {'split':>7} {'merge':>7} {'VOI':>7} {'seconds':>8}")
    rows, chosen = {}, {}
    for name, (subject, values) in subjects.items():
        scores = {value: rand_error(own, tune.truth) for value, own in subject(tune, values)}
        chosen[name] = min(scores, key=lambda value: scores[value])
        rows[name] = row(subject, chosen[name], test, arguments.rounds)
        error, split, merge, seconds = rows[name]
        numbers = f"{error:7.4f} {split:7.3f} {merge:7.3f} {split + merge:7.3f} {seconds:8.2f}"
        print(f"{name:24} {str(chosen[name]):>12} {numbers}", flush=True)
    found = energies(test, chosen["multicut"])
    print(
        f"multicut at beta {chosen['multicut']}: {found['fragments']} fragments, "
        f"{found['contacts']} contacts; energy {found['greedy_additive']:.4f} greedy, "
        f"{found['kernighan_lin']:.4f} after Kernighan-Lin"
    )
    result = {
        "benchmark": "multicut",
        "ratios": {"agglomerate": round(rows["multicut"][3] / rows["agglomerate"][3], 2)},
        "rand_error": {name: round(own[0], 4) for name, own in rows.items()},
        "energy": {name: round(found[name], 4) for name in ("greedy_additive", "kernighan_lin")},
        "equal": found["kernighan_lin"] <= found["greedy_additive"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
