"""Patch, batch and width where a config says `auto`."""

import ast
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emseg.cli import main
from emseg.config import load
from emseg.stages import self_configuration
from emseg.stages.devices import Devices
from emseg.stages.self_configuration import fitting_patch, settle_width
from emseg.training.checkpoints import stored_facts
from stages.tiny_tutorial import DEMO, TINY, train_tiny, weights, write_volumes

AUTO = ("data.dataloader.patch_size=auto", "data.dataloader.batch_size=auto", "model.width=auto")
THREE = st.tuples(*[st.integers(1, 300)] * 3)


@pytest.fixture(autouse=True)
def volumes(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Patches of 4 x 16 x 16 voxels and the like: a quick step.
    monkeypatch.setitem(self_configuration.VOXELS, "cpu", 1024)
    monkeypatch.setitem(self_configuration.FIRST_WIDTH, "cpu", 4)


@given(
    st.integers(1, 10**7),
    st.tuples(*[st.integers(1, 20)] * 3),
    THREE,
    st.tuples(*[st.sampled_from([1, 2, 4, 8, 16])] * 3),
    st.tuples(*[st.sampled_from([4.0, 6.0, 10.0, 30.0, 50.0])] * 3),
)
def test_a_patch_is_as_cubic_in_nm_as_bounds_and_stride_allow(voxels, least, most, stride, nm):
    patch = fitting_patch(voxels, least, most, stride, nm)
    low = [math.ceil(a / step) * step for a, step in zip(least, stride, strict=True)]
    high = [max(a - a % step, b) for a, b, step in zip(most, low, stride, strict=True)]
    shortest, longest = 0.0, math.inf
    for axis in range(3):
        size, step = patch[axis], stride[axis]
        assert size % step == 0 and low[axis] <= size <= high[axis]
        # The lengths in nm that would be rounded, and cut to the bounds, to this side.
        if size > low[axis]:
            shortest = max(shortest, (size - step / 2) * nm[axis])
        if size < high[axis]:
            longest = min(longest, (size + step / 2) * nm[axis])
    assert shortest <= longest * (1 + 1e-9)
    # One length more or less would not come nearer to the number of voxels.
    sizes = [sides(length, low, high, stride, nm) for length in np.geomspace(1, 20000, 300)]
    found = min(abs(math.log(math.prod(size) / voxels)) for size in sizes)
    assert abs(math.log(math.prod(patch) / voxels)) <= found + 1e-9


def sides(length, low, high, stride, nm):
    whole = [round(length / one / step) * step for one, step in zip(nm, stride, strict=True)]
    return [min(max(n, a), b) for n, a, b in zip(whole, low, high, strict=True)]


def test_known_volumes():
    assert fitting_patch(32**3, (11, 11, 11), (160, 250, 250), (8, 8, 8), (10, 10, 10)) == (32,) * 3
    # SNEMI3D's voxels: a cube of 330 nm.
    size = fitting_patch(32**3, (2, 2, 2), (80, 1024, 1024), (1, 16, 16), (30, 6, 6))
    assert size == (11, 48, 48)


def test_a_run_has_numbers_and_goes_on_with_them(monkeypatch, capsys):
    run = train_tiny(*AUTO)
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["model"]["width"] == [4, 8]
    chosen = saved["data"]["dataloader"]
    assert chosen == {"batch_size": 2, "patch_size": [3, 18, 18]}
    printed = capsys.readouterr().err
    for key in ("data.dataloader.patch_size", "data.dataloader.batch_size", "model.width"):
        assert f"{key}=auto: " in printed
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert stored_facts(checkpoint)["patch_size"] == chosen["patch_size"]
    # Another machine would choose another patch and width.
    monkeypatch.setitem(self_configuration.VOXELS, "cpu", 4096)
    monkeypatch.setitem(self_configuration.FIRST_WIDTH, "cpu", 6)
    more = "optimization.max_steps=4"
    assert train_tiny(*AUTO, more, checkpoint=checkpoint) == run
    assert stored_facts(checkpoint)["global_step"] == 4
    assert stored_facts(checkpoint)["patch_size"] == chosen["patch_size"]
    # The tutorial, not the run's config, tests it too.
    arguments = ["--config", str(DEMO), "--mode", "test", "--checkpoint", str(checkpoint)]
    assert main([*arguments, *TINY, *AUTO]) == 0


def test_little_memory_makes_the_patch_smaller(capsys):
    sizes = []
    for memory in (4, 0.001, 0.0005):
        arguments = ["--config", str(DEMO), "--check", *TINY, *AUTO, f"system.memory={memory}"]
        assert main(arguments) == 0
        printed = capsys.readouterr()
        line = next(s for s in printed.err.splitlines() if "patch_size=auto" in s)
        sizes.append(
            math.prod(ast.literal_eval(line.partition("auto: ")[2].partition(", about")[0]))
        )
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_choice_takes_none_of_the_seeds_numbers():
    chosen = train_tiny(AUTO[0])
    same = train_tiny("data.dataloader.patch_size=[3,18,18]")
    first, second = (stored_weights(run / "checkpoints" / "last.ckpt") for run in (chosen, same))
    assert first == second


def stored_weights(checkpoint):
    return {name: value.tolist() for name, value in weights(checkpoint).items()}


def test_a_gpu_has_wider_levels():
    loaded = load(DEMO, mode="train", overrides=[*TINY, *AUTO])
    settle_width(loaded, None, Devices("gpu", 1, 1, 0, None))
    assert loaded.root.model["width"] == [32, 64]


def test_a_model_without_levels_is_refused(capsys):
    overrides = ["model=rsunet_superhuman", "model.width=auto"]
    assert main(["--config", str(DEMO), "--check", *overrides]) == 2
    assert "model.width: auto needs a model with down_factors" in capsys.readouterr().err


def test_a_network_of_one_size_gets_that():
    sizes = fitting_patch(1024, (1, 1, 1), (12, 40, 40), (8, 32, 32), (30, 6, 6))
    assert sizes == (8, 32, 32)
