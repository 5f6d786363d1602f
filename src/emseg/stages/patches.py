"""The volumes of a training, and the patches of them that its objective gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emseg.config import Loaded, build
from emseg.config.schema import Root
from emseg.config.schema_data import Data, VolumeConfig
from emseg.data.augment import Pipeline
from emseg.data.crops import crop_for
from emseg.data.dataset import PatchDataset
from emseg.data.intensity import small_part, together, unlike_trained
from emseg.data.labelled import LabelledVolume
from emseg.data.paired import PairedDataset
from emseg.data.perturbation import Perturbation
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.stages.sources import Source, open_sources, within
from emseg.training.objective import Objective

# Streams with the same seed that must draw different numbers.
TRAINING, VALIDATION, UNLABELLED = 0, 1, 2


@dataclass(frozen=True)
class Sources:
    """The open volumes of a training; validation and unlabelled volumes may be empty."""

    train: list[Source]
    val: list[Source]
    unlabelled: list[Source]


def open_training(config: Data, objective: type[Objective]) -> Sources:
    """The volumes that the objective trains and validates on; UserErrors for unreadable ones."""
    labelled = objective.of_target
    train = _opened(config.train, "train", labelled=labelled)
    others = config.unlabelled
    if config.split_val_range is not None:
        val = [within(source, config.split_val_range) for source in train]
    else:
        val = _opened(config.val, "val", labelled=labelled) if config.val else []
    return Sources(
        train=[within(source, config.split_train_range) for source in train],
        val=val,
        unlabelled=_opened(others, "unlabelled", labelled=False) if others else [],
    )


def check_together(loaded: Loaded, objective: type[Objective]) -> None:
    """Raises UserError for settings that the objective needs or cannot use."""
    root, choice = loaded.root, loaded.choices["perturb"]
    both = objective.of_target and objective.perturbs
    if not objective.of_target:
        _refuse_labels(root.data)
    if bool(root.data.unlabelled) != both:
        needs = "needs volumes" if both else "has no use for any"
        raise UserError(f"data.unlabelled: objective {objective.__name__} {needs}")
    if (choice != "none") != objective.perturbs:
        what = "needs another (perturb=ssns_ws, say)" if objective.perturbs else "has no use for it"
        raise UserError(f"perturb={choice}: objective {objective.__name__} {what}")
    if objective.perturbs and not objective.of_target:
        _refuse_augment(root)
    if root.optimization.ema.enabled and root.objective.get("teacher") == "ema":
        raise UserError(
            "optimization.ema.enabled is true, and the teacher of objective.teacher=ema is the "
            "average already: choose one"
        )


@dataclass(frozen=True)
class Patches:
    """The numbered samples of a training and of its validation, which may be None.

    `intensities` are those of the training's volumes, `notes` are lines for the user.
    """

    train: PatchDataset | PairedDataset
    val: PatchDataset | None
    intensities: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class _Split:
    """Volumes of a split, and what is made from their patches."""

    sources: Sequence[Source]
    namespace: int
    target: Target | None = None
    augment: Pipeline | None = None
    perturbation: Perturbation | None = None

    @property
    def volumes(self) -> list[LabelledVolume]:
        """The volumes, with labels if there is a target."""
        return [one.labelled() if self.target else one.unlabelled() for one in self.sources]


def make_patches(
    loaded: Loaded, sources: Sources, target: Target | None, objective: type[Objective]
) -> Patches:
    """The patches of the volumes, with the size and augmentation of the config."""
    splits = _splits(loaded, sources, target, objective)
    made = {name: _patches(split, loaded.root) for name, split in splits.items()}
    train, unlabelled = made["train"], made.get("unlabelled")
    trained = together(train.intensities)
    notes = _unlike(loaded.root.data, sources.train, train, None)
    for name in [*splits][1:]:
        notes += _unlike(loaded.root.data, splits[name].sources, made[name], trained)
    both = train if unlabelled is None else PairedDataset(train, unlabelled)
    val = made.get("val")
    return Patches(both, val, trained, [*both.notes, *(val.notes if val else ()), *notes])


def check_patches(
    loaded: Loaded, sources: Sources, target: Target | None, objective: type[Objective]
) -> list[str]:
    """Notes on the volumes; raises those UserErrors of `make_patches` that need no voxels."""
    notes, data = [], loaded.root.data
    for split in _splits(loaded, sources, target, objective).values():
        _, own = crop_for(
            split.volumes,
            data.dataloader.patch,
            target=split.target,
            target_context=data.target_context,
            changes=split.perturbation or split.augment or Pipeline(),
            reject=_rejection(split, data),
            pad_small=data.pad_small,
        )
        notes += own
    return notes


def _splits(
    loaded: Loaded, sources: Sources, target: Target | None, objective: type[Objective]
) -> dict[str, _Split]:
    root, allow = loaded.root, loaded.allow
    perturbation: Perturbation | None = None
    if objective.perturbs:
        perturbation = build(root.perturb, kind="perturb", allow=allow)
    # Without a target the volumes themselves are perturbed, instead of augmented.
    views = perturbation if target is None else None
    augment = None if views else build(root.augment, kind="augment", allow=allow)
    splits = {"train": _Split(sources.train, TRAINING, target, augment, views)}
    if sources.val:
        splits["val"] = _Split(sources.val, VALIDATION, target, perturbation=views)
    if sources.unlabelled:
        splits["unlabelled"] = _Split(sources.unlabelled, UNLABELLED, perturbation=perturbation)
    return splits


def _unlike(
    config: Data,
    sources: Sequence[Source],
    patches: PatchDataset,
    trained: Mapping[str, Any] | None,
) -> list[str]:
    """Warnings about intensities unlike the `trained` ones or, for None, unlike their type's."""
    found = [
        (source.image.location, own)
        for source, own in zip(sources, patches.intensities, strict=True)
    ]
    if trained is not None:
        lines = [unlike_trained(where, own, trained) for where, own in found]
    elif any(config.intensities.values()):
        lines = []
    else:
        lines = [small_part(where, own) for where, own in found]
    return [f"warning: {line}" for line in lines if line]


