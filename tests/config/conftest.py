import importlib.util
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from config.sample import CONF, TUTORIAL, Load, Write
from emseg.config.loaded import Loaded, load


@pytest.fixture(autouse=True)
def sample_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of sample leaves under the name that the group files use."""
    name, file = "emseg.models.sample", Path(__file__).with_name("sample_leaves.py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)


@pytest.fixture(scope="session")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of choices, base.yaml among them."""
    folder = tmp_path_factory.mktemp("conf")
    for name, text in CONF.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a tutorial below the test's folder and gives its path."""

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write_file


@pytest.fixture
def load_text(write: Write, conf: Path) -> Load:
    """Loads a tutorial given as text (the sample one by default) with overrides."""

    def load_tutorial(
        *overrides: str, text: str = TUTORIAL, mode: str = "train", **kw: Any
    ) -> Loaded:
        file = write("tutorials/sample.yaml", text)
        return load(file, mode=mode, overrides=overrides, conf=[conf], **kw)

    return load_tutorial
