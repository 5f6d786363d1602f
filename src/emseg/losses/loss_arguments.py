"""Calls of losses with the arguments in their signature."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UserError, unknown_name
from emseg.losses.ranks import masked_mean

# A logit whose probability is exactly 0.
IMPOSSIBLE = -1e4


def ask_loss(
    loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total of a loss, and its named parts if it has any.

    Args:
        loss: gets `mask` and `image` by name if they are in its signature. One without `mask`, of
            another library, is computed where the mask is true (`_where_known`).
        logits: of the network, (B, C, Z, Y, X).
        target: what the logits should be, of the same shape.
        mask: true where the target is known, (B, C, Z, Y, X).
        image: the network's input, (B, C_in, Z, Y, X).

    Raises:
        UserError: a loss without `mask` would count voxels whose target is unknown.
    """
    if not asks_for(loss, "mask"):
        return _where_known(loss, logits.float(), target.float(), mask), {}
    seen = {"image": image} if asks_for(loss, "image") else {}
    return with_parts(loss(logits, target, mask=mask, **seen))


def try_loss(loss: Callable[..., Any], logits: Tensor, call: Callable[[Tensor], Any]) -> list[str]:
    """The names of the parts of a loss, which is tried on toy logits.

    Args:
        loss: named in errors.
        logits: the toy, of any shape that `call` takes.
        call: the loss of logits, as (total, parts).

    Raises:
        UserError: the call fails, or does not give a single number with a gradient.
    """
    logits = logits.detach().requires_grad_()
    try:
        total, parts = call(logits)
        if total.shape != () or any(part.numel() != 1 for part in parts.values()):
            raise ValueError(f"it gives {list(total.shape)} values, not one")
        torch.autograd.grad(total, logits, allow_unused=True)
    except UserError:
        raise
    # A loss may be the user's own, and raise anything.
    except Exception as error:
        raise UserError(
            f"loss: {_name(loss)} fails on logits of {list(logits.shape)}, called as training "
            f"will: {type(error).__name__}: {error}"
        ) from error
    return list(parts)


def asks_for(part: Callable[..., Any], name: str) -> bool:
    """Whether the signature of a loss or network (or a module's `forward`) has such an argument."""
    called = part.forward if isinstance(part, nn.Module) else part
    return name in inspect.signature(called).parameters


def with_parts(
    result: Tensor | tuple[Tensor, dict[str, Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total of a loss and its named parts, possibly none."""
    return result if isinstance(result, tuple) else (result, {})


def check_names(given: Mapping[str, object], names: Collection[str], *, where: str) -> None:
    """Raises UserError unless a setting, whose key is `where`, has exactly these names."""
    for name in given:
        if name not in names:
            raise unknown_name("name", name, names, where=where)
    for name in names:
        if name not in given:
            raise UserError(f"{where} has no entry for '{name}'")


def _where_known(loss: Callable[..., Any], logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The loss where the mask is true, for a loss of only logits and target.

    If it can give an error for every entry, as those with `reduction` can, this is their mean.
    Else unknown voxels get probability 0 and target 0, if these do not change the loss, as in
    overlaps (Dice, Tversky): an unknown channel is then one without objects.
    """
    entries = _entries(loss, logits, target)
    if isinstance(entries, Tensor) and entries.shape == logits.shape:
        return masked_mean(entries, mask)
    if not mask.all():
        if not _ignores_absent(loss, logits):
            raise UserError(
                f"loss: {_name(loss)} takes no argument 'mask' and cannot leave out unlabelled "
                "voxels; choose a loss that has one (loss=dice, loss=bce_dice), or one of your own "
                "of logits, target and mask"
            )
        logits, target = torch.where(mask, logits, IMPOSSIBLE), torch.where(mask, target, 0)
    result: Tensor = loss(logits, target)
    return result


def _entries(loss: Callable[..., Any], logits: Tensor, target: Tensor) -> Any:
    """The loss without its mean, if it has a `reduction`; else the loss itself."""
    reduction = getattr(loss, "reduction", None)
    if not (isinstance(loss, nn.Module) and reduction == "mean"):
        return loss(logits, target)
    loss.reduction = "none"
    try:
        return loss(logits, target)
    finally:
        loss.reduction = reduction


def _ignores_absent(loss: Callable[..., Any], like: Tensor) -> bool:
    """Whether voxels of probability 0 with target 0 do not change the loss, tried on a toy."""
    channels, side = like.shape[1], 12
    logits = torch.linspace(-2, 2, channels * side**3, device=like.device)
    logits = logits.view(1, channels, side, side, side)
    more = torch.nn.functional.pad(logits, (0, 2), value=IMPOSSIBLE)
    with torch.no_grad():
        few, many = (loss(toy, (toy > 0).float()) for toy in (logits, more))
    # A loss of 0 although half is wrong proves nothing (cross entropy of a single class).
    return bool(few.any()) and torch.allclose(few, many)


def _name(loss: Callable[..., Any]) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
