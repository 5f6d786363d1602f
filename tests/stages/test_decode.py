"""Decoding from files: channels, facts, what is refused, what is kept."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emseg.decoding.affinity_cc import affinity_cc
from emseg.errors import UserError
from emseg.stages import decode as stage
from emseg.stages.channels import Channels, nearest_channels
from emseg.stages.decode import decode
from emseg.stages.decode_job import DecodeJob, labels_by_value, labels_of
from emseg.volumes import Volume, open_volume, read_attributes, write_volume

OFFSETS = [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 3]]
LEAF = {"_target_": "emseg.decoding.affinity_cc.affinity_cc", "threshold": 0.5}
FACTS = {
    "format_version": 1,
    "fingerprint": "of the prediction",
    "kind": "prediction",
    "channels": ["0-0-1", "0-1-0", "1-0-0", "0-0-3"],
    "offsets": OFFSETS,
    "edge_side": "destination",
    "step": 5,
}


@pytest.fixture
def prediction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    values = rng.random((4, 6, 7, 8), np.float32)
    return store(values, FACTS)


def store(values, attributes, name="im_prediction.h5"):
    write_volume(name, values, axes="czyx", voxel_size=(30, 6, 6), attributes=attributes)
    return Path(name)


def run(job, **options):
    target = Path("im_segmentation.h5")
    return decode(job, segmentation=target, **{"force": False, "verify": False} | options)


def test_the_nearest_channel_of_each_axis_unless_others_are_chosen(prediction):
    values = open_volume(prediction)[...]
    for select, channels in ((None, [2, 1, 0]), ([3, 1, 2], [3, 1, 2])):
        labels = labels_of(DecodeJob(prediction, LEAF, select))
        offsets = [OFFSETS[channel] for channel in channels]
        wanted = affinity_cc(
            values[channels], threshold=0.5, offsets=offsets, edge_side="destination"
        )
        assert np.array_equal(labels, wanted)


def test_only_the_chosen_channels_are_read(prediction, monkeypatch):
    read = []
    original = Volume.read

    def noting(volume, start, stop, *, channels=None):
        read.append(volume.channels if channels is None else len(channels))
        return original(volume, start, stop, channels=channels)

    monkeypatch.setattr(Volume, "read", noting)
    labels_of(DecodeJob(prediction, LEAF, [0, 1, 2]))
    assert read == [3]


def test_nearest_channels():
    assert nearest_channels(OFFSETS) == [2, 1, 0]
    assert nearest_channels([[0, 0, -3], [0, -1, 0], [2, 0, 0], [1, 1, 0], [0, 0, 3]]) == [2, 1, 0]
    with pytest.raises(UserError, match="none along axis 1"):
        nearest_channels([[1, 0, 0], [0, 0, 1], [0, 1, 1]])


def test_a_segmentation_says_where_it_comes_from(prediction):
    path = run(DecodeJob(prediction, LEAF, [2, 1, 0]))
    segmentation = open_volume(path)
    stored = segmentation.attributes
    assert (segmentation.shape, segmentation.voxel_size) == ((6, 7, 8), (30, 6, 6))
    assert stored["kind"] == "segmentation" and stored["step"] == 5
    assert stored["decoding"] == LEAF and stored["select_channel"] == [2, 1, 0]


def test_it_is_made_again_when_anything_differs(prediction, monkeypatch):
    done = []
    monkeypatch.setattr(stage, "labels_of", lambda *of: done.append(1) or labels_of(*of))

    def count(job, **options):
        run(job, **options)
        return len(done)

    job = DecodeJob(prediction, LEAF, None)
    assert [count(job), count(job)] == [1, 1]
    assert count(DecodeJob(prediction, LEAF, [2, 1, 0])) == 1  # the same channels, by name
    assert count(DecodeJob(prediction, LEAF | {"threshold": 0.6}, None)) == 2
    assert count(DecodeJob(prediction, LEAF | {"threshold": 0.6}, [3, 1, 2])) == 3
    assert count(job) == 3  # that of the first settings is still there
    assert count(job, force=True) == 4
    store(open_volume(prediction)[...], FACTS | {"fingerprint": "another"})
    assert count(job) == 5
    mask = np.ones((6, 7, 8), np.uint8)
    for value in (1, 0):
        mask[2] = value
        write_volume("mask.h5", mask, axes="zyx", voxel_size=None, attributes={})
        count(DecodeJob(prediction, LEAF | {"affinity_mask_path": "mask.h5"}, None))
    assert len(done) == 7  # the mask's content counts


def test_verify_looks_into_the_files_that_a_decoder_reads(prediction, monkeypatch):
    mask = np.ones((6, 7, 8), np.uint8)
    write_volume("mask.h5", mask, axes="zyx", voxel_size=None, attributes={})
    job = DecodeJob(prediction, LEAF | {"affinity_mask_path": "mask.h5"}, None)
    run(job)
    stored = read_attributes("im_segmentation.h5")
    assert [*stored["contents"]] == ["mask.h5"]
    monkeypatch.setattr(stage, "labels_of", None)
    run(job, verify=True)


@pytest.mark.parametrize(
    ("changed", "select", "told"),
    [
        ({"format_version": 9}, None, "format_version 9"),
        ({"format_version": None}, None, "was not written by emseg and does not say"),
        ({"kind": "segmentation"}, None, "is a segmentation, not a prediction"),
        ({}, [0, 1, 4], "select_channel: 4 is no channel of .* (0 to 3"),
        ({"edge_side": None}, None, "has no edge_side, which the decoder needs"),
    ],
)
def test_refused_predictions(prediction, changed, select, told):
    stored = {key: value for key, value in (FACTS | changed).items() if value is not None}
    stored |= {key: None for key in changed if key == "edge_side"}
    store(open_volume(prediction)[...], stored)
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        run(DecodeJob(prediction, LEAF, select))
    assert not Path("im_segmentation.h5").exists()


def test_a_decoder_gets_the_facts_that_it_names():
    def decoder(prediction, *, offsets, voxel_size=None):
        return prediction

    about = Channels(**{key: FACTS[key] for key in ("channels", "offsets", "edge_side")})
    asked = about.facts_for(partial(decoder), [3, 1], voxel_size=None, where="here")
    assert asked == {"offsets": [[0, 0, 3], [0, 1, 0]], "voxel_size": None}


def test_a_setting_that_cannot_be_swept_is_named(prediction):
    with pytest.raises(UserError, match="affinity_cc cannot sweep over 'affinity_mask_path'"):
        next(labels_by_value(DecodeJob(prediction, LEAF, None), "affinity_mask_path", [0.5]))
