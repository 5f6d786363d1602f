"""The trained network: a checkpoint's facts, and its weights in the config's model."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emseg.config import build
from emseg.config.annotations import defaults, typed
from emseg.config.schema import Root
from emseg.data.target_facts import TargetFacts
from emseg.errors import UserError
from emseg.stages.devices import resolve_devices, settled_precision
from emseg.training.checkpoints import load_weights, net_weights, read_checkpoint
from emseg.training.facts import Facts

AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
# Characters of a message about a fact, which may be anything.
LONGEST = 400


@dataclass(frozen=True)
class Trained:
    """A network in eval mode, the facts of its training and of its target, a hash of its weights.

    `autocast` is the type of half precision that it computes in, None for float32.
    """

    net: nn.Module
    facts: Facts
    target: TargetFacts
    weights: str
    autocast: torch.dtype | None

    # Notebooks use these two.
    @property
    def step(self) -> int:
        """The training steps after which the weights were saved."""
        return self.facts.global_step

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """The size of the training patches, in voxels."""
        return self.facts.patch_size


def load_trained(root: Root, checkpoint: Path, *, allow: Sequence[str] = ()) -> Trained:
    """The config's network with the checkpoint's weights (the EMA's if there is one).

    Raises:
        UserError: a file that is not a checkpoint, facts in it that no training wrote, weights of
            another architecture (the differing keys are named), another target than in training.
    """
    stored = read_checkpoint(checkpoint)
    target = TargetFacts.of(build(root.target, kind="target", allow=allow))
    facts = trained_facts(stored, source=checkpoint)
    require_same_target(target, facts, source=checkpoint)
    if root.model.get("width") == "auto":
        root.model["width"] = trained_width(facts)
    net = build_network(root, target, in_channels=facts.in_channels, allow=allow)
    state = net_weights(stored)
    load_weights(net, state, source=checkpoint)
    devices = resolve_devices(root.system)
    autocast = AUTOCAST[settled_precision(root.optimization.precision, devices)]
    return Trained(net.eval(), facts, target, _hash(state), autocast)


def build_network(
    root: Root, target: TargetFacts | None, *, in_channels: int, allow: Sequence[str] = ()
) -> nn.Module:
    """The config's model between the image's channels and the target's, its weights fresh.

    Without a target its output is an image.
    """
    return build(
        root.model,
        kind="model",
        allow=allow,
        in_channels=in_channels,
        out_channels=len(target.channels) if target else in_channels,
        heads=target.heads if target else None,
    )


def trained_facts(checkpoint: Mapping[str, Any], *, source: Path) -> Facts:
    """The facts in a checkpoint.

    Raises:
        UserError: a checkpoint of another program; facts that are missing, of another type, out of
            range, or of another step than the checkpoint.
    """
    if "emseg" not in checkpoint:
        raise UserError(
            f"{source} does not say what it was trained for: it is no checkpoint of emseg "
            "(model.init_from takes weights alone)"
        )
    facts, step = facts_of(checkpoint["emseg"], source=source), checkpoint.get("global_step")
    if type(step) is not int or step != facts.global_step:
        raise UserError(
            f"{source}: global_step: {step!r:.80} is not that of its facts, {facts.global_step}"
        )
    return facts


def trained_width(facts: Facts) -> Any:
    """The widths of the network that was trained, None if its config has none."""
    model = facts.config.get("model")
    return model.get("width") if isinstance(model, dict) else None


def facts_of(stored: Any, *, source: Path) -> Facts:
    """The facts that are stored under `emseg`; UserError for the first that no training wrote."""
    try:
        if not isinstance(stored, dict):
            raise UserError(f"emseg: expected a mapping of keys, got {stored!r}")
        for item in fields(Facts):
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in stored:
                raise UserError(f"emseg.{item.name}: is missing")
        target = None
        if "channels" in stored:
            target = typed(TargetFacts, defaults(TargetFacts) | stored, "emseg")
        facts: Facts = typed(Facts, defaults(Facts) | stored | {"target": target}, "emseg")
    except UserError as error:
        text = " ".join(str(error).split())
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        raise UserError(f"{source} was changed since a training wrote it: {text}") from None
    return facts


def require_same_target(target: TargetFacts, facts: Facts, *, source: Path) -> None:
    """Raises UserError if a checkpoint's channels are not those of `target`."""
    if facts.target is None:
        raise UserError(
            f"{source} was trained without a target: its network has no channels to predict "
            "(model.init_from takes its weights into a training)"
        )
    for item in fields(TargetFacts):
        trained, asked = getattr(facts.target, item.name), getattr(target, item.name)
        if trained != asked:
            raise UserError(
                f"{source} was trained for target {item.name} {trained}, the config has {asked}"
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
