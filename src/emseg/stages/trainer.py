"""The Lightning trainer that a config describes."""

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger

from emseg.config.schema import Root
from emseg.runs.run_folder import say
from emseg.stages.devices import Devices
from emseg.training.callbacks import ImagePanels, TrainingProgress, checkpoint_callbacks
from emseg.training.ema import Ema
from emseg.training.foreground_share import SamplingStatistics
from emseg.training.saving import EndOnSignal, WholeCheckpoints

# Lightning's warnings about intended behaviour, or about what no user can change.
NO_NEWS = (
    "`isinstance.treespec, LeafSpec.` is deprecated",
    "The number of training batches .* is smaller than the logging interval",
    "The 'val_dataloader' does not have many workers",
    # A teacher network sets its own mode in training.
    "Found .* module.s. in eval mode at the start of training",
    "Grad strides do not match bucket view strides",
    "Checkpoint directory .* exists and is not empty",
    # A checkpoint that was copied from its run continues in a new one.
    "The dirpath has changed from",
    # Names are checked before training; a run resumed at an epoch's end repeats that end.
    "`ModelCheckpoint.monitor=.* could not find the monitored key",
)


def make_trainer(
    root: Root,
    devices: Devices,
    run: Path,
    *,
    validates: bool,
    writer: WholeCheckpoints,
    asked: Callable[[], int],
    callbacks: Sequence[Callback] = (),
) -> pl.Trainer:
    """A trainer that writes checkpoints, by `writer`, and TensorBoard's files into `run`.

    It raises `Stopped` once `asked` returns the number of a signal.
    """
    _quieten()
    schedule = root.optimization
    per_step = schedule.accumulate_grad_batches
    validate = schedule.val_check_interval
    assert schedule.total_steps is not None
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.count,
        num_nodes=devices.nodes,
        strategy="ddp" if devices.count * devices.nodes > 1 else "auto",
        # Batch norms then see the patches of all GPUs; torch has none such for CPUs.
        sync_batchnorm=devices.accelerator == "gpu",
        max_steps=schedule.total_steps,
        max_epochs=-1,
        precision=schedule.precision,
        gradient_clip_val=schedule.gradient_clip_val,
        accumulate_grad_batches=per_step,
        val_check_interval=None if validate is None else validate * per_step,
        check_val_every_n_epoch=1 if validate is None else None,
        log_every_n_steps=root.monitor.logging.log_every_n_steps,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validates else 0,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(run, name="tensorboard", version=""),
        callbacks=[*callbacks, *_callbacks(root, run, asked)],
        plugins=[writer, *_environment()],
        # Where Lightning, on a cluster, looks for its own file to resume from.
        default_root_dir=run,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _callbacks(root: Root, run: Path, asked: Callable[[], int]) -> list[Callback]:
    ema, images = root.optimization.ema, root.monitor.logging.images
    callbacks: list[Callback] = [
        *checkpoint_callbacks(run / "checkpoints", **vars(root.monitor.checkpoint)),
        TrainingProgress(report=partial(say, run=run)),
    ]
    if root.data.reject_sampling.size_thres:
        callbacks.append(SamplingStatistics(report=partial(say, run=run)))
    if images.n_images:
        callbacks.append(ImagePanels(**vars(images)))
    early = root.monitor.early_stopping
    if early.patience is not None:
        callbacks.append(
            EarlyStopping(
                early.monitor,
                mode=early.mode,
                patience=early.patience,
                check_on_train_epoch_end=early.monitor.startswith("train"),
            )
        )
    if ema.enabled:
        callbacks.append(
            Ema(
                decay=ema.decay,
                warmup_steps=ema.warmup_steps,
                validate_with_ema=ema.validate_with_ema,
            )
        )
    # After the average, which it also saves.
    callbacks.append(EndOnSignal(run / "checkpoints", asked=asked))
    return callbacks


def _environment() -> list[SLURMEnvironment]:
    """On SLURM an environment that does not requeue jobs, elsewhere what Lightning finds."""
    # As in Lightning: torchrun's processes take precedence there too.
    slurm = not TorchElasticEnvironment.detect() and SLURMEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if slurm else []


def _quieten() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in NO_NEWS:
        warnings.filterwarnings("ignore", message=message)
