import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.losses.loss_arguments import ask_loss
from emseg.losses.masked_reconstruction import STRUCTURE_AXES, MaskedReconstruction
from emseg.losses.maws import MembraneWeightedMSE
from emseg.losses.membrane import membrane_edges, patch_means
from emseg.losses.mse import MSE
from emseg.losses.per_head import PerHead
from emseg.losses.weighted_sum import WeightedSum
from reference import membrane as reference

AXES = (0.25, 1.0, 1.0)
SHAPE = (2, 3, 2, 4, 6)
fractions = st.sampled_from([0.0, 0.05, 0.5, 1.0])


def arrays(seed, *, valid=0.8, channels=1):
    rng = np.random.default_rng(seed)
    image = rng.random((SHAPE[0], channels, *SHAPE[2:]), dtype=np.float32) ** 4
    logits = rng.normal(0, 4, SHAPE).astype(np.float32)
    target = (rng.random(SHAPE) < 0.5).astype(np.uint8)
    return logits, target, rng.random(SHAPE) < valid, image


def tensors(given):
    return [torch.from_numpy(array) for array in given]


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 2), clip=st.sampled_from([1.5, 4.0]))
@settings(deadline=None, max_examples=20)
def test_edges_are_their_definition(seed, channels, clip):
    image = arrays(seed, channels=channels)[3]
    found = membrane_edges(torch.from_numpy(image), axis_weights=AXES, clip=clip)
    wanted = reference.membrane_edges(image, AXES, clip)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5, atol=1e-6)
    assert found.dtype == torch.float32


def test_an_even_image_has_no_edges():
    assert not membrane_edges(torch.full((1, 1, 2, 3, 4), 0.7), axis_weights=AXES, clip=4).any()


@given(seed=st.integers(0, 10_000), valid=fractions)
@settings(deadline=None, max_examples=30)
def test_maws_is_its_definition(seed, valid):
    given_ = arrays(seed, valid=valid)
    loss = MembraneWeightedMSE(channel_weights=[1.35, 1, 1])
    wanted = reference.maws(
        *given_, weight=0.75, axis_weights=AXES, clip=4.0, channel_weights=(1.35, 1, 1)
    )
    assert float(loss(*tensors(given_))) == pytest.approx(wanted, rel=1e-5)


@given(seed=st.integers(0, 10_000), valid=st.sampled_from([0.05, 0.5, 1.0]))
@settings(deadline=None, max_examples=20)
def test_voxels_weigh_one_on_average_where_they_are_valid(seed, valid):
    _, _, mask, image = tensors(arrays(seed, valid=valid))
    weight = MembraneWeightedMSE().voxel_weights(mask, image)
    assert not weight[~mask].any()
    assert mask.any() and float(weight[mask].mean()) == pytest.approx(1, abs=1e-5)
    assert float(weight[mask].max()) > 1.0 or valid < 0.1


def test_without_a_membrane_weight_maws_is_the_mean_squared_error():
    logits, target, mask, image = tensors(arrays(3))
    plain = MSE(activation="sigmoid")(logits, target, mask)
    found = MembraneWeightedMSE(membrane_weight=0.0)(logits, target, mask, image)
    torch.testing.assert_close(found, plain)


def test_masked_voxels_have_no_part_but_in_the_edges():
    logits, target, mask, image = tensors(arrays(4))
    logits.requires_grad_()
    loss = MembraneWeightedMSE()
    loss(logits, target, mask, image).backward()
    assert (logits.grad[~mask] == 0).all() and (logits.grad[mask] != 0).any()
    assert not loss(logits, target, torch.zeros_like(mask), image).any()
    with pytest.raises(UserError, match="2 entries for 3 channels"):
        MembraneWeightedMSE(channel_weights=[1, 1])(logits, target, mask, image)


def test_the_image_is_for_losses_that_ask():
    logits, target, mask, image = given_ = tensors(arrays(5))
    maws, mse = MembraneWeightedMSE(), MSE(activation="sigmoid")
    weighted, plain = maws(*given_), mse(logits, target, mask)
    assert abs(float(weighted - plain)) > 1e-4
    assert ask_loss(mse, *given_) == (plain, {})
    assert ask_loss(maws, *given_) == (weighted, {})
    both = WeightedSum(losses={"maws": maws, "mse": mse}, weights={"maws": 2.0, "mse": 0.0})
    total, parts = ask_loss(both, *given_)
    torch.testing.assert_close(total, 2 * weighted)
    assert parts == {"maws": weighted, "mse": plain}
    heads = {"near": (0, 1), "far": (1, 3)}
    each = PerHead(losses={"near": mse, "far": maws}, weighting="sum", heads=heads)
    _, parts = ask_loss(each, *given_)
    torch.testing.assert_close(parts["far"], maws(logits[:, 1:], target[:, 1:], mask[:, 1:], image))


def reconstruction(seed, shape=(2, 2, 4, 6, 4), grid=(2, 3, 2), hidden=0.5):
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32) ** 4
    prediction = rng.random(shape, dtype=np.float32)
    return prediction, image, rng.random((shape[0], *grid)) < hidden


@given(seed=st.integers(0, 10_000), hidden=fractions)
@settings(deadline=None, max_examples=20)
def test_reconstruction_is_its_definition(seed, hidden):
    given_ = reconstruction(seed, hidden=hidden)
    total, parts = MaskedReconstruction()(*tensors(given_))
    pixel = reference.masked_pixels(*given_, weight=1.35, axis_weights=AXES, clip=5.0)
    structure = reference.structure(*given_[:2], STRUCTURE_AXES)
    assert float(parts["pixel"]) == pytest.approx(pixel, rel=1e-4)
    assert float(parts["structure"]) == pytest.approx(structure, rel=1e-4)
    assert float(total) == pytest.approx(pixel + 0.2 * structure, rel=1e-4)


def test_plain_autoencoder_has_the_mean_of_hidden_voxels_alone():
    prediction, image, hidden = reconstruction(1)
    plain = MaskedReconstruction(membrane_weight=0, structure_weight=0)
    total, parts = plain(*tensors((prediction, image, hidden)))
    assert parts == {"pixel": total}
    voxels = hidden.repeat(2, 1).repeat(2, 2).repeat(2, 3)
    errors = ((prediction - image) ** 2).mean(1)
    wanted = np.mean([errors[b][voxels[b]].mean() for b in range(2)])
    assert float(total) == pytest.approx(wanted, rel=1e-5)


def test_visible_patches_weigh_in_the_structure_alone():
    prediction, image, hidden = tensors(reconstruction(2))
    visible = ~hidden[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(
        2, 4
    )
    for weight, seen in ((0.0, False), (0.2, True)):
        guess = prediction.clone().requires_grad_()
        MaskedReconstruction(structure_weight=weight)(guess, image, hidden)[0].backward()
        assert bool(guess.grad[visible.expand_as(guess)].any()) is seen


def test_half_precision_is_computed_in_float32():
    logits, *others = tensors(arrays(6))
    prediction, *rest = tensors(reconstruction(3))
    for loss, coarse, given_ in (
        (MembraneWeightedMSE(), logits.bfloat16(), others),
        (lambda *x: MaskedReconstruction()(*x)[0], prediction.bfloat16(), rest),
    ):
        wanted = loss(coarse.float(), *given_)
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(coarse, *given_)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(UserError, match="no grid of .2, 3, 2."):
        patch_means(torch.zeros(1, 1, 4, 6, 5), (2, 3, 2))
