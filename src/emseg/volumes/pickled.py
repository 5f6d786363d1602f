"""Pickled graphs, read so that no file can run code or crash the process.

A pickle names functions to be called. Here only a few classes of containers and networkx are
allowed, and our own replacements for numpy's: numpy itself may crash on a damaged pickle.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError

ALLOWED = {
    ("builtins", "set"),
    ("builtins", "dict"),
    ("collections", "OrderedDict"),
    ("networkx.classes.graph", "Graph"),
    # A graph stores the views of itself that were used before.
    ("networkx.classes.coreviews", "AdjacencyView"),
    ("networkx.classes.reportviews", "DegreeView"),
    ("networkx.classes.reportviews", "EdgeView"),
    ("networkx.classes.reportviews", "NodeView"),
}
# Types of arrays: booleans, numbers and texts.
KINDS = "biufcSU"


def unpickled_graph(path: Path) -> Any:
    """The networkx graph in the file; its arrays are objects that numpy converts to arrays.

    UserError for any other object: only plain containers, arrays and graphs are allowed.
    """
    with path.open("rb") as file:
        try:
            graph = _Unpickler(file, str(path)).load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
            raise UserError(f"{path} is no pickled graph ({error})") from error
    if not (hasattr(graph, "nodes") and hasattr(graph, "edges")):
        raise UserError(f"{path} holds a {type(graph).__name__}: skeletons are a networkx Graph")
    return graph


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedReader, where: str) -> None:
        super().__init__(file)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if (module, name) not in ALLOWED:
            raise UserError(
                f"{self._where} holds {module}.{name}, which may run code: skeletons are a "
                "networkx Graph of plain containers and numpy arrays"
            )
        return super().find_class(module, name)


class _Type:
    """A numpy type: its letters, and its byte order in the state."""

    def __init__(self, letters: str, *_: Any) -> None:
        self.letters, self.order = letters, ""

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = state[1].replace("|", "")

    @property
    def dtype(self) -> np.dtype:
        found = np.dtype(self.order + self.letters)
        if found.kind not in KINDS:
            raise ValueError(f"arrays of {found} are not read")
        return found


class _Array:
    """A numpy array, made from its state."""

    values: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, fortran, content = state
        flat = np.frombuffer(content, kind.dtype)
        self.values = flat.reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype, copy=copy)

    def __int__(self) -> int:
        return int(self.values)


def _scalar(kind: _Type, content: bytes) -> Any:
    return np.frombuffer(content, kind.dtype, 1)[0]


def _from_buffer(content: Any, kind: _Type, shape: Any, order: str, axes: Any = None) -> np.ndarray:
    if order == "K":
        return np.frombuffer(content, kind.dtype).reshape(shape).transpose(axes)
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    # Protocols without bytes write them like this.
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding} are not read")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    **{
        (f"{module}.{inner}", name): stand_in
        for module in ("numpy.core", "numpy._core")
        for inner, name, stand_in in (
            ("multiarray", "_reconstruct", lambda *_: _Array()),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
