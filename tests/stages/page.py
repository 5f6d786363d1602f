"""A tutorial's page followed by a test: every command of it, in its order, made small."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from emseg.cli import main
from emseg.stages import decode, evaluate, infer
from emseg.volumes import open_volume


@dataclass(frozen=True)
class Done:
    """What one command did: its words, the stages that computed, a copy of the results then."""

    out: str
    err: str
    worked: list[str]
    results: Path

    def volume(self, name: str) -> Any:
        return open_volume(self.results / f"test_im_{name}.h5")

    @property
    def records(self) -> dict[str, Any]:
        return json.loads((self.results / "metrics.json").read_text())["records"]

    @property
    def scores(self) -> list[dict[str, float]]:
        return [record["volumes"]["test_im"] for record in self.records.values()]


@dataclass
class Session:
    """The page, followed in a folder of its own; `experiment` is what its runs are called.

    `small` makes a command of the page's words a matter of seconds, by overrides behind them.
    """

    folder: Path
    experiment: str
    small: Callable[[list[str]], list[str]]
    done: dict[str, Done] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The latest run, which the page's <timestamp> stands for."""
        return max((self.folder / "outputs" / self.experiment).iterdir())

    @property
    def results(self) -> Path:
        """Where its results are."""
        return next(self.run.glob("results_step=*"))

    def follow(self, words: list[str], worked: list[str]) -> Done:
        """Do one command; a copy of the results is kept."""
        worked.clear()
        filled = [self.filled(word) for word in words]
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = main(self.small(filled))
        assert code == 0, err.getvalue()
        kept = self.folder / "kept" / str(len(self.done))
        for results in self.folder.glob(f"outputs/{self.experiment}/*/results_step=*"):
            shutil.copytree(results, kept, dirs_exist_ok=True)
        return Done(out.getvalue(), err.getvalue(), [*worked], kept)

    def filled(self, word: str) -> str:
        """The word with the latest run of its experiment for <timestamp>, its step for <N>."""
        path = re.search(r"outputs/([^/]+)/<timestamp>", word)
        if path is None:
            return word
        run = max((self.folder / "outputs" / path[1]).iterdir())
        word = word.replace("<timestamp>", run.name)
        return word.replace("results_step=<N>", next((p.name for p in run.glob("results_*")), ""))


def mode_of(words: list[str]) -> str:
    """The mode of a command, or its verb."""
    if words[0] != "--config":
        return words[0]
    return words[words.index("--mode") + 1] if "--mode" in words else "train"


def key_of(words: list[str]) -> str:
    """The mode and the overrides, or the verb and its words."""
    if words[0] != "--config":
        return " ".join(words)
    return " ".join([mode_of(words), *(word for word in words if "=" in word)])


def _noted(worked: list[str], stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which notes that the stage has computed."""

    def noting(*arguments: Any, **named: Any) -> Any:
        worked.append(stage)
        return function(*arguments, **named)

    return noting


def count_stages(patch: pytest.MonkeyPatch, worked: list[str], *, scorer: str) -> None:
    """From here on stages note in `worked` that they compute; `scorer` is what evaluate calls."""
    for module, name, stage in (
        (infer, "predict", "infer"),
        (decode, "labels_of", "decode"),
        (evaluate, scorer, "evaluate"),
    ):
        patch.setattr(module, name, _noted(worked, stage, getattr(module, name)))
    # Whatever the machine has: four processes are no test's business.
    patch.setattr(torch.cuda, "device_count", lambda: 0)
