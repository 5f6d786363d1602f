"""Jobs in child processes and on dask: each is done, or reported, whatever happens to a worker."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks import jobs as work
from emseg.blocks import executors
from emseg.blocks.child import ChildCrash
from emseg.blocks.executors import Jobs, cut, run_in_children, run_on_dask
from emseg.errors import UserError


@pytest.fixture(params=["children", "dask"])
def run(request, monkeypatch):
    monkeypatch.setattr(executors, "PAUSE", 0.01)
    monkeypatch.setattr(executors, "cores", lambda: 4)
    if request.param == "children":
        return lambda jobs: [*run_in_children(jobs, 2)]
    return lambda jobs: [*run_on_dask(jobs, 2, None)]


def done(folder: Path) -> Counter[int]:
    return Counter(int(path.name.split(".")[0]) for path in folder.glob("*.*.threads*"))


def test_each_job_is_done_once(run, tmp_path):
    jobs = Jobs(work.note, [(tmp_path, number) for number in range(7)])
    assert run(jobs)
    assert not jobs.failed
    assert done(tmp_path) == dict.fromkeys(range(7), 1)
    # Half of four cores for each of two workers.
    assert {path.suffix for path in tmp_path.iterdir()} == {".threads2"}


def test_a_job_whose_worker_dies_is_done_by_another(run, tmp_path):
    jobs = Jobs(work.die_once, [(tmp_path, number) for number in range(4)])
    run(jobs)
    assert not jobs.failed
    assert done(tmp_path) == dict.fromkeys(range(4), 1)


def test_a_job_that_kills_its_workers_is_reported_and_the_others_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "PAUSE", 0.01)
    jobs = Jobs(work.die_always, [(tmp_path, number) for number in range(4)])
    assert [*run_in_children(jobs, 2)]
    assert [*jobs.failed] == [1]
    assert isinstance(jobs.failed[1], ChildCrash) and "SIGKILL" in str(jobs.failed[1])
    assert done(tmp_path) == {0: 1, 2: 1, 3: 1}


def test_a_mistake_is_reported_and_not_tried_again(run, tmp_path):
    jobs = Jobs(work.refuse, [(tmp_path, number) for number in range(4)])
    run(jobs)
    assert [*jobs.failed] == [1]
    assert str(jobs.failed[1]) == "this one cannot be done"
    assert done(tmp_path) == {0: 1, 2: 1, 3: 1}


def test_a_scheduler_that_is_not_there():
    with pytest.raises(UserError, match="no file nowhere.json"):
        next(run_on_dask(Jobs(work.note, []), 1, "nowhere.json"))


@given(
    st.integers(0, 50),
    st.integers(1, 400),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 90),
)
def test_stretches_cover_once_and_begin_at_steps(first, length, parts, step, most):
    start = first * step
    found = cut(start, start + length, parts=parts, step=step, most=most)
    assert [a for a, _ in found] == [start, *[b for _, b in found[:-1]]]
    assert found[-1][1] == start + length
    assert all(a % step == 0 for a, _ in found)
    steps = [math.ceil((b - a) / step) for a, b in found]
    assert max(steps) - min(steps) <= 1
    assert max(steps) <= max(1, most // step)
    assert len(found) >= min(parts, math.ceil(length / step))


def test_a_worker_of_several_threads_has_one_job_at_a_time(tmp_path):
    from distributed import LocalCluster

    about = {"threads_per_worker": 3, "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=1, **about) as cluster:
        jobs = Jobs(work.alone, [(tmp_path, number) for number in range(6)])
        assert [*run_on_dask(jobs, 1, cluster.scheduler_address)]
    assert not jobs.failed
    assert done(tmp_path) == dict.fromkeys(range(6), 1)
    assert {path.suffix for path in tmp_path.iterdir()} == {".threads3"}
