"""Train: from labelled volumes to checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from emseg import __version__
from emseg.config import Loaded, build, dump
from emseg.config.schema import Root
from emseg.config.schema_data import Data
from emseg.data.augment import Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError, unknown_name
from emseg.losses.asking import ask_loss
from emseg.models.stride import check_input
from emseg.stages.devices import Devices, resolve_devices, slow_precision, stand_resolved
from emseg.stages.grid import common_grid, unlike_training
from emseg.stages.network import build_network, require_same_target, target_facts, trained_facts
from emseg.stages.runs import log_start, process_rank, run_of, say, start_run, write_config
from emseg.stages.sources import Source, open_sources, within
from emseg.stages.trainer import make_trainer
from emseg.training.checkpoints import (
    load_weights,
    net_weights,
    read_checkpoint,
    require_same_loss,
    start_from,
)
from emseg.training.datamodule import PatchDataModule
from emseg.training.supervised import Supervised

# Enough validation patches for a steady mean where the config does not say how many.
DEFAULT_VAL_STEPS = 25


def train(loaded: Loaded, *, checkpoint: Path | None, command: str) -> Path:
    """The run folder with its checkpoints. With `checkpoint` its run goes on in its own folder."""
    root = loaded.root
    devices = resolve_devices(root.system)
    _check_precision(root, devices)
    pl.seed_everything(root.system.seed, verbose=False)
    target = build(root.target, kind="target", allow=loaded.allow)
    sources, val_sources = _sources(root.data)
    grid = common_grid([source.image for source in sources])
    facts = {
        **vars(grid),
        "in_channels": sources[0].image.channels or 1,
        "trained_on": [source.region() for source in sources],
    }
    # All that needs no voxels is checked before volumes are read whole.
    module = _module(loaded, target, facts, devices)
    begun = _begun_from(root, module)
    _check_checkpoints(root, module, target, validates=bool(val_sources))
    if checkpoint is not None:
        _check_resumable(checkpoint, root, module, target)
    augment = build(root.augment, kind="augment", allow=loaded.allow)
    train_patches = _patches(sources, root, target, augment, namespace=0)
    val_patches = (
        _patches(val_sources, root, target, Pipeline(), namespace=1) if val_sources else None
    )
    data = _data(root, train_patches, val_patches, devices)
    run = _run_folder(loaded, checkpoint, devices, command)
    trainer = make_trainer(root, devices, run, validates=val_patches is not None)
    _tell(run, devices.warning)
    _tell(run, begun)
    _tell(run, slow_precision(root.optimization.precision, devices))
    for source in val_sources:
        _tell(run, unlike_training(source.image, grid))
    for note in (*train_patches.notes, *(val_patches.notes if val_patches else ())):
        _tell(run, note)
    _tell(run, f"trained on {_shown(sources)}; validated on {_shown(val_sources) or 'nothing'}")
    steps = f"{root.optimization.total_steps} steps on {devices.count} {devices.accelerator}"
    _tell(run, f"training {steps} in {run}")
    _fit(trainer, module, data, checkpoint)
    _tell(run, f"trained: {run / 'checkpoints'}")
    return run


def _fit(
    trainer: pl.Trainer, module: Supervised, data: PatchDataModule, checkpoint: Path | None
) -> None:
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as ended:
        # Lightning ends the process itself on Ctrl-C; how it ends is for the command line to say.
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise ended.__context__ from None
        raise


def _tell(run: Path, line: str | None) -> None:
    if line and process_rank() == 0:
        say(line, run=run)


def _check_precision(root: Root, devices: Devices) -> None:
    if root.optimization.precision == "16-mixed" and devices.accelerator == "cpu":
        raise UserError("optimization.precision: 16-mixed needs a GPU, a CPU trains in bf16-mixed")


def _check_checkpoints(root: Root, module: Supervised, target: Target, *, validates: bool) -> None:
    """Nothing, or a UserError where training would keep nothing, or only find out at its end."""
    config = root.monitor.checkpoint
    if not (config.save_top_k or config.save_last or config.every_n_steps):
        raise UserError(
            "monitor.checkpoint: with save_top_k=0, save_last=false and every_n_steps=null no "
            "checkpoint is kept; set one of them"
        )
    # The loss itself knows the names of its parts.
    toy = torch.zeros(1, target.out_channels, 2, 2, 2)
    _, parts = ask_loss(module.loss, toy, toy, toy.bool(), toy[:, :1])
    names = ["train_loss_total_epoch", "train_loss_total_step"]
    if validates:
        names += [f"val_loss_{part}" for part in ("total", *parts)]
    if config.monitor.startswith("val_") and not validates:
        raise UserError(
            f"monitor.checkpoint.monitor={config.monitor} needs validation: set data.val or "
            "data.split_val_range"
        )
    if config.monitor not in names:
        raise unknown_name(
            "logged value", config.monitor, names, where="monitor.checkpoint.monitor"
        )


def _check_resumable(checkpoint: Path, root: Root, module: Supervised, target: Target) -> None:
    """Nothing, or a UserError when training with this config cannot go on from the checkpoint."""
    stored = read_checkpoint(checkpoint)
    require_same_target(target, trained_facts(stored, source=checkpoint), source=checkpoint)
    load_weights(module.net, net_weights(stored), source=checkpoint)
    require_same_loss(module.loss, stored, source=checkpoint)
    _require_same_optimizer(stored["emseg"], module.metadata, source=checkpoint)
    if "current_model_state" in stored and not root.optimization.ema.enabled:
        raise UserError(
            f"{checkpoint} was trained with optimization.ema.enabled=true and cannot go on without "
            "(model.init_from takes its weights into a new run)"
        )


def _require_same_optimizer(
    before: Mapping[str, Any], now: Mapping[str, Any], *, source: Path
) -> None:
    """Nothing, or a UserError: the state that goes on brings its own settings, or fits no other."""
    for kind in ("optimizer", "scheduler"):
        if kind not in before:  # written before checkpoints said so
            continue
        for key in [*before[kind], *now[kind]]:
            old, new = before[kind].get(key), now[kind].get(key)
            if old != new:
                raise UserError(
                    f"optimization.{kind}.{key}: {source} was trained with {old!r} and cannot go "
                    f"on with {new!r} (model.init_from takes its weights into a new run)"
                )


def _sources(config: Data) -> tuple[list[Source], list[Source]]:
    """The volumes to train on and those to validate on, which may be none."""
    train = open_sources(config.train, split="train")
    if config.split_val_range is not None:
        val = [within(source, config.split_val_range) for source in train]
    else:
        val = open_sources(config.val, split="val") if config.val else []
    return [within(source, config.split_train_range) for source in train], val


def _shown(sources: list[Source]) -> str:
    return ", ".join(f"{one.name} ({'x'.join(map(str, one.image.shape))})" for one in sources)


def _data(
    root: Root, train: PatchDataset, val: PatchDataset | None, devices: Devices
) -> PatchDataModule:
    schedule, batch = root.optimization, root.data.dataloader.batch_size
    val_steps = schedule.val_steps_per_epoch or DEFAULT_VAL_STEPS
    return PatchDataModule(
        train,
        batch_size=batch,
        batches_per_epoch=schedule.n_steps_per_epoch * schedule.accumulate_grad_batches,
        val=val,
        val_samples=0 if val is None else val_steps * batch,
        num_workers=devices.workers,
        seed=root.system.seed,
    )


def _patches(
    sources: list[Source], root: Root, target: Target, augment: Pipeline, *, namespace: int
) -> PatchDataset:
    reject = root.data.reject_sampling
    return PatchDataset(
        [source.labelled() for source in sources],
        patch_size=root.data.dataloader.patch_size,
        seed=root.system.seed,
        target=target,
        augment=augment,
        namespace=namespace,
        **root.data.intensities,
        pad_small=root.data.pad_small,
        preload=root.data.preload,
        target_context=root.data.target_context,
        relabel_crops=root.data.relabel_crops,
        reject=RejectSampling(reject.size_thres, reject.p) if reject.size_thres else None,
    )


def _module(
    loaded: Loaded, target: Target, facts: Mapping[str, Any], devices: Devices
) -> Supervised:
    root, allow = loaded.root, loaded.allow
    schedule, patch_size = root.optimization, root.data.dataloader.patch_size
    net = build_network(root, target, in_channels=facts["in_channels"], allow=allow)
    check_input(patch_size, net)
    metadata = {
        **target_facts(target),
        **facts,
        "version": __version__,
        "patch_size": list(patch_size),
        "optimizer": schedule.optimizer,
        "scheduler": schedule.scheduler,
        "config": loaded.saved,
    }
    return Supervised(
        net,
        loss=build(root.loss, kind="loss", allow=allow, heads=getattr(target, "heads", None)),
        make_optimizer=build(schedule.optimizer, kind="optimization.optimizer", allow=allow),
        make_scheduler=build(
            schedule.scheduler,
            kind="optimization.scheduler",
            allow=allow,
            total_steps=schedule.total_steps,
            steps_per_epoch=schedule.n_steps_per_epoch,
        ),
        metadata=metadata,
        # On a CPU convolutions are several times faster with the channels last.
        channels_last=devices.accelerator == "cpu",
    )


def _begun_from(root: Root, module: Supervised) -> str | None:
    source = root.model.get("init_from")
    return start_from(Path(source), module.net) if source else None


def _run_folder(loaded: Loaded, checkpoint: Path | None, devices: Devices, command: str) -> Path:
    stand_resolved(loaded.saved, devices, "train")
    root = loaded.root
    run = run_of(checkpoint) if checkpoint else None
    if run is None:
        run = start_run(root.experiment_name)
    if process_rank() == 0:
        write_config(run, dump(loaded.saved))
        log_start(run, command=command, seed=root.system.seed)
    return run
