"""emseg as a library: light to import, and the script of docs/ on a run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import emseg
from emseg import cli
from emseg.errors import UserError
from stages.tiny_tutorial import environment, train_tiny, write_volumes

SCRIPT = Path(__file__).parents[1] / "docs" / "notebook.py"
RAW, LABELS = "datasets/demo/test_raw.h5", "datasets/demo/test_labels.h5"
OFFSETS = [[2, 0, 0], [0, 3, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
HEAVY = ("torch", "numpy", "numba", "hydra", "omegaconf", "pytorch_lightning", "zarr", "h5py")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_volumes(folder)
    here = Path.cwd()
    os.chdir(folder)
    try:
        # Without data.test: a notebook brings its own images.
        return folder / train_tiny(f"target.offsets={OFFSETS}", "data.test=null")
    finally:
        os.chdir(here)


@pytest.fixture
def workplace(run, monkeypatch):
    monkeypatch.chdir(run.parents[2])


def test_import_is_light_and_names_its_contents():
    code = "import sys, emseg; print(*(name for name in sys.modules)); print(*dir(emseg))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    modules, names = (line.split() for line in done.stdout.splitlines())
    assert not set(modules) & set(HEAVY)
    assert set(emseg.__all__) <= set(names)


def test_names_are_those_of_their_modules():
    for name in emseg.__all__:
        assert getattr(emseg, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'agglomerated'"):
        emseg.agglomerated  # noqa: B018


def test_script_runs(run, workplace):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(run), RAW, LABELS],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "threshold 0.5:" in done.stdout
    assert "predicted (5, 12, 40, 40) float32" in done.stdout


def test_prediction_is_that_of_infer_mode(run, workplace):
    checkpoint = run / "checkpoints" / "last.ckpt"
    data = f"data.test={{image: {RAW}}}"
    arguments = ["--config", str(run / "config.yaml"), "--mode", "infer"]
    assert cli.main([*arguments, "--checkpoint", str(checkpoint), data]) == 0
    written = emseg.open_volume(run / "results_step=2" / "test_im_prediction.h5")
    image = emseg.open_volume(RAW)
    for given in (image, image[...]):
        prediction = emseg.load_run(run).predict(given)
        np.testing.assert_array_equal(prediction.values, written[...])
    assert [list(offset) for offset in prediction.offsets] == written.attributes["offsets"]
    assert prediction.edge_side == written.attributes["edge_side"]
    assert list(prediction.channels) == written.attributes["channels"]


def test_nearest_edges_are_one_an_axis(run, workplace):
    prediction = emseg.load_run(run).predict(emseg.open_volume(RAW)[:4, :16, :16])
    edges = prediction.nearest()
    assert edges.offsets == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    np.testing.assert_array_equal(edges.values, prediction.values[2:])


def test_run_is_found_by_its_folder_or_a_checkpoint_in_it(run, workplace):
    best = next((run / "checkpoints").glob("step=*"))
    assert emseg.load_run(run).checkpoint == run / "checkpoints" / "last.ckpt"
    assert emseg.load_run(str(best)).checkpoint == best
    overrides = ["inference.window.overlap=0.25"]
    assert emseg.load_run(run, overrides=overrides).config.inference.window.overlap == 0.25


def test_choices_of_ones_own_are_found(run, workplace, tmp_path):
    choice = tmp_path / "mine" / "decoding" / "strict.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("defaults: [affinity_cc, _self_]\nthreshold: 0.85\n")
    with pytest.raises(UserError, match="'strict'"):
        emseg.load_run(run, overrides=["decoding=strict"])
    loaded = emseg.load_run(run, overrides=["decoding=strict"], conf=[tmp_path / "mine"])
    assert loaded.config.decoding["threshold"] == 0.85


@pytest.mark.parametrize("name", ["datasets", "datasets/demo/test_raw.h5", "absent.ckpt"])
def test_what_is_no_run_is_refused(workplace, name):
    with pytest.raises(UserError, match=f"{name} .*no run"):
        emseg.load_run(name)


def test_images_that_the_network_cannot_take_are_refused(run, workplace):
    loaded = emseg.load_run(run)
    with pytest.raises(UserError, match="NaN"):
        loaded.predict(np.full((4, 16, 16), np.nan, np.float32))
    with pytest.raises(UserError, match="2 channels"):
        loaded.predict(np.zeros((2, 4, 16, 16), np.uint8))
