"""How many patches have foreground, reported while training."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor


class SamplingStatistics(Callback):
    """Logs how patches were drawn, if batches have `draws` (B, 3), as `PatchDataset` says.

    `train_draws` is the mean number of draws for a patch, `train_background_patches` the share of
    patches with too little foreground, both over an epoch.

    Args:
        report: gets a warning after the first epoch, and the first validation, with patches for
            which no draw was accepted: their number (on the first device).
    """

    def __init__(self, *, report: Callable[[str], None]) -> None:
        self._report = report
        self._accepted: dict[str, list[Tensor]] = {"training": [], "validation": []}
        self._warned: set[str] = set()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        if "draws" not in batch:
            return
        number, foreground, accepted = batch["draws"].unbind(1)
        self._accepted["training"].append(accepted)
        pl_module.log_dict(
            {
                "train_draws": number.float().mean(),
                "train_background_patches": (foreground == 0).float().mean(),
            },
            on_step=False,
            on_epoch=True,
            batch_size=len(number),
            sync_dist=True,
        )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if "draws" in batch:
            self._accepted["validation"].append(batch["draws"][:, 2])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._warn("training", trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._warn("validation", trainer)

    def _warn(self, split: str, trainer: pl.Trainer) -> None:
        # Only here, because reading the values at every step would wait for the device.
        accepted, self._accepted[split] = self._accepted[split], []
        given_up = sum(int((one == 0).sum()) for one in accepted)
        if given_up and split not in self._warned and trainer.is_global_zero:
            self._warned.add(split)
            self._report(
                f"warning: for {given_up} of {sum(map(len, accepted))} patches of {split} no draw "
                "was accepted: foreground is rare, lower data.reject_sampling.size_thres"
            )
