"""Losses of other libraries: called so that what is not known does not count, or refused."""

import pytest
import torch
from monai.losses import (
    DiceCELoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    MaskedDiceLoss,
    SSIMLoss,
    TverskyLoss,
)
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.losses.bce import WeightedBCEWithLogits
from emseg.losses.loss_arguments import ask_loss
from emseg.losses.mse import MSE
from emseg.losses.weighted_sum import WeightedSum
from emseg.training.supervised import parts_of_fit

SHAPE = (2, 3, 4, 5, 6)


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits, target, mask = (torch.randn(SHAPE, generator=random) for _ in range(3))
    return logits, (target > 0).float(), mask > 0


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(nn.MSELoss(), MSE()), (nn.BCEWithLogitsLoss(), WeightedBCEWithLogits())],
)
def test_their_mean_is_over_what_is_known(theirs: nn.Module, ours: nn.Module) -> None:
    given = drawn()
    torch.testing.assert_close(ask_loss(theirs, *given, None)[0], ours(*given))
    assert theirs.reduction == "mean"


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.HuberLoss(reduction="none"), FocalLoss()])
def test_what_is_not_known_changes_nothing(loss: nn.Module) -> None:
    logits, target, mask = drawn()
    before, _ = ask_loss(loss, logits, target, mask, None)
    elsewhere = torch.where(mask, target, 1 - target)
    assert ask_loss(loss, logits, elsewhere, mask, None)[0] == before
    assert ask_loss(loss, logits, elsewhere, ~mask, None)[0] != before


@pytest.mark.parametrize(
    "loss",
    [
        DiceLoss(sigmoid=True),
        DiceLoss(sigmoid=True, batch=True, squared_pred=True),
        TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7),
        GeneralizedDiceLoss(sigmoid=True),
        nn.BCEWithLogitsLoss(reduction="sum"),
    ],
)
def test_overlaps_are_those_of_the_known_part(loss: nn.Module) -> None:
    logits, target, _ = drawn()
    logits.requires_grad_()
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[..., :4] = True
    found, _ = ask_loss(loss, logits, target, mask, None)
    wanted = loss(logits[..., :4], target[..., :4])
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(one, logits)[0] for one in (found, wanted)]
    torch.testing.assert_close(*gradients)
    assert parts_of_fit(loss, 3) == []


@pytest.mark.parametrize("loss", [DiceCELoss(sigmoid=True), DiceLoss(softmax=True), SSIMLoss(3)])
def test_a_mask_of_ones_needs_no_loss_that_takes_it(loss: nn.Module) -> None:
    logits, target = torch.rand(2, 1, 3, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    found, _ = ask_loss(loss, logits, target, torch.ones_like(target, dtype=torch.bool), None)
    assert found == loss(logits, target)
    assert parts_of_fit(loss, 3, all_known=True) == []
    for refused, channels in ((loss, 3), (nn.CrossEntropyLoss(), 1)):
        with pytest.raises(UserError, match="takes no argument 'mask'"):
            parts_of_fit(refused, channels)


def test_losses_in_a_sum_may_be_theirs() -> None:
    weights = {"mse": 2.0, "bce": 1.0}
    loss = WeightedSum(
        losses={"mse": nn.MSELoss(), "bce": WeightedBCEWithLogits()}, weights=weights
    )
    given = drawn()
    total, parts = loss(*given)
    torch.testing.assert_close(total, 2 * MSE()(*given) + WeightedBCEWithLogits()(*given))
    assert parts_of_fit(loss, 3) == ["mse", "bce"]


def by_name(logits: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    return ((logits - target).square() * mask).sum() / mask.sum()


def test_a_loss_of_ones_own_is_given_the_mask_by_its_name() -> None:
    given = drawn()
    with pytest.raises(UserError, match="by_name fails .* multiple values"):
        parts_of_fit(by_name, 3)
    torch.testing.assert_close(
        ask_loss(lambda a, b, mask: MSE()(a, b, mask), *given, None)[0], MSE()(*given)
    )


def without_gradient(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return target.mean()


def of_three(logits: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return logits.mean(), target.mean(), mask.float().mean()


@pytest.mark.parametrize(
    ("loss", "parts"),
    [
        (DiceLoss(), ["DiceLoss takes no argument 'mask'", "loss=dice"]),
        (nn.MSELoss(reduction="sum"), ["MSELoss takes no argument 'mask'"]),
        (nn.CrossEntropyLoss(), ["CrossEntropyLoss takes no argument 'mask'"]),
        (nn.BCELoss(), ["BCELoss fails", "between 0 and 1"]),
        (nn.TripletMarginLoss(), ["TripletMarginLoss fails", "'negative'"]),
        (MaskedDiceLoss(sigmoid=True), ["MaskedDiceLoss fails on logits of [1, 3,", "one channel"]),
        (WeightedSum(losses={"a": DiceLoss()}, weights={"a": 1.0}), ["DiceLoss takes no"]),
        (without_gradient, ["without_gradient fails", "require grad"]),
        (of_three, ["of_three fails", "unpack"]),
    ],
)
def test_what_training_cannot_call_is_refused_beforehand(loss: nn.Module, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parts_of_fit(loss, 3)
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
