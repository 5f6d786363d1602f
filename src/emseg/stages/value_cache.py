"""Values cached while memory allows."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")


class ValueCache:
    """What was made before, by key; the value asked for longest ago goes when memory gets short."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[Any, int]] = {}

    def get(
        self, key: Hashable, make: Callable[[], Value], *, size: Callable[[Value], int], limit: int
    ) -> Value:
        """The value of `key`, made unless it is there; cached if all fit `limit` bytes with it."""
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
