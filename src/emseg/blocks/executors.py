"""Jobs of one function, shared out to child processes or to the workers of dask."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.blocks.memory import cores
from emseg.errors import UserError

# How often a job is tried whose worker dies, and the seconds before the second time, doubled then.
TRIES, PAUSE = 3, 1.0
# Seconds between two looks at what is done.
LOOK = 0.25
# Clusters' queues, and dask-jobqueue's classes for them.
QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
# Jobs for each worker that dask's scheduler knows at a time.
WAVE = 4
# A worker of dask with several threads begins as many jobs at once.
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Which worker of a machine runs a job, for its GPU, and how many threads it may have."""

    number: int
    threads: int


@dataclass
class Jobs:
    """Jobs to be done by `function(job, place)`, in any order and perhaps twice.

    Attributes:
        function: importable; its jobs can be pickled, and its result is ignored.
        waiting: what is left to start.
        failed: the errors of jobs, by number. A `UserError` is final; a job whose worker dies is
            tried again.
    """

    function: Callable[[Any, Place], None]
    waiting: list[Any]
    failed: dict[int, Exception] = field(default_factory=dict)


def run_in_children(jobs: Jobs, count: int) -> Iterator[None]:
    """Runs the jobs in `count` child processes; yields every moment until all are done.

    Children that are left when the generator is closed are killed.
    """
    queue: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    for numbered in enumerate(jobs.waiting):
        queue.put(numbered)
    closing = threading.Event()
    children = [ChildWorker() for _ in range(min(count, len(jobs.waiting)))]
    share = max(cores() // max(len(children), 1), 1)

    def work(place: Place, child: ChildWorker) -> None:
        while not closing.is_set():
            try:
                number, job = queue.get_nowait()
            except Empty:
                return
            error = _tried(lambda job=job: child.call(jobs.function, job, place), closing)
            if error is not None:
                jobs.failed[number] = error

    threads = [
        threading.Thread(target=work, args=(Place(number, share), child))
        for number, child in enumerate(children)
    ]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            yield
            time.sleep(LOOK)
        yield
    finally:
        closing.set()
        for child in children:
            child.close()
        for thread in threads:
            thread.join()


def run_on_dask(jobs: Jobs, count: int, scheduler: str | None) -> Iterator[None]:
    """Runs the jobs on dask's workers; yields every moment until all are done.

    Args:
        jobs: few of them are known to the scheduler at a time.
        count: workers of an own cluster of this machine, if there is no `scheduler`.
        scheduler: one of `QUEUES`, or the address of a running one or its file (.json).

    Raises:
        UserError: dask is not installed, or no scheduler answers.
    """
    with _client(count, scheduler) as client:
        left, running, tries = list(enumerate(jobs.waiting))[::-1], {}, dict[int, int]()
        while left or running:
            workers = max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
            # Another cluster's workers have as many threads as it gives them.
            share = None if scheduler else max(cores() // workers, 1)
            while left and len(running) < WAVE * workers:
                number, job = left.pop()
                running[client.submit(_call, jobs.function, job, share, pure=False)] = number
            yield
            time.sleep(LOOK)
            for future in [one for one in running if one.done()]:
                number = running.pop(future)
                error = future.exception() if future.status == "error" else None
                tries[number] = tries.get(number, 0) + 1
                if future.status == "finished":
                    continue
                if isinstance(error, UserError) or tries[number] >= TRIES:
                    jobs.failed[number] = error or RuntimeError(f"dask gave it up: {future.status}")
                else:
                    left.append((number, jobs.waiting[number]))
        yield


def _tried(call: Callable[[], Any], closing: threading.Event) -> Exception | None:
    """None once the call succeeds, or its last error."""
    for attempt in range(TRIES):
        try:
            call()
        except ChildCrash as error:
            last: Exception = error
            if closing.wait(PAUSE * 2**attempt):
                return last
        except Exception as error:
            return error
        else:
            return None
    return last


def _call(function: Callable[[Any, Place], None], job: Any, share: int | None) -> None:
    """A job on a worker of dask, alone in its process: it may use all threads of the worker."""
    from distributed import get_worker

    worker = get_worker()
    number = worker.name if isinstance(worker.name, int) else 0
    with _ALONE:
        function(job, Place(number, share or worker.state.nthreads))


@contextmanager
def _client(count: int, scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            "system.executor=dask needs dask's scheduler: pip install 'emseg[dask]'"
        ) from error
    # Lost workers are reported by their jobs; the library logs a traceback for each connection.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None or scheduler in QUEUES:
        with _cluster(count, scheduler) as cluster, Client(cluster) as client:
            yield client
        return
    about = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    if "scheduler_file" in about and not Path(scheduler).is_file():
        raise UserError(f"system.scheduler: no file {scheduler}")
    try:
        client = Client(**about, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(f"system.scheduler: no scheduler answers at {scheduler}") from error
    with client:
        yield client


def _cluster(count: int, queue: str | None) -> Any:
    """A cluster of `count` workers: of this machine, or jobs in a queue as dask's config says."""
    if queue is None:
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    import dask_jobqueue

    try:
        cluster = getattr(dask_jobqueue, QUEUES[queue])()
    except ValueError as error:  # cores or memory of a job are in no config
        raise UserError(
            f"system.scheduler={queue}: {' '.join(str(error).split())} (jobqueue.{queue} in dask's "
            "own config, ~/.config/dask/jobqueue.yaml)"
        ) from error
    cluster.scale(jobs=count)
    return cluster


def cut(start: int, stop: int, *, parts: int, step: int, most: int) -> Sequence[tuple[int, int]]:
    """Consecutive stretches of about equal length that cover [start, stop).

    Args:
        start, stop: `start` is a multiple of `step`.
        parts: how many at least, if each has a step.
        step: stretches begin at multiples of it.
        most: a stretch is at most so long, or one step.
    """
    steps = -(-(stop - start) // step)
    count = min(steps, max(parts, -(-steps // max(most // step, 1))))
    bounds = [start + steps * at // count * step for at in range(count)] + [stop]
    return [*pairwise(bounds)]
