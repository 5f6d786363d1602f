"""Predictions of other programs, in their files and conventions, through the command line."""

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from scipy.special import logit

from emseg.cli import main
from emseg.config.choices import compose_choices, conf_folder
from emseg.config.schema_inference import PredictionConfig
from emseg.decoding.polarity import polarity
from emseg.errors import UserError
from emseg.kernels.affinity import affinities, shift_edges
from emseg.stages import decode as stage
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.volumes import open_volume, read_attributes, write_volume
from stages.tiny_tutorial import cells

SHAPE = (6, 20, 22)
NEAREST = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
LONG = [[2, 0, 0], [0, 3, 0], [0, 0, 3]]
SAID = "inference.prediction."
LEAF = {"_target_": "emseg.decoding.affinity_cc.affinity_cc", "threshold": 0.5}
_WANTED: list[np.ndarray] = []
COMPONENTS = """\
defaults: [/base, override /system: cpu, override /decoding: affinity_cc, _self_]
experiment_name: elsewhere
decoding: {threshold: 0.5}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cc.yaml").write_text(COMPONENTS)


def levels(offsets=NEAREST, *, side="destination", shape=SHAPE):
    """Affinities of cells, uint8, weakened by chance: pairs are the same whatever their side."""
    labels = cells(shape, seed=3)[1].astype(np.int32)
    same, inside = affinities(labels, offsets=offsets, edge_side="destination")
    strength = np.random.default_rng(0).choice(
        np.array([40, 100, 180, 255], np.uint8), size=same.shape, p=[0.4, 0.25, 0.15, 0.2]
    )
    made = np.where(inside & (same == 1), strength, np.uint8(10) * inside.astype(np.uint8))
    return shift_edges(made, offsets=offsets, from_side="destination", to_side=side)


def ours(values, name="own_prediction.h5", offsets=NEAREST):
    facts = {"format_version": 1, "fingerprint": "own", "kind": "prediction", "step": 1}
    facts |= {"channels": list(map(str, offsets)), "offsets": offsets}
    facts |= {"edge_side": "destination", "activation": "probability"}
    write_volume(name, values, axes="czyx", voxel_size=(30, 6, 6), attributes=facts)


def decode(file, *overrides, config="cc.yaml"):
    return main(["--config", config, "--mode", "decode", "--input", file, *overrides])


def said(offsets=NEAREST, side="destination", values="probability", **more):
    facts = {"offsets": json.dumps(offsets), "edge_side": side, "values": values} | more
    return [f"{SAID}{key}={value}" for key, value in facts.items()]


def partition(name, *, axes="zyx"):
    """The segments as first voxels of each, in the order z, y, x: equal for equal partitions."""
    labels = open_volume(name)[...]
    labels = labels.transpose([axes.index(axis) for axis in "zyx"])
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.where(labels == 0, -1, first[inverse.reshape(labels.shape)])


def in_zarr(name, key, values, **attributes):
    array = zarr.open_group(name, mode="a").create_array(key, data=values)
    array.attrs.update(attributes)


def lsd_zarr():
    place = {"offset": [0, 0, 0], "resolution": [30, 6, 6], "voxel_size": [30, 6, 6]}
    in_zarr("lsd.zarr", "volumes/pred_affs", levels(), **place)
    return "lsd.zarr/volumes/pred_affs", said(axes="czyx"), "lsd_volumes_pred_affs", "zyx"


def lsd_neighbourhood():
    """LSD's own words: the voxel and the one at -1."""
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    in_zarr("lsd.zarr", "affs", levels().astype(np.float32) / 255, axes=["c", "z", "y", "x"])
    return "lsd.zarr:affs", said(offsets, "source"), "lsd_affs", "zyx"


def pytc_hdf5():
    """Channels x, y, z."""
    with h5py.File("pytc.h5", "w") as file:
        file["main"] = (levels()[::-1] / 255).astype(np.float16)
    return "pytc.h5", said(NEAREST[::-1], axes="czyx"), "pytc", "zyx"


def banis_zarr():
    """Six channels in x, y, z at the source."""
    far = [[10 * step for step in offset] for offset in NEAREST]
    values = np.concatenate([levels(side="source"), np.zeros((3, *SHAPE), np.uint8)])
    values = values[[2, 1, 0, 5, 4, 3]].transpose(0, 3, 2, 1)
    in_zarr("banis.zarr", "main", np.ascontiguousarray(values))
    return "banis.zarr", said(NEAREST + far, "source", "scaled", axes="cxyz"), "banis", "xyz"


def tiff_of_255():
    """Sections first, floats up to 255."""
    tifffile.imwrite(
        "affs.tif", levels().astype(np.float32).swapaxes(0, 1), photometric="minisblack"
    )
    return "affs.tif", said(axes="zcyx", scale=255), "affs", "zyx"


