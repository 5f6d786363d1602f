"""Skeletons: the centre lines of true objects."""

import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.volumes.damage import one_line
from emseg.volumes.location import require_regular
from emseg.volumes.skeleton_formats import Part, read_graph, read_npz, read_swc

SUFFIXES = (".pkl", ".pickle", ".npz", ".swc")
# Fraction of a voxel by which inexact sizes may place positions before its corner.
ROUNDING = 1e-6
# Voxels by which a node's two positions may differ after rounding or smoothing.
MOST_APART = 2.0
# No volume is as long, in voxels; beyond it floats cannot represent single voxels.
FURTHEST = 2.0**52
# Bytes of memory per byte of a file: arrays compress well, graphs become many objects.
LARGEST_GROWTH = 64
MARGIN = 1 << 30


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Skeletons of several objects, as nodes and the edges that join two of one skeleton.

    Attributes:
        ids: (S,) names of the skeletons.
        owner: (N,) each node's index in `ids`, int64.
        voxels, positions: (N, 3) each node's position in voxels and in nm (float64), both in the
            order of the stored axes.
        edges: (E, 2) pairs of nodes, int64.

    Raises:
        UserError: an edge joins two skeletons.
    """

    ids: np.ndarray
    owner: np.ndarray
    voxels: np.ndarray
    positions: np.ndarray
    edges: np.ndarray

    def __post_init__(self) -> None:
        # The types that kernels need.
        for name, dtype in (("owner", np.int64), ("edges", np.int64), ("positions", np.float64)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        ends = self.owner[self.edges]
        if (ends[:, 0] != ends[:, 1]).any():
            raise UserError("an edge joins two skeletons: each is one object's")

    @property
    def nbytes(self) -> int:
        return self.voxels.nbytes + self.positions.nbytes + self.edges.nbytes

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """The edges' lengths (E,) in nm, float64."""
        one, two = self.positions[self.edges.T]
        return np.linalg.norm(one - two, axis=1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The skeletons' lengths (S,) in nm, float64."""
        return np.bincount(self.owner[self.edges[:, 0]], self.edge_lengths, len(self.ids))


def read_skeletons(
    path: str | Path,
    *,
    voxel_size: Sequence[float],
    axes: str = "zyx",
    offset: Sequence[float] | None = None,
) -> Skeletons:
    """The skeletons in a file, in voxels of a volume.

    - `.pkl`, `.pickle`: an undirected networkx graph; nodes have `id` and `index_position` (voxels
      in stored order), and `nm_position` (nm in that order), or else their positions are the voxels
      times their size. Only networkx, numpy and plain containers are unpickled.
    - `.npz`: `<id>/vertices_nm_zyx` and `<id>/edges` of each skeleton, or the flat arrays of
      em_erl (`skeleton_id`, `nodes` in nm, z, y, x, with the skeleton's place first,
      `edges_<place>`).
    - `.swc`, or a folder of them: x, y, z in nm; a skeleton each, named by its number, or by its
      place in the order of names.

    Args:
        path: a file of one of these formats, or a folder of `.swc`.
        voxel_size: nm, in stored-axis order.
        axes: the volume's stored axes.
        offset: nm, in stored-axis order: where the volume begins in the space in which positions
            in nm lie. None: at 0.

    Raises:
        UserError: there is no such file, or it has another format, lacks an attribute, contains an
            object that is not allowed, edges to missing nodes, or positions in nm that contradict
            those in voxels.
    """
    path = Path(path)
    files = skeleton_files(path)
    in_order = ["zyx".index(axis) for axis in axes]
    with one_line(f"{path} holds no skeletons as they are meant to be"), _bounded_memory(files):
        if path.suffix in (".pkl", ".pickle"):
            parts, order = read_graph(path), [0, 1, 2]
        else:
            parts, order = read_npz(path) if path.suffix == ".npz" else read_swc(files), in_order
        sizes = np.asarray(voxel_size, np.float64)
        return _joined(parts, order, sizes, offset or (0.0, 0.0, 0.0), where=path)


def is_skeletons(path: str | Path) -> bool:
    """Whether a path names skeletons, not a volume: by its suffix, or as a folder of .swc files."""
    path = Path(path)
    return path.suffix in SUFFIXES or (path.is_dir() and any(path.glob("*.swc")))


def skeleton_files(path: Path) -> list[Path]:
    """The files that hold the skeletons: the path itself, or the .swc files of a folder.

    Raises:
        UserError: there are none, or they are of another format.
    """
    if not path.exists() and not path.is_symlink():
        raise UserError(f"{path}: there are no skeletons")
    files = sorted(path.glob("*.swc")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no .swc files")
    if not path.is_dir() and path.suffix not in SUFFIXES:
        formats = ", ".join(SUFFIXES)
        raise UserError(f"{path}: skeletons are in files of {formats}, or in a folder of .swc")
    for file in files:
        require_regular(file)
    return files


@contextmanager
def _bounded_memory(files: Iterable[Path]) -> Iterator[None]:
    """Makes this process fail with MemoryError if reading the files needs far more than their size.

    In some formats, such as pickle, a few bytes may ask for any amount.
    """
    most = MARGIN + LARGEST_GROWTH * sum(file.stat().st_size for file in files)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = min([in_use + most, *(bound for bound in (soft, hard) if bound >= 0)])
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _joined(
    parts: Iterable[Part],
    order: list[int],
    size: np.ndarray,
    offset: Sequence[float],
    *,
    where: Path,
) -> Skeletons:
    """All skeletons in one object, the axes of their positions in this order."""
    ids, owner, count = [], [], 0
    voxels, positions = [np.zeros((0, 3), np.int64)], [np.zeros((0, 3))]
    edges = [np.zeros((0, 2), np.int64)]
    for place, part in enumerate(parts):
        nodes = len(part.positions if part.voxels is None else part.voxels)
        pairs = _whole(part.edges, "its edges").reshape(-1, 2)
        if pairs.size and not 0 <= pairs.min() <= pairs.max() < nodes:
            raise UserError(f"{where}: skeleton {part.name} has edges to nodes that it has not")
        at = None if part.voxels is None else _whole(part.voxels, "the voxels of its nodes")
        nm = at * size if part.positions is None else np.asarray(part.positions, np.float64)
        if nm.shape != (nodes, 3) or not np.isfinite(nm).all():
            raise UserError(f"{where}: skeleton {part.name} has nodes without three coordinates")
        if (np.abs(nm) >= FURTHEST * size).any():
            raise UserError(
                f"{where}: skeleton {part.name} has a node {np.abs(nm).max():g} nm away"
            )
        nm = nm[:, order]
        ids.append(part.name)
        owner += [place] * nodes
        positions.append(nm)
        # The voxel that contains a position: its corner is at 0.
        here = (nm - offset) / size
        if at is not None and part.positions is not None:
            _check_positions(part.name, at, nm / size, here, where)
        voxels.append(np.floor(here + ROUNDING).astype(np.int64) if at is None else at)
        edges.append(pairs + count)
        count += nodes
    arrays = (np.concatenate(array) for array in (voxels, positions, edges))
    return Skeletons(np.array(ids, np.int64), np.array(owner, np.int64), *arrays)


def _check_positions(
    name: int, voxels: np.ndarray, absolute: np.ndarray, here: np.ndarray, where: Path
) -> None:
    """Raises UserError if positions in nm disagree with those given in voxels."""
    apart = [np.abs(places - voxels).max(axis=1, initial=0) for places in (absolute, here)]
    if len(voxels) and min(map(np.median, apart)) > MOST_APART:
        node = int(np.argmax(apart[1]))
        raise UserError(
            f"{where}: skeleton {name} has a node at voxel {voxels[node].tolist()} and, by its "
            f"nm_position, at voxel {np.round(here[node], 1).tolist()}: it is of other voxels than "
            "the image"
        )


def _whole(numbers: Any, what: str) -> np.ndarray:
    found = np.asarray(numbers)
    if found.size and found.dtype.kind not in "iu":
        floats = found.astype(np.float64)
        if not (np.isfinite(floats) & (floats == np.round(floats))).all():
            raise ValueError(f"{what} are not whole numbers")
    if found.size and np.abs(found.astype(np.float64)).max() >= FURTHEST:
        raise ValueError(f"{what} go up to {np.abs(found.astype(np.float64)).max():g}")
    return found.astype(np.int64)
