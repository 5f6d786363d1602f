"""Checks of networks with separate parts for the heads of a target."""

from collections.abc import Mapping

from emseg.errors import UserError


def check_heads(
    heads: Mapping[str, tuple[int, int]] | None, out_channels: int, deep_supervision: bool
) -> None:
    """Raises UserError if `separate_heads` has fewer than two heads, or they miss channels."""
    if heads is None or len(heads) < 2:
        raise UserError("model.separate_heads=true needs a target of two heads or more")
    if deep_supervision:
        raise UserError("model.separate_heads=true does not go with model.deep_supervision=true")
    channels = [channel for first, stop in heads.values() for channel in range(first, stop)]
    if channels != list(range(out_channels)):
        raise UserError(f"the heads {dict(heads)} are not the channels 0 to {out_channels - 1}")
