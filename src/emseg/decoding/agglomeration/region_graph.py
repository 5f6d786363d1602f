"""The region graph of a volume, combined from those of its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.seams import Numbering, across_faces
from emseg.blocks.store import Facts, Store
from emseg.decoding.agglomeration.edge_files import Edges, added_up
from emseg.decoding.agglomeration.section_facts import Sections
from emseg.kernels.edge_sums import rename_edges
from emseg.kernels.region_edges import find_edges


@dataclass(frozen=True, eq=False)
class Histograms:
    """Per edge e the samples (bin, weight) from `starts[e]` to `starts[e + 1]`.

    `starts` int32, one entry more than edges; `bins` uint8 (256 bins of affinity), `weights` int32.
    """

    starts: np.ndarray
    bins: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Which fragments touch, with which affinities, and how large they are.

    `edges` is an array of `emseg.kernels.region_edges.EDGE`, sorted by (u, v), u < v. `sizes` int64
    are voxels per fragment, entry 0 the background's. If they were requested, `histograms` hold all
    affinities of each contact, and `sections` the fragments' areas and overlaps in each section.
    Edges that the memory does not hold are an `np.memmap`; `scratch` is a folder for such files.
    """

    edges: np.ndarray
    histograms: Histograms | None
    sizes: np.ndarray
    sections: Sections | None = None
    scratch: Path | None = None

    @property
    def in_file(self) -> bool:
        """Whether the edges are in a file."""
        return isinstance(self.edges, np.memmap)

    @property
    def nbytes(self) -> int:
        """What it has in memory."""
        own = self.histograms
        more = (own.starts, own.bins, own.weights) if own else ()
        arrays = (self.sizes, *more) if self.in_file else (self.edges, self.sizes, *more)
        extra = self.sections.nbytes if self.sections else 0
        return extra + sum(array.nbytes for array in arrays)


def block_facts(
    edges: np.ndarray, contacts: np.ndarray | None, values: Sequence[np.ndarray | None]
) -> Facts:
    """What the volume's graph needs of a block beside `sizes` and `face_facts`.

    `edges` and `contacts` are those of `find_edges`; `values` are, per axis with a block before
    this one, the affinities across its first face.
    """
    facts = {"edges": edges}
    if contacts is not None:
        keys, counts = np.unique(contacts, return_counts=True)
        facts |= {"contacts": keys, "contact_counts": counts}
    return facts | {f"values{a}": plane for a, plane in enumerate(values) if plane is not None}


def assemble(
    blocks: Sequence[Block],
    store: Store,
    numbering: Numbering,
    *,
    levels: np.ndarray | None,
    histograms: bool,
    most: int | None,
) -> RegionGraph:
    """The volume's region graph.

    The parts of a contact in different blocks are combined by the largest maximum and sums of
    integers, so the graph does not depend on how the volume is cut or on the order of blocks.

    Args:
        most: edges that the memory holds, more are in files; None: any number. Histograms are in
            memory.

    Raises:
        UserError: the disk is full.
    """
    edges = Edges(numbering.count, most=most, folder=store.scratch)
    keys: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    sizes = np.zeros(numbering.count + 1, np.int64)

    def add(facts: Facts) -> None:
        if histograms:
            # A part's edges follow those of the parts before it.
            keys.append(facts["contacts"] + 256 * edges.total)
            weights.append(facts["contact_counts"])
        edges.add(facts["edges"])

    for block, own in zip(blocks, numbering.ids, strict=True):
        facts = store.facts(block, ("sizes", "edges", "contacts", "contact_counts"))
        np.add.at(sizes, own, facts["sizes"])
        rename_edges(facts["edges"], own)
        add(facts)
    for faces in across_faces(blocks, store, numbering):
        add(_over_face(*faces[1:], levels, numbering.count, histograms))
    if not histograms:
        return RegionGraph(edges.added_up(), None, sizes, scratch=store.scratch)
    samples = np.concatenate(keys), np.concatenate(weights)
    return RegionGraph(*with_histograms(edges.collected(), samples, numbering.count), sizes)


def with_histograms(
    edges: np.ndarray, samples: tuple[np.ndarray, np.ndarray], count: int
) -> tuple[np.ndarray, Histograms]:
    """The edges as of `added_up`, and their histograms.

    Labels go up to `count`. `samples` are int64 256 * edge + bin, and their weights.
    """
    added, places = added_up(edges, count)
    moved, weights = places[samples[0] >> 8].astype(np.int64) << 8 | samples[0] & 255, samples[1]
    moved, weights = moved[moved >= 0], weights[moved >= 0]
    ascending = np.argsort(moved)
    first = np.flatnonzero(np.diff(moved[ascending], prepend=-1))
    sums = np.add.reduceat(weights[ascending], first) if len(first) else weights
    keys = moved[ascending][first]
    starts = np.searchsorted(keys >> 8, np.arange(len(added) + 1)).astype(np.int32)
    histograms = Histograms(starts, (keys & 255).astype(np.uint8), sums.astype(np.int32))
    return added, histograms


def _over_face(
    before: np.ndarray,
    behind: np.ndarray,
    values: np.ndarray,
    levels: np.ndarray | None,
    count: int,
    histograms: bool,
) -> Facts:
    """Edges and contacts across a face between two blocks."""
    labels, both = np.stack([before, behind]), values[None]
    at = np.array([[-1, 0, 0]] * 3)
    found = find_edges(labels, [both] * 3, at, 1, levels, count, labels.size, histograms)
    return block_facts(found[0], found[1] if histograms else None, ())
