"""The arguments of watershed and agglomeration, checked, and limits that follow from them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from emseg.blocks.grid import slab_shape
from emseg.blocks.memory import GIB, memory_within
from emseg.decoding.branches import BranchRules
from emseg.decoding.merging import MergeFunction
from emseg.decoding.supervoxels import MOST_EDGES
from emseg.errors import UserError, unknown_name
from emseg.volumes import Volume

# The watershed is of the whole volume, or of each section by itself.
Fragments = Literal["volume", "sections"]

# Memory per edge for assembling and merging: the graph twice, links, neighbours, the queue, and the
# samples of histograms of all affinities (measured on noise, the worst case).
BYTES_PER_EDGE, BYTES_WITH_HISTOGRAMS = 220, 320
# The same for the fragments' areas and overlaps in sections.
BYTES_OF_SECTIONS = 30


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The arguments of `agglomerate` beside data and thresholds, checked."""

    merge_function: MergeFunction
    fragments: Fragments
    aff_threshold: tuple[float, float]
    discretize_queue: Literal[0, 256]
    dust_merge_size: int
    dust_merge_affinity: float
    dust_remove_size: int
    backend: Literal["numba", "waterz"]
    time_limit: float | None
    memory_limit: float | None
    threads: int | None
    branches: BranchRules

    def __post_init__(self) -> None:
        _check_name(self.merge_function, get_args(MergeFunction), "merge_function")
        _check_name(self.fragments, get_args(Fragments), "fragments")
        _check_name(self.backend, ("numba", "waterz"), "backend")
        _require(
            self.discretize_queue in (0, 256), "discretize_queue", self.discretize_queue, "0 or 256"
        )
        low_high = self.aff_threshold
        # Compared as float32, like affinities: two numbers that are then equal are no interval.
        legal = len(low_high) == 2 and low_high[0] >= 0 and low_high[1] <= 1
        legal = legal and np.float32(low_high[0]) < np.float32(low_high[1])
        wanted = "[low, high] with 0 <= low < high <= 1, as float32"
        _require(bool(legal), "aff_threshold", list(low_high), wanted)
        for name in ("dust_merge_size", "dust_remove_size"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more voxels")
        affinity = self.dust_merge_affinity
        _require(0 <= affinity <= 1, "dust_merge_affinity", affinity, "an affinity in [0, 1]")
        for name in ("time_limit", "memory_limit", "threads"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "above 0, or null")
        if self.time_limit is not None and self.backend != "waterz":
            raise UserError("decoding.time_limit is for decoding.backend=waterz alone")

    @property
    def needs_histograms(self) -> bool:
        """Whether the score needs all affinities of a contact, not just their maximum or mean."""
        return self.merge_function.startswith("hist_quant_")

    @property
    def thread_count(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def memory_bytes(self) -> int:
        return memory_within(self.memory_limit)

    @property
    def bytes_per_edge(self) -> int:
        merging = BYTES_WITH_HISTOGRAMS if self.needs_histograms else BYTES_PER_EDGE
        return merging + (BYTES_OF_SECTIONS if self.branches.active else 0)

    @property
    def edge_limit(self) -> int:
        return min(self.memory_bytes // self.bytes_per_edge, MOST_EDGES)

    def block_shape(self, prediction: np.ndarray | Volume) -> tuple[int, int, int]:
        """The shape of slabs: one per thread for an array, an eighth of the memory for a file."""
        stored = isinstance(prediction, Volume)
        return slab_shape(
            prediction.shape[-3:],
            bytes_per_voxel=3 * prediction.dtype.itemsize + 6,  # three affinities, a label, flags
            memory=self.memory_bytes // 8 if stored else 2**62,
            threads=self.thread_count,
        )

    def check_thresholds(self, thresholds: Sequence[float]) -> None:
        """Raises UserError if there is no threshold, or one that is not in [0, 1]."""
        if not thresholds:
            raise UserError("decoding.thresholds is empty; give one score or more")
        for threshold in thresholds:
            if not 0 <= threshold <= 1:
                raise UserError(f"decoding.thresholds is {threshold}; scores lie in [0, 1]")

    def refusal(self, fragments: int, edges: int) -> str:
        """The error message when the region graph is too large to merge."""
        needed, allowed = edges * self.bytes_per_edge / GIB, self.memory_bytes / GIB
        watershed = (
            f"raise the first of decoding.aff_threshold {list(self.aff_threshold)} (more "
            "background), lower the second (larger fragments), "
        )
        return (
            f"the watershed leaves at least {fragments} fragments with {edges} edges between them: "
            f"merging those takes more than {needed:.3g} GiB, decoding.memory_limit is "
            f"{allowed:.3g}. A prediction as noisy as that is seldom worth it: "
            f"{watershed if self.fragments == 'volume' else ''}smooth the prediction, or raise the "
            "limit"
        )


def _check_name(name: str, allowed: Sequence[str], key: str) -> None:
    if name not in allowed:
        raise unknown_name(key.replace("_", " "), name, allowed, where=f"decoding.{key}")


def _require(legal: bool, key: str, value: object, wanted: str) -> None:
    if not legal:
        raise UserError(f"decoding.{key} is {value}; it is {wanted}")
