"""The download verb: CREMI's re-aligned volumes, files that come one by one, and instructions."""

import hashlib
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from emseg.cli import main
from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.datasets import catalogue
from emseg.volumes import open_volume

CREMI_SHAPES = {"A": (5, 20, 24), "B": (4, 22, 20), "A+": (6, 18, 18)}
CREMI, OFFICIAL, WEIGHTS = (
    Path("datasets", name) for name in ("corrected", "cremi", "dbmim/weights")
)


def there(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def hdf5(arrays):
    made = BytesIO()
    with h5py.File(made, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip")
    return made.getvalue()


@pytest.fixture
def cremi(server, monkeypatch):
    """Serves the re-aligned volumes, each of its own shape, in a folder of the archive."""
    known = replace(
        catalogue.ARCHIVES["cremi"],
        url=server.url("cremi.zip"),
        images=tuple(f"im_{name}.h5" for name in CREMI_SHAPES),
        labels=("syn_A.h5", "syn_B.h5"),
    )
    monkeypatch.setitem(catalogue.ARCHIVES, "cremi", known)

    def serve(**changes):
        made = {f"im_{name}": np.ones(shape, np.uint8) for name, shape in CREMI_SHAPES.items()}
        made |= {f"syn_{name}": np.ones(CREMI_SHAPES[name], np.uint16) for name in "AB"}
        with zipfile.ZipFile("served.zip", "w") as archive:
            for name, array in (made | changes).items():
                archive.writestr(f"corrected/{name}.h5", hdf5({"main": array}))
        server.serve(Path("served.zip").read_bytes())
        return server

    return serve


def test_what_the_pages_look_for_is_what_is_fetched():
    samples = ("A", "B", "C", "A+", "B+", "C+")
    names = [f"sample_{name}_2016{'06' if '+' in name else '05'}01.hdf" for name in samples]
    folder, files = catalogue.FILES["cremi-official"]
    assert folder == str(OFFICIAL)
    at = "https://cremi.org/static/data/"
    assert [file.url for file in files] == [at + name.replace("+", "%2B") for name in names]
    assert [file.name for file in files] == names
    folder, files = catalogue.FILES["dbmim-weights"]
    assert folder == str(WEIGHTS) and len(files) == 4
    for recipe, file in (("r17", files[0]), ("r33", files[2])):
        path = tutorials_folder() / "dbmim" / f"finetune_{recipe}.yaml"
        assert load(path, mode="train", overrides=()).root.model["init_from"] == (
            str(WEIGHTS / file.name)
        )
        assert file.url.endswith(f"/resolve/main/weights/{file.name}")


def test_the_cremi_volumes_have_any_shape_that_their_labels_have(cremi, capsys):
    server = cremi()
    assert main(["download", "cremi"]) == 0
    volumes = {"im_A.h5", "im_B.h5", "im_A+.h5", "syn_A.h5", "syn_B.h5"}
    assert there(CREMI) == {*volumes, "cremi.zip", "cremi.zip.sha256"}
    assert open_volume(CREMI / "im_B.h5").shape == (4, 22, 20)
    assert main(["download", "cremi"]) == 0
    assert capsys.readouterr().err.endswith("datasets/corrected holds it already\n")
    assert len(server.seen) == 1
    # Synthetic volumes have these names, too: not to be mistaken for those of the archive.
    for name in ("cremi.zip", "cremi.zip.sha256"):
        (CREMI / name).unlink()
    assert main(["download", "cremi"]) == 0
    told = capsys.readouterr().err
    assert "from no archive of record: im_A.h5 has the shape (5, 20, 24)" in told


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("syn_B", np.ones(CREMI_SHAPES["A"], np.uint16), "which is (4, 22, 20) of integer"),
        ("syn_A", np.ones(CREMI_SHAPES["A"], np.float32), "of float32 is not"),
        ("im_A+", np.ones(CREMI_SHAPES["A+"], np.uint16), "which is three axes of uint8"),
        ("im_A", np.ones(3, np.uint8), "has 1 ax"),
    ],
)
def test_cremi_volumes_that_are_none_are_refused(cremi, refused, name, array, told):
    cremi(**{name: array})
    line = refused("download", "cremi")
    assert f"{name}.h5" in line and told in line
    assert there(CREMI) == {"cremi.zip", "cremi.zip.sha256"}


