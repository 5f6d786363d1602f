"""Activations: from a network's raw output to the values that are blended and saved."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch

from emseg.errors import UserError, unknown_name

Activation = Literal["sigmoid", "scale_sigmoid", "none"]
# The activation a channel was trained with: for a probability, or for a value in [-1, 1].
ChannelActivation = Literal["sigmoid", "tanh"]

# Activations with values in [0, 1], which integer output needs.
PROBABILITIES: tuple[Activation, ...] = ("sigmoid", "scale_sigmoid")


def activation_function(
    name: Activation, channels: Sequence[str] | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The activation `name`, as a function of a batch (N, C, ...).

    `scale_sigmoid` is the sigmoid of 0.2 x logit, which half precision does not saturate (BANIS).
    `channels` are the activations used in training (`ChannelActivation`; None: all `sigmoid`): a
    channel with `tanh` gets tanh, unless `name` is `none`.
    """
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sigmoid": torch.sigmoid,
        "scale_sigmoid": lambda logits: torch.sigmoid(0.2 * logits),
        "none": lambda logits: logits,
    }
    if name not in functions:
        raise unknown_name("activation", name, get_args(Activation), where="inference")
    function, tanh = functions[name], distances(channels)
    if name == "none" or not tanh:
        return function

    def activate(logits: torch.Tensor) -> torch.Tensor:
        if len(channels or ()) != logits.shape[1]:
            raise UserError(f"{len(channels or ())} activations for {logits.shape[1]} channels")
        values = function(logits)
        values[:, tanh] = torch.tanh(logits[:, tanh])
        return values

    return activate


def distances(channels: Sequence[str] | None) -> list[int]:
    """The channels with values in [-1, 1]. Raises UserError if an activation is unknown."""
    for one in channels or ():
        if one not in get_args(ChannelActivation):
            raise unknown_name("activation of a channel", one, get_args(ChannelActivation))
    return [channel for channel, one in enumerate(channels or ()) if one == "tanh"]
