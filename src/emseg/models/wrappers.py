"""Prefixes that training programs put before the names of a network's weights."""

WRAPPERS = ("state_dict", "module", "model", "net", "_orig_mod", "ema_model")


def bare_name(name: str) -> str:
    """The network's own name for a weight, without the names of its wrappers."""
    first, _, rest = name.partition(".")
    return bare_name(rest) if first in WRAPPERS and rest else name
