import numpy as np
import pytest
from monai.data.utils import compute_importance_map

from emseg.inference.accumulator import FLOOR, SCALE, weight_map

BLENDINGS = ("constant", "gaussian", "bump", "distance_transform")


def formula(blending, voxel, window):
    if blending == "constant":
        return 1.0
    if blending == "distance_transform":
        return min(min(i + 1, n - i) for i, n in zip(voxel, window, strict=True))
    weight = 1.0
    for i, n in zip(voxel, window, strict=True):
        if blending == "gaussian":
            weight *= np.exp(-((i - (n - 1) / 2) ** 2) / (2 * (n / 8) ** 2))
        else:
            u = 2 * (i + 1) / (n + 1) - 1
            weight *= np.exp(-1 / (1 - u * u))
    return weight


@pytest.mark.parametrize("blending", BLENDINGS)
@pytest.mark.parametrize("window", [(6, 9, 10), (1, 7, 2), (1, 1, 1)])
def test_weights_follow_their_formula_down_to_the_floor(blending, window):
    expected = np.array([formula(blending, voxel, window) for voxel in np.ndindex(window)]).reshape(
        window
    )
    if blending == "bump":
        expected /= expected.max()
    expected = np.maximum(expected, FLOOR)
    weights = weight_map(window, blending)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, np.rint(weights))
    np.testing.assert_allclose(
        weights / weights.max(), expected / expected.max(), rtol=0, atol=1 / SCALE
    )


@pytest.mark.parametrize("window", [(16, 64, 64), (5, 33, 40)])
def test_gaussian_weights_are_those_of_monai(window):
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=0.125).numpy()
    weights = weight_map(window, "gaussian")
    np.testing.assert_allclose(weights / weights.max(), theirs / theirs.max(), atol=1 / SCALE)


def test_no_weight_of_a_large_bump_vanishes():
    weights = weight_map((18, 256, 256), "bump")
    assert FLOOR <= weights.min() / weights.max() < 1.01 * FLOOR


def test_distances_stay_the_whole_numbers_that_they_are():
    weights = weight_map((128, 4, 128), "distance_transform")
    np.testing.assert_array_equal(np.unique(weights), [1, 2])
    assert weight_map((128, 128, 128), "distance_transform").max() == 64
