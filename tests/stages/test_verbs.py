from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from cc3d import connected_components
from scipy.ndimage import binary_dilation

from emseg.cli import main
from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.errors import UserError
from emseg.stages import demo
from emseg.stages.sources import open_sources
from emseg.synthetic import layouts
from emseg.synthetic.synthesize import synthesize
from emseg.volumes import open_volume
from emseg.volumes.skeletons import read_skeletons


@pytest.fixture(autouse=True)
def small_volumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(layouts.SHAPES, "demo", (16, 48, 48))
    monkeypatch.setitem(layouts.SHAPES, "snemi", (16, 48, 64))
    monkeypatch.setitem(layouts.SHAPES, "nisb", (48, 40, 24))
    monkeypatch.setitem(layouts.SHAPES, "cremi", (16, 192, 192))
    monkeypatch.setitem(layouts.SHAPES, "polarity", (16, 96, 96))
    monkeypatch.setitem(layouts.SHAPES, "dbmim", (8, 40, 48))
    monkeypatch.setitem(layouts.SHAPES, "ac3ac4", (256, 32, 40))


def test_demo_trains_tunes_tests_and_prints_the_yardstick(tmp_path, monkeypatch, capsys):
    tutorial = yaml.safe_load((tutorials_folder() / "demo.yaml").read_text())
    tutorial["optimization"] |= {"max_steps": 2, "n_steps_per_epoch": 2}
    tutorial["optimization"]["scheduler"] = {"warmup_steps": 1}
    tutorial["data"]["dataloader"] = {"batch_size": 1, "patch_size": [8, 32, 32]}
    tutorial["inference"]["window"] = {"window_size": [16, 48, 48], "overlap": 0}
    tutorial["tune"] |= {"n_trials": 1}
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "tutorials" / "demo.yaml").write_text(yaml.safe_dump(tutorial))
    monkeypatch.setattr(demo, "tutorials_folder", lambda: tmp_path / "tutorials")

    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    assert "adapted_rand_skimage" in printed
    assert "watershed of the smoothed raw image, adapted Rand error: 0." in printed
    (run,) = (tmp_path / "outputs" / "demo").iterdir()
    names = {path.name for path in (run / "results_step=2").iterdir()}
    assert {"metrics.json", "overview.png", "test_im_segmentation.h5"} <= names


def test_snemi_layout_has_the_files_and_types_of_the_challenge_and_its_tutorial_reads_it():
    assert main(["synth", "snemi", "datasets/SNEMI"]) == 0
    types = {
        "train-input.tif": "uint8",
        "train-labels.tif": "uint16",
        "test-input.tif": "uint8",
        "test-labels.h5": "uint32",
    }
    for name, dtype in types.items():
        volume = open_volume(f"datasets/SNEMI/{name}")
        assert (volume.shape, str(volume.dtype)) == ((16, 48, 64), dtype)
    # One id, one piece: none has wrapped round in the smaller type.
    train = open_volume("datasets/SNEMI/train-labels.tif")[...]
    for labels in (train, open_volume("datasets/SNEMI/test-labels.h5")[...]):
        ids = np.unique(labels[labels > 0])
        assert len(ids) > 2
        assert connected_components(labels, connectivity=6).max() == len(ids)

    tutorial = tutorials_folder() / "neuron_snemi" / "neuron_snemi.yaml"
    for mode, split in (("train", "train"), ("test", "test")):
        volumes = getattr(load(tutorial, mode=mode, overrides=()).root.data, split)
        (source,) = open_sources(volumes, split=split)
        assert source.image.voxel_size == (30, 6, 6)
        assert source.label.shape == source.image.shape
        assert source.image.axes == source.label.axes == "zyx"
        assert source.image.dtype == "uint8"


def test_nisb_layout_is_in_xyz_with_skeletons_inside_their_neurons():
    assert main(["synth", "nisb", "datasets/nisb"]) == 0
    cubes = []
    for cube in ("train/seed0", "train/seed1", "val/seed100", "test/seed101"):
        folder = Path("datasets/nisb") / cube
        stored = {name: zarr.open_array(folder / "data.zarr" / name) for name in ("img", "seg")}
        assert {array.metadata.zarr_format for array in stored.values()} == {2}
        assert (stored["img"].shape, stored["img"].dtype) == ((48, 40, 24, 1), "uint8")
        labels = stored["seg"][...]
        assert labels.shape == (48, 40, 24)
        skeletons = read_skeletons(folder / "skeleton.pkl", voxel_size=(9, 9, 20))
        # One for each neuron, all of its nodes in it: positions are x, y, z as the arrays are.
        np.testing.assert_array_equal(skeletons.ids, np.unique(labels))
        at = labels[tuple(skeletons.voxels.T)]
        np.testing.assert_array_equal(at, skeletons.ids[skeletons.owner])
        assert (np.abs(skeletons.positions / (9, 9, 20) - skeletons.voxels) <= 1).all()
        assert skeletons.lengths.sum() > 1000
        cubes.append(stored["img"][...])
    assert len(np.unique(cubes, axis=0)) == 4


