"""Ways to spoil a file, each drawn from a random generator: bytes, JSON, HDF5, weights, text."""

import copy
import json
import os
import pickle
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

# Made by what a file must not be able to run.
CANARY = Path("ran")
ODD_VALUES = (
    *(None, True, False, "", "text", "nan", "../../outside", "\x1b[31m"),
    *(0, -1, 2**31, 2**70, 1e308, float("nan"), float("inf"), 0.5),
    *([], {}, [[]], [None], [1, 2], [10**12] * 3, {"a": {"b": []}}, "x" * 5000),
)


class Touch:
    """An object whose unpickling makes the canary: harmless, and seen if it happens."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(CANARY),)


def spoil_bytes(path: Path, random: random.Random) -> None:
    """Flips, cuts, repeats or replaces bytes of a file; a small one or its head, mostly."""
    data = bytearray(path.read_bytes())
    way = random.choice(("flip", "flip", "head", "cut", "empty", "noise", "twice", "zeros"))
    if way in ("flip", "head") and data:
        reach = len(data) if way == "flip" else min(len(data), 600)
        for _ in range(random.choice((1, 3, 40))):
            data[random.randrange(reach)] = random.randrange(256)
    elif way == "cut":
        data = data[: random.randrange(len(data) + 1)]
    elif way == "zeros" and data:
        start = random.randrange(len(data))
        data[start : start + 200] = bytes(len(data[start : start + 200]))
    else:
        data = {"empty": b"", "noise": random.randbytes(300), "twice": data + data}.get(way, data)
    path.write_bytes(data)


def spoil_value(value: Any, random: random.Random) -> Any:
    """The JSON-like value with one or two places of it lost or replaced by something odd."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2))):
        places = list(_places(value))
        if not places:
            return random.choice(ODD_VALUES)
        inside, key = random.choice(places)
        with suppress(KeyError, IndexError):  # the second place was inside the first
            if random.random() < 0.3:
                del inside[key]
            else:
                inside[key] = copy.deepcopy(random.choice(ODD_VALUES))
    return value


def spoil_json(path: Path, random: random.Random) -> None:
    """The JSON file with a value spoilt, or its text."""
    if random.random() < 0.2:
        spoil_bytes(path, random)
    else:
        path.write_text(json.dumps(spoil_value(json.loads(path.read_text()), random)))


def spoil_zarr(folder: Path, random: random.Random) -> None:
    """Metadata or a chunk of a zarr folder spoilt, lost, or a folder instead of a file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    metadata = [path for path in files if path.name in ("zarr.json", ".zarray", ".zattrs")]
    path = random.choice(metadata if random.random() < 0.7 else files)
    way = random.random()
    if way < 0.1:
        path.unlink()
    elif way < 0.15:
        path.unlink()
        path.mkdir()
    elif way < 0.2:
        (folder / "loop").symlink_to(folder.absolute(), target_is_directory=True)
    elif path in metadata:
        spoil_json(path, random)
    else:
        spoil_bytes(path, random)


def spoil_hdf5(path: Path, random: random.Random) -> None:
    """Bytes of an HDF5 file spoilt, or what is in it: links, types, shapes, attributes."""
    if random.random() < 0.4:
        spoil_bytes(path, random)
        return
    with h5py.File(path, "r+") as file:
        name = random.choice(list(file))
        data = file[name]
        if random.random() < 0.4 or not isinstance(data, h5py.Dataset) or data.is_virtual:
            _spoil_attributes(data, random)
            return
        array, attributes = data[...], dict(data.attrs)
        del file[name]
        _put_instead(file, name, array, random)
        with suppress(RuntimeError, KeyError):  # what is there now may lead nowhere
            for key, value in attributes.items():
                file[name].attrs[key] = value


def spoil_pickle(path: Path, random: random.Random) -> None:
    """A pickle spoilt in its bytes, or of something else."""
    others = (Touch(), {"a": 1}, [1], np.zeros(3), None, {"state_dict": Touch()})
    if random.random() < 0.5:
        spoil_bytes(path, random)
    else:
        path.write_bytes(pickle.dumps(random.choice(others)))


def spoil_weights(path: Path, random: random.Random) -> None:
    """A checkpoint with a key, a fact or a tensor spoilt; or its bytes; or another object."""
    way = random.random()
    if way < 0.15:
        spoil_bytes(path, random)
    elif way < 0.25:
        others = (Touch(), torch.zeros(3), [1, 2], {"state_dict": Touch()}, np.float64(1), "text")
        torch.save(random.choice(others), path)
    else:
        contents = torch.load(path, weights_only=True)
        inner = random.choice(["emseg", "state_dict", None, None])
        if inner is None:
            contents = spoil_value(contents, random)
        else:
            contents[inner] = spoil_value(contents[inner], random)
        torch.save(contents, path)


def spoil_skeletons(path: Path, random: random.Random) -> None:
    """Skeletons with odd numbers, lines or arrays, or spoilt bytes."""
    if path.suffix == ".pkl":
        spoil_pickle(path, random)
    elif random.random() < 0.3:
        spoil_bytes(path, random)
    elif path.suffix == ".swc":
        words = [line.split() for line in path.read_text().splitlines()]
        row = random.choice(words)
        row[random.randrange(len(row))] = random.choice(("nan", "1e300", "-5", "x", "", "1.5"))
        path.write_text("\n".join(" ".join(line) for line in words) + "\n")
    else:
        with np.load(path) as stored:
            arrays = dict(stored)
        name = random.choice([*arrays])
        odd = (np.full((3, 3), np.nan), np.full((3, 3), 1e300), np.zeros(0), np.array(["a"]))
        arrays[random.choice((name, "x/y"))] = random.choice((*odd, np.full((2, 2), 2**40)))
        np.savez(path, **arrays)


def spoil_sqlite(path: Path, random: random.Random) -> None:
    """A study's database: bytes, no tables, rows lost or of other types."""
    if random.random() < 0.4:
        spoil_bytes(path, random)
        return
    with sqlite3.connect(path) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master")]
        table = random.choice([t for t in tables if not t.startswith(("sqlite", "ix"))])
        way = random.choice(("drop table", "delete from", "update"))
        if way == "update":
            column = random.choice([*database.execute(f"pragma table_info({table})")])[1]
            with suppress(sqlite3.IntegrityError):
                database.execute(f"update {table} set {column} = ?", (random.choice(("x", -1)),))
        else:
            database.execute(f"{way} {table}")


