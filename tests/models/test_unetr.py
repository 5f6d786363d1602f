import pytest
import torch
import unetr_names as names
from unetr_names import TINY

from emseg.errors import UserError
from emseg.models.masked_autoencoder import MaskedAutoencoder
from emseg.models.stride import check_input
from emseg.models.unetr_aniso import UNETRAniso
from reference.unetr import guessed_patches, unetr

PUBLISHED = [
    (lambda: MaskedAutoencoder(1), [names.pretraining], 82, 3_254_848),
    (lambda: UNETRAniso(1, 3), [names.unetr, names.plain_head], 192, 18_071_715),
    (lambda: UNETRAniso(1, 3, head="em"), [names.unetr, names.em_head], 214, 18_108_969),
]
# Patches of 8 are interpolated on the way, those of 16 are not; cubes need no `dtrans`.
SHAPES = [
    TINY | {"volume_size": (4, 16, 16)},
    TINY | {"volume_size": (8, 16, 32), "patch_size": (4, 16, 16)},
    TINY | {"volume_size": (16, 8, 16), "patch_size": (8, 8, 8)},
]


@pytest.mark.parametrize(("make", "parts", "tensors", "parameters"), PUBLISHED)
def test_names_shapes_and_parameters_are_the_published_ones(make, parts, tensors, parameters):
    with torch.device("meta"):
        net = make()
    wanted = {name: shape for part in parts for name, shape in part()}
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == wanted
    assert len(wanted) == tensors
    assert sum(p.numel() for p in net.parameters()) == parameters
    encoder = dict(names.encoder())
    assert len(encoder) == 77
    kept = [p.numel() for name, p in net.named_parameters() if name in encoder]
    assert sum(kept) == 3_019_968


def test_published_sizes_fit_together():
    levels = {}
    with torch.device("meta"):
        net = UNETRAniso(1, 3, head="em")
        for name in ("encoder1", "encoder2", "encoder3", "encoder4", "dtrans"):
            net.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: levels.update({name: tuple(output.shape[1:])})
            )
        image = torch.zeros(2, 1, 32, 160, 160)
        assert net(image).shape == (2, 3, 32, 160, 160)
        hidden = torch.zeros(2, 8, 10, 10, dtype=torch.bool)
        assert MaskedAutoencoder(1)(image, hidden).shape == image.shape
    assert levels == {
        "encoder1": (32, 32, 160, 160),
        "encoder2": (64, 64, 80, 80),
        "encoder3": (128, 32, 40, 40),
        "encoder4": (256, 16, 20, 20),
        "dtrans": (64, 16, 80, 80),
    }


def scattered(net):
    """The network in eval mode, its weights such that every one of them matters."""
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net.double().eval()


