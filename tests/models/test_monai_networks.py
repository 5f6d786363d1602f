"""MONAI's networks as choices: what is computed is theirs, and sizes are checked by our rules."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.networks import nets
from torch import nn

from emseg.cli import main
from emseg.errors import UserError
from emseg.losses.bce import WeightedBCEWithLogits
from emseg.models import monai_networks
from emseg.models.stride import check_input
from emseg.training.checkpoints import start_from
from emseg.training.objective import Parts
from emseg.training.outputs import levels_of
from emseg.training.supervised import Supervised
from emseg.volumes import write_volume

# Small ones of one channel in and three out: their settings, and MONAI's own call.
FACTORS = [(1, 2, 2), (2, 2, 2)]
UNETR = {"feature_size": 2, "hidden_size": 12, "mlp_dim": 8, "num_heads": 2}
SWIN = {"feature_size": 12, "depths": (1,) * 4, "num_heads": (3,) * 4, "window_size": (2, 2, 2)}
CHANNELS = {"in_channels": 1, "out_channels": 3}
DYNUNET = {
    "kernel_size": [(1, 3, 3), 3, 3],
    "strides": [1, *FACTORS],
    "upsample_kernel_size": FACTORS,
    "filters": (2, 3, 4),
    "deep_supervision": True,
}
SMALL: dict[str, tuple[dict[str, Any], Callable[[], nn.Module]]] = {
    "unetr": (
        {"volume_size": (16, 16, 32), **UNETR},
        lambda: nets.UNETR(**CHANNELS, img_size=(16, 16, 32), **UNETR),
    ),
    "swin_unetr": (SWIN, lambda: nets.SwinUNETR(**CHANNELS, **SWIN)),
    "segresnet": (
        {"init_filters": 8, "blocks_down": (1, 1, 1)},
        lambda: nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
    ),
    "segresnet_ds": (
        {"init_filters": 2, "blocks_down": (1, 1, 1, 1)},
        lambda: nets.SegResNetDS(
            3, 2, 1, 3, norm="instance", blocks_down=(1,) * 4, dsdepth=3, resolution=(30, 6, 6)
        ),
    ),
    "dynunet": (
        {"width": (2, 3, 4), "down_factors": FACTORS, "depth_2d": 1},
        lambda: nets.DynUNet(3, **CHANNELS, **DYNUNET),
    ),
    "basic_unet": ({"features": (2,) * 6}, lambda: nets.BasicUNet(3, 1, 3, features=(2,) * 6)),
}
STRIDES = {
    "swin_unetr": (32, 32, 32),
    "segresnet": (4, 4, 4),
    "segresnet_ds": (2, 8, 8),
    "dynunet": (2, 4, 4),
    "basic_unet": (16, 16, 16),
}
# A size that each takes.
SIZES = {
    name: tuple(step * times for step, times in zip(stride, (1, 1, 2), strict=True))
    for name, stride in STRIDES.items()
} | {"unetr": (16, 16, 32)}


def made(name: str, **settings: Any) -> nn.Module:
    return getattr(monai_networks, name)(1, 3, **SMALL[name][0], **settings)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_computed_is_what_monai_computes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs, ours = SMALL[name][1](), made(name)
    torch.save(theirs.state_dict(), tmp_path / "monai.pt")
    start_from(tmp_path / "monai.pt", ours)
    image = torch.randn(2, 1, *SIZES[name])
    wanted, found = levels_of(theirs(image)), levels_of(ours(image))
    assert len(found) == {"segresnet_ds": 3, "dynunet": 2}.get(name, 1)
    torch.testing.assert_close(found, wanted)
    # Processes wait for the gradient of whatever asks for one.
    sum(level.square().mean() for level in found).backward()
    learned = {key: weight for key, weight in ours.named_parameters() if weight.requires_grad}
    assert [key for key, weight in learned.items() if weight.grad is None] == []
    left_out = {key for key, _ in ours.named_parameters()} - learned.keys()
    assert all("cross_attn" in key for key in left_out)
    torch.testing.assert_close(ours.eval()(image), theirs.eval()(image))


ON_META = {name: made(name).to("meta") for name in STRIDES}


@given(st.data())
@settings(max_examples=20)
def test_sizes_that_obey_the_stride_run_and_no_others_are_taken(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(STRIDES)))
    net, stride = ON_META[name], STRIDES[name]
    assert net.stride == stride
    times = data.draw(st.tuples(*[st.integers(1, 3)] * 3).filter(lambda t: math.prod(t) > 1))
    size = tuple(step * n for step, n in zip(stride, times, strict=True))
    check_input(size, net)
    logits = levels_of(net(torch.zeros(1, 1, *size, device="meta")))
    assert logits[0].shape == (1, 3, *size)
    more = data.draw(st.tuples(*[st.integers(0, step - 1) for step in stride]))
    assume(any(more))
    off = tuple(n + m for n, m in zip(size, more, strict=True))
    with pytest.raises(UserError, match=r"inference.window.window_size .* stride .* nearest: "):
        check_input(off, net, key="inference.window.window_size")
    if name != "basic_unet":  # which fills up
        with pytest.raises((RuntimeError, ValueError)):
            net(torch.zeros(1, 1, *off, device="meta"))


@pytest.mark.parametrize("name", sorted({*STRIDES} - {"segresnet"}))
def test_a_single_voxel_has_no_instance_norm(name: str) -> None:
    net, stride = ON_META[name], STRIDES[name]
    with pytest.raises(UserError, match="patch_size .* a single voxel .* instance norm"):
        check_input(stride, net)
    with pytest.raises(ValueError, match="1 spatial element"):
        net(torch.zeros(1, 1, *stride, device="meta"))


def test_all_levels_of_a_dynunet_count() -> None:
    torch.manual_seed(0)
    net, loss = made("dynunet"), WeightedBCEWithLogits()
    image = torch.rand(2, 1, *SIZES["dynunet"])
    target = (torch.rand(2, 3, *SIZES["dynunet"]) > 0.5).float()
    mask = torch.rand_like(target) > 0.3
    module = Supervised(Parts(net=net, loss=loss, make_optimizer=torch.optim.SGD))
    total, _ = module.losses({"image": image, "target": target, "mask": mask})
    finest, coarser = net(image).unbind(1)
    torch.testing.assert_close(total, loss(finest, target, mask) + loss(coarser, target, mask) / 2)


def test_checkpointing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    plain, saving = made("swin_unetr"), made("swin_unetr", checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, *SIZES["swin_unetr"])
    for net in (plain, saving):
        net(image).square().mean().backward()
    torch.testing.assert_close(
        [weight.grad for weight in saving.parameters()],
        [weight.grad for weight in plain.parameters()],
    )


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "unetr",
            {"volume_size": (16, 24, 16)},
            "unetr: volume_size.1.=24 must be a multiple of 16",
        ),
        ("dynunet", {"width": (4, 8)}, "width=.* must be 3 or more values"),
        ("dynunet", {"depth_2d": 6}, "model.depth_2d is 6"),
    ],
)
def test_settings_that_make_no_network_are_refused(name: str, given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(monai_networks, name)(1, 3, **given)


TUTORIAL = """\
defaults: [/base, override /system: cpu, override /augment: none, _self_]
experiment_name: tiny
system: {num_workers: 0}
data:
  train: {image: raw.h5, label: labels.h5}
  test: {image: raw.h5}
  dataloader: {batch_size: 1}
