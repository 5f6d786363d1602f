"""The base class of all objectives of a training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from emseg.errors import UserError
from emseg.losses.loss_arguments import asks_for
from emseg.models.stride import check_input
from emseg.training.facts import Facts
from emseg.training.outputs import require_outputs

Batch = Mapping[str, Tensor]
Losses = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of every objective, besides its own settings.

    Attributes:
        loss: as the objective calls it; returns the total, or it and its parts by name.
        make_optimizer: from (name, parameter) of all that learns.
        make_scheduler: None: the learning rate stays.
        activations: those of the target (`TargetFacts`).
        facts: are put into each checkpoint.
        channels_last: whether the network works in that memory order: faster on a CPU.
    """

    net: nn.Module
    loss: Callable[..., Tensor | Losses]
    make_optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer]
    make_scheduler: Callable[[Optimizer], LRScheduler] | None = None
    activations: Sequence[str] | None = None
    facts: Facts | None = None
    channels_last: bool = False


class Objective(pl.LightningModule):
    """A module that trains the network in its parts by the `losses` that a subclass defines.

    A batch has `image` (B, C_in, Z, Y, X) in [0, 1]; if the objective has a target, also `target`
    and `mask`, else the `seed` (B) of random changes of each sample. An objective with `perturbs`
    documents what else. The schedule is stepped once per optimizer step.

    Logged are `train_loss_total` (by step and epoch), `train_loss_<part>`, `lr`, `val_loss_total`
    and `val_loss_<part>`. A loss that is not finite raises a `UserError` before the step.

    In checkpoints the network's weights have the prefix `net.`.

    Raises:
        UserError: network or loss takes hidden patches and the objective has none, or the reverse.
    """

    # Whether batches have a target made from labels, whose channels the network has.
    of_target: ClassVar[bool]
    # Whether network and loss get the hidden patches as `token_mask`.
    hides_patches: ClassVar[bool] = False
    # Whether batches have unlabelled patches in two views, clean and perturbed.
    perturbs: ClassVar[bool] = False

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._require_its_own("model", parts.net)
        self._require_its_own("loss", parts.loss)
        last = parts.channels_last
        self.memory_format = torch.channels_last_3d if last else torch.contiguous_format
        self.net = parts.net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.loss = parts.loss
        self.make_optimizer = parts.make_optimizer
        self.make_scheduler = parts.make_scheduler
        self.activations = parts.activations
        self.facts = parts.facts

    def losses(self, batch: Batch) -> Losses:
        """The loss of a batch and its named parts."""
        raise NotImplementedError

    def loss_parts(self, channels: int) -> list[str]:
        """The names of the parts, for a network with so many channels."""
        raise NotImplementedError

    def check(self, patch_size: Sequence[int], *, in_channels: int, channels: int) -> None:
        """Checks, without reading voxels, that the first step would not fail.

        Raises:
            UserError: network, loss, `patch_size` (voxels) and numbers of channels do not fit.
        """
        check_input(patch_size, self.net)
        self.loss_parts(channels)
        if not self.hides_patches:
            require_outputs(self.net, patch_size, in_channels=in_channels, channels=channels)

    def pictures(self, batch: Batch) -> list[Tensor]:
        """The pictures for a batch of one sample: (C, Z, Y, X) in [0, 1] each."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        total, parts = self.losses(batch)
        lr = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        if not torch.isfinite(total):
            raise UserError(
                f"the training loss is {total.item()} at step {self.global_step} (learning rate "
                f"{lr:g}, precision {self.trainer.precision}): lower optimization.optimizer.lr, "
                "lengthen the warm-up, set optimization.precision to bf16-mixed or 32-true, or "
                "look for odd values in the images"
            )
        size = len(batch["image"])
        self.log(
            "train_loss_total", total, on_step=True, on_epoch=True, batch_size=size, sync_dist=True
        )
        self.log("lr", lr)
        self.log_dict({f"train_loss_{name}": part for name, part in parts.items()})
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        total, parts = self.losses(batch)
        values = {"val_loss_total": total} | {f"val_loss_{n}": part for n, part in parts.items()}
        self.log_dict(values, batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        learned = ((n, weight) for n, weight in self.named_parameters() if weight.requires_grad)
        optimizer = self.make_optimizer(learned)
        if self.make_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.facts is not None:
            checkpoint["emseg"] = replace(self.facts, global_step=self.global_step).stored()

    def _require_its_own(self, kind: str, part: Callable[..., Any]) -> None:
        asks = asks_for(part, "token_mask")
        if asks == self.hides_patches:
            return
        own, name = type(self).__name__, getattr(part, "__name__", type(part).__name__)
        if asks:
            raise UserError(
                f"objective: {own} hides no patches, and the {kind} {name} is of hidden ones: "
                "choose objective=masked"
            )
        choice = {"model": "masked_vit", "loss": "masked_reconstruction"}[kind]
        raise UserError(
            f"objective: {own} hides patches, of which the {kind} {name} takes no mask: choose "
            f"{kind}={choice}"
        )
