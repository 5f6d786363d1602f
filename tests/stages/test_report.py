"""report.html: what it says, what its pictures show, and that it needs nothing else."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emseg.config.schema_data import VolumeConfig
from emseg.evaluation.voi import voi
from emseg.report.pictures import MERGED, MISSED, PARTS, SPLIT, blended, label_colours, rgb
from emseg.stages import report as stage
from emseg.stages.report import write_report
from emseg.stages.sources import open_sources
from emseg.volumes import write_volume

SHAPE = (8, 30, 40)
PLACE = {"axes": "zyx", "voxel_size": (40, 5, 10), "offset": (400, 0, 0)}


class Page(HTMLParser):
    """The page's text, pictures by title, and all that it refers to."""

    def __init__(self, text):
        super().__init__()
        self.words, self.pictures, self.ratios, self.refers = [], {}, {}, []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.refers += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            data = base64.b64decode(given["src"].partition(",")[2])
            with Image.open(io.BytesIO(data)) as picture:
                shown = np.asarray(picture.convert("RGB"))
            self.pictures.setdefault(given["alt"], []).append(shown)
            self.ratios[given["alt"]] = float(given["style"].partition(": ")[2])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """Objects 1, 2 and 3; segment 7 joins 1 and 2, object 3 is in 8 and 9, a corner in none."""
    monkeypatch.chdir(tmp_path)
    truth = np.ones(SHAPE, np.int32)
    truth[:, 10:20], truth[:, 20:] = 2, 3
    truth[0] = -1
    segmented = np.full(SHAPE, 7, np.uint32)
    segmented[:, 20:], segmented[:, 20:, 25:] = 8, 9
    segmented[:, :4, :4] = 0
    raw = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    for name, array in (("im", raw), ("lab", truth), ("seg", segmented)):
        write_volume(f"{name}.h5", array, **PLACE)
    facts = {"offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "activation": "probability"}
    write_volume(
        "pred.h5", np.zeros((3, *SHAPE), np.float32), attributes=facts, **PLACE | {"axes": "czyx"}
    )
    return raw, truth, segmented


def page(**changes):
    config = VolumeConfig(image="im.h5", **{"label": "lab.h5"} | changes)
    write_report(
        Path("report.html"),
        open_sources({"a": config}, split="test"),
        segmentations={"a": Path("seg.h5")},
        predictions={"a": Path("pred.h5")},
        scores={"a": {"voi_sum": 0.75}},
        metrics=[voi],
        title="<b>Mine</b> & yours",
        command="emseg --mode test 'a b'",
        config="experiment_name: mine",
    )
    return Page(Path("report.html").read_text())


def test_what_it_says_stands_in_one_file(volumes):
    found = page()
    assert all(address.startswith("data:image/png;base64,") for address in found.refers)
    assert not re.search(r"https?://|@import|url\(", Path("report.html").read_text())
    for words in (
        "<b>Mine</b> & yours",
        "voi_sum 0.7500",
        "voi The variation of information in bits: voi_split, voi_merge and their sum, voi_sum.",
        "voxels 8 x 30 x 40",
        "voxel size 40 x 5 x 10 nm",
        "emseg --mode test 'a b'",
        "experiment_name: mine",
    ):
        assert words in found.text


def test_sections_show_segments_in_the_colours_of_their_objects(volumes):
    raw, truth, segmented = volumes
    found = page()
    assert [*found.pictures][:5] == [
        f"{n} [2]" for n in ("raw", "affinity", "segmentation", "truth", "errors")
    ]
    assert found.ratios["raw [2]"] == pytest.approx(40 * 10 / (30 * 5))
    (shown,), (of_truth,) = found.pictures["segmentation [2]"], found.pictures["truth [2]"]
    np.testing.assert_array_equal(of_truth, label_colours(truth[2]))
    # Object 2 has 400 voxels in a section, 1 has 384 with a segment: segment 7 is of object 2.
    np.testing.assert_array_equal(shown[4:20, 4:], np.broadcast_to(of_truth[15, 20], (16, 36, 3)))
    # 8 is the largest of object 3; 9 has a colour of its own.
    np.testing.assert_array_equal(shown[20:, :25], of_truth[20:, :25])
    assert len({tuple(one) for one in shown.reshape(-1, 3)} - {(0, 0, 0)}) == 3
    assert (shown[:4, :4] == 0).all()


def test_errors_lie_over_the_image(volumes):
    raw, truth, segmented = volumes
    (shown,) = page().pictures["errors [4]"]
    grey = rgb(raw[4])
    wrong = {MERGED: np.zeros(SHAPE[1:], bool), SPLIT: np.zeros(SHAPE[1:], bool)}
    wrong[MISSED] = wrong[MERGED].copy()
    wrong[MERGED][:10], wrong[SPLIT][20:, 25:], wrong[MISSED][:4, :4] = True, True, True
    wrong[MERGED][:4, :4] = False
    for colour, where in wrong.items():
        grey = blended(grey, where, colour)
    np.testing.assert_array_equal(shown, grey)


def test_the_worst_errors_have_places(volumes):
    raw, truth, segmented = volumes
    found = page()
    # Object 1 has 7 sections of 10 x 40 voxels without a corner of 4 x 4.
    assert f"merger : segment 7 joins objects 2 and 1 {7 * 384} voxels outside" in found.text
    assert f"split : object 3 is in segments 8 and 9 {7 * 150} voxels outside" in found.text
    # In the middle of the face between rows 9 and 10, of sections 1 to 7, in nm with the offset.
    assert re.search(r"voxel 4, 9, (19|20) 560, 45, (190|200) nm", found.text)
    (plane,) = found.pictures["z = 4"][:1]
    parts = blended(rgb(raw[4]), segmented[4] == 7, (0, 0, 0))
    assert plane.shape == parts.shape
    expected = blended(rgb(raw[4]), (truth[4] == 2) & (segmented[4] == 7), PARTS[0])
    expected = blended(expected, (truth[4] == 1) & (segmented[4] == 7), PARTS[1])
    np.testing.assert_array_equal(plane, expected)


def test_without_truth_there_are_neither_errors_nor_their_colours(volumes):
    found = page(label=None)
    assert {title.partition(" ")[0] for title in found.pictures} == {
        "raw",
        "affinity",
        "segmentation",
    }
    assert "merge" not in found.text.replace("voi_merge", "") and "not segmented" not in found.text


def test_skeletons_have_errors_of_their_own(volumes):
    Path("trees").mkdir()
    # Along x through segment 7, from object 1 to 2, and through 8 and 9; nm, type 2, a parent.
    for name, rows in {
        "1": [(x, 5 * 5, 400 + 4 * 40) for x in range(50, 350, 50)],
        "2": [(x, 15 * 5, 400 + 4 * 40) for x in range(50, 350, 50)],
        "3": [(x, 25 * 5, 400 + 4 * 40) for x in range(50, 350, 50)],
    }.items():
        lines = [
            f"{n} 2 {x} {y} {z} 1 {n - 1 if n > 1 else -1}" for n, (x, y, z) in enumerate(rows, 1)
        ]
        Path(f"trees/{name}.swc").write_text("\n".join(lines))
    found = page(label=None, skeletons="trees")
    assert "merger : segment 7 joins skeletons 1, 2" in found.text
    assert "split : skeleton 3 is in segments 9 and 8 50 nm" in found.text
    assert any(title.startswith("x = ") for title in found.pictures)


def test_a_page_is_made_again_only_of_something_else(volumes):
    raw, truth, segmented = volumes
    page()
    Path("report.html").write_text(Path("report.html").read_text() + "as it was")
    assert page().text.endswith("as it was")
    write_volume("seg.h5", truth.clip(0).astype(np.uint32), **PLACE)
    assert not page().text.endswith("as it was")


def test_of_many_volumes_the_first_have_pictures(volumes, monkeypatch):
    monkeypatch.setattr(stage, "MOST_VOLUMES", 0)
    assert page().pictures == {}
