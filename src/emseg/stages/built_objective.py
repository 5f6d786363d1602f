"""The objective of a training, built with its network and loss, and the weights it starts from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emseg import __version__
from emseg.config import Loaded, build
from emseg.config.construction import resolve
from emseg.config.schema import Root
from emseg.data.target_facts import TargetFacts
from emseg.data.targets import Target
from emseg.errors import UserError, unknown_name
from emseg.stages.devices import Devices
from emseg.stages.network import build_network, facts_of
from emseg.stages.patches import Sources
from emseg.training.checkpoints import start_from, stored_facts
from emseg.training.facts import Facts
from emseg.training.objective import Objective, Parts


def objective_of(root: Root, *, allow: Sequence[str] = ()) -> type[Objective]:
    """The class of the config's objective; UserError if it names something else."""
    target = root.objective.get("_target_")
    found = resolve(target, key="objective", allow=allow)
    if not (isinstance(found, type) and issubclass(found, Objective)):
        raise UserError(f"objective._target_: {target} is no emseg.training.objective.Objective")
    return found


def facts_before(loaded: Loaded, target: Target | None, sources: Sources) -> Facts:
    """The facts of a training that has not begun, for its checkpoints.

    Those of `model.init_from`, if set, add the volumes that its weights were trained on. Raises
    UserError if that file holds facts that no training wrote.
    """
    root, images = loaded.root, [source.image for source in sources.train]
    facts = Facts(
        global_step=0,
        axes=_common(image.axes for image in images),
        voxel_size=_common(image.voxel_size for image in images),
        in_channels=images[0].channels or 1,
        patch_size=root.data.dataloader.patch,
        target=None if target is None else TargetFacts.of(target),
        trained_on=[source.region() for source in sources.train],
        seen_unlabelled=[source.region() for source in sources.unlabelled],
        version=__version__,
        objective=root.objective,
        optimizer=root.optimization.optimizer,
        scheduler=root.optimization.scheduler,
        config=loaded.saved,
    )
    source = root.model.get("init_from")
    return inherit_regions(facts, Path(source)) if source else facts


def _common(values: Iterable[Any]) -> Any:
    """The value that all are, None if they differ."""
    different = {*values}
    return different.pop() if len(different) == 1 else None


def build_objective(loaded: Loaded, facts: Facts, devices: Devices) -> Objective:
    """The objective with its network, fresh."""
    root, allow, target = loaded.root, loaded.allow, facts.target
    schedule = root.optimization
    parts = Parts(
        net=build_network(root, target, in_channels=facts.in_channels, allow=allow),
        loss=build(root.loss, kind="loss", allow=allow, heads=target.heads if target else None),
        make_optimizer=build(schedule.optimizer, kind="optimization.optimizer", allow=allow),
        make_scheduler=build(
            schedule.scheduler,
            kind="optimization.scheduler",
            allow=allow,
            total_steps=schedule.total_steps,
            steps_per_epoch=schedule.n_steps_per_epoch,
        ),
        activations=target.activations if target else None,
        facts=facts,
        # On a CPU convolutions are several times faster with channels last.
        channels_last=devices.accelerator == "cpu",
    )
    objective: Objective = build(root.objective, kind="objective", allow=allow, parts=parts)
    warm_up, steps = root.objective.get("warmup_steps", 0), schedule.total_steps
    if steps is not None and warm_up >= steps:
        raise UserError(
            f"objective.warmup_steps is {warm_up}; it must be below the training's {steps} steps"
        )
    return objective


def begun_from(root: Root, module: Objective) -> str | None:
    """Loads `model.init_from`, if set, into the network, and returns a line about it, else None."""
    source = root.model.get("init_from")
    return start_from(Path(source), module.net) if source else None


def inherit_regions(facts: Facts, source: Path) -> Facts:
    """The facts, with the `trained_on` and `seen_unlabelled` of the file's training added.

    A training without a target has seen its volumes without their labels. Files of other programs
    do not say it.
    """
    stored = stored_facts(source)
    if not stored:
        return facts
    before = facts_of(stored, source=source)
    with_labels, without = before.trained_on, before.seen_unlabelled
    if before.target is None:
        with_labels, without = [], [*with_labels, *without]
    return replace(
        facts,
        trained_on=_united(facts.trained_on, with_labels),
        seen_unlabelled=_united(facts.seen_unlabelled, without),
    )


def _united(own: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*own, *(region for region in others if region not in own)]


def check_monitors(
    root: Root, module: Objective, scores: Sequence[str], *, channels: int, validates: bool
) -> None:
    """Raises UserError if training would save no checkpoint, or fail only at its end.

    `scores` are those of a segmentation at each validation.
    """
    config, early = root.monitor.checkpoint, root.monitor.early_stopping
    if not (config.save_top_k or config.save_last or config.every_n_steps):
        raise UserError(
            "monitor.checkpoint: with save_top_k=0, save_last=false and every_n_steps=null no "
            "checkpoint is kept; set one of them"
        )
    # Only the loss knows the names of its parts.
    parts = module.loss_parts(channels)
    names = ["train_loss_total_epoch", "train_loss_total_step"]
    if validates:
        names += [f"val_loss_{part}" for part in ("total", *parts)]
        names += [f"val_{score}" for score in scores]
    used = {"checkpoint": config.monitor}
    if early.patience is not None:
        used["early_stopping"] = early.monitor
    for key, monitor in used.items():
        if monitor.startswith("val_") and not validates:
            raise UserError(
                f"monitor.{key}.monitor={monitor} needs validation: set data.val or "
                "data.split_val_range"
            )
        if monitor not in names:
            raise unknown_name("logged value", monitor, names, where=f"monitor.{key}.monitor")
