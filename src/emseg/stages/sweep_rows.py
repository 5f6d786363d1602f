"""The rows of a sweep: one for each volume and combination, stored when it is made."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emseg.config.schema import BorderMask
from emseg.errors import UserError
from emseg.evaluation.affinity_overlap import affinity_overlap
from emseg.evaluation.means import Row
from emseg.progress import track
from emseg.runs.artifacts import contents, fingerprint, write_json
from emseg.stages.decode_job import decoder_input
from emseg.stages.search_space import Swept, with_parameters
from emseg.stages.trial import Task, scores_by_value, task_facts, task_inputs
from emseg.stages.truth import read_truth

# Arguments of the decoder, and the swept argument with its values.
Combination = tuple[dict[str, Any], Swept]
# What a row has besides arguments and scores.
ABOUT = ("sample", "seconds", "failure", "fingerprint", "contents")


def rows_of(
    tasks: Sequence[Task],
    combinations: Sequence[Combination],
    path: Path,
    *,
    affinities: bool,
    force: bool = False,
    verify: bool = False,
) -> list[Row]:
    """The rows of all volumes and combinations; the file at `path` has them.

    A row of the file is taken if it was made of the same (with `verify` of the same bytes too), but
    not with `force`; others are written one by one, so that a killed sweep can continue. With
    `affinities` a row also scores the affinities that the decoder got.
    """
    rows: list[Row] = []
    left = {} if force else _read_rows(path)
    digests: dict[str, str] = {}
    pairs = [(task, combination) for task in tasks for combination in combinations]
    for task, combination in track(pairs, total=len(pairs), label="sweep", unit="decode"):
        key, name = _key(task, combination, affinities=affinities), task.source.name
        known = left.pop(key, [])
        if (verify or not known) and name not in digests:
            digests[name] = _digest(task)
        if verify and any(row.get("contents") != digests[name] for row in known):
            known = []
        if not known:
            origin = {"fingerprint": key, "contents": digests[name]}
            known = [row | origin for row in _made(task, combination, affinities=affinities)]
            rest = [row for stored in left.values() for row in stored]
            write_json(path, [*rows, *known, *rest])
        rows += known
    # Without those of other grids.
    write_json(path, rows)
    return rows


def flat(arguments: Mapping[str, Any]) -> Row:
    """The arguments with lists split into columns `name.0`, `name.1` ..."""
    found: Row = {}
    for key, value in arguments.items():
        listed = isinstance(value, list | tuple)
        found |= {f"{key}.{at}": one for at, one in enumerate(value)} if listed else {key: value}
    return found


def _key(task: Task, combination: Combination, *, affinities: bool) -> str:
    arguments, swept = combination
    # The config's own values of these arguments have no effect.
    about = task_facts(task, [*arguments, *(swept or ())[:1]])
    facts = {"task": about, "arguments": arguments, "swept": swept}
    return fingerprint("sweep", facts | ({"affinities": True} if affinities else {}))


def _digest(task: Task) -> str:
    """A hash over the bytes of the truth and of the files that the decoder reads."""
    text = json.dumps(contents(task_inputs(task)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _made(task: Task, combination: Combination, *, affinities: bool) -> list[Row]:
    arguments, swept = combination
    start = time.monotonic()
    asked = [{swept[0]: value} for value in swept[1]] if swept else [{}]
    try:
        outcome: list[Row] = [*scores_by_value(task, arguments, swept).values()]
        seconds = (time.monotonic() - start) / len(asked)
        overlap = _overlap(task, arguments) if affinities else {}
        outcome = [one | overlap for one in outcome]
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
            # Arguments of decoders may be anything.
            texts = all(isinstance(own[name], str) for name in ("sample", "fingerprint"))
            if not texts or not isinstance(own["seconds"], int | float):
                raise TypeError(f"a row is {row!r:.60}")
            found.setdefault(row["fingerprint"], []).append(own)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not the rows of a sweep ({error}); move it away") from error
    return found


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
