"""Which process has a lock, as its file says."""

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """What a lock file says of the run that has the lock.

    A process is known by `machine` (its boot and its namespace of process numbers: containers may
    share a host's name), `process` and `started`, for numbers of processes are used again.
    """

    token: str
    host: str
    machine: str
    process: int
    started: str
    since: str
    what: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}: {self.what}"


def parsed(text: str) -> Owner:
    """The owner; one that is not known where the file does not say it, or was edited."""
    try:
        facts = json.loads(text)
        owner = Owner(**facts)
        types = {name: type(value) for name, value in asdict(owner).items()}
        if types == Owner.__annotations__:
            return owner
    except (ValueError, TypeError, RecursionError):
        pass
    return Owner("", "an unknown host", "", 0, "", "an unknown time", "unknown")


def this_run(what: str) -> Owner:
    """This process, at work on something."""
    return Owner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=machine(),
        process=os.getpid(),
        started=started_at(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        what=what,
    )


def is_here(owner: Owner) -> bool:
    """Whether the owner is this very process."""
    return (owner.machine, owner.process) == (machine(), os.getpid())


def machine() -> str:
    """What tells this machine, and namespace of process numbers, from all others."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return " ".join(parts)


def started_at(process: int) -> str:
    """When the process began, in its machine's clock; "" where there is none of that number."""
    try:
        # The name, in parentheses, may have blanks and parentheses in it.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        state, started = fields[0], fields[19]
        return "" if state in "ZX" else started
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "unknown"
