import pytest
import torch

from emseg.errors import UserError
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.models.rsunet import RSUNet
from emseg.models.rsunet_superhuman import SuperhumanUNet
from emseg.training.checkpoints import start_from

ENCODER = ("embed_in.", "conv0.", "conv1.", "center.")
WIDTH = (2, 3, 4)


def unet(out_channels=3, merge="concat", width=WIDTH):
    """A network whose statistics have left their first values."""
    net = SuperhumanUNet(1, out_channels, width=width, merge=merge)
    with torch.no_grad():
        for name, value in net.named_buffers():
            value.add_(3 if name.endswith("tracked") else torch.rand(value.shape))
    return net


def payload(net, prefix="", **changed):
    """A file as SSNS-Net writes it."""
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    return {"current_iter": 7, "valid_result": 0.5, "model_weights": state} | changed


def own_checkpoint(net, merge):
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    return {"state_dict": state, "emseg": {"config": {"model": {"merge": merge}}}}


def started(tmp_path, contents, net):
    torch.save(contents, tmp_path / "a.ckpt")
    return start_from(tmp_path / "a.ckpt", net)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("merge", ["concat", "add", "none"])
def test_whole_networks_are_taken_as_they_are(tmp_path, prefix, merge):
    source, net = unet(merge=merge), unet(merge=merge)
    told = started(tmp_path, payload(source, prefix), net)
    assert f"all {len(net.state_dict())} tensors are those of" in told
    torch.testing.assert_close(net.state_dict(), source.state_dict())


@pytest.mark.parametrize("merge", ["concat", "add"])
@pytest.mark.parametrize("kind", ["theirs", "parallel", "ours", "encoder"])
def test_a_pretraining_starts_the_encoder_with_its_statistics(tmp_path, kind, merge):
    source, net = unet(1, "none"), unet(merge=merge)
    given = {k: v for k, v in source.state_dict().items() if k.startswith(ENCODER)}
    contents = {
        "theirs": payload(source),
        "parallel": payload(source, "module."),
        "ours": own_checkpoint(source, "none"),
        "encoder": given,
    }[kind]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    told = started(tmp_path, contents, net)
    for name, value in net.state_dict().items():
        assert torch.equal(value, given.get(name, before[name])), name
    assert "\n" not in told
    assert f"{len(given)} of the model's {len(before)} tensors are those of" in told
    assert f"{len(before) - len(given)} are fresh (up0.0.weight, " in told
    left = 0 if kind == "encoder" else len(source.state_dict()) - len(given)
    assert f"{left} not taken" in told
    assert sum("running_mean" in name for name in given) == 9


def test_sums_that_make_one_channel_are_told_from_a_pretraining_by_what_the_file_says(tmp_path):
    source, net = unet(1, "add"), unet(1, "add")
    assert "all " in started(tmp_path, own_checkpoint(source, "add"), net)
    torch.testing.assert_close(net.state_dict(), source.state_dict())


def less(*parts):
    state = unet(1, "none").state_dict()
    return {name: v for name, v in state.items() if name.partition(".")[0] not in parts}


@pytest.mark.parametrize(
    ("contents", "net", "message"),
    [
        (payload(unet(1)), unet(3), "another shape .out_put.0.weight .1, 2, 1, 1, 1. for .3, 2"),
        (payload(unet(3)), unet(3, "add"), "another architecture .* of another shape .cat0.0.we"),
        (payload(unet(3, "add")), unet(3), "another architecture .* of another shape .cat0.0.we"),
        (payload(unet(1)), unet(1, "none"), "another architecture .* of another shape"),
        (payload(unet(1, "none", (2, 4, 4))), unet(), "of another shape .conv1.block1.0.weight"),
        (payload(unet(1, "none", (2, 3))), unet(), "have 2 levels, model.width has 3"),
        ({"model_weights": less("center")}, unet(), "no weights of the encoder's center are"),
        (RSUNet(1, 3, width=(2, 2), down_factors=[[1, 2, 2]]).state_dict(), unet(), "architecture"),
        (payload(unet(), model_weights={}), unet(), "holds no weights"),
        (payload(unet(), valid_result=MaskedReconstruction()), unet(), "is refused: .*tensors"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, contents, net, message):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        started(tmp_path, contents, net)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
