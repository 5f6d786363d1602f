"""Values that are kept for as long as there is room."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")


class Kept:
    """What was made before, by key; what was asked for longest ago goes when room gets short."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[Any, int]] = {}

    def get(
        self, key: Hashable, make: Callable[[], Value], *, size: Callable[[Value], int], limit: int
    ) -> Value:
        """The value of `key`, made unless it is there; kept if all fit `limit` bytes with it."""
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
