"""The second step of checking: what a mode uses is imported and built, before any data are read."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emseg.config.construction import build, resolve
from emseg.config.loaded import Loaded
from emseg.config.schema import Root
from emseg.errors import UserError, unknown_name

USES: dict[str, tuple[str, ...]] = {
    "train": (
        "model",
        "target",
        "loss",
        "augment",
        "perturb",
        "optimization.optimizer",
        "optimization.scheduler",
        "objective",
    ),
    "test": ("model", "target", "decoding", "evaluation.metrics"),
    "infer": ("model", "target"),
    # These two modes look for results of infer and decode with the same settings.
    "decode": ("model", "target", "decoding"),
    "evaluate": ("model", "target", "decoding", "evaluation.metrics"),
    "tune": ("model", "target", "decoding", "evaluation.metrics"),
    "sweep": ("model", "target", "decoding", "evaluation.metrics"),
}
# For an input file, made by any network.
USES_OF_FILE = {"decode": ("target", "decoding"), "evaluate": ("evaluation.metrics",)}


def check_targets(loaded: Loaded, mode: str, *, of_file: bool = False) -> None:
    """Raises `UserError` for the first choice of the mode that cannot be built as it is written.

    Models are built on the meta device, so that they take no memory. An empty one (`{}`, nothing
    chosen) is skipped; functions of data (decoders, metrics) are not called. A mode that begins
    with a file (`of_file`: --input) needs no network.
    """
    if mode not in USES:
        raise unknown_name("mode", mode, USES)
    uses = USES_OF_FILE[mode] if of_file else USES[mode]
    if "target" in uses:
        _check_head(loaded)
    for kind in uses:
        if kind == "evaluation.metrics":
            if mode != "test" or loaded.root.evaluation.enabled:
                for name, node in loaded.root.evaluation.metrics.items():
                    build(node, kind=kind, name=f"{kind}.{name}", allow=loaded.allow)
        else:
            _check_leaf(loaded, kind)


def _check_head(loaded: Loaded) -> None:
    head = loaded.root.inference.model.head
    if head is not None:
        heads = _target_facts(loaded)["heads"] or ()
        if head not in heads:
            raise unknown_name("head of the target", head, heads, where="inference.model.head")


def _check_leaf(loaded: Loaded, kind: str) -> None:
    node = _node(loaded.root, kind)
    if not node:
        return
    if kind == "model":
        _model(loaded, _target_facts(loaded))
    elif kind == "loss":
        _loss(loaded, _target_facts(loaded))
    elif kind == "objective":
        _check_objective(loaded)
    elif kind == "optimization.optimizer":
        _check_optimizer(loaded)
    elif kind != "optimization.scheduler":  # built with its optimizer
        build(node, kind=kind, allow=loaded.allow)


def _model(loaded: Loaded, facts: dict[str, Any]) -> Any:
    asked = {key: facts[key] for key in ("out_channels", "heads")}
    with without_values():
        return build(loaded.root.model, kind="model", allow=loaded.allow, in_channels=1, **asked)


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


def _loss(loaded: Loaded, facts: dict[str, Any]) -> Any:
    return build(loaded.root.loss, kind="loss", allow=loaded.allow, heads=facts["heads"])


def _check_objective(loaded: Loaded) -> None:
    """The objective takes the model and the loss; the optimizer is checked separately."""
    root, allow = loaded.root, loaded.allow
    if not (root.model and root.loss):
        return
    target = resolve(root.objective.get("_target_"), key="objective", allow=allow)
    # Its own class of parts: this package does not import packages that build networks.
    made_of = inspect.signature(target, eval_str=True).parameters.get("parts")
    if made_of is not None:
        # Without a target the network's output is an image.
        facts = _target_facts(loaded) if target.of_target else _facts_of(None)
        parts = made_of.annotation(
            net=_model(loaded, facts),
            loss=_loss(loaded, facts),
            make_optimizer=None,
            activations=facts["activations"],
        )
        objective = build(root.objective, kind="objective", allow=allow, parts=parts)
        patch_size = root.data.dataloader.patch_size
        objective.check(patch_size, in_channels=1, channels=facts["out_channels"])


def _target_facts(loaded: Loaded) -> dict[str, Any]:
    """What the config's target says about a network's channels; one channel without a target."""
    node = loaded.root.target
    return _facts_of(build(node, kind="target", allow=loaded.allow) if node else None)


def _facts_of(target: Any) -> dict[str, Any]:
    return {
        "out_channels": target.out_channels if target else 1,
        "heads": target.heads if target else None,
        "activations": target.activations if target else None,
    }


def _check_optimizer(loaded: Loaded) -> None:
    import torch

    plan = loaded.root.optimization
    kind, allow = "optimization.optimizer", loaded.allow
    # Parts of the network may have their own settings.
    net = _model(loaded, _target_facts(loaded)) if loaded.root.model else torch.nn.Linear(1, 1)
    named = list(net.named_parameters())
    optimizer = build(plan.optimizer, kind=kind, allow=allow, params=named)
    _check_step(optimizer)
    if plan.scheduler:
        scheduler = build(
            plan.scheduler,
            kind="optimization.scheduler",
            allow=allow,
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


def _node(root: Root, kind: str) -> dict[str, Any]:
    node: Any = root
    for part in kind.split("."):
        node = getattr(node, part)
    return node
