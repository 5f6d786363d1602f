import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.losses.bce import PerChannelBCEWithLogits, WeightedBCEWithLogits
from emseg.losses.dice import Dice
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.losses.maws import MembraneWeightedMSE
from emseg.losses.mse import MSE
from emseg.losses.smooth_l1 import SmoothL1
from emseg.losses.weighted_sum import WeightedSum
from reference.losses import dice, mean_bce, per_channel_bce, smooth_l1

DICE = {"dice": Dice()}


def _arrays(seed, *, positives=0.5, valid=0.8, shape=(2, 3, 2, 3, 4)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, shape).astype(np.float32)
    return logits, rng.random(shape) < positives, rng.random(shape) < valid


def _call(loss, logits, target, mask):
    tensors = torch.from_numpy(logits), torch.from_numpy(target.astype(np.uint8))
    return float(loss(*tensors, torch.from_numpy(mask)))


fractions = st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0])


@given(seed=st.integers(0, 10_000), positives=fractions, valid=fractions, auto=st.booleans())
@settings(deadline=None, max_examples=60)
def test_bce_is_its_definition(seed, positives, valid, auto):
    arrays = _arrays(seed, positives=positives, valid=valid)
    cap = 3.0 if auto else None
    for loss, definition in (
        (PerChannelBCEWithLogits(auto_pos_weight=auto, max_pos_weight=3.0), per_channel_bce),
        (WeightedBCEWithLogits(auto_pos_weight=auto, max_pos_weight=3.0), mean_bce),
    ):
        assert _call(loss, *arrays) == pytest.approx(definition(*arrays, cap=cap), rel=1e-5)


def test_bce_weighs_channels():
    logits, target, mask = _arrays(1)
    weighted = PerChannelBCEWithLogits(channel_weights=[2.0, 0.0, 0.5])
    parts = [
        per_channel_bce(*(a[:, c : c + 1] for a in (logits, target, mask)), cap=10)
        for c in range(3)
    ]
    assert _call(weighted, logits, target, mask) == pytest.approx(2 * parts[0] + parts[2] / 2)
    with pytest.raises(UserError, match="3 entries for 2 channels"):
        _call(weighted, logits[:, :2], target[:, :2], mask[:, :2])


@given(seed=st.integers(0, 10_000), positives=fractions, valid=fractions, batch=st.booleans())
@settings(deadline=None, max_examples=60)
def test_dice_is_its_definition(seed, positives, valid, batch):
    arrays = _arrays(seed, positives=positives, valid=valid)
    wanted = dice(*arrays, smooth=1e-5, batch=batch)
    assert _call(Dice(batch=batch), *arrays) == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_dice_leaves_out_samples_without_valid_voxels():
    logits, target, mask = _arrays(2)
    mask[0] = False
    alone = _call(Dice(), logits[1:], target[1:], mask[1:])
    assert _call(Dice(), logits, target, mask) == pytest.approx(alone)


