"""What would fail in the first step of a training, --check finds; what it calls sound, trains."""

from pathlib import Path

import numpy as np
import pytest

from emseg.cli import main
from emseg.volumes import write_volume

TUTORIAL = """\
defaults:
  - /base
  - override /system: cpu
  - override /augment: none
  - override /optimization/scheduler: constant
  - _self_
experiment_name: tiny
system: {num_workers: 0}
data:
  train: {image: raw.h5, label: labels.h5}
  dataloader: {batch_size: 1, patch_size: [4, 8, 8]}
optimization: {max_steps: 1, n_steps_per_epoch: 1}
monitor: {logging: {images: {n_images: 0}}}
"""
CHOICES = {
    "model/conv": "_target_: torch.nn.Conv3d\nkernel_size: 3\npadding: 1\n",
    "model/valid": "_target_: torch.nn.Conv3d\nkernel_size: 3\n",
    "model/flat": "_target_: torch.nn.Conv2d\nkernel_size: 3\npadding: 1\n",
    "model/more": "_target_: config.sample_nets.MoreChannels\n",
    "model/pair": "_target_: config.sample_nets.Pair\n",
    "loss/mse_theirs": "_target_: torch.nn.MSELoss\n",
    "loss/bce_theirs": "_target_: torch.nn.BCEWithLogitsLoss\n",
    "loss/dice_theirs": "_target_: monai.losses.DiceLoss\nsigmoid: true\n",
    "loss/dice_ce_theirs": "_target_: monai.losses.DiceCELoss\nsigmoid: true\n",
    "loss/bce_of_probabilities": "_target_: torch.nn.BCELoss\n",
    "optimization/scheduler/plateau": "_target_: torch.optim.lr_scheduler.ReduceLROnPlateau\n",
    "optimization/scheduler/steps": "_target_: torch.optim.lr_scheduler.StepLR\nstep_size: 2\n",
    "optimization/optimizer/sparse": "_target_: torch.optim.SparseAdam\n",
}


@pytest.fixture(autouse=True)
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TUTORIAL)
    for name, text in CHOICES.items():
        path = Path("my_conf") / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def ended(*words: str) -> int:
    start = ["--config", "tiny.yaml", "--conf", "my_conf", "--allow", "config.sample_nets"]
    return main([*start, *words])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["loss=dice_ce_theirs"], ["loss: DiceCELoss takes no argument 'mask'"]),
        (["loss=bce_of_probabilities"], ["loss: BCELoss fails"]),
        (["loss.channel_weights=[1,2]"], ["loss.channel_weights has 2 entries for 3 channels"]),
        (["model=valid"], ["model: Conv3d makes [2, 6, 6] of patches of [4, 8, 8]"]),
        (["model=flat"], ["model: Conv2d fails on patches of [4, 8, 8]"]),
        (["model=mednext_s"], ["patch_size [4, 8, 8] is not divisible by the network's stride"]),
        (["model=more"], ["model: MoreChannels makes [2, 4, 4, 8, 8]", "not 3 channels"]),
        (["model=pair"], ["model: Pair makes tuple", "not 3 channels"]),
        (["optimization/scheduler=plateau"], ["optimization.scheduler: ReduceLROnPlateau"]),
        (["optimization/optimizer=sparse"], ["optimization.optimizer: SparseAdam", "dense"]),
    ],
)
def test_the_check_says_what_training_would(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=conv", *words]
    told = []
    for more in (["--check"], []):
        assert ended(*words, *more) == 2
        told.append(capsys.readouterr().err)
    assert told[0] == told[1] and told[0].count("\n") == 1
    assert [part for part in parts if part not in told[0]] == [], told[0]


@pytest.mark.parametrize(
    "words",
    [
        ["loss=mse_theirs"],
        ["loss=dice_theirs"],
        ["loss=bce_theirs", "optimization/scheduler=steps"],
    ],
)
def test_what_the_check_calls_sound_trains(words: list[str]) -> None:
    for name, dtype in (("raw", np.uint8), ("labels", np.uint32)):
        array = np.arange(6 * 10 * 10, dtype=dtype).reshape(6, 10, 10) // 50 + 1
        write_volume(Path(f"{name}.h5"), array, axes="zyx", voxel_size=(10, 10, 10), attributes={})
    assert ended("model=conv", *words, "--check") == 0
    assert ended("model=conv", *words) == 0