@pytest.mark.parametrize("head", ["plain", "em"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape["patch_size"]))
def test_unetr_is_the_reference(shape, head):
    net = scattered(UNETRAniso(1, 3, **shape, feature_size=2, head=head))
    image = torch.rand(1, 1, *shape["volume_size"], dtype=torch.float64)
    wanted = unetr(
        image,
        net.state_dict(),
        heads=4,
        skips=(1, 2, 3),
        squeeze=shape["patch_size"][1] // shape["patch_size"][0],
    )
    with torch.no_grad():
        torch.testing.assert_close(net(image), wanted, rtol=1e-8, atol=1e-8)
        last = net.to(memory_format=torch.channels_last_3d)
        found = last(image.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def test_skips_of_six_blocks_are_the_published_ones():
    with torch.device("meta"):
        assert UNETRAniso(1, 3).skips == (1, 3, 4)


def test_autoencoder_guesses_each_patch_at_its_place():
    net = scattered(MaskedAutoencoder(2, **TINY, decoder_dim=24))
    image = torch.rand(2, 2, 8, 32, 32, dtype=torch.float64)
    hidden = torch.rand(2, 4, 4, 4) < 0.6
    patches = guessed_patches(image, hidden.flatten(1), net.state_dict(), heads=4)
    with torch.no_grad():
        found = net(image, hidden)
    assert found.shape == image.shape
    for token, (z, y, x) in enumerate(torch.cartesian_prod(*[torch.arange(4)] * 3).tolist()):
        place = found[:, :, 2 * z : 2 * z + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        torch.testing.assert_close(place.flatten(1), patches[:, token], rtol=1e-8, atol=1e-8)


def test_what_is_hidden_is_not_seen():
    net = MaskedAutoencoder(1, **TINY).eval()
    image, hidden = torch.rand(1, 1, 8, 32, 32), torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    hidden[0, 1, 2, 3] = True
    other = image.clone()
    other[0, 0, 2:4, 16:24, 24:] = 0
    with torch.no_grad():
        torch.testing.assert_close(net(image, hidden), net(other, hidden))
        assert not torch.allclose(net(image, ~hidden), net(other, ~hidden))


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNETRAniso(1, 3, **SHAPES[0], feature_size=4),
        lambda: UNETRAniso(1, 3, **SHAPES[0], feature_size=4, head="em"),
        lambda: UNETRAniso(1, 3, **SHAPES[2], feature_size=4),
        lambda: MaskedAutoencoder(1, **TINY),
    ],
)
def test_every_parameter_has_a_gradient(make):
    # One without would stop training on several devices.
    net = make()
    hidden = [torch.ones(1, *net.grid, dtype=torch.bool)]
    given = hidden if isinstance(net, MaskedAutoencoder) else []
    net(torch.rand(1, 1, *net.volume_size), *given).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    still = [name for name, p in net.named_parameters() if not p.grad.any()]
    unseen = ["patch_embed.proj.weight", "patch_embed.proj.bias"] if given else []
    assert still == unseen


def test_first_weights_are_as_published():
    torch.manual_seed(0)
    net = MaskedAutoencoder(1, **TINY)
    for name in ("pos_embed", "mask_token", "encoder_blocks.1.attn.out_proj.weight"):
        assert float(net.state_dict()[name].std()) == pytest.approx(0.02, rel=0.35), name
    assert not net.encoder_blocks[0].mlp[0].bias.any()
    # Xavier's, whose range tells it from the others.
    assert float(net.encoder_blocks[0].attn.in_proj_weight.detach().max()) > 0.1
    head = UNETRAniso(1, 3, **TINY, feature_size=2, head="em").head
    assert head.channel_bias.flatten().tolist() == pytest.approx([-0.2, 0, 0])
    assert head.channel_scale.flatten().tolist() == [1, 1, 1]


def test_images_of_another_size_are_refused():
    net = UNETRAniso(1, 3, **TINY, feature_size=2)
    check_input((8, 32, 32), net)
    with pytest.raises(UserError, match=r"size \[16, 32, 32\] must be model.volume_size \[8, 32"):
        check_input((16, 32, 32), net, key="inference.window.window_size")
    with pytest.raises(UserError, match=r"volume_size \[8, 32, 32\] alone, not \[8, 32, 64\]"):
        net(torch.zeros(1, 1, 8, 32, 64))
    with pytest.raises(UserError, match=r"mask has the shape \[1, 64\]"):
        MaskedAutoencoder(1, **TINY)(torch.zeros(1, 1, 8, 32, 32), torch.ones(1, 64).bool())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"volume_size": (8, 32)}, "volume_size=.8, 32. must be 3 values"),
        ({"patch_size": (2, 0, 8)}, "patch_size.1.=0 must be 1 or more"),
        ({"volume_size": (8, 32, 36)}, r"must be a multiple of model.patch_size \[2, 8, 8\]"),
        ({"patch_size": (2, 8, 16)}, "as long along y as along x"),
        ({"volume_size": (9, 32, 32), "patch_size": (3, 8, 8)}, "whole number of times"),
        ({"num_heads": 5}, "model.embed_dim is 48; .* model.num_heads 5"),
        ({"depth": 0}, "depth=0"),
        ({"dropout": 1.0}, "dropout=1.0 must be 0 or more, below 1"),
        ({"feature_size": 0}, "feature_size=0"),
        ({"head": "em", "out_channels": 12}, "the target has 12 channels"),
    ],
)
def test_impossible_settings_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        UNETRAniso(**{"in_channels": 1, "out_channels": 3} | TINY | changed)
