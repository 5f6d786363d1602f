"""Weights under the names that other programs give them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_net
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.training.checkpoints import load_weights, net_weights, start_from

State = dict[str, Tensor]
PREFIXES = [
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "net.",
    "network.",
    "model.net.module.",
    "module.module.",
    "net._orig_mod.",
]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return {name: torch.randn_like(value) for name, value in tiny_net().state_dict().items()}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def begun(contents: object, path: Path) -> State:
    torch.save(contents, path)
    net = tiny_net()
    assert f"all {len(net.state_dict())} tensors" in start_from(path, net)
    return net.state_dict()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("stored", [lambda one: one, lambda one: {"state_dict": one, "epoch": 3}])
def test_what_all_names_begin_with_is_passed_over(
    state: State, tmp_path: Path, prefix: str, stored: Callable[[State], object]
) -> None:
    found = begun(stored(prefixed(state, prefix)), tmp_path / "others.pt")
    torch.testing.assert_close(found, state)


@pytest.mark.parametrize(
    "key", ["model_state_dict", "model", "net", "network", "params", "model_weights"]
)
def test_weights_stand_under_the_keys_that_programs_use(
    state: State, tmp_path: Path, key: str
) -> None:
    contents = {key: prefixed(state, "module."), "optimizer_state_dict": {"state": {}}, "epoch": 1}
    torch.testing.assert_close(begun(contents, tmp_path / "others.pt"), state)
    deeper = {"model": {"state_dict": state}, "best": np.float64(0.25)}
    torch.testing.assert_close(begun(deeper, tmp_path / "others.pt"), state)


def test_a_loss_beside_wrapped_weights_is_left_out(state: State, tmp_path: Path) -> None:
    wrapped = prefixed(prefixed(state, "net."), "module.") | {"module.loss.s": torch.zeros(1)}
    torch.testing.assert_close(begun({"state_dict": wrapped}, tmp_path / "others.pt"), state)
    torch.testing.assert_close(net_weights({"state_dict": wrapped}), state)


def test_weights_of_a_compiled_network_are_those_of_the_network(state: State) -> None:
    net = tiny_net()
    load_weights(net, net_weights({"state_dict": prefixed(state, "net._orig_mod.")}), source="a")
    torch.testing.assert_close(net.state_dict(), state)


def test_a_part_that_is_called_so_is_no_prefix(tmp_path: Path) -> None:
    for name in ("module", "net", "model"):
        net = nn.Sequential()
        net.add_module(name, nn.Linear(2, 2))
        torch.save(net.state_dict(), tmp_path / "own.pt")
        assert "all 2 tensors" in start_from(tmp_path / "own.pt", net)
        torch.save({f"module.{key}": v for key, v in net.state_dict().items()}, tmp_path / "own.pt")
        assert "all 2 tensors" in start_from(tmp_path / "own.pt", net)


def test_a_prefix_of_some_names_is_no_prefix(state: State, tmp_path: Path) -> None:
    first, *rest = state
    mixed = {first: state[first]} | prefixed({name: state[name] for name in rest}, "module.")
    torch.save(mixed, tmp_path / "mixed.pt")
    net = tiny_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"of another architecture.* unknown \(module\."):
        start_from(tmp_path / "mixed.pt", net)
    torch.testing.assert_close(net.state_dict(), before)


class _Picky(nn.Linear):
    def adopted(self, weights: State) -> State:
        return {"weight": weights["kernel"], "bias": weights["bias"]}


def test_rules_for_other_names_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="are no weights that _Picky can be given: KeyError"):
        start_from(tmp_path / "other.pt", _Picky(2, 2))
