import os
import pickle
import zipfile
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
            facts["nm_position"] = np.array(place) * (21.0, 9.5, 9.5)
        graph.add_node(node, **facts)
    graph.add_edges_from([(10, 11), (11, 12), (11, 13), (20, 21)], edge_length=1.0)
    return graph


def pickled(content: object) -> Path:
    path = Path("skeleton.pkl")
    path.write_bytes(pickle.dumps(content))
    return path


def test_graph_becomes_nodes_and_edges() -> None:
    found = read_skeletons(pickled(two_neurons()), voxel_size=VOXEL)
    assert found.ids.tolist() == [3, 5]
    assert found.ids[found.owner].tolist() == [3, 3, 5, 5, 5, 5]
    assert found.voxels[4].tolist() == [4, 2, 5]
    np.testing.assert_allclose(found.edge_lengths, [9.5, 19, 63, 38])


def test_positions_follow_from_the_voxel_where_they_are_not_stored() -> None:
    found = read_skeletons(pickled(two_neurons(nm=False)), voxel_size=VOXEL)
    np.testing.assert_allclose(found.edge_lengths, [9, 18, 60, 36])


def test_graph_that_was_looked_at_before_it_was_pickled_is_read() -> None:
    graph = two_neurons()
    # Each of these stays in the graph, and is pickled with it.
    assert len(graph.nodes) and graph.edges and graph.degree and graph.adj
    found = read_skeletons(pickled(graph), voxel_size=VOXEL)
    assert found.ids.tolist() == [3, 5] and len(found.edges) == 4


