"""What arguments of transforms must be: probabilities, axes, intervals."""

from collections.abc import Sequence

import numpy as np

from emseg.errors import UserError


def check_probability(p: float, *, owner: object, name: str = "p") -> None:
    """Nothing, or a UserError when `p`, which the user calls `name`, is no probability."""
    if not 0 <= p <= 1:
        raise UserError(f"{type(owner).__name__}: {name}={p} must be between 0 and 1")


def check_axes(axes: Sequence[int], *, owner: object) -> None:
    """Nothing, or a UserError when `axes` are not different axes out of 0, 1, 2."""
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise UserError(
            f"{type(owner).__name__}: axes {list(axes)} must be different ones of 0, 1, 2"
        )


def check_interval(
    interval: Sequence[float],
    *,
    name: str,
    owner: object,
    least: float = -np.inf,
    most: float = np.inf,
) -> None:
    """Nothing, or a UserError when `interval` is not [lo, hi] with least <= lo <= hi <= most."""
    finite = np.isfinite(interval).all()
    if len(interval) != 2 or not finite or not least <= interval[0] <= interval[1] <= most:
        bound = f" from {least:g} up" if np.isfinite(least) else ""
        bound = f" within [{least:g}, {most:g}]" if np.isfinite(most) else bound
        raise UserError(
            f"{type(owner).__name__}: {name} {list(interval)} must be [lo, hi]{bound} with lo <= hi"
        )
