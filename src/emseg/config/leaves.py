"""The kinds of leaves (docs/config.md): their keys, and arguments that code supplies or reads."""

import inspect
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

# Per kind of leaf, the arguments that code supplies: leaf files must not hold them.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "objective": ("parts", "net"),  # the second by an objective to a policy in it
    "model": ("in_channels", "out_channels", "heads"),
    "target": (),
    "loss": ("logits", "target", "mask", "image", "heads"),
    "augment": (),
    "perturb": (),
    "optimization.optimizer": ("params",),
    "optimization.scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
    "decoding": ("prediction", "offsets", "edge_side", "voxel_size"),
    "evaluation.metrics": (
        "segmentation",
        "truth",
        "table",
        "voxel_size",
        "skeletons",
        "node_segments",
    ),
}

# Per kind, keys beside the arguments that code itself reads, with their defaults: `init_from` is a
# checkpoint to take only weights from, `biases` and `temperature` calibrate a decoder's input.
CODE_READ: dict[str, dict[str, Any]] = {
    "model": {"init_from": None},
    "decoding": {"biases": None, "temperature": 1.0},
}
CODE_READ_TYPES: dict[str, Any] = {
    "init_from": str | None,
    "biases": list[float] | None,
    "temperature": float,
}

# Per kind, arguments that change how a result is computed, but not the result.
NO_RESULT: dict[str, tuple[str, ...]] = {
    "decoding": ("memory_limit", "save_graph", "threads", "time_limit")
}

LEAF_GROUPS = tuple(kind.replace(".", "/") for kind in SUPPLIED)


def dotted(group: str) -> str:
    """The config key of the group's choice."""
    return group.replace("/", ".")


# Our modules whose classes and functions `_target_` may name.
OURS = (
    "emseg.models.*",
    "emseg.losses.*",
    "emseg.data.augment.*",
    "emseg.data.foreground",
    "emseg.data.heads",
    "emseg.data.perturbation",
    "emseg.data.polarity",
    "emseg.data.shape_descriptors",
    "emseg.data.skeleton_distance",
    "emseg.data.targets",
    "emseg.decoding.*",
    "emseg.evaluation.*",
    "emseg.training.consistency",
    "emseg.training.masked",
    "emseg.training.masked_by_policy",
    "emseg.training.masking_policy",
    "emseg.training.parameter_groups",
    "emseg.training.reconstruction",
    "emseg.training.schedules",
    "emseg.training.supervised",
)
# From other packages: subclasses of these classes of PyTorch, in these modules.
_NETWORKS = ("torch.nn.modules.*", "monai.networks.nets.*", "monai.networks.blocks.*")
_OPTIMIZERS = ("torch.optim.*", "monai.optimizers.*")
KINDS = {
    "torch.nn.modules.module.Module": (*_NETWORKS, "monai.networks.layers.*", "monai.losses.*"),
    "torch.optim.optimizer.Optimizer": _OPTIMIZERS,
    "torch.optim.lr_scheduler.LRScheduler": _OPTIMIZERS,
}
# Modules of networks and losses that download or open files, or call what an argument names.
REFUSED = [
    f"monai.{name}"
    for name in (
        *("networks.nets.ahnet", "networks.nets.cell_sam_wrapper", "networks.nets.densenet"),
        *("networks.nets.efficientnet", "networks.nets.flexible_unet", "networks.nets.hovernet"),
        *("networks.nets.milmodel", "networks.nets.netadapter", "networks.nets.resnet"),
        *("networks.nets.senet", "networks.nets.torchvision_fc", "networks.nets.transchex"),
        "losses.perceptual",
    )
]
# Only names below these are looked up.
ROOTS = ("emseg", "torch.nn", "torch.optim", "monai.networks", "monai.losses", "monai.optimizers")
IN_WORDS = (
    "no network, loss, optimizer or schedule of torch or monai and no leaf of emseg; "
    "--allow PREFIX trusts what lies below PREFIX"
)


def current_name(target: str) -> str:
    """The present dotted path of what an earlier version called `target`."""
    return re.sub(r"^emseg\.data\.augment_\w+\.", "emseg.data.augment.", target)


def is_below(path: str, prefixes: Sequence[str]) -> bool:
    """Whether the dotted path is one of the prefixes or is below one."""
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def is_allowed(found: Any, allow: Sequence[str] = ()) -> bool:
    """Whether `_target_` may name `found`: an allowed class or function, or one below `allow`."""
    module = getattr(found, "__module__", None) or ""
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return False
    if is_below(module, allow):
        return True
    name = getattr(found, "__qualname__", "")
    # Not a method, nor an object that only claims to be from that module.
    if getattr(sys.modules.get(module), name, None) is not found:
        return False
    if _among(module, OURS):
        return True
    bases = [f"{base.__module__}.{base.__qualname__}" for base in getattr(found, "__mro__", ())]
    kinds = [modules for base, modules in KINDS.items() if base in bases]
    return any(_among(module, modules) for modules in kinds) and not _among(module, REFUSED)


def _among(module: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(module, one) or module == one.removesuffix(".*") for one in patterns)
