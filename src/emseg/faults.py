"""Faults of the machine as lines for the user: full disk, no memory, no permission."""

import errno
import os
from collections.abc import Iterator

from emseg.errors import UserError

# Errors of any write.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Errors of any use of a file. EINVAL, EBADF and the like are our own bugs.
UNUSABLE = (
    *(errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENODEV),
    *(errno.ENXIO, errno.ETXTBSY, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN),
)
# The texts of libraries that do not pass on the number of an error.
DISK_WORDS = (
    *(os.strerror(number) for number in UNWRITABLE),
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
)
MEMORY_WORDS = (os.strerror(errno.ENOMEM), "can't allocate memory", "bad_alloc")
GPU_WORDS = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def fault_line(error: BaseException) -> str | None:
    """One line for an error that the machine or another process has caused, None for any other.

    Args:
        error: its causes and contexts count too: a library that cannot write may fail again when it
            closes its file. A `UserError` among these already reports the fault: its text.
    """
    chain = [*_chain(error)]
    said = next((str(one) for one in chain if isinstance(one, UserError)), None)
    return said or next((line for line in map(_line, chain) if line), None)


def is_gpu_full(error: BaseException) -> bool:
    """Whether the memory of a GPU was too small."""
    return any(word in str(error) for word in GPU_WORDS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _line(error: BaseException) -> str | None:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        file = (
            f"'{error.filename}'" if error.filename else "a file (of the run, or a temporary one)"
        )
        return f"cannot write {file}: {os.strerror(error.errno)}"
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
        return f"'{error.filename}': {os.strerror(error.errno)}"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{os.strerror(error.errno)}: raise the limit with ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return f"a file cannot be read or written: {os.strerror(errno.EIO)}"
    if is_gpu_full(error):
        return (
            "the GPU's memory does not suffice: lower data.dataloader.batch_size or patch_size in "
            "training, inference.window.sw_batch_size or window_size in prediction"
        )
    if isinstance(error, MemoryError) or any(word in text for word in MEMORY_WORDS):
        return (
            f"out of memory{f' ({text})' if text else ''}: lower system.memory, "
            "system.num_workers, data.dataloader or inference.window"
        )
    words = next((word for word in DISK_WORDS if word in text), None)
    return f"cannot write: {words} ({text})" if words else None
