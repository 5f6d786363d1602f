from functools import cache
from itertools import pairwise

import cc3d
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation

from emseg.data.synthetic import (
    FaintSection,
    MisalignedSection,
    MissingSection,
    SyntheticVolume,
    synthesize,
)
from emseg.data.synthetic_labels import one_piece_each
from emseg.errors import UserError

SHAPE = (24, 128, 128)


@cache
def volume(seed: int = 3) -> SyntheticVolume:
    return synthesize(SHAPE, seed=seed, synapses_per_um3=8)


@cache
def plain(*defects: object, organelles: float = 1.0, noise: float = 12.0) -> SyntheticVolume:
    """Without synapses, whose places depend on all labels."""
    return synthesize(
        (9, 96, 96), seed=5, synapses_per_um3=0, organelles=organelles, noise=noise, defects=defects
    )


def borders(labels: np.ndarray, axis: int) -> np.ndarray:
    """The first voxel of each pair along `axis` whose labels differ."""
    differs = np.diff(labels.astype(np.int64), axis=axis) != 0
    return np.concatenate([differs, np.zeros_like(np.take(differs, [0], axis))], axis)


def mean_chord_nm(labels: np.ndarray, axis: int, voxel_nm: float) -> float:
    """Mean distance between label changes on lines along `axis`."""
    return labels.size * voxel_nm / borders(labels, axis).sum()


