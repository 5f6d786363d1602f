"""Every leaf of a composed config, another value for it, and the stage that shows the difference.

A number, a switch and a choice of names get another value by themselves; the table holds what
needs thought. A leaf that shows only beside other settings names those as `beside`.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from emseg.config.choices import conf_folder, list_groups
from emseg.config.construction import resolve
from emseg.config.schema import Root, Space

Stage = Literal["compose", "train", "infer", "decode", "evaluate", "tune", "sweep"]

# The stage that reads what lies below a key; the longest prefix counts.
STAGES: dict[str, Stage] = {
    "": "train",
    "data.test": "infer",
    "inference": "infer",
    "decoding": "decode",
    "evaluation": "evaluate",
    "tune": "tune",
    "sweep": "sweep",
    "system.profile": "compose",
    "tune.profile": "compose",
}


class _Automatic:
    """Stands for another number, switch or name than the config's."""


@dataclass(frozen=True)
class Change:
    """Another value of a leaf.

    `at` is the key that is set where that is not the leaf itself; with `kept`, which says what the
    leaf is for, results must be the same.
    """

    value: Any = _Automatic
    stage: Stage | None = None
    beside: tuple[str, ...] = ()
    at: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Leaf:
    key: str
    value: Any
    annotation: Any


def leaves(root: Root) -> dict[str, Leaf]:
    """The leaves of the spine and of the leaf nodes by dotted key; a list is one leaf."""
    return {leaf.key: leaf for leaf in _walk(root, None, "")}


def changes(root: Root) -> dict[str, Change]:
    """The table, and changes of whatever the study searches."""
    spaces = {f"tune.search_space.{k}": space for k, space in root.tune.search_space.items()}
    searched = {f"{k}.{item}": c for k, space in spaces.items() for item, c in _space(space)}
    return CHANGES | searched


def stage_of(leaf: Leaf, change: Change) -> Stage:
    """The stage in which the change is looked for."""
    prefixes = [p for p in STAGES if leaf.key == p or leaf.key.startswith(f"{p}.") or not p]
    return change.stage or STAGES[max(prefixes, key=len)]


def override(leaf: Leaf, change: Change) -> str:
    """The change as on the command line; a LookupError when nobody said what it is to be."""
    value = _another(leaf) if change.value is _Automatic else change.value
    return f"{change.at or leaf.key}={_text(value)}"


def _walk(node: Any, annotation: Any, path: str) -> Iterator[Leaf]:
    if is_dataclass(node):
        hints, items = get_type_hints(type(node)), vars(node)
    elif isinstance(node, dict) and node:
        hints, items = _signature(node), node
    else:
        yield Leaf(path, node, annotation)
        return
    for key, inner in items.items():
        yield from _walk(inner, hints.get(key), ".".join(filter(None, (path, key))))


def _signature(node: dict[str, Any]) -> dict[str, Any]:
    if not str(node.get("_target_", "")).startswith("emseg."):
        return {}
    signature = inspect.signature(resolve(node["_target_"], key="leaf"), eval_str=True)
    return {name: parameter.annotation for name, parameter in signature.parameters.items()}


def _another(leaf: Leaf) -> Any:
    group, _, name = leaf.key.rpartition(".")
    names = get_args(leaf.annotation) if get_origin(leaf.annotation) is Literal else ()
    if name == "_target_":
        return "builtins.print"
    if name == "profile":
        names = sorted(list_groups([conf_folder()])[group])
    if name == "p":
        return 0.0 if leaf.value == 1 else 1.0
    if names:
        return next(name for name in names if name != leaf.value)
    if isinstance(leaf.value, bool):
        return not leaf.value
    if isinstance(leaf.value, int):
        return leaf.value + 1
    if isinstance(leaf.value, float):
        return 1.5 * leaf.value
    raise LookupError(f"{leaf.key}: which other value than {leaf.value!r}? Add it to CHANGES")


def _space(space: Space) -> Iterator[tuple[str, Change]]:
    """Other values within the bounds; what does not go with the others is refused."""
    if space.choices is not None:
        yield "choices", Change(space.choices[-1:])
        yield from ((name, Change(0.1)) for name in ("low", "high", "step"))
        return
    assert space.low is not None and space.high is not None
    step = space.step or (space.high - space.low) / 4
    yield "choices", Change([space.low])
    yield "low", Change(space.low + step)
    yield "high", Change(space.high - step)
    yield "step", Change(2 * step)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _volume(split: str, name: str) -> str:
    return f"{{image: datasets/demo/{split}_raw.h5, label: datasets/demo/{split}_labels.h5{name}}}"


def _two(split: str) -> str:
    first, second = _volume("val", ", weight: 1"), _volume("test", ", weight: 1")
    return f"data.{split}={{one: {first}, two: {second}}}"


