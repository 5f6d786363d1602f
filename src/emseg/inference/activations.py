"""What turns a network's raw output into the values that are blended and saved."""

from collections.abc import Callable
from typing import Literal, get_args

import torch

from emseg.errors import unknown_name

Activation = Literal["sigmoid", "scale_sigmoid", "none"]

# Activations whose values lie in [0, 1], as the integer output needs them.
PROBABILITIES: tuple[Activation, ...] = ("sigmoid", "scale_sigmoid")


def activation_function(name: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of a batch (N, C, ...) that `name` means.

    `scale_sigmoid` is the sigmoid of 0.2 x logit, which half precision does not saturate (BANIS).
    """
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sigmoid": torch.sigmoid,
        "scale_sigmoid": lambda logits: torch.sigmoid(0.2 * logits),
        "none": lambda logits: logits,
    }
    if name not in functions:
        raise unknown_name("activation", name, get_args(Activation), where="inference")
    return functions[name]
