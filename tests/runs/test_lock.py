"""One run at a time, whoever dies, and on whichever machine."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from emseg.errors import UserError
from emseg.runs import lock
from emseg.runs.lock import HANDED_DOWN, locked
from emseg.runs.owner import Owner, machine, started_at, this_run
from emseg.stopping import ending_signals

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def told():
    return []


def taken(path, told, **options):
    """Takes and releases the lock."""
    with locked(path, "second", report=told.append, **options):
        assert Path(f"{path}.lock").is_file()


def refusal(path, told):
    with pytest.raises(UserError) as error:
        taken(path, told)
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


def elsewhere(path, monkeypatch, *, silent=0.0):
    """A lock that a run on another machine has, without a heartbeat for so many seconds."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "node7")
        owner = this_run("emseg --mode infer")
    file = Path(f"{path}.lock")
    file.write_text(json.dumps(vars(owner)))
    beaten = time.time() - silent
    os.utime(file, (beaten, beaten))
    return owner


def test_it_is_there_within_and_gone_after(tmp_path, told):
    for error in (None, ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error) if error else locked(tmp_path / "b", "", report=told.append):
            taken(tmp_path / "a", told)
            with locked(tmp_path / "a", "first", report=told.append):
                taken(tmp_path / "a", told)  # by the one who has it
                taken(tmp_path / "b", told)  # another artifact
                if error:
                    raise error
        assert [*tmp_path.iterdir()] == [] and told == []
        assert HANDED_DOWN not in os.environ or os.environ[HANDED_DOWN] == ""


def test_another_thread_is_refused_with_the_name_of_the_first(tmp_path, told):
    lines = []
    with locked(tmp_path / "a", "emseg --mode infer", report=told.append):
        other = threading.Thread(target=lambda: lines.append(refusal(tmp_path / "a", told)))
        other.start()
        other.join()
    (line,) = lines
    for part in (str(os.getpid()), socket.gethostname(), "emseg --mode infer", "since"):
        assert part in line


def test_of_many_at_once_one_gets_it(tmp_path, told):
    inside, most, wins = [], [], []
    begin = threading.Barrier(8)

    def work():
        begin.wait()
        try:
            with locked(tmp_path / "a", "", report=told.append):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.02)
                inside.pop()
            wins.append(1)
        except UserError:
            pass

    # A lock of the dead, which all of them find, and want to take over.
    dead = FORK.Process(target=_die_holding, args=(tmp_path / "a",))
    dead.start()
    dead.join()
    assert (tmp_path / "a.lock").exists()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins and max(most) == 1
    assert [*tmp_path.iterdir()] == []


def _die_holding(path, how=signal.SIGKILL):
    with locked(path, "first", report=print):
        os.kill(os.getpid(), how)


def test_whoever_waits_gets_it_when_it_is_free(tmp_path, told):
    begin, order = threading.Event(), []

    def first():
        with locked(tmp_path / "a", "", report=told.append):
            begin.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begin.wait()
    taken(tmp_path / "a", told, wait=30)
    order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_dead_process_of_this_machine_is_no_hindrance(tmp_path, told):
    child = FORK.Process(target=_die_holding, args=(tmp_path / "a",))
    child.start()
    child.join()
    assert (tmp_path / "a.lock").exists()
    taken(tmp_path / "a", told)
    assert told == []


def test_a_zombie_is_dead(tmp_path, told):
    child = subprocess.Popen(["true"])
    while started_at(child.pid):
        time.sleep(0.01)
    write_owner(tmp_path, process=child.pid, started="1")
    taken(tmp_path / "a", told)
    child.wait()


def write_owner(folder, **changes):
    (folder / "a.lock").write_text(json.dumps(vars(this_run("first")) | changes))


def test_a_number_that_another_process_has_by_now_is_of_a_dead_one(tmp_path, told):
    write_owner(tmp_path, started="17")
    taken(tmp_path / "a", told)
    write_owner(tmp_path)
    refusal(tmp_path / "a", told)


