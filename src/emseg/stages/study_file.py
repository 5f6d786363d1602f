"""The file of a study: opened if it is emseg's and about the same things."""

import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from emseg.config.annotations import defaults, typed
from emseg.errors import UserError
from emseg.volumes.atomic import writing
from emseg.volumes.location import require_regular

# Tables of every version of Optuna; it would replace a missing one by an empty one.
TABLES = {
    "alembic_version",
    "studies",
    "study_directions",
    "study_user_attributes",
    "trial_params",
    "trial_user_attributes",
    "trial_values",
    "trials",
    "version_info",
}


@dataclass(kw_only=True)
class Stored:
    """What a trial stores beside Optuna's facts."""

    sampled: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[float | None, float]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def open_study(
    path: Path,
    name: str,
    *,
    direction: str,
    fingerprint: str,
    contents: Mapping[str, str],
    searched: Sequence[str],
    verify: bool,
) -> optuna.Study:
    """The study of that name in the file, a new one if there is none.

    UserError if the file was edited, or its study is about something else: its `fingerprint`
    differs or, with `verify`, the `contents` of the files that it read.
    """
    about = {"fingerprint": fingerprint, "contents": dict(contents)}
    if path.exists():
        _check_copy(path, name, about, {*searched}, verify=verify)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with study_errors(path):
        study = _create(path, name, direction)
        study.set_user_attr("fingerprint", fingerprint)
        if not study.trials:
            study.set_user_attr("contents", about["contents"])
    return study


def check_study_file(path: Path) -> None:
    """Raises UserError for an existing file that is not a study."""
    if not path.exists():
        return
    require_regular(path)
    try:
        # Not read-only: a kill may have left a transaction that must be undone.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as file:
            tables = {name for (name,) in file.execute("select name from sqlite_master")}
    except sqlite3.Error as error:
        raise UserError(f"{path} cannot be read as a study ({error}): move it away") from error
    missing = sorted(TABLES - tables)
    if missing:
        raise UserError(f"{path} is not a study of emseg's (no table {missing[0]}): move it away")


@contextmanager
def study_errors(path: Path) -> Iterator[None]:
    """Turns Optuna's errors about a broken file or a full disk into a UserError."""
    try:
        yield
    except UserError:
        raise
    # Tables may be wrong in any way, so the exception may be any.
    except Exception as error:
        why = str(getattr(error, "orig", error)).splitlines() or [type(error).__name__]
        raise UserError(f"{path}: the study cannot be used ({why[0]})") from error


def _check_copy(
    path: Path, name: str, about: Mapping[str, Any], searched: set[str], *, verify: bool
) -> None:
    """Raises UserError if the study cannot be extended.

    Opens a copy, because Optuna adds missing tables and rows to a file that it opens.
    """
    another = "name this one with tune.study_name, or move the file away"
    with tempfile.TemporaryDirectory() as folder, study_errors(path):
        copied = shutil.copyfile(path, Path(folder, "study.sqlite3"))
        study = _create(copied, name, "minimize")
        trials, own, _ = study.get_trials(deepcopy=False), study.user_attrs, study.direction
        stored = own if trials else about | own
        if stored.get("fingerprint") != about["fingerprint"]:
            raise UserError(
                f"{path} holds a study of other predictions, arguments, choices, truth, metric or "
                f"direction: {another}"
            )
        if verify and stored.get("contents") != about["contents"]:
            raise UserError(
                f"{path} holds a study of truth, or files of the decoder, that were changed since: "
                f"{another}"
            )
        for trial in trials:
            if not _is_valid(trial, searched):
                raise UserError(f"{path}: trial {trial.number} is not as it was written: {another}")


def _is_valid(trial: FrozenTrial, searched: set[str]) -> bool:
    try:
        facts = typed(Stored, {**defaults(Stored), **trial.user_attrs})
    except UserError:
        return False
    scored = trial.value is not None and math.isfinite(trial.value)
    return trial.state != TrialState.COMPLETE or (scored and {*facts.parameters} == searched)


def _create(path: Path, name: str, direction: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{path}"
    return optuna.create_study(
        study_name=name, storage=storage, direction=direction, load_if_exists=True
    )