class Evil:
    """What runs a command when it is unpickled as usual."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_pickle_that_would_run_code_is_refused_and_runs_nothing() -> None:
    target = Path("written")
    graph = two_neurons()
    graph.nodes[10]["extra"] = Evil(target)
    for content in (Evil(target), graph):
        with pytest.raises(UserError, match=r"skeleton.pkl holds \w+.system, which may run code"):
            read_skeletons(pickled(content), voxel_size=VOXEL)
    assert not target.exists()


def test_swc_and_npz_hold_the_same() -> None:
    nodes = np.array([[100.0, 90, 180], [100, 90, 270], [140, 90, 270]])
    rows = [f"{n + 1} 0 {x} {y} {z} 1.0 {n or -1}" for n, (z, y, x) in enumerate(nodes)]
    Path("swc").mkdir()
    Path("swc/17.swc").write_text("# a comment\n" + "\n".join(rows) + "\n")
    np.savez(
        "a.npz",
        **{"17/vertices_nm_zyx": nodes, "17/edges": np.array([[1, 0], [2, 1]], np.uint32)},
    )
    for name in ("swc", "swc/17.swc", "a.npz"):
        found = read_skeletons(name, voxel_size=VOXEL)
        assert found.ids.tolist() == [17]
        assert found.voxels.tolist() == [[5, 10, 20], [5, 10, 30], [7, 10, 30]]
        np.testing.assert_allclose(found.edge_lengths, [90, 40])


@pytest.mark.parametrize("size", [4.4, 6.6, 9.7, 32.3, 0.1])
def test_node_at_a_multiple_of_the_voxel_size_lies_in_that_voxel(size) -> None:
    index = np.arange(2000)
    nodes = np.stack([index * size, index * 9.0, index * 1.1], axis=1)
    np.savez("a.npz", **{"1/vertices_nm_zyx": nodes, "1/edges": np.array([[0, 1]])})
    found = read_skeletons("a.npz", voxel_size=(size, 9.0, 1.1))
    assert (found.voxels == index[:, None]).all()


def test_positions_follow_the_stored_order_of_axes() -> None:
    Path("a.swc").write_text("1 0 15 25 505 1.0 -1\n2 0 24 25 505 1.0 1\n")
    zyx = read_skeletons("a.swc", voxel_size=(30, 9, 9))
    xyz = read_skeletons("a.swc", voxel_size=(9, 9, 30), axes="xyz")
    assert zyx.voxels.tolist() == [[16, 2, 1], [16, 2, 2]]
    assert xyz.voxels.tolist() == [[1, 2, 16], [2, 2, 16]]
    np.testing.assert_allclose(xyz.edge_lengths, zyx.edge_lengths)


def changed(**facts: object) -> nx.Graph:
    graph = two_neurons()
    graph.nodes[11].update(facts)
    return graph


GRAPHS = [
    changed(id="a"),
    changed(index_position=(1, 2)),
    changed(index_position=None),
    changed(nm_position=(1.0, 2.0)),
    changed(nm_position=(1.0, 2.0, np.nan)),
    changed(id=3),
    changed(id=10**30),
    changed(index_position=(1, np.nan, 3)),
    changed(index_position=(1, 1e30, 3)),
    changed(index_position=np.zeros((400, 400, 400), bool)),
    changed(nm_position=(1.0, 2.0, 1e300)),
]
ARRAYS = [
    {"a/vertices_nm_zyx": np.zeros((2, 3)), "a/edges": np.array([[0, 1]])},
    {"1/vertices_nm_zyx": np.zeros((2, 3))},
    {"1/vertices_nm_zyx": np.zeros((2, 2)), "1/edges": np.array([[0, 1]])},
    {"1/vertices_nm_zyx": np.zeros((2, 3)), "1/edges": np.array([[0, 7]])},
    {"1/vertices_nm_zyx": np.zeros((2, 3)), "1/edges": np.array([[0, -1]])},
    {"skeleton_id": np.array([1]), "nodes": np.zeros((2, 4))},
    {"skeleton_id": np.array([1]), "nodes": np.zeros((2, 4)), "edges_0": np.array([[0, 5]])},
    {"1/vertices_nm_zyx": np.full((2, 3), np.nan), "1/edges": np.array([[0, 1]])},
    {"1/vertices_nm_zyx": np.full((2, 3), 1e300), "1/edges": np.array([[0, 1]])},
    {"1/vertices_nm_zyx": np.zeros((2, 3)), "1/edges": np.array([[0, 0.5]])},
    {"1/vertices_nm_zyx": np.zeros((2, 3)), "1/edges": np.array([[0, np.nan]])},
]
FILES = [
    ("no.pkl", None),
    ("a.txt", b""),
    ("a.pkl", pickle.dumps({"a": 1})),
    ("a.pkl", pickle.dumps(nx.path_graph(3))),
    ("a.pkl", pickle.dumps(two_neurons())[:-40]),
    ("a.npz", b"no zip"),
    ("a.npz", b"PK\x03\x04 cut off"),
    ("a.pkl", b"\x80\xff"),
    ("a.swc", b""),
    ("a.swc", b"1 0 1 2 3 1.0 9\n"),
    ("a.swc", b"1 0 1 2\n"),
    ("a.swc", b"one two\n"),
    ("a.swc", b"nan 0 1 2 3 1.0 -1\n"),
    ("a.swc", b"1 0 1 nan 3 1.0 -1\n"),
    ("a.swc", b"1 0 1 2 3 1.0 nan\n"),
    ("a.swc", b"1 0 1 2 1e300 1.0 -1\n"),
    ("a.swc", b"1.5 0 1 2 3 1.0 -1\n"),
    ("a.swc", b"1 0 1 2 3 1.0 -1\n1 0 4 5 6 1.0 -1\n"),
    # One place of memory for each number up to 2^31, of which the file has one.
    ("a.pkl", b"\x80\x02Nr\xff\xff\xff\x7f."),
    # Bytes that are longer than the file by far.
    ("a.pkl", b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00ab."),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.pkl", pickle.dumps(graph)) for graph in GRAPHS),
        *(("a.npz", arrays) for arrays in ARRAYS),
        *FILES,
    ],
)
def test_what_means_nothing_is_refused_in_one_line(name: str, content: object) -> None:
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif isinstance(content, dict):
        np.savez(name, **content)
    with pytest.raises(UserError, match=name) as refused:
        read_skeletons(name, voxel_size=VOXEL)
    assert "\n" not in str(refused.value)


def test_type_of_an_array_that_is_damaged_is_no_crash() -> None:
    """Unpickled by numpy itself, this takes the process down."""
    path = pickled(two_neurons())
    content = path.read_bytes()
    assert b"NNNJ" in content
    path.write_bytes(content.replace(b"NNNJ", b"N0NJ"))
    assert read_skeletons(path, voxel_size=VOXEL).ids.tolist() == [3, 5]


def test_array_that_claims_more_than_the_file_holds_is_refused() -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**11, 3)}
    with (
        zipfile.ZipFile("a.npz", "w") as file,
        file.open("1/vertices_nm_zyx.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        member.write(bytes(48))
    with pytest.raises(UserError, match="a.npz"):
        read_skeletons("a.npz", voxel_size=VOXEL)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_all_kinds_in_a_graph_are_read(protocol: int) -> None:
    graph = two_neurons()
    for node, facts in graph.nodes.items():
        facts["id"] = np.uint16(facts["id"]) if node % 2 else np.array(facts["id"])
        facts["index_position"] = facts["index_position"].astype(">i4")
        facts["nm_position"] = np.asfortranarray(np.stack([facts["nm_position"]] * 2))[0]
        facts |= {"kind": np.str_("axon"), "more": np.arange(6).reshape(2, 3).T}
    path = Path("skeleton.pkl")
    path.write_bytes(pickle.dumps(graph, protocol))
    found = read_skeletons(path, voxel_size=VOXEL)
    expected = read_skeletons(pickled(two_neurons()), voxel_size=VOXEL)
    for name in ("ids", "owner", "voxels", "positions", "edges"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
