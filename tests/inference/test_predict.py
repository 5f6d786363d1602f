import threading
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.inference.accumulator import weight_map
from emseg.inference.predict import predict, predict_volume
from emseg.inference.settings import Settings
from emseg.inference.windows import window_starts
from emseg.models.rsunet import RSUNet
from emseg.volumes import from_array, read_padded
from reference.stitching import stitched

BLENDINGS = ("constant", "gaussian", "bump", "distance_transform")
OFFSETS = [(0, 0, 1), (2, 0, 0), (0, -3, 0), (1, 2, 0), (0, 0, 0), (0, 0, 1)]

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
grids = {
    "window_size": st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)),
    "overlap": st.sampled_from([0, 0.25, 0.5, 0.75, (0.75, 0, 0.5)]),
    "pad": st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    "snap_to_edge": st.booleans(),
    "padding_mode": st.sampled_from(["reflect", "replicate", "constant"]),
    "sw_batch_size": st.integers(1, 5),
}


def predicted(net, image, channels=1, **options):
    options = {"window_size": (4, 4, 4), "normalize": np.float32} | options
    return predict(net, image, channels=channels, **options)


def ones(batch):
    return torch.ones((len(batch), len(OFFSETS), *batch.shape[2:]))


def pointwise(batch):
    return torch.cat([batch, 1 - batch, batch**2], dim=1)


def window_bound(batch):
    """A network whose values depend on the window: on its mean and on the place in it."""
    n, _, *window = batch.shape
    ramp = torch.arange(np.prod(window), dtype=torch.float32).reshape(window) / np.prod(window)
    mean = batch.mean(dim=(1, 2, 3, 4)).reshape(n, 1, 1, 1, 1)
    return torch.cat([(k + 1) * mean + ramp * batch for k in range(len(OFFSETS))], dim=1)


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@settings(max_examples=120)
@given(
    shape=sizes,
    blending=st.sampled_from(BLENDINGS),
    affinities=st.booleans(),
    edge_side=st.sampled_from(["source", "destination"]),
    options=st.fixed_dictionaries(grids),
)
def test_constant_in_constant_out(shape, blending, affinities, edge_side, options):
    result = predicted(
        ones,
        np.zeros(shape, np.uint8),
        channels=len(OFFSETS),
        blending=blending,
        activation="none",
        offsets=OFFSETS if affinities else None,
        edge_side=edge_side,
        **options,
    )
    assert (result.shape, result.dtype) == ((len(OFFSETS), *shape), np.float32)
    np.testing.assert_array_equal(result, 1)


@pytest.mark.parametrize("blending", BLENDINGS)
@pytest.mark.parametrize("overlap", [0.25, 0.75])
def test_constant_in_constant_out_in_wide_windows(blending, overlap):
    result = predicted(
        ones,
        np.zeros((13, 37, 34), np.uint8),
        channels=len(OFFSETS),
        window_size=(6, 16, 16),
        overlap=overlap,
        blending=blending,
        pad=(3, 7, 7),
        activation="none",
        offsets=OFFSETS,
    )
    np.testing.assert_array_equal(result, 1)


@pytest.mark.parametrize("blending", BLENDINGS)
@pytest.mark.parametrize(
    ("dtype", "expected", "step"),
    [("float32", 0.7, 1e-6), ("float16", 0.7, 2**-11), ("uint8", 178, 1)],
)
def test_a_constant_probability_survives_the_output_dtype(blending, dtype, expected, step):
    logit = float(np.log(0.7 / 0.3))
    result = predicted(
        lambda batch: torch.full_like(batch, logit),
        np.zeros((9, 13, 11), np.uint8),
        window_size=(4, 6, 5),
        overlap=0.75,
        blending=blending,
        output_dtype=dtype,
    )
    assert result.dtype == dtype
    assert np.abs(result.astype(np.float64) - expected).max() <= step


def test_uint8_is_the_nearest_of_255_steps():
    image = np.linspace(-20, 20, 8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10)
    result = predicted(lambda batch: batch, image, output_dtype="uint8")
    exact = predicted(lambda batch: batch, image)
    np.testing.assert_array_equal(result, np.rint(255 * exact))
    assert result.min() == 0 and result.max() == 255


