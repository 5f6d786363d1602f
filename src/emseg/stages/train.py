"""Train: from volumes, mostly labelled ones, to checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl

from emseg.config import Loaded, build, dump
from emseg.config.schema import Root
from emseg.config.schema_data import Data, Volume
from emseg.data.augment import Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.stages.devices import Devices, resolve_devices, slow_precision, stand_resolved
from emseg.stages.grid import common_grid, unlike_training
from emseg.stages.objective import (
    begun_from,
    build_objective,
    check_checkpoints,
    check_resumable,
    objective_of,
)
from emseg.stages.runs import log_start, process_rank, run_of, say, start_run, write_config
from emseg.stages.sources import Source, open_sources, within
from emseg.stages.trainer import make_trainer
from emseg.training.datamodule import PatchDataModule
from emseg.training.objective import Objective

# Enough validation patches for a steady mean where the config does not say how many.
DEFAULT_VAL_STEPS = 25


def train(loaded: Loaded, *, checkpoint: Path | None, command: str) -> Path:
    """The run folder with its checkpoints. With `checkpoint` its run goes on in its own folder."""
    root = loaded.root
    devices = resolve_devices(root.system)
    _check_precision(root, devices)
    pl.seed_everything(root.system.seed, verbose=False)
    of_target = objective_of(root, allow=loaded.allow).of_target
    target = build(root.target, kind="target", allow=loaded.allow) if of_target else None
    if target is None:
        _refuse_labels(root.data)
    sources, val_sources = _sources(root.data, labelled=of_target)
    grid = common_grid([source.image for source in sources])
    facts = {
        **vars(grid),
        "in_channels": sources[0].image.channels or 1,
        "trained_on": [source.region() for source in sources],
    }
    # All that needs no voxels is checked before volumes are read whole.
    module = build_objective(loaded, target, facts, devices)
    begun = begun_from(root, module)
    check_checkpoints(root, module, target, validates=bool(val_sources))
    if checkpoint is not None:
        check_resumable(checkpoint, root, module, target)
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
    trainer: pl.Trainer, module: Objective, data: PatchDataModule, checkpoint: Path | None
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


def _refuse_labels(config: Data) -> None:
    """Nothing, or a UserError where a setting is of labels, which this training does not read."""
    asked = {
        "reject_sampling.size_thres": config.reject_sampling.size_thres,
        "target_context": config.target_context,
        "relabel_crops": config.relabel_crops,
    }
    for key, value in asked.items():
        if value:
            raise UserError(f"data.{key} is {value}, and the objective has no use for labels")


def _sources(config: Data, *, labelled: bool) -> tuple[list[Source], list[Source]]:
    """The volumes to train on and those to validate on, which may be none."""
    train = _opened(config.train, "train", labelled=labelled)
    if config.split_val_range is not None:
        val = [within(source, config.split_val_range) for source in train]
    else:
        val = _opened(config.val, "val", labelled=labelled) if config.val else []
    return [within(source, config.split_train_range) for source in train], val


def _opened(volumes: Mapping[str, Volume], split: str, *, labelled: bool) -> list[Source]:
    if not labelled:
        volumes = {key: replace(one, label=None, mask=None) for key, one in volumes.items()}
    return open_sources(volumes, split=split)


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
    sources: list[Source], root: Root, target: Target | None, augment: Pipeline, *, namespace: int
) -> PatchDataset:
    reject = root.data.reject_sampling
    return PatchDataset(
        [source.labelled() if target else source.unlabelled() for source in sources],
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
