import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.volumes import PartialVolume, cells, open_volume, partial, read_attributes, write_volume
from emseg.volumes import atomic as atomic_module
from emseg.volumes.content import content_now, stored_content

SHAPE = (2, 13, 10, 12)
DATA = np.random.default_rng(0).random(SHAPE, np.float32)
PLACE = {"axes": "czyx", "voxel_size": (30, 6, 6)}
FORK = multiprocessing.get_context("fork")


def opened(path, **changes):
    arguments = {
        "shape": SHAPE,
        "dtype": "float32",
        "chunks": (1, 4, 10, 12),
        **PLACE,
        "attributes": {"fingerprint": "abc", "offsets": [[0, 0, 1]]},
    }
    return PartialVolume(path, **(arguments | changes))


def fill(volume, thickness):
    while volume._next < SHAPE[1]:
        start = volume._next
        volume.write(start, DATA[:, start : start + thickness])


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_the_volume_appears_when_finished(name):
    volume = opened(name)
    fill(volume, 5)
    assert volume.done() == 13 and not Path(name).exists()
    assert volume.finish() == Path(name)
    assert [path.name for path in Path().iterdir()] == [name]
    found = open_volume(name)
    np.testing.assert_array_equal(found[...], DATA)
    assert (found.voxel_size, found.channels) == ((30, 6, 6), 2)
    place = {"axes": "czyx", "resolution": [30, 6, 6]}
    expected = {"fingerprint": "abc", "offsets": [[0, 0, 1]], **place}
    stored = read_attributes(name)
    assert len(stored.pop("content")["sha256"]) == 64
    assert stored == expected


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_slabs_of_any_thickness_with_stops_between(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("slabs") / "a.zarr"
    volume = opened(path)
    while (start := volume._next) < SHAPE[1]:
        stop = data.draw(st.integers(start + 1, SHAPE[1]))
        volume.write(start, DATA[:, start:stop])
        assert volume.done() == (stop if stop == SHAPE[1] else stop - stop % 4)
        if data.draw(st.booleans()):
            done = volume.done()
            volume = opened(path)
            assert volume.done() == done
    volume.finish()
    np.testing.assert_array_equal(open_volume(path)[...], DATA)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
@pytest.mark.parametrize("damage", ["cut", "lost", "other"])
def test_only_a_damaged_row_is_written_again(name, damage):
    opened(name).write(0, DATA[:, :12])
    (chunk,) = Path(f"{name}.partial/main/c/1/1").rglob("*/*")
    if damage == "lost":
        chunk.unlink()
    elif damage == "cut":
        chunk.write_bytes(chunk.read_bytes()[:50])
    else:  # That of the row before, whole in itself.
        chunk.write_bytes(Path(str(chunk).replace("c/1/1", "c/1/0")).read_bytes())
    volume = opened(name)
    assert volume.done() == 4 and volume.missing() == [(4, 8), (12, 13)]
    for start, stop in volume.missing():
        volume.write(start, DATA[:, start:stop])
    volume.finish()
    np.testing.assert_array_equal(open_volume(name)[...], DATA)


def test_only_a_damaged_cell_is_written_again(small_cells):
    volume = opened("a.zarr", **small_cells)
    for area in volume.cells.areas:
        volume.write(0, DATA[(..., *(slice(*span) for span in area))], area)
    chunk = Path("a.zarr.partial/main/c/0/1/3/1")
    chunk.write_bytes(chunk.read_bytes()[:9])
    volume = opened("a.zarr", **small_cells)
    lost = [area for area in volume.cells.areas if volume.missing(area=area)]
    assert lost == [((6, 10), (0, 4))] and volume.missing() == [(4, 8)]
    with pytest.raises(ValueError, match="lacks"):
        volume.finish()
    volume.write(4, DATA[:, 4:8, 6:, :4], lost[0])
    volume.finish()
    np.testing.assert_array_equal(open_volume("a.zarr")[...], DATA)


def test_a_row_that_is_lost_while_it_is_written_is_one_line():
    volume = opened("a.zarr")
    fill(volume, 13)
    (chunk,) = Path("a.zarr.partial/main/c/1/1").rglob("*/*")
    chunk.unlink()
    with pytest.raises(UserError, match="does not hold any more what was written to it"):
        volume.finish()


def test_a_volume_without_channels():
    volume = opened("a.h5", shape=SHAPE[1:], axes="zyx", chunks=(4, 8, 8))
    volume.write(0, DATA[0])
    volume.finish()
    np.testing.assert_array_equal(open_volume("a.h5")[...], DATA[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": {"fingerprint": "other"}},
        {"dtype": "float64"},
        {"chunks": (1, 2, 8, 8)},
        {"shape": (2, 14, 10, 12)},
        {"axes": "cxyz"},
    ],
)
def test_another_fingerprint_or_layout_starts_anew(changes):
    opened("a.h5").write(0, DATA[:, :8])
    assert opened("a.h5").done() == 8
    assert opened("a.h5", **changes).done() == 0
    assert opened("a.h5").done() == 0


@pytest.mark.parametrize("loss", ["ledger", "folder", "half a ledger"])
def test_what_is_left_without_its_other_half_starts_anew(loss):
    opened("a.zarr").write(0, DATA[:, :8])
    if loss == "folder":
        atomic_module.discard(Path("a.zarr.partial"))
    elif loss == "ledger":
        Path("a.zarr.partial.json").unlink()
    else:
        Path("a.zarr.partial.json").write_text('{"of": {"finger')
    volume = opened("a.zarr")
    assert volume.done() == 0
    fill(volume, 13)
    volume.finish()
    np.testing.assert_array_equal(open_volume("a.zarr")[...], DATA)


def test_the_fingerprint_is_required():
    with pytest.raises(KeyError, match="fingerprint"):
        opened("a.h5", attributes={})


@pytest.fixture
def small_cells(monkeypatch):
    """Sections of 10 x 12 voxels have 2 x 3 cells, of chunks of 3 x 2 voxels."""
    monkeypatch.setattr(cells, "SIDE", 4)
    return {"chunks": (1, 4, 3, 2)}


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), suffix=st.sampled_from(["h5", "zarr"]))
def test_areas_in_any_order_with_stops_between(small_cells, tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("areas") / f"a.{suffix}"
    volume = opened(path, **small_cells)
    areas = data.draw(st.permutations(volume.cells.areas))
    assert len(areas) == 6
    for area in areas:
        part = DATA[(..., *(slice(*span) for span in area))]
        for start, stop in volume.missing(area=area):
            cut = data.draw(st.integers(start + 1, stop))
            volume.write(start, part[:, start:cut], area)
            if data.draw(st.booleans()):
                volume = opened(path, **small_cells)  # what is left of the stretch stays missing
            elif cut < stop:
                volume.write(cut, part[:, cut:stop], area)
    for start, stop in volume.missing():
        volume.write(start, DATA[:, start:stop])
    volume.finish()
    found = open_volume(path)
    np.testing.assert_array_equal(found[...], DATA)
    assert content_now(path) == stored_content(found.attributes)


def test_slabs_must_follow_and_fit():
    volume = opened("a.h5")
    with pytest.raises(ValueError, match="does not follow 0"):
        volume.write(3, DATA[:, :4])
    with pytest.raises(ValueError, match="does not follow"):
        volume.write(0, DATA[:, :4, :9])
    with pytest.raises(ValueError, match="does not follow"):
        volume.write(0, DATA[:1, :4])
    with pytest.raises(ValueError, match="does not follow"):
        volume.write(0, np.concatenate([DATA, DATA], axis=1))
    with pytest.raises(ValueError, match="float64"):
        volume.write(0, DATA[:, :4].astype(np.float64))
    with pytest.raises(ValueError, match=r"lacks the voxels \[\(0, 13\)\]"):
        volume.finish()


# Every call by which a partial volume changes the disk, in the order of a whole run; a child is
# killed before the n-th of them, for every n.
def _die_before(call, counter, at):
    def wrapped(*args, **kwargs):
        counter[0] += 1
        if counter[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return wrapped


def _run_and_die(path, at):
    from emseg.volumes import ome_zarr

    counter = [0]
    for owner, name in [
        (Path, "write_text"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "unlink"),
        (partial, "discard"),
        (atomic_module, "discard"),
        (ome_zarr, "create_zarr"),
        (ome_zarr.zarr.Array, "__setitem__"),
    ]:
        setattr(owner, name, _die_before(getattr(owner, name), counter, at))
    volume = opened(path)
    fill(volume, 4)
    volume.finish()
    os._exit(0)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_kill_before_any_step_loses_nothing_that_was_done(name):
    for at in range(1, 100):
        path = Path(str(at), name)
        write_volume(path, DATA * 0, attributes={"fingerprint": "old"}, **PLACE)
        child = FORK.Process(target=_run_and_die, args=(path, at))
        child.start()
        child.join()
        if path.exists():
            finished = read_attributes(path)["fingerprint"] == "abc"
            expected = DATA if finished else DATA * 0
            np.testing.assert_array_equal(open_volume(path)[...], expected)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        volume = opened(path)
        fill(volume, 4)
        volume.finish()
        np.testing.assert_array_equal(open_volume(path)[...], DATA)
        assert {entry.name for entry in path.parent.iterdir()} <= {name, f"{name}.replaced"}
    assert 15 < at < 99
