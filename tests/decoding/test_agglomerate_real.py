import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.evaluation.voi import voi
from emseg.kernels.affinity import affinities

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}
NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def untied(values):
    """The values, each moved by as few last digits as make all of them differ."""
    order = np.argsort(values, axis=None)
    bits = values.ravel()[order].view(np.int32).astype(np.int64)
    counted = np.arange(len(bits))
    different = np.empty(len(bits), np.int32)
    different[order] = np.maximum.accumulate(bits - counted) + counted
    return different.view(np.float32).reshape(values.shape)


@pytest.mark.real
def test_a_real_volume_is_segmented_as_waterz_does_it(real_data):
    with h5py.File(real_data / "pinky40/connectomics_crop128.h5") as file:
        labels = file["volumes/labels/neuron_ids"][32:56, :64, :64].astype(np.int32)
    values, _ = affinities(labels, **FACTS)
    blurred = gaussian_filter(values.astype(np.float32), (0, 0.5, 1, 1))
    noise = np.random.default_rng(0).standard_normal(values.shape)
    noise = gaussian_filter(noise, (0, 0.7, 2, 2))
    prediction = 1 / (1 + np.exp(-5 * (blurred - 0.5) - noise / noise.std()))
    prediction = untied(prediction.astype(np.float32))
    ours, theirs = (
        Agglomerate(merge_function="mean", backend=backend).sweep(prediction, NINE, **FACTS)
        for backend in ("numba", "waterz")
    )
    counts = []
    for (_, own), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own, other)
        counts.append(own.max())
    assert counts[0] > counts[3] > counts[6] > 1
    # Scores of histograms tie by the thousands, and in waterz's heap they come in no order.
    heap = Agglomerate(merge_function="aff85_his256", backend="waterz", discretize_queue=0)
    for threshold, labels in heap.sweep(prediction, [0.5, 0.7], **FACTS):
        own = agglomerate(prediction, thresholds=threshold, **FACTS)
        assert voi(own, labels)["voi_sum"] < 0.02
