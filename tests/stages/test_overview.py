"""The picture: its panels, its size, its colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emseg.config.schema_data import VolumeConfig
from emseg.stages import overview
from emseg.stages.overview import label_colours, write_overview
from emseg.stages.sources import open_sources
from emseg.volumes import write_volume

SHAPE = (8, 20, 30)


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.ones(SHAPE, np.uint32)
    labels[:, :, 15:] = 2**31
    labels[:, 10] = 0
    place = {"voxel_size": None, "axes": "zyx"}
    write_volume("im.h5", rng.integers(0, 256, SHAPE, np.uint8), attributes={}, **place)
    write_volume("lab.h5", labels, attributes={}, **place)
    write_volume("seg.h5", labels, attributes={}, **place)
    facts = {"offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "activation": "probability"}
    affinity = np.stack([np.full(SHAPE, value, np.float32) for value in (0.0, 0.4, 0.6)])
    write_volume("pred.h5", affinity, axes="czyx", voxel_size=None, attributes=facts)


def draw(names, *, predictions=None, segmentations=None, label="lab.h5"):
    one = VolumeConfig(image="im.h5", label=label)
    sources = open_sources(dict.fromkeys(names, one), split="test")
    files = {"predictions": predictions or {}, "segmentations": segmentations or {}}
    write_overview(Path("overview.png"), sources, **files)
    with Image.open("overview.png") as picture:
        return np.asarray(picture.convert("RGB"))


def cut(picture, rows):
    """The picture's cells: (row, panel, height, width, RGB)."""
    height, width = picture.shape[0] // rows, picture.shape[1] // 4
    return picture.reshape(rows, height, 4, width, 3).swapaxes(1, 2)


def colours(panel):
    """The colours that fill at least a twentieth of the panel, but for the white around it."""
    found, counts = np.unique(panel.reshape(-1, 3), axis=0, return_counts=True)
    filling = found[counts > panel[..., 0].size / 20]
    return {tuple(int(part) for part in one) for one in filling} - {(255, 255, 255)}


def test_four_panels_and_three_slices_of_each_volume(volumes):
    both = {"a": "pred.h5", "b": "pred.h5"}, {"a": "seg.h5", "b": "seg.h5"}
    picture = draw("ab", predictions=both[0], segmentations=both[1])
    assert picture.shape == (2 * 3 * 352, 4 * 352, 3)
    ids = label_colours(np.array([1, 2**31]))
    wanted = {tuple(int(part) for part in colour) for colour in ids}
    for row in cut(picture, 6):
        raw, affinity, segmentation, truth = row
        assert np.ptp(raw) > 200
        assert colours(affinity) == {(127, 127, 127)}  # the mean of the in-plane channels
        assert colours(segmentation) == colours(truth) == wanted


def test_probabilities_are_found_among_other_channels(volumes):
    facts = {"offsets": [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    facts["activation"] = ["distance", "probability", "probability", "probability"]
    affinity = np.stack([np.full(SHAPE, value, np.float32) for value in (-1.0, 0.0, 0.4, 0.6)])
    write_volume("pred.h5", affinity, axes="czyx", voxel_size=None, attributes=facts)
    for row in cut(draw("a", predictions={"a": "pred.h5"}), 3):
        assert colours(row[1]) == {(127, 127, 127)}


def test_what_is_not_there_stays_empty(volumes):
    picture = draw("a", label=None)
    for row in cut(picture, 3):
        for panel in row[1:]:
            assert (panel[60:] == 255).all()


def test_many_volumes_still_make_a_picture(volumes, monkeypatch):
    monkeypatch.setattr(overview, "MOST_VOLUMES", 2)
    assert draw("abc").shape[0] == 2 * 3 * 352


def test_a_colour_belongs_to_its_id():
    labels = np.arange(1000, dtype=np.uint64).reshape(10, 10, 10)
    found = label_colours(labels)
    assert found.shape == (10, 10, 10, 3) and found.dtype == np.uint8
    assert (found[0, 0, 0] == 0).all()
    assert found.reshape(-1, 3)[1:].min() >= 64  # never taken for background
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 990
    part = label_colours(labels[3:4, ::-1].astype(np.int64))
    assert (part == found[3:4, ::-1]).all()
