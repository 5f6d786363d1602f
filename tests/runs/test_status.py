"""What `emseg status` says about finished and unfinished results."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from emseg.cli import main
from emseg.runs.lock import locked
from emseg.volumes import PartialVolume, ledger, write_volume

PLACE = {"axes": "czyx", "voxel_size": None}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run" / "results_step=2"
    folder.mkdir(parents=True)
    return folder


def printed(capsys, run):
    assert main(["status", str(run.parent)]) == 0
    return capsys.readouterr().out.splitlines()


def test_rows_speed_and_time_left(run, capsys, monkeypatch):
    seconds = itertools.count(100.0, 4.0)
    monkeypatch.setattr(ledger.time, "time", lambda: next(seconds))
    path, attributes = run / "a_prediction.h5", {"fingerprint": "f"}
    shape, chunks = (2, 80, 100, 100), (2, 8, 100, 100)
    unfinished = PartialVolume(
        path, shape=shape, dtype="u1", chunks=chunks, attributes=attributes, **PLACE
    )
    assert printed(capsys, run) == ["results_step=2/a_prediction.h5: 0 of 10 cells"]
    unfinished.write(0, np.zeros((2, 32, 100, 100), np.uint8))
    monkeypatch.setattr(ledger.time, "time", lambda: 117.0)
    # A row of 80 000 voxels every 4 s, six to go, the fourth at 112 s.
    assert printed(capsys, run) == [
        "results_step=2/a_prediction.h5: 4 of 10 cells, 20 kvoxel/s, 24 s left; the last 5 s ago"
    ]
    unfinished.write(32, np.zeros((2, 48, 100, 100), np.uint8))
    unfinished.finish()
    assert printed(capsys, run) == ["results_step=2/a_prediction.h5: finished"]


def test_who_works_at_it(run, capsys):
    write_volume(
        run / "a_segmentation.h5",
        np.ones((2, 3, 4), np.uint32),
        axes="zyx",
        voxel_size=None,
        attributes={},
    )
    with locked(run / "a", "emseg --mode test", report=print):
        first, second = printed(capsys, run)
    assert first.startswith("results_step=2/a.lock: process ")
    assert first.endswith(": emseg --mode test")
    assert second == "results_step=2/a_segmentation.h5: finished"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"of": {"shape": 1}}'])
def test_an_edited_description(run, capsys, text):
    Path(run / "a_prediction.h5.partial.json").write_text(text)
    (line,) = printed(capsys, run)
    assert line.endswith("unfinished, its description cannot be read")


def test_no_folder(tmp_path, capsys):
    assert main(["status", str(tmp_path / "none")]) == 2
    assert "status takes a run folder" in capsys.readouterr().err
    assert main(["status", str(tmp_path)]) == 0
    assert "no results" in capsys.readouterr().out
