"""The kinds of leaves (docs/config.md): their keys, and arguments that code supplies or reads."""

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
NO_RESULT: dict[str, tuple[str, ...]] = {"decoding": ("memory_limit", "threads", "time_limit")}

LEAF_GROUPS = tuple(kind.replace(".", "/") for kind in SUPPLIED)


def dotted(group: str) -> str:
    """The config key of the group's choice."""
    return group.replace("/", ".")
