"""Losses called with what they ask for."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.losses.ranks import masked_mean

# A logit of probability 0, to the last bit.
IMPOSSIBLE = -1e4


def ask_loss(
    loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and its named parts, of a loss that gives one or both.

    Args:
        loss: gets by name what its signature has of `mask` and `image`. One without `mask`, of
            another library, is taken where the mask is true (`_where_known`).
        logits: of the network, and `target`, what they should be, (B, C, Z, Y, X).
        target: as the logits.
        mask: true where the target is known, (B, C, Z, Y, X).
        image: what the network saw, (B, C_in, Z, Y, X).

    Raises:
        UserError: a loss without `mask` would count what is not known.
    """
    if not asks_for(loss, "mask"):
        return _where_known(loss, logits.float(), target.float(), mask), {}
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


def _where_known(loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The loss where the mask is true, of one that takes logits and target alone.

    Where it gives an error for every entry, as those with `reduction` can, that is their mean.
    Else what is not known becomes probability 0 with target 0, if such voxels count for nothing, as
    in overlaps (Dice, Tversky): a channel of which nothing is known is then one without objects.
    """
    entries = _entries(loss, logits, target)
    if isinstance(entries, Tensor) and entries.shape == logits.shape:
        return masked_mean(entries, mask)
    if not mask.all():
        if not _ignores_absent(loss, logits):
            raise UserError(
                f"loss: {_name(loss)} takes no argument 'mask' and cannot leave out voxels of "
                "which nothing is known; choose a loss that has one (loss=dice, loss=bce_dice), or "
                "one of your own of logits, target and mask"
            )
        logits, target = torch.where(mask, logits, IMPOSSIBLE), torch.where(mask, target, 0)
    result: Tensor = loss(logits, target)
    return result


def _entries(loss: Callable[..., Any], logits: Tensor, target: Tensor) -> Any:
    """What the loss gives where it takes no mean, if it can do without."""
    reduction = getattr(loss, "reduction", None)
    if not (isinstance(loss, nn.Module) and reduction == "mean"):
        return loss(logits, target)
    loss.reduction = "none"
    try:
        return loss(logits, target)
    finally:
        loss.reduction = reduction


def _ignores_absent(loss: Callable[..., Any], like: Tensor) -> bool:
    """Whether voxels of probability 0 with target 0 count for nothing, tried on a toy."""
    channels, side = like.shape[1], 12
    logits = torch.linspace(-2, 2, channels * side**3, device=like.device)
    logits = logits.view(1, channels, side, side, side)
    more = torch.nn.functional.pad(logits, (0, 2), value=IMPOSSIBLE)
    with torch.no_grad():
        few, many = (loss(toy, (toy > 0).float()) for toy in (logits, more))
    # Nothing counts for a loss that is 0 where half is wrong: cross entropy of a single class.
    return bool(few.any()) and torch.allclose(few, many)


def _name(loss: Callable[..., Any]) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
