"""The settings of watershed and agglomeration, and limits that follow from them."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from emseg.blocks.grid import slab_shape
from emseg.blocks.memory import GIB, memory_within
from emseg.bounds import Fraction, Positive, Rule, above, within
from emseg.decoding.branches import BranchRules
from emseg.decoding.merging import MergeFunction
from emseg.decoding.supervoxels import MOST_EDGES
from emseg.errors import UserError
from emseg.volumes import Volume

# The watershed is of the whole volume, or of each section by itself.
Fragments = Literal["volume", "sections"]

# Memory per edge for assembling and merging: the graph twice, links, neighbours, the queue, and the
# samples of histograms of all affinities (measured on noise, the worst case).
BYTES_PER_EDGE, BYTES_WITH_HISTOGRAMS = 220, 320
# The same for the fragments' areas and overlaps in sections.
BYTES_OF_SECTIONS = 30

# Compared as float32, like affinities: two numbers that are then equal are no interval.
_LOW_HIGH = Rule(
    "[low, high] with 0 <= low < high <= 1, as float32",
    lambda ends: (
        len(ends) == 2
        and ends[0] >= 0
        and ends[1] <= 1
        and bool(np.float32(ends[0]) < np.float32(ends[1]))
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rules(BranchRules):
    """The settings of fragments, region graph and merging, and limits that follow from them."""

    merge_function: MergeFunction = "aff85_his256"
    fragments: Fragments = "volume"
    aff_threshold: Annotated[tuple[float, float], _LOW_HIGH] = (0.1, 0.999)
    discretize_queue: Literal[0, 256] = 0
    dust_merge_size: Annotated[int, within(0)] = 0
    dust_merge_affinity: Fraction = 0.3
    dust_remove_size: Annotated[int, within(0)] = 0
    backend: Literal["numba", "waterz"] = "numba"
    time_limit: Annotated[float, above(0)] | None = None
    memory_limit: Annotated[float, above(0)] | None = None
    threads: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return merging + (BYTES_OF_SECTIONS if self.unites_branches else 0)

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
