"""The second step of checking: what a mode uses is imported and built, before any data are read."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from emseg.config.construction import build, resolve
from emseg.config.loaded import Loaded
from emseg.errors import UserError, unknown_name

# What each mode uses, beside the choices of training.
USES: dict[str, tuple[str, ...]] = {
    "train": ("target", "model"),
    "test": ("target", "model", "decoding", "evaluation.metrics"),
    "infer": ("target", "model"),
    # These two modes look for results of infer and decode with the same settings.
    "decode": ("target", "model", "decoding"),
    "evaluate": ("target", "model", "decoding", "evaluation.metrics"),
    "tune": ("target", "model", "decoding", "evaluation.metrics"),
    "sweep": ("target", "model", "decoding", "evaluation.metrics"),
}
# For an input file, made by any network.
USES_OF_FILE = {"decode": ("target", "decoding"), "evaluate": ("evaluation.metrics",)}


def check_targets(loaded: Loaded, mode: str, *, of_file: bool = False) -> None:
    """Builds every choice of the mode as it is written.

    Models are built on the meta device, so that they take no memory. An empty choice (`{}`) is
    skipped; functions of data (decoders, metrics) are not called.

    Args:
        loaded: the config.
        mode: its mode.
        of_file: whether the mode begins with a file (--input), and needs no network.

    Raises:
        UserError: for the first choice that cannot be built.
    """
    if mode not in USES:
        raise unknown_name("mode", mode, USES)
    uses = USES_OF_FILE[mode] if of_file else USES[mode]
    if "target" in uses:
        target = _built(loaded, "target")
        _check_target(target)
        _check_head(loaded, target)
        if mode == "train" and not _is_of_target(loaded):
            target = None
        facts = _facts_of(target)
        net = _network(loaded, facts) if "model" in uses else None
        if mode == "train":
            _check_training(loaded, facts, net)
    if "decoding" in uses:
        _built(loaded, "decoding")
    if "evaluation.metrics" in uses and (mode != "test" or loaded.root.evaluation.enabled):
        for name, node in loaded.root.evaluation.metrics.items():
            kind = "evaluation.metrics"
            build(node, kind=kind, name=f"{kind}.{name}", allow=loaded.allow)


def _built(loaded: Loaded, kind: str, **supplied: Any) -> Any:
    """The object of the choice, None for an empty one."""
    node = attrgetter(kind)(loaded.root)
    return build(node, kind=kind, allow=loaded.allow, **supplied) if node else None


def _check_target(target: Any) -> None:
    """Raises UserError for a target of the user's own that lacks what the base says."""
    needed = ("names", "offsets", "edge_side", "heads", "activations", "context")
    lacking = [name for name in (*needed, "needs_stored_ids") if not hasattr(target, name)]
    if target is not None and lacking:
        raise UserError(
            f"target: {type(target).__name__} has no {', '.join(lacking)}; a target is a class "
            "below emseg.data.targets.Target, which has their defaults"
        )


def _check_head(loaded: Loaded, target: Any) -> None:
    head = loaded.root.inference.model.head
    heads = (target and target.heads) or ()
    if head is not None and head not in heads:
        raise unknown_name("head of the target", head, heads, where="inference.model.head")


def _is_of_target(loaded: Loaded) -> bool:
    """Whether the objective learns the target; else the network's output is an image."""
    node = loaded.root.objective
    if not node:
        return True
    objective = resolve(node.get("_target_"), key="objective", allow=loaded.allow)
    return getattr(objective, "of_target", True)


def _facts_of(target: Any) -> dict[str, Any]:
    """What a target says about a network's channels; one channel without a target."""
    return {
        "out_channels": target.out_channels if target else 1,
        "heads": target.heads if target else None,
        "activations": target.activations if target else None,
    }


def _network(loaded: Loaded, facts: dict[str, Any]) -> Any:
    asked = {key: facts[key] for key in ("out_channels", "heads")}
    model = loaded.root.model
    if model.get("width") == "auto":
        if "down_factors" not in model:
            raise UserError("model.width: auto needs a model with down_factors (model=rsunet, say)")
        # The training chooses; any width has the same stride and outputs.
        model = model | {"width": [8] * (len(model["down_factors"]) + 1)}
    with without_values():
        made = {"kind": "model", "allow": loaded.allow, "in_channels": 1}
        return build(model, **made, **asked) if model else None


def _check_training(loaded: Loaded, facts: dict[str, Any], net: Any) -> None:
    loss = _built(loaded, "loss", heads=facts["heads"])
    _built(loaded, "augment")
    _built(loaded, "perturb")
    _check_optimizer(loaded, net)
    root = loaded.root
    if not root.objective or net is None or loss is None:
        return
    objective = resolve(root.objective["_target_"], key="objective", allow=loaded.allow)
    # Its own class of parts: this package does not import packages that build networks.
    made_of = inspect.signature(objective, eval_str=True).parameters.get("parts")
    if made_of is not None:
        parts = made_of.annotation(
            net=net,
            loss=loss,
            make_optimizer=None,
            activations=facts["activations"],
        )
        built, patch_size = (
            _built(loaded, "objective", parts=parts),
            root.data.dataloader.patch_size,
        )
        if patch_size != "auto":
            built.check(patch_size, in_channels=1, channels=facts["out_channels"])


def _check_optimizer(loaded: Loaded, net: Any) -> None:
    import torch

    plan = loaded.root.optimization
    # Parts of the network may have their own settings.
    net = torch.nn.Linear(1, 1) if net is None else net
    optimizer = _built(loaded, "optimization.optimizer", params=list(net.named_parameters()))
    if optimizer is None:
        return
    _check_step(optimizer)
    scheduler = _built(
        loaded,
        "optimization.scheduler",
        optimizer=optimizer,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.n_steps_per_epoch,
    )
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UserError(
            "optimization.scheduler: ReduceLROnPlateau goes by a score, and schedules here by "
            "the step alone (optimization/scheduler=cosine)"
        )


def _check_step(optimizer: Any) -> None:
    """Raises UserError if the optimizer cannot take a step with our gradients."""
    import torch

    kind, weight = type(optimizer), torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.zeros_like(weight)
    taken = inspect.signature(kind).parameters
    settings = {name: value for name, value in optimizer.defaults.items() if name in taken}
    try:
        kind([weight], **settings).step(lambda: torch.zeros(()))
    # The optimizer may be the user's own.
    except Exception as error:
        name = kind.__name__
        raise UserError(f"optimization.optimizer: {name} cannot take a step: {error}") from error


@contextmanager
def without_values() -> Iterator[None]:
    """Within it tensors are made on the meta device, and no random numbers are drawn.

    To draw on the meta device PyTorch imports its compiler, which takes longer than all else here.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    fills = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_}

    class Unfilled(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in fills:
                return args[0]
            # A constructor (MONAI's SwinUNETR) needs the values of this.
            there = {"device": "cpu"} if func is torch.linspace else {}
            return func(*args, **there, **(kwargs or {}))

    with torch.device("meta"), Unfilled():
        yield
