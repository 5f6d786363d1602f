"""A tiny experiment, trained once for all tests of the stages after training."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from emseg.cli import main
from emseg.stages import test
from emseg.volumes import write_volume
from stages.page import count_stages
from stages.tiny_tutorial import cells

OFFSETS = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 3]]
SHAPE = (20, 24, 24)


@dataclass(frozen=True)
class Experiment:
    """A folder with volumes, a tutorial and a trained run; tests change copies of it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def checkpoint(self) -> Path:
        return next((self.folder / "outputs" / "tiny").glob("*/checkpoints/last.ckpt"))

    @property
    def run(self) -> Path:
        return self.checkpoint.parents[1]

    @property
    def results(self) -> Path:
        return next(self.run.glob("results_step=*"))

    def test_on(self, volumes: dict[str, Any]) -> None:
        """Put one volume or several named ones into `data.test` of the tutorial."""
        tutorial = yaml.safe_load(self.config.read_text())
        tutorial["data"]["test"] = volumes
        self.config.write_text(yaml.safe_dump(tutorial))

    def emseg(self, mode: str, *words: str, checkpoint: bool = True) -> int:
        """The exit code of one command line."""
        given = ["--checkpoint", str(self.checkpoint)] if checkpoint else []
        return main(["--config", str(self.config), "--mode", mode, *given, *words])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The experiment after training: not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, split in enumerate(("train", "test")):
        raw, labels = cells(SHAPE, seed=seed)
        write(folder / f"{split}.h5", raw)
        write(folder / f"{split}_labels.h5", labels)
    experiment = Experiment(folder)
    experiment.config.write_text(yaml.safe_dump(_tutorial()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["--config", str(experiment.config)]) == 0
    return experiment


@pytest.fixture
def experiment(trained: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A copy of the trained experiment in the current folder."""
    folder = tmp_path / "experiment"
    shutil.copytree(trained.folder, folder)  # keeps the times, which count as identity
    monkeypatch.chdir(folder)
    return Experiment(folder)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that really compute something, in order; no picture or report is made."""
    done: list[str] = []
    count_stages(monkeypatch, done, scorer="count_overlaps")
    monkeypatch.setattr(test, "write_overview", lambda *_, **__: None)
    monkeypatch.setattr(test, "write_report", lambda *_, **__: None)
    return done


class InThisProcess:
    """Stands for the child process of trials."""

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Any, *arguments: Any, timeout: float | None = None) -> Any:
        return function(*arguments)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of a study run in this process."""
    monkeypatch.setattr("emseg.stages.study.ChildWorker", InThisProcess)


def write(path: Path, array: np.ndarray) -> None:
    write_volume(path, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})


def _tutorial() -> dict:
    return {
        "defaults": [
            "/base",
            {"override /system": "cpu"},
            {"override /augment": "none"},
            {"override /optimization/scheduler": "constant"},
            {"override /decoding": "affinity_cc"},
            {"override /evaluation/metrics": ["adapted_rand_skimage", "voi"]},
            "_self_",
        ],
        "experiment_name": "tiny",
        "system": {"num_workers": 0},
        "data": {
            "train": {"image": "train.h5", "label": "train_labels.h5"},
            "test": {"image": "test.h5", "label": "test_labels.h5"},
            "dataloader": {"batch_size": 1, "patch_size": [8, 16, 16]},
        },
        "model": {"width": [4, 8], "down_factors": [[1, 2, 2]]},
        "target": {"offsets": OFFSETS},
        "optimization": {"max_steps": 3, "n_steps_per_epoch": 3, "optimizer": {"lr": 0.01}},
        "inference": {"window": {"overlap": 0.25}},
        "monitor": {"logging": {"images": {"n_images": 0}}},
        "tune": {
            "study_name": "study",
            "metric": "adapted_rand_skimage",
            "n_trials": 2,
            "search_space": {"threshold": {"low": 0.3, "high": 0.7, "step": 0.1}},
        },
    }
