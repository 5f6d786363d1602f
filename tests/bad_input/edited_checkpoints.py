"""Checkpoints as people and programs spoil them: facts, weights, and the file itself."""

import copy
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

Contents = dict[str, Any]
Write = Callable[[Path], None]


class Foreign:
    """A class of another program."""


def deep(levels: int) -> list[Any]:
    inside: list[Any] = []
    for _ in range(levels):
        inside = [inside]
    return inside


def edited(contents: Contents, path: tuple[Any, ...], value: Any) -> Contents:
    """A copy whose fact at `path` is the value."""
    changed = copy.deepcopy(contents)
    node: Any = changed
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed


def weights(weight: torch.Tensor) -> dict[str, Any]:
    """What no network can take in place of one of its weights."""
    return {
        "complex": weight.to(torch.complex64),
        "whole numbers": weight.int(),
        "not finite": weight * float("nan"),
        "flat": weight.flatten(),
        "no number": torch.zeros(0),
        "sparse": weight.to_sparse(),
        "on no device": weight.to("meta"),
        "quantized": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "a list": weight.tolist(),
        "a mapping": {"weight": weight},
    }


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

    return {
        "cut in half": written(whole[: len(whole) // 2]),
        "empty": written(b""),
        "text": written(b"not a checkpoint"),
        "git lfs": written(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"),
        "zip": zipped,
        "tar": tarred,
        "torchscript": scripted,
        "safetensors": safetensors,
        "pickle": written(pickle.dumps({"state_dict": {}})),
        "pickle of a class": written(pickle.dumps(Foreign())),
        "hdf5": written(b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "folder": lambda path: path.mkdir(),
        "a class": saved({**contents, "config": Foreign()}),
        "a whole network": saved(nn.Linear(2, 2)),
        "a function": saved({**contents, "hook": np.median}),
        "numpy number": saved({**contents, "best": np.float64(0.5)}),
        "legacy": saved(contents, _use_new_zipfile_serialization=False),
        "a tensor": saved(torch.zeros(2)),
        "empty mapping": saved({}),
        "bare weights": saved(net),
        "weights of others": saved({"state_dict": net}),
        "nested weights": saved({"state_dict": {"state_dict": net}}),
        "many levels": saved({**contents, "x": deep(400)}),
        "holds itself": saved(_holding_itself(contents)),
    }


def _holding_itself(contents: Contents) -> Contents:
    ring = copy.deepcopy(contents)
    ring["emseg"]["config"]["again"] = ring["emseg"]
    return ring
