import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.models.residual import GroupNorm
from emseg.models.rsunet import RSUNet
from emseg.models.stride import check_input
from reference.rsunet import rsunet as reference

SMALL = {"width": [4, 6, 8], "down_factors": [[1, 2, 2], [2, 2, 2]]}


def _parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("out_channels", "width", "published"),
    [
        (12, (18, 36, 48, 64, 80), 2_292_824),
        (1, (18, 36, 48, 64, 80), 2_292_615),
        (1, (32, 64, 96, 128, 160), 8_904_003),
    ],
)
def test_parameter_counts_are_the_published_ones(out_channels, width, published):
    with torch.device("meta"):
        preactivated = RSUNet(1, out_channels, width=width, stem="preactivated")
        plain = RSUNet(1, out_channels, width=width)
    assert _parameters(preactivated) == published
    assert _parameters(plain) == published - 2


@pytest.mark.parametrize("stem", ["conv", "preactivated"])
def test_forward_is_the_reference(stem):
    torch.manual_seed(0)
    factors = [(1, 2, 3), (2, 2, 1)]
    net = RSUNet(2, 3, width=[4, 6, 8], down_factors=factors, num_groups=4, stem=stem).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    image = torch.rand(2, 2, 4, 8, 6, dtype=torch.float64)
    wanted = reference(image, net.state_dict(), down_factors=factors, num_groups=4, stem=stem)
    torch.testing.assert_close(net(image), wanted, rtol=1e-9, atol=1e-9)
    last = net.to(memory_format=torch.channels_last_3d)
    found = last(image.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("separate", [False, True])
def test_a_coarse_stem_is_the_reference(separate):
    torch.manual_seed(0)
    factors, heads = [(1, 2, 2), (2, 2, 1)], {"near": (0, 2), "far": (2, 5)}
    shape = {"width": [4, 6, 8], "down_factors": factors, "stem_factor": (1, 2, 3)}
    net = RSUNet(2, 5, heads=heads, separate_heads=separate, **shape).double()
    assert net.stride == (2, 8, 6)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    image = torch.rand(1, 2, 2, 8, 12, dtype=torch.float64)
    rules = {"down_factors": factors, "num_groups": 4, "stem": "conv", "stem_factor": (1, 2, 3)}
    names = ("near", "far") if separate else ()
    wanted = reference(image, net.state_dict(), **rules, heads=names)
    torch.testing.assert_close(net(image), wanted, rtol=1e-9, atol=1e-9)


def test_separate_heads_are_the_reference_and_carry_their_names():
    torch.manual_seed(0)
    factors = [(1, 2, 2), (2, 2, 1)]
    shape = {"width": [4, 6, 8], "down_factors": factors}
    heads = {"near": (0, 2), "far": (2, 5)}
    net = RSUNet(1, 5, heads=heads, separate_heads=True, **shape).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    image = torch.rand(1, 1, 2, 8, 4, dtype=torch.float64)
    rules = {"down_factors": factors, "num_groups": 4, "stem": "conv"}
    wanted = reference(image, net.state_dict(), **rules, heads=("near", "far"))
    torch.testing.assert_close(net(image), wanted, rtol=1e-9, atol=1e-9)
    # A residual block (two norms and kernels of 1 x 3 x 3) a head, and one more last norm.
    plain = RSUNet(1, 5, heads=heads, **shape)
    assert _parameters(net) == _parameters(plain) + 2 * 2 * (2 * 4 + 4 * 4 * 9) + 2 * 4


@given(factor=st.tuples(*[st.integers(1, 3)] * 3), size=st.tuples(*[st.integers(1, 4)] * 3))
@settings(deadline=None, max_examples=30)
def test_up_sampling_keeps_a_constant_to_the_faces(factor, size):
    join = RSUNet(1, 1, width=[2, 2], down_factors=[factor]).joins[0]
    join.project.weight.data = torch.eye(2).view(2, 2, 1, 1, 1)
    skip = torch.zeros(1, 2, *(s * f for s, f in zip(size, factor, strict=True)))
    torch.testing.assert_close(join(torch.full((1, 2, *size), 3.0), skip), skip + 3.0)


def test_stride_is_the_smallest_step_of_sizes():
    net = RSUNet(1, 1, **SMALL)
    assert net.stride == (2, 4, 4)
    assert net(torch.zeros(1, 1, 2, 4, 8)).shape == (1, 1, 2, 4, 8)
    check_input((4, 8, 12), net)
    check_input((4, 9, 12), torch.nn.Conv3d(1, 1, 1))
    with pytest.raises(
        UserError, match=r"\[4, 9, 12\].*\[2, 4, 4\].*\[4, 8, 12\] or \[4, 12, 12\]"
    ):
        check_input((4, 9, 12), net)


@pytest.mark.parametrize(
    ("size", "advice"), [((1, 3, 9), r"[2, 4, 8] or [2, 4, 12]"), ((1, 4, 3), "[2, 4, 4]")]
)
def test_a_patch_below_the_stride_is_not_advised_to_vanish(size, advice):
    with pytest.raises(UserError) as caught:
        check_input(size, RSUNet(1, 1, **SMALL))
    assert str(caught.value).endswith(f"nearest: {advice}")


def test_first_levels_look_only_into_the_plane():
    net = RSUNet(1, 1, width=[2, 2, 2], down_factors=[[1, 2, 2]] * 2, depth_2d=3, norm="none")
    image = torch.zeros(1, 1, 3, 8, 8)
    image[0, 0, 1] = 1.0
    changed = (net(image) != net(torch.zeros_like(image)))[0, 0].any((1, 2))
    assert changed.tolist() == [False, True, False]


def test_plain_stem_sees_absolute_intensity_and_preactivated_does_not():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 4, 8, 8, dtype=torch.float64)
    for stem, sees in (("conv", True), ("preactivated", False)):
        net = RSUNet(1, 1, **SMALL, stem=stem).double().eval()
        same = torch.allclose(net(image), net(image * 2 + 1), rtol=1e-2, atol=1e-3)
        assert same is not sees


