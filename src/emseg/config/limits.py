"""Checks of config fields, with messages for the user."""

from emseg.errors import UserError

Axes3 = tuple[int, int, int]
# Voxels if both are ints, else fractions of the axis.
Range = tuple[int, int] | tuple[float, float] | None


def require(ok: bool, key: str, value: object, allowed: str) -> None:
    """Raises a UserError that begins with the key and says what is allowed."""
    if not ok:
        shown = list(value) if isinstance(value, tuple) else value
        raise UserError(f"{key}: {shown!r} is out of range, it must be {allowed}")


def require_range(key: str, value: Range) -> None:
    """Raises UserError for an empty range."""
    if value is None:
        return
    start, stop = value
    require(0 <= start < stop, key, value, "[start, stop] with 0 <= start < stop")
    if isinstance(start, float):
        require(stop <= 1, key, value, "fractions in [0, 1], or two ints (voxels)")


def is_name(text: str) -> bool:
    """Whether a file or folder can have this name."""
    return text not in ("", ".", "..") and not {"/", "\\"} & set(text)


def require_positive(node: object, *names: str) -> None:
    """Raises UserError for the first of the named fields that is set and not above 0."""
    for name in names:
        value = getattr(node, name)
        require(value is None or value > 0, name, value, "above 0")