@settings(max_examples=60)
@given(shape=sizes, blending=st.sampled_from(BLENDINGS), options=st.fixed_dictionaries(grids))
def test_a_pointwise_network_gives_the_same_in_any_windows(shape, blending, options):
    image = noise(shape)
    result = predicted(
        pointwise, image, channels=3, blending=blending, activation="none", **options
    )
    whole = pointwise(torch.from_numpy(image)[None, None])[0].numpy()
    # With an overlap of 3/4 up to 4^3 windows are added up in float32, each sum rounded.
    atol = 4**3 * np.finfo(np.float32).epsneg * max(1, np.abs(whole).max())
    np.testing.assert_allclose(result, whole, rtol=0, atol=atol)


@settings(max_examples=40)
@given(
    shape=sizes,
    blending=st.sampled_from(BLENDINGS),
    edge_side=st.sampled_from(["source", "destination"]),
    options=st.fixed_dictionaries(grids),
)
def test_the_rolling_blend_equals_the_blend_of_the_whole(shape, blending, edge_side, options):
    image = noise(shape)
    window = options["window_size"]
    result = predicted(
        window_bound,
        image,
        channels=len(OFFSETS),
        blending=blending,
        activation="none",
        offsets=OFFSETS,
        edge_side=edge_side,
        **options,
    )
    overlap = (
        options["overlap"] if isinstance(options["overlap"], tuple) else [options["overlap"]] * 3
    )
    axes = zip(shape, window, overlap, options["pad"], strict=True)

    def window_values(corner):
        stop = [c + w for c, w in zip(corner, window, strict=True)]
        patch = read_padded(from_array(image), corner, stop, mode=options["padding_mode"])
        return window_bound(torch.from_numpy(patch)[None, None])[0].numpy()

    expected = stitched(
        window_values,
        shape=shape,
        window=window,
        starts=[window_starts(*axis, options["snap_to_edge"]) for axis in axes],
        weights=weight_map(window, blending),
        offsets=OFFSETS,
        edge_side=edge_side,
    )
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("snap", [False, True])
@pytest.mark.parametrize("pad", [None, (3, 2, 2)])
def test_a_resumed_run_gives_the_same_bits_from_any_plane(snap, pad):
    image = noise((17, 9, 10))
    options = {
        "channels": len(OFFSETS),
        "window_size": (6, 5, 4),
        "sw_batch_size": 4,
        "snap_to_edge": snap,
        "pad": pad,
        "offsets": OFFSETS,
    }
    whole = predicted(window_bound, image, **options)
    for first in range(len(image) + 1):
        taken = []
        none = predicted(
            window_bound,
            image,
            first_plane=first,
            write=lambda start, planes, taken=taken: taken.append((start, planes)),
            **options,
        )
        assert none is None
        stops = [start + planes.shape[1] for start, planes in taken]
        assert [start for start, _ in taken] == [first, *stops][: len(taken)]
        assert (stops or [first])[-1] == len(image)
        for start, planes in taken:
            np.testing.assert_array_equal(planes, whole[:, start:][:, : planes.shape[1]])
    rest = predicted(window_bound, image, first_plane=5, **options)
    np.testing.assert_array_equal(rest, whole[:, 5:])


def spans(size):
    return st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted).filter(np.diff)


@settings(deadline=None, max_examples=60)
@given(region=st.tuples(*map(spans, (17, 9, 10))), pad=st.sampled_from([None, (3, 2, 2)]))
def test_a_region_has_the_bits_of_the_whole(region, pad):
    image = noise((17, 9, 10))
    asked = Settings(
        window_size=(6, 5, 4),
        overlap=0.5,
        pad=pad or (),
        sw_batch_size=4,
        offsets=tuple(map(tuple, OFFSETS)),
    )
    parts = [
        predict_volume(window_bound, from_array(image), asked, normalize=np.float32, region=part)
        for part in (None, region)
    ]
    inside = tuple(slice(*span) for span in region)
    np.testing.assert_array_equal(parts[1], parts[0][(slice(None), *inside)])