def channels_last_16_bit():
    with h5py.File("deep.hdf5", "w") as file:
        file["a/b"] = np.moveaxis(levels(side="source"), 0, -1).astype(np.uint16) * 257
    return "deep.hdf5:a/b", said(side="source", axes="zyxc", scale=65535), "deep_a_b", "zyx"


def logits():
    with h5py.File("logits.h5", "w") as file:
        file["main"] = np.clip(logit(levels() / 255), -40, 40)
    return "logits.h5", said(values="logit", axes="czyx"), "logits", "zyx"


LAYOUTS = [
    lsd_zarr,
    lsd_neighbourhood,
    pytc_hdf5,
    banis_zarr,
    tiff_of_255,
    channels_last_16_bit,
    logits,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_segmentation_of_our_own_file(layout):
    file, facts, name, axes = layout()
    assert decode(file, *facts) == 0
    made = f"{name}_segmentation" + (".zarr" if "zarr" in file else ".h5")
    np.testing.assert_array_equal(partition(made, axes=axes), _wanted())


def _wanted():
    if not _WANTED:
        ours(levels())
        labels = labels_of(DecodeJob(Path("own_prediction.h5"), LEAF, None))
        write_volume("own.h5", labels, axes="zyx", voxel_size=None, attributes={})
        _WANTED.append(partition("own.h5"))
        assert len(np.unique(_WANTED[0])) > 50
    return _WANTED[0]


@pytest.mark.parametrize("layout", [lsd_zarr, tiff_of_255])
def test_blocks_of_what_exceeds_memory(layout, monkeypatch):
    monkeypatch.setattr(stage, "labels_of", None)
    file, facts, name, axes = layout()
    assert decode(file, *facts, "system.memory=0.00001") == 0
    made = next(Path().glob(f"{name}_segmentation.*"))
    np.testing.assert_array_equal(partition(made, axes=axes), _wanted())


@pytest.mark.parametrize(
    ("decoder", "select", "channels"),
    [
        ("agglomerate", None, 6),
        ("agglomerate_sections", None, 3),
        ("multicut", None, 3),
        ("lifted_multicut", [0, 1, 2, 3, 4, 5], 6),
        ("mutex_watershed", [0, 1, 2, 3, 4, 5], 6),
    ],
)
def test_every_decoder_of_affinities(decoder, select, channels):
    offsets = (NEAREST + LONG)[:channels]
    ours(levels(offsets), offsets=offsets)
    leaf = compose_choices([conf_folder()], {"decoding": decoder})["decoding"]
    in_zarr("a.zarr", "affs", levels(offsets, side="source"), axes=["c", "z", "y", "x"])
    prediction = PredictionConfig(values="probability", offsets=offsets, edge_side="source")
    wanted = labels_of(DecodeJob(Path("own_prediction.h5"), leaf, select))
    found = labels_of(DecodeJob(Path("a.zarr/affs"), leaf, select, said=prediction))
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, wanted)
    other = replace(prediction, edge_side="destination")
    moved = labels_of(DecodeJob(Path("a.zarr/affs"), leaf, select, said=other))
    assert not np.array_equal(moved, wanted)


def test_decoders_of_other_maps_need_no_offsets():
    values = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    with h5py.File("maps.h5", "w") as file:
        file["cleft"], file["sides"] = values[0], values
    said = PredictionConfig(values="probability")
    leaf = {"_target_": "emseg.decoding.binary.binary", "threshold": 0.3}
    found = labels_of(DecodeJob(Path("maps.h5:cleft"), leaf, None, said=said))
    np.testing.assert_array_equal(found, values[0] > np.float32(0.3))
    leaf = {"_target_": "emseg.decoding.polarity.polarity"}
    with pytest.raises(UserError, match=r"set inference.prediction.resolution=.*prediction.axes="):
        labels_of(DecodeJob(Path("maps.h5:sides"), leaf, None, said=said))
    said = PredictionConfig(values="probability", axes="czyx", resolution=(30.0, 6.0, 6.0))
    found = labels_of(DecodeJob(Path("maps.h5:sides"), leaf, None, said=said))
    wanted = polarity(values, voxel_size=(30, 6, 6))
    np.testing.assert_array_equal(found, wanted)


def test_all_that_is_missing_is_named_at_once(capsys):
    with h5py.File("pytc.h5", "w") as file:
        file["main"] = levels()
    assert decode("pytc.h5") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for key in ("offsets", "edge_side", "values", "axes"):
        assert f"inference.prediction.{key}=" in error
    assert ".scale" not in error and "resolution" not in error
    assert decode("pytc.h5", *said(axes="czyx")) == 0
    assert [*Path().glob("*segmentation*")] == [Path("pytc_segmentation.h5")]


