"""Skeletons: the centre lines of true objects, from pickled graphs, npz and SWC files."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError

# What a pickled graph of networkx and numpy is made of; anything else could run code.
ALLOWED = {
    ("builtins", "set"),
    ("builtins", "dict"),
    ("collections", "OrderedDict"),
    ("networkx.classes.graph", "Graph"),
    # A graph keeps the views of itself that it was once asked for.
    ("networkx.classes.coreviews", "AdjacencyView"),
    ("networkx.classes.reportviews", "DegreeView"),
    ("networkx.classes.reportviews", "EdgeView"),
    ("networkx.classes.reportviews", "NodeView"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
}
SUFFIXES = (".pkl", ".pickle", ".npz", ".swc")
# Columns of an SWC file.
SWC_ID, SWC_PLACE, SWC_PARENT = 0, slice(2, 5), 6


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Skeletons of several objects, as nodes and the edges that join two of one skeleton.

    `ids` (S,) name the skeletons, `owner` (N,) is each node's place in `ids`, `voxels` (N, 3) and
    `positions` (N, 3) where it lies, in voxels and in nm, both in the order of the stored axes,
    `edges` (E, 2) are pairs of nodes.
    """

    ids: np.ndarray
    owner: np.ndarray
    voxels: np.ndarray
    positions: np.ndarray
    edges: np.ndarray

    def __post_init__(self) -> None:
        # As kernels take them.
        for name, dtype in (("owner", np.int64), ("edges", np.int64), ("positions", np.float64)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        ends = self.owner[self.edges]
        if (ends[:, 0] != ends[:, 1]).any():
            raise UserError("an edge joins two skeletons: each is one object's")

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """The edges' lengths (E,) in nm, float64."""
        one, two = self.positions[self.edges.T]
        return np.linalg.norm(one - two, axis=1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The skeletons' lengths (S,) in nm, float64."""
        return np.bincount(self.owner[self.edges[:, 0]], self.edge_lengths, len(self.ids))


def read_skeletons(path: str | Path, *, voxel_size: Sequence[float]) -> Skeletons:
    """The skeletons in a file, in voxels of `voxel_size` (nm, stored-axis order).

    - `.pkl`: an undirected networkx graph; nodes have `id` and `index_position` (voxels in stored
      order), and `nm_position`, or else their positions are the voxels times their size. Nothing
      but networkx, numpy and plain containers is unpickled.
    - `.npz`: `<id>/vertices_nm_zyx` and `<id>/edges` of each skeleton, or the flat arrays of
      em_erl (`skeleton_id`, `nodes` in nm with the skeleton's place first, `edges_<place>`).
    - `.swc`, or a folder of them: x, y, z in nm; a skeleton each, named by its number in the
      folder's order of names.

    Axes of the files' zyx positions are the stored order z, y, x. UserErrors: no such file, another
    format, a missing attribute, an object that is not allowed.
    """
    path = Path(path)
    files = skeleton_files(path)
    if path.is_dir() or path.suffix == ".swc":
        return _joined(_read_swc(files), voxel_size)
    if path.suffix == ".npz":
        return _joined(_read_npz(path), voxel_size)
    if path.suffix in (".pkl", ".pickle"):
        return _of_graph(_unpickled(path), voxel_size, where=str(path))
    raise UserError(f"{path}: skeletons are in .pkl, .npz or .swc files, or a folder of .swc")


def is_skeletons(path: str | Path) -> bool:
    """Whether a path names skeletons, not a volume: by its suffix, or as a folder of .swc files."""
    path = Path(path)
    return path.suffix in SUFFIXES or (path.is_dir() and any(path.glob("*.swc")))


def skeleton_files(path: Path) -> list[Path]:
    """The files that hold the skeletons; a UserError where there are none."""
    if not path.exists():
        raise UserError(f"{path}: there are no skeletons")
    files = sorted(path.glob("*.swc")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no .swc files")
    return files


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedReader, where: str) -> None:
        super().__init__(file)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(
                f"{self._where} holds {module}.{name}, which may run code: skeletons are a "
                "networkx Graph of plain containers and numpy arrays"
            )
        return super().find_class(module, name)


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            graph = _Unpickler(file, str(path)).load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise UserError(f"{path} is no pickled graph ({error})") from error
    if not (hasattr(graph, "nodes") and hasattr(graph, "edges")):
        raise UserError(f"{path} holds a {type(graph).__name__}: skeletons are a networkx Graph")
    return graph


def _of_graph(graph: Any, voxel_size: Sequence[float], *, where: str) -> Skeletons:
    place = {node: number for number, node in enumerate(graph.nodes)}
    for needed in ("id", "index_position"):
        lacking = next((n for n, facts in graph.nodes.items() if needed not in facts), None)
        if lacking is not None:
            raise UserError(f"{where}: the node {lacking!r} has no '{needed}'")
    facts = list(graph.nodes.values())
    ids, owner = np.unique([int(fact["id"]) for fact in facts], return_inverse=True)
    voxels = np.array([fact["index_position"] for fact in facts]).reshape(-1, 3)
    positions = voxels * np.asarray(voxel_size, np.float64)
    for number, fact in enumerate(facts):
        if "nm_position" in fact:
            positions[number] = fact["nm_position"]
    edges = np.array([(place[one], place[two]) for one, two in graph.edges], np.int64)
    return Skeletons(ids, owner, voxels.astype(np.int64), positions, edges.reshape(-1, 2))


# Of one skeleton: its id, its nodes' positions in nm (n, 3), its edges between them (e, 2).
Part = tuple[int, np.ndarray, np.ndarray]


def _joined(parts: Iterator[Part], voxel_size: Sequence[float]) -> Skeletons:
    ids, positions, edges, owner = [], [np.zeros((0, 3))], [np.zeros((0, 2), np.int64)], []
    count = 0
    for place, (name, nodes, pairs) in enumerate(parts):
        ids.append(name)
        positions.append(np.asarray(nodes, np.float64).reshape(-1, 3))
        edges.append(np.asarray(pairs, np.int64).reshape(-1, 2) + count)
        owner += [place] * len(nodes)
        count += len(nodes)
    nm = np.concatenate(positions)
    # The voxel that a place lies in: its corner is at 0.
    voxels = np.floor_divide(nm, np.asarray(voxel_size, np.float64)).astype(np.int64)
    return Skeletons(np.array(ids), np.array(owner, np.int64), voxels, nm, np.concatenate(edges))


def _read_npz(path: Path) -> Iterator[Part]:
    with np.load(path, allow_pickle=False) as stored:
        names = sorted({name.partition("/")[0] for name in stored if "/" in name}, key=int)
        if names:
            for name in names:
                yield int(name), stored[f"{name}/vertices_nm_zyx"], stored[f"{name}/edges"]
            return
        if not {"skeleton_id", "nodes"} <= set(stored):
            raise UserError(f"{path} holds {', '.join(stored)}: these are no skeletons")
        nodes = stored["nodes"]
        for place, name in enumerate(stored["skeleton_id"]):
            own = np.flatnonzero(nodes[:, 0] == place)
            pairs = stored[f"edges_{place}"][:, :2].astype(np.int64)
            yield int(name), nodes[own, 1:], np.searchsorted(own, pairs)


def _read_swc(files: Sequence[Path]) -> Iterator[Part]:
    for place, file in enumerate(files, 1):
        try:
            rows = np.loadtxt(file, comments="#", ndmin=2)
        except ValueError as error:
            raise UserError(f"{file} is no SWC file ({error})") from error
        if rows.shape[1] != 7:
            raise UserError(f"{file} has {rows.shape[1]} columns, an SWC file has 7")
        number = {int(node): row for row, node in enumerate(rows[:, SWC_ID])}
        pairs = [
            (row, number[int(parent)])
            for row, parent in enumerate(rows[:, SWC_PARENT])
            if parent >= 0
        ]
        name = int(file.stem) if file.stem.isdigit() else place
        yield name, rows[:, SWC_PLACE][:, ::-1], np.array(pairs)
