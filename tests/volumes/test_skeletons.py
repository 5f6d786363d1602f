import os
import pickle
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes.skeletons import read_skeletons

VOXEL = (20.0, 9.0, 9.0)


def two_neurons(*, nm: bool = True) -> nx.Graph:
    """Ids 5 (a fork of four nodes) and 3 (a line of two)."""
    graph = nx.Graph()
    places = {
        10: (1, 2, 3),
        11: (1, 2, 5),
        12: (4, 2, 5),
        13: (1, 6, 5),
        20: (8, 8, 8),
        21: (8, 9, 8),
    }
    for node, place in places.items():
        facts = {"id": 5 if node < 20 else 3, "index_position": np.array(place)}
        if nm:
            facts["nm_position"] = np.array(place) * 10.0 + 1
        graph.add_node(node, **facts)
    graph.add_edges_from([(10, 11), (11, 12), (11, 13), (20, 21)], edge_length=1.0)
    return graph


def pickled(folder: Path, content: object) -> Path:
    path = folder / "skeleton.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_graph_becomes_nodes_and_edges(tmp_path: Path) -> None:
    found = read_skeletons(pickled(tmp_path, two_neurons()), voxel_size=VOXEL)
    assert found.ids.tolist() == [3, 5]
    assert found.ids[found.owner].tolist() == [5, 5, 5, 5, 3, 3]
    assert found.voxels[2].tolist() == [4, 2, 5]
    np.testing.assert_allclose(found.edge_lengths, [20, 30, 40, 10])


def test_positions_follow_from_the_voxel_where_they_are_not_stored(tmp_path: Path) -> None:
    found = read_skeletons(pickled(tmp_path, two_neurons(nm=False)), voxel_size=VOXEL)
    np.testing.assert_allclose(found.edge_lengths, [18, 60, 36, 9])


def test_graph_that_was_looked_at_before_it_was_pickled_is_read(tmp_path: Path) -> None:
    graph = two_neurons()
    # Each of these stays in the graph, and is pickled with it.
    assert len(graph.nodes) and graph.edges and graph.degree and graph.adj
    found = read_skeletons(pickled(tmp_path, graph), voxel_size=VOXEL)
    assert found.ids.tolist() == [3, 5] and len(found.edges) == 4


class Evil:
    """What runs a command when it is unpickled as usual."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "written"
    graph = two_neurons()
    graph.nodes[10]["extra"] = Evil(target)
    for content in (Evil(target), graph):
        with pytest.raises(UserError, match=r"skeleton.pkl holds \w+.system, which may run code"):
            read_skeletons(pickled(tmp_path, content), voxel_size=VOXEL)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [({"a": 1}, "holds a dict"), (nx.path_graph(3), "the node 0 has no 'id'")],
)
def test_other_pickles_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_skeletons(pickled(tmp_path, content), voxel_size=VOXEL)


def test_broken_pickle_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path, two_neurons())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="is no pickled graph"):
        read_skeletons(path, voxel_size=VOXEL)


def test_swc_and_npz_hold_the_same(tmp_path: Path) -> None:
    nodes = np.array([[100.0, 90, 180], [100, 90, 270], [140, 90, 270]])
    rows = [f"{n + 1} 0 {x} {y} {z} 1.0 {n or -1}" for n, (z, y, x) in enumerate(nodes)]
    (tmp_path / "swc").mkdir()
    (tmp_path / "swc" / "17.swc").write_text("# a comment\n" + "\n".join(rows) + "\n")
    np.savez(
        tmp_path / "a.npz",
        **{"17/vertices_nm_zyx": nodes, "17/edges": np.array([[1, 0], [2, 1]], np.uint32)},
    )
    for name in ("swc", "swc/17.swc", "a.npz"):
        found = read_skeletons(tmp_path / name, voxel_size=VOXEL)
        assert found.ids.tolist() == [17]
        assert found.voxels.tolist() == [[5, 10, 20], [5, 10, 30], [7, 10, 30]]
        np.testing.assert_allclose(found.edge_lengths, [90, 40])


@pytest.mark.parametrize("name", ["no.pkl", "a.txt"])
def test_what_is_not_there_or_unknown_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=name):
        read_skeletons(tmp_path / name, voxel_size=VOXEL)
