import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from unetr_names import TINY

from emseg.errors import UserError
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.models.masked_autoencoder import MaskedAutoencoder
from emseg.models.unetr_aniso import UNETRAniso
from emseg.models.unetr_weights import resampled_positions
from emseg.training.checkpoints import start_from
from emseg.training.masked import MaskedPretraining
from emseg.training.objective import Parts

ENCODER = ("pos_embed", "patch_embed.", "encoder_blocks.", "norm.")
# Two blocks instead of four, over the same patches.
SHORT = TINY | {"depth": 2, "volume_size": (4, 16, 16)}


def settings(shape):
    return {key: list(v) if isinstance(v, tuple) else v for key, v in shape.items()}


def payload(net, shape, **changed):
    """A file as dbMiM writes it."""
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    rest = {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3}
    config = {"model": {"architecture": "dbmim", **settings(shape)}, "train": {"lr": 1e-4}}
    more = {"global_step": 12, "best_score": 0.5, "last_eval": None}
    return {"model": state, "config": config, **rest, **more} | changed


def unetr(shape=SHORT, **changed):
    return UNETRAniso(1, 3, **shape | {"feature_size": 2} | changed)


def of_encoder(state):
    return {name: value for name, value in state.items() if name.startswith(ENCODER)}


@pytest.mark.parametrize("key", ["model", "state_dict", "model_weights", "raw"])
def test_pretraining_starts_the_encoder_and_leaves_the_rest(tmp_path, key):
    source, net = MaskedAutoencoder(1, **SHORT), unetr()
    whole = payload(source, SHORT)
    torch.save(whole | {"model": None, key: whole["model"]}, tmp_path / "a.pt")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    told = start_from(tmp_path / "a.pt", net)
    after, given = net.state_dict(), of_encoder(source.state_dict())
    assert of_encoder(after).keys() == given.keys()
    for name, value in after.items():
        assert torch.equal(value, given.get(name, before[name])), name
    assert "\n" not in told
    counts = f"{len(given)} of the model's {len(before)} tensors"
    fresh = f"{len(before) - len(given)} are fresh (encoder1.conv.0.weight, "
    assert counts in told and fresh in told
    assert "5 not taken (mask_token, decoder.0.weight, decoder.0.bias, ...)" in told


def test_all_77_tensors_of_the_published_size_are_taken():
    with torch.device("meta"):
        source, net = MaskedAutoencoder(1), UNETRAniso(1, 3, head="em")
    part = net.encoder_weights(source.state_dict(), {})
    assert len(part) == 77
    assert part.keys() <= net.state_dict().keys()


def test_own_checkpoint_of_a_pretraining_starts_the_encoder(tmp_path):
    source, net = MaskedAutoencoder(1, **TINY), unetr(TINY | {"volume_size": (8, 16, 32)})
    parts = Parts(net=source, loss=MaskedReconstruction(), make_optimizer=torch.optim.SGD)
    module = MaskedPretraining(parts)
    contents = {
        "state_dict": module.state_dict(),
        "emseg": {"config": {"model": settings(TINY)}, "global_step": 1},
    }
    torch.save(contents, tmp_path / "last.ckpt")
    start_from(tmp_path / "last.ckpt", net)
    moved = resampled_positions(source.pos_embed, (4, 4, 4), (4, 2, 4))
    torch.testing.assert_close(net.pos_embed.detach(), moved.detach())
    assert torch.equal(net.norm.weight, source.norm.weight)


def test_positions_are_interpolated_between_the_centres_of_patches():
    torch.manual_seed(0)
    old, new = (2, 3, 4), (3, 2, 8)
    positions = torch.randn(1, 24, 5)
    found = resampled_positions(positions, old, new)
    places = [(np.arange(n) + 0.5) * o / n - 0.5 for o, n in zip(old, new, strict=True)]
    where = np.meshgrid(*places, indexing="ij")
    for channel in range(5):
        values = positions[0, :, channel].reshape(old).numpy()
        wanted = map_coordinates(values, where, order=1, mode="nearest")
        np.testing.assert_allclose(found[0, :, channel], wanted.ravel(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(resampled_positions(positions, old, old), positions)


def test_whole_networks_are_taken_as_they_are(tmp_path):
    source, net, other = unetr(), unetr(), unetr(head="em")
    torch.save(payload(source, SHORT), tmp_path / "a.pt")
    assert "all " in start_from(tmp_path / "a.pt", net)
    torch.testing.assert_close(net.state_dict(), source.state_dict())
    with pytest.raises(UserError, match=r"another architecture .* missing \(head.channel_bias"):
        start_from(tmp_path / "a.pt", other)
    again = MaskedAutoencoder(1, **SHORT)
    torch.save(payload(again, SHORT), tmp_path / "b.pt")
    assert "all " in start_from(tmp_path / "b.pt", MaskedAutoencoder(1, **SHORT))


def without(*parts):
    state = MaskedAutoencoder(1, **SHORT).state_dict()
    return {name: value for name, value in state.items() if name.split(".")[0] not in parts}


def less(name):
    return {other: value for other, value in without().items() if other != name}


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        (
            {"model": without("pos_embed", "patch_embed", "encoder_blocks", "norm")},
            SHORT,
            "encoder's pos_embed, patch_embed, encoder_blocks, norm are .* of decoder, mask_token",
        ),
        ({"model": without("patch_embed")}, SHORT, "no weights of the encoder's patch_embed are"),
        ({"model": less("norm.bias")}, SHORT, "another architecture .*: 1 missing .norm.bias."),
        ({}, SHORT | {"embed_dim": 24}, "of another shape .pos_embed .1, 8, 48. for .1, 8, 24"),
        ({}, SHORT | {"num_heads": 2}, "model.num_heads is 2, the pretrained weights have 4"),
        ({}, SHORT | {"depth": 1}, "unknown .encoder_blocks.1"),
        ({"config": {}}, TINY | {"depth": 2}, "have 8 positions and do not say of which grid"),
        ({"config": {"model": settings(TINY)}}, SHORT, r"8 positions for a grid of \(4, 4, 4\)"),
        ({"config": {"model": {"volume_size": 8, "patch_size": 2}}}, SHORT, "for volumes of 8"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, changed, shape, message):
    torch.save(payload(MaskedAutoencoder(1, **SHORT), SHORT, **changed), tmp_path / "a.pt")
    net = unetr(shape)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        start_from(tmp_path / "a.pt", net)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(net.state_dict(), before)


def test_positions_without_a_grid_are_taken_where_they_are_as_many(tmp_path):
    source, net = MaskedAutoencoder(1, **SHORT), unetr()
    torch.save(source.state_dict(), tmp_path / "bare.pt")
    start_from(tmp_path / "bare.pt", net)
    assert torch.equal(net.pos_embed, source.pos_embed)
