"""Train: from volumes, usually with labels, to checkpoints."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl

from emseg.config import Loaded, build, dump
from emseg.config.schema import Root
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.runs.lock import locked
from emseg.runs.run_folder import log_start, process_rank, run_of, say, start_run, write_config
from emseg.stages.built_objective import (
    begun_from,
    build_objective,
    check_monitors,
    facts_before,
    objective_of,
)
from emseg.stages.devices import (
    Devices,
    resolve_devices,
    settled_precision,
    slow_precision,
    stand_resolved,
)
from emseg.stages.fit import fit
from emseg.stages.patches import (
    Patches,
    Sources,
    check_patches,
    check_together,
    make_patches,
    open_training,
)
from emseg.stages.resume import check_resumable
from emseg.stages.self_configuration import settle_patches, settle_width
from emseg.stages.sources import Source
from emseg.stages.training_estimate import LONGEST_TRIAL, first_lines, hours_line, try_step
from emseg.stages.val_segmentation import SegmentationScores, scores_while_training
from emseg.stages.voxel_grid import unlike_training
from emseg.training.datamodule import PatchDataModule
from emseg.training.facts import Facts
from emseg.training.objective import Objective

# Enough validation patches for a stable mean, if the config does not set a number.
DEFAULT_VAL_STEPS = 25


@dataclass(frozen=True)
class Prepared:
    """A training whose volumes are open but not read, and notes about it for the user."""

    devices: Devices
    target: Target | None
    objective: type[Objective]
    sources: Sources
    facts: Facts
    module: Objective
    remarks: list[str]


def prepare(loaded: Loaded, checkpoint: Path | None) -> Prepared:
    """The training, after all checks that need no voxels.

    Raises UserError if it is impossible; the network is on the CPU.
    """
    root = loaded.root
    devices = resolve_devices(root.system)
    root.optimization.precision = settled_precision(root.optimization.precision, devices)
    pl.seed_everything(root.system.seed, verbose=False)
    objective = objective_of(root, allow=loaded.allow)
    check_together(loaded, objective)
    target = build(root.target, kind="target", allow=loaded.allow) if objective.of_target else None
    sources = open_training(root.data, objective)
    chosen = settle_width(loaded, checkpoint, devices)
    chosen += settle_patches(loaded, checkpoint, sources, target, devices)
    facts = facts_before(loaded, target, sources)
    module = build_objective(loaded, facts, devices)
    begun = begun_from(root, module)
    scores = scores_while_training(loaded, sources.val, facts.target)
    check_monitors(root, module, scores, channels=facts.out_channels, validates=bool(sources.val))
    if checkpoint is not None:
        check_resumable(checkpoint, root, module, facts.target)
    others = (*sources.val, *sources.unlabelled)
    remarks = [
        devices.warning,
        begun,
        slow_precision(root.optimization.precision, devices),
        *(unlike_training(source.image, facts) for source in others),
    ]
    said = [*chosen, *(line for line in remarks if line)]
    return Prepared(devices, target, objective, sources, facts, module, said)


def check_training(loaded: Loaded, checkpoint: Path | None) -> list[str]:
    """Notes for the user before a training: those of `prepare`, size, memory, hours.

    Raises UserError if it is impossible, for example if patches do not fit their volumes. No voxel
    is read; the network is tried for some seconds.
    """
    root, plan = loaded.root, prepare(loaded, checkpoint)
    notes = check_patches(loaded, plan.sources, plan.target, plan.objective)
    here = plan.devices.accelerator == "cpu"
    trial = try_step(plan.module, root, seconds=LONGEST_TRIAL if here else 0)
    lines = [*first_lines(root, plan.module, plan.sources, plan.devices, trial)]
    if trial is not None:
        lines.append(hours_line(root, trial, plan.devices))
    return [*plan.remarks, *notes, *lines]


def train(loaded: Loaded, *, checkpoint: Path | None, command: str) -> Path:
    """The run folder with its checkpoints. With `checkpoint` that run continues in its folder.

    Raises UserError if another run trains in that folder.
    """
    # Not in `prepare`: --check may run without a GPU for a training with one.
    _check_precision(loaded.root, resolve_devices(loaded.root.system))
    plan = prepare(loaded, checkpoint)
    patches = make_patches(loaded, plan.sources, plan.target, plan.objective)
    plan.module.facts = replace(plan.facts, intensities=patches.intensities)
    with ExitStack() as locks:
        run = _run_folder(loaded, checkpoint, plan.devices, command, locks)
        _say_first(run, loaded.root, plan, patches)
        data = _data(loaded.root, patches, plan.devices)
        callbacks = []
        if loaded.root.monitor.segmentation.size is not None:
            assert plan.facts.target is not None
            callbacks = [SegmentationScores(loaded, plan.sources.val[0], plan.facts.target)]
        fit(
            loaded.root,
            plan.module,
            data,
            plan.devices,
            run=run,
            checkpoint=checkpoint,
            command=command,
            callbacks=callbacks,
        )
        _log(run, f"trained: {run / 'checkpoints'}")
        return run


def _say_first(run: Path, root: Root, plan: Prepared, patches: Patches) -> None:
    sources, devices = plan.sources, plan.devices
    for line in (*plan.remarks, *patches.notes):
        _log(run, line)
    unlabelled = f" and, without labels, {_shown(sources.unlabelled)}" * bool(sources.unlabelled)
    validated = _shown(sources.val) or "nothing"
    _log(run, f"trained on {_shown(sources.train)}{unlabelled}; validated on {validated}")
    if process_rank() == 0:
        trial = try_step(plan.module, root, seconds=0)
        for line in first_lines(root, plan.module, sources, devices, trial):
            _log(run, line)
    steps = f"{root.optimization.total_steps} steps on {devices.count} {devices.accelerator}"
    _log(run, f"training {steps} in {run}")


def _log(run: Path, line: str | None) -> None:
    if line and process_rank() == 0:
        say(line, run=run)


def _check_precision(root: Root, devices: Devices) -> None:
    if root.optimization.precision == "16-mixed" and devices.accelerator == "cpu":
        raise UserError("optimization.precision: 16-mixed needs a GPU, a CPU trains in bf16-mixed")


def _shown(sources: list[Source]) -> str:
    return ", ".join(f"{one.name} ({'x'.join(map(str, one.image.shape))})" for one in sources)


def _data(root: Root, patches: Patches, devices: Devices) -> PatchDataModule:
    schedule, batch = root.optimization, root.data.dataloader.batch
    val_steps = schedule.val_steps_per_epoch or DEFAULT_VAL_STEPS
    return PatchDataModule(
        patches.train,
        batch_size=batch,
        batches_per_epoch=schedule.n_steps_per_epoch * schedule.accumulate_grad_batches,
        val=patches.val,
        val_samples=0 if patches.val is None else val_steps * batch,
        num_workers=devices.workers,
        seed=root.system.seed,
    )


def _run_folder(
    loaded: Loaded, checkpoint: Path | None, devices: Devices, command: str, locks: ExitStack
) -> Path:
    root = loaded.root
    stand_resolved(loaded.saved, devices, root.optimization.precision, "train")
    run = run_of(checkpoint) if checkpoint else None
    if run is None:
        run = start_run(root.experiment_name)
    if process_rank() == 0:
        locks.enter_context(locked(run / "train", command, report=say))
        write_config(run, dump(loaded.saved))
        log_start(run, command=command, seed=root.system.seed)
    return run
