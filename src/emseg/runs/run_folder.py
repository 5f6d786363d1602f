"""Run folders: outputs/<experiment_name>/<timestamp>/ and what identifies a run in it."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emseg import __version__
from emseg.errors import UserError
from emseg.runs.lock import locked
from emseg.volumes.atomic import check_writable, replacing, writing

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
    """Raises UserError if a launcher started this mode in several processes."""
    # The batch script of an allocation has SLURM's counts too, but not those of an srun step.
    sizes = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    if process_rank() > 0 or max(sizes) > 1:
        raise UserError(f"--mode {mode} runs in one process: start it without torchrun or srun")


def start_run(experiment_name: str) -> Path:
    """A new folder outputs/<experiment_name>/<timestamp>/, made by rank 0 and known to all ranks.

    Ranks that a launcher such as torchrun starts get a placeholder: they write nothing, and the
    checkpoint callback gets the folder from rank 0.
    """
    base = OUTPUTS / experiment_name
    if process_rank() != 0:
        return Path(os.environ.get(HANDED_DOWN, base / "rank0-decides"))
    run = _make_stamped(base)
    os.environ[HANDED_DOWN] = str(run)
    return run


def run_of(path: Path) -> Path | None:
    """The run folder of a checkpoint or an artifact, None if it is not in a run."""
    for folder in path.absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "run.log").is_file():
            here = Path.cwd()
            return folder.relative_to(here) if folder.is_relative_to(here) else folder
    return None


def run_for(checkpoint: Path, experiment_name: str, *, config: str) -> Path:
    """The run of the checkpoint; a new one for a checkpoint from elsewhere."""
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
    """Within it no other verb writes into the folder, which is created if missing.

    UserError, also for a folder that cannot be written to.
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
    """Prints a message on standard error, and appends it to the run's log."""
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
