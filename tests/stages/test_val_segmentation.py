"""Segmentations while a network trains: their scores, their limits, and an early end."""

import json
from pathlib import Path
from typing import Any

import pytest

from emseg.cli import main
from emseg.errors import UserError
from emseg.volumes import open_volume, write_volume
from stages.tiny_tutorial import DEMO, TINY, train_tiny, write_volumes

VALIDATED = (
    "optimization.max_steps=4",
    "data.split_train_range=[0,8]",
    "data.split_val_range=[8,12]",
    "monitor.segmentation.size=[4,32,32]",
)


@pytest.fixture(autouse=True)
def volumes(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_a_validation_is_scored_as_a_test_of_its_checkpoint_would_be():
    run = train_tiny(*VALIDATED, "monitor.checkpoint.monitor=val_voi_split")
    logged = {}
    for path in (run / "checkpoints").glob("step=*"):
        step, _, score = path.stem.partition("-val_voi_split=")
        logged[int(step.removeprefix("step="))] = (path, float(score))
    assert sorted(logged) == [2, 4]
    checkpoint, score = logged[4]
    # The crop is the centre of the validation part.
    for split in ("raw", "labels"):
        crop(Path("datasets/demo") / f"train_{split}.h5", Path(f"crop_{split}.h5"))
    data = ["data.test.image=crop_raw.h5", "data.test.label=crop_labels.h5"]
    once = "inference.test_time_augmentation.enabled=false"
    arguments = ["--config", str(DEMO), "--mode", "test", "--checkpoint", str(checkpoint)]
    assert main([*arguments, *TINY, *data, once]) == 0
    tested = json.loads((run / "results_step=4" / "metrics.json").read_text())
    assert score == pytest.approx(found_in(tested, "voi_split"), abs=5e-5)


def found_in(tree: Any, name: str) -> float:
    """The first number of that name in nested dicts."""
    if name in tree:
        return float(tree[name])
    return next(found_in(part, name) for part in tree.values() if isinstance(part, dict))


def crop(path: Path, to: Path) -> None:
    part = open_volume(path).crop((8, 4, 4), (12, 36, 36))
    write_volume(to, part[...], axes="zyx", voxel_size=(30, 6, 6), attributes={})


def test_beyond_a_limit_there_is_no_score_and_training_goes_on(capsys):
    run = train_tiny(*VALIDATED, "monitor.segmentation.time_limit=0.001")
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert "the validation's segmentation has no score: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (VALIDATED[3:], "monitor.segmentation.size=.* needs validation"),
        ((*VALIDATED, "monitor.segmentation.size=[4,64,32]"), "size=.* exceeds .*train_raw"),
        ((*VALIDATED, "monitor.checkpoint.monitor=val_adapted_rand"), "adapted_rand_skimage"),
        (("monitor.early_stopping.patience=1",), "early_stopping.monitor=.* needs validation"),
    ],
)
def test_what_cannot_be_scored_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        train_tiny(*overrides)
    assert not Path("outputs").exists()


def test_a_training_without_progress_ends_early(capsys):
    # The loss falls, and that is called worse.
    settings = ("monitor.early_stopping.patience=2", "monitor.early_stopping.mode=max")
    run = train_tiny(*VALIDATED[:3], "optimization.max_steps=20", *settings)
    line = "val_loss_total has not become better 2 times in a row; 6 of 20 steps are trained"
    assert line in (run / "run.log").read_text()
    assert line in capsys.readouterr().err
