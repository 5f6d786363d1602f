import pytest
import torch

from emseg.config import build
from emseg.config.choices import conf_folder
from emseg.config.reading import read_yaml
from emseg.errors import UserError
from emseg.losses.mse import MSE
from emseg.models.unetr_aniso import UNETRAniso
from emseg.training.objective import Parts
from emseg.training.schedules import constant
from emseg.training.supervised import Supervised

SHIPPED = read_yaml(conf_folder() / "optimization" / "optimizer" / "adamw_finetune.yaml")


def optimizer_of(net: torch.nn.Module, **changes) -> torch.optim.Optimizer:
    make = build(SHIPPED | changes, kind="optimization.optimizer")
    module = Supervised(Parts(net=net, loss=MSE(), make_optimizer=make, make_scheduler=constant))
    return module.configure_optimizers()["optimizer"]


def settings_by_name(optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    groups = optimizer.param_groups
    return {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for name in group["param_names"]
    }


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    with torch.device("meta"):
        return UNETRAniso(1, 3, head="em")


def test_the_77_tensors_of_the_encoder_learn_slower(published):
    found = settings_by_name(optimizer_of(published))
    encoder = ("pos_embed", "patch_embed.", "encoder_blocks.", "norm.")
    expected = {
        name: (1e-5 if name.startswith(encoder) else 8e-5, 0.01)
        for name, _ in published.named_parameters()
    }
    assert found == expected
    assert sum(lr == 1e-5 for lr, _ in found.values()) == 77


def test_vectors_need_not_decay(published):
    found = settings_by_name(optimizer_of(published, decay_vectors=False))
    for name, parameter in published.named_parameters():
        assert found[name][1] == (0.01 if parameter.ndim > 1 else 0.0), name


def test_of_parts_within_parts_the_longest_name_counts():
    net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(1, 1)), torch.nn.Linear(1, 1))
    found = settings_by_name(optimizer_of(net, lr_below={"0": 1e-3, "0.0.bias": 1e-2}))
    assert {name: lr for name, (lr, _) in found.items()} == {
        "0.0.weight": 1e-3,
        "0.0.bias": 1e-2,
        "1.weight": 8e-5,
        "1.bias": 8e-5,
    }


def test_a_step_moves_each_part_by_its_own_rate():
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    optimizer = optimizer_of(net, lr_below={"0": 1e-3}, lr=1e-2, weight_decay=0.0)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = [abs(a - b).item() for a, b in zip(before, net.parameters(), strict=True)]
    # The first step of Adam is the rate itself, whatever the gradient.
    assert moved == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2], rel=1e-3)


@pytest.mark.parametrize("name", ["encoder_block", "norm.weigh", "net"])
def test_a_part_that_is_not_there_is_refused(published, name):
    with pytest.raises(UserError, match=rf"lr_below\.{name} is no part .*encoder_blocks"):
        optimizer_of(published, lr_below={name: 1e-5})


def test_a_rate_of_nothing_is_refused(published):
    with pytest.raises(UserError, match="lr_below.norm=0.0 must be above 0"):
        optimizer_of(published, lr_below={"norm": 0.0})
