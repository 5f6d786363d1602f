"""Sweep mode: predict once, score every combination of some arguments of the decoder, tell all."""

import csv
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.config import build
from emseg.config.schema_sweep import Sweep
from emseg.decoding import sweep_of
from emseg.errors import UserError, unknown_name
from emseg.progress import track
from emseg.stages.artifacts import fingerprint, write_json
from emseg.stages.rehearsal import try_decoders
from emseg.stages.runs import say
from emseg.stages.scores import build_metrics, score_names
from emseg.stages.sources import Source, require_truth
from emseg.stages.test import Session, decode_job, infer_sources, rehearsed_sources
from emseg.stages.trial import Task, scores_by_value, task_facts, with_parameters
from emseg.volumes.atomic import replacing

Row = dict[str, Any]
# The argument that the decoder sweeps over in one pass, and its values.
Swept = tuple[str, list[float]] | None
# What a row has beside arguments and scores.
ABOUT = ("sample", "seconds", "failure", "fingerprint")


def sweep(session: Session, checkpoint: Path) -> dict[str, Any]:
    """The summary of a full grid on the test volumes; `sweep.grid` names arguments and values.

    Beside the predictions it leaves `<name>_records.json`, a row for each volume and combination,
    the same rows as `<name>_metrics.csv`, and `<name>_summary.json`: the mean of each combination
    over the volumes, and as `best_by_<score>` the best of those that have a score on all of them.
    Rows that are there are not made again. What a decoder refuses has its reason for a row
    (`failure`), and its combination has no mean.
    """
    root, allow = session.loaded.root, session.loaded.allow
    config = root.sweep
    combinations, swept = _combinations(config, root.decoding, allow)
    sources = rehearsed_sources(session)
    _check(session, sources, combinations, swept)
    predictions = infer_sources(session, checkpoint, sources)
    folder = next(iter(predictions.values())).parent
    book = _Book(folder / f"{config.name}_records.json", force=session.force)
    tasks = [
        Task(decode_job(session, predictions[one.name]), one, root.evaluation.metrics, "")
        for one in sources
    ]
    jobs = list(itertools.product(tasks, combinations))
    for task, arguments in track(jobs, total=len(jobs), label="sweep", unit="decode"):
        book.fill(task, arguments, swept)
    book.close()
    summary = _summary(book.rows, session, [source.name for source in sources])
    _write_table(folder / f"{config.name}_metrics.csv", book.rows)
    write_json(folder / f"{config.name}_summary.json", summary)
    for name in config.best:
        say(f"best by {name}: {_shown(summary[f'best_by_{name}'])}")
    print(f"results: {folder}")
    return summary


