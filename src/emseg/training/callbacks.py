"""Callbacks of a training: checkpoints, image panels, progress."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from emseg import progress
from emseg.progress import in_words
from emseg.training.objective import Batch, Objective

# How long the reported speed of a training is measured.
MEASURED_STEPS, MEASURED_SECONDS = 20, 30.0


def checkpoint_callbacks(
    folder: str | Path,
    *,
    monitor: str,
    mode: Literal["min", "max"],
    save_top_k: int,
    save_last: bool,
    every_n_steps: int | None,
) -> list[Callback]:
    """The callbacks that write checkpoints into `folder`.

    Args:
        monitor: a logged value; one that begins with `train` is checked after each epoch, another
            one after each validation.
        save_top_k: how many checkpoints, the best by `monitor`, stay; -1: all.
        save_last: whether `last.ckpt` is written after each epoch, and every `every_n_steps`.
        every_n_steps: optimizer steps between further checkpoints, which are never deleted.
    """
    after_epoch = monitor.startswith("train")
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    best = ModelCheckpoint(
        filename=f"{{step}}-{{{monitor}:.4f}}",
        monitor=monitor,
        mode=mode,
        save_top_k=save_top_k,
        save_on_train_epoch_end=after_epoch,
        **common,
    )
    callbacks: list[Callback] = [best]
    if save_last:
        last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common)
        callbacks.append(last)
    if every_n_steps is not None:
        regular = ModelCheckpoint(
            filename="{step}",
            every_n_train_steps=every_n_steps,
            save_top_k=-1,
            save_last=save_last,
            **common,
        )
        callbacks.append(regular)
    return callbacks


class TrainingProgress(Callback):
    """Prints on standard error the step, voxels per second, loss and time left.

    On a terminal one line that is renewed, elsewhere a new line every ten seconds.

    Args:
        report: gets one line on the duration of the whole training, measured over `MEASURED_STEPS`
            or `MEASURED_SECONDS` after the first step, in which workers and kernels start.
    """

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self._report = report
        self._warm: tuple[float, int] | None = None
        self._status: Any = None
        self._start = self._shown = 0.0
        self._first = self._voxels = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = self._shown = time.monotonic()
        self._first, self._voxels = trainer.global_step, 0
        if trainer.is_global_zero and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("training")
            self._status.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._voxels += batch["image"].numel() * trainer.world_size
        now = time.monotonic()
        if self._report is not None and trainer.is_global_zero:
            self._measure(trainer, now)
        every = progress.LINE_EVERY if self._status is None else progress.LINE_EVERY / 10
        if not trainer.is_global_zero or now - self._shown < every:
            return
        self._shown = now
        line = self._line(trainer, seconds=now - self._start)
        if self._status is None:
            print(f"emseg: {line}", file=sys.stderr, flush=True)
        else:
            self._status.update(line)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._status is not None:
            self._status.stop()

    def _measure(self, trainer: pl.Trainer, now: float) -> None:
        step, total = trainer.global_step, trainer.max_steps
        if self._warm is None:
            if step > self._first:
                self._warm = now, step
            return
        seconds, steps = now - self._warm[0], step - self._warm[1]
        if steps >= MEASURED_STEPS or (steps and seconds >= MEASURED_SECONDS):
            each, left = seconds / steps, total - step
            took = f"{in_words(each)} a step: the {left} steps to go take {in_words(each * left)}"
            assert self._report is not None
            self._report(took)
            self._report = None

    def _line(self, trainer: pl.Trainer, *, seconds: float) -> str:
        step, total = trainer.global_step, trainer.estimated_stepping_batches
        steps_per_second = (step - self._first) / seconds
        left = "?"
        if steps_per_second > 0 and total < float("inf"):
            left = str(timedelta(seconds=int((total - step) / steps_per_second)))
        loss = float(trainer.callback_metrics["train_loss_total_step"])
        rate = self._voxels / seconds / 1e6
        return f"train: {step}/{total}, {rate:.3g} Mvoxel/s, loss {loss:.4g}, {left} left"


class ImagePanels(Callback):
    """Pictures for TensorBoard, side by side, from the objective (`Objective.pictures`).

    They show the first training and the first validation batch of an epoch. With several channels
    the first three are red, green and blue.

    Args:
        every_n_epochs: from the first epoch on.
        n_images: the most samples of a batch.
        n_slices: slices across axis 0 of each sample, evenly spread.
    """

    def __init__(self, *, every_n_epochs: int, n_images: int, n_slices: int) -> None:
        self._every_n_epochs = every_n_epochs
        self._n_images = n_images
        self._n_slices = n_slices
        self._batches: dict[str, dict[str, Tensor]] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._store_batch("train", trainer, batch)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._store_batch("val", trainer, batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Objective)
        for split, batch in self._batches.items():
            for number, parts in enumerate(_pictures(trainer, pl_module, batch)):
                panel = _panel(parts, n_slices=self._n_slices)
                for logger in trainer.loggers:
                    if isinstance(logger, TensorBoardLogger):
                        logger.experiment.add_image(f"{split}/{number}", panel, trainer.global_step)
        self._batches = {}

    def _store_batch(self, split: str, trainer: pl.Trainer, batch: Batch) -> None:
        due = trainer.current_epoch % self._every_n_epochs == 0
        if due and trainer.is_global_zero and split not in self._batches:
            self._batches[split] = {name: part[: self._n_images] for name, part in batch.items()}


def _pictures(trainer: pl.Trainer, module: Objective, batch: Batch) -> list[list[Tensor]]:
    module.eval()
    # One by one: a whole batch might not fit into memory with the optimizer's state.
    alone = [
        {name: part[i : i + 1] for name, part in batch.items()} for i in range(len(batch["image"]))
    ]
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        pictures = [module.pictures(sample) for sample in alone]
    module.train()
    return [[part.float().cpu() for part in parts] for parts in pictures]


def _panel(parts: list[Tensor], *, n_slices: int) -> Tensor:
    # Parts (C, Z, Y, X) side by side, slices below each other; (3, rows, columns).
    depth = parts[0].shape[1]
    positions = [(2 * i + 1) * depth // (2 * n_slices) for i in range(n_slices)]
    rows = [torch.cat([_rgb(part[:, z]) for part in parts], dim=2) for z in positions]
    return torch.cat(rows, dim=1).clamp(0, 1)


def _rgb(section: Tensor) -> Tensor:
    if len(section) == 1:
        return section.expand(3, -1, -1)
    missing = max(3 - len(section), 0)
    return torch.cat([section[:3], section.new_zeros(missing, *section.shape[1:])])
