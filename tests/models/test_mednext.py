import pytest
import torch
from monai.networks.nets import MedNeXtSmall

from emseg.errors import UserError
from emseg.models.mednext import MedNeXt
from emseg.models.mednext_weights import renamed
from emseg.training.checkpoints import start_from

# Parameters of one input channel and six output channels, with the official dummy.
PUBLISHED = {
    ("S", 3): 5_551_047,
    ("S", 5): 5_980_679,
    ("B", 3): 10_526_439,
    ("B", 5): 10_956_071,
    ("M", 3): 17_549_095,
    ("M", 5): 18_260_967,
    ("L", 3): 61_779_399,
    ("L", 5): 62_993_031,
}


@pytest.mark.parametrize(("size", "kernel"), PUBLISHED)
def test_parameters_are_the_published_ones_less_the_dummy(size, kernel) -> None:
    with torch.device("meta"):
        net = MedNeXt(1, 6, size=size, kernel=kernel)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[size, kernel] - 1


def test_small_one_computes_what_monai_computes() -> None:
    torch.manual_seed(0)
    theirs = MedNeXtSmall(spatial_dims=3, in_channels=2, out_channels=3).eval()
    ours = MedNeXt(2, 3).eval()
    state = {f"model._orig_mod.{k}": v for k, v in theirs.state_dict().items()}
    ours.load_state_dict(ours.adopted(state))
    image = torch.randn(2, 2, 16, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-6, atol=1e-6)


def official_names(net: MedNeXt) -> dict[str, torch.Tensor]:
    """Its weights as the official implementation names them, dummy included."""
    names = {"encoder": "enc_block_", "down": "down_", "up": "up_", "decoder": "dec_block_"}
    found = {"dummy_tensor": torch.ones(1)}
    for name, value in net.state_dict().items():
        part, _, rest = name.replace("inner.grn.", "grn_").replace("inner.", "").partition(".")
        if part in names:
            found[f"{names[part]}{rest}"] = value
        elif part == "out":
            level, _, last = rest.partition(".")
            found[f"out_{level}.conv_out.{last}"] = value
        else:
            found[f"{part}.{rest}"] = value
    return found


def test_official_names_are_ours() -> None:
    net = MedNeXt(1, 2, width=4, grn=True, deep_supervision=True)
    back = renamed(official_names(net))
    assert back.keys() == net.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in net.state_dict().items())


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match="'head.weight' is no weight of a MedNeXt"):
        renamed({"head.weight": torch.zeros(1)})


def test_kernels_grow_and_nothing_else() -> None:
    small, large = MedNeXt(1, 2, width=4), MedNeXt(1, 2, width=4, kernel=5)
    large.load_state_dict(large.adopted(small.state_dict()))
    kernel = small.encoder[0][0].conv1.weight
    grown = large.encoder[0][0].conv1.weight
    assert grown.shape[2:] == (5, 5, 5)
    torch.testing.assert_close(grown[..., 2, 2, 2], kernel[..., 1, 1, 1])
    assert torch.equal(
        large.bottleneck[1].inner.conv2.weight, small.bottleneck[1].inner.conv2.weight
    )
    same = small.adopted(small.state_dict())
    assert all(torch.equal(same[name], value) for name, value in small.state_dict().items())


@pytest.mark.parametrize("wrapped", [True, False])
def test_file_of_official_weights_is_taken_into_a_new_run(tmp_path, wrapped) -> None:
    net = MedNeXt(1, 2, width=4)
    official = official_names(net)
    torch.save({"state_dict": official} if wrapped else official, tmp_path / "a.pt")
    fresh = MedNeXt(1, 2, width=4)
    assert "all " in start_from(tmp_path / "a.pt", fresh)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True))
    other = MedNeXt(1, 2, width=4, size="B")
    with pytest.raises(UserError, match="of another architecture"):
        start_from(tmp_path / "a.pt", other)


def test_checkpointing_changes_neither_loss_nor_gradient() -> None:
    torch.manual_seed(1)
    plain = MedNeXt(1, 2, width=4)
    saving = MedNeXt(1, 2, width=4, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 16, 16, 16)
    for net in (plain, saving):
        net(image).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad)


def test_deep_supervision_is_for_training_finest_first() -> None:
    net = MedNeXt(1, 2, width=4, deep_supervision=True)
    image = torch.randn(1, 1, 32, 16, 16)
    shapes = [tuple(output.shape[2:]) for output in net(image)]
    assert shapes == [(32 >> n, 16 >> n, 16 >> n) for n in range(5)]
    assert net.eval()(image).shape == (1, 2, 32, 16, 16)


def test_response_norm_begins_as_the_identity() -> None:
    torch.manual_seed(2)
    net = MedNeXt(1, 2, width=4, grn=True)
    bare = MedNeXt(1, 2, width=4)
    weights = {k: v for k, v in net.state_dict().items() if ".grn." not in k}
    bare.load_state_dict(weights)
    assert not any("down.0" in name and "grn" in name for name in net.state_dict())
    image = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(net.eval()(image), bare.eval()(image))


def test_separate_heads_have_their_channels_and_weights_to_themselves() -> None:
    torch.manual_seed(0)
    heads = {"aff": (0, 2), "sdt": (2, 5)}
    net = MedNeXt(1, 5, width=4, heads=heads, separate_heads=True)
    image = torch.randn(1, 1, 32, 32, 32)
    logits = net(image)
    assert logits.shape == (1, 5, 32, 32, 32)
    # What a head's channels depend on: its own weights, and all that comes before the heads.
    for name, (first, stop) in heads.items():
        net.zero_grad()
        net(image)[:, first:stop].square().sum().backward()
        touched = {key for key, value in net.named_parameters() if value.grad.any()}
        assert {key.split(".")[2] for key in touched if key.startswith("out.0.")} == {name}
        assert {"stem.weight", "decoder.0.1.conv1.weight"} <= touched
    assert net.state_dict()["out.0.aff.0.weight"].shape[:2] == (2, 4)
    joint = MedNeXt(1, 5, width=4, heads=heads).state_dict()
    assert joint.keys() == MedNeXt(1, 5, width=4).state_dict().keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a target of two heads or more"),
        ({"heads": {"a": (0, 1), "b": (1, 2)}, "deep_supervision": True}, "deep_supervision"),
    ],
)
def test_heads_that_cannot_be_apart_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MedNeXt(1, 2, width=2, separate_heads=True, **settings)
