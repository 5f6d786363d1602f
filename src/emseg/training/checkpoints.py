"""Checkpoints as files: their contents and the network's weights in them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UserError

_NET = "net."
_TEACHER = "teacher."
_LOSS = "loss."
_NAMED = 3
# Where checkpoints of ours and of others have the network's weights.
_STATES = ("state_dict", "model", "model_weights", "raw")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU.

    Only tensors and plain containers are unpickled: reading a file runs no code from it.
    UserErrors: no such file, a truncated or foreign one, one that holds other objects.
    """
    contents = _load(Path(path))
    if not isinstance(contents, dict) or "state_dict" not in contents:
        raise UserError(f"{path} is no training checkpoint: it has no 'state_dict'")
    return contents


def start_from(path: str | Path, net: nn.Module) -> str:
    """One line on what `net` now has of the weights in a file, and what not.

    Files are checkpoints, ours or not, or bare weights. Where the network can (`adopted`), weights
    of other implementations are translated. Where a part of it is pretrained by itself, and the
    file holds that (`encoder_weights`), the rest stays as it is. UserErrors: what is no weights at
    all or does not fit; `net` is then as it was.
    """
    contents = _load(Path(path))
    state = _state(contents)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no weights: neither a checkpoint nor named tensors")
    if any(name.startswith((_NET, _TEACHER)) for name in state):
        state = net_weights({"state_dict": state})
    adopted = getattr(net, "adopted", None)
    weights = dict(state) if adopted is None else adopted(state)
    own, encoder_weights = net.state_dict(), getattr(net, "encoder_weights", None)
    part = None if encoder_weights is None else encoder_weights(weights, _told_model(contents))
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


def told_facts(path: str | Path) -> dict[str, Any]:
    """What a checkpoint of ours says beside its weights; nothing where the file is another's."""
    return _below(_load(Path(path)), "emseg")


def _state(contents: Any) -> Any:
    """What stands where programs put a network's weights, or the contents themselves."""
    found = (_below(contents, key) for key in _STATES)
    return next((state for state in found if state), contents)


def _told_model(contents: Any) -> Mapping[str, Any]:
    """The settings of the model that a checkpoint, ours or dbMiM's, has beside its weights."""
    facts = _below(contents, "emseg") or contents
    return _below(_below(facts, "config"), "model")


def _below(contents: Any, key: str) -> dict[str, Any]:
    found = contents.get(key) if isinstance(contents, dict) else None
    return found if isinstance(found, dict) else {}


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"checkpoint {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: {_first_line(error)}; allowed are tensors and plain "
            "containers"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error
    return contents


def net_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state, under the network's own names: the averaged one where training kept it.

    That is the teacher's where a student has learned from one that is not itself. UserError when
    the checkpoint holds no network.
    """
    state = checkpoint["state_dict"]
    taught = any(name.startswith(_TEACHER) for name in state)
    prefix = _TEACHER if taught else _NET
    weights = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    if not weights:
        names = ", ".join(list(state)[:_NAMED]) or "nothing"
        raise UserError(f"the checkpoint holds no weights under '{_NET}' (but {names})")
    return weights


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Nothing; `net` has the weights.

    A `UserError` names what differs where they are of another architecture; `net` is then as it
    was.
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
    }
    told = [f"{len(names)} {kind} ({_some(names)})" for kind, names in differences.items() if names]
    if told:
        raise UserError(
            f"the weights in {source} are of another architecture than the config's model: "
            f"{'; '.join(told)}"
        )
    net.load_state_dict(dict(weights))


def require_same_loss(loss: object, checkpoint: Mapping[str, Any], *, source: str | Path) -> None:
    """Nothing, or a `UserError` when the loss has learned something else than this one learns."""
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