@pytest.mark.parametrize("silent", [0.0, lock.STALE / 2])
def test_a_run_on_another_machine_is_left_alone_while_it_may_live(
    tmp_path, told, silent, monkeypatch
):
    owner = elsewhere(tmp_path / "a", monkeypatch, silent=silent)
    line = refusal(tmp_path / "a", told)
    assert "node7" in line and "--mode infer" in line
    assert json.loads((tmp_path / "a.lock").read_text())["token"] == owner.token


def test_without_heartbeats_it_is_taken_over_with_a_line(tmp_path, told, monkeypatch):
    elsewhere(tmp_path / "a", monkeypatch, silent=lock.STALE + 5)
    taken(tmp_path / "a", told)
    (line,) = told
    assert "node7" in line and "taken over" in line and "\n" not in line


def test_a_container_with_the_host_s_name_is_another_machine(tmp_path, told):
    write_owner(tmp_path, machine=f"{machine()} elsewhere", process=os.getpid() + 100_000)
    refusal(tmp_path / "a", told)


def test_the_heart_beats(tmp_path, told, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with locked(tmp_path / "a", "", report=told.append):
        os.utime(tmp_path / "a.lock", (0, 0))
        wait_for(lambda: (tmp_path / "a.lock").stat().st_mtime > 1e9)
        (tmp_path / "a.lock").unlink()  # by hand
        wait_for((tmp_path / "a.lock").exists)


def test_a_run_that_was_suspended_too_long_stops(tmp_path, told, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with (
        pytest.raises(UserError, match="taken over .* node7.*stopped"),
        locked(tmp_path / "a", "", report=told.append),
    ):
        elsewhere(tmp_path / "a", monkeypatch)
        wait_for(lambda: False)
    # What is there is the other's.
    assert "node7" in (tmp_path / "a.lock").read_text()


def wait_for(true):
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"token": 1}', json.dumps(vars(Owner(*"abcdefg"))), "[" * 10_000],
)
def test_a_lock_file_that_says_nothing_is_that_of_another_machine(tmp_path, told, text):
    (tmp_path / "a.lock").write_text(text)
    assert "unknown" in refusal(tmp_path / "a", told)
    os.utime(tmp_path / "a.lock", (0, 0))
    taken(tmp_path / "a", told)


def _take_in_child(path, answers):
    try:
        taken(path, [])
        answers.put("taken")
    except UserError as error:
        answers.put(str(error))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_a_run_starts_have_its_lock(tmp_path, told, method):
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    with locked(tmp_path / "a", "", report=told.append):
        child = context.Process(target=_take_in_child, args=(tmp_path / "a", answers))
        child.start()
        assert answers.get(timeout=60) == "taken"
        child.join()
        assert (tmp_path / "a.lock").exists()  # the child did not give it back


def _sleep_locked(path):
    with ending_signals(), locked(path, "first", report=print):
        time.sleep(60)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_is_given_back_on_signals(tmp_path, how):
    child = FORK.Process(target=_sleep_locked, args=(tmp_path / "a",))
    child.start()
    wait_for((tmp_path / "a.lock").exists)
    os.kill(child.pid, how)
    child.join()
    assert child.exitcode == 1
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_refuses_is_one_line(tmp_path, told):
    (tmp_path / "file").touch()
    assert "cannot write" in refusal(tmp_path / "file" / "a", told)
    assert "cannot write" in refusal(tmp_path / "gone" / "a", told)


def test_without_hard_links(tmp_path, told, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lock.os, "link", refused)
    with locked(tmp_path / "a", "first", report=told.append):
        lines = []
        other = threading.Thread(target=lambda: lines.append(refusal(tmp_path / "a", told)))
        other.start()
        other.join()
        assert "first" in lines[0]
    assert [*tmp_path.iterdir()] == []
