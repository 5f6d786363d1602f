"""Run folders, outputs/<experiment_name>/<timestamp>/: their names, logs and scores."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emseg import __version__
from emseg.errors import UserError
from emseg.runs.artifacts import FORMAT_VERSION, check_format, for_json, write_json
from emseg.runs.earlier import latest_name, listed
from emseg.runs.lock import MOMENT, locked
from emseg.volumes.atomic import check_writable, replacing, writing
from emseg.volumes.location import require_regular

OUTPUTS = Path("outputs")
# Passes the folder of rank 0 to the processes that it starts.
HANDED_DOWN = "EMSEG_RUN_FOLDER"
NAMED_VERSIONS = ("torch", "pytorch-lightning", "numpy", "numba", "hydra-core", "zarr", "waterz")


def process_rank() -> int:
    """The rank among the processes of a distributed run, from the launcher's variables; else 0.

    torchrun's and Lightning's come before SLURM's, which every process of an allocation has.
    """
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def require_one_process(mode: str) -> None:
    """Checks that no launcher started this mode (of `--mode`) in several processes.

    Raises:
        UserError: one did.
    """
    # The batch script of an allocation has SLURM's counts too, but not those of an srun step.
    sizes = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    if process_rank() > 0 or max(sizes) > 1:
        raise UserError(f"--mode {mode} runs in one process: start it without torchrun or srun")


def start_run(experiment_name: str) -> Path:
    """A new folder outputs/<experiment_name>/<timestamp>/, made by rank 0 and known to all ranks.

    Ranks that a launcher such as torchrun starts get a placeholder: they write nothing, and the
    checkpoint callback gets the folder from rank 0.

    Raises:
        UserError: it cannot be made.
    """
    base = OUTPUTS / experiment_name
    if process_rank() != 0:
        return Path(os.environ.get(HANDED_DOWN, base / "rank0-decides"))
    run = _make_stamped(base)
    os.environ[HANDED_DOWN] = str(run)
    return run


def run_of(path: Path) -> Path | None:
    """The run folder that a path is in, None if it is not in a run.

    Args:
        path: of a checkpoint or an artifact.

    Returns:
        A path relative to the current folder if it is below that, else an absolute one.
    """
    for folder in path.absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "run.log").is_file():
            here = Path.cwd()
            return folder.relative_to(here) if folder.is_relative_to(here) else folder
    return None


def run_for(checkpoint: Path, experiment_name: str, *, config: str) -> Path:
    """The run of the checkpoint; a new one for a checkpoint from elsewhere.

    Args:
        checkpoint: its path.
        experiment_name: of a new run.
        config: the text of a new run's `config.yaml`.
    """
    run = run_of(checkpoint)
    if run is None:
        run = start_run(experiment_name)
        write_config(run, config)
    return run


def results_of(run: Path, step: int) -> Path:
    """The run's folder for results of the checkpoint of that step."""
    return run / f"results_step={step}"


@contextmanager
def working_in(folder: Path, what: str) -> Iterator[None]:
    """Within it no other verb writes into the folder.

    Args:
        folder: it is created if it is missing.
        what: the command, for messages to others.

    Raises:
        UserError: another run works in it, or it cannot be written to.
    """
    check_writable(folder)
    with locked(folder / "emseg", what, report=say):
        yield


def write_config(run: Path, text: str) -> None:
    """Writes the config into the folder as `config.yaml`, whole or not at all."""
    with replacing(run / "config.yaml") as partial:
        partial.write_text(text)


def log_start(run: Path, *, command: str, seed: int) -> None:
    """Appends command, versions, commit and seed to `run.log`."""
    facts: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "emseg": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in NAMED_VERSIONS},
        "seed": seed,
    }
    _log(run, [*(f"{name}: {value}" for name, value in facts.items()), ""])


def say(message: str, *, run: Path | None = None) -> None:
    """Prints a message on standard error; with a `run` it also goes into that run's log."""
    print(f"emseg: {message}", file=sys.stderr, flush=True)
    if run is not None:
        _log(run, [message])


def _log(run: Path, lines: Iterable[str]) -> None:
    path = run / "run.log"
    with writing(path), path.open("a") as log:
        log.writelines(line + "\n" for line in lines)


def _make_stamped(base: Path) -> Path:
    stamp = time.strftime("%Y%m%d_%H%M%S")
    for attempt in range(100):
        run = base / (stamp if attempt == 0 else f"{stamp}_{attempt}")
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            continue  # another run of this experiment began in the same second
        except OSError as error:
            raise UserError(f"cannot make the run folder {run}: {error.strerror}") from error
        return run
    raise UserError(f"{base} has a hundred runs of {stamp}: give another experiment_name")


def _commit() -> str:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "no git"
    return found.stdout.strip() or "not a checkout"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


NAME = "metrics.json"

Record = dict[str, Any]


def find_record(folder: Path, key: str) -> Record | None:
    """The unchanged record of an evaluation in metrics.json, None if there is none.

    Args:
        folder: the one with metrics.json, which may be missing.
        key: the fingerprint of the evaluation.

    Raises:
        UserError: the file is broken, or of an unknown format.
    """
    record = _read(folder / NAME)["records"].get(key)
    if record is None:
        return None
    # Records from before the hash have none.
    hashed = not isinstance(record, dict) or record.get("sha256", _hash(record)) == _hash(record)
    if not hashed or scores_of(record) is None:
        say(f"{folder / NAME}: the record of this evaluation was changed: computed anew")
        return None
    return record


def add_record(folder: Path, key: str, record: Record | None, latest: Iterable[Path]) -> None:
    """Adds the record, if one is given, and the list of segmentations to metrics.json.

    Safe with evaluations of other volumes that end at the same time. Without a record no new file
    is made.

    Args:
        folder: the one with metrics.json.
        key: the fingerprint of the evaluation; not used without a record.
        record: plain containers; it gets a hash of its content.
        latest: a segmentation of each volume, the latest or an earlier one.

    Raises:
        UserError: the file is broken, locked by another run for too long, or cannot be written.
    """
    path = folder / NAME
    if record is None and not path.exists():
        return
    with locked(path, "writing scores", report=say, wait=MOMENT):
        contents = _read(path)
        before = json.dumps(contents)
        if record is not None:
            contents["records"][key] = {**record, "sha256": _hash(record)}
        segmentations = contents.setdefault("segmentations", {})
        segmentations |= {name: files for name, files in map(_listed, latest) if files}
        if json.dumps(contents) != before:
            write_json(path, contents)


def scores_of(record: Any) -> dict[str, dict[str, float]] | None:
    """The scores of a record, by volume and name; None if it is no record."""
    try:
        return {
            volume: {name: float(value) for name, value in scores.items()}
            for volume, scores in record["volumes"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _listed(segmentation: Path) -> tuple[str, list[dict[str, Any]]]:
    name = latest_name(segmentation.stem)
    latest = segmentation.with_name(f"{name}{segmentation.suffix}")
    return name.removesuffix("_segmentation"), listed(latest)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "records": {}}
    require_regular(path)
    try:
        contents = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON any more ({error}); move it away") from error
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: a {type(contents).__name__}, not scores of emseg's; move it away")
    check_format(path, contents)
    for name in ("records", "segmentations"):
        found = contents.get(name, {} if name == "segmentations" else None)
        if not isinstance(found, dict):
            raise UserError(f"{path}: '{name}' is {found!r:.40}, not a mapping; move it away")
    return dict(contents)


def _hash(record: Mapping[str, Any]) -> str:
    content = {name: value for name, value in for_json(record).items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