# Of the test cells a large one that the few patches show, in every volume.
COMMON = 8
# Of a volume, whatever the split; those of data.test show when the stage in question reads them.
VOLUME = {
    "image": Change("datasets/demo/spare_raw.h5"),
    "label": Change("datasets/demo/spare_labels.h5"),
    "mask": Change("datasets/demo/mask.h5"),
    "skeletons": Change("missing.npz"),
    "path": Change("other"),
    "resolution": Change([8, 8, 8]),
    "axes": Change("xyz"),
    "name": Change("other"),
    "range": Change([0, 8]),
    "unlabelled": Change(COMMON),
    "background": Change(COMMON),
}
TRUTH = ("label", "mask", "skeletons", "unlabelled", "background")
DEEPER = ("model.width=[4,6,8]", "model.down_factors=[[1,2,2],[1,2,2]]")
# The loss falls, which is called worse.
LONGER = ("optimization.max_steps=8", "monitor.early_stopping.mode=max")
EARLY, SEGMENTED = "monitor.early_stopping.patience=1", "monitor.segmentation.size=[4,16,16]"
TTA = "inference.test_time_augmentation"
ENABLED = f"{TTA}.enabled=true"

CHANGES: dict[str, Change] = {
    "experiment_name": Change("another"),
    "system.num_gpus": Change(4),
    "system.num_workers": Change(1, kept="how many processes make the samples"),
    "system.executor": Change("process", kept="who predicts the planes"),
    "system.processes": Change(3, kept="how many predict"),
    "system.scheduler": Change("slurm", kept="where dask's workers are"),
    "system.memory": Change(1e-9, stage="infer", kept="zarr instead of HDF5"),
    **{f"data.{split}.{k}": change for split in ("train", "val") for k, change in VOLUME.items()},
    **{
        f"data.test.{k}": Change(change.value, stage="evaluate" if k in TRUTH else "infer")
        for k, change in VOLUME.items()
    },
    **{
        f"data.{split}.range_axis": Change(
            "y",
            stage="infer" if split == "test" else None,
            beside=(f"data.{split}.range=[0.0,0.75]",),
        )
        for split in ("train", "val", "test")
    },
    "data.train.weight": Change(9, beside=(_two("train"),), at="data.train.one.weight"),
    "data.val.weight": Change(9, beside=(_two("val"),), at="data.val.one.weight"),
    "data.test.weight": Change(9),
    "data.unlabelled": Change("{image: datasets/demo/spare_raw.h5}"),
    "data.split_train_range": Change([0, 8]),
    "data.split_val_range": Change(
        [8, 12], beside=("data.val=null", "data.split_train_range=[0,8]")
    ),
    "data.intensity_range": Change([20, 200]),
    "data.intensity_percentiles": Change([1, 99]),
    "data.pad_small": Change(beside=("data.train.range=[0,3]",)),
    "data.preload": Change(kept="whether volumes are read once or patch by patch"),
    "data.relabel_crops": Change(kept="whether pieces part, and the cells here are convex"),
    # Of the 1024 voxels of a patch; where COMMON is seen, some are background.
    "data.reject_sampling.size_thres": Change(1024, beside=(f"data.train.background={COMMON}",)),
    "data.reject_sampling.p": Change(
        0.1,
        beside=(f"data.train.background={COMMON}", "data.reject_sampling.size_thres=1024"),
    ),
    "data.dataloader.patch_size": Change([4, 32, 32]),
    "model.init_from": Change("trained.ckpt"),
    "model.width": Change([4, 8]),
    "model.down_factors": Change([[1, 4, 4]]),
    "model.kernel_2d": Change([1, 5, 5]),
    "model.num_groups": Change(2),
    "model.stem_factor": Change([1, 2, 2]),
    "model.deep_supervision": Change(beside=DEEPER),
    "evaluation.keep_segmentations": Change(3, kept="how many earlier results stay"),
    "inference.window.sw_device": Change("cpu", kept="where windows are predicted"),
    "inference.window.output_device": Change("cpu", kept="where windows are summed"),
    "target.offsets": Change([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 3]]),
    "target.erosion": Change([0, 2, 2]),
    "target.erode_at_background": Change(
        beside=("target.erosion=[0,1,1]", f"data.train.background={COMMON}")
    ),
    "loss.max_pos_weight": Change(0.01),
    "loss.channel_weights": Change([1, 2, 3]),
    "augment.transforms.flip.axes": Change([2]),
    "augment.transforms.rotate.axes": Change([2, 1]),
    "augment.transforms.brightness.shift": Change([0.2, 0.3]),
    "augment.transforms.contrast.gain": Change([0.5, 0.6]),
    "augment.transforms.gamma.gamma": Change([0.5, 0.6]),
    "augment.transforms.noise.sigma": Change([0.2, 0.3]),
    "perturb.both.transforms": Change("{shift: 1}"),
    "perturb.student.transforms": Change("{shift: 1}"),
    "tune.tolerance": Change(1.0),
    "monitor.early_stopping.patience": Change(1, beside=LONGER),
    "monitor.early_stopping.monitor": Change("train_loss_total_epoch", beside=(*LONGER, EARLY)),
    "monitor.early_stopping.mode": Change("min", beside=(*LONGER, EARLY)),
    "monitor.segmentation.size": Change([4, 16, 16]),
    "monitor.segmentation.time_limit": Change(1e-4, beside=(SEGMENTED,)),
    "monitor.segmentation.memory_limit": Change(1e-6, beside=(SEGMENTED,)),
    "optimization.max_epochs": Change(1),
    "optimization.val_check_interval": Change(1),
    "optimization.gradient_clip_val": Change(0.001),
    "optimization.ema.decay": Change(0.5),
    "optimization.optimizer.betas": Change([0.5, 0.9]),
    "optimization.optimizer.eps": Change(1e-3),
    "optimization.optimizer.weight_decay": Change(0.5),
    "optimization.scheduler.warmup_steps": Change(3),
    "inference.window.window_size": Change([4, 20, 20]),
    "inference.window.sw_batch_size": Change(kept="how many windows are predicted at once"),
    "inference.window.padding_mode": Change(beside=("inference.pad=[2,4,4]",)),
    "inference.pad": Change([2, 4, 4]),
    "inference.crop_pad": Change([1, 1, 1, 1, 1, 1]),
    "inference.model.select_channel": Change([0, 1], stage="decode"),
    "inference.model.head": Change("near", stage="decode"),
    "inference.prediction.values": Change("logit", stage="decode"),
    "inference.prediction.scale": Change(255.0, stage="decode"),
    "inference.prediction.offsets": Change([[0, 0, 1]], stage="decode"),
    "inference.prediction.edge_side": Change("source", stage="decode"),
    "inference.prediction.axes": Change("cxyz", stage="decode"),
    "inference.prediction.resolution": Change([6.0, 6.0, 6.0], stage="decode"),
    f"{TTA}.flip_axes": Change([2], beside=(ENABLED,)),
    f"{TTA}.rotation90_axes": Change([[1, 2]], beside=(ENABLED,)),
    f"{TTA}.ensemble_mode": Change(beside=(ENABLED,)),
    "decoding.aff_threshold": Change([0.3, 0.9]),
    "decoding.basin_boundary": Change(0.3, beside=("decoding.fragments=basins",)),
    "decoding.basin_reach": Change(2.0, beside=("decoding.fragments=basins",)),
    "decoding.discretize_queue": Change(256, beside=("decoding.merge_function=mean",)),
    "decoding.dust_merge_size": Change(200),
    "decoding.dust_merge_affinity": Change(0.9, beside=("decoding.dust_merge_size=200",)),
    "decoding.dust_remove_size": Change(200),
    "decoding.iou_threshold": Change(0.1),
    "decoding.singleton_size_ratio": Change(0.1, beside=("decoding.iou_threshold=0.5",)),
    "decoding.one_sided_threshold": Change(0.1),
    "decoding.one_sided_min_size": Change(1000, beside=("decoding.one_sided_threshold=0.1",)),
    "decoding.branch_affinity": Change(1.0, beside=("decoding.iou_threshold=0.1",)),
    "decoding.biases": Change([-0.5, -1.0, -1.0]),
    "decoding.backend": Change("waterz", kept="which code merges"),
    "decoding.time_limit": Change(
        60.0, beside=("decoding.backend=waterz",), kept="when waterz is given up"
    ),
    "decoding.memory_limit": Change(1.0, kept="what a decode may take"),
    "decoding.threads": Change(1, kept="how many work on it"),
    "evaluation.border_mask.mode": Change("edt"),
    "evaluation.border_mask.distance": Change(2.0, beside=("evaluation.border_mask.mode=edt",)),
    "tune.trial_timeout": Change(5.0, kept="when a trial is given up"),
    "tune.study_name": Change("other"),
    "tune.metric": Change("voi_sum"),
    "sweep.name": Change("other"),
    "sweep.grid.thresholds": Change([0.5]),
    "sweep.best.voi_sum": Change("maximize"),
    "sweep.tables": Change("dbmim"),
    "monitor.checkpoint.monitor": Change("val_loss_total"),
    "monitor.checkpoint.mode": Change(beside=("monitor.checkpoint.save_top_k=1",)),
    "monitor.checkpoint.save_top_k": Change(1),
    "monitor.checkpoint.every_n_steps": Change(1),
    "monitor.logging.log_every_n_steps": Change(1),
    "monitor.logging.images.every_n_epochs": Change(1),
}
