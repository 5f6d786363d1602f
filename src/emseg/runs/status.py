"""How far the results of a run are: what is finished, what is left, and who works at it."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

from emseg.errors import UserError
from emseg.progress import amount, in_words
from emseg.runs.artifacts import SUFFIXES
from emseg.runs.lock import owner_of
from emseg.volumes.cells import Cells
from emseg.volumes.ledger import Ledger, Recorded

# How many of the last parts the speed is computed from.
RECENT = 50


def status(run: str) -> None:
    """Prints a line for each result of a run, and for each process that works at one.

    Raises UserError if there is no such folder.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise UserError(f"no folder {run}: status takes a run folder, outputs/<name>/<timestamp>")
    lines = [*_lines(folder)]
    print("\n".join(lines) if lines else f"{run}: no results, and nothing is being made")


def _lines(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix in SUFFIXES and path.stem.endswith(("_prediction", "_segmentation")):
            yield f"{name}: finished"
        elif path.name.endswith(".partial.json"):
            yield f"{str(name).removesuffix('.partial.json')}: {_progress(path)}"
        elif path.suffix == ".lock":
            owner = owner_of(path.with_suffix(""))
            if owner is not None:
                yield f"{name}: {owner}"


def _progress(about: Path) -> str:
    """How much of an unfinished volume is there, how fast it grows, and the time left."""
    try:
        of = json.loads(about.read_text())["of"]
        total = len(Cells.of(of["shape"], of["chunks"]))
        voxels = math.prod(of["shape"][-3:])
    except (OSError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError):
        return "unfinished, its description cannot be read"
    cells = Ledger(about.with_name(about.name.removesuffix(".json") + ".cells")).done.values()
    line = f"{len(cells)} of {total} cells"
    rate = _rate([*cells])
    if rate is None:
        return line
    left = in_words((total - len(cells)) / rate)
    last = in_words(max(time.time() - max(cell.seconds for cell in cells), 0))
    return f"{line}, {amount(rate * voxels / total)}voxel/s, {left} left; the last {last} ago"


def _rate(cells: list[Recorded]) -> float | None:
    """Cells in a second, by the times of the last ones; None if these are not enough."""
    times = sorted(cell.seconds for cell in cells)[-RECENT:]
    if len(times) < 2 or times[-1] == times[0]:
        return None
    return (len(times) - 1) / (times[-1] - times[0])
