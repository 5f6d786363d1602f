"""Input files, damaged at random: small sound ones, and what is done to them."""

import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import networkx as nx
import numpy as np
import tifffile
import zarr

from emseg.volumes import write_volume

RAW = np.random.default_rng(0).integers(0, 255, (4, 6, 8), np.uint8)
# What a value of metadata is replaced by; the last one stands for leaving it out.
ABSENT = object()
WRONG = [
    None, [], {}, "", "no", -1, 0, 1.5, 10**12, 10**400, float("nan"), float("inf"), True,
    [None], ["a"], [-1, -1, -1], [0, 0, 0], [10**9] * 3, [10**400] * 3, [[1]], {"a": None},
    "9" * 5000, ABSENT,
]  # fmt: skip


def hdf5(name: str) -> None:
    with h5py.File(name, "w") as file:
        data = file.create_dataset("main", data=RAW, chunks=(2, 6, 8), compression="gzip")
        data.attrs["resolution"] = [30.0, 6.0, 6.0]
        data.attrs["json_attributes"] = '["more"]'
        data.attrs["more"] = '{"a": 1}'
        file["group/labels"] = RAW.astype(np.uint32)
        file["soft"], file["far"] = h5py.SoftLink("/main"), h5py.ExternalLink(name, "main")
        layout = h5py.VirtualLayout((4, 6, 8), np.uint8)
        layout[:4] = h5py.VirtualSource(".", "main", (4, 6, 8))
        file.create_virtual_dataset("virtual", layout)


def zarr_of(version: int) -> Callable[[str], None]:
    def make(name: str) -> None:
        transforms = [
            {"type": "scale", "scale": [30, 6, 6]},
            {"type": "translation", "translation": [0, 6, 6]},
        ]
        axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
        datasets = [{"path": "0", "coordinateTransformations": transforms}]
        block = {"multiscales": [{"axes": axes, "datasets": datasets, "version": "0.4"}]}
        attributes = block if version == 2 else {"ome": {"version": "0.5", **block}}
        group = zarr.create_group(name, zarr_format=version, attributes=attributes)
        array = group.create_array("0", shape=RAW.shape, chunks=(2, 6, 8), dtype="u1")
        array[...] = RAW
        array.attrs["resolution"], array.attrs["offset"] = [30, 6, 6], [0, 0, 0]
        array.attrs["unit"] = "nm"

    return make


def ours(name: str) -> None:
    write_volume(name, RAW, axes="zyx", voxel_size=(30, 6, 6), attributes={"kind": "prediction"})


def tiff(**how: Any) -> Callable[[str], None]:
    return lambda name: tifffile.imwrite(name, RAW, photometric="minisblack", **how)


def npz(name: str) -> None:
    nodes, edges = np.array([[30.0, 6, 6], [60, 6, 6]]), np.array([[0, 1]])
    np.savez_compressed(name, **{"7/vertices_nm_zyx": nodes, "7/edges": edges})


def flat_npz(name: str) -> None:
    nodes = np.array([[0, 30.0, 6, 6], [0, 60, 6, 6]])
    np.savez(name, skeleton_id=np.array([7]), nodes=nodes, edges_0=np.array([[0, 1]]))


def pkl(protocol: int) -> Callable[[str], None]:
    def make(name: str) -> None:
        graph = nx.Graph()
        for node in range(4):
            place = np.array([node, 1, 1])
            graph.add_node(node, id=7, index_position=place, nm_position=place * 6.0)
        graph.add_edges_from([(0, 1), (1, 2)])
        Path(name).write_bytes(pickle.dumps(graph, protocol))

    return make


def swc(name: str) -> None:
    Path(name).write_text("# x y z\n1 0 6 6 30 1.0 -1\n2 0 6 6 60 1.0 1\n3 0 6 6 90 1.0 2\n")


MAKERS: dict[str, Callable[[str], None]] = {
    "a.h5": hdf5,
    "b.h5": ours,
    "v2.zarr": zarr_of(2),
    "v3.zarr": zarr_of(3),
    "own.zarr": ours,
    "plain.tif": tiff(),
    "ome.ome.tif": tiff(metadata={"axes": "ZYX", "PhysicalSizeX": 6.0}),
    "packed.tif": tiff(compression="zlib", imagej=False),
    "imagej.tif": tiff(imagej=True, metadata={"spacing": 3, "unit": "nm"}),
    "a.npz": npz,
    "flat.npz": flat_npz,
    "p2.pkl": pkl(2),
    "p5.pkl": pkl(5),
    "a.swc": swc,
}


def damaged(random: random.Random, name: str) -> str:
    """Damages the file, or one of the folder's, and says how."""
    root = Path(name)
    file = random.choice(
        sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    )
    text = file.suffix == ".json" or file.name.startswith(".z")
    if text and random.random() < 0.8:
        return f"{file}: {_change_metadata(random, file)}"
    content = bytearray(file.read_bytes())
    how = random.choice(["flip", "flip", "number", "cut", "insert", "zeros", "empty"])
    # Most of what decides how a file is read stands at its beginning, of npz and TIFF at its end.
    top = random.choice([len(content), min(len(content), 300)])
    at = (
        random.randrange(top) if random.random() < 0.7 else len(content) - 1 - random.randrange(top)
    )
    if how == "flip":
        for _ in range(random.choice([1, 3, 20])):
            content[min(at + random.randrange(40), len(content) - 1)] = random.randrange(256)
    elif how == "number":
        width = random.choice([2, 4, 8])
        content[at : at + width] = random.choice([b"\xff", b"\x7f", b"\x00"]) * width
    elif how == "cut":
        del content[at:]
    elif how == "insert":
        content[at:at] = random.choice(
            [b"nan ", b"1e400 ", b"-5 ", b"\n", bytes(random.randbytes(9))]
        )
    elif how == "zeros":
        content[at : at + 64] = bytes(64)
    else:
        content.clear()
    file.write_bytes(content)
    return f"{file}: {how} at {at}"


def _change_metadata(random: random.Random, file: Path) -> str:
    found = json.loads(file.read_text())
    if random.random() < 0.1:
        wrong = random.choice(WRONG[:-1])
        file.write_text(json.dumps(wrong))
        return f"is {wrong!r:.40}"
    *parents, last = random.choice(list(_places(found)))
    node = found
    for part in parents:
        node = node[part]
    wrong = random.choice(WRONG)
    if wrong is ABSENT:
        del node[last]
    else:
        node[last] = wrong
    file.write_text(json.dumps(found))
    return f"{'.'.join(map(str, (*parents, last)))} = {wrong!r:.40}"


def _places(node: Any) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, inner in items:
        yield (key,)
        if isinstance(inner, dict | list):
            yield from ((key, *rest) for rest in _places(inner))
