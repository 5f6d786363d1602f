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
    """What a lock file says about the run that has the lock.

    A process is identified by `machine` (its boot and its namespace of process ids: containers may
    share a host's name), `process` and `started`, because process ids are reused.
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
    """The owner; an unknown one if the file does not name it, or was edited."""
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
    """A text that identifies this machine and its namespace of process ids."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return " ".join(parts)


def started_at(process: int) -> str:
    """When the process began, in its machine's clock; "" if there is no such process."""
    try:
        # The name, in parentheses, may contain blanks and parentheses.
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