@given(seed=st.integers(0, 10_000), valid=fractions)
@settings(deadline=None, max_examples=30)
def test_errors_of_activated_values_are_their_definition(seed, valid):
    logits, _, mask = _arrays(seed, valid=valid)
    target = np.random.default_rng(seed).uniform(-1, 1, logits.shape).astype(np.float32)
    values = {"none": logits, "sigmoid": 1 / (1 + np.exp(-logits)), "tanh": np.tanh(logits)}
    tensors = [torch.from_numpy(array) for array in (logits, target, mask)]
    for activation, value in values.items():
        squares = ((value - target)[mask] ** 2).mean() if mask.any() else 0
        assert float(MSE(activation=activation)(*tensors)) == pytest.approx(squares, rel=1e-4)
        found = float(SmoothL1(activation=activation)(*tensors))
        assert found == pytest.approx(smooth_l1(value, target, mask), rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        PerChannelBCEWithLogits(),
        WeightedBCEWithLogits(auto_pos_weight=True),
        Dice(),
        MSE(),
        SmoothL1(activation="tanh"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_masked_voxels_have_no_part(loss):
    logits, target, mask = map(torch.from_numpy, _arrays(4))
    logits.requires_grad_()
    loss(logits, target, mask).backward()
    assert (logits.grad[~mask] == 0).all()
    assert (logits.grad[mask] != 0).any()
    moved = torch.where(mask, logits.detach(), 9.0)
    same = loss(moved, target ^ ~mask, mask)
    torch.testing.assert_close(same, loss(logits, target, mask).detach())
    nothing = loss(logits, target, torch.zeros_like(mask))
    assert float(nothing) == 0


def test_bfloat16_logits_are_computed_in_float32():
    logits, target, mask = map(torch.from_numpy, _arrays(5))
    coarse = logits.bfloat16()
    for loss in (
        PerChannelBCEWithLogits(),
        Dice(),
        MSE(activation="sigmoid"),
        SmoothL1(activation="tanh"),
    ):
        found = loss(coarse, target, mask)
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(float(loss(coarse.float(), target, mask)), rel=1e-6)


def test_weighted_sum_adds_and_tells_its_parts():
    arrays = _arrays(6)
    logits, target, mask = map(torch.from_numpy, arrays)
    both = WeightedSum(
        losses={"bce": WeightedBCEWithLogits(), "dice": Dice()}, weights={"bce": 2.0, "dice": 0.5}
    )
    total, parts = both(logits, target, mask)
    assert float(parts["bce"]) == pytest.approx(mean_bce(*arrays, cap=None))
    assert float(parts["dice"]) == pytest.approx(dice(*arrays, smooth=1e-5, batch=False))
    assert float(total) == pytest.approx(2 * float(parts["bce"]) + 0.5 * float(parts["dice"]))


@pytest.mark.parametrize(
    ("kind", "settings_", "message"),
    [
        (WeightedSum, {"losses": {}, "weights": {}}, "losses={} must be 1 or more values"),
        (WeightedSum, {"losses": DICE, "weights": {}}, "loss.weights has no entry for 'dice'"),
        (WeightedSum, {"losses": DICE, "weights": {"dcie": 1}}, "did you mean 'dice'"),
        (WeightedSum, {"losses": DICE, "weights": {"dice": -1}}, "weights.dice=-1"),
        (PerChannelBCEWithLogits, {"max_pos_weight": 0}, "max_pos_weight=0 must be above 0"),
        (PerChannelBCEWithLogits, {"channel_weights": [-1]}, r"channel_weights\[0\]=-1"),
        (WeightedBCEWithLogits, {"max_pos_weight": 0}, "max_pos_weight=0 must be above 0"),
        (Dice, {"smooth": 0}, "smooth=0 must be above 0"),
        (MSE, {"activation": "tan"}, "unknown activation 'tan' .* did you mean 'tanh'"),
        (MembraneWeightedMSE, {"membrane_weight": -1}, "membrane_weight=-1"),
        (MembraneWeightedMSE, {"axis_weights": (0, 0, 0)}, "axis_weights=.* must be not all 0"),
        (MembraneWeightedMSE, {"clip": 0}, "clip=0"),
        (MembraneWeightedMSE, {"channel_weights": []}, "channel_weights=.* 1 or more values"),
        (MaskedReconstruction, {"membrane_weight": -1}, "membrane_weight=-1"),
        (MaskedReconstruction, {"axis_weights": (1, -1, 0)}, r"axis_weights\[1\]=-1"),
        (MaskedReconstruction, {"clip": -1}, "clip=-1"),
        (MaskedReconstruction, {"structure_weight": -0.1}, "structure_weight=-0.1"),
    ],
)
def test_impossible_settings_are_refused(kind, settings_, message):
    with pytest.raises(UserError, match=message):
        kind(**settings_)
