import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import emseg
from emseg.errors import UserError
from emseg.volumes import Volume, from_array, open_volume, write_volume

SHAPE = (9, 20, 24)
RAW = np.random.default_rng(0).integers(0, 2**16, SHAPE, np.uint16)


@st.composite
def regions(draw, shape=SHAPE):
    start = [draw(st.integers(0, size - 1)) for size in shape]
    return start, [draw(st.integers(a + 1, size)) for a, size in zip(start, shape, strict=True)]


def sliced(array, start, stop):
    return array[(..., *map(slice, start, stop))]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    for name in ("a.h5", "a.zarr"):
        write_volume(folder / name, RAW, axes="zyx", voxel_size=(30, 6, 6))
    tifffile.imwrite(folder / "a.tif", RAW, photometric="minisblack")
    tifffile.imwrite(folder / "packed.tif", RAW, photometric="minisblack", compression="zlib")
    names = ("a.h5", "a.zarr", "a.tif", "packed.tif")
    return {name: open_volume(folder / name) for name in names} | {"array": from_array(RAW)}


@settings(deadline=None, max_examples=40)
@given(region=regions())
def test_every_format_reads_what_numpy_slices(stored, region):
    for volume in stored.values():
        block = volume.read(*region)
        np.testing.assert_array_equal(block, sliced(RAW, *region))
        assert block.dtype == volume.dtype == RAW.dtype
        assert block.flags.c_contiguous and block.flags.writeable


@settings(deadline=None, max_examples=40)
@given(outer=regions(), data=st.data())
def test_a_crop_of_a_crop_is_a_slice_of_a_slice(stored, outer, data):
    expected = sliced(RAW, *outer)
    inner = data.draw(regions(expected.shape))
    for name in ("a.h5", "array"):
        crop = stored[name].crop(*outer)
        assert crop.shape == expected.shape
        np.testing.assert_array_equal(crop[...], expected)
        np.testing.assert_array_equal(crop.crop(*inner)[...], sliced(expected, *inner))


@pytest.mark.parametrize("channel_axis", range(4))
def test_channels_come_first_wherever_they_are_stored(channel_axis):
    channels = np.stack([RAW, RAW + 1, RAW + 2])
    axes = "zyx"[:channel_axis] + "c" + "zyx"[channel_axis:]
    volume = from_array(np.moveaxis(channels, 0, channel_axis), axes=axes)
    assert (volume.channels, volume.shape, volume.axes) == (3, SHAPE, "zyx")
    region = (1, 2, 3), (4, 8, 13)
    np.testing.assert_array_equal(volume.read(*region), sliced(channels, *region))
    np.testing.assert_array_equal(volume.crop(*region)[...], sliced(channels, *region))
    assert volume.read(*region).flags.c_contiguous


@pytest.mark.parametrize("channel_axis", [0, 3])
def test_only_the_selected_channels_are_read_in_their_order(channel_axis):
    channels = np.stack([RAW, RAW + 1, RAW + 2]).astype(">u2")
    axes = "czyx" if channel_axis == 0 else "zyxc"
    volume = from_array(np.moveaxis(channels, 0, channel_axis), axes=axes)
    region = (1, 2, 3), (4, 8, 13)
    found = volume.crop((0, 1, 0), SHAPE).read((1, 1, 3), (4, 7, 13), channels=[2, 0])
    np.testing.assert_array_equal(found, sliced(channels, *region)[[2, 0]])
    assert found.dtype.isnative
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="channels"):
            volume.read(*region, channels=wrong)
    with pytest.raises(ValueError, match="channels"):
        from_array(RAW).read(*region, channels=[0])