@pytest.fixture
def official(server, monkeypatch):
    """Two official files, a held-out one and weights, from the server under their names."""
    clefts = np.full((4, 9, 9), 2**64 - 1, np.uint64)
    labelled = {"volumes/labels/neuron_ids": clefts, "volumes/labels/clefts": clefts}
    raw = np.random.default_rng(0).integers(0, 255, (4, 9, 9), np.uint8)
    server.others = {
        "sample_A_20160501.hdf": hdf5({"volumes/raw": raw} | labelled),
        "sample_B_20160501.hdf": hdf5({"volumes/raw": raw + 1} | labelled),
        "sample_A+_20160601.hdf": hdf5({"volumes/raw": raw}),
        "a/pretrained.pt": b"one" * 5000,
        "b/pretrained.pt": b"two" * 5000,
    }
    server.most = 10**6
    files = {file.name: file for file in catalogue.FILES["cremi-official"][1]}
    here = []
    for name, body in server.others.items():
        file = files.get(name, catalogue.PublicFile("", name))
        sha256 = file.sha256 and hashlib.sha256(body).hexdigest()
        here.append(replace(file, url=server.url(name.replace("+", "%2B")), sha256=sha256))
    monkeypatch.setitem(catalogue.FILES, "cremi-official", (str(OFFICIAL), here[:3]))
    monkeypatch.setitem(catalogue.FILES, "dbmim-weights", (str(WEIGHTS), here[3:]))
    return server


@pytest.mark.parametrize(
    ("data_set", "folder"), [("cremi-official", OFFICIAL), ("dbmim-weights", WEIGHTS)]
)
def test_files_are_fetched_one_by_one_and_only_once(official, refused, capsys, data_set, folder):
    assert main(["download", data_set]) == 0
    names = [file.name for file in catalogue.FILES[data_set][1]]
    assert there(folder) == {*names, *(f"{name}.sha256" for name in names)}
    for name in names:
        assert (folder / name).read_bytes() == official.others[name]
    assert len(official.seen) == len(names)
    # What is there is taken as it is, and only what is missing is fetched.
    (folder / names[1]).unlink()
    assert main(["download", data_set]) == 0
    assert f"{names[0]} is there already" in capsys.readouterr().err
    assert len(official.seen) == len(names) + 1
    other = hdf5({"volumes/raw": np.zeros((4, 9, 9), np.uint8)})
    (folder / names[-1]).write_bytes(other)
    assert f"{names[-1]}.sha256; remove that file" in refused("download", data_set)
    assert "several files" in refused("download", data_set, "--sha256", "0" * 64)


def test_a_file_by_hand_may_differ_from_the_known_one_but_not_in_kind(official, refused):
    raw = np.zeros((5, 9, 9), np.uint8)
    mine, file = {"volumes/raw": raw, "volumes/labels/neuron_ids": raw}, "sample_A_20160501.hdf"
    OFFICIAL.mkdir(parents=True)
    (OFFICIAL / file).write_bytes(hdf5(mine))
    assert "volumes/labels/clefts" in refused("download", "cremi-official")
    assert official.seen == []
    (OFFICIAL / file).write_bytes(hdf5(mine | {"volumes/labels/clefts": raw}))
    assert main(["download", "cremi-official"]) == 0 and len(official.seen) == 2
    (OFFICIAL / file).write_bytes(hdf5(mine | {"volumes/labels/clefts": raw[1:]}))
    assert "clefts: (4, 9, 9) of uint8 is not" in refused("download", "cremi-official")


def test_a_file_that_is_not_the_known_one_is_not_kept(official, refused):
    good = official.others["sample_A_20160501.hdf"]
    official.others["sample_A_20160501.hdf"] = official.others["sample_B_20160501.hdf"]
    assert hashlib.sha256(good).hexdigest() in refused("download", "cremi-official")
    official.others["sample_A_20160501.hdf"] = b"<html>moved</html>"
    assert "is not an HDF5 file" in refused("download", "cremi-official")
    assert there(OFFICIAL) == set()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nisb", ["aws s3 sync s3://nisb/base 'my data' --endpoint-url", "--no-sign-request"]),
        (
            "full-em",
            [
                "https://huggingface.co/datasets/cyd0806/EM_pretrain_data",
                "hf download cyd0806/EM_pretrain_data --repo-type dataset",
                "fafb, fib25, kasthuri, mitoem or mb_moc",
                "--local-dir 'my data'",
            ],
        ),
        ("ac3ac4", ["emseg prepare ac3ac4 'my data'"]),
        ("kasthuri15", ["which VAST alone", "then emseg prepare kasthuri15 'my data'"]),
        ("snemo", ["'snemo'", "did you mean 'snemi'"]),
    ],
)
def test_what_is_not_fetched_says_what_to_do(refused, name, told):
    line = refused("download", name, "my data")
    assert all(words in line for words in told) and not Path("my data").exists()
