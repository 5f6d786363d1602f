"""Fingerprints, formats, and the one file that an artifact is."""

import numpy as np
import pytest

from emseg.errors import UserError
from emseg.runs import artifacts
from emseg.runs.artifacts import existing, find_current, fingerprint, supersede
from emseg.volumes import write_volume

FACTS = {"threshold": 0.5, "window": [8, 16, 16], "mask": None}


def write(path, **attributes):
    labels = np.zeros((2, 3, 4), np.uint32)
    write_volume(path, labels, axes="zyx", voxel_size=None, attributes=attributes)


def test_a_fingerprint_is_of_facts_stage_and_version(monkeypatch):
    first = fingerprint("infer", FACTS)
    assert first == fingerprint("infer", dict(reversed(FACTS.items())))
    others = [{**FACTS, key: 1} for key in (*FACTS, "more")]
    assert first not in {fingerprint("infer", facts) for facts in others}
    assert first != fingerprint("decode", FACTS)
    monkeypatch.setitem(artifacts.STAGE_VERSIONS, "infer", 3)
    assert first != fingerprint("infer", FACTS)


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_an_artifact_is_current_by_fingerprint_alone(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", fingerprint="one", format_version=1)

    def found(name, wanted):
        return find_current(tmp_path, name, wanted, inputs=[], verify=False)

    assert found("a", "one") == tmp_path / f"a{suffix}"
    assert found("a", "two") is None
    assert found("b", "one") is None


@pytest.mark.parametrize("stored", [{"format_version": 2}, {}])
def test_what_is_not_ours_to_overwrite_is_refused(tmp_path, stored):
    write(tmp_path / "a.h5", fingerprint="one", **stored)
    with pytest.raises(UserError, match=r"a\.h5.*format_version"):
        find_current(tmp_path, "a", "another", inputs=[], verify=False)


def test_the_newly_made_takes_the_place_of_the_other_format(tmp_path):
    for name in ("a.h5", "a.zarr", "ab.zarr"):
        write(tmp_path / name)
    supersede(tmp_path / "a.h5")
    assert existing(tmp_path, "a") == [tmp_path / "a.h5"]
    assert existing(tmp_path, "ab") == [tmp_path / "ab.zarr"]
