"""Fitting a network to targets."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from emseg.errors import UserError
from emseg.losses.asking import ask_loss

Batch = Mapping[str, Tensor]

# Of deep supervision: what each auxiliary loss weighs of the next finer one's weight.
AUXILIARY_DECAY = 0.5


class Supervised(pl.LightningModule):
    """A module that fits `net` to the `target` of batches where their `mask` is true.

    A batch has `image` (B, C_in, Z, Y, X), `target` and `mask` (B, C, Z, Y, X). `loss` takes
    logits, target and mask, the `image` too where it asks for it (`ask_loss`), and returns the
    total or `(total, {name: part})`. Of a network that returns a list of logits, finest first, each
    coarser one is compared with every n-th voxel of the target, and weighs half of the one before.
    The schedule is stepped once an optimizer step.

    Logged are `train_loss_total` (by step and epoch), `train_loss_<part>`, `lr`, `val_loss_total`
    and `val_loss_<part>`. A loss that is not finite raises a `UserError` before the step is taken.

    `metadata`, plain containers and tensors, is put into each checkpoint as `emseg`, with the
    `global_step`; the network's weights stand there under `net.`. With `channels_last` the network
    works in that memory order: faster on a CPU.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        loss: Callable[..., Tensor | tuple[Tensor, dict[str, Tensor]]],
        make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        make_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        metadata: Mapping[str, Any] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.loss = loss
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        self.metadata = dict(metadata or {})

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        logits: Tensor | list[Tensor] = self.net(image.to(memory_format=self.memory_format))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        total, parts = self._losses(batch)
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
        total, parts = self._losses(batch)
        values = {"val_loss_total": total} | {f"val_loss_{n}": part for n, part in parts.items()}
        self.log_dict(values, batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        if self.make_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["emseg"] = self.metadata | {"global_step": self.global_step}

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = self(batch["image"])
        finest, *coarser = outputs if isinstance(outputs, list) else [outputs]
        target, mask, image = batch["target"], batch["mask"], batch["image"]
        total, parts = ask_loss(self.loss, finest, target, mask, image)
        for depth, logits in enumerate(coarser, 1):
            voxels = _nearest_voxels(target, logits)
            seen = (tensor[voxels] for tensor in (target, mask, image))
            auxiliary, _ = ask_loss(self.loss, logits, *seen)
            total = total + AUXILIARY_DECAY**depth * auxiliary
            parts |= {f"auxiliary_{depth}": auxiliary.detach()}
        return total, parts


def _nearest_voxels(fine: Tensor, coarse: Tensor) -> tuple[Any, ...]:
    # The one in the middle of each coarse voxel, or right after it where the factor is even.
    factors = [f // c for f, c in zip(fine.shape[2:], coarse.shape[2:], strict=True)]
    return (..., *(slice(factor // 2, None, factor) for factor in factors))
