"""Training on real serial sections, whose truth ends with each section, warns of nothing."""

import logging
import warnings
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emseg.cli import main

STACKS = {
    "isbi2012": ("isbi2012/isbi2012.h5", "train/raw", "train/labels/instances_2d_derived"),
    "vnc": (
        "vnc/stack1_crop20x512x512.h5",
        "volumes/raw",
        "volumes/labels/instances_2d_derived",
    ),
}
STEPS = 4


@pytest.mark.real
@pytest.mark.parametrize(("stack", "precision"), [("isbi2012", "32-true"), ("vnc", "bf16-mixed")])
def test_training_on_a_stack_warns_of_nothing(
    stack: str,
    precision: str,
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stack.yaml").write_text(yaml.safe_dump(tutorial(stack, real_data, precision=precision)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert main(["--config", "stack.yaml"]) == 0
    assert [str(warning.message) for warning in warned] == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "warn" not in capfd.readouterr().err.lower()  # emseg's own, and those of workers
    (run,) = Path("outputs", stack).iterdir()
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert len(events.Scalars("train_loss_total_step")) == STEPS
    assert set(events.Tags()["images"]) == {"train/0", "val/0"}


def tutorial(stack: str, data: Path, *, precision: str) -> dict:
    """A few steps of a small network on one stack, validated on its last sections."""
    file, raw, label = STACKS[stack]
    return {
        "defaults": [
            "/base",
            {"override /system": "cpu"},
            {"override /target": "aff_inplane"},
            {"override /augment": "em_neuron"},
            {"override /optimization/scheduler": "constant"},
            "_self_",
        ],
        "experiment_name": stack,
        "system": {"num_workers": 1},
        "data": {
            "train": {"image": f"{data / file}:{raw}", "label": f"{data / file}:{label}"},
            "split_train_range": [0.0, 0.6],
            "split_val_range": [0.6, 1.0],
            "dataloader": {"batch_size": 2, "patch_size": [6, 64, 64]},
        },
        "model": {"width": [4, 6, 8], "down_factors": [[1, 2, 2], [1, 2, 2]]},
        "optimization": {
            "max_steps": STEPS,
            "n_steps_per_epoch": STEPS // 2,
            "val_steps_per_epoch": 1,
            "precision": precision,
        },
        "monitor": {
            "logging": {"log_every_n_steps": 1, "images": {"every_n_epochs": 1, "n_images": 1}}
        },
    }
