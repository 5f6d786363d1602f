"""One piece of work for each of many items, in several threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from emseg.progress import phase, track


def in_parallel(
    work: Callable[[Any], Any], items: Sequence[Any], *, threads: int, label: str
) -> None:
    """Runs `work` on each item in a number of threads, with progress."""
    with phase(label), ThreadPoolExecutor(threads) as pool:
        results = pool.map(work, items)
        # With one or two blocks per thread, the time left could be estimated only near the end.
        many = len(items) > 2 * threads
        for _ in track(results, total=len(items), label=label, unit="block") if many else results:
            pass
