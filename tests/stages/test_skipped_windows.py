"""Windows that hold nothing, or nothing of the mask, are not computed."""

import numpy as np
import pytest

from emseg.cli import main
from emseg.volumes import open_volume, read_attributes, write_volume
from stages.tiny_tutorial import DEMO, TINY, cells, train_tiny, write_volumes

SHAPE = (16, 48, 48)
WINDOW = "inference.window={window_size: [4, 16, 16], overlap: 0.5}"
PLACE = {"axes": "zyx", "voxel_size": (30, 6, 6)}


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    """Predicts an image without any structure from voxel 20 on, along the last axis."""
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path)
    checkpoint = train_tiny() / "checkpoints" / "last.ckpt"
    raw, labels = cells(SHAPE, seed=5)
    raw[:, :, 20:] = 80
    write_volume("datasets/demo/test_raw.h5", raw, **PLACE)
    write_volume("datasets/demo/test_labels.h5", labels, **PLACE)
    given = ["--config", str(DEMO), "--mode", "infer", "--checkpoint", str(checkpoint), *TINY]

    def predicted(*words):
        assert main([*given, WINDOW, *words]) == 0
        (path,) = tmp_path.rglob("*_prediction.h5")
        return open_volume(path)[...], read_attributes(path)["fingerprint"]

    return predicted


def test_nothing_is_computed_where_nothing_is(predict):
    found, _ = predict()
    # Windows start at 0, 8, 16, 24, ...: the last with any structure starts at 16.
    assert (found[..., 32:] == 0).all() and (found[..., :20] > 0).all()


def test_windows_that_are_masked_out_change_no_voxel_of_the_mask(predict):
    whole, unmasked = predict()
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:9, 10:30, :15] = 1
    write_volume("known.h5", mask, **PLACE)
    # What was predicted without the mask serves as well.
    assert predict("data.test.mask=known.h5")[1] == unmasked
    found, masked = predict("data.test.mask=known.h5", "--force")
    assert masked != unmasked
    np.testing.assert_array_equal(found[:, mask > 0], whole[:, mask > 0])
    # Windows of 4 x 16 x 16 start every 2 x 8 x 8 voxels.
    assert (found[:, :2] == 0).all() and (found[:, 12:] == 0).all()
    assert (found[:, :, 40:] == 0).all() and (found[:, 6, 12, :16] > 0).all()
    mask[5:9, 10:30, 0] = 0
    write_volume("known.h5", mask, **PLACE)
    assert predict("data.test.mask=known.h5")[1] != masked


def test_logits_have_no_value_for_nothing(predict):
    found, _ = predict("inference.activation=none")
    assert (found != 0).all()
