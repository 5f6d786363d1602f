"""The trained network: a checkpoint's weights in the config's model."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emseg.config import build
from emseg.config.schema import Root
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.stages.facts import trained_facts
from emseg.stages.voxel_grid import Grid
from emseg.training.checkpoints import load_weights, net_weights, read_checkpoint

# More steps than any training has; limits the digits in a folder's name.
MOST_STEPS = 2**63
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Trained:
    """A network in eval mode, its training target and volumes, and the origin of its weights."""

    net: nn.Module
    target: Target
    step: int
    weights: str
    in_channels: int
    grid: Grid
    patch_size: tuple[int, ...]
    autocast: torch.dtype | None
    trained_on: list[dict[str, Any]]
    seen_unlabelled: list[dict[str, Any]]
    intensities: dict[str, Any] | None


def load_trained(root: Root, checkpoint: Path, *, allow: Sequence[str] = ()) -> Trained:
    """The config's network with the checkpoint's weights (the EMA's if there is one).

    UserErrors: a file that is not a checkpoint, facts in it that no training wrote, weights of
    another architecture (the differing keys are named), another target than in training.
    """
    stored = read_checkpoint(checkpoint)
    target = build(root.target, kind="target", allow=allow)
    facts = trained_facts(stored, source=checkpoint)
    require_same_target(target, facts, source=checkpoint)
    net = build_network(root, target, in_channels=facts["in_channels"], allow=allow)
    state = net_weights(stored)
    load_weights(net, state, source=checkpoint)
    return Trained(
        net=net.eval(),
        target=target,
        step=facts["global_step"],
        weights=_hash(state),
        in_channels=facts["in_channels"],
        grid=Grid(facts["axes"], facts["voxel_size"]),
        patch_size=tuple(facts["patch_size"]),
        autocast=AUTOCAST[root.optimization.precision],
        # Checkpoints of earlier versions do not store it.
        trained_on=facts.get("trained_on", []),
        seen_unlabelled=facts.get("seen_unlabelled", []),
        intensities=facts.get("intensities"),
    )


def build_network(
    root: Root, target: Target | None, *, in_channels: int, allow: Sequence[str] = ()
) -> nn.Module:
    """The config's model between the image's channels and the target's, its weights fresh.

    Without a target its output is an image.
    """
    return build(
        root.model,
        kind="model",
        allow=allow,
        in_channels=in_channels,
        out_channels=in_channels if target is None else target.out_channels,
        heads=getattr(target, "heads", None),
    )


def target_facts(target: Target) -> dict[str, Any]:
    """What a checkpoint and a prediction store about their channels, in plain containers."""
    offsets, heads = getattr(target, "offsets", None), getattr(target, "heads", None)
    activations = getattr(target, "activations", None)
    facts = {
        "channels": list(target.names),
        "offsets": None if offsets is None else [list(offset) for offset in offsets],
        "edge_side": getattr(target, "edge_side", None),
    }
    # Only if there are heads: files from before heads do not have the key.
    if heads is not None:
        facts["heads"] = {name: list(channels) for name, channels in heads.items()}
    if activations is not None:
        facts["activations"] = list(activations)
    return facts


def require_same_target(target: Target, facts: Mapping[str, Any], *, source: Path) -> None:
    """Raises UserError if a checkpoint's channels are not those of `target`."""
    if "channels" not in facts:
        raise UserError(
            f"{source} was trained without a target: its network has no channels to predict "
            "(model.init_from takes its weights into a training)"
        )
    wanted = target_facts(target)
    for key in (*wanted, "heads", "activations"):
        trained, asked = facts.get(key), wanted.get(key)
        if trained != asked:
            raise UserError(
                f"{source} was trained for target {key} {trained}, the config has {asked}"
            )


def _hash(state: Mapping[str, torch.Tensor]) -> str:
    """A hash of the names, shapes, dtypes and values, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        # A clone has plain strides, for any memory order of the tensor in training.
        tensor = state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
