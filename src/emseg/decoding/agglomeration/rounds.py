"""Merges the contacts of a region graph in rounds, each in groups of more regions.

    a round      contacts of a chunk  ->  groups  ->  merged, in threads  ->  those left, added up

A chunk has the regions of a range of numbers, and the contacts whose first region is one of them.
There is a chunk for each thread at first; or as many as it takes for one to fit the memory, and the
others wait in files. Nothing of this changes the result, see docs/decoding.md.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from emseg.kernels.agglomeration import REGION, Shared, merge_groups
from emseg.kernels.contacts import CONTACT, Rule
from emseg.kernels.contraction import contract, number_regions
from emseg.kernels.grouping import (
    capped_groups,
    note_outside,
    pairs_by_score,
    queues_of,
    split_by_group,
)
from emseg.volumes.atomic import writing

# How much larger groups may be in each round: what is left then are the contacts between groups.
_GROWTH = 4
# Labels of which not even one in so many is left are numbered anew: there is an entry for each.
_SPARSE = 16
# Groups are given to threads in so many parts each.
_PARTS = 8


@dataclass(eq=False)
class Chunk:
    """CONTACTs whose first region is one from `start` up to `stop`, in memory or in a .npy file.

    Their labels are from `first_label` up to `last_label`. In the first `inside` of them, after
    regions were merged, regions count from `start`.
    """

    start: int
    stop: int
    first_label: int
    last_label: int
    stored: np.ndarray | Path
    length: int
    inside: int = 0
    _spare: np.ndarray | None = None

    def load(self) -> np.ndarray:
        return np.load(self.stored) if isinstance(self.stored, Path) else self.stored

    def store(self, contacts: np.ndarray) -> None:
        self.length = len(contacts)
        if isinstance(self.stored, Path):
            with writing(self.stored):
                np.save(self.stored, contacts)
        else:
            self._spare, self.stored = self.stored, contacts

    def as_many(self) -> np.ndarray:
        """As many new contacts, in memory that is at hand: fresh memory has to be cleared."""
        spare, self._spare = self._spare, None
        return np.empty(self.length, CONTACT) if spare is None else spare[: self.length]


@dataclass(frozen=True, eq=False)
class Tree:
    """How contacts are scored, their histograms' samples, and which fragments were merged."""

    rule: Rule
    samples: np.ndarray
    parents: np.ndarray
    heights: np.ndarray


def merge_in_rounds(
    chunks: Sequence[Chunk], tree: Tree, *, most_regions: int, threads: int, at_once: int
) -> None:
    """Fills the parents and heights of a tree.

    Args:
        chunks: all contacts, in the order of their regions.
        tree: its regions are the fragments, none merged yet.
        most_regions: the most in a group in the first round.
        threads: as many groups, or chunks in memory, are worked on at once.
        at_once: neighbouring chunks of no more contacts are joined after a round; of twice as many
            when nothing else can be merged.

    Raises:
        UserError: a chunk's file cannot be written.
    """
    fragments = np.arange(len(tree.parents), dtype=np.int32)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            active = np.zeros(len(fragments), np.bool_)
            outside = np.full(len(fragments), np.inf, np.float32)
            for chunk in chunks:
                note_outside(chunk.load(), chunk.stop, tree.rule.until, active, outside)
            if not active.any():
                return
            numbers, bounds = np.empty(len(fragments), np.int32), [0]
            for batch in _batches(chunks):
                for work in _merged(
                    batch, fragments, active, outside, tree, most_regions, threads, pool
                ):
                    own = numbers[work.chunk.start : work.chunk.stop]
                    bounds.append(bounds[-1] + number_regions(work.regions, own))
                    own += bounds[-2]
                    # In place: what is left of a chunk does not reach beyond its own regions.
                    left = work.regions["fragment"][work.regions["into"] < 0]
                    fragments[bounds[-2] : bounds[-1]] = left
            del active, outside
            _add_up(chunks, bounds, numbers, tree, pool)
            if bounds[-1] == len(fragments):
                at_once *= 2
            fragments, chunks = fragments[: bounds[-1]], list(_joined(chunks, at_once))
            most_regions = min(most_regions * _GROWTH, len(tree.parents))


@dataclass(eq=False)
class _Work:
    """A chunk whose contacts are in groups."""

    chunk: Chunk
    contacts: np.ndarray
    starts: np.ndarray
    queues: np.ndarray
    ends: np.ndarray
    regions: np.ndarray

    def merge(self, tree: Tree, threads: int, pool: ThreadPoolExecutor) -> list[Future]:
        """Merges ranges of groups with about as many contacts each, in the pool."""
        chunk = self.chunk
        owners = np.empty(chunk.last_label - chunk.first_label, np.int32)
        shared = Shared(self.regions, owners, chunk.first_label, **vars(tree))

        def some(first: int, last: int) -> None:
            most = int(np.diff(self.starts[first : last + 1]).max())
            # By numpy, which has large arrays in large pages.
            work = np.empty(6 * most + 16, np.uint64)
            merge_groups(
                self.contacts, self.starts, self.queues, self.ends, first, last, shared, work
            )

        wanted = np.linspace(0, self.starts[-1], threads * _PARTS + 1)
        bounds = np.unique(np.searchsorted(self.starts, wanted)).tolist()
        return [pool.submit(some, *ends) for ends in pairwise(bounds)]


