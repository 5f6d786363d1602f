"""What segments are made of, in a file: another threshold needs no second pass over the volume."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from emseg.decoding.agglomeration.merging import MergeTree, first_scores
from emseg.decoding.agglomeration.region_graph import Histograms, RegionGraph
from emseg.decoding.agglomeration.section_facts import Areas, Sections
from emseg.errors import UserError
from emseg.kernels.numbering import relabel
from emseg.volumes.atomic import replacing

if TYPE_CHECKING:
    from emseg.decoding.agglomerate import Agglomerate

_KIND = "region graph"


@dataclass(frozen=True, eq=False)
class SavedGraph:
    """The fragments of a volume, their region graph and its merge tree, as a HDF5 file has them.

    Datasets: `fragments` uint32 (Z, Y, X), 0 for background; `edges`, sorted by (u, v), u < v, with
    the largest affinity `max`, the `count` of pairs of voxels and the `sum` of their affinities in
    units of 2^-28; `scores` float32, of each edge before merging; `sizes` int64, voxels of each
    fragment (entry 0 the background's); `parents` int32 and `heights` float32 as in MergeTree, of
    merges below the attribute `until`. Groups `histograms` and `sections` where settings need them.
    """

    fragments: np.ndarray
    graph: RegionGraph
    tree: MergeTree

    def write(self, path: Path, key: str, scores: np.ndarray) -> None:
        """Writes the file, or replaces it, in one step.

        Args:
            path: ends with `.h5`.
            key: what `read` is asked for.
            scores: float32 per edge.

        Raises:
            UserError: the file cannot be written.
        """
        graph, tree = self.graph, self.tree
        arrays = {
            "fragments": self.fragments,
            "edges": graph.edges,
            "scores": scores,
            "sizes": graph.sizes,
            "parents": tree.parents,
            "heights": tree.heights,
        }
        if graph.histograms:
            arrays |= {f"histograms/{name}": a for name, a in vars(graph.histograms).items()}
        if graph.sections:
            areas = graph.sections.areas
            arrays["sections/overlaps"] = graph.sections.overlaps
            for name in ("first", "starts", "pixels"):
                arrays[f"sections/{name}"] = getattr(areas, name)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for name, array in arrays.items():
                file[name] = array
            file.attrs.update(kind=_KIND, key=key, until=tree.until)

    @classmethod
    def read(cls, path: str | Path, key: str | None = None) -> "SavedGraph | None":
        """What `write` put at the path, or None if there is nothing or something of another key.

        Raises:
            UserError: another file is there, or it cannot be read.
        """
        if not Path(path).exists():
            return None
        with _opened(path) as file:
            if key not in (None, file.attrs["key"]):
                return None
            found: dict[str, np.ndarray] = {}
            file.visititems(
                lambda name, item: (
                    found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None
                )
            )
            until = float(file.attrs["until"])
        histograms, sections = (
            {name.rpartition("/")[2]: a for name, a in found.items() if name.startswith(f"{kind}/")}
            for kind in ("histograms", "sections")
        )
        overlaps = sections.pop("overlaps", None)
        graph = RegionGraph(
            found["edges"],
            Histograms(**histograms) if histograms else None,
            found["sizes"],
            None if overlaps is None else Sections(Areas(**sections), overlaps),
        )
        tree = MergeTree(found["parents"], found["heights"], until)
        return cls(found["fragments"], graph, tree)


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path) as file:
            if file.attrs.get("kind") != _KIND:
                raise UserError(f"{path} is no region graph of emseg: move it, or rename it")
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}): remove it") from error


def has_graph(decoder: "Agglomerate", path: Path, key: str) -> bool:
    """Whether `labels_by_graph` would find a graph at the path, without reading it."""
    if not path.exists():
        return False
    with _opened(path) as file:
        return bool(file.attrs["key"] == _key(decoder, key))


def _key(decoder: "Agglomerate", key: str) -> str:
    own = decoder.fragments_key(), decoder.merge_function, decoder.discretize_queue
    return repr((key, own))


def labels_by_graph(
    decoder: "Agglomerate", path: Path, key: str, prediction: np.ndarray, **facts: Any
) -> np.ndarray:
    """The decoder's labels, uint32 (Z, Y, X), by the SavedGraph at the path, made if need be.

    Args:
        decoder: its threshold and what it does with dust and branches need not be those of before.
        path: a SavedGraph of another key, or made with other settings, is replaced.
        key: names the prediction.
        prediction, facts: as for a call of the decoder.

    Raises:
        UserError: as `SavedGraph.read` and a call do.
    """
    key = _key(decoder, key)
    saved = SavedGraph.read(path, key)
    if saved is None:
        fragments, graph = decoder.make_fragments(prediction, **facts)
        saved = SavedGraph(fragments, graph, decoder.tree(graph, 1.0))
        levels = decoder.discretize_queue == 256
        saved.write(path, key, first_scores(graph, decoder.merge_function, levels=levels))
    labels = saved.fragments.reshape(-1)
    relabel(labels, decoder.table(saved.graph, saved.tree.roots(decoder.thresholds)), labels)
    return saved.fragments
