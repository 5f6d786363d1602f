"""The rows of a sweep: one for each volume and combination, stored when it is made."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emseg.config.schema import BorderMask
from emseg.errors import UserError
from emseg.evaluation.affinity_overlap import affinity_overlap
from emseg.evaluation.means import Row
from emseg.runs.artifacts import contents, fingerprint, write_json
from emseg.stages.decode_job import decoder_input
from emseg.stages.trial import (
    Task,
    scores_by_value,
    task_facts,
    task_inputs,
    with_parameters,
)
from emseg.stages.truth import read_truth

# The argument that the decoder sweeps in one pass, and its values.
Swept = tuple[str, list[float]] | None
# What a row has besides arguments and scores.
ABOUT = ("sample", "seconds", "failure", "fingerprint", "contents")


class Book:
    """The rows of a sweep, written after each decode, so that a killed sweep can continue.

    With `affinities` a row also scores the affinities that the decoder got.
    """

    def __init__(self, path: Path, *, force: bool, affinities: bool, verify: bool = False) -> None:
        self.rows: list[Row] = []
        self._path, self._affinities, self._verify = path, affinities, verify
        self._left = {} if force else _read_rows(path)
        self._contents: dict[str, str] = {}

    def fill(self, task: Task, arguments: Mapping[str, Any], swept: Swept) -> None:
        """Adds the rows of one volume and combination, unless they exist."""
        # The config's own values of these arguments have no effect.
        about = task_facts(task, [*arguments, *(swept or ())[:1]])
        facts = {"task": about, "arguments": dict(arguments), "swept": swept}
        key = fingerprint("sweep", facts | ({"affinities": True} if self._affinities else {}))
        known = self._left.pop(key, None)
        if known is not None and self._verify:
            now = self._contents_of(task)
            known = known if all(row.get("contents") == now for row in known) else None
        if known is None:
            made = _rows(task, arguments, swept, affinities=self._affinities)
            origin = {"fingerprint": key, "contents": self._contents_of(task)}
            self.rows += [row | origin for row in made]
            rest = [row for rows in self._left.values() for row in rows]
            write_json(self._path, [*self.rows, *rest])
        else:
            self.rows += known

    def _contents_of(self, task: Task) -> str:
        """A hash over the bytes of the truth and of the files that the decoder reads."""
        if task.source.name not in self._contents:
            text = json.dumps(contents(task_inputs(task)), sort_keys=True)
            self._contents[task.source.name] = hashlib.sha256(text.encode()).hexdigest()
        return self._contents[task.source.name]

    def close(self) -> None:
        """Removes the rows of other grids."""
        write_json(self._path, self.rows)


def flat(arguments: Mapping[str, Any]) -> Row:
    """The arguments with lists split into columns `name.0`, `name.1` ..."""
    found: Row = {}
    for key, value in arguments.items():
        listed = isinstance(value, list | tuple)
        found |= {f"{key}.{at}": one for at, one in enumerate(value)} if listed else {key: value}
    return found


def _rows(task: Task, arguments: Mapping[str, Any], swept: Swept, *, affinities: bool) -> list[Row]:
    start = time.monotonic()
    asked = [{swept[0]: value} for value in swept[1]] if swept else [{}]
    try:
        scores = [*scores_by_value(task, arguments, swept).values()]
        seconds = (time.monotonic() - start) / len(asked)
        overlap = _overlap(task, arguments) if affinities else {}
        outcome: list[Row] = [{**one, **overlap} for one in scores]
    except UserError as error:
        seconds = (time.monotonic() - start) / len(asked)
        outcome = [{"failure": str(error)} for _ in asked]
    about = {"sample": task.source.name} | flat(arguments)
    return [
        about | one | found | {"seconds": round(seconds, 3)}
        for one, found in zip(asked, outcome, strict=True)
    ]


def _overlap(task: Task, arguments: Mapping[str, Any]) -> Row:
    """The overlap of calibrated and true affinities; the true ones use no border mask."""
    job = replace(task.job, decoding=with_parameters(task.job.decoding, arguments))
    _, prediction, facts = decoder_input(job)
    truth = read_truth(replace(task.source, border_mask=BorderMask()))
    offsets, edge_side = facts["offsets"], facts["edge_side"]
    return dict(affinity_overlap(prediction, truth, offsets=offsets, edge_side=edge_side))


def _read_rows(path: Path) -> dict[str, list[Row]]:
    """The stored rows, by fingerprint."""
    found: dict[str, list[Row]] = {}
    try:
        for row in json.loads(path.read_text()) if path.exists() else []:
            own = {k: v if k in ABOUT else _number(v) for k, v in row.items()}
            if not _is_row(own):
                raise TypeError(f"a row is {row!r:.60}")
            found.setdefault(row["fingerprint"], []).append(own)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not the rows of a sweep ({error}); move it away") from error
    return found


def _is_row(row: Row) -> bool:
    """Whether it has the fields of a row; arguments of decoders may be anything."""
    texts = all(isinstance(row[name], str) for name in ("sample", "fingerprint"))
    return texts and isinstance(row["seconds"], int | float)


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
