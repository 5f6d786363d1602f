"""What base_banis's siblings change, and those that learn or test something else, run small."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.config.schema import Root
from emseg.synthetic import layouts
from emseg.volumes import open_volume
from stages.tiny_tutorial import SmallTutorial

FOLDER = tutorials_folder() / "neuron_nisb"
SMALL = (
    "model.width=2",
    "system.num_workers=0",
    "augment=none",
    "optimization.precision=32-true",
    "inference.window.window_size=[32,32,32]",
    "inference.window.overlap=0",
)
SHORT = (
    "data.dataloader.patch_size=[32,32,32]",
    "data.dataloader.batch_size=1",
    "optimization.max_steps=1",
    "optimization.n_steps_per_epoch=1",
    "optimization.val_check_interval=1",
    "optimization.val_steps_per_epoch=1",
    "monitor.logging.images.n_images=0",
)
NO_BORDER, BORDER = [0, 0, 0], [2, 2, 2]


def root(name: str, mode: str = "train") -> Root:
    return load(FOLDER / f"{name}.yaml", mode=mode, overrides=()).root


def outcome(name: str) -> dict[str, Any]:
    """What the table of siblings is about."""
    found = root(name)
    aff = found.target.get("heads", {}).get("aff", found.target)
    return {
        "size": (found.model["size"], found.model["kernel"]),
        "batch": found.data.dataloader.batch_size,
        "steps": found.optimization.total_steps,
        "erosion": list(aff["erosion"]),
        "loss": found.loss["_target_"].rpartition(".")[2],
        "ema": found.optimization.ema.enabled,
    }


BASE = {
    "size": ("S", 3),
    "batch": 4,
    "steps": 200_000,
    "erosion": NO_BORDER,
    "loss": "WeightedBCEWithLogits",
    "ema": False,
}
V1 = BASE | {"loss": "PerChannelBCEWithLogits", "ema": True}
V2 = V1 | {"loss": "PerHead"}
V3 = V1 | {"size": ("L", 3), "batch": 2}
ERODED = {"batch": 2, "erosion": BORDER}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("base_banis", BASE),
        ("base_banis_erosion2", BASE | ERODED),
        ("base_banis_v1", V1),
        ("base_banis_v1_erosion2", V1 | ERODED),
        ("base_banis_v2", V2),
        ("base_banis_v2_erosion2", V2 | ERODED),
        ("base_banis_v3", V3),
        ("base_banis_v3_erosion2", V3 | ERODED),
        ("base_banis_chunk", BASE),
        ("base_banis_crop", BASE),
        ("banis_s", BASE | {"batch": 8, "steps": 50_000}),
        ("banis_l", BASE | {"batch": 8, "steps": 50_000, "size": ("L", 5)}),
        ("common", V2 | {"size": ("B", 3), "steps": 100_000, "ema": False}),
    ],
)
def test_sibling_is_its_parent_but_for_its_own_lines(name: str, wanted: dict[str, Any]) -> None:
    assert outcome(name) == wanted
    assert root(name).experiment_name == f"nisb_{name}"


def test_the_list_above_is_all_there_are() -> None:
    there = {path.stem for path in FOLDER.glob("*.yaml")}
    marks = test_sibling_is_its_parent_but_for_its_own_lines.pytestmark
    assert there == {name for name, _ in marks[0].args[1]}


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small cubes of NISB's layout, a crop of the one to test on among them."""
    folder = tmp_path_factory.mktemp("siblings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layouts.SHAPES, "nisb", (48, 48, 40))
        layouts.write_layout("nisb", folder / "datasets" / "nisb" / "base")
    cube = folder / "datasets" / "nisb" / "base" / "test" / "seed101"
    with h5py.File(cube / "crop.h5", "w") as file:
        for name, axes in (("img", "xyzc"), ("seg", "xyz")):
            whole = open_volume(cube / "data.zarr" / name, axes=axes)[...]
            file[name] = whole.reshape(48, 48, 40)[:40, :36, :32]
    return folder


def sibling(name: str) -> SmallTutorial:
    return SmallTutorial(FOLDER / f"{name}.yaml", (*SMALL, *SHORT))


def test_heads_are_learned_apart_and_saved_whole(
    cubes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cubes)
    v2 = sibling("base_banis_v2")
    assert v2.emseg("train") == v2.emseg("test", "decoding.threshold=0.5") == 0
    prediction = open_volume(v2.results / "test_im_prediction.h5")
    assert (prediction.channels, prediction.dtype) == (7, np.float16)
    assert prediction.attributes["heads"] == {"aff": [0, 6], "sdt": [6, 7]}
    segmentation = open_volume(v2.results / "test_im_segmentation.h5")
    assert segmentation.attributes["select_channel"] == [0, 1, 2]
    assert (v2.results / "metrics.json").is_file()


def test_a_crop_is_scored_by_its_labels_and_a_chunk_not_at_all(
    cubes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cubes)
    crop, chunk = sibling("base_banis_crop"), sibling("base_banis_chunk")
    assert crop.emseg("train") == crop.emseg("test") == 0
    assert open_volume(crop.results / "test_im_segmentation.h5").shape == (40, 36, 32)
    assert "adapted_rand" in (crop.results / "metrics.json").read_text()
    (crop.results / "metrics.json").unlink()
    assert chunk.emseg("test", "--checkpoint", str(crop.checkpoint)) == 0
    assert open_volume(crop.results / "test_im_segmentation.h5").shape == (48, 48, 40)
    assert not (crop.results / "metrics.json").exists()