def _refuse_augment(root: Root) -> None:
    if any(root.augment.get("transforms", {}).values()):
        raise UserError(
            "augment: patches without labels are changed by perturb alone (augment=none)"
        )


def _refuse_labels(config: Data) -> None:
    """Raises UserError if a setting is about labels, which this training does not read."""
    asked = {
        "reject_sampling.size_thres": config.reject_sampling.size_thres,
        "target_context": config.target_context,
        "relabel_crops": config.relabel_crops,
    }
    for key, value in asked.items():
        if value:
            raise UserError(f"data.{key} is {value}, and the objective has no use for labels")


def _opened(volumes: Mapping[str, VolumeConfig], split: str, *, labelled: bool) -> list[Source]:
    if not labelled:
        volumes = {key: replace(one, label=None, mask=None) for key, one in volumes.items()}
    return open_sources(volumes, split=split)


def _patches(split: _Split, root: Root) -> PatchDataset:
    config, target = root.data, split.target
    return PatchDataset(
        split.volumes,
        patch_size=config.dataloader.patch,
        seed=root.system.seed,
        target=target,
        augment=split.augment,
        perturbation=split.perturbation,
        namespace=split.namespace,
        **config.intensities,
        pad_small=config.pad_small,
        preload=config.preload,
        target_context=target is not None and config.target_context,
        relabel_crops=target is not None and config.relabel_crops,
        reject=_rejection(split, config),
    )


def _rejection(split: _Split, config: Data) -> RejectSampling | None:
    asked = config.reject_sampling
    wanted = split.target is not None and asked.size_thres
    return RejectSampling(asked.size_thres, asked.p) if wanted else None
