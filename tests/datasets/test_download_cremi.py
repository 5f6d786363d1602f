"""The volumes of CREMI: the re-aligned ones from an archive, the challenge's own file by file."""

import hashlib
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest

from datasets.served import serving
from emseg.cli import main
from emseg.datasets import download
from emseg.volumes import open_volume

CREMI_SHAPES = {"A": (5, 20, 24), "B": (4, 22, 20), "A+": (6, 18, 18)}


def there(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(b"") as running:
        yield running


@pytest.fixture
def cremi(server, monkeypatch):
    """The re-aligned volumes, each of its own shape, in a folder of the archive."""
    real = download.DATA_SETS["cremi"]
    monkeypatch.setitem(
        download.DATA_SETS,
        "cremi",
        replace(
            real,
            url=server.url.replace("snemi", "cremi"),
            images=tuple(f"im_{name}.h5" for name in CREMI_SHAPES),
            labels=("syn_A.h5", "syn_B.h5"),
        ),
    )
    return server


def cremi_archive(**changes):
    made = {f"im_{name}.h5": np.ones(shape, np.uint8) for name, shape in CREMI_SHAPES.items()}
    made |= {f"syn_{name}.h5": np.ones(CREMI_SHAPES[name], np.uint16) for name in "AB"}
    made |= {f"{name}.h5": array for name, array in changes.items()}
    with zipfile.ZipFile("cremi_served.zip", "w") as archive:
        for name, array in made.items():
            archive.writestr(f"corrected/{name}", hdf5({"main": array}))
    return Path("cremi_served.zip").read_bytes()


def hdf5(arrays):
    made = BytesIO()
    with h5py.File(made, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip")
    return made.getvalue()


def test_what_the_cremi_page_looks_for_is_fetched():
    data = download.DATA_SETS["cremi"]
    assert data.url == "http://rhoana.rc.fas.harvard.edu/dataset/cremi.zip"
    assert data.folder == "datasets/corrected"
    assert sorted(data.images + data.labels) == [
        *("im_A+.h5", "im_A.h5", "im_B+.h5", "im_B.h5", "im_C+.h5", "im_C.h5"),
        *("syn_A.h5", "syn_B.h5", "syn_C.h5"),
    ]
    assert [name.replace("im", "syn") for name in data.images[:3]] == [*data.labels]


def test_the_cremi_volumes_have_any_shape_that_their_labels_have(cremi, capsys):
    cremi.body = cremi_archive()
    cremi.most = len(cremi.body)
    folder = Path("datasets/corrected")
    assert main(["download", "cremi"]) == 0
    volumes = {"im_A.h5", "im_B.h5", "im_A+.h5", "syn_A.h5", "syn_B.h5"}
    assert there(folder) == {*volumes, "cremi.zip", "cremi.zip.sha256"}
    assert open_volume(folder / "im_B.h5").shape == (4, 22, 20)
    assert main(["download", "cremi"]) == 0
    assert capsys.readouterr().err.endswith("datasets/corrected holds it already\n")
    assert len(cremi.seen) == 1
    # Synthetic volumes have these names, too: not to be mistaken for those of the archive.
    for name in ("cremi.zip", "cremi.zip.sha256"):
        (folder / name).unlink()
    assert main(["download", "cremi"]) == 0
    told = capsys.readouterr().err
    assert "from no archive of record: im_A.h5 has the shape (5, 20, 24)" in told


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("syn_B", np.ones(CREMI_SHAPES["A"], np.uint16), "which is (4, 22, 20) of integers"),
        ("syn_A", np.ones(CREMI_SHAPES["A"], np.float32), "of float32 is not"),
        ("im_A+", np.ones(CREMI_SHAPES["A+"], np.uint16), "which is three axes of uint8"),
        ("im_A", np.ones(3, np.uint8), "has 1 ax"),
    ],
)
def test_cremi_volumes_that_are_none_are_refused(cremi, capsys, name, array, told):
    cremi.body = cremi_archive(**{name: array})
    cremi.most = len(cremi.body)
    assert main(["download", "cremi"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{name}.h5" in line and told in line
    assert there(Path("datasets/corrected")) == {"cremi.zip", "cremi.zip.sha256"}


@pytest.fixture
def official(server, monkeypatch):
    """Two official files and a held-out one, from the server under their names."""
    clefts = np.full((4, 9, 9), 2**64 - 1, np.uint64)
    labelled = {"volumes/labels/neuron_ids": clefts, "volumes/labels/clefts": clefts}
    raw = np.random.default_rng(0).integers(0, 255, (4, 9, 9), np.uint8)
    server.others = {
        "sample_A_20160501.hdf": hdf5({"volumes/raw": raw} | labelled),
        "sample_B_20160501.hdf": hdf5({"volumes/raw": raw + 1} | labelled),
        "sample_A+_20160601.hdf": hdf5({"volumes/raw": raw}),
    }
    server.most = max(map(len, server.others.values()))
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in server.others.items()}
    folder, samples = download.FILES["cremi-official"]
    here = tuple(
        replace(
            sample,
            url=f"http://127.0.0.1:{server.server_port}/{sample.url.rpartition('/')[2]}",
            sha256=sample.sha256 and hashes[unquote(Path(sample.url).name)],
        )
        for sample in (samples[0], samples[1], samples[3])
    )
    monkeypatch.setitem(download.FILES, "cremi-official", (folder, here))
    return server


OFFICIAL = Path("datasets/cremi")


def test_official_files_are_those_of_the_challenge():
    folder, samples = download.FILES["cremi-official"]
    assert folder == "datasets/cremi"
    assert [unquote(sample.url) for sample in samples] == [
        f"https://cremi.org/static/data/sample_{name}.hdf"
        for name in (
            *("A_20160501", "B_20160501", "C_20160501"),
            *("A+_20160601", "B+_20160601", "C+_20160601"),
        )
    ]
    labels = ("volumes/labels/neuron_ids", "volumes/labels/clefts")
    assert [sample.labels for sample in samples] == [labels] * 3 + [()] * 3


def test_files_are_fetched_one_by_one_and_only_once(official, capsys):
    assert main(["download", "cremi-official"]) == 0
    names = {*official.others}
    assert there(OFFICIAL) == {*names, *(f"{name}.sha256" for name in names)}
    for name, body in official.others.items():
        assert (OFFICIAL / name).read_bytes() == body
    assert len(official.seen) == 3
    # What is there is taken as it is, and only what is missing is fetched.
    (OFFICIAL / "sample_B_20160501.hdf").unlink()
    assert main(["download", "cremi-official"]) == 0
    assert "sample_A_20160501.hdf is there already" in capsys.readouterr().err
    assert len(official.seen) == 4
    other = hdf5({"volumes/raw": np.zeros((4, 9, 9), np.uint8)})
    (OFFICIAL / "sample_A+_20160601.hdf").write_bytes(other)
    assert main(["download", "cremi-official"]) == 2
    assert "sample_A+_20160601.hdf.sha256; remove that file" in capsys.readouterr().err


def test_a_file_by_hand_may_differ_from_the_known_one_but_not_in_kind(official, capsys):
    raw = np.zeros((5, 9, 9), np.uint8)
    mine = {"volumes/raw": raw, "volumes/labels/neuron_ids": raw}
    OFFICIAL.mkdir(parents=True)
    (OFFICIAL / "sample_A_20160501.hdf").write_bytes(hdf5(mine))
    assert main(["download", "cremi-official"]) == 2
    told = capsys.readouterr().err
    assert "volumes/labels/clefts" in told and official.seen == []
    (OFFICIAL / "sample_A_20160501.hdf").write_bytes(hdf5(mine | {"volumes/labels/clefts": raw}))
    assert main(["download", "cremi-official"]) == 0 and len(official.seen) == 2
    (OFFICIAL / "sample_A_20160501.hdf").write_bytes(
        hdf5(mine | {"volumes/labels/clefts": raw[1:]})
    )
    assert main(["download", "cremi-official"]) == 2
    assert "clefts: (4, 9, 9) of uint8 is not" in capsys.readouterr().err


def test_a_file_goes_on_where_it_broke_off(official, capsys):
    whole = len(official.others["sample_A_20160501.hdf"])
    official.most = whole - 700
    assert main(["download", "cremi-official"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the same command goes on" in line and "unzip" not in line
    assert there(OFFICIAL) == {"sample_A_20160501.hdf.partial"}
    kept = (OFFICIAL / "sample_A_20160501.hdf.partial").stat().st_size
    official.most = 10**6
    assert main(["download", "cremi-official"]) == 0
    assert official.seen[1] == (206, f"bytes={kept}-", whole - kept) and kept > 0


def test_a_file_that_is_not_the_known_one_is_not_kept(official, capsys):
    good = official.others["sample_A_20160501.hdf"]
    official.others["sample_A_20160501.hdf"] = official.others["sample_B_20160501.hdf"]
    assert main(["download", "cremi-official"]) == 2
    assert hashlib.sha256(good).hexdigest() in capsys.readouterr().err
    official.others["sample_A_20160501.hdf"] = b"<html>moved</html>"
    assert main(["download", "cremi-official"]) == 2
    assert "is not an HDF5 file" in capsys.readouterr().err
    assert there(OFFICIAL) == set()
    assert main(["download", "cremi-official", "--sha256", "0" * 64]) == 2
    assert "several files" in capsys.readouterr().err
