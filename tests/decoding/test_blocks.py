"""However a volume is cut, in whatever order and by however many threads: the same labels."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emseg.blocks.grid import grid
from emseg.blocks.store import MemoryStore
from emseg.decoding.affinity_cc import AffinityCC, affinity_cc
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.decoding.agglomeration.limits import BYTES_PER_FRAGMENT, EdgeLimit
from emseg.decoding.agglomeration.supervoxels import find_supervoxels
from emseg.decoding.edges import axis_edges
from emseg.errors import UserError
from emseg.kernels.affinity import affinities
from emseg.volumes import from_array, write_volume

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
SIDES = st.sampled_from(["source", "destination"])
SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
CUTS = st.tuples(*[st.integers(1, 7)] * 3)
FUNCTIONS = st.sampled_from(["mean", "aff50_his256", "aff85_his256", "hist_quant_50"])


@st.composite
def predictions(draw):
    """Affinities of few values, which tie, or of many, as each of the dtypes."""
    shape = draw(SHAPES)
    values = np.random.default_rng(draw(st.integers(0, 9999))).random((3, *shape))
    if draw(st.booleans()):
        values = np.round(values * 8) / 8
    dtype = draw(st.sampled_from([np.float32, np.float16, np.uint8]))
    return np.round(values * 255).astype(dtype) if dtype is np.uint8 else values.astype(dtype)


def put_together(blocks, shape):
    labels = np.full(shape, -1, np.int64)
    for block, part in blocks:
        assert (labels[block.slices] == -1).all()
        labels[block.slices] = part
    return labels


@settings(deadline=None, max_examples=60)
@given(predictions(), CUTS, SIDES, FUNCTIONS, st.sampled_from([0.0, 0.3, 0.5, 0.8]), st.data())
def test_agglomeration_in_blocks_is_that_of_the_whole(cut, block_shape, side, function, at, data):
    arguments = {
        "merge_function": function,
        "fragments": data.draw(st.sampled_from(["volume", "basins", "sections"])),
        "basin_boundary": 0.5,
        "basin_reach": data.draw(st.sampled_from([1.0, 2.5])),
        "thresholds": at,
        "aff_threshold": (0.2, 0.95),
        "discretize_queue": data.draw(st.sampled_from([0, 256])),
        "dust_merge_size": data.draw(st.sampled_from([0, 6])),
        "dust_remove_size": data.draw(st.sampled_from([0, 3])),
    }
    size = data.draw(st.sampled_from([None, (30, 6, 6), (8, 8, 8)]))
    facts = {"offsets": UNITS, "edge_side": side, "voxel_size": size}
    whole = agglomerate(cut, threads=1, **arguments, **facts)
    store = MemoryStore(cut.shape[1:])
    threads = data.draw(st.integers(1, 3))
    found = Agglomerate(threads=threads, **arguments).blocks(
        from_array(cut, axes="czyx"), store=store, block_shape=block_shape, **facts
    )
    np.testing.assert_array_equal(put_together(found, cut.shape[1:]), whole)
    np.testing.assert_array_equal(agglomerate(cut, threads=3, **arguments, **facts), whole)


@settings(deadline=None, max_examples=40)
@given(predictions(), CUTS, SIDES, st.booleans(), st.randoms())
def test_blocks_in_any_order_have_one_graph(cut, block_shape, side, histograms, random):
    shape = cut.shape[1:]

    def graph_of(store, cells):
        return find_supervoxels(
            cut,
            edges=axis_edges(UNITS, side),
            rule=(0.2, 0.95),
            histograms=histograms,
            store=store,
            block_shape=cells,
            threads=1,
            limit=EdgeLimit(2**30, histograms=histograms),
        ).graph

    class Reordered(MemoryStore):
        """Takes blocks in another order: those named first are the only ones not done."""

        waiting: list = []

        def done(self, block):
            return block.index not in self.waiting

    order = [block.index for block in grid(shape, block_shape)]
    random.shuffle(order)
    store, whole = Reordered(shape), graph_of(MemoryStore(shape), shape)
    for place in order[:-1]:
        store.waiting = [place]
        with pytest.raises(KeyError):  # the blocks that are not there yet are missed
            graph_of(store, block_shape)
    store.waiting = order[-1:]
    cut_up = graph_of(store, block_shape)
    np.testing.assert_array_equal(cut_up.edges, whole.edges)
    np.testing.assert_array_equal(cut_up.sizes, whole.sizes)
    if histograms:
        for name in ("starts", "bins", "weights"):
            one, two = getattr(cut_up.histograms, name), getattr(whole.histograms, name)
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("merge_function", ["mean", "aff50_his256"])
def test_a_graph_larger_than_the_memory(merge_function):
    prediction = np.random.default_rng(0).random((3, 40, 16, 16), np.float32)
    shape, block_shape = prediction.shape[1:], (4, 16, 16)
    about = {"edges": axis_edges(UNITS, "destination"), "rule": (0.1, 0.999), "histograms": False}
    found = [
        find_supervoxels(
            prediction,
            **about,
            store=MemoryStore(shape),
            block_shape=block_shape,
            threads=1,
            limit=limit,
        ).graph
        for limit in (EdgeLimit(2**30), EdgeLimit(1_000_000))
    ]
    assert [graph.in_file for graph in found] == [False, True]
    np.testing.assert_array_equal(found[0].edges, found[1].edges)
    settings = {"merge_function": merge_function, "thresholds": 0.4}
    facts = {"offsets": UNITS, "edge_side": "destination"}
    whole = agglomerate(prediction, **settings, **facts)
    blocks = Agglomerate(**settings, memory_limit=1_000_000 / 2**30).blocks(
        from_array(prediction, axes="czyx"),
        store=MemoryStore(shape),
        block_shape=block_shape,
        **facts,
    )
    np.testing.assert_array_equal(put_together(blocks, shape), whole)
    # Its dust would need all edges in memory.
    dust = Agglomerate(**settings, memory_limit=1_000_000 / 2**30, dust_merge_size=5)
    with pytest.raises(UserError, match=r"\d+ fragments with \d+ edges between them"):
        dust(prediction, **facts)
    # Nor are there files for what every fragment takes.
    little = (BYTES_PER_FRAGMENT * (len(found[0].sizes) - 1) - 1) / 2**30
    with pytest.raises(UserError, match=r"leaves at least \d+ fragments: merging those takes"):
        Agglomerate(**settings, memory_limit=little).supervoxels(
            prediction, about["edges"], None, block_shape=(1, 16, 16)
        )


@settings(deadline=None, max_examples=60)
@given(predictions(), CUTS, SIDES, st.sampled_from([0.3, 0.5, 0.9]))
def test_components_in_blocks_are_those_of_the_whole(cut, block_shape, side, threshold):
    facts = {"offsets": UNITS, "edge_side": side}
    whole = affinity_cc(cut, threshold=threshold, **facts)
    store = MemoryStore(cut.shape[1:])
    found = AffinityCC(threshold=threshold).blocks(
        from_array(cut, axes="czyx"), store=store, block_shape=block_shape, **facts
    )
    np.testing.assert_array_equal(put_together(found, cut.shape[1:]), whole)


def test_components_in_blocks_keep_to_the_mask(tmp_path):
    rng = np.random.default_rng(0)
    cut = rng.random((3, 6, 7, 8)).astype(np.float32)
    path = tmp_path / "mask.h5"
    mask = (rng.random((6, 7, 8)) < 0.8).astype(np.uint8)
    write_volume(path, mask, axes="zyx", voxel_size=None, attributes={})
    decoder = AffinityCC(threshold=0.4, affinity_mask_path=str(path))
    facts = {"offsets": UNITS, "edge_side": "source"}
    found = decoder.blocks(
        from_array(cut, axes="czyx"),
        store=MemoryStore(mask.shape),
        block_shape=(2, 3, 5),
        **facts,
    )
    np.testing.assert_array_equal(put_together(found, mask.shape), decoder(cut, **facts))


def test_a_value_that_is_no_probability_is_found_in_any_block():
    cut = np.full((3, 4, 4, 4), 0.5, np.float32)
    cut[1, 3, 2, 2] = np.nan
    for decoder in (Agglomerate(), AffinityCC()):
        with pytest.raises(UserError, match="probabilities in"):
            list(
                decoder.blocks(
                    from_array(cut, axes="czyx"),
                    store=MemoryStore((4, 4, 4)),
                    block_shape=(2, 2, 2),
                    offsets=UNITS,
                    edge_side="destination",
                )
            )


@pytest.mark.real
def test_a_real_volume_in_blocks_is_that_of_the_whole(real_data):
    with h5py.File(real_data / "pinky40/connectomics_crop256.h5") as file:
        labels = next(item for item in _arrays(file))[100:148, 64:192, 64:192]
    rng = np.random.default_rng(0)
    values, _ = affinities(labels.astype(np.int32), offsets=UNITS, edge_side="destination")
    blurred = [gaussian_filter(channel.astype(np.float32), (0.5, 1, 1)) for channel in values]
    noise = gaussian_filter(rng.standard_normal(values.shape), (0, 0.7, 2, 2))
    cut = 1 / (1 + np.exp(-20 * (np.stack(blurred) - 0.6) - 2 * noise / noise.std()))
    cut = cut.astype(np.float32)
    facts = {"offsets": UNITS, "edge_side": "destination"}
    whole = agglomerate(cut, dust_merge_size=100, **facts)
    components = affinity_cc(cut, threshold=0.8, **facts)
    assert whole.max() > 10 and components.max() > 10
    volume = from_array(cut, axes="czyx")
    for cells in ((48, 40, 50), (7, 128, 128), (16, 33, 64)):
        for decoder, wanted in (
            (Agglomerate(dust_merge_size=100), whole),
            (AffinityCC(threshold=0.8), components),
        ):
            store = MemoryStore(whole.shape)
            found = decoder.blocks(volume, store=store, block_shape=cells, **facts)
            np.testing.assert_array_equal(put_together(found, whole.shape), wanted)


def _arrays(group):
    for item in group.values():
        yield from _arrays(item) if isinstance(item, h5py.Group) else [item]
