import math

import numpy as np
import pytest
import torch

from emseg.errors import UserError
from emseg.losses.bce import PerChannelBCEWithLogits, WeightedBCEWithLogits
from emseg.losses.dice import Dice
from emseg.losses.per_head import PerHead
from emseg.losses.smooth_l1 import SmoothL1
from emseg.losses.weighted_sum import WeightedSum
from reference.losses import dice, mean_bce, per_channel_bce, smooth_l1

HEADS = {"aff": (0, 3), "sdt": (3, 4)}


def batch(seed=0):
    rng = np.random.default_rng(seed)
    shape = (2, 4, 2, 3, 4)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    target = (rng.random(shape) < 0.4).astype(np.float32)
    target[:, 3] = rng.uniform(-1, 1, target[:, 3].shape)
    return logits, target, rng.random(shape) < 0.8


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


def own(arrays, first, stop):
    logits, target, mask = (array[:, first:stop] for array in arrays)
    return logits, target, mask


def losses():
    return {"sdt": SmoothL1(activation="tanh"), "aff": PerChannelBCEWithLogits()}


def wanted(arrays):
    logits, target, mask = own(arrays, 3, 4)
    return {
        "aff": per_channel_bce(*own(arrays, 0, 3), cap=10),
        "sdt": smooth_l1(np.tanh(logits), target, mask),
    }


def test_a_sum_weighs_each_heads_own_loss():
    arrays = batch()
    each = wanted(arrays)
    total, parts = PerHead(losses=losses(), weighting="sum", heads=HEADS)(*tensors(arrays))
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(each, rel=1e-5)
    assert float(total) == pytest.approx(sum(each.values()), rel=1e-5)
    weighted = PerHead(
        losses=losses(), weighting="sum", weights={"aff": 0.5, "sdt": 3}, heads=HEADS
    )
    assert not [*weighted.parameters()]
    assert float(weighted(*tensors(arrays))[0]) == pytest.approx(
        0.5 * each["aff"] + 3 * each["sdt"], rel=1e-5
    )


def test_uncertainty_is_its_formula_and_so_is_its_gradient():
    arrays = batch(1)
    each = wanted(arrays)
    loss = PerHead(losses=losses(), heads=HEADS)
    s = {"aff": 0.7, "sdt": -1.2}
    with torch.no_grad():
        for name, value in s.items():
            loss.log_variance[name].fill_(value)
    total, parts = loss(*tensors(arrays))
    assert float(total) == pytest.approx(
        sum(math.exp(-s[name]) * each[name] + s[name] for name in s), rel=1e-5
    )
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(
        {**each, "aff_log_variance": 0.7, "sdt_log_variance": -1.2}, rel=1e-5
    )
    total.backward()
    for name, value in s.items():
        slope = 1 - math.exp(-value) * each[name]
        assert float(loss.log_variance[name].grad) == pytest.approx(slope, rel=1e-4)


def test_learned_weights_come_to_rest_where_each_head_counts_one():
    loss = PerHead(losses=losses(), heads=HEADS)
    arrays = tensors(batch(2))
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        total, parts = loss(*arrays)
        total.backward()
        optimizer.step()
    for name, s in loss.log_variance.items():
        assert float(s) == pytest.approx(math.log(parts[name]), abs=1e-3)


def test_a_head_without_anything_known_does_not_count():
    logits, target, mask = batch(3)
    mask[:, 3] = False
    loss = PerHead(losses=losses(), heads=HEADS)
    with torch.no_grad():
        loss.log_variance["sdt"].fill_(2.0)
    total, parts = loss(*tensors((logits, target, mask)))
    assert float(total) == pytest.approx(wanted((logits, target, mask))["aff"], rel=1e-5)
    assert float(parts["sdt"]) == 0
    total.backward()
    assert float(loss.log_variance["sdt"].grad) == 0


def test_a_head_may_have_a_sum_of_losses():
    arrays = batch(4)
    both = WeightedSum(
        losses={"bce": WeightedBCEWithLogits(), "dice": Dice()}, weights={"bce": 2.0, "dice": 0.5}
    )
    loss = PerHead(losses=losses() | {"aff": both}, weighting="sum", heads=HEADS)
    total, parts = loss(*tensors(arrays))
    affinities = own(arrays, 0, 3)
    bce, overlap = mean_bce(*affinities, cap=None), dice(*affinities, smooth=1e-5, batch=False)
    expected = {"aff": 2 * bce + overlap / 2, "sdt": wanted(arrays)["sdt"]}
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(
        {**expected, "aff_bce": bce, "aff_dice": overlap}, rel=1e-4
    )
    assert float(total) == pytest.approx(sum(expected.values()), rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heads": None}, "no two heads"),
        ({"heads": {"aff": (0, 4)}, "losses": {"aff": Dice()}}, "no two heads"),
        ({"losses": {"afff": Dice()}}, "name 'afff' in loss.losses; did you mean 'aff'"),
        ({"losses": {"aff": Dice()}}, "loss.losses has no entry for 'sdt'"),
        ({"weights": {"aff": 1, "sdt": 1}}, "loss.weights must be null"),
        ({"weighting": "sum", "weights": {"aff": 1, "std": 1}}, "did you mean 'sdt'"),
        ({"weighting": "sum", "weights": {"aff": 1}}, "loss.weights has no entry .* 'sdt'"),
        ({"weighting": "sum", "weights": {"aff": 1, "sdt": -1}}, "PerHead: weights.sdt=-1"),
    ],
)
def test_impossible_settings_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        PerHead(**{"losses": losses(), "heads": HEADS} | changed)


def test_head_called_as_a_method_of_modules_is_refused():
    with pytest.raises(UserError, match="PyTorch uses the name 'type'"):
        PerHead(losses={"type": SmoothL1(), "b": SmoothL1()}, heads={"type": (0, 1), "b": (1, 2)})
