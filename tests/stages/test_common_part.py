"""Images, labels, masks, segmentations and skeletons that lie at different places."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from emseg.config.schema_data import Data, VolumeConfig
from emseg.errors import UserError
from emseg.stages.evaluate import evaluate
from emseg.stages.overview import write_overview
from emseg.stages.patches import open_training
from emseg.stages.sources import open_sources, within
from emseg.stages.truth import truth_facts
from emseg.training.supervised import Supervised
from emseg.volumes.places import check_on_grid

SHAPE = (8, 10, 12)
SIZE = (30.0, 6.0, 6.0)
# Unequal everywhere, so that a voxel says where it comes from.
WORLD = np.arange(np.prod([16, 20, 24]), dtype=np.uint32).reshape(16, 20, 24) + 1


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def part(name, first=(0, 0, 0), shape=SHAPE, size=SIZE):
    """A cut of the world with its place, as HDF5 or as OME-Zarr."""
    cut = WORLD[tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))]
    offset = [float(a * s) for a, s in zip(first, size, strict=True)]
    if name.endswith(".h5"):
        with h5py.File(name, "w") as file:
            file["main"] = cut
            file["main"].attrs.update({"resolution": size, "offset": offset})
        return name
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    transforms = [
        {"type": "scale", "scale": [s / 1000 for s in size]},
        {"type": "translation", "translation": [o / 1000 for o in offset]},
    ]
    scales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}]
    zarr.create_group(name, attributes={"ome": {"multiscales": scales}})["0"] = cut
    return name


def world(source):
    """Where the image and the truth of a source lie in the world, by their voxels."""
    return source.image[...], source.label[...]


def opened(split, **volume):
    (source,) = open_sources({"": VolumeConfig(**volume)}, split=split)
    return source


@pytest.mark.parametrize("label", ["lab.h5", "lab.zarr"])
@pytest.mark.parametrize("split", ["train", "val", "unlabelled"])
def test_training_takes_what_image_label_and_mask_share(label, split, capsys):
    part("im.h5")
    part(label, (2, 3, 4))
    part("mask.h5", (1, 0, 0), (5, 10, 12))
    source = opened(split, image="im.h5", label=label, mask="mask.h5")
    expected = WORLD[2:6, 3:10, 4:12]
    for found in (source.image, source.label, source.mask, source.labelled().image):
        np.testing.assert_array_equal(found[...], expected)
    assert source.region()["first"] == [2, 3, 4] and source.region()["stop"] == [6, 10, 12]
    assert source.image.offset == pytest.approx((60, 18, 24))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "used is what they share, voxels [2:6, 3:10, 4:12]" in told[0]
    assert "begins at voxel [2, 3, 4] of im.h5:main" in told[0] and "[0:8, 0:10, 0:12]" in told[0]


def test_a_range_counts_in_voxels_of_the_image():
    part("im.h5", (1, 0, 0))
    part("lab.h5", (3, 0, 0))
    source = opened("train", image="im.h5", label="lab.h5", range=(1, 5))
    assert source.region()["first"] == [2, 0, 0] and source.region()["stop"] == [5, 10, 12]
    for found in world(source):
        np.testing.assert_array_equal(found, WORLD[3:6, :10, :12])
    np.testing.assert_array_equal(within(source, (1, 2)).label[...], WORLD[4:5, :10, :12])
    tested = opened("test", image="im.h5", label="lab.h5", range=(1, 5))
    np.testing.assert_array_equal(tested.image[...], WORLD[2:6, :10, :12])
    np.testing.assert_array_equal(tested.label[...], WORLD[3:6, :10, :12])
    assert tested.truth_first == (1, 0, 0)
    with pytest.raises(
        UserError, match=r"im.h5:main shares no voxel of \[0:2.*lab.h5:main from \[2"
    ):
        opened("train", image="im.h5", label="lab.h5", range=(0, 2))


def test_a_split_is_of_what_is_shared():
    part("im.h5")
    part("lab.h5", (4, 0, 0))
    config = Data(
        train={"": VolumeConfig(image="im.h5", label="lab.h5")},
        split_train_range=(0.0, 0.5),
        split_val_range=(0.5, 1.0),
    )
    found = open_training(config, Supervised)
    np.testing.assert_array_equal(found.train[0].label[...], WORLD[4:6, :10, :12])
    np.testing.assert_array_equal(found.val[0].image[...], WORLD[6:8, :10, :12])


def test_a_test_predicts_the_whole_image_and_scores_what_has_truth(capsys):
    part("im.h5")
    part("lab.h5", (2, 3, 4))
    source = opened("test", image="im.h5", label="lab.h5")
    assert source.image.shape == SHAPE and source.label.shape == (6, 7, 8)
    assert source.image.offset == (0, 0, 0)
    assert "all of it is predicted, scored is what they share" in capsys.readouterr().err
    facts = truth_facts(source)
    assert (facts["first"], facts["stop"]) == ([2, 3, 4], [8, 10, 12])
    whole = truth_facts(opened("test", image="im.h5", label=part("same.h5")))
    assert "first" not in whole


COUNTS = {"counts": {"_target_": "emseg.evaluation.counts.counts"}}
RAND = {"rand": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"}}
CREMI = {"cremi": {"_target_": "emseg.evaluation.cremi_distance.cremi_distance"}}


def scored(segmentation, metrics=RAND, **volume):
    source = opened("test", image="im.h5", **volume)
    options = {"folder": Path(), "force": False, "verify": False}
    return evaluate({source.name: Path(segmentation)}, [source], metrics=metrics, **options)[
        source.name
    ]


@pytest.mark.parametrize("metrics", [RAND, CREMI])
@pytest.mark.parametrize(
    ("segmentation", "label", "voxels"),
    [
        (((0, 0, 0), SHAPE), ((2, 3, 4), SHAPE), 6 * 7 * 8),
        (((2, 3, 4), SHAPE), ((0, 0, 0), SHAPE), 6 * 7 * 8),
        (((1, 0, 0), SHAPE), ((2, 3, 4), SHAPE), 6 * 7 * 8),
        (((4, 0, 0), (2, 4, 5)), ((2, 3, 4), SHAPE), 2 * 1 * 1),
    ],
)
def test_a_segmentation_is_scored_where_it_has_truth(segmentation, label, voxels, metrics):
    part("im.h5")
    part("seg.h5", *segmentation)
    part("lab.h5", *label)
    found = scored("seg.h5", metrics | COUNTS, label="lab.h5")
    # The same ids in the same places of the world.
    assert found["n_voxels"] == found["n_gt"] == found["n_pred"] == voxels
    assert found.get("adapted_rand_skimage", found.get("cremi_distance")) == 0
    (record,) = json.loads(Path("metrics.json").read_text())["records"].values()
    assert record["truths"]["im"].get("stop") is not None or segmentation[0] != (0, 0, 0)


def test_the_same_files_moved_make_another_record():
    part("im.h5")
    part("lab.h5")
    part("seg.h5")
    scored("seg.h5", label="lab.h5")
    part("seg.h5", (2, 0, 0))
    scored("seg.h5", label="lab.h5")
    assert len(json.loads(Path("metrics.json").read_text())["records"]) == 2


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ({"size": (30.0, 12.0, 12.0)}, r"seg.h5:main has voxels of \[30, 12, 12\].*im.h5:main"),
        ({"first": (8, 10, 12)}, r"seg.h5:main begins at voxel \[8, 10, 12\] of im.h5.*no voxel"),
    ],
)
def test_a_segmentation_of_another_grid_is_refused(segmentation, told):
    part("im.h5")
    part("lab.h5")
    part("seg.h5", **segmentation)
    with pytest.raises(UserError, match=told):
        scored("seg.h5", label="lab.h5")


@pytest.mark.parametrize("key", ["label", "mask"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"size": (40.0, 6.0, 6.0)}, r"other.h5:main has voxels of \[40, 6, 6\] nm, its image im"),
        (
            {"first": (0, 0, 12)},
            r"im.h5:main shares no voxel of .* other.h5:main from \[0, 0, 12\]",
        ),
    ],
)
def test_a_label_or_mask_of_another_grid_is_refused(key, split, other, told):
    part("im.h5")
    part("lab.h5")
    part("other.h5", **other)
    with pytest.raises(UserError, match=told):
        opened(split, **{"image": "im.h5", "label": "lab.h5", key: "other.h5"})


def test_a_mask_of_the_decoder_must_cover_the_prediction_s_voxels():
    source = opened("test", image=part("im.h5"))
    key = "decoding.affinity_mask_path"
    check_on_grid(part("same.h5"), source.image, what=key)
    for name, place, told in (
        ("a.h5", {"first": (1, 0, 0)}, r"a.h5:main begins at \[30, 0, 0\] nm.*must cover the same"),
        ("b.h5", {"size": (30.0, 6.0, 7.0)}, r"b.h5:main has voxels of \[30, 6, 7\] nm"),
        (
            "c.h5",
            {"shape": (8, 10, 11)},
            r"c.h5:main .*the shape \(8, 10, 11\).*must cover the same",
        ),
    ):
        with pytest.raises(UserError, match=f"^{key}: {told}"):
            check_on_grid(part(name, **place), source.image, what=key)


def test_segmentations_and_masks_that_name_no_axes_have_the_image_s():
    cube = np.random.default_rng(0).integers(1, 4, (5, 5, 5), np.uint8)
    for name, axes in (("im", "xyz"), ("lab", "xyz"), ("seg", None), ("turned", "zyx")):
        with h5py.File(f"{name}.h5", "w") as file:
            file["main"] = cube.T if name == "turned" else cube
            if axes:
                file["main"].attrs["axes"] = axes
    for name in ("seg.h5", "turned.h5"):
        assert scored(name, label="lab.h5")["adapted_rand_skimage"] == 0
    source = opened("test", image="im.h5")
    check_on_grid("seg.h5", source.image, what="mask")
    with pytest.raises(UserError, match="turned.h5:main has the axes zyx, im.h5:main xyz"):
        check_on_grid("turned.h5", source.image, what="mask")


def test_skeletons_in_nm_lie_where_the_image_does():
    part("im.h5", (2, 3, 4))
    Path("s").mkdir()
    # x, y, z: the voxels (0, 1, 2) and (1, 1, 2) of the image, hence (2, 4, 6) of the world.
    Path("s/1.swc").write_text("1 0 36 24 60 1 -1\n2 0 36 24 90 1 1\n")
    found = opened("test", image="im.h5", skeletons="s").skeletons()
    assert found.voxels.tolist() == [[0, 1, 2], [1, 1, 2]]
    Path("s/1.swc").write_text("1 0 12 6 0 1 -1\n2 0 12 6 30 1 1\n")
    with pytest.raises(
        UserError, match=r"is outside im.h5:main .* and offset \[60.0, 18.0, 24.0\]"
    ):
        opened("test", image="im.h5", skeletons="s").skeletons()
    part("seg.h5", (3, 3, 4))
    Path("s/1.swc").write_text("1 0 36 24 60 1 -1\n2 0 36 24 90 1 1\n")
    with pytest.raises(UserError, match="with skeletons it must have all"):
        scored("seg.h5", skeletons="s")


def test_the_picture_shows_what_there_is():
    part("im.h5")
    part("lab.h5", (4, 0, 0))
    part("seg.h5", (1, 0, 0))
    source = opened("test", image="im.h5", label="lab.h5")
    write_overview(Path("o.png"), [source], predictions={}, segmentations={"im": Path("seg.h5")})
    assert Path("o.png").stat().st_size > 0
