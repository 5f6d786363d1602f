"""A separate loss for each head of a network."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from emseg.bounds import Weight, checked
from emseg.errors import UserError
from emseg.losses.loss_arguments import ask_loss, check_names
from emseg.losses.ranks import sum_over_ranks


class PerHead(nn.Module):
    """The weighted sum of the heads' losses, each head's loss, and its learned weight.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`, and the `image` if a head's loss
    has that argument; returns `(total, {name: value})`. With `uncertainty` a head without a known
    voxel in the batch of all ranks does not count.

    Args:
        losses: by head; each gets only the head's channels.
        weighting: with `sum` a head's loss L counts with its weight; with `uncertainty` it counts
            exp(-s) L + s, where s is learned, 0 at first, and reported as `<head>_log_variance`:
            large losses get a small weight (Kendall et al. 2018, "Multi-task learning using
            uncertainty to weigh losses").
        weights: by head, 0 or more; None: all 1. Not with `uncertainty`.
        heads: from the target, the channels [first, stop) of each head; two or more.

    Raises:
        UserError: PyTorch uses the name of a head, or the arguments are not such or do not match.
    """

    @checked
    def __init__(
        self,
        *,
        losses: Mapping[str, nn.Module],
        weighting: Literal["sum", "uncertainty"] = "uncertainty",
        weights: Mapping[str, Weight] | None = None,
        heads: Mapping[str, tuple[int, int]] | None,
    ) -> None:
        super().__init__()
        if heads is None or len(heads) < 2:
            raise UserError("loss.losses: the target has no two heads to weigh against each other")
        for name in heads:
            # PyTorch makes modules attributes of their container, beside its methods.
            if hasattr(nn.ModuleDict, name):
                raise UserError(f"target.heads: PyTorch uses the name '{name}'; choose another")
        check_names(losses, heads, where="loss.losses")
        if weights is not None:
            if weighting == "uncertainty":
                raise UserError("loss.weights must be null where loss.weighting is 'uncertainty'")
            check_names(weights, heads, where="loss.weights")
        self.heads = dict(heads)
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights or dict.fromkeys(heads, 1.0))
        learned = heads if weighting == "uncertainty" else ()
        self.log_variance = nn.ParameterDict({n: nn.Parameter(torch.zeros(())) for n in learned})

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        total = logits.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for name, (first, stop) in self.heads.items():
            own = logits[:, first:stop], target[:, first:stop], mask[:, first:stop]
            loss, inner = ask_loss(self.losses[name], *own, image)
            parts[name] = loss.detach()
            parts |= {f"{name}_{part}": value for part, value in inner.items()}
            total = total + self._weighted(name, loss, known=own[2].any())
        learned = self.log_variance.items()
        parts |= {f"{name}_log_variance": s.detach().clone() for name, s in learned}
        return total, parts

    def _weighted(self, name: str, loss: Tensor, *, known: Tensor) -> Tensor:
        if name not in self.log_variance:
            return self.weights[name] * loss
        s = self.log_variance[name]
        # Without a loss, s would decrease at every step.
        return (torch.exp(-s) * loss + s) * (sum_over_ranks(known.float()).detach() > 0)
