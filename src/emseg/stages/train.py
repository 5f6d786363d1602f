"""Train: from labelled volumes to checkpoints."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from emseg import __version__
from emseg.config import Loaded, build, dump
from emseg.config.schema import Root
from emseg.data.augment import Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.models.stride import check_patch
from emseg.stages.devices import Devices, resolve_devices, stand_resolved
from emseg.stages.network import target_facts
from emseg.stages.runs import log_start, process_rank, run_of, say, start_run, write_config
from emseg.stages.sources import Source, open_sources, within
from emseg.training.callbacks import ImagePanels, TrainingProgress, checkpoint_callbacks
from emseg.training.checkpoints import load_weights, net_weights, read_checkpoint
from emseg.training.datamodule import PatchDataModule
from emseg.training.ema import Ema
from emseg.training.supervised import Supervised

# Enough validation patches for a steady mean where the config does not say how many.
DEFAULT_VAL_STEPS = 25


def train(loaded: Loaded, *, checkpoint: Path | None, command: str) -> Path:
    """The run folder with its checkpoints. With `checkpoint` its run goes on in its own folder."""
    root = loaded.root
    devices = resolve_devices(root.system)
    pl.seed_everything(root.system.seed, verbose=False)
    target = build(root.target, kind="target", allow=loaded.allow)
    train_patches, val_patches = _datasets(loaded, target)
    data = _data(root, train_patches, val_patches, devices)
    module = _module(loaded, target, train_patches.channels, devices)
    run = _run_folder(loaded, checkpoint, devices, command)
    trainer = _trainer(root, devices, run)
    if process_rank() == 0:
        if devices.warning:
            say(devices.warning, run=run)
        steps = f"{_total_steps(root)} steps on {devices.count} {devices.accelerator}"
        say(f"training {steps} in {run}", run=run)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    if process_rank() == 0:
        say(f"trained: {run / 'checkpoints' / 'last.ckpt'}", run=run)
    return run


def _datasets(loaded: Loaded, target: Target) -> tuple[PatchDataset, PatchDataset | None]:
    root, config = loaded.root, loaded.root.data
    augment = build(root.augment, kind="augment", allow=loaded.allow)
    train = open_sources(config.train, split="train")
    val = open_sources(config.val, split="val") if config.val else None
    if val is None and config.split_val_range is not None:
        val = [within(source, config.split_val_range) for source in train]
    train = [within(source, config.split_train_range) for source in train]
    return (
        _patches(train, root, target, augment, namespace=0),
        None if val is None else _patches(val, root, target, Pipeline(), namespace=1),
    )


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
    return PatchDataset(
        [_labelled(source) for source in sources],
        patch_size=root.data.dataloader.patch_size,
        seed=root.system.seed,
        target=target,
        augment=augment,
        namespace=namespace,
        intensity_range=root.data.intensity_range,
        pad_small=root.data.pad_small,
        preload=root.data.preload,
    )


def _labelled(source: Source) -> LabelledVolume:
    if source.label is None:
        raise UserError(f"the training volume '{source.name}' has no label")
    config = source.config
    return LabelledVolume(source.image, source.label, source.mask, config.unlabelled, config.weight)


def _module(loaded: Loaded, target: Target, in_channels: int, devices: Devices) -> Supervised:
    root, allow = loaded.root, loaded.allow
    schedule, patch_size = root.optimization, root.data.dataloader.patch_size
    net = build(
        root.model,
        kind="model",
        allow=allow,
        in_channels=in_channels,
        out_channels=target.out_channels,
    )
    if hasattr(net, "stride"):
        check_patch(patch_size, net.stride)
    if root.model.get("init_from"):
        source = Path(root.model["init_from"])
        load_weights(net, net_weights(read_checkpoint(source)), source=source)
    facts = {
        **target_facts(target),
        "version": __version__,
        "in_channels": in_channels,
        "patch_size": list(patch_size),
        "config": loaded.saved,
    }
    return Supervised(
        net,
        loss=build(root.loss, kind="loss", allow=allow),
        make_optimizer=build(schedule.optimizer, kind="optimization.optimizer", allow=allow),
        make_scheduler=build(
            schedule.scheduler,
            kind="optimization.scheduler",
            allow=allow,
            total_steps=_total_steps(root),
            steps_per_epoch=schedule.n_steps_per_epoch,
        ),
        metadata=facts,
        # On a CPU convolutions are several times faster with the channels last.
        channels_last=devices.accelerator == "cpu",
    )


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


def _trainer(root: Root, devices: Devices, run: Path) -> pl.Trainer:
    schedule, images = root.optimization, root.monitor.logging.images
    per_step = schedule.accumulate_grad_batches
    validate = schedule.val_check_interval
    callbacks: list[Callback] = [
        *checkpoint_callbacks(run / "checkpoints", **vars(root.monitor.checkpoint)),
        TrainingProgress(),
    ]
    if images.n_images:
        callbacks.append(ImagePanels(**vars(images)))
    if schedule.ema.enabled:
        ema = schedule.ema
        callbacks.append(
            Ema(
                decay=ema.decay,
                warmup_steps=ema.warmup_steps,
                validate_with_ema=ema.validate_with_ema,
            )
        )
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.count,
        num_nodes=devices.nodes,
        strategy="ddp" if devices.count * devices.nodes > 1 else "auto",
        max_steps=_total_steps(root),
        max_epochs=-1,
        precision=schedule.precision,
        gradient_clip_val=schedule.gradient_clip_val,
        accumulate_grad_batches=per_step,
        val_check_interval=None if validate is None else validate * per_step,
        check_val_every_n_epoch=1 if validate is None else None,
        log_every_n_steps=root.monitor.logging.log_every_n_steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(run, name="tensorboard", version=""),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _total_steps(root: Root) -> int:
    schedule = root.optimization
    by_epochs = (
        None if schedule.max_epochs is None else schedule.max_epochs * schedule.n_steps_per_epoch
    )
    limits = [limit for limit in (schedule.max_steps, by_epochs) if limit is not None]
    if not limits:
        raise UserError("set optimization.max_epochs or optimization.max_steps")
    return min(limits)
