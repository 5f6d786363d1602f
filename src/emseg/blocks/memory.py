"""How much memory and how many cores this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

GIB = 1 << 30

_GROUPS_OF_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def memory_within(limit: float | None) -> int:
    """The bytes of a limit, or all that this process may use.

    Args:
        limit: GiB. None: the machine's memory, or a lower limit of the process's cgroup (v1 or v2)
            or one above it; not what is free at the moment, so that two runs decide alike.
    """
    if limit is not None:
        return int(limit * GIB)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits()])


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _group_limits() -> Iterator[int]:
    if not _GROUPS_OF_PROCESS.is_file():
        return
    for line in _GROUPS_OF_PROCESS.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, name = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path is the host's and may not exist here; then use the root.
        folder = root / group.lstrip("/")
        for level in [folder, *folder.parents]:
            if level.is_relative_to(root) and (level / name).is_file():
                limit = (level / name).read_text().strip()
                if limit != "max":
                    yield int(limit)
