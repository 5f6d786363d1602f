"""Skeletons as other programs store them: pickled graphs, npz and SWC files."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emseg.errors import UserError
from emseg.volumes.pickled import unpickled_graph

# Columns of an SWC file.
SWC_ID, SWC_PLACE, SWC_PARENT, SWC_COLUMNS = 0, slice(2, 5), 6, 7


class Part(NamedTuple):
    """One skeleton: nodes in voxels, in nm, or both, (n, 3), and edges between them, (e, 2)."""

    name: int
    voxels: Any
    positions: Any
    edges: Any


def read_graph(path: Path) -> Iterator[Part]:
    """The skeletons of a pickled networkx graph, by the ids of its nodes."""
    graph = unpickled_graph(path)
    for needed in ("id", "index_position"):
        lacking = next((n for n, facts in graph.nodes.items() if needed not in facts), None)
        if lacking is not None:
            raise UserError(f"{path}: the node {lacking!r} has no '{needed}'")
    nodes: dict[int, list[Any]] = {}
    for node, facts in graph.nodes.items():
        nodes.setdefault(int(facts["id"]), []).append(node)
    edges: dict[int, list[tuple[Any, Any]]] = {}
    for one, two in graph.edges:
        first, second = (int(graph.nodes[node]["id"]) for node in (one, two))
        if first != second:
            raise UserError(f"{path}: an edge joins the skeletons {first} and {second}")
        edges.setdefault(first, []).append((one, two))
    for name in sorted(nodes):
        place = {node: number for number, node in enumerate(nodes[name])}
        facts = [graph.nodes[node] for node in nodes[name]]
        known = all("nm_position" in one for one in facts)
        yield Part(
            name,
            [_three(one["index_position"], path) for one in facts],
            [_three(one["nm_position"], path) for one in facts] if known else None,
            [(place[one], place[two]) for one, two in edges.get(name, [])],
        )


def read_npz(path: Path) -> Iterator[Part]:
    """The skeletons of an npz file, `<id>/...` for each or the flat arrays of em_erl."""
    with np.load(path, allow_pickle=False) as stored:
        names = sorted({name.partition("/")[0] for name in stored if "/" in name}, key=int)
        for name in names:
            yield Part(int(name), None, stored[f"{name}/vertices_nm_zyx"], stored[f"{name}/edges"])
        if names:
            return
        if not {"skeleton_id", "nodes"} <= set(stored):
            raise UserError(f"{path} holds {', '.join(stored)}: these are no skeletons")
        nodes = stored["nodes"]
        for place, name in enumerate(stored["skeleton_id"]):
            own = np.flatnonzero(nodes[:, 0] == place)
            pairs = stored[f"edges_{place}"][:, :2].astype(np.int64)
            if not np.isin(pairs, own).all():
                raise UserError(f"{path}: skeleton {name} has edges to nodes that it has not")
            yield Part(int(name), None, nodes[own, 1:], np.searchsorted(own, pairs))


def read_swc(files: Sequence[Path]) -> Iterator[Part]:
    """The skeletons of SWC files, one each."""
    for place, file in enumerate(files, 1):
        with warnings.catch_warnings():
            # numpy's warning of an empty file, for which we raise our own error.
            warnings.simplefilter("ignore", UserWarning)
            rows = np.loadtxt(file, comments="#", ndmin=2)
        if rows.size == 0 or rows.shape[1] != SWC_COLUMNS:
            raise UserError(f"{file} has no lines of {SWC_COLUMNS} columns, as SWC files have")
        _check_rows(rows, file)
        number = {int(node): row for row, node in enumerate(rows[:, SWC_ID])}
        pairs = []
        for row, parent in enumerate(rows[:, SWC_PARENT]):
            if parent >= 0 and int(parent) not in number:
                raise UserError(f"{file}: the parent {int(parent)} is no node")
            if parent >= 0:
                pairs.append((row, number[int(parent)]))
        name = int(file.stem) if file.stem.isdigit() else place
        yield Part(name, None, rows[:, SWC_PLACE][:, ::-1], pairs)


def _check_rows(rows: np.ndarray, file: Path) -> None:
    names = rows[:, [SWC_ID, SWC_PARENT]]
    if not (np.isfinite(names) & (names == np.round(names))).all():
        raise UserError(f"{file}: numbers of nodes and parents are whole numbers")
    numbers, counts = np.unique(rows[:, SWC_ID], return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{file}: the node {numbers[counts > 1][0]:g} is there twice")


def _three(place: Any, path: Path) -> np.ndarray:
    # The shape first: an array may claim any size.
    if np.shape(place) != (3,):
        raise UserError(f"{path}: {repr(place)[:80]} is no position: it needs three numbers")
    return np.asarray(place, np.float64)