def test_deep_supervision_returns_coarser_logits_in_training_only():
    net = RSUNet(1, 5, **SMALL, deep_supervision=True)
    shapes = [tuple(x.shape) for x in net(torch.zeros(1, 1, 4, 8, 8))]
    assert shapes == [(1, 5, 4, 8, 8), (1, 5, 4, 4, 4)]
    sum(x.sum() for x in net(torch.rand(1, 1, 4, 8, 8))).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert net.eval()(torch.zeros(1, 1, 4, 8, 8)).shape == (1, 5, 4, 8, 8)


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "none"])
@pytest.mark.parametrize("activation", ["elu", "relu", "silu"])
@pytest.mark.parametrize("stem", ["conv", "preactivated"])
def test_every_choice_has_the_gradient_of_its_function(norm, activation, stem):
    torch.manual_seed(1)
    choices = {"norm": norm, "activation": activation, "stem": stem}
    net = RSUNet(1, 1, width=[2, 3], down_factors=[[1, 2, 2]], **choices)
    net = net.double().to(memory_format=torch.channels_last_3d)
    image = torch.rand(2, 1, 2, 4, 4, dtype=torch.float64)
    weight = net.decoder[0].enter[1].weight
    net(image).square().sum().backward()
    step = 1e-6 * torch.randn_like(weight)
    sides = []
    with torch.no_grad():
        for sign in (1, -1):
            weight += sign * step
            sides.append(net(image).square().sum())
            weight -= sign * step
    expected = (weight.grad * step).sum() * 2
    torch.testing.assert_close(sides[0] - sides[1], expected, rtol=1e-4, atol=1e-12)


@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(2, 9)),
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 4])),
)
@settings(deadline=None, max_examples=30)
@example(size=(2, 4, 16, 16), shape=(1, 1))
def test_group_norm_has_the_gradients_of_torch(size, shape):
    torch.manual_seed(0)
    n, *space = size
    per_group, groups = shape
    channels = per_group * groups
    ours, theirs = GroupNorm(groups, channels), torch.nn.GroupNorm(groups, channels)
    torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(n, channels, *space, dtype=torch.float64) * 2 + 1
    gradient = torch.randn_like(x)
    results = []
    for norm, order in ((ours, torch.channels_last_3d), (theirs, torch.contiguous_format)):
        leaf = x.contiguous(memory_format=order).requires_grad_()
        y = norm(leaf)
        results.append([y, *torch.autograd.grad(y, [leaf, norm.weight, norm.bias], gradient)])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"width": [4]}, "RSUNet: width=.4. must be 2 or more values"),
        ({"width": [4, 0], "down_factors": [[1, 2, 2]]}, "width.1.=0 must be 1 or more"),
        ({"width": [4, 4, 4]}, "4 entries; 3 widths need 2"),
        ({"width": [4, 4], "down_factors": [[2, 2]]}, "down_factors.0.=.2, 2. must be 3 values"),
        ({"width": [4, 4], "down_factors": [[0, 2, 2]]}, "down_factors.0..0.=0 must be"),
        ({"depth_2d": 6}, "model.depth_2d is 6"),
        ({"depth_2d": -1}, "depth_2d=-1 must be 0 or more"),
        ({"kernel_2d": [1, 2, 3]}, "kernel_2d.1.=2 must be an odd number"),
        ({"num_groups": 0}, "num_groups=0 must be 1 or more"),
        ({"separate_heads": True}, "model.separate_heads=true needs a target of two heads"),
        ({"separate_heads": True, "heads": {"one": (0, 1)}}, "target of two heads"),
        (
            {"separate_heads": True, "heads": {"a": (0, 1), "b": (1, 2)}, "deep_supervision": True},
            "model.separate_heads=true does not go with model.deep_supervision",
        ),
    ],
)
def test_impossible_shapes_are_refused(settings_, message):
    with pytest.raises(UserError, match=message):
        RSUNet(1, 1, **settings_)
