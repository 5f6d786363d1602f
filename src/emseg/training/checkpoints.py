"""Checkpoints: what is in them, and the network's weights."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.training.checkpoint_file import load_plain

_NET = "net."
_TEACHER = "teacher."
_LOSS = "loss."
_NAMED = 3
# Keys of the network's weights in our and other checkpoints, and how deep they are nested.
_STATES = (
    "state_dict",
    "model_state_dict",
    "model",
    "model_weights",
    "raw",
    "net",
    "network",
    "params",
)
_DEEPEST = 4
# Prefixes of names by DataParallel, DDP, torch.compile, and by modules that contain a network.
_WRAPPERS = ("module.", "_orig_mod.")
_HOLDERS = ("model.", _NET, "network.", "state_dict.", "ema_model.")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU, its `state_dict` tensors by name.

    Only tensors and plain containers are unpickled: reading a file runs no code from it.

    Raises:
        UserError: the file is missing, damaged or no training checkpoint, or holds other objects.
    """
    contents = load_plain(Path(path))
    if not isinstance(contents, dict) or "state_dict" not in contents:
        raise UserError(f"{path} is no training checkpoint: it has no 'state_dict'")
    require_tensors(contents["state_dict"], where=f"{path}: state_dict")
    return contents


def start_from(path: str | Path, net: nn.Module) -> str:
    """Loads weights from a file into `net`; returns a line on which tensors were loaded.

    Args:
        path: a checkpoint, ours or not, or bare weights. Common prefixes of all names (`module.`,
            `_orig_mod.`, `model.`) are ignored.
        net: translates weights of other implementations if it can (`adopted`). If the file holds
            only the pretrained part of it (`encoder_weights`), the rest is not changed.

    Raises:
        UserError: a file without weights, or weights that do not fit; `net` is then unchanged.
    """
    contents, own = load_plain(Path(path)), net.state_dict()
    state = _state(contents)
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise UserError(f"{path} holds no weights: neither a checkpoint nor named tensors")
    require_tensors(state, where=f"{path}: the weights")
    state = _bare(state, own)
    if not state.keys() & own.keys() and any(n.startswith((_NET, _TEACHER)) for n in state):
        state = _bare(net_weights({"state_dict": state}), own)
    weights, part = _taken(net, state, contents, source=path)
    if part is None:
        load_weights(net, weights, source=path)
        return f"model.init_from: all {len(own)} tensors are those of {path}"
    parts = {name.partition(".")[0] for name in part}
    fresh = {name: v for name, v in own.items() if name.partition(".")[0] not in parts}
    load_weights(net, fresh | part, source=path)
    left = [name for name in weights if name not in part]
    return (
        f"model.init_from: {len(part)} of the model's {len(own)} tensors are those of {path}; "
        f"{len(fresh)} are fresh ({_some([*fresh])}), {len(left)} not taken ({_some(left)})"
    )


def stored_facts(path: str | Path) -> dict[str, Any]:
    """The facts stored in a checkpoint of ours; empty for files of other programs.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds other objects.
    """
    return _below(load_plain(Path(path)), "emseg")


def require_tensors(state: Any, *, where: str) -> None:
    """Checks that `state` is a mapping from names to dense tensors on the CPU.

    Raises:
        UserError: it is not; the message begins with `where`.
    """
    if not isinstance(state, Mapping):
        raise UserError(f"{where} must be tensors by name, it is a {type(state).__name__}")
    for name, value in state.items():
        if not (isinstance(name, str) and name):
            raise UserError(f"{where} must be tensors by name, and {name!r:.80} is no name")
        if not isinstance(value, Tensor):
            raise UserError(f"{where} must be tensors, '{name}' is a {type(value).__name__}")
        dense = value.layout == torch.strided and not value.is_quantized
        if not dense or value.device.type != "cpu":
            raise UserError(
                f"{where} must be plain tensors, '{name}' is sparse, quantized or empty"
            )


def _state(contents: Any) -> Any:
    """What is stored at the usual keys of a network's weights, or the contents themselves."""
    for _ in range(_DEEPEST):
        found = (_below(contents, key) for key in _STATES)
        contents = next((state for state in found if state), contents)
    return contents