optimization: {max_steps: 2, n_steps_per_epoch: 2, scheduler: {warmup_steps: 0}}
monitor: {logging: {images: {n_images: 0}}}
"""


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TUTORIAL)
    image = np.arange(33 * 37 * 69, dtype=np.uint8).reshape(33, 37, 69)
    for name, array in (("raw", image), ("labels", image.astype(np.uint32) // 50 + 1)):
        write_volume(Path(f"{name}.h5"), array, axes="zyx", voxel_size=(9, 9, 9), attributes={})


def ended(name: str, *words: str, patch: tuple[int, ...]) -> int:
    values = {f"model.{key}": value for key, value in SMALL[name][0].items()}
    values["data.dataloader.patch_size"] = patch
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return main(["--config", "tiny.yaml", f"model={name}", *overrides, *words])


@pytest.mark.parametrize("name", ["unetr", "dynunet"])  # of one size, and of several levels
def test_a_choice_trains_and_predicts_in_windows_that_it_takes(
    name: str, volumes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = SIZES[name]
    assert ended(name, patch=patch) == 0
    checkpoint = str(next(Path("outputs").glob("tiny/*/checkpoints/last.ckpt")))
    infer = ("--mode", "infer", "--checkpoint", checkpoint)
    assert ended(name, *infer, patch=patch) == 0
    (path,) = Path("outputs").glob("tiny/*/*/*_prediction.h5")
    with h5py.File(path) as file:
        window, values = file["main"].attrs["window_size"], file["main"][...]
    check_input(window.tolist(), made(name))
    assert values.shape == (3, 33, 37, 69) and np.isfinite(values).all() and values.std() > 0
    capsys.readouterr()
    odd = tuple(n + 1 for n in patch)
    assert ended(name, "--check", patch=odd) == 2
    chosen = f"inference.window.window_size={json.dumps(odd)}"
    assert ended(name, *infer, chosen, patch=patch) == 2
    lines = capsys.readouterr().err.splitlines()
    keys = "data.dataloader.patch_size", "inference.window.window_size"
    assert [line.split()[1] for line in lines] == [*keys], lines
