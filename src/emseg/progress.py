"""Progress of long work: a bar on a terminal, elsewhere a plain line from time to time."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

# Seconds between plain lines: often enough to see progress in a batch log without filling it.
LINE_EVERY = 10.0
# The events that end the running phases, the innermost last.
_PHASES: list[threading.Event] = []


def track(
    items: Iterable[Item], *, total: int, label: str, unit: str, each: float = 1.0, done: int = 0
) -> Iterator[Item]:
    """The items, one by one, with progress, throughput and time left on standard error.

    Args:
        items: what is worked on.
        total: the number of items, those `done` included.
        label: what is done, in front of the numbers.
        unit: of the throughput ("voxel").
        each: the amount of `unit` in one item (voxels of a window, say).
        done: items that were finished before (a resumed run).
    """
    show = _bar if sys.stderr.isatty() else _lines
    # Enclosing phases print nothing meanwhile.
    innermost = threading.Event()
    _PHASES.append(innermost)
    try:
        yield from show(items, total, label, unit, each, done)
    finally:
        _PHASES.remove(innermost)


@contextmanager
def phase(label: str) -> Iterator[None]:
    """Prints the label and the time so far, now and then, for work of unknown duration.

    Of nested phases only the innermost prints.
    """
    over = threading.Event()
    start = time.monotonic()

    def report() -> None:
        while not over.wait(LINE_EVERY):
            if _PHASES[-1] is over:
                elapsed = in_words(time.monotonic() - start)
                print(f"emseg: {label}: {elapsed} so far", file=sys.stderr, flush=True)

    _PHASES.append(over)
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        over.set()
        reporter.join()
        _PHASES.remove(over)


def _bar(
    items: Iterable[Item], total: int, label: str, unit: str, each: float, done: int
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, completed=done, rate="")
        for count, item in enumerate(items, 1):
            yield item
            rate = f"{amount(count * each / (time.monotonic() - start))}{unit}/s"
            progress.update(task, advance=1, rate=rate)


def _lines(
    items: Iterable[Item], total: int, label: str, unit: str, each: float, done: int
) -> Iterator[Item]:
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY:
            last, rate = now, count / (now - start)
            left = in_words((total - done - count) / rate)
            said = f"{done + count}/{total}, {amount(rate * each)}{unit}/s, {left} left"
            print(f"emseg: {label}: {said}", file=sys.stderr, flush=True)


def amount(value: float) -> str:
    """A number with the prefix of its unit: 1.2 M, 40 k, 3."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def in_words(seconds: float) -> str:
    """A duration in words: 0.21 s, 48 s, 12 min, 4 h 40 min, 3 days."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 60 / 24:.0f} days"
