"""What the tests of verbs begin from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets.served import Server, serving
from emseg.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(b"") as running:
        yield running


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls a verb and hands back its one line of error."""

    def call(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 2
        told = capsys.readouterr()
        lines = told.err.splitlines()
        assert told.out == "" and all(line.startswith("emseg: ") for line in lines)
        return lines[-1]

    return call
