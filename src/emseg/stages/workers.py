"""Who does the parts of a stage's work, as `system.executor` says."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from emseg.blocks.executors import Jobs, run_in_children, run_on_dask
from emseg.blocks.memory import cores
from emseg.config.schema import System
from emseg.errors import UserError
from emseg.runs.lock import locked, token_of
from emseg.runs.run_folder import say

MOST_SHOWN = 3
# Seconds that a shard waits while another makes the file of all.
LONGEST_JOIN = 3600.0


def workers_of(system: System) -> int:
    """How many workers there are: 1, or one for each GPU, else `system.processes`, or each core."""
    from emseg.stages.devices import resolve_devices  # brings torch

    if system.executor == "serial":
        return 1
    devices = resolve_devices(system)
    if devices.accelerator == "gpu":
        return devices.count
    return cores() if system.processes == -1 else max(system.processes, 1)


def done_by_workers(jobs: Jobs, system: System, names: Sequence[str]) -> Iterator[None]:
    """Does the jobs in child processes or on dask's workers; yields every moment until then.

    Args:
        jobs: in the order of `names`.
        system: its executor is not serial.
        names: what is in each job, for messages.

    Raises:
        UserError: jobs failed; the others are done.
    """
    count = workers_of(system)
    if system.executor == "process":
        yield from run_in_children(jobs, count)
    else:
        yield from run_on_dask(jobs, count, system.scheduler)
    if not jobs.failed:
        return
    errors = [
        f"{names[number]}: {' '.join(str(error).split())}"
        for number, error in sorted(jobs.failed.items())
    ]
    more = f"; and {len(errors) - MOST_SHOWN} more" * (len(errors) > MOST_SHOWN)
    raise UserError(
        f"{len(errors)} of {len(names)} parts failed, the same command tries them again; "
        f"{'; '.join(errors[:MOST_SHOWN])}{more}"
    )


def alone(path: Path, shard: tuple[int, int] | None) -> AbstractContextManager[None]:
    """Keeps other shards from making or finishing the same file."""
    if shard is None:
        return nullcontext()
    return locked(path, f"shard {shard[0]}/{shard[1]}", report=say, wait=LONGEST_JOIN)


def while_locked(locked: Path, token: str) -> Callable[[], None]:
    """A check for a worker: it raises UserError once the run that it works for has ended."""
    from multiprocessing import parent_process

    def check() -> None:
        parent = parent_process()
        if (parent is not None and not parent.is_alive()) or token_of(locked) != token:
            raise UserError(f"the run that works at '{locked}' has ended")

    return check