def _batches(chunks: Sequence[Chunk]) -> list[Sequence[Chunk]]:
    """The chunks that are in memory at the same time."""
    in_files = any(isinstance(chunk.stored, Path) for chunk in chunks)
    return [[chunk] for chunk in chunks] if in_files else [chunks]


def _merged(
    batch: Sequence[Chunk],
    fragments: np.ndarray,
    active: np.ndarray,
    outside: np.ndarray,
    tree: Tree,
    most_regions: int,
    threads: int,
    pool: ThreadPoolExecutor,
) -> list[_Work]:
    """The chunks, stored again, with their regions after merging in groups."""

    def split(chunk: Chunk) -> _Work:
        own = slice(chunk.start, chunk.stop)
        return _split(chunk, fragments[own], active, outside[own], tree.rule.until, most_regions)

    works = list(pool.map(split, batch))
    for merging in [part for work in works for part in work.merge(tree, threads, pool)]:
        merging.result()
    for work in works:
        work.chunk.store(work.contacts)
        work.chunk.inside = int(work.starts[-1])
    return works


def _split(
    chunk: Chunk,
    fragments: np.ndarray,
    active: np.ndarray,
    outside: np.ndarray,
    until: np.float32,
    most_regions: int,
) -> _Work:
    contacts = chunk.load()
    if chunk.last_label - chunk.first_label > _SPARSE * chunk.length:
        _number_labels(chunk, contacts)
    pairs = pairs_by_score(contacts, chunk.start, chunk.stop, until)
    groups, count = capped_groups(pairs, chunk.stop - chunk.start, most_regions)
    found = chunk.as_many()
    starts, end = split_by_group(contacts, chunk.start, active, groups, count, found, outside)
    queues, ends = queues_of(pairs, groups, starts)
    regions = np.zeros(len(fragments), REGION)
    for name in ("head", "tail", "into"):
        regions[name] = -1
    regions["fragment"], regions["outside"] = fragments, outside
    return _Work(chunk, found[:end], starts, queues, ends, regions)


def _number_labels(chunk: Chunk, contacts: np.ndarray) -> None:
    """Gives the chunk's contacts labels without gaps, in the same order."""
    ascending = np.argsort(contacts["label"])
    contacts["label"][ascending] = np.arange(chunk.first_label, chunk.first_label + chunk.length)
    chunk.last_label = chunk.first_label + chunk.length


def _add_up(
    chunks: Sequence[Chunk],
    bounds: Sequence[int],
    numbers: np.ndarray,
    tree: Tree,
    pool: ThreadPoolExecutor,
) -> None:
    """Gives chunks the numbers of the regions left, and each pair of these one contact."""

    def one(chunk: Chunk, first: int, stop: int) -> None:
        contacts, ends = chunk.load(), np.zeros(stop - first + 1, np.int32)
        found = chunk.as_many()
        length = contract(
            contacts, chunk.inside, chunk.start, numbers, bounds[-1], first, ends, tree.samples,
            tree.rule, found,
        )  # fmt: skip
        chunk.store(found[:length])
        chunk.start, chunk.stop = first, stop

    ranges = dict(zip(map(id, chunks), pairwise(bounds), strict=True))
    for batch in _batches(chunks):
        list(pool.map(lambda chunk: one(chunk, *ranges[id(chunk)]), batch))


def _joined(chunks: Sequence[Chunk], at_once: int) -> Iterator[Chunk]:
    """The chunks, in memory where all fit; neighbours that fit together are one."""
    fit = sum(chunk.length for chunk in chunks) <= at_once
    rest = list(chunks)
    while rest:
        own = [rest.pop(0)]
        while rest and sum(chunk.length for chunk in (*own, rest[0])) <= at_once:
            own.append(rest.pop(0))
        first, last = own[0], own[-1]
        if len(own) > 1 or (fit and isinstance(first.stored, Path)):
            contacts = np.concatenate([chunk.load() for chunk in own])
            for chunk in own:
                if isinstance(chunk.stored, Path):
                    chunk.stored.unlink()
            labels = first.first_label, last.last_label
            where = contacts if fit else first.stored
            first = Chunk(first.start, last.stop, *labels, where, len(contacts))
            if not fit:
                first.store(contacts)
        yield first
