"""Losses called with what they ask for."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.losses.ranks import masked_mean


def ask_loss(
    loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and its named parts, of a loss that gives one or both.

    A loss gets by name what its signature has of `mask` (B, C, Z, Y, X), true where the target is
    known, and `image`, which the network saw. One without `mask`, of another library, must give an
    error for every entry, as those with `reduction` can: the mean is taken where the mask is true.
    Raises `UserError` where it does not.
    """
    if not asks_for(loss, "mask"):
        return masked_mean(_entries(loss, logits.float(), target.float()), mask), {}
    seen = {"image": image} if asks_for(loss, "image") else {}
    return with_parts(loss(logits, target, mask=mask, **seen))


def try_loss(loss: Callable[..., Any], logits: Tensor, call: Callable[[Tensor], Any]) -> list[str]:
    """The names of the parts of a loss, which `call` makes of toy logits.

    `UserError` for what it raises, and for what is no loss: it is one number with a gradient.
    """
    logits = logits.detach().requires_grad_()
    try:
        total, parts = call(logits)
        if total.shape != () or any(part.numel() != 1 for part in parts.values()):
            raise ValueError(f"it gives {list(total.shape)} values, not one")
        torch.autograd.grad(total, logits, allow_unused=True)
    except UserError:
        raise
    # A loss may be anybody's.
    except Exception as error:
        raise UserError(
            f"loss: {_name(loss)} fails on logits of {list(logits.shape)}, called as training "
            f"will: {type(error).__name__}: {error}"
        ) from error
    return list(parts)


def asks_for(part: Callable[..., Any], name: str) -> bool:
    """Whether the signature of a loss or network has an argument of that name."""
    called = part.forward if isinstance(part, nn.Module) else part
    return name in inspect.signature(called).parameters


def with_parts(
    result: Tensor | tuple[Tensor, dict[str, Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total of a loss and its named parts, which may be none."""
    return result if isinstance(result, tuple) else (result, {})


def _entries(loss: Callable[..., Any], logits: Tensor, target: Tensor) -> Tensor:
    """The loss of each entry, of one that takes logits and target alone."""
    reduction = getattr(loss, "reduction", None)
    if isinstance(loss, nn.Module) and reduction == "mean":
        loss.reduction = "none"
    try:
        entries = loss(logits, target)
    finally:
        if isinstance(loss, nn.Module) and reduction == "mean":
            loss.reduction = reduction
    if not isinstance(entries, Tensor) or entries.shape != logits.shape:
        raise UserError(
            f"loss: {_name(loss)} takes no argument 'mask' and gives no error for each voxel: "
            "those of which nothing is known would count; choose a loss that has one (loss=dice, "
            "loss=bce_dice), or one of your own of logits, target and mask"
        )
    return entries


def _name(loss: Callable[..., Any]) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
