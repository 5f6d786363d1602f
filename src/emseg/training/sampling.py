"""How patches with foreground are come by, told while training."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor


class SamplingStatistics(Callback):
    """Logs how patches were drawn where batches have `draws` (B, 3), as `PatchDataset` says.

    `train_draws` is the mean number of draws for a patch, `train_background_patches` the share of
    patches with too little foreground, both over an epoch. In the first epoch that has patches for
    which no draw was accepted, `tell` gets a warning with their number.
    """

    def __init__(self, *, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._patches = self._given_up = 0
        self._warned = False

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
        self._patches += len(number)
        self._given_up += int(torch.count_nonzero(accepted == 0))
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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._given_up and not self._warned and trainer.is_global_zero:
            self._warned = True
            self._tell(
                f"warning: for {self._given_up} of {self._patches} patches no draw was accepted: "
                "foreground is rare, lower data.reject_sampling.size_thres"
            )
        self._patches = self._given_up = 0
