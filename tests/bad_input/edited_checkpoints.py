"""Checkpoints as people and programs spoil them: every fact in turn, and the file itself."""

import copy
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

Contents = dict[str, Any]
Write = Callable[[Path], None]

GONE = object()


class Foreign:
    """A class of another program."""


def deep(levels: int) -> list[Any]:
    inside: list[Any] = []
    for _ in range(levels):
        inside = [inside]
    return inside


# What stands in place of a fact.
INSTEAD: dict[str, Any] = {
    "gone": GONE,
    "null": None,
    "list": [],
    "mapping": {},
    "text": "odd",
    "empty text": "",
    "path": "../../../elsewhere",
    "negative": -1,
    "zero": 0,
    "huge": 10**30,
    "fraction": 0.5,
    "nan": float("nan"),
    "true": True,
    "nested": [[["x", None]], {"y": []}],
    "mapping of numbers": {0: 1, None: 2},
    "tensor": torch.zeros(2),
    "numbers": [1, -2, 3, 4],
    "deep": deep(60),
}
BESIDE = ("state_dict", "global_step", "epoch", "emseg", "optimizer_states", "lr_schedulers")


def edited(contents: Contents, path: tuple[Any, ...], value: Any) -> Contents:
    """A copy whose fact at `path` is the value, or gone."""
    changed = copy.deepcopy(contents)
    node: Any = changed
    for part in path[:-1]:
        node = node[part]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


def facts(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every fact, mappings and lists of mappings before what is in them."""
    inside = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list) and len(node) <= 3:
        inside = enumerate(node)
    for key, value in inside:
        yield (*path, key)
        yield from facts(value, (*path, key))


def edits(contents: Contents) -> dict[str, Contents]:
    """Contents with one fact changed, by what was changed: all that can be."""
    found = {}
    for path in facts({k: v for k, v in contents.items() if k != "state_dict"}):
        for name, value in INSTEAD.items():
            label = f"{'.'.join(map(str, path))} {name}"
            found[label] = (path, value)
    for name, value in INSTEAD.items():
        found[f"state_dict {name}"] = (("state_dict",), value)
    first = next(iter(contents["state_dict"]))
    weight = contents["state_dict"][first]
    weights = {
        "half": weight.half(),
        "whole numbers": weight.int(),
        "complex": weight.to(torch.complex64),
        "not finite": weight * float("nan"),
        "flat": weight.flatten(),
        "larger": torch.zeros(2, *weight.shape),
        "no number": torch.zeros(0),
        "sparse": weight.to_sparse(),
        "on no device": weight.to("meta"),
        "quantized": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "a list": weight.tolist(),
        "a number": 1.0,
        "a mapping": {"weight": weight},
    }
    for name, value in weights.items():
        found[f"weight {name}"] = (("state_dict", first), value)
    for name in ("net.more", "loss.s", "policy.w", "teacher.x", "", 3, None, ("net", "x")):
        found[f"beside the weights {name}"] = (("state_dict", name), torch.zeros(1))
    return found


def files(contents: Contents) -> dict[str, Write]:
    """Files that are no checkpoint of ours, or no longer."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    whole = buffer.getvalue()
    net = {k.removeprefix("net."): v for k, v in contents["state_dict"].items()}

    def written(data: bytes) -> Write:
        return lambda path: path.write_bytes(data) and None

    def saved(value: Any, **how: Any) -> Write:
        return lambda path: torch.save(value, path, **how)

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("readme.txt", "hello")

    def zipped_like(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", b"nothing")
            file.writestr("archive/version", "3")

    def tarred(path: Path) -> None:
        with tarfile.open(path, "w") as file:
            for name in ("pickle", "storages", "tensors", "sys_info"):
                entry = tarfile.TarInfo(name)
                entry.size = 4
                file.addfile(entry, io.BytesIO(b"abcd"))

    def scripted(path: Path) -> None:
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))

    def safetensors(path: Path) -> None:
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)

    def npz(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, w=np.zeros(3))

    found: dict[str, Write] = {
        "cut in half": written(whole[: len(whole) // 2]),
        "cut at the end": written(whole[:-30]),
        "empty": written(b""),
        "text": written(b"not a checkpoint"),
        "zeros": written(bytes(5000)),
        "html": written(b"<!DOCTYPE html><html>Not found</html>"),
        "git lfs": written(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"),
        "zip": zipped,
        "zip like": zipped_like,
        "tar": tarred,
        "torchscript": scripted,
        "safetensors": safetensors,
        "npz": npz,
        "npy": lambda path: np.save(path.open("wb"), np.zeros(3)),
        "pickle": written(pickle.dumps({"state_dict": {}})),
        "pickle 5": written(pickle.dumps({"state_dict": net.keys().__len__()}, protocol=5)),
        "pickle 0": written(pickle.dumps(["a"], protocol=0)),
        "pickle of a class": written(pickle.dumps(Foreign())),
        "hdf5": written(b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "folder": lambda path: path.mkdir(),
        "a class": saved({**contents, "config": Foreign()}),
        "a whole network": saved(nn.Linear(2, 2)),
        "a function": saved({**contents, "hook": np.median}),
        "a set of paths": saved({**contents, "run": Path("x")}),
        "numpy number": saved({**contents, "best": np.float64(0.5)}),
        "numpy array": saved({**contents, "best": np.zeros(2)}),
        "legacy": saved(contents, _use_new_zipfile_serialization=False),
        "legacy cut": written(_legacy(contents)[:2000]),
        "a number": saved(3),
        "a tensor": saved(torch.zeros(2)),
        "a list": saved([torch.zeros(2)]),
        "empty mapping": saved({}),
        "bare weights": saved(net),
        "weights of others": saved({"state_dict": net}),
        "nested weights": saved({"state_dict": {"state_dict": net}}),
        "many levels": saved({**contents, "x": deep(400)}),
        "holds itself": saved(_holding_itself(contents)),
    }
    for seed in range(30):
        found[f"bytes flipped {seed}"] = written(_flipped(whole, seed))
    return found


def _holding_itself(contents: Contents) -> Contents:
    ring = copy.deepcopy(contents)
    ring["emseg"]["config"]["again"] = ring["emseg"]
    return ring


def _legacy(contents: Contents) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _flipped(whole: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    changed = np.frombuffer(whole, np.uint8).copy()
    # The first half of the file has the pickle of what is in it.
    at = rng.integers(0, len(changed) // (1 + seed % 2), 20)
    changed[at] = rng.integers(0, 256, len(at))
    return changed.tobytes()
