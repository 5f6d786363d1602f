import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.decoding.affinity_cc import _say_torch, affinity_cc
from emseg.errors import UserError
from emseg.volumes import write_volume
from reference.components import flood_components

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
SIDES = st.sampled_from(["source", "destination"])
SHAPES = st.tuples(st.just(3), *[st.integers(1, 5)] * 3)
# Values on both sides of common thresholds, at them, and next to them in the dtype.
LEVELS = {
    "float32": [0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.7, 1.0],
    "float16": [0.0, 0.5, 0.69970703125, 0.7001953125, 1.0],
    "uint8": [0, 127, 128, 178, 179, 255],
}


@st.composite
def predictions(draw):
    dtype = draw(st.sampled_from(sorted(LEVELS)))
    levels = np.array(LEVELS[dtype], dtype)
    return levels[draw(arrays.arrays(np.int8, draw(SHAPES), elements=st.integers(0, 4)))]


@settings(deadline=None, max_examples=120)
@given(
    prediction=predictions(),
    threshold=st.sampled_from([-0.0, 0.0, 0.5, 128 / 255, 0.7, 1.0]),
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    edge_offset=st.sampled_from([0, 1, None]),
    edge_side=SIDES,
    backend=st.sampled_from(["numba", "torch"]),
)
def test_labels_are_the_canonical_ones(
    prediction, threshold, order, signs, edge_offset, edge_side, backend
):
    offsets = [tuple(sign * s for s in UNITS[a]) for a, sign in zip(order, signs, strict=True)]
    edge_side = {0: "source", 1: "destination", None: edge_side}[edge_offset]
    labels = affinity_cc(
        prediction,
        threshold=threshold,
        edge_offset=edge_offset,
        backend=backend,
        offsets=offsets,
        edge_side=edge_side,
    )
    scale = np.float32(255 if prediction.dtype == np.uint8 else 1)
    affinities = prediction.astype(np.float32) / scale
    expected = flood_components(affinities, threshold, offsets, edge_side)
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("upwards", [False, True])
def test_a_staircase_of_many_turns_is_one_component(backend, upwards):
    side = 1024
    prediction = np.zeros((3, 1, side, side), np.float16)
    steps = np.arange(side - 1)
    prediction[2, 0, steps, steps] = 1
    prediction[1, 0, steps, steps + 1] = 1
    if upwards:
        prediction = prediction[:, :, ::-1]
    offsets = [(1, 0, 0), (0, -1 if upwards else 1, 0), (0, 0, 1)]
    labels = affinity_cc(prediction, backend=backend, offsets=offsets, edge_side="source")
    assert labels.max() == 1
    assert np.count_nonzero(labels) == 2 * side - 1


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_winding_path_is_one_component(backend):
    # There and back through every second row, each time joined at the other end.
    side = 301
    prediction = np.zeros((3, 1, side, side), np.uint8)
    prediction[2, 0, ::2, :-1] = 255
    prediction[1, 0, [0, 1], -1] = prediction[1, 0, [2, 3], 0] = 255
    for row in range(4, side - 1, 2):
        prediction[1, 0, [row, row + 1], -1 if row % 4 == 0 else 0] = 255
    labels = affinity_cc(prediction, backend=backend, offsets=UNITS, edge_side="source")
    assert labels.max() == 1


def test_cupy_is_torch_and_the_user_is_told_once(capsys):
    prediction = np.random.default_rng(4).random((3, 4, 5, 6)).astype(np.float32)
    facts = {"offsets": UNITS, "edge_side": "source"}
    _say_torch.cache_clear()
    for _ in range(2):
        labels = affinity_cc(prediction, backend="cupy", **facts)
        np.testing.assert_array_equal(labels, affinity_cc(prediction, **facts))
    said = capsys.readouterr().err
    assert said == "emseg: decoding.backend=cupy runs on torch, with the same labels\n"


@pytest.mark.parametrize(("edge_offset", "edge_side"), [(0, "destination"), (1, "source")])
def test_an_edge_offset_that_the_prediction_contradicts_is_refused(edge_offset, edge_side):
    with pytest.raises(UserError, match=rf"decoding.edge_offset is {edge_offset}.*{edge_side}"):
        affinity_cc(
            np.zeros((3, 2, 2, 2), np.float32),
            edge_offset=edge_offset,
            offsets=UNITS,
            edge_side=edge_side,
        )


def test_a_value_for_a_pair_outside_makes_a_singleton():
    prediction = np.zeros((3, 2, 2, 2), np.float32)
    prediction[0, 1, 0, 0] = 1
    labels = affinity_cc(prediction, offsets=UNITS, edge_side="source")
    assert np.argwhere(labels).tolist() == [[1, 0, 0]]


def test_long_offsets_are_their_axis_s_edge():
    prediction = np.random.default_rng(1).random((3, 4, 5, 6)).astype(np.float32)
    long = [(0, 0, 3), (0, 3, 0), (2, 0, 0)]
    short = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    for side in ("source", "destination"):
        one = affinity_cc(prediction, offsets=long, edge_side=side)
        two = affinity_cc(prediction, offsets=short, edge_side=side)
        np.testing.assert_array_equal(one, two)


def write_mask(folder, mask):
    with h5py.File(folder / "mask.h5", "w") as file:
        file["main"] = mask.astype(np.uint8)
    return f"{folder / 'mask.h5'}:main"


@pytest.mark.parametrize("edge_side", ["source", "destination"])
def test_a_mask_switches_off_every_edge_that_touches_what_it_excludes(tmp_path, edge_side):
    rng = np.random.default_rng(2)
    prediction = rng.random((3, 4, 5, 6)).astype(np.float32)
    mask = rng.random((4, 5, 6)) < 0.7
    trusted = prediction * mask
    for axis in range(3):
        neighbour = np.roll(mask, -1 if edge_side == "source" else 1, axis)
        edge = -1 if edge_side == "source" else 0
        np.moveaxis(neighbour, axis, 0)[edge] = True
        trusted[axis] *= neighbour
    labels = affinity_cc(
        prediction,
        affinity_mask_path=write_mask(tmp_path, mask),
        offsets=UNITS,
        edge_side=edge_side,
    )
    np.testing.assert_array_equal(labels, affinity_cc(trusted, offsets=UNITS, edge_side=edge_side))
    assert not labels[~mask].any()


@pytest.mark.parametrize(
    ("shape", "words"), [((2, 2, 3), r".*\(2, 2, 3\)"), ((2, 2, 2, 2), r".* has 2 channels.* none")]
)
def test_a_mask_of_another_form_is_refused(tmp_path, shape, words):
    location, axes = str(tmp_path / "mask.h5"), "czyx"[-len(shape) :]
    write_volume(location, np.ones(shape, np.uint8), axes=axes, voxel_size=None, attributes={})
    prediction, facts = (
        np.zeros((3, 2, 2, 2), np.float32),
        {"offsets": UNITS, "edge_side": "source"},
    )
    with pytest.raises(UserError, match=f"affinity_mask_path.*mask.h5{words}"):
        affinity_cc(prediction, affinity_mask_path=location, **facts)
