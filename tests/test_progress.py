"""What is shown of long work."""

import time
from contextlib import contextmanager

import numpy as np
import pytest

from emseg import progress
from emseg.blocks import in_threads
from emseg.decoding.agglomerate import agglomerate
from emseg.decoding.agglomeration import merging, supervoxels
from emseg.progress import phase, track


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.005)


def until(shown, word):
    """Waits for a line with the word."""
    seen = ""
    for _ in range(5000):
        seen += shown.readouterr().err
        if word in seen:
            return
        time.sleep(0.002)
    raise AssertionError(f"no line with {word}, but {seen}")


def test_of_phases_the_innermost_shows(capfd):
    with phase("outer"):
        until(capfd, "emseg: outer: 0.")
        with phase("inner"):
            until(capfd, "emseg: inner: 0.")
        until(capfd, "outer")
        with pytest.raises(ValueError), phase("failing"):
            raise ValueError
        for _ in track(range(3), total=3, label="blocks", unit="block"):
            time.sleep(0.02)
        assert "blocks: 3/3" in (seen := capfd.readouterr().err)
        assert "outer" not in seen[seen.index("blocks") :]
        until(capfd, "outer")
    capfd.readouterr()
    time.sleep(0.02)
    assert capfd.readouterr().err == ""


def test_an_agglomeration_names_what_it_is_at(monkeypatch):
    named = []

    @contextmanager
    def noted(label):
        named.append(label.split()[0])
        yield

    for module in (in_threads, supervoxels, merging):
        monkeypatch.setattr(module, "phase", noted)
    affinities = np.random.default_rng(0).random((3, 4, 8, 8), np.float32)
    agglomerate(affinities, offsets=np.eye(3, dtype=int).tolist(), edge_side="destination")
    assert named == ["fragments", "region", "merging", "segments"]
