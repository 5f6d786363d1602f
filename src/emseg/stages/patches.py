"""The volumes of a training, and the patches that its objective is given of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from emseg.config import Loaded, build
from emseg.config.schema import Root
from emseg.config.schema_data import Data, Volume
from emseg.data.augment import Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.intensity_ranges import small_part, together, unlike_trained
from emseg.data.paired import PairedDataset
from emseg.data.perturbation import Perturbation
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.stages.sources import Source, open_sources, within
from emseg.training.objective import Objective

# Streams that share a seed and are not to draw alike.
TRAINING, VALIDATION, UNLABELLED = 0, 1, 2


@dataclass(frozen=True)
class Sources:
    """The open volumes of a training; those to validate on, or without labels, may be none."""

    train: list[Source]
    val: list[Source]
    unlabelled: list[Source]

    @property
    def facts(self) -> dict[str, Any]:
        """Which voxels a training sees, for its checkpoints."""
        return {
            "trained_on": [source.region() for source in self.train],
            "seen_unlabelled": [source.region() for source in self.unlabelled],
        }


def open_training(config: Data, objective: type[Objective]) -> Sources:
    """The volumes that the objective trains and validates on; UserErrors for what is no volume."""
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
    """Nothing, or a UserError for what of the settings the objective lacks or has no use for."""
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
    """Samples by number of a training and its validation, which may be none.

    `intensities` are those of the training's volumes, `notes` what the user is to know of all.
    """

    train: PatchDataset | PairedDataset
    val: PatchDataset | None
    intensities: dict[str, Any]
    notes: list[str]


def make_patches(
    loaded: Loaded, sources: Sources, target: Target | None, objective: type[Objective]
) -> Patches:
    """The patches of the volumes, as large and as changed as the config says."""
    root, allow = loaded.root, loaded.allow
    perturbation: Perturbation | None = None
    if objective.perturbs:
        perturbation = build(root.perturb, kind="perturb", allow=allow)
    # Without a target the volumes themselves are perturbed, which takes the place of augment.
    views = perturbation if target is None else None
    augment = None if views else build(root.augment, kind="augment", allow=allow)
    own = partial(_patches, root=root, target=target, perturbation=views)
    train = own(sources.train, augment=augment, namespace=TRAINING)
    val = own(sources.val, namespace=VALIDATION) if sources.val else None
    notes = _unlike(root.data, sources.train, train, None)
    trained = together(train.intensities)
    if val:
        notes += _unlike(root.data, sources.val, val, trained)
    if not sources.unlabelled:
        return Patches(train, val, trained, [*train.notes, *(val.notes if val else ()), *notes])
    unlabelled = _patches(
        sources.unlabelled, root, target=None, perturbation=perturbation, namespace=UNLABELLED
    )
    notes += _unlike(root.data, sources.unlabelled, unlabelled, trained)
    pairs = PairedDataset(train, unlabelled)
    return Patches(pairs, val, trained, [*pairs.notes, *(val.notes if val else ()), *notes])


def _unlike(
    config: Data,
    sources: Sequence[Source],
    patches: PatchDataset,
    trained: Mapping[str, Any] | None,
) -> list[str]:
    """Warnings of intensities that are unlike the `trained` ones, or (None) those of their type."""
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
    """Nothing, or a UserError where a setting is of labels, which this training does not read."""
    asked = {
        "reject_sampling.size_thres": config.reject_sampling.size_thres,
        "target_context": config.target_context,
        "relabel_crops": config.relabel_crops,
    }
    for key, value in asked.items():
        if value:
            raise UserError(f"data.{key} is {value}, and the objective has no use for labels")


def _opened(volumes: Mapping[str, Volume], split: str, *, labelled: bool) -> list[Source]:
    if not labelled:
        volumes = {key: replace(one, label=None, mask=None) for key, one in volumes.items()}
    return open_sources(volumes, split=split)


def _patches(
    sources: Sequence[Source],
    root: Root,
    *,
    target: Target | None,
    namespace: int,
    augment: Pipeline | None = None,
    perturbation: Perturbation | None = None,
) -> PatchDataset:
    config, reject = root.data, root.data.reject_sampling
    rejects = target is not None and reject.size_thres
    return PatchDataset(
        [source.labelled() if target else source.unlabelled() for source in sources],
        patch_size=config.dataloader.patch_size,
        seed=root.system.seed,
        target=target,
        augment=augment,
        perturbation=perturbation,
        namespace=namespace,
        **config.intensities,
        pad_small=config.pad_small,
        preload=config.preload,
        target_context=target is not None and config.target_context,
        relabel_crops=target is not None and config.relabel_crops,
        reject=RejectSampling(reject.size_thres, reject.p) if rejects else None,
    )
