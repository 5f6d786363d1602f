"""A tutorial's page followed by a test: every command of it, in its order, made small."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

from emseg.cli import VERBS, main
from emseg.stages import decode, evaluate, prediction_parts
from emseg.volumes import Volume, open_volume
from test_docs import REPOSITORY, commands, fences
from test_package import just

ALL = ["infer", "decode", "evaluate"]
NO_GPUS = "system.num_gpus=4, but this machine has 0: going on with the CPU"


@dataclass(frozen=True)
class Command:
    """A command of a page, as `text_of` says it, and what is to come of it.

    Args:
        text: the mode and the tutorial with the overrides, or the verb with its words.
        worked: the stages that compute something, in order; None: any.
        says: what it prints.
        never: what it does not print.
        code: what it ends with.
    """

    text: str
    worked: Sequence[str] | None = None
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    code: int = 0


@dataclass(frozen=True)
class Page:
    """A file of docs/ with its commands in order, each under a short name.

    Args:
        document: the file's name without its suffix.
        experiment: the name of the runs in which most commands work.
        commands: all of the page.
        small: overrides that make commands a matter of seconds, by patterns of their texts.
        scorer: what evaluate calls.
    """

    document: str
    experiment: str
    commands: dict[str, Command]
    small: dict[str, str]
    scorer: str = "count_overlaps"

    @property
    def text(self) -> str:
        return (REPOSITORY / "docs" / f"{self.document}.md").read_text()

    def shortened(self, words: list[str]) -> list[str]:
        """The words of a command, and what makes it small."""
        if words[0] in VERBS:
            return words
        given = {word.partition("=")[0] for word in words}
        fitting = [
            more for pattern, more in self.small.items() if re.search(pattern, text_of(words))
        ]
        more = [word for words in fitting for word in words.split()]
        return [*words, *(word for word in more if word.partition("=")[0] not in given)]


@dataclass(frozen=True)
class Done:
    """What one command did: its words, the stages that computed, a copy of the results then."""

    code: int
    out: str
    err: str
    worked: list[str]
    results: Path

    def volume(self, kind: str, name: str = "test_im") -> Volume:
        return open_volume(self.results / f"{name}_{kind}.h5")

    @property
    def records(self) -> list[dict[str, Any]]:
        return [*json.loads((self.results / "metrics.json").read_text())["records"].values()]


@dataclass
class Session:
    """A page, followed in a folder of its own."""

    page: Page
    folder: Path
    done: dict[str, Done] = field(default_factory=dict)
    worked: list[str] = field(default_factory=list)

    def follow(self, patch: pytest.MonkeyPatch) -> "Session":
        """Does every command of the page."""
        (self.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
        patch.chdir(self.folder)
        count_stages(patch, self.worked, scorer=self.page.scorer)
        asked = [*commands(self.page.text)]
        assert [text_of(words) for words in asked] == [
            command.text for command in self.page.commands.values()
        ]
        for name, words in zip(self.page.commands, asked, strict=True):
            self.done[name] = self._do(words)
        return self

    def again(self, name: str, *more: str) -> Done:
        """Does a command of the page with more words."""
        at = [*self.page.commands].index(name)
        return self._do([*[*commands(self.page.text)][at], *more])

    def _do(self, words: list[str]) -> Done:
        self.worked.clear()
        filled = self.page.shortened([self.filled(word) for word in words])
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = main(filled)
        kept = self.folder / "kept" / str(len(self.done))
        for results in self.folder.glob(f"outputs/{self.page.experiment}/*/results_step=*"):
            shutil.copytree(results, kept, dirs_exist_ok=True)
        return Done(code, out.getvalue(), err.getvalue(), [*self.worked], kept)

    def filled(self, word: str) -> str:
        """The word with the latest run of its experiment for <timestamp>, its step for <N>."""
        path = re.search(r"outputs/([^/]+)/<timestamp>", word)
        if path is None:
            return word
        run = self.runs(path[1])[-1]
        word = word.replace("<timestamp>", run.name)
        return word.replace("results_step=<N>", next((p.name for p in run.glob("results_*")), ""))

    def runs(self, experiment: str = "") -> list[Path]:
        """The runs of an experiment, the latest last."""
        return sorted((self.folder / "outputs" / (experiment or self.page.experiment)).iterdir())

    def checkpoint(self, experiment: str = "") -> Path:
        """The last one of the latest run."""
        return self.runs(experiment)[-1] / "checkpoints" / "last.ckpt"

    def study(self, name: str) -> optuna.Study:
        storage = f"sqlite:///{self.runs()[-1]}/tune/{name}.sqlite3"
        return optuna.load_study(study_name=name, storage=storage)

    def tuned(self, name: str) -> dict[str, Any]:
        """The decoder that a study has found, a choice."""
        path = self.runs()[-1] / "tune" / "decoding" / f"{name}.yaml"
        return yaml.safe_load(path.read_text())

    def check_commands(self) -> None:
        """Each command did what the table says."""
        for name, command in self.page.commands.items():
            done = self.done[name]
            assert done.code == command.code, (name, done.err)
            assert command.worked is None or done.worked == [*command.worked], name
            for words in command.says:
                assert words in done.err + done.out, name
            for words in command.never:
                assert words not in done.err + done.out, name

    def check_runs(self, *, checkpoints: Sequence[str], curves: Sequence[str]) -> None:
        """Every run has these checkpoints (parts of names); the page's `just` prints the curves."""
        for run in self.runs():
            names = [path.name for path in (run / "checkpoints").iterdir()]
            assert all(any(part in name for name in names) for part in checkpoints), names
        lines = [line for block in fences(self.page.text, "sh") for line in block.splitlines()]
        (line,) = [line for line in lines if "just" in line]
        printed = just(*shlex.split(line)[1:], "--inspect", cwd=self.folder)
        assert all(words in printed for words in (f"outputs/{self.page.experiment}/", *curves))


def text_of(words: list[str]) -> str:
    """The mode, the tutorial and the overrides, or the verb and its words."""
    if words[0] in VERBS:
        return " ".join(words)
    mode = words[words.index("--mode") + 1] if "--mode" in words else "train"
    overrides = [word for word in words if "=" in word and not word.startswith("outputs/")]
    return " ".join([mode, Path(words[1]).stem, *overrides])


def _noted(worked: list[str], stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which notes that the stage has computed."""

    def noting(*arguments: Any, **named: Any) -> Any:
        worked.append(stage)
        return function(*arguments, **named)

    return noting


def count_stages(patch: pytest.MonkeyPatch, worked: list[str], *, scorer: str) -> None:
    """From here on stages note in `worked` that they compute; `scorer` is what evaluate calls."""
    for module, name, stage in (
        (prediction_parts, "predict_volume", "infer"),
        (decode, "labels_of", "decode"),
        (evaluate, scorer, "evaluate"),
    ):
        patch.setattr(module, name, _noted(worked, stage, getattr(module, name)))
    # Whatever the machine has: four processes are no test's business.
    patch.setattr(torch.cuda, "device_count", lambda: 0)