def test_values_do_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    # Two threads for a batch of one give its convolutions other bits.
    net = RSUNet(1, 3, width=(4, 6), down_factors=((1, 2, 2),)).eval()
    net = net.to(memory_format=torch.channels_last_3d)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            options = {"channels": 3, "window_size": (4, 16, 16), "sw_batch_size": 1}
            found.append(predicted(net, noise((8, 40, 40)), **options))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_resumed_run_predicts_no_window_that_is_behind_it():
    seen = []

    def counting(batch):
        seen.append(len(batch))
        return batch

    predicted(counting, np.zeros((20, 4, 4), np.uint8), first_plane=12)
    # Starts 0, 2, .. 16: those from 10 on reach plane 12.
    assert sum(seen) == 4


def test_memory_does_not_grow_with_the_depth():
    def peak(depth):
        # A volume of any depth in the memory of one plane.
        image = np.broadcast_to(noise((1, 40, 40)), (depth, 40, 40))
        tracemalloc.start()
        try:
            predicted(
                lambda batch: batch,
                image,
                window_size=(8, 40, 40),
                write=lambda start, planes: None,
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(16)
    assert peak(320) - peak(32) < 40 * 40 * 4 * 100


def test_the_next_batch_is_read_while_the_network_works():
    loads = threading.Semaphore(0)
    waited = []

    def normalize(patch):
        loads.release()
        return np.float32(patch)

    def net(batch):
        # For the k-th batch k + 1 patches must have been read, the last batch excepted.
        waited.append([loads.acquire(timeout=5) for _ in range(2 if not waited else 1)])
        return batch

    def last_or(net):
        return lambda batch: net(batch) if len(waited) < 3 else batch

    predicted(last_or(net), np.zeros((16, 4, 4), np.uint8), normalize=normalize, overlap=0)
    assert waited == [[True, True], [True], [True]]


def test_image_channels_reach_the_network():
    image = noise((2, 6, 7, 8))
    volume = from_array(image, axes="czyx")
    result = predicted(lambda batch: batch[:, :1] - batch[:, 1:], volume, activation="none")
    np.testing.assert_allclose(result[0], image[0] - image[1], rtol=0, atol=1e-6)


def test_mixed_precision_wraps_the_network_alone():
    conv = torch.nn.Conv3d(1, 1, 1).requires_grad_(False)
    dtypes = []

    def net(batch):
        assert torch.is_inference_mode_enabled()
        logits = conv(batch)
        dtypes.append((batch.dtype, logits.dtype))
        return logits

    result = predicted(net, noise((4, 4, 4)), autocast_dtype=torch.bfloat16)
    assert set(dtypes) == {(torch.float32, torch.bfloat16)}
    assert result.dtype == np.float32


@pytest.mark.parametrize("trained_with", [None, ["sigmoid", "tanh", "sigmoid"]])
@pytest.mark.parametrize(
    ("activation", "function", "distance"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), np.tanh),
        ("scale_sigmoid", lambda x: 1 / (1 + np.exp(-x / 5)), np.tanh),
        ("none", lambda x: x, lambda x: x),
    ],
)
def test_windows_are_activated(activation, function, distance, trained_with):
    image = noise((4, 5, 6)) * 6 - 3
    result = predicted(
        pointwise, image, channels=3, activation=activation, channel_activations=trained_with
    )
    wanted = [function(image), function(1 - image), function(image**2)]
    if trained_with:
        wanted[1] = distance(1 - image)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


def test_windows_and_padding_may_be_arrays():
    image, options = noise((6, 9, 9)), {"overlap": (0.5, 0.5, 0.5), "pad": (1, 2, 0)}
    as_arrays = {name: np.array(values) for name, values in options.items()}
    np.testing.assert_array_equal(
        predicted(lambda batch: batch, image, **as_arrays),
        predicted(lambda batch: batch, image, **options),
    )
