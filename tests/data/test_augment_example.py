"""The transform that the documents show works as they say."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data.drawn_samples import random_sample, read_for
from emseg.config import load
from emseg.config.construction import build
from emseg.data.augment import Pipeline
from test_docs import DOCUMENTS, blocks, fences

TEXT = DOCUMENTS["augmentation"]
FLAT = """
experiment_name: own
data: {train: {image: a.h5, label: b.h5}}
optimization: {max_epochs: 1}
"""


@pytest.fixture
def mylab(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the document's code makes."""
    module = ModuleType("mylab")
    monkeypatch.setitem(sys.modules, "mylab", module)
    (code,) = fences(TEXT, "python")
    exec(compile(code, "mylab.py", "exec"), vars(module))
    return module


def test_a_choice_of_ones_own_trains_with_it(mylab: ModuleType, tmp_path: Path) -> None:
    ((name, text),) = [block for block in blocks(TEXT) if block[0]]
    for file, body in ((name, text), ("flat.yaml", FLAT)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(body)
    loaded = load(
        tmp_path / "flat.yaml",
        mode="train",
        overrides=[f"augment={Path(name).stem}", "augment.transforms.marks.p=1"],
        conf=[tmp_path / "my_conf"],
        allow=["mylab"],
    )
    augment = build(loaded.root.augment, kind="augment", allow=loaded.allow)
    assert isinstance(augment, Pipeline)
    *_, marks = augment.transforms.values()
    assert isinstance(marks, mylab.KnifeMarks)
    size = (6, 16, 16)
    augment(random_sample(read_for(augment, size)), size, np.random.default_rng(0))