def test_the_arrays_share_a_shape_and_have_the_promised_types():
    v = volume()
    for array in (v.raw, v.labels, v.clefts, v.pre, v.post):
        assert array.shape == SHAPE
        assert array.flags.c_contiguous
    assert v.raw.dtype == np.uint8
    assert {a.dtype for a in (v.labels, v.clefts, v.pre, v.post)} == {np.dtype(np.uint32)}
    assert v.voxel_size == (30.0, 6.0, 6.0)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another():
    first, again = volume(), synthesize(SHAPE, seed=3, synapses_per_um3=8)
    for name in ("raw", "labels", "clefts", "pre", "post"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.partners == again.partners
    assert dict(first.skeletons.nodes(data=True)) == dict(again.skeletons.nodes(data=True))
    assert set(first.skeletons.edges) == set(again.skeletons.edges)
    other = plain()
    elsewhere = synthesize((9, 96, 96), seed=6, synapses_per_um3=0)
    assert (other.raw != elsewhere.raw).mean() > 0.9


@pytest.mark.parametrize("gap", [0.0, 15.0])
def test_every_label_is_one_piece_and_neurites_touch_unless_a_gap_is_asked_for(gap):
    v = synthesize((16, 96, 96), seed=1, extracellular_nm=gap)
    pieces, count = cc3d.connected_components(v.labels, connectivity=6, return_N=True)
    assert count == len(np.unique(v.labels[v.labels > 0]))
    assert count > 10
    background = (v.labels == 0).mean()
    if gap:
        assert 0.02 < background < 0.5
    else:
        # A sliver among slivers is all that may be left over.
        assert background < 1e-3
        at_border = borders(v.labels, 2)[:, :, :-1]
        beyond = v.labels[:, :, 1:][at_border]
        assert (beyond > 0).mean() > 0.99


def test_skeletons_have_one_component_a_label_and_their_nodes_lie_inside_it():
    v = volume()
    parts = list(nx.connected_components(v.skeletons))
    names = [{v.skeletons.nodes[n]["id"] for n in part} for part in parts]
    assert all(len(name) == 1 for name in names)
    assert sorted(name.pop() for name in names) == np.unique(v.labels[v.labels > 0]).tolist()
    for _, node in v.skeletons.nodes(data=True):
        assert v.labels[node["index_position"]] == node["id"]
        off = np.array(node["nm_position"]) / v.voxel_size - node["index_position"]
        assert np.abs(off).max() <= 0.5
        assert all(type(i) is int for i in (node["id"], *node["index_position"]))
        assert all(type(p) is float for p in node["nm_position"])


def test_skeletons_branch_and_run_through_their_neurites():
    v = volume()
    degrees = [degree for _, degree in v.skeletons.degree]
    assert max(degrees) >= 3
    assert nx.is_forest(v.skeletons)
    lengths = [
        np.linalg.norm(
            np.subtract(v.skeletons.nodes[a]["nm_position"], v.skeletons.nodes[b]["nm_position"])
        )
        for a, b in v.skeletons.edges
    ]
    assert max(lengths) < 200
    extent = np.prod(np.array(SHAPE) * v.voxel_size)
    # Tubes of 200 nm that fill the volume are this long; tessellation makes them wider.
    assert 0.3 < sum(lengths) / (extent / (np.pi * 100**2)) < 3


def test_clefts_lie_between_their_partners_and_masks_inside_them():
    v = volume()
    assert len(v.partners) >= 3
    assert set(np.unique(v.clefts)) == {0, *v.partners}
    assert not ((v.pre > 0) & (v.post > 0)).any()
    assert not ((v.clefts > 0) & ((v.pre > 0) | (v.post > 0))).any()
    for synapse, (before, after) in v.partners.items():
        assert before != after
        assert set(np.unique(v.labels[v.clefts == synapse])) == {before, after}
        assert np.unique(v.labels[v.pre == synapse]).tolist() == [before]
        assert np.unique(v.labels[v.post == synapse]).tolist() == [after]
        beside = binary_dilation(v.clefts == synapse)
        assert (beside & (v.pre == synapse)).any()
        assert (beside & (v.post == synapse)).any()


def test_clefts_are_darker_than_the_cytoplasm_beside_them():
    v = volume()
    assert v.raw[v.clefts > 0].mean() < 0.7 * v.raw[v.pre > 0].mean()


def test_neurites_have_the_asked_size_in_nm_whatever_the_voxels():
    chords = []
    for shape, size in (((16, 128, 128), (30, 6, 6)), ((48, 80, 80), (10, 10, 10))):
        v = synthesize(shape, seed=2, voxel_size=size, synapses_per_um3=0)
        chords += [mean_chord_nm(v.labels, axis, size[axis]) for axis in (1, 2)]
    assert max(chords) / min(chords) < 1.5
    thick = synthesize((16, 128, 128), seed=2, neurite_diameter_nm=400, synapses_per_um3=0)
    assert mean_chord_nm(thick.labels, 1, 6) > 1.4 * max(chords[:2])


def test_the_section_axis_follows_the_largest_voxel_size():
    first = synthesize((8, 64, 72), seed=4)
    last = synthesize((64, 72, 8), seed=4, voxel_size=(6, 6, 30), defects=[MissingSection(2)])
    kept = np.arange(8) != 2
    np.testing.assert_array_equal(last.raw.transpose(2, 0, 1)[kept], first.raw[kept])
    np.testing.assert_array_equal(last.labels.transpose(2, 0, 1), first.labels)
    assert not last.raw[:, :, 2].any()
    for node, data in last.skeletons.nodes(data=True):
        x, y, z = data["index_position"]
        assert first.skeletons.nodes[node]["index_position"] == (z, x, y)
        assert last.labels[x, y, z] == data["id"]


def test_membranes_are_dark_and_organelles_and_noise_are_what_is_asked():
    bare, full = plain(organelles=0.0, noise=0.0), plain(organelles=1.0, noise=0.0)
    noisy = plain(organelles=0.0, noise=10.0)
    at_membrane = borders(bare.labels, 1) | borders(bare.labels, 2)
    inside = ~binary_dilation(at_membrane, iterations=4)
    assert bare.raw[at_membrane].mean() < bare.raw[inside].mean() - 40
    assert full.raw[inside].std() > 1.3 * bare.raw[inside].std()
    added = noisy.raw.astype(float) - bare.raw
    assert added.std() == pytest.approx(10, rel=0.05)
    assert added.mean() == pytest.approx(0, abs=0.2)
    np.testing.assert_array_equal(bare.labels, full.labels)


def test_missing_and_faint_sections_change_the_image_of_that_section_alone():
    clean, spoilt = plain(), plain(MissingSection(2), FaintSection(6, contrast=0.25))
    others = ~np.isin(np.arange(9), [2, 6])
    np.testing.assert_array_equal(spoilt.raw[others], clean.raw[others])
    np.testing.assert_array_equal(spoilt.labels, clean.labels)
    assert not spoilt.raw[2].any()
    assert spoilt.raw[6].std() == pytest.approx(0.25 * clean.raw[6].std(), rel=0.05)
    assert spoilt.raw[6].mean() == pytest.approx(clean.raw[6].mean(), abs=1)


@pytest.mark.parametrize("shift", [(7, -12), (-3, 0)])
def test_a_misaligned_section_shows_moved_tissue_in_image_and_labels(shift):
    clean, moved = plain(noise=0.0), plain(MisalignedSection(4, shift), noise=0.0)
    others = np.arange(9) != 4
    np.testing.assert_array_equal(moved.raw[others], clean.raw[others])
    here = tuple(slice(max(s, 0), 96 + min(s, 0)) for s in shift)
    there = tuple(slice(max(-s, 0), 96 + min(-s, 0)) for s in shift)
    np.testing.assert_array_equal(moved.raw[4][here], clean.raw[4][there])
    pairs = np.unique(
        np.stack([moved.labels[4][here].ravel(), clean.labels[4][there].ravel()]), axis=1
    )
    # A cut may give new ids, but a border stays a border (slivers aside).
    same = moved.labels[4][here] == clean.labels[4][there]
    assert same.mean() > 0.8
    assert pairs.shape[1] < 1.5 * len(np.unique(clean.labels[4]))
    assert (moved.labels[others] == clean.labels[others]).mean() > 0.9
    for _, node in moved.skeletons.nodes(data=True):
        assert moved.labels[node["index_position"]] == node["id"]


@given(
    trees=arrays(np.uint32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 3)),
    sliver_voxels=st.integers(1, 5),
)
@settings(deadline=None, max_examples=60)
def test_one_piece_each_keeps_pieces_and_gives_slivers_to_a_neighbour(trees, sliver_voxels):
    drawn = trees.copy()
    labels = one_piece_each(trees, sliver_voxels=sliver_voxels).labels
    parts = cc3d.connected_components(drawn, connectivity=6)
    sizes = np.bincount(parts.ravel())
    names = {}
    for tree in np.unique(drawn[drawn > 0]):
        own = np.unique(parts[drawn == tree])
        largest = own[sizes[own].argmax()]
        assert (labels[parts == largest] == tree).all()
        for part in own[(own == largest) | (sizes[own] >= sliver_voxels)]:
            found = np.unique(labels[parts == part])
            assert found.size == 1
            names[part] = found[0]
    assert len(set(names.values())) == len(names)
    for part in np.setdiff1d(parts[parts > 0], list(names)):
        voxels = parts == part
        beside = np.unique(parts[binary_dilation(voxels) & ~voxels])
        allowed = {names[p] for p in beside if p in names} or {0}
        assert np.unique(labels[voxels]).size == 1
        assert labels[voxels][0] in allowed
    assert not labels[drawn == 0].any()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shape": (8, 64)}, "shape"),
        ({"shape": (8, 0, 64)}, "shape"),
        ({"voxel_size": (30.0, -6.0, 6.0)}, "voxel_size"),
        ({"neurite_diameter_nm": 50.0}, "neurite_diameter_nm"),
        ({"organelles": 1.5}, "organelles"),
        ({"noise": -1.0}, "noise"),
        ({"extracellular_nm": 500.0}, "extracellular_nm"),
        ({"defects": [MissingSection(8)]}, "section 8"),
        ({"defects": [FaintSection(0, contrast=2.0)]}, "contrast"),
        ({"defects": [MisalignedSection(0, (80, 0))]}, "shift"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(arguments, named):
    shape = arguments.pop("shape", (8, 64, 64))
    with pytest.raises(UserError, match=named):
        synthesize(shape, seed=0, **arguments)


def test_volumes_of_one_section_or_one_voxel_are_drawn():
    for shape in ((1, 40, 40), (1, 1, 1), (3, 1, 50)):
        v = synthesize(shape, seed=0)
        assert v.labels.all()
        assert set(np.unique(v.labels)) == {n["id"] for _, n in v.skeletons.nodes(data=True)}


def test_chords_are_counted_right():
    line = np.repeat([1, 2, 3, 4], 5)[None, None]
    assert mean_chord_nm(line, 2, 6.0) == pytest.approx(20 * 6 / 3)
    assert [b - a for a, b in pairwise(np.flatnonzero(borders(line, 2)))] == [5, 5]
