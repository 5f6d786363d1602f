"""What the tests of verbs begin from."""

from collections.abc import Callable

import pytest

from emseg.cli import main


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls convert and hands back its one line of error."""

    def call(*words: str) -> str:
        capsys.readouterr()
        assert main(["convert", *words]) == 2
        told = capsys.readouterr()
        lines = told.err.splitlines()
        assert told.out == "" and lines[-1].startswith("emseg: ")
        return lines[-1]

    return call
