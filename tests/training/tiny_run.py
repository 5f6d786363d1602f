"""A small training that tests run in this process, and in two at once.

As a script it trains to `--steps` in one process or more (Lightning starts the others).
"""

import argparse
import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from emseg.losses.bce import PerChannelBCEWithLogits, WeightedBCEWithLogits
from emseg.losses.dice import Dice
from emseg.losses.maws import MembraneWeightedMSE
from emseg.losses.mse import MSE
from emseg.losses.per_head import PerHead
from emseg.losses.smooth_l1 import SmoothL1
from emseg.losses.weighted_sum import WeightedSum
from emseg.models.rsunet import RSUNet
from emseg.training.callbacks import checkpoint_callbacks
from emseg.training.datamodule import PatchDataModule
from emseg.training.ema import Ema
from emseg.training.objective import Parts
from emseg.training.schedules import warmup_cosine_lr
from emseg.training.supervised import Supervised

STEPS_PER_EPOCH = 12
TOTAL_STEPS = 40


class Samples:
    """Random images; bright voxels are positive; some samples have few valid voxels, or none."""

    def __init__(self, *, bad: int | None = None) -> None:
        self._bad = bad

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(index)
        image = rng.random((1, 2, 8, 8), dtype=np.float32)
        target = np.concatenate([image > 0.3, image > 0.8]).astype(np.uint8)
        mask = rng.random(target.shape) < [1.0, 0.5, 0.1, 0.0][index % 4]
        if index == self._bad:
            image[0, 0, 0, 0] = np.nan
        return {"image": image, "target": target, "mask": mask}


def tiny_net(*, out_channels: int = 2, norm: str = "group") -> RSUNet:
    return RSUNet(
        1,
        out_channels,
        width=[4, 4, 6],
        down_factors=[[1, 2, 2]] * 2,
        norm=norm,
        deep_supervision=True,
    )


def per_head_module() -> Supervised:
    """As `tiny_module`, its loss and another weighed by what they learn."""
    losses = {"all": tiny_module().loss, "bright": SmoothL1(activation="sigmoid")}
    return tiny_module(loss=PerHead(losses=losses, heads={"all": (0, 2), "bright": (1, 2)}))


def tiny_module(**settings) -> Supervised:
    torch.manual_seed(0)
    schedule = partial(
        warmup_cosine_lr,
        total_steps=TOTAL_STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        warmup_epochs=0.5,
    )
    losses = {
        "bce": PerChannelBCEWithLogits(),
        "all": WeightedBCEWithLogits(auto_pos_weight=True),
        "dice": Dice(batch=True),
        "each": Dice(),
        "mse": MSE(activation="sigmoid"),
        "maws": MembraneWeightedMSE(),
    }
    defaults = {
        "net": tiny_net(),
        "loss": WeightedSum(losses=losses, weights=dict.fromkeys(losses, 0.5)),
        "make_optimizer": partial(torch.optim.AdamW, lr=1e-3),
        "make_scheduler": schedule,
        "channels_last": True,
    }
    return Supervised(Parts(**defaults | settings))


def train(
    module: pl.LightningModule,
    folder: Path,
    *,
    steps: int,
    batch_size: int = 2,
    devices: int = 1,
    checkpoint: Path | None = None,
    callbacks: tuple[pl.Callback, ...] = (),
    val: bool = True,
    bad: int | None = None,
    **trainer_settings,
) -> pl.Trainer:
    """The trainer, after `steps` optimizer steps with checkpoints in `folder`."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data = PatchDataModule(
        Samples(bad=bad),
        batch_size=batch_size,
        batches_per_epoch=STEPS_PER_EPOCH,
        val=Samples() if val else None,
        val_samples=4 if val else 0,
    )
    checkpoints = checkpoint_callbacks(
        folder,
        monitor="train_loss_total_epoch",
        mode="min",
        save_top_k=2,
        save_last=True,
        every_n_steps=5,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=steps,
        use_distributed_sampler=False,
        callbacks=[*callbacks, *checkpoints],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"logger": False} | trainer_settings,
    )
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--bad", type=int)
    parser.add_argument("--per-head", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = None
    for steps in given.steps:
        train(
            per_head_module() if given.per_head else tiny_module(),
            given.folder,
            steps=steps,
            batch_size=given.batch_size,
            devices=given.devices,
            checkpoint=checkpoint,
            bad=given.bad,
            callbacks=(Ema(decay=0.9, warmup_steps=3),),
        )
        checkpoint = given.folder / "last.ckpt"


if __name__ == "__main__":
    main()