class _Book:
    """The rows of a sweep, written down after each decode, so that a killed sweep goes on."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._left: dict[str, list[Row]] = {}
        for row in [] if force else _read_rows(path):
            self._left.setdefault(row["fingerprint"], []).append(row)

    def fill(self, task: Task, arguments: Mapping[str, Any], swept: Swept) -> None:
        """The rows of one volume and combination, made unless they are there."""
        facts = {"task": task_facts(task, []), "arguments": dict(arguments), "swept": swept}
        key = fingerprint("sweep", facts)
        known = self._left.pop(key, None)
        self.rows += known or [row | {"fingerprint": key} for row in _rows(task, arguments, swept)]
        if known is None:
            rest = [row for rows in self._left.values() for row in rows]
            write_json(self._path, [*self.rows, *rest])

    def close(self) -> None:
        """Nothing; what belongs to another grid is gone."""
        write_json(self._path, self.rows)


def _combinations(
    config: Sweep, decoding: Mapping[str, Any], allow: Sequence[str]
) -> tuple[list[dict[str, Any]], Swept]:
    """All combinations of the grid but for the argument that the decoder sweeps over itself."""
    if not config.grid:
        raise UserError("sweep.grid is empty: name arguments of the decoder, each with its values")
    for key in config.grid:
        name = key.partition(".")[0]
        if name not in decoding or name == "_target_":
            known = [argument for argument in decoding if argument != "_target_"]
            raise unknown_name("argument of the decoder", name, known, where="sweep.grid")
    grid, swept = dict(config.grid), None
    one_pass = sweep_of(build(decoding, kind="decoding", allow=allow).func)
    if one_pass is not None and one_pass.argument in grid:
        swept = (one_pass.argument, sorted(grid.pop(one_pass.argument)))
    values = itertools.product(*grid.values())
    return [dict(zip(grid, chosen, strict=True)) for chosen in values], swept


def _check(
    session: Session, sources: Sequence[Source], combinations: list[dict[str, Any]], swept: Swept
) -> None:
    """Nothing, or the UserError that the sweep would otherwise end with."""
    root, allow = session.loaded.root, session.loaded.allow
    require_truth(sources, "a sweep")
    names = score_names(build_metrics(root.evaluation.metrics, allow=allow))
    for name in root.sweep.best:
        if name not in names:
            raise unknown_name("score", name, names, where="sweep.best")
    ends = [{swept[0]: value} for value in swept[1]] if swept else [{}]
    # Every value once: those of the swept argument beside one combination.
    leaves = [
        with_parameters(root.decoding, one | end) for one in combinations for end in ends[:1]
    ] + [with_parameters(root.decoding, combinations[0] | end) for end in ends[1:]]
    try:
        try_decoders(leaves, sources, root, allow=allow)
    except UserError as error:
        raise UserError(f"sweep.grid: {error}") from error


def _rows(task: Task, arguments: Mapping[str, Any], swept: Swept) -> list[Row]:
    start = time.monotonic()
    asked = [{swept[0]: value} for value in swept[1]] if swept else [{}]
    try:
        scores = [*scores_by_value(task, arguments, swept).values()]
        outcome: list[Row] = [dict(one) for one in scores]
    except UserError as error:
        outcome = [{"failure": str(error)} for _ in asked]
    each = (time.monotonic() - start) / len(asked)
    about = {"sample": task.source.name} | _flat(arguments)
    return [
        about | one | found | {"seconds": round(each, 3)}
        for one, found in zip(asked, outcome, strict=True)
    ]


def _flat(arguments: Mapping[str, Any]) -> Row:
    """Lists as `name.0`, `name.1` ..., which are columns of their own."""
    flat: Row = {}
    for key, value in arguments.items():
        listed = isinstance(value, list | tuple)
        flat |= {f"{key}.{at}": one for at, one in enumerate(value)} if listed else {key: value}
    return flat


def _summary(rows: Sequence[Row], session: Session, samples: Sequence[str]) -> dict[str, Any]:
    root = session.loaded.root
    scored = [row for row in rows if "failure" not in row]
    scores = list(score_names(build_metrics(root.evaluation.metrics, allow=session.loaded.allow)))
    groups: dict[str, list[Row]] = {}
    for row in scored:
        arguments = {k: v for k, v in row.items() if k not in ABOUT and k not in scores}
        groups.setdefault(json.dumps(arguments, sort_keys=True), []).append(row)
    means = [
        json.loads(key)
        | {"n": len(group)}
        | {s: float(np.mean([r[s] for r in group])) for s in scores}
        for key, group in groups.items()
    ]
    complete = [mean for mean in means if mean["n"] == len(samples)]
    best = {f"best_by_{s}": _best(complete, s, way) for s, way in root.sweep.best.items()}
    return {
        "samples": list(samples),
        "decoding": root.decoding,
        "grid": root.sweep.grid,
        "metrics": root.evaluation.metrics,
        "combinations": means,
        **best,
        "failures": [row for row in rows if "failure" in row],
        "emseg": __version__,
    }


def _best(means: Sequence[Row], score: str, way: str) -> Row | None:
    """The first of the best means; None where there is none that is a number."""
    sound = [mean for mean in means if not np.isnan(mean[score])]
    choose = min if way == "minimize" else max
    return choose(sound, key=lambda mean: mean[score]) if sound else None


def _shown(mean: Row | None) -> str:
    if mean is None:
        return "no combination was scored on all volumes"
    return ", ".join(
        f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in mean.items()
    )


def _read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())
        return [{k: _number(v) if k not in ABOUT else v for k, v in row.items()} for row in rows]
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not the rows of a sweep ({error}); move it away") from error


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as partial:
        partial.write_text(text.getvalue())
