"""One prediction by several workers: the same bytes as by one process, whatever happens to them."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emseg.cli import main
from emseg.runs.lock import locked
from emseg.stages import infer as infer_module
from emseg.stages import prediction_parts
from emseg.volumes import PartialVolume, open_volume, read_attributes, write_volume
from emseg.volumes import cells as cells_module
from stages.tiny_tutorial import DEMO, TINY, cells, environment, train_tiny, write_volumes

SHAPE, CHUNKS = (60, 40, 40), (4, 8, 40, 40)
ROWS = 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with volumes, a checkpoint, and the prediction by a single process."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_volumes(folder)
        raw, labels = cells(SHAPE, seed=7)
        for name, array in (("raw", raw), ("labels", labels)):
            file = f"datasets/demo/test_{name}.h5"
            write_volume(file, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})
        train_tiny()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(infer_module, "default_chunks", chunks)
            assert emseg() == 0
        (made,) = results().glob("test_im_prediction.h5")
        yield folder, open_volume(made)[...], read_attributes(made)
    finally:
        os.chdir(before)


def chunks(shape):
    return (len(shape) == 4 and shape[0], 8, *shape[-2:])


def results():
    (found,) = Path("outputs/demo").glob("*/results_step=2")
    return found


def emseg(*words, mode="infer"):
    return main(arguments(*words, mode=mode))


def arguments(*words, mode="infer"):
    (checkpoint,) = Path("outputs/demo").glob("*/checkpoints/last.ckpt")
    given = ["--config", str(DEMO), "--mode", mode, "--checkpoint", str(checkpoint), *TINY]
    return [*given, "evaluation.enabled=false", *words]


@pytest.fixture(autouse=True)
def copied(trained, tmp_path, monkeypatch):
    """A copy of the folder without the prediction, whose files have the same times."""
    monkeypatch.chdir(tmp_path)
    for name in ("datasets", "outputs"):
        shutil.copytree(trained[0] / name, name)
    (results() / "test_im_prediction.h5").unlink()
    monkeypatch.setattr(infer_module, "default_chunks", chunks)


@pytest.fixture
def written(monkeypatch):
    """The numbers of the rows of chunks that this process writes."""
    numbers, store = [], PartialVolume._store

    def noted(volume, number, row):
        numbers.append(number)
        store(volume, number, row)

    monkeypatch.setattr(PartialVolume, "_store", noted)
    return numbers


def require_the_same(trained):
    made = results() / "test_im_prediction.h5"
    np.testing.assert_array_equal(open_volume(made)[...], trained[1])
    facts, expected = read_attributes(made), trained[2]
    assert facts["content"] == expected["content"] and facts["axes"] == expected["axes"]
    names = {path.name for path in results().iterdir()}
    assert names <= {
        "config.yaml",
        made.name,
        "test_im_segmentation.h5",
        "overview.png",
        "report.html",
    }


@pytest.mark.parametrize("executor", ["process", "dask"])
def test_workers_make_the_same_bytes(trained, executor):
    assert emseg(f"system.executor={executor}", "system.processes=2") == 0
    require_the_same(trained)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 3, 2, 1)])
def test_shards_in_any_order_make_the_same_bytes_once(trained, order, written, capsys):
    for number in order:
        assert emseg("--shard", f"{number}/3") == 0
    require_the_same(trained)
    assert sorted(written) == [*range(ROWS)]
    assert "others have" in capsys.readouterr().err


def test_more_shards_than_rows(trained):
    for number in range(1, 12):
        assert emseg("--shard", f"{number}/11") == 0
    require_the_same(trained)


def test_the_last_shard_decodes(trained, capsys):
    for number in (2, 1):
        assert not (results() / "test_im_segmentation.h5").exists()
        assert emseg("--shard", f"{number}/2", mode="test") == 0
    assert (results() / "test_im_segmentation.h5").exists()
    require_the_same(trained)


def test_shards_share_out_the_decoding_too(trained, capsys):
    few = "decoding.aff_threshold=[0.1,0.6]"
    assert emseg() == 0 and emseg(few, mode="decode") == 0
    (made,) = results().glob("test_im_segmentation.h5")
    whole = open_volume(made)[...]
    made.unlink()
    assert emseg(few, "--shard", "1/3", mode="decode") == 0  # a small volume at once
    np.testing.assert_array_equal(open_volume(made)[...], whole)
    made.unlink()
    there = []
    for number in (3, 1, 3, 2, 1):
        words = (few, "system.memory=0.002", "--shard", f"{number}/3")
        assert emseg(*words, mode="decode") == 0
        there.append(made.exists())
    assert there == [False, False, False, True, True]
    assert "others have" in capsys.readouterr().err
    np.testing.assert_array_equal(open_volume(made)[...], whole)
    require_the_same(trained)


@contextmanager
def held(name):
    """Another run, here another thread, has the lock of that name meanwhile."""
    ready, over = threading.Event(), threading.Event()

    def hold():
        with locked(results() / name, "another run", report=print):
            ready.set()
            over.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        over.set()
        other.join()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_im", ["--shard", "1/2"]),
        ("test_im.shard-1-of-2", ["--shard", "1/2"]),
        ("test_im.shard-1-of-2", []),
    ],
)
def test_a_whole_run_and_its_shards_exclude_each_other(name, words, capsys, monkeypatch):
    monkeypatch.setattr("emseg.stages.session.MOMENT", 0.2)
    with held(name):
        assert emseg(*words) == 2
    assert "another run" in capsys.readouterr().err


def test_two_shards_run_at_once(trained):
    for number in (1, 3):
        with held("test_im.shard-2-of-3"):
            assert emseg("--shard", f"{number}/3") == 0
    assert emseg("--shard", "2/3") == 0
    require_the_same(trained)


def test_a_killed_run_goes_on_where_it_was(trained, written):
    words = arguments("system.executor=process", "system.processes=2")
    script = (
        "import sys; from emseg.stages import infer; from emseg.cli import main\n"
        "infer.default_chunks = lambda shape: (shape[0], 8, *shape[-2:])\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    )
    Path("run.py").write_text(script)
    run = subprocess.Popen([sys.executable, "run.py", *words], env=environment())
    ledger = results() / "test_im_prediction.h5.partial.cells"
    while run.poll() is None and not any(path.stat().st_size for path in ledger.glob("*")):
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (results() / "test_im_prediction.h5").exists()
    assert emseg() == 0
    require_the_same(trained)
    assert 0 < len(written) < ROWS and len(set(written)) == len(written)


def test_workers_predict_a_damaged_row_again(trained):
    assert emseg("--shard", "1/2") == 0
    (chunk,) = Path(results(), "test_im_prediction.h5.partial/main/c/0/1").rglob("*/*")
    chunk.write_bytes(chunk.read_bytes()[:50])
    assert emseg("system.executor=process", "system.processes=2") == 0
    require_the_same(trained)


def test_other_weights_are_refused_by_the_workers(trained, capsys, monkeypatch):
    def other(filling, *rest):
        from emseg.stages.prediction_parts import fill

        fill(replace(filling, weights="0" * 64), *rest)

    monkeypatch.setattr(infer_module, "fill", other)
    assert emseg("system.executor=process", "system.processes=2") == 2
    printed = capsys.readouterr().err
    assert "was changed while its network predicts" in printed and "2 of 2 parts failed" in printed


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"])
def test_wrong_shards_are_one_line(text, capsys):
    assert emseg("--shard", text) == 2
    assert "1 <= I <= N" in capsys.readouterr().err


def test_only_some_modes_have_shards(capsys):
    assert emseg("--shard", "1/2", "--force") == 2
    assert "allows no --force" in capsys.readouterr().err
    assert emseg("--shard", "1/2", mode="evaluate") == 2
    assert "--shard is for --mode infer, decode and test" in capsys.readouterr().err


def test_large_sections_are_predicted_cell_by_cell(monkeypatch):
    monkeypatch.setattr(cells_module, "SIDE", 16)
    monkeypatch.setattr(infer_module, "default_chunks", lambda shape: (1, 8, 8, 16))
    window = "inference.window.window_size=[8,16,16]"
    predict, regions = prediction_parts.predict_volume, []

    def noted(*arguments, region, **named):
        regions.append(region[1:])
        return predict(*arguments, region=region, **named)

    monkeypatch.setattr(prediction_parts, "predict_volume", noted)
    assert emseg(window) == 0
    assert regions == [((0, 40), (0, 40))]
    (path,) = results().glob("test_im_prediction.h5")
    whole, about = open_volume(path)[...], read_attributes(path)
    path.unlink()
    # In so little memory there is no place for the sums of a section, nor for an HDF5 file.
    assert emseg(window, "system.memory=1e-4") == 0
    areas = [(y, x) for y in ((0, 24), (24, 40)) for x in ((0, 32), (32, 40))]
    assert regions[1:] == areas
    path = path.with_suffix(".zarr")
    np.testing.assert_array_equal(open_volume(path)[...], whole)
    assert read_attributes(path)["content"] == about["content"]
    assert about["content"]["across"] == [24, 32]
    shutil.rmtree(path)
    for number in (2, 3, 1):
        assert emseg(window, "--shard", f"{number}/3") == 0
    np.testing.assert_array_equal(open_volume(path.with_suffix(".h5"))[...], whole)