def test_a_crop_moves_the_offset_by_its_start_in_nanometres():
    write_volume("a.h5", RAW, axes="zyx", voxel_size=(30, 6, 6), offset=(5, 0, -6))
    volume = open_volume("a.h5")
    assert volume.crop((1, 2, 3), (4, 5, 6)).offset == (35, 12, 12)
    assert volume.crop((1, 2, 3), (9, 9, 9)).crop((1, 0, 0), (2, 2, 2)).offset == (65, 12, 12)
    assert from_array(RAW, voxel_size=(30, 6, 6)).crop((1, 0, 0), (2, 2, 2)).offset == (30, 0, 0)
    assert from_array(RAW).crop((1, 0, 0), (2, 2, 2)).offset is None


@pytest.mark.parametrize(
    ("start", "stop"),
    [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (10, 2, 2)), ((2, 0, 0), (2, 2, 2)), ((0, 0), (2, 2))],
)
def test_a_region_outside_is_an_error(start, stop):
    volume = from_array(RAW)
    with pytest.raises(ValueError, match="region"):
        volume.read(start, stop)
    with pytest.raises(ValueError, match="region"):
        volume.crop(start, stop)


def test_slices_read_as_in_numpy():
    volume = from_array(RAW)
    np.testing.assert_array_equal(volume[2:-1, :, -5:], RAW[2:-1, :, -5:])
    for key in (2, (slice(0, 4, 2), slice(None), slice(None)), (0, slice(None), slice(None))):
        with pytest.raises(ValueError, match="volume"):
            volume[key]


def test_a_block_of_an_array_is_a_copy_in_native_order():
    array = RAW.astype(">u2")
    block = from_array(array)[...]
    np.testing.assert_array_equal(block, RAW)
    assert block.dtype.isnative and from_array(array).dtype.isnative
    native = RAW.copy()
    from_array(native)[...][...] = 0
    np.testing.assert_array_equal(native, RAW)


def test_arrays_that_are_no_volume_are_refused():
    with pytest.raises(UserError, match="is empty"):
        from_array(RAW[:0])
    with pytest.raises(UserError, match="not numbers"):
        from_array(np.full((2, 2, 2), "a"))
    with pytest.raises(UserError, match="1 axes"):
        from_array(RAW[0, 0])


def _matches(volume: Volume) -> bool:
    return all(
        np.array_equal(
            volume.read((a, a, a), (a + 4, a + 9, a + 11)), RAW[a : a + 4, a : a + 9, a : a + 11]
        )
        for a in range(5)
    )


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif", "packed.tif"])
def test_forked_workers_read_at_once_with_the_parent(stored, name):
    volume = stored[name]
    assert _matches(volume)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pending = pool.map_async(_matches, [volume.crop((0, 0, 0), SHAPE)] * 30, chunksize=1)
        assert all(_matches(volume) for _ in range(10))
        assert all(pending.get(timeout=60))
    # Inherited by the fork, not pickled:
    process = multiprocessing.get_context("fork").Process(target=_exit_if_matching, args=(volume,))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    assert _matches(volume)


def run_python(program: str, **options: Any) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(emseg.__file__).parents[1])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, **options)
    return done.stdout.decode().split()


def _exit_if_matching(volume: Volume) -> None:
    if _matches(volume):
        sys.exit(7)


def test_a_pickled_volume_opens_in_a_fresh_process(stored):
    volumes = [volume for volume in stored.values() if _matches(volume)]
    program = (
        "import pickle, sys, zlib; volumes = pickle.load(sys.stdin.buffer)\n"
        "print(*(zlib.crc32(volume[...].tobytes()) for volume in volumes))"
    )
    sums = run_python(program, input=pickle.dumps(volumes))
    assert len(sums) == 5 and len(set(sums)) == 1


def test_a_pickle_holds_no_voxels(stored):
    for name in ("a.h5", "a.zarr", "a.tif", "packed.tif"):
        assert len(pickle.dumps(stored[name])) < 4000


def test_importing_volumes_brings_no_format_library():
    program = (
        "import sys, emseg.volumes; print({'h5py', 'zarr', 'tifffile', 'torch'} & set(sys.modules))"
    )
    assert run_python(program) == ["set()"]