@pytest.mark.parametrize(
    ("values", "changes", "told"),
    [
        (
            levels().astype(np.float32),
            {},
            r"0 to 255, not from 0 to 1 .* inference.prediction.scale",
        ),
        (levels() / 255 * 2 - 1, {}, "runs from -1 to 1, not from 0 to 1"),
        (np.where(levels() == 40, np.nan, 0.5), {}, "has NaN among its values"),
        (np.where(levels() == 40, np.nan, 0.5), {"values": "logit"}, "has NaN among its values"),
        (levels() // 255, {}, "holds only 0 and 1, .* set inference.prediction.scale=1$"),
        (levels().astype(np.int32), {}, "set inference.prediction.scale=65535"),
        (levels(), {"offsets": NEAREST[:2]}, "has 2 offsets, a.h5 has 3 channels"),
        (levels(), {"edge_side": "source"}, "edge_side is source, a.h5 itself says destination"),
        (levels(), {"axes": "cxyz"}, "axes is cxyz, a.h5 itself says czyx"),
        (
            levels(),
            {"resolution": (6.0, 6.0, 6.0)},
            r"resolution is \[6.0, 6.0, 6.0\], a.h5 itself",
        ),
        (levels(), {"offsets": NEAREST[::-1]}, "offsets is .* itself says"),
    ],
)
def test_what_cannot_be_so_is_refused(values, changes, told):
    stated = {"edge_side": "destination", "resolution": [30, 6, 6], "axes": "czyx"}
    if len(changes.get("offsets", [])) == 3:
        stated["offsets"] = NEAREST
    with h5py.File("a.h5", "w") as file:
        file["main"] = values
        file["main"].attrs.update(stated)
    facts = {"values": "probability", "offsets": NEAREST} | changes
    job = DecodeJob(Path("a.h5"), LEAF, None, said=PredictionConfig(**facts))
    for force in (False, True):
        with pytest.raises(UserError, match=told) as error:
            stage.decode(job, segmentation=Path("s.h5"), force=force, verify=False)
        assert "\n" not in str(error.value)
    assert [*Path().glob("s*")] == []


def test_our_own_prediction_is_not_contradicted():
    ours(levels())
    own, said = Path("own_prediction.h5"), PredictionConfig(edge_side="source")
    with pytest.raises(UserError, match="edge_side is source, own_prediction.h5 itself says dest"):
        labels_of(DecodeJob(own, LEAF, None, said=said))
    said = PredictionConfig(edge_side="destination", offsets=NEAREST)
    labels_of(DecodeJob(own, LEAF, None, said=said))


def test_decoded_once_and_again_when_file_or_facts_change(capsys):
    file, facts, name, _ = lsd_zarr()

    def skipped(*overrides, mode=()):
        capsys.readouterr()
        assert decode(file, *facts, *overrides, *mode) == 0
        return "up to date" in capsys.readouterr().err

    assert not skipped() and skipped(mode=["--verify"])
    assert not skipped(f"{SAID}edge_side=source") and skipped()  # the first one stayed beside it
    chunk = next(path for path in Path("lsd.zarr").rglob("c/0/*/*/*") if path.is_file())
    times = chunk.stat()
    array = zarr.open_array("lsd.zarr/volumes/pred_affs", mode="r+")
    array[:] = array[:] // 2
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not skipped(mode=["--verify"])
    stored = read_attributes(f"{name}_segmentation.zarr")
    assert stored["elsewhere"]["edge_side"] == "destination"
    assert stored["resolution"] == [30, 6, 6]


def test_what_others_wrote_is_not_overwritten(capsys):
    file, facts, *_ = pytc_hdf5()
    Path("pytc_segmentation.h5").write_bytes(Path("pytc.h5").read_bytes())
    for words in ([], ["--force"]):
        assert decode(file, *facts, *words) == 2
        assert "pytc_segmentation.h5 was not written by emseg" in capsys.readouterr().err


def test_its_segmentation_is_evaluated(capsys):
    file, facts, name, _ = lsd_zarr()
    truth = cells(SHAPE, seed=3)[1]
    write_volume("truth.h5", truth, axes="zyx", voxel_size=(30, 6, 6), attributes={})
    assert decode(file, *facts) == 0
    data = ["data.test={image: truth.h5, label: truth.h5}"]
    scored = ["--mode", "evaluate", "--input", f"{name}_segmentation.zarr", *data]
    assert main(["--config", "cc.yaml", *scored]) == 0
    assert "adapted_rand" in capsys.readouterr().out
