"""The windows that were chosen once stay, wherever a prediction is gone on with."""

import h5py
import numpy as np
import pytest

from emseg.volumes import PartialVolume, open_volume, read_attributes
from stages.conftest import SHAPE, write
from stages.tiny_tutorial import cells

# GiB in which nothing but the training patch fits.
LITTLE = "system.memory=1e-6"
PATCH = [8, 16, 16]


@pytest.fixture
def deep(experiment):
    raw, _ = cells((40, *SHAPE[1:]), seed=5)
    write(experiment.folder / "deep.h5", raw)
    return ["data.test.image=deep.h5", "data.test.label=null"]


def test_what_was_begun_goes_on_with_its_windows_in_less_memory(experiment, deep, monkeypatch):
    assert experiment.emseg("infer", *deep) == 0
    path = experiment.results / "test_im_prediction.h5"
    wanted, chosen = open_volume(path)[...], read_attributes(path)["window_size"]
    assert all(a > b for a, b in zip(chosen, PATCH, strict=True))
    path.unlink()
    write_planes = PartialVolume.write

    def interrupted(partial, start, array, area):
        if start >= 20:
            raise KeyboardInterrupt
        write_planes(partial, start, array, area)

    monkeypatch.setattr(PartialVolume, "write", interrupted)
    assert experiment.emseg("infer", *deep) == 130
    assert not path.exists()
    begun = []

    def noted(partial, start, array, area):
        begun.append(start)
        write_planes(partial, start, array, area)

    monkeypatch.setattr(PartialVolume, "write", noted)
    assert experiment.emseg("infer", *deep, LITTLE) == 0
    assert begun[0] == 16  # alone, this memory means the patch, and a zarr
    assert read_attributes(path)["window_size"] == chosen
    np.testing.assert_array_equal(open_volume(path)[...], wanted)


def test_a_finished_choice_is_current_in_any_memory_until_another_is_set(experiment, work):
    def size():
        return read_attributes(experiment.results / "test_im_prediction.h5")["window_size"]

    experiment.emseg("infer")
    chosen = size()
    assert chosen != PATCH
    for words, again in (
        (["system.memory=0.001"], False),
        (["inference.window.window_size=[8,16,16]"], True),
        ([], True),  # what the user has set is no choice
    ):
        work.clear()
        experiment.emseg("infer", *words)
        assert work == (["infer"] if again else [])
    assert size() == chosen


def test_predictions_from_before_windows_were_chosen_stay_current(experiment, work):
    experiment.emseg("infer", "inference.window.window_size=[8,16,16]")
    with h5py.File(experiment.results / "test_im_prediction.h5", "r+") as file:
        assert not file["main"].attrs["window_chosen"]
        del file["main"].attrs["window_chosen"]
    work.clear()
    experiment.emseg("infer")
    assert work == []
