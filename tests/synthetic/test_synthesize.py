from functools import cache

import cc3d
import networkx as nx
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from emseg.synthetic.synthesize import SyntheticVolume, synthesize

# Sections along the first axis with fine voxels, and along the last with coarse ones.
VOLUMES = {"anisotropic": ((24, 128, 128), (30.0, 6.0, 6.0)), "nisb": ((85, 86, 40), (9, 9, 20))}


@cache
def volume(name: str = "anisotropic") -> SyntheticVolume:
    shape, voxel_size = VOLUMES[name]
    return synthesize(shape, seed=3, voxel_size=voxel_size, synapses_per_um3=8)


def borders(labels: np.ndarray, axis: int) -> np.ndarray:
    """The first voxel of each pair along `axis` whose labels differ."""
    differs = np.diff(labels.astype(np.int64), axis=axis) != 0
    return np.concatenate([differs, np.zeros_like(np.take(differs, [0], axis))], axis)


def test_the_arrays_share_a_shape_and_have_the_promised_types():
    v = volume()
    for array in (v.raw, v.labels, v.clefts, v.pre, v.post):
        assert array.shape == (24, 128, 128)
        assert array.flags.c_contiguous
    assert v.raw.dtype == np.uint8
    assert {a.dtype for a in (v.labels, v.clefts, v.pre, v.post)} == {np.dtype(np.uint32)}
    assert v.voxel_size == (30.0, 6.0, 6.0)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another():
    first, again = (synthesize((12, 96, 96), seed=3, synapses_per_um3=8) for _ in range(2))
    for name in ("raw", "labels", "clefts", "pre", "post"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.partners == again.partners
    assert dict(first.skeletons.nodes(data=True)) == dict(again.skeletons.nodes(data=True))
    assert set(first.skeletons.edges) == set(again.skeletons.edges)
    other = synthesize((12, 96, 96), seed=4, synapses_per_um3=8)
    assert (first.raw != other.raw).mean() > 0.9


@pytest.mark.parametrize("name", VOLUMES)
def test_every_label_is_one_piece_and_neurites_fill_the_volume(name):
    labels = volume(name).labels
    count = cc3d.connected_components(labels, connectivity=6, return_N=True)[1]
    ids = np.unique(labels[labels > 0])
    np.testing.assert_array_equal(ids, np.arange(1, count + 1))
    assert count > 10
    assert (labels == 0).mean() < 1e-3


@pytest.mark.parametrize("name", VOLUMES)
def test_skeletons_are_trees_one_a_label_and_their_nodes_lie_inside_it(name):
    v = volume(name)
    parts = list(nx.connected_components(v.skeletons))
    names = [{v.skeletons.nodes[n]["id"] for n in part} for part in parts]
    assert all(len(name) == 1 for name in names)
    assert sorted(name.pop() for name in names) == np.unique(v.labels[v.labels > 0]).tolist()
    assert nx.is_forest(v.skeletons)
    assert max(degree for _, degree in v.skeletons.degree) >= 3
    for _, node in v.skeletons.nodes(data=True):
        assert v.labels[node["index_position"]] == node["id"]
        off = np.array(node["nm_position"]) / v.voxel_size - node["index_position"]
        assert np.abs(off).max() <= 0.5
        assert all(type(i) is int for i in (node["id"], *node["index_position"]))
        assert all(type(p) is float for p in node["nm_position"])


def test_skeletons_run_all_through_their_neurites():
    v = volume()
    nodes = v.skeletons.nodes
    lengths = [
        np.linalg.norm(np.subtract(nodes[a]["nm_position"], nodes[b]["nm_position"]))
        for a, b in v.skeletons.edges
    ]
    assert max(lengths) < 100
    # Tubes of 200 nm that fill the volume are this long.
    extent = np.prod(np.array(v.labels.shape) * v.voxel_size)
    assert 0.3 < sum(lengths) / (extent / (np.pi * 100**2)) < 3


@pytest.mark.parametrize("name", VOLUMES)
def test_clefts_lie_between_their_partners_and_masks_inside_them(name):
    v = volume(name)
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


def test_the_asked_number_of_synapses_is_there_and_none_where_none_is_asked_for():
    v = volume()
    wanted = 8 * v.labels.size * np.prod(v.voxel_size) * 1e-9
    assert len(v.partners) == round(wanted)
    assert not synthesize((12, 64, 64), seed=0, synapses_per_um3=0).partners


@pytest.mark.parametrize("name", VOLUMES)
def test_membranes_and_clefts_are_dark_beside_cytoplasm(name):
    v = volume(name)
    fine = np.argsort(v.voxel_size)[:2]
    at_membrane = borders(v.labels, fine[0]) | borders(v.labels, fine[1])
    inside = ~binary_dilation(at_membrane, iterations=2)
    assert v.raw[at_membrane].mean() < v.raw[inside].mean() - 25
    assert v.raw[v.clefts > 0].mean() < 0.7 * v.raw[v.pre > 0].mean()


def test_neurites_have_one_size_in_nm_whatever_the_voxels():
    chords = []
    for shape, size in VOLUMES.values():
        labels = synthesize(shape, seed=2, voxel_size=size, synapses_per_um3=0).labels
        fine = np.argsort(size)[:2]
        chords += [labels.size * size[a] / np.count_nonzero(borders(labels, a)) for a in fine]
    assert min(chords) > 150 and max(chords) < 300


@pytest.mark.parametrize("shape", [(1, 40, 40), (1, 1, 1), (3, 1, 50)])
def test_volumes_of_one_section_or_one_voxel_are_made(shape):
    v = synthesize(shape, seed=0)
    assert v.raw.shape == shape and v.labels.all()
    assert set(np.unique(v.labels)) == {n["id"] for _, n in v.skeletons.nodes(data=True)}
