"""What labels must hold so that there is something to learn from, in memory and not."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from emseg.data import learnable
from emseg.data.dataset import PatchDataset
from emseg.data.foreground import Foreground
from emseg.data.labelled import LabelledVolume
from emseg.data.polarity import Polarity
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Affinity, Target
from emseg.errors import UserError
from emseg.volumes import from_array

SHAPE = (8, 16, 16)
IMAGE = from_array(np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8), axes="zyx")
AFFINITY = Affinity(offsets=[[1, 0, 0], [0, 1, 0]])
TWO = np.ones(SHAPE, np.int32)
TWO[4:] = 2


def _volume(labels: np.ndarray, mask: np.ndarray | None = None, **ids: Any) -> LabelledVolume:
    known = None if mask is None else from_array(mask, axes="zyx")
    return LabelledVolume(IMAGE, from_array(labels, axes="zyx"), known, **ids)


def _notes(*volumes: LabelledVolume, target: Target = AFFINITY, **settings: Any) -> list[str]:
    made = PatchDataset(volumes, patch_size=(4, 8, 8), seed=0, target=target, **settings)
    return [note for note in made.notes if "label" in note or "id" in note]


half = np.zeros(SHAPE, np.uint8)
half[:4] = 1
known_below = TWO.copy()
known_below[:4] = -1


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("target", [AFFINITY, Foreground()])
@pytest.mark.parametrize(
    ("volume", "told"),
    [
        (_volume(-TWO // TWO), r"label is unlabelled \(-1\) everywhere"),
        (_volume(7 * TWO // TWO, unlabelled=7), r"label is unlabelled \(unlabelled=7, or -1\)"),
        (_volume(TWO, np.zeros(SHAPE, np.uint8)), "mask is 0 everywhere"),
        (_volume(known_below, half), "mask leaves unlabelled voxels alone"),
        (_volume(-TWO // TWO, half), "label is unlabelled"),
    ],
)
def test_a_volume_without_a_labelled_voxel_is_refused(
    volume: LabelledVolume, told: str, target: Target, preload: bool
) -> None:
    with pytest.raises(UserError, match=f"nothing to learn.*{told}"):
        _notes(_volume(TWO), volume, target=target, preload=preload)


def test_no_object_is_refused_for_affinities_and_said_for_others() -> None:
    nothing = _volume(np.zeros(SHAPE, np.uint32))
    with pytest.raises(UserError, match=r"background \(0\) alone, no object"):
        _notes(nothing, nothing)
    with pytest.raises(UserError, match="no object"):
        _notes(_volume(5 * TWO // TWO, background=5))
    for target in (Foreground(), Polarity()):
        (note,) = _notes(nothing, nothing, target=target)
        assert "no foreground" in note
        # One volume of several without a synapse is nothing to speak of.
        assert _notes(nothing, _volume(TWO), target=target) == []
    assert _notes(nothing, _volume(TWO)) == []


@pytest.mark.parametrize(
    ("labels", "settings", "warned"),
    [
        (TWO, {}, False),
        (3 * TWO // TWO, {}, True),
        (3 * TWO // TWO, {"target": Foreground()}, True),
        (3 * half.astype(np.int32), {}, True),
        (3 * half.astype(np.int32), {"relabel_crops": True}, False),
        (3 * half.astype(np.int32), {"target": Foreground()}, False),
    ],
)
def test_one_id_is_said(labels: np.ndarray, settings: dict[str, Any], warned: bool) -> None:
    notes = _notes(_volume(labels), **settings)
    assert len(notes) == warned
    assert all("one id alone" in note and "(3)" in note for note in notes)


def test_more_foreground_than_there_is_cannot_be_asked_of_a_patch() -> None:
    few = np.zeros(SHAPE, np.int32)
    few[0, 0, :3] = 1, 2, 3
    asked = partial(_notes, _volume(few), _volume(few))
    with pytest.raises(UserError, match=r"size_thres: 4 .* no more than 3 in"):
        asked(reject=RejectSampling(4, 0.5))
    assert asked(reject=RejectSampling(3, 0.5)) == []
    assert _notes(_volume(few), _volume(TWO), reject=RejectSampling(4, 0.5)) == []


def test_of_much_that_is_not_in_memory_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = _volume(-TWO // TWO)
    object.__setattr__(volume.label, "location", "stored.h5")
    monkeypatch.setattr(learnable, "SLAB_VOXELS", 2)
    monkeypatch.setattr("emseg.data.intensity.SLAB_VOXELS", 2)
    monkeypatch.setattr(learnable, "MOST_VOXELS", 4)
    looked = []
    monkeypatch.setattr(
        learnable,
        "read_labels",
        lambda volume, start, stop: looked.append(start[0]) or volume.label.read(start, stop),
    )
    (note,) = _notes(volume, preload=False)
    assert "stored.h5" in note and "no labelled voxel was found in a part" in note
    assert looked == [0, 4]
