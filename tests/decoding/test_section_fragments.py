import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.kernels.affinity import affinities, erode_labels
from reference.section_fragments import fragments_by_section

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}
DBMIM = {"fragments": "sections", "merge_function": "hist_quant_50", "discretize_queue": 256}
SWEPT = [0.35, 0.4, 0.45, 0.5, 0.55]


def smooth(seed: int, shape: tuple[int, ...] = (5, 40, 60)) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((3, *shape))
    values = gaussian_filter(noise, (0, 0.5, 2, 2))
    return (1 / (1 + np.exp(-3 * values / values.std()))).astype(np.float32)


def test_threshold_zero_leaves_the_fragments_of_each_section() -> None:
    prediction = smooth(0)
    labels = agglomerate(prediction, thresholds=0.0, fragments="sections", **FACTS)
    np.testing.assert_array_equal(labels, fragments_by_section(prediction))
    counts = [len(np.unique(section)) for section in labels]
    assert labels.min() == 1 and min(counts) > 10 and sum(counts) == labels.max()


def test_affinities_across_sections_do_not_count_for_fragments() -> None:
    prediction = smooth(1)
    other = np.concatenate([smooth(2)[:1], prediction[1:]])
    one, two = (
        agglomerate(array, thresholds=0.0, fragments="sections", **FACTS)
        for array in (prediction, other)
    )
    np.testing.assert_array_equal(one, two)


def test_true_affinities_come_back_as_the_cells_they_are_of() -> None:
    z, y, x = np.indices((4, 30, 40))
    cells = (1 + (x + z > 20) + 2 * (y - z > 14)).astype(np.int32)
    apart = erode_labels(cells, radius=(0, 1, 1))
    prediction, _ = affinities(apart, offsets=UNITS, edge_side="destination")
    labels = agglomerate(prediction * np.uint8(255), **DBMIM, **FACTS)
    assert len(np.unique(labels)) == 4
    inside = np.stack([labels, cells])[:, apart > 0]
    assert len(np.unique(inside, axis=1).T) == 4


@pytest.mark.parametrize(("merge_function", "differing"), [("mean", 0), ("hist_quant_50", 0.02)])
def test_waterz_merges_the_same_fragments_alike(merge_function: str, differing: float) -> None:
    # Histograms tie often, and ties are taken in another order.
    prediction = smooth(3, (3, 32, 48))
    ours, theirs = (
        dict(
            Agglomerate(fragments="sections", merge_function=merge_function, backend=name).sweep(
                prediction, [0.0, 0.45], **FACTS
            )
        )
        for name in ("numba", "waterz")
    )
    np.testing.assert_array_equal(ours[0.0], theirs[0.0])
    assert 5 < ours[0.45].max() < ours[0.0].max() - 5
    pairs = len(np.unique(np.stack([ours[0.45], theirs[0.45]]).reshape(2, -1), axis=1).T)
    assert pairs <= (1 + differing) * max(ours[0.45].max(), theirs[0.45].max())
