import ctypes
import mmap
import operator
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.errors import UserError


@pytest.fixture(scope="module")
def worker():
    with ChildWorker() as child:
        yield child


def is_alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def ends(orphan):
    # Killed, but it takes its time to die, and until its new parent reaps it counts as there.
    status = Path("/proc") / str(orphan) / "stat"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ProcessLookupError):
            if status.read_text().split()[2] not in ("Z", "X"):
                time.sleep(0.01)
                continue
        return True
    return False


def test_one_process_serves_all_calls(worker):
    assert worker.call(operator.add, 2, 3, timeout=60) == 5
    assert worker.call(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
    first, second = worker.call(os.getpid), worker.call(os.getpid)
    assert first == second != os.getpid()


def test_an_error_is_raised_here_and_the_child_goes_on(worker):
    before = worker.call(os.getpid)
    with pytest.raises(UserError) as caught:
        worker.call(raise_it, UserError("what was wrong"))
    assert str(caught.value) == "what was wrong"
    assert any("in raise_it" in note for note in caught.value.__notes__)
    assert worker.call(os.getpid) == before


def raise_it(error):
    raise error


class Odd(Exception):
    """Cannot be unpickled: its constructor wants more than its message."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_odd():
    raise Odd("this", "that")


def test_an_error_that_cannot_travel_is_told_in_words(worker):
    with pytest.raises(RuntimeError, match="Odd: this and that"):
        worker.call(raise_odd)


def test_a_result_that_cannot_travel_is_an_error(worker):
    with pytest.raises(TypeError, match="pickle"):
        worker.call(memoryview, b"abc")


def test_a_function_that_cannot_travel_is_refused_before_a_child_starts():
    with ChildWorker() as child:
        with pytest.raises((AttributeError, TypeError), match="lambda|local|pickle"):
            child.call(lambda: 1)
        assert child.call(operator.neg, 1) == -1


def test_what_native_code_prints_is_kept_and_not_shown(worker, capfd):
    worker.call(os.write, 1, b"from out\n")
    assert worker.output == "from out\n"
    worker.call(os.write, 2, b"from err\n")
    assert worker.output == "from err\n"
    worker.call(print, "from Python", end="")
    assert worker.output == "from Python"
    worker.call(operator.add, 1, 1)
    assert worker.output == ""
    assert capfd.readouterr() == ("", "")


def print_and_fail():
    os.write(1, b"last words\n")
    raise ValueError("no")


def test_what_was_printed_comes_with_the_error(worker):
    with pytest.raises(ValueError, match="no") as caught:
        worker.call(print_and_fail)
    assert any("last words" in note for note in caught.value.__notes__)


def start_a_grandchild_and_hang(path):
    grandchild = subprocess.Popen(["sleep", "60"])
    path.write_text(str(grandchild.pid))
    print("hanging")
    time.sleep(60)


def test_a_timeout_ends_the_child_and_what_it_started(worker, tmp_path):
    before = worker.call(os.getpid)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0.4 s") as caught:
        worker.call(start_a_grandchild_and_hang, tmp_path / "pid", timeout=0.4)
    assert time.monotonic() - started < 30
    assert "hanging" in worker.output
    assert any("hanging" in note for note in caught.value.__notes__)
    assert not is_alive(before)
    assert ends((tmp_path / "pid").read_text())
    assert worker.call(os.getpid) not in (before, os.getpid())


def test_a_crash_names_its_signal_and_the_next_call_works(worker):
    with pytest.raises(ChildCrash, match="string_at.*SIGSEGV") as caught:
        worker.call(ctypes.string_at, 0)
    assert caught.value.exitcode == -signal.SIGSEGV
    assert worker.call(operator.add, 1, 2) == 3


def test_an_exit_names_its_status(worker):
    with pytest.raises(ChildCrash, match="_exit.*exit status 7") as caught:
        worker.call(os._exit, 7)
    assert caught.value.exitcode == 7


def test_a_closed_worker_leaves_no_process():
    with ChildWorker() as child:
        pid = child.call(os.getpid)
        assert is_alive(pid)
    assert not is_alive(pid)


def test_large_arguments_and_results_travel(worker):
    data = bytes(range(256)) * 40_000
    assert worker.call(bytes.upper, data) == data.upper()


def megabytes_of(count):
    return np.zeros(count * 2**20, np.uint8).nbytes


def test_beyond_a_memory_limit_is_a_memory_error(worker):
    before = worker.call(os.getpid)
    with pytest.raises(MemoryError, match="200. MiB"):
        worker.call(megabytes_of, 200, memory_limit=100 * 2**20)
    with pytest.raises(MemoryError, match="Cannot allocate"):
        worker.call(mmap.mmap, -1, 200 * 2**20, memory_limit=100 * 2**20)
    assert worker.call(megabytes_of, 50, memory_limit=100 * 2**20) == 50 * 2**20
    # It was that call's alone.
    assert worker.call(megabytes_of, 200) == 200 * 2**20
    assert worker.call(os.getpid) == before


def pretend_another_platform():
    sys.platform = "darwin"


def test_where_memory_cannot_be_limited_the_limit_is_refused():
    with ChildWorker() as child:
        child.call(pretend_another_platform)
        with pytest.raises(UserError, match="memory_limit is 5; .*Linux"):
            child.call(operator.add, 1, 2, memory_limit=5)


def test_the_main_module_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\n"
        "from emseg.blocks.child import ChildWorker\n"
        "print('in main')\n"
        "with ChildWorker() as child:\n"
        "    print(child.call(operator.add, 2, 3))\n"
        "import __main__\n"
        "assert __main__.operator is operator\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in main\n5\n", "")


INNER = ChildWorker()


def call_inner(function, *args):
    return INNER.call(function, *args)


def test_a_child_may_have_a_child_which_a_kill_reaches_too():
    with ChildWorker() as outer:
        pids = outer.call(os.getpid), outer.call(call_inner, os.getpid)
        assert len({*pids, os.getpid()}) == 3
        with pytest.raises(TimeoutError):
            outer.call(call_inner, time.sleep, 60, timeout=0.4)
        assert not is_alive(pids[0])
        assert ends(pids[1])


def test_temporary_files_go_with_the_child():
    with ChildWorker() as child:
        left = [child.call(tempfile.mkdtemp), child.call(call_inner, tempfile.mkdtemp)]
        assert all(Path(folder).is_dir() for folder in left)
        with pytest.raises(TimeoutError):
            child.call(time.sleep, 60, timeout=0.1)
        assert not any(Path(folder).exists() for folder in left)
        left = [child.call(tempfile.mkdtemp)]
    assert not any(Path(folder).exists() for folder in left)
