"""What is said of a prediction before it begins, and a disk that is too small for it."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import h5py
import pytest

from emseg.blocks.memory import GIB
from emseg.cli import main
from emseg.decoding.agglomeration.limits import BYTES_PER_FRAGMENT
from stages.tiny_tutorial import DEMO, TINY, train_tiny, write_volumes

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)
    checkpoint = train_tiny() / "checkpoints" / "last.ckpt"
    return ["--config", str(DEMO), "--checkpoint", str(checkpoint), *TINY]


def test_windows_memory_disk_and_time(arguments, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 5 << 30))
    asked = ["system.executor=process", "system.processes=3"]
    asked += ["inference.test_time_augmentation.enabled=true"]
    assert main(["plan", *arguments, *asked]) == 0
    printed = capsys.readouterr().err
    assert "test_im: 12x40x40 voxels in 36 windows of [4, 16, 16]" in printed
    assert "8 views of each, by 3 workers" in printed
    assert "5 GiB are free" in printed
    assert re.search(r"time: about \S+ (s|min) a window here, \S+ (s|min) for all", printed)
    assert main(["--mode", "infer", *arguments]) == 0
    # The number of windows that the prediction itself reports.
    assert "test_im: 36 windows of [4, 16, 16]" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_one_line_and_leaves_nothing(arguments, capsys, monkeypatch):
    needed = 3 * 12 * 40 * 40 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed - 1))
    assert main(["--mode", "infer", *arguments]) == 2
    printed = capsys.readouterr().err
    assert "the prediction of test_im takes up to" in printed and "output_dtype=uint8" in printed
    (results,) = Path("outputs/demo").glob("*/results_step=2")
    assert [path.name for path in results.iterdir()] == ["config.yaml"]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed))
    assert main(["--mode", "infer", *arguments]) == 0


def test_edges_are_those_of_the_decoded_window(arguments, capsys):
    asked = ["decoding=agglomerate", "inference.window.window_size=[12,40,40]"]
    assert main(["plan", *arguments, *asked]) == 0
    printed = capsys.readouterr().err
    found = re.search(r"about ([\d,]+) fragments and ([\d,]+) edges, \S+ \S+ of decoding", printed)
    assert found is not None, printed
    assert main(["--mode", "test", *arguments, *asked, "decoding.save_graph=true"]) == 0
    (results,) = Path("outputs/demo").glob("*/results_step=2")
    with h5py.File(next(results.glob("*_graph.h5"))) as file:
        counted = len(file["sizes"]), len(file["edges"])
    # The window is the whole volume here.
    assert tuple(int(number.replace(",", "")) for number in found.groups()) == counted


def test_a_graph_that_the_memory_does_not_hold_shows_before(arguments, capsys):
    # The window, a quarter of the volume, fits.
    window = ["decoding=agglomerate", "inference.window.window_size=[12,20,20]"]
    assert main(["plan", *arguments, *window]) == 0
    printed = re.search(r"about ([\d,]+) fragments", capsys.readouterr().err)
    needed = int(printed[1].replace(",", "")) * BYTES_PER_FRAGMENT
    limit = f"decoding.memory_limit={0.9 * needed / GIB:.9f}"
    assert main(["plan", *arguments, *window, limit]) == 0
    assert "which is too little" in capsys.readouterr().err
    assert main(["--mode", "test", *arguments, *window, limit]) == 2
