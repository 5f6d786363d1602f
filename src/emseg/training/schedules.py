"""Learning rates by optimizer step."""

from collections.abc import Callable
from math import cos, pi
from typing import Annotated

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from emseg.bounds import Weight, checked, within
from emseg.errors import UserError


@checked
def warmup_cosine_lr(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: Weight = 3.0,
    warmup_steps: Annotated[int, within(0)] | None = None,
    warmup_start_lr: Weight = 1e-5,
    min_lr: Weight = 1e-6,
) -> LambdaLR:
    """A schedule that rises linearly to the optimizer's own rate, then falls on half a cosine.

    Args:
        total_steps, steps_per_epoch: optimizer steps.
        warmup_epochs: the length of the warm-up, rounded to whole steps.
        warmup_steps: replaces `warmup_epochs` if given.
        warmup_start_lr: the rate of the first step of a warm-up.
        min_lr: is reached after `total_steps` and stays.

    Raises:
        UserError: the warm-up is not shorter than the training, or a rate is above the optimizer's.
    """
    warmup = round(warmup_epochs * steps_per_epoch) if warmup_steps is None else warmup_steps
    key = "warmup_epochs" if warmup_steps is None else "warmup_steps"
    if warmup >= total_steps:
        raise UserError(
            f"optimization.scheduler.{key} makes a warm-up of {warmup} steps; it must be below the "
            f"training's {total_steps}"
        )

    def lr(step: int, top: float) -> float:
        if step < warmup:
            return warmup_start_lr + (top - warmup_start_lr) * step / warmup
        return _half_cosine((step - warmup) / (total_steps - warmup), top=top, bottom=min_lr)

    floors = (
        {"min_lr": min_lr, "warmup_start_lr": warmup_start_lr} if warmup else {"min_lr": min_lr}
    )
    return _schedule(optimizer, lr, floors)


@checked
def cosine(optimizer: Optimizer, *, total_steps: int, min_lr: Weight = 1e-5) -> LambdaLR:
    """A schedule that falls on half a cosine from the optimizer's learning rate.

    Args:
        total_steps: optimizer steps.
        min_lr: is reached after `total_steps` and stays.

    Raises:
        UserError: `min_lr` is above the optimizer's learning rate.
    """

    def lr(step: int, top: float) -> float:
        return _half_cosine(step / total_steps, top=top, bottom=min_lr)

    return _schedule(optimizer, lr, {"min_lr": min_lr})


def constant(optimizer: Optimizer) -> LambdaLR:
    """A schedule that never changes the optimizer's learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


def _half_cosine(progress: float, *, top: float, bottom: float) -> float:
    return bottom + (top - bottom) * (1 + cos(pi * min(progress, 1.0))) / 2


def _schedule(
    optimizer: Optimizer, lr: Callable[[int, float], float], floors: dict[str, float]
) -> LambdaLR:
    tops = [float(group["lr"]) for group in optimizer.param_groups]
    if min(tops) <= 0:
        raise UserError(f"optimization.optimizer.lr is {min(tops):g}; it must be above 0")
    for name, floor in floors.items():
        if floor > min(tops):
            raise UserError(
                f"optimization.scheduler.{name} is {floor:g}; it must be at most the optimizer's "
                f"learning rate, {min(tops):g}"
            )

    def factor(top: float) -> Callable[[int], float]:
        return lambda step: lr(step, top) / top

    return LambdaLR(optimizer, [factor(top) for top in tops])
