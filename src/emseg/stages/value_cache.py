"""Values that are cached while memory allows."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")


class ValueCache:
    """Computed values by key; the least recently used are removed when memory runs short."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[Any, int]] = {}

    def get(
        self, key: Hashable, make: Callable[[], Value], *, size: Callable[[Value], int], limit: int
    ) -> Value:
        """The value of `key`, computed if missing; cached if all fit into `limit` bytes."""
        if key in self._values:
            value, taken = self._values.pop(key)
        else:
            value = make()
            taken = size(value)
        if taken > limit:
            return value
        self._values[key] = (value, taken)
        while sum(taken for _, taken in self._values.values()) > limit:
            self._values.pop(next(iter(self._values)))
        return value
