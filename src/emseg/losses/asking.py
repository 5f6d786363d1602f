"""Losses called with what they ask for."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def ask_loss(
    loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and its named parts, of a loss that gives one or both.

    A loss whose signature has `image` gets the image that the network saw beside the others.
    """
    called = loss.forward if isinstance(loss, nn.Module) else loss
    asks = "image" in inspect.signature(called).parameters
    result = loss(logits, target, mask, **({"image": image} if asks else {}))
    return result if isinstance(result, tuple) else (result, {})