def _bare(state: Mapping[str, Tensor], own: Collection[str] = ()) -> dict[str, Tensor]:
    """The state without the common prefix of its names, once some are names of the network.

    Without `own`, prefixes of wrappers are removed, but not those of containing modules.
    """
    bare, prefixes = dict(state), _WRAPPERS + (_HOLDERS if own else ())
    while bare and not bare.keys() & set(own):
        found = (one for one in prefixes if all(name.startswith(one) for name in bare))
        prefix = next(found, None)
        if prefix is None:
            break
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    return bare


def _taken(
    net: nn.Module, state: dict[str, Tensor], contents: Any, *, source: str | Path
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """The weights under the network's names, and the pretrained part if there is only that."""
    adopted, encoder_weights = (getattr(net, n, None) for n in ("adopted", "encoder_weights"))
    try:
        weights = state if adopted is None else adopted(state)
        model = _stored_model(contents)
        return weights, None if encoder_weights is None else encoder_weights(weights, model)
    except UserError:
        raise
    # Rules for another program's tensors are applied to arbitrary names and shapes.
    except Exception as error:
        raise UserError(
            f"the weights in {source} are no weights that {type(net).__name__} can be given: "
            f"{type(error).__name__} {error}"
        ) from error


def _stored_model(contents: Any) -> Mapping[str, Any]:
    """The model settings stored in a checkpoint, ours or dbMiM's."""
    facts = _below(contents, "emseg") or contents
    return _below(_below(facts, "config"), "model")


def _below(contents: Any, key: str) -> dict[str, Any]:
    found = contents.get(key) if isinstance(contents, dict) else None
    return found if isinstance(found, dict) else {}


def net_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state, under its own names: the averaged one if training stored it.

    For a student with a separate teacher it is the teacher's state.

    Raises:
        UserError: the checkpoint holds no network.
    """
    state = _bare(checkpoint["state_dict"])
    taught = any(name.startswith(_TEACHER) for name in state)
    prefix = _TEACHER if taught else _NET
    weights = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    if not weights:
        names = ", ".join(list(state)[:_NAMED]) or "nothing"
        raise UserError(f"the checkpoint holds no weights under '{_NET}' (but {names})")
    return weights


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Loads the weights, read from `source`, into `net`.

    Args:
        weights: by the network's names, which may all begin with a common prefix.

    Raises:
        UserError: the weights do not fit (`require_fitting`); `net` is then unchanged.
    """
    weights = _bare(weights, net.state_dict())
    require_fitting(net, weights, source=source)
    net.load_state_dict(weights)


def require_fitting(net: nn.Module, weights: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Checks that `net` can load the weights, read from `source`.

    Raises:
        UserError: names, shapes or kinds of numbers are those of another architecture, or weights
            are not finite; the message names the first of them.
    """
    own = net.state_dict()
    differences = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} {list(weights[name].shape)} for {list(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
        "of another kind of number": [
            f"{name} {weights[name].dtype} for {own[name].dtype}"
            for name in own
            if name in weights and _kind(weights[name]) != _kind(own[name])
        ],
    }
    diff = [f"{len(names)} {kind} ({_some(names)})" for kind, names in differences.items() if names]
    if diff:
        raise UserError(
            f"the weights in {source} are of another architecture than the config's model: "
            f"{'; '.join(diff)}"
        )
    broken = [n for n, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise UserError(f"the weights in {source} are not all finite numbers ({_some(broken)})")


def require_same_loss(loss: object, checkpoint: Mapping[str, Any], *, source: str | Path) -> None:
    """Checks that a checkpoint's loss has learned parameters and buffers of the same names.

    Args:
        loss: a module, or a function, which has none.

    Raises:
        UserError: it has others; the message names them, and the file `source`.
    """
    names = [
        name.removeprefix(_LOSS) for name in checkpoint["state_dict"] if name.startswith(_LOSS)
    ]
    own = list(loss.state_dict()) if isinstance(loss, nn.Module) else []
    if sorted(names) != sorted(own):
        before, now = (", ".join(sorted(one)) or "nothing" for one in (names, own))
        raise UserError(
            f"loss: {source} cannot go on with it, its loss learned {before}, this one learns "
            f"{now} (model.init_from takes its weights into a new run)"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _kind(value: Tensor) -> tuple[bool, bool]:
    return value.is_floating_point(), value.is_complex()
