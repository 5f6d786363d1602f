"""A tiny experiment, trained once, of which every case spoils a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bad_input.spoilt import LABELS, SHAPE, TUTORIAL, write
from emseg.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment after one step of training: not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("tiny.yaml").write_text(TUTORIAL)
        write("raw.h5", np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8))
        write("labels.h5", LABELS)
        assert main(["--config", "tiny.yaml"]) == 0
        next(Path("outputs/tiny").iterdir()).rename("outputs/tiny/run")
    return folder


@pytest.fixture(autouse=True)
def experiment(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the experiment, in the current folder."""
    shutil.copytree(trained, tmp_path / "experiment")
    monkeypatch.chdir(tmp_path / "experiment")


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line and gives the one line that it ends with; no file may change."""

    def refused(*words: str) -> str:
        before = _files()
        capsys.readouterr()
        assert main(["--config", "tiny.yaml", *words]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("emseg: ") and printed.err.count("\n") == 1, printed.err
        assert printed.out == ""
        assert _files() == before
        return printed.err

    return refused


def _files() -> dict[str, tuple[int, int]]:
    """Every file of the current folder with its time and size."""
    found = ((str(path), path.lstat()) for path in Path().rglob("*"))
    return {name: (facts.st_mtime_ns, facts.st_size) for name, facts in found}
