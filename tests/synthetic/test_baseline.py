import numpy as np
from skimage.metrics import adapted_rand_error

from emseg.synthetic.baseline import raw_watershed
from emseg.synthetic.synthesize import synthesize


def test_bright_cells_behind_dark_walls_are_found_whole():
    raw = np.full((6, 60, 60), 200, np.uint8)
    truth = np.ones(raw.shape, int)
    truth[:, 30:] += 1
    truth[:, :, 30:] += 2
    raw[:, 28:32] = 20
    raw[:, :, 28:32] = 20
    raw += np.random.default_rng(0).integers(0, 20, raw.shape, np.uint8)
    labels = raw_watershed(raw, voxel_size=(30, 6, 6))
    assert labels.dtype == np.int32
    assert adapted_rand_error(truth, labels)[0] < 0.02
    assert labels.min() == 1


def test_intensity_alone_does_not_segment_a_synthetic_volume():
    v = synthesize((24, 128, 128), seed=0)
    labels = raw_watershed(v.raw, voxel_size=v.voxel_size)
    assert adapted_rand_error(v.labels, labels)[0] > 0.4
