"""Why loader workers fail, as lines for the user."""

import errno
import re
import traceback

from emseg.errors import UserError

SHARED_MEMORY = (
    "unable to allocate shared memory",
    "unable to open shared memory",
    "unable to write to file </torch_",
    "unable to mmap",
    "Bus error",
)
# What reading from a dead worker raises.
GONE = (ConnectionError, EOFError, FileNotFoundError)


def worker_fault(error: BaseException, *, workers: int) -> UserError | None:
    """The UserError if a loader worker is gone or lacks shared memory or open files, else None.

    Args:
        error: what reading a batch raised.
        workers: `system.num_workers`, for the message.
    """
    text = str(error)
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    between = bool(frames) and "multiprocessing" in frames[-1]
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC and between
    if full or any(words in text for words in SHARED_MEMORY):
        return UserError(
            "shared memory (/dev/shm) does not suffice for the batches of "
            f"system.num_workers={workers}: give the container more (docker run --shm-size=8g), or "
            "set system.num_workers=0"
        )
    if "Too many open files" in text:
        return UserError(
            f"too many open files for system.num_workers={workers}: lower it, or raise the limit "
            "with ulimit -n"
        )
    killed = re.search(
        r"DataLoader worker \(pid.*?\) (?:is killed by signal: ([\w ]+)|exited)", text
    )
    if killed or (isinstance(error, GONE) and between):
        how = f"was killed ({killed[1].strip()})" if killed and killed[1] else "is gone"
        return UserError(
            f"a loader worker {how}, as a rule because memory ran out: lower "
            f"system.num_workers={workers} (0: none) or data.dataloader.batch_size, or give the "
            "job more memory"
        )
    return None
