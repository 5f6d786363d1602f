"""Checkpoints written whole or not at all, and another one if a signal ends the training."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint as CheckpointCallback

from emseg.stopping import Stopped, reinstall_handlers
from emseg.training.ema import Ema
from emseg.volumes.atomic import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, by rename; UserError if that fails.

    Attributes:
        written: the last one that this process has written, with its step, or None.
    """

    def __init__(self) -> None:
        self.written: tuple[Path, int] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        # First to memory: PyTorch's own writer does not say why a file cannot be written.
        contents = io.BytesIO()
        torch.save(checkpoint, contents)
        with replacing(Path(path)) as partial:
            partial.write_bytes(contents.getbuffer())
        self.written = (Path(path), checkpoint["global_step"])


class EndOnSignal(CheckpointCallback):
    """Ends the training by `Stopped` after a signal, with its state in `last.ckpt`.

    The training ends between two optimizer steps, on all devices after the same one, and a resumed
    run continues as if it had not ended: a validation, or an end of an epoch, that was due is done
    before, or again. After the last step it ends as without the signal.

    Args:
        folder: that of the checkpoints.
        asked: returns the signal that this process received, 0 for none.
    """

    def __init__(self, folder: Path, *, asked: Callable[[], int]) -> None:
        self._last = folder / "last.ckpt"
        self._asked = asked
        self._saved = 0
        self._before_validation: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has set a handler that communicates with the other devices at any time.
        reinstall_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop._should_accumulate():
            return
        self._saved = self._signal(trainer)
        if self._saved:
            trainer.save_checkpoint(self._last)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # Neither validation nor an end of the epoch was due: the checkpoint is complete.
        if self._saved:
            raise Stopped(self._saved)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        if batch_idx == 0:
            # After the first batch begins a resumed run validates again; else it would skip
            # batches.
            state = copy.deepcopy(trainer.fit_loop.state_dict())
            for count in ("total", "current"):
                state["epoch_loop.val_loop.batch_progress"][count]["started"] += 1
            self._before_validation = state
        if self._saved:
            self._end_in_validation(trainer, pl_module, self._saved)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        number = self._signal(trainer)
        if number:
            self._end_in_validation(trainer, pl_module, number)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before_validation = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._before_validation is not None:
            checkpoint["loops"]["fit_loop"] = self._before_validation

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = self._saved or self._signal(trainer)
        if number and trainer.global_step < trainer.max_steps:
            trainer.save_checkpoint(self._last)
            raise Stopped(number)

    def _end_in_validation(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, number: int
    ) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, Ema):
                # During validation the network has the averaged weights, and the average the live
                # ones.
                callback.on_validation_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self._last)
        raise Stopped(number)

    def _signal(self, trainer: pl.Trainer) -> int:
        """The signal that any of the devices received."""
        number = self._asked()
        if trainer.world_size == 1:
            return number
        ours = torch.tensor(number, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(ours, reduce_op="max"))
