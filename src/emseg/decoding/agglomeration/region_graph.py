"""The region graph of a volume, combined from those of its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.seams import Numbering, across_faces
from emseg.blocks.store import Facts, Store
from emseg.decoding.agglomeration.section_facts import Sections
from emseg.kernels.edge_sums import add_up, order_of, rename_edges
from emseg.kernels.region_edges import EDGE, find_edges


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
    """

    edges: np.ndarray
    histograms: Histograms | None
    sizes: np.ndarray
    sections: Sections | None = None

    @property
    def nbytes(self) -> int:
        own = self.histograms
        more = (own.starts, own.bins, own.weights) if own else ()
        extra = self.sections.nbytes if self.sections else 0
        return extra + sum(array.nbytes for array in (self.edges, self.sizes, *more))


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
    limit: int,
) -> RegionGraph:
    """The volume's region graph; if there are more than `limit` edges, those counted so far.

    The parts of a contact in different blocks are combined by the largest maximum and sums of
    integers, so the graph does not depend on how the volume is cut or on the order of blocks.
    """
    parts: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    sizes = np.zeros(numbering.count + 1, np.int64)
    for block, own in zip(blocks, numbering.ids, strict=True):
        facts = store.facts(block, ("sizes", "edges", "contacts", "contact_counts"))
        np.add.at(sizes, own, facts["sizes"])
        rename_edges(facts["edges"], own)
        _append_contacts(keys, weights, parts, facts)
        parts.append(facts["edges"])
    edges, contacts = _over_faces(blocks, store, numbering, levels, histograms, limit)
    own_keys, own_weights = np.unique(contacts, return_counts=True)
    faces = {"contacts": own_keys, "contact_counts": own_weights} if histograms else {}
    _append_contacts(keys, weights, parts, faces)
    parts = [part for part in (*parts, edges) if len(part)]
    every = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, EDGE), *parts])
    samples = (np.concatenate(keys), np.concatenate(weights)) if histograms else None
    return RegionGraph(*added_up(every, samples, numbering.count), sizes)


def added_up(
    edges: np.ndarray, samples: tuple[np.ndarray, np.ndarray] | None, count: int
) -> tuple[np.ndarray, Histograms | None]:
    """The edges sorted by (u, v), those of one pair added up, those within one label left out.

    Labels go up to `count`. `samples` (int64 256 * edge + bin, and their weights) become the
    histograms of the result.
    """
    # Arrays are made by numpy, since compiled code gets memory in small pages.
    places, order = np.empty(len(edges), np.int32), np.empty(len(edges), np.int32)
    order_of(edges, np.zeros(count + 2, np.int32), places, order)
    added = np.empty_like(edges)
    n_added = add_up(edges, order, added, places)
    added.resize(n_added, refcheck=False)  # without a copy
    if samples is None:
        return added, None
    moved, weights = places[samples[0] >> 8].astype(np.int64) << 8 | samples[0] & 255, samples[1]
    moved, weights = moved[moved >= 0], weights[moved >= 0]
    ascending = np.argsort(moved)
    first = np.flatnonzero(np.diff(moved[ascending], prepend=-1))
    sums = np.add.reduceat(weights[ascending], first) if len(first) else weights
    keys = moved[ascending][first]
    starts = np.searchsorted(keys >> 8, np.arange(n_added + 1)).astype(np.int32)
    histograms = Histograms(starts, (keys & 255).astype(np.uint8), sums.astype(np.int32))
    return added, histograms


def _append_contacts(
    keys: list[np.ndarray], weights: list[np.ndarray], parts: Sequence[np.ndarray], facts: Facts
) -> None:
    if "contacts" in facts:
        # A part's edges follow those of the parts before it.
        keys.append(facts["contacts"] + 256 * sum(map(len, parts)))
        weights.append(facts["contact_counts"])


def _over_faces(
    blocks: Sequence[Block],
    store: Store,
    numbering: Numbering,
    levels: np.ndarray | None,
    histograms: bool,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Edges and contacts across the faces between blocks, from all faces in one array."""
    faces = [
        [array.reshape(-1) for array in arrays]
        for _, *arrays in across_faces(blocks, store, numbering)
    ]
    if not faces:
        return np.empty(0, EDGE), np.empty(0, np.int64)
    before, after, values = map(np.concatenate, zip(*faces, strict=True))
    labels, both = np.stack([before, after])[:, None], values[None, None]
    at = np.array([[-1, 0, 0]] * 3)
    count = numbering.count
    return find_edges(labels, [both] * 3, at, 1, levels, count, limit, histograms)
