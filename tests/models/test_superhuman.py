import math

import pytest
import superhuman_names as names
import torch

from emseg.errors import UserError
from emseg.models.rsunet_superhuman import SuperhumanUNet
from emseg.models.stride import check_input
from reference.superhuman import superhuman


@pytest.mark.parametrize(
    ("merge", "out_channels", "seen", "published"),
    [("concat", 3, 2, 1_555_471), ("none", 1, 1, 1_478_741), ("add", 3, 1, 1_478_741 + 2 * 29)],
)
def test_names_shapes_and_parameters_are_the_published_ones(merge, out_channels, seen, published):
    with torch.device("meta"):
        net = SuperhumanUNet(1, out_channels, merge=merge)
    wanted = dict(names.encoder()) | dict(names.decoder(out_channels, seen=seen))
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == wanted
    assert sum(p.numel() for p in net.parameters()) == published
    kept = [p.numel() for name, p in net.named_parameters() if name in dict(names.encoder())]
    assert sum(kept) == 911_192
    assert net.stride == (1, 16, 16)
    check_input((18, 160, 160), net)


def scattered(merge, width=(2, 3, 4), channels=(1, 3)):
    """A network in eval mode, such that every one of its tensors matters."""
    torch.manual_seed(0)
    net = SuperhumanUNet(*channels, width=width, merge=merge).double().eval()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            torch.nn.init.normal_(value, std=0.3)
        if name.endswith("running_var"):
            value.abs_().add_(0.2)
    return net


@pytest.mark.parametrize("merge", ["concat", "add", "none"])
def test_forward_is_the_reference(merge):
    net = scattered(merge, channels=(2, 3))
    image = torch.rand(2, 2, 3, 8, 12, dtype=torch.float64)
    wanted = superhuman(image, net.state_dict(), levels=2, merge=merge)
    with torch.no_grad():
        torch.testing.assert_close(net(image), wanted, rtol=1e-9, atol=1e-9)
        last = net.to(memory_format=torch.channels_last_3d)
        found = last(image.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("merge", ["concat", "none"])
def test_what_moves_by_the_stride_is_answered_as_far_away(merge):
    # Three blocks with two cubic convolutions each see 6 sections to either side.
    net = scattered(merge, width=(2, 3))
    assert net.stride == (1, 2, 2)
    image = torch.rand(1, 1, 16, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        here = net(image)[0, :, 7:9, 22:26, 22:26]
        for shift, same in (((1, 0, 0), True), ((0, 2, 4), True), ((0, 1, 0), False)):
            moved = torch.roll(image, shift, dims=(2, 3, 4))
            z, y, x = shift
            there = net(moved)[0, :, 7 + z : 9 + z, 22 + y : 26 + y, 22 + x : 26 + x]
            assert torch.allclose(here, there, rtol=0, atol=1e-10) is same, shift


def test_statistics_follow_the_batches_slowly_and_every_parameter_learns():
    torch.manual_seed(0)
    net = SuperhumanUNet(1, 3, width=(2, 3, 4))
    image = torch.rand(2, 1, 3, 8, 8)
    first = torch.nn.functional.conv3d(
        net.embed_in(image).detach(), net.conv0.block1[0].weight.detach(), padding=(0, 1, 1)
    )
    net(image).square().sum().backward()
    torch.testing.assert_close(net.conv0.block1[1].running_mean, 0.001 * first.mean((0, 2, 3, 4)))
    assert {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm3d)} == {0.001}
    # What a norm takes away again has a gradient of 0, or nearly so.
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_first_weights_are_kaimings():
    torch.manual_seed(0)
    net = SuperhumanUNet(1, 3)
    for name, sees in (
        ("conv3.block2.0", 64 * 27),
        ("up0.0", 4),
        ("up0.1", 80),
        ("embed_in.0", 25),
    ):
        weight = net.get_submodule(name).weight
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / sees), rel=0.12), name
    assert not net.out_put[0].bias.any()


def test_sizes_and_widths_that_do_not_go_are_refused():
    net = SuperhumanUNet(1, 3, width=(2, 3, 4))
    with pytest.raises(UserError, match=r"stride \[1, 4, 4\]; nearest: \[5, 8, 8\]"):
        check_input((5, 8, 10), net)
    for width in ((4,), (4, 0)):
        with pytest.raises(UserError, match="SuperhumanUNet: width.* must be [12] or more"):
            SuperhumanUNet(1, 3, width=width)