def spoil_text(path: Path, random: random.Random) -> None:
    """A YAML file with a line lost, doubled, moved in or out, or with an odd value."""
    lines = path.read_text().splitlines()
    at = random.randrange(len(lines))
    odd = ("[" * 3000, "&a [*a]", "${model}", "!!python/name:os.getcwd", "off", "010", "nan", "{}")
    way = random.choice(("lose", "twice", "indent", "value", "value", "bytes", "line"))
    if way == "lose":
        del lines[at]
    elif way == "twice":
        lines.insert(at, lines[at])
    elif way == "indent":
        lines[at] = random.choice(("  ", "\t", "- ")) + lines[at]
    elif way == "value" and ":" in lines[at]:
        lines[at] = f"{lines[at].split(':')[0]}: {random.choice((*odd, '-1', '[1, 2]', 'a: b: c'))}"
    elif way == "line":
        lines.insert(at, random.choice(("%", "a: &x *x", "? [a]", "1: 2", "null: 1", *odd)))
    path.write_text("\n".join(lines) + "\n")
    if way == "bytes":
        spoil_bytes(path, random)


def put_special(path: Path, random: random.Random) -> None:
    """Something else in the place of a file or folder: a pipe, a loop, a device, a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    way = random.choice(("fifo", "loop", "dangling", "device", "folder", "endless"))
    if way == "fifo":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    else:
        to = {"loop": path.name, "dangling": "nowhere", "device": os.devnull}
        path.symlink_to(to.get(way, "/dev/zero"))


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in [*value] if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _spoil_attributes(node: Any, random: random.Random) -> None:
    odd: tuple[Any, ...] = ("{", "text", b"\xff", -1, np.nan, 2**40, [1.0], [np.inf] * 3, [0.0] * 3)
    odd += (h5py.Empty("f"), np.zeros((2, 2)), np.array([b"x", b"y", b"z"]), node.ref)
    names = ("axes", "resolution", "offset", "unit", "json_attributes", "axistags", "axis_names")
    name = random.choice([*node.attrs, *names])
    if name in node.attrs and random.random() < 0.3:
        del node.attrs[name]
    else:
        node.attrs[name] = random.choice(odd)


def _put_instead(file: h5py.File, name: str, array: np.ndarray, random: random.Random) -> None:
    way = random.randrange(9)
    if way == 0:
        file[name] = h5py.SoftLink(f"/{name}")
    elif way == 1:
        file[name] = h5py.ExternalLink("lost.h5", "main")
    elif way == 2:
        file.create_group(name)["inner"] = h5py.SoftLink("/")
    elif way == 3:
        chunks = tuple(min(64, size) for size in array.shape)
        shape = (*array.shape[:-3], 10**6, 10**6, 10**6)
        file.create_dataset(name, shape, array.dtype, chunks=chunks)
    elif way == 4:
        file[name] = random.choice((np.array(b"text"), np.array(1.5), np.zeros(0), array[0]))
    elif way == 5:
        file[name] = array.astype(random.choice(("c8", "f8", "i1", "b1", "S3", ">f4")))
    elif way == 6:
        layout = h5py.VirtualLayout(array.shape, array.dtype)
        layout[...] = h5py.VirtualSource("lost.h5", "main", array.shape)
        file.create_virtual_dataset(name, layout)
    elif way == 7:
        file[name] = np.full(array.shape, random.choice((np.nan, -7.0, 1e30)))
    else:
        file[name] = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])