def test_cremi_layout_has_clefts_of_three_volumes_and_three_images_without_labels():
    assert main(["synth", "cremi", "datasets/corrected"]) == 0
    folder = Path("datasets/corrected")
    images = [f"im_{volume}.h5" for volume in ("A", "B", "C", "A+", "B+", "C+")]
    clefts = [f"syn_{volume}.h5" for volume in "ABC"]
    assert {path.name for path in folder.iterdir()} == {*images, *clefts}
    for names, dtype in ((images, "uint8"), (clefts, "uint16")):
        for name in names:
            volume = open_volume(folder / name)
            assert (volume.shape, str(volume.dtype)) == ((16, 192, 192), dtype)
            assert volume.voxel_size == (40, 4, 4) and volume.location.endswith(":main")
    assert len({open_volume(folder / name)[...].tobytes() for name in images}) == 6
    counts = []
    for name in clefts:
        labels = open_volume(folder / name)[...]
        # A cleft is dark: the labels are of the image beside them.
        image = open_volume(folder / name.replace("syn", "im"))[...]
        assert image[labels > 0].mean() < 0.7 * image[labels == 0].mean()
        counts.append(len(np.unique(labels[labels > 0])))
    assert 0 < counts[0] < counts[2]


def test_polarity_layout_has_two_sides_a_synapse_that_meet_at_the_cleft():
    assert main(["synth", "polarity", "datasets/polarity"]) == 0
    assert len(list(Path("datasets/polarity").iterdir())) == 6
    for number, split in enumerate(("train", "val", "test")):
        image, label = (open_volume(f"datasets/polarity/{split}_{n}.h5") for n in ("im", "syn"))
        assert (image.dtype, label.dtype, label.voxel_size) == ("uint8", "uint16", (30, 8, 8))
        labels = label[...]
        made = synthesize((16, 96, 96), seed=number, voxel_size=(30, 8, 8), synapses_per_um3=6)
        np.testing.assert_array_equal(image[...], made.raw)
        assert len(made.partners) > 0
        np.testing.assert_array_equal(np.unique(labels), np.arange(2 * len(made.partners) + 1))
        everything = (made.clefts > 0) | (made.pre > 0) | (made.post > 0)
        np.testing.assert_array_equal(labels > 0, everything)
        for synapse, partners in made.partners.items():
            sides = [labels == 2 * synapse - 1, labels == 2 * synapse]
            # Each side is in its own neurite, with its half of the cleft, and touches the other.
            assert [np.unique(made.labels[side]).tolist() for side in sides] == [
                [cell] for cell in partners
            ]
            assert all((made.clefts[side] == synapse).any() for side in sides)
            assert (binary_dilation(sides[0]) & sides[1]).any()


def test_an_unknown_layout_is_named_with_the_nearest(capsys):
    assert main(["synth", "snemo", "x"]) == 2
    assert "'snemo'" in (error := capsys.readouterr().err) and "did you mean 'snemi'" in error


def test_dbmim_layout_is_read_by_its_tutorials():
    assert main(["synth", "dbmim", "datasets/dbmim"]) == 0
    folder = tutorials_folder() / "dbmim"
    volumes = load(folder / "finetune.yaml", mode="train", overrides=()).root.data.train
    sources = open_sources(volumes, split="train")
    assert [source.image.shape for source in sources] == [(8, 40, 48)] * 3
    assert {source.image.voxel_size for source in sources} == {(40, 4, 4)}
    assert {str(source.label.dtype) for source in sources} == {"uint64"}
    pretrained = load(folder / "pretrain_r17.yaml", mode="train", overrides=()).root.data.train
    bare = open_sources(pretrained, split="train")
    assert [source.name for source in bare] == ["synthetic_1", "synthetic_2"]
    assert all(source.label is None for source in bare)


def test_ac3ac4_layout_has_the_sections_of_the_real_volumes():
    assert main(["synth", "ac3ac4", "datasets/ssns"]) == 0
    sections = {
        "ac3": 256,
        "ac4": 100,
        "kasthuri15_train": 100,
        "kasthuri15_unlabelled": 1000,
        "kasthuri15_test": 100,
    }
    assert {path.stem for path in Path("datasets/ssns").iterdir()} == {*sections}
    images = []
    for name, depth in sections.items():
        raw = open_volume(f"datasets/ssns/{name}.h5:volumes/raw")
        assert (raw.shape, raw.axes, str(raw.dtype)) == ((depth, 32, 40), "zyx", "uint8")
        assert raw.voxel_size == (30, 6, 6)
        images.append(raw.crop((0, 0, 0), (100, 32, 40))[...])
        if name == "kasthuri15_unlabelled":
            with pytest.raises(UserError, match="neuron_ids"):
                open_volume(f"datasets/ssns/{name}.h5:volumes/labels/neuron_ids")
            continue
        labels = open_volume(f"datasets/ssns/{name}.h5:volumes/labels/neuron_ids")
        assert (labels.shape, labels.voxel_size) == (raw.shape, raw.voxel_size)
        assert str(labels.dtype) == "uint32" and len(np.unique(labels[...])) > 10
    assert len(np.unique(images, axis=0)) == len(sections)
