"""Optimizers with different settings for parts of the network."""

from collections.abc import Iterable
from typing import Annotated

from torch.nn import Parameter
from torch.optim import AdamW

from emseg.bounds import above, checked
from emseg.errors import UserError

_NET = "net."


@checked
def adamw_by_prefix(
    params: Iterable[tuple[str, Parameter]],
    *,
    lr: float,
    lr_below: dict[str, Annotated[float, above(0)]],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_vectors: bool = True,
) -> AdamW:
    """AdamW with separate learning rates for parts of the network; the first group is the rest.

    Args:
        params: (name, parameter); the names may begin with `net.`.
        lr: of the rest. A schedule scales all rates equally.
        lr_below: rates by part: `encoder_blocks` means all parameters named `encoder_blocks` or
            `encoder_blocks.…`; of several matching names the longest counts.
        betas, eps, weight_decay: see `torch.optim.AdamW`.
        decay_vectors: whether parameters of one axis or none (biases and norms) are decayed too.

    Raises:
        UserError: the network does not have a part, or a rate is not above 0.
    """
    named = [(name.removeprefix(_NET), parameter) for name, parameter in params]
    unmet = set(lr_below)
    groups: dict[tuple[str, bool], list[tuple[str, Parameter]]] = {}
    for name, parameter in named:
        below = [prefix for prefix in lr_below if f"{name}.".startswith(f"{prefix}.")]
        unmet -= set(below)
        decayed = decay_vectors or parameter.ndim > 1
        groups.setdefault((max(below, key=len, default=""), decayed), []).append((name, parameter))
    if unmet:
        parts = sorted({name.partition(".")[0] for name, _ in named})
        raise UserError(
            f"optimization.optimizer.lr_below.{min(unmet)} is no part of the network; "
            f"those are {', '.join(parts)}"
        )
    settings = [
        {
            "params": members,
            "lr": lr_below.get(prefix, lr),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (prefix, decayed), members in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    return AdamW(settings, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
