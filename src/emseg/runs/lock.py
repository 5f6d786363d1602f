"""One run at a time: a lock file names the running process, its heartbeat shows it is alive."""

import _thread
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from emseg.errors import UserError
from emseg.runs.owner import Owner, is_here, machine, parsed, started_at, this_run
from emseg.volumes.atomic import writing

# Seconds between heartbeats, and of silence until a run on another machine counts as dead.
BEAT = 10.0
STALE = 60.0
# Seconds that a run waits for a short task of another one.
MOMENT = 60.0
# Passes the run's locks to the processes that it starts.
HANDED_DOWN = "EMSEG_LOCKS"


@dataclass
class _Held:
    owner: Owner
    thread: int
    stop: threading.Event
    lost: str = ""


_HELD: dict[Path, _Held] = {}


@contextmanager
def locked(
    path: Path, what: str, *, report: Callable[[str], None], wait: float = 0.0
) -> Iterator[None]:
    """Within it no other run works on `path`: `<path>.lock` names the one that does.

    The owner of the lock may take it again, and so may the processes that it starts. The lock of a
    dead process on this machine is taken over at once, that of another machine after `STALE`
    seconds without a heartbeat.

    Args:
        path: the artifact or folder to be locked; its folder exists.
        what: the work, for messages to others; a command line.
        report: gets a line if the lock of a run on another machine is taken over.
        wait: seconds to wait for another run's lock.

    Raises:
        UserError: another run, which it names, is alive, or this run lost its lock because it was
            suspended for so long.
    """
    file = path.absolute().with_name(f"{path.name}.lock")
    held = _HELD.get(file)
    if held is not None and held.thread == threading.get_ident() and is_here(held.owner):
        yield
        return
    owner = this_run(what)
    try:
        if _wait_for(path, file, owner, report, wait):
            with _holding(file, owner):
                yield
        else:
            yield
    finally:
        # A forked child that exits here has no lock to release.
        if is_here(owner):
            _release(file, owner)


def locked_by(folder: Path, name: str, shard: tuple[int, int] | None) -> Path:
    """The path that a run locks for the results of a volume.

    With a `shard`, the number of one part and that of all, it is for that part of them.
    """
    return folder / (name if shard is None else f"{name}.shard-{shard[0]}-of-{shard[1]}")


def owner_of(path: Path) -> Owner | None:
    """The run that has locked `path`, perhaps a dead one; None without a lock."""
    found = _read(path.absolute().with_name(f"{path.name}.lock"))
    return None if found is None else parsed(found[0])


def token_of(path: Path) -> str:
    """What identifies the run that has locked `path`; "" without a lock."""
    owner = owner_of(path)
    return "" if owner is None else owner.token


def _wait_for(
    path: Path, file: Path, owner: Owner, report: Callable[[str], None], wait: float
) -> bool:
    """True once this owner has the lock, False if a process that started this one has it."""
    deadline = time.monotonic() + wait
    while (other := _acquire(file, owner, report)) is not None:
        if other.token in os.environ.get(HANDED_DOWN, "").split() and not is_here(other):
            return False
        if time.monotonic() >= deadline:
            raise UserError(
                f"'{path}' is being worked at by another run ({other}): wait until it has ended, "
                "or end it"
            )
        time.sleep(0.1)
    return True


@contextmanager
def _holding(file: Path, owner: Owner) -> Iterator[None]:
    held = _Held(owner, threading.get_ident(), threading.Event())
    _HELD[file] = held
    before = os.environ.get(HANDED_DOWN, "")
    os.environ[HANDED_DOWN] = f"{before} {owner.token}".strip()
    beating = threading.Thread(target=_beat, args=(file, held), daemon=True, name="emseg-lock")
    beating.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if held.lost:
            raise UserError(held.lost) from error
        raise
    finally:
        if is_here(owner):
            held.stop.set()
            beating.join()
            del _HELD[file]
            left = [t for t in os.environ.get(HANDED_DOWN, "").split() if t != owner.token]
            os.environ[HANDED_DOWN] = " ".join(left)


def _acquire(file: Path, owner: Owner, report: Callable[[str], None]) -> Owner | None:
    """None if this owner now has the lock, else its other owner."""
    with writing(file), _alone(file.parent):
        found = _read(file)
        if found is not None and _lives_here(parsed(found[0])):
            return parsed(found[0])  # nothing was written
        made = file.with_name(f"{file.name}.{owner.token}")
        made.write_text(json.dumps(asdict(owner)))
        try:
            # The file server's clock, which may differ from this machine's.
            now = made.stat().st_mtime
            for _ in range(2):
                if _link(made, file):
                    return None
                found = _read(file)
                if found is None:
                    continue
                text, beaten = found
                other = parsed(text)
                line = _gone(other, now - beaten, file)
                if line is None:
                    return other
                if line:
                    report(line)
                _remove(file, text, aside=file.with_name(f"{made.name}.stale"))
            return parsed((_read(file) or ("", 0.0))[0])
        finally:
            made.unlink(missing_ok=True)


def _link(made: Path, file: Path) -> bool:
    """Whether the lock was free; it appears with its content, at once."""
    try:
        os.link(made, file)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with file.open("x") as opened:
                opened.write(made.read_text())
        except FileExistsError:
            return False
    return True


def _gone(other: Owner, silence: float, file: Path) -> str | None:
    """None while the owner may be at work, else a line to print or "": its lock may be taken."""
    if other.machine == machine():
        return None if _lives_here(other) else ""
    if silence < STALE:
        return None
    return (
        f"'{file}' is of a run that has given no sign of life for {silence:.0f} s ({other}): taken "
        "over"
    )


def _lives_here(other: Owner) -> bool:
    return other.machine == machine() and started_at(other.process) == other.started


def _remove(file: Path, judged: str, *, aside: Path) -> None:
    """Removes the lock file that was judged; a newer one from another run stays."""
    with suppress(FileNotFoundError):
        file.rename(aside)
        if aside.read_text() != judged:
            _link(aside, file)
        aside.unlink()


def _release(file: Path, owner: Owner) -> None:
    with suppress(OSError):
        found = _read(file)
        if found is not None and parsed(found[0]).token == owner.token:
            file.unlink()


def _beat(file: Path, held: _Held) -> None:
    while not held.stop.wait(BEAT):
        try:
            found = _read(file)
            if found is None:
                with file.open("x") as opened:  # removed by hand
                    opened.write(json.dumps(asdict(held.owner)))
                continue
            other = parsed(found[0])
            if other.token == held.owner.token:
                os.utime(file)
                continue
        except OSError:  # a file server that does not respond for a moment
            continue
        held.lost = (
            f"'{file}' was taken over while this run gave no sign of life, by another one "
            f"({other}): stopped; the same command goes on when that has ended"
        )
        _thread.interrupt_main()
        return


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps others from judging the folder's lock files, if the file system supports locks."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _read(file: Path) -> tuple[str, float] | None:
    """The lock file's text and the time of its last heartbeat; None without a file."""
    try:
        # Opened before reading its time, so that a network file system asks its server.
        with file.open(errors="replace") as opened:
            return opened.read(), os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:
        return None
