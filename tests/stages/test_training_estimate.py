"""What a training is said to take before it begins."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emseg.config import load
from emseg.stages.train import Prepared, check_training, prepare
from emseg.stages.training_estimate import Trial, first_lines, hours_line, try_step
from emseg.volumes import write_volume

TUTORIAL = """\
experiment_name: look
system: {num_gpus: 0, num_workers: 0}
data:
  train: {image: raw.h5, label: labels.h5}
  dataloader: {batch_size: 2, patch_size: [8, 32, 32]}
model: {width: [4, 6], down_factors: [[1, 2, 2]]}
optimization: {max_steps: 500}
"""
VIT = ("model=masked_vit", "model.volume_size=[8,32,32]", "model.patch_size=[4,8,8]")
OTHERS = ("data.unlabelled.image=raw.h5", "perturb=ssns_ws")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the config of a training of some overrides, and opens it."""
    monkeypatch.chdir(tmp_path)
    for name, dtype in (("raw", np.uint8), ("labels", np.uint32)):
        voxels = np.ones((16, 96, 96), dtype)
        write_volume(Path(f"{name}.h5"), voxels, axes="zyx", voxel_size=(30, 6, 6), attributes={})
    Path("look.yaml").write_text(TUTORIAL)

    def make(*overrides: str) -> tuple[object, Prepared]:
        loaded = load(Path("look.yaml"), mode="train", overrides=overrides)
        return loaded, prepare(loaded, None)

    return make


@pytest.mark.parametrize(
    "objective",
    [
        (),
        ("objective=consistency", *OTHERS),
        ("objective=reconstruction", "perturb=ssns_ws", "augment=none", "loss=mse"),
        ("objective=masked", "loss=masked_reconstruction", *VIT),
    ],
)
def test_a_trial_leaves_no_trace(made, objective):
    loaded, plan = made(*objective)
    before = {name: value.clone() for name, value in plan.module.state_dict().items()}
    state = torch.random.get_rng_state()
    trial = try_step(plan.module, loaded.root, seconds=0)
    assert trial is not None and trial.stored > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    after = plan.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(weight.grad is None for weight in plan.module.parameters())


def test_what_is_kept_grows_with_the_voxels_of_a_patch(made):
    loaded, plan = made()
    small = try_step(plan.module, loaded.root, seconds=0)
    large = try_step(plan.module, loaded.root, seconds=1000)
    assert small.size == (2, 8, 8) and large.size == (8, 32, 32)
    voxels = math.prod(large.size) / math.prod(small.size)
    assert large.stored / small.stored == pytest.approx(voxels, rel=0.02)
    # All activations of the first level at the least, float32, four channels.
    assert large.stored > 4 * 4 * math.prod(large.size)


def test_size_and_memory_are_said(made):
    loaded, plan = made("optimization.accumulate_grad_batches=3")
    trial = Trial((4, 32, 32), seconds=1.0, stored=1 << 30)
    say = [loaded.root, plan.module, plan.sources, plan.devices]
    (line,) = first_lines(*say, trial)
    assert line.startswith("500 steps of 6 patches of 8x32x32 voxels (24.6 million voxels in all)")
    # 2 patches of twice the voxels, and a fifth more to work with.
    assert "memory: 4.8 GiB for the network, less than 0.1 GiB for volumes" in line
    system = replace(loaded.root.system, memory=1.0)
    say[0] = replace(loaded.root, system=system)
    _, warning = first_lines(*say, trial)
    assert warning.startswith("warning: that is more than the 1 GiB that there are here: lower")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.01, "a step takes about 0.04 s here, all of them 20 s"),
        (1.5, "a step takes about 6 s here, all of them 50 min"),
        (60.0, "warning: a step takes about 4 min here, all of them 33 h 20 min (measured on"),
        (600.0, "warning: a step takes about 40 min here, all of them 14 days (measured on"),
    ],
)
def test_hours_are_those_of_all_steps(made, seconds, told):
    loaded, plan = made()
    line = hours_line(loaded.root, Trial((4, 32, 32), seconds, stored=1), plan.devices)
    assert line.startswith(told) and "[4, 32, 32]" in line
    assert ("optimization.max_steps" in line) == line.startswith("warning")


def test_a_check_says_all_of_it_and_writes_nothing(made):
    loaded, _ = made("data.pad_small=true", "data.dataloader.patch_size=[24,32,32]")
    files = sorted(Path().rglob("*"))
    lines = check_training(loaded, None)
    assert "its image is reflected" in lines[0]
    assert lines[1].startswith("500 steps of 2 patches of 24x32x32 voxels")
    assert lines[2].startswith("a step takes about")
    assert sorted(Path().rglob("*")) == files
