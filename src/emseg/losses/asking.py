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
    seen = {"image": image} if asks_for(loss, "image") else {}
    return with_parts(loss(logits, target, mask, **seen))


def asks_for(part: Callable[..., Any], name: str) -> bool:
    """Whether the signature of a loss or network has an argument of that name."""
    called = part.forward if isinstance(part, nn.Module) else part
    return name in inspect.signature(called).parameters


def with_parts(
    result: Tensor | tuple[Tensor, dict[str, Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total of a loss and its named parts, which may be none."""
    return result if isinstance(result, tuple) else (result, {})
