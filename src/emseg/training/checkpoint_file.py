"""Files of `torch.save` read without running anything from them."""

import pickle
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emseg.errors import UserError

# PyTorch's message for a class or function that the file wants to load.
_WANTED = re.compile(
    r"GLOBAL ([^\s\x1b]+)|unrecognized function <?\w* ?'?([\w.]+)|but got <class '([\w.]+)'"
)
_NUMBERS = re.compile(r"[<>=|]?[bfiu?][1248]?")
_LONGEST = 200


def load_plain(path: Path) -> Any:
    """The contents of a file of `torch.save`: tensors on the CPU, containers, text and numbers.

    NumPy's numbers become Python's.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds other objects, the first
            of which is named.
    """
    if not path.is_file():
        what = "does not exist"
        if path.exists():
            what = "is a folder" if path.is_dir() else "is no regular file"
        raise UserError(f"checkpoint {path} {what}")
    try:
        with plain_numbers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise UserError(f"checkpoint {path} does not fit into memory") from error
    # The unpickler and the archive readers may raise anything on damaged bytes.
    except Exception as error:
        raise UserError(f"checkpoint {path} {_reason(path, error)}") from error


def plain_numbers() -> AbstractContextManager[Any]:
    """Within it `torch.load` reads NumPy's numbers, but not its arrays, as Python's."""
    names = {
        "numpy.dtype": _Kind,
        "numpy._core.multiarray.scalar": _number,
        "numpy.core.multiarray.scalar": _number,
    }
    allowed: list[Any] = [(stand_in, name) for name, stand_in in names.items()]
    return torch.serialization.safe_globals(allowed)


class _Kind:
    """The dtype of a number, as NumPy pickles it; dtypes with objects are refused."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype of {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _number(kind: _Kind, data: bytes) -> int | float | bool:
    number: int | float | bool = np.frombuffer(data, kind.dtype, count=1)[0].item()
    return number


def _reason(path: Path, error: Exception) -> str:
    # PyTorch adds its own advice around the unpickler's message.
    said = error.__context__ if isinstance(error.__context__, pickle.UnpicklingError) else error
    wanted = _WANTED.search(str(said)) if isinstance(said, pickle.UnpicklingError) else None
    if wanted is not None:
        name = wanted[wanted.lastindex or 0][:_LONGEST]
        return (
            f"is refused: it holds {name}, and only tensors, numbers, text and plain containers "
            "are read; save it again without that, numbers as float(x) or int(x)"
        )
    if "TorchScript" in str(error):
        return "is a TorchScript program; save the network's state_dict() instead"
    with path.open("rb") as file:
        begin = file.read(16)
    if not begin:
        return "cannot be read: it is empty"
    if begin.startswith(b"PK"):
        return "cannot be read: it is damaged, cut off, or an archive of something else"
    return "cannot be read: it is damaged, or no file of torch.save"
