import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from emseg.decoding.agglomeration.distance_fragments import SectionRules, section_fragments
from emseg.kernels.section_watershed import grow_seeds
from reference.section_fragments import seeded_watershed

SSNS = {
    "boundary_threshold": 0.25,
    "seed_sigma": 2.0,
    "weight_sigma": 2.0,
    "boundary_weight": 0.9,
    "min_fragment_size": 100,
}


def drawn(seed: int, shape: tuple[int, int] = (48, 60), sigma: float = 2.0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (1 / (1 + np.exp(-3 * noise / noise.std()))).astype(np.float32)


def plateau_seeds(heights: np.ndarray) -> np.ndarray:
    """Plateaus without a higher one of their eight neighbours, numbered; pixel by pixel."""
    rows, columns = heights.shape
    seeds, seen = np.zeros(heights.shape, np.uint32), np.zeros(heights.shape, bool)
    for place in np.ndindex(rows, columns):
        if seen[place]:
            continue
        plateau, waiting, highest = {place}, [place], True
        while waiting:
            y, x = waiting.pop()
            for to in np.ndindex(3, 3):
                near = (y + to[0] - 1, x + to[1] - 1)
                if not (0 <= near[0] < rows and 0 <= near[1] < columns):
                    continue
                highest = highest and heights[near] <= heights[place]
                if heights[near] == heights[place] and near not in plateau:
                    plateau.add(near)
                    waiting.append(near)
        number = seeds.max() + 1
        for pixel in plateau:
            seen[pixel], seeds[pixel] = True, number * highest
    return seeds


def slow_fragments(boundary: np.ndarray, rules: SectionRules) -> np.ndarray:
    """The same with distances to every boundary pixel, and scikit-image's watershed."""
    to_boundary = np.argwhere(boundary > np.float32(rules.boundary_threshold))
    pixels = np.stack(np.indices(boundary.shape), axis=-1)[:, :, None]
    distance = np.sqrt(((pixels - to_boundary) ** 2).sum(-1).min(-1))
    options = {"mode": "mirror", "truncate": 3.0}
    if rules.seed_sigma:
        distance = ndimage.gaussian_filter(distance, rules.seed_sigma, **options)
    distance = np.round(distance, 6)
    smooth = ndimage.gaussian_filter(boundary, rules.weight_sigma, **options)
    inverse = 1 - (distance - distance.min()) / distance.max()
    heights = rules.boundary_weight * smooth + (1 - rules.boundary_weight) * inverse
    labels = watershed(heights.astype(np.float32), plateau_seeds(distance), connectivity=1)
    ids, sizes = np.unique(labels, return_counts=True)
    if (sizes >= rules.min_fragment_size).any():
        labels[np.isin(labels, ids[sizes < rules.min_fragment_size])] = 0
        labels = watershed(heights.astype(np.float32), labels, connectivity=1)
    return labels


def assert_same_partition(one: np.ndarray, two: np.ndarray) -> None:
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1)
    assert len(pairs.T) == len(np.unique(one)) == len(np.unique(two))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "other", [{}, {"min_fragment_size": 0}, {"weight_sigma": 0.0}, {"boundary_weight": 0.5}]
)
def test_fragments_are_those_of_the_slow_reference(seed: int, other: dict[str, float]) -> None:
    rules, boundary = SectionRules(**SSNS | other), drawn(seed)
    found = section_fragments(boundary, rules)
    assert found.dtype == np.uint32 and set(np.unique(found)) == set(range(1, found.max() + 1))
    assert found.max() > 3
    assert_same_partition(found, slow_fragments(boundary, rules))


def test_no_fragment_is_smaller_than_asked_and_all_hang_together() -> None:
    boundary, sizes = drawn(9, (80, 90), 1.0), {}
    for least in (0, 60, 200):
        found = section_fragments(boundary, SectionRules(**SSNS | {"min_fragment_size": least}))
        sizes[least] = np.bincount(found.ravel())[1:]
        assert sizes[least].min() >= least and found.min() == 1
        assert all(ndimage.label(found == number)[1] == 1 for number in np.unique(found))
    assert sizes[0].min() < 60 and len(sizes[0]) > len(sizes[60]) > len(sizes[200])


def test_where_none_is_as_large_as_asked_all_stay() -> None:
    boundary = drawn(9, (40, 40), 1.0)
    kept, all_of_them = (
        section_fragments(boundary, SectionRules(**SSNS | {"min_fragment_size": least}))
        for least in (2000, 0)
    )
    np.testing.assert_array_equal(kept, all_of_them)


def test_a_section_without_boundary_is_one_fragment_and_one_of_boundary_has_a_grid() -> None:
    rules = SectionRules(**SSNS | {"min_fragment_size": 0})
    assert section_fragments(np.full((30, 20), 0.25, np.float32), rules).max() == 1
    assert section_fragments(np.full((30, 20), 0.5, np.float32), rules).max() == 3 * 2


@pytest.mark.parametrize("seed", range(5))
def test_growing_from_given_seeds_is_that_of_the_slow_queue_with_ties_too(seed: int) -> None:
    random = np.random.default_rng(seed)
    heights = random.choice(np.float32([0, 0.25, 0.5, 1]), (14, 17))
    labels = np.where(random.random(heights.shape) < 0.3, random.integers(1, 9, heights.shape), 0)
    expected = seeded_watershed(heights, labels)
    grown = labels.astype(np.uint32)
    grow_seeds(heights, grown)
    np.testing.assert_array_equal(grown, expected)
