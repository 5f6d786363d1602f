"""The download verb against a server of our own: whole, in parts, damaged, and not there."""

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emseg.cli import main
from emseg.datasets import catalogue
from emseg.volumes import open_volume

SHAPE = (6, 40, 48)
FILES = ("train-input.tif", "train-labels.tif", "test-input.tif")
WANTED = {*FILES, "snemi.zip", "snemi.zip.sha256"}
HERE = Path("datasets/SNEMI")


def volumes(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {name: rng.integers(0, 255, SHAPE, np.uint8) for name in FILES}
    return made | {"train-labels.tif": made["train-labels.tif"].astype(np.uint16)}


def archive_of(arrays: dict[str, np.ndarray], path: Path, **more: str) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            made = BytesIO()
            tifffile.imwrite(made, array, photometric="minisblack")
            archive.writestr(name, made.getvalue())
        for name, text in more.items():
            archive.writestr(name, text)
    return path.read_bytes()


@pytest.fixture
def snemi(server, monkeypatch):
    server.serve(archive_of(volumes(), Path("served.zip")))
    images, labels = (FILES[0], FILES[2]), FILES[1:2]
    known = catalogue.Archive(server.url("snemi.zip"), str(HERE), SHAPE, images, labels)
    monkeypatch.setitem(catalogue.ARCHIVES, "snemi", known)
    return server


def there(folder=HERE):
    return {path.name for path in folder.iterdir()}


def test_a_data_set_is_fetched_once_and_its_hash_stays_beside_it(snemi, capsys):
    digest = hashlib.sha256(snemi.body).hexdigest()
    assert main(["download", "snemi"]) == 0
    assert digest in capsys.readouterr().err
    assert there() == WANTED
    assert (HERE / "snemi.zip.sha256").read_text() == f"{digest}  snemi.zip\n"
    for name, array in volumes().items():
        np.testing.assert_array_equal(open_volume(HERE / name)[...], array)
    for words in ([], ["--sha256", digest.upper()]):
        assert main(["download", "snemi", *words]) == 0
        assert "holds it already" in capsys.readouterr().err
    (HERE / "snemi.zip").unlink()  # it may go, once it is unpacked
    assert main(["download", "snemi", "--sha256", digest]) == 0
    assert snemi.seen == [(200, None, len(snemi.body))]


def test_another_folder_and_a_file_that_was_fetched_by_hand(snemi):
    Path("mine").mkdir()
    Path("mine/snemi.zip").write_bytes(snemi.body)
    assert main(["download", "snemi", "mine"]) == 0
    assert there(Path("mine")) == WANTED and snemi.seen == []


def test_what_broke_off_goes_on_from_there(snemi, refused):
    whole, kept = len(snemi.body), []
    for most in (whole // 3, whole // 4):
        snemi.most = most
        line = refused("download", "snemi")
        assert "the same command goes on from there" in line and snemi.url("snemi.zip") in line
        assert there() == {"snemi.zip.partial"}
        kept.append((HERE / "snemi.zip.partial").stat().st_size)
    snemi.most = whole
    assert main(["download", "snemi"]) == 0
    assert 0 < kept[0] < kept[1] < whole
    assert snemi.seen == [
        (200, None, whole // 3),
        (206, f"bytes={kept[0]}-", whole // 4),
        (206, f"bytes={kept[1]}-", whole - kept[1]),
    ]
    assert there() == WANTED


def test_a_server_that_knows_no_range_sends_it_all_again(snemi, refused):
    snemi.most = 9000
    refused("download", "snemi")
    kept = (HERE / "snemi.zip.partial").stat().st_size
    snemi.most, snemi.ranges = len(snemi.body), False
    assert main(["download", "snemi"]) == 0
    assert kept > 0 and snemi.seen[-1] == (200, f"bytes={kept}-", len(snemi.body))
    assert (HERE / "snemi.zip").read_bytes() == snemi.body and there() == WANTED


def test_a_part_as_large_as_the_file_is_whole_and_a_larger_one_is_thrown_away(snemi, refused):
    HERE.mkdir(parents=True)
    (HERE / "snemi.zip.partial").write_bytes(bytes(len(snemi.body) + 5))
    assert "status 416" in refused("download", "snemi")
    assert there() == set()
    (HERE / "snemi.zip.partial").write_bytes(snemi.body)  # Killed after the last byte.
    assert main(["download", "snemi"]) == 0
    assert snemi.seen[1:] == [(416, f"bytes={len(snemi.body)}-", 0)] and there() == WANTED


def test_a_damaged_archive_is_not_kept(snemi, refused):
    good = snemi.body
    at = len(good) // 2
    snemi.body = good[:at] + bytes(byte ^ 255 for byte in good[at : at + 40]) + good[at + 40 :]
    assert "fetch it anew" in refused("download", "snemi")
    assert there() == set()
    snemi.body = b"<html>moved</html>"
    assert "is not a valid zip archive" in refused("download", "snemi")
    assert there() == set()
    # One that the user has put there is the user's.
    (HERE / "snemi.zip").write_bytes(good[:at])
    assert "is not a valid zip archive" in refused("download", "snemi")
    assert there() == {"snemi.zip"}


def test_another_hash_than_the_wanted_or_the_recorded_one(snemi, refused):
    assert "64 hexadecimal digits" in refused("download", "snemi", "--sha256", "abc")
    for words in (["--sha256"], ["--sha256=abc"], ["--sha", "abc"]):
        assert "emseg download DATASET [DIR] [--sha256 HASH]" in refused(
            "download", "snemi", *words
        )
    assert snemi.seen == []
    assert f"not the wanted {'0' * 64}" in refused("download", "snemi", "--sha256", "0" * 64)
    assert there() == set()
    assert main(["download", "snemi"]) == 0
    digest = hashlib.sha256(snemi.body).hexdigest()
    snemi.serve(archive_of(volumes(seed=1), Path("other.zip")))
    for name in (*FILES, "snemi.zip"):
        (HERE / name).unlink()
    line = refused("download", "snemi")
    assert digest in line and "snemi.zip.sha256" in line
    assert there() == {"snemi.zip.sha256"}
    (HERE / "snemi.zip.sha256").write_text("")
    assert "snemi.zip.sha256 is empty" in refused("download", "snemi")
    (HERE / "snemi.zip.sha256").unlink()
    assert main(["download", "snemi"]) == 0
    assert f"not the wanted {digest}" in refused("download", "snemi", "--sha256", digest)


def test_an_archive_of_other_names_is_refused_with_what_it_holds(snemi, refused):
    arrays = {f"image/{name.upper()}": array for name, array in volumes().items()}
    snemi.serve(archive_of(arrays, Path("other.zip"), **{"AC3/notes.txt": "x"}))
    line = refused("download", "snemi")
    assert (
        "image/TRAIN-INPUT.TIF" in line and "AC3/notes.txt" in line and "unpack it by hand" in line
    )
    assert there() == {"snemi.zip", "snemi.zip.sha256"}


def test_volumes_are_taken_from_wherever_they_lie_in_the_archive(snemi, refused):
    arrays = {f"SNEMI/{name[:4]}/{name}": array for name, array in volumes().items()}
    snemi.serve(archive_of(arrays, Path("deep.zip"), **{"__MACOSX/._train-input.tif": "x"}))
    assert main(["download", "snemi"]) == 0 and there() == WANTED
    for name, array in volumes().items():
        np.testing.assert_array_equal(open_volume(HERE / name)[...], array)
        (HERE / name).unlink()
    # One name twice: nobody can say which is meant.
    twice = {"old/test-input.tif": arrays["SNEMI/test/test-input.tif"]}
    archive_of(volumes() | twice, HERE / "snemi.zip")
    (HERE / "snemi.zip.sha256").unlink()
    assert "snemi.zip has test-input.tif and old/test-input.tif" in refused("download", "snemi")
    assert there() == {"snemi.zip", "snemi.zip.sha256"}


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("test-input.tif", np.zeros((5, 40, 48), np.uint8), "(5, 40, 48) of uint8"),
        ("train-input.tif", np.zeros(SHAPE, np.uint16), "of uint16"),
        ("train-labels.tif", np.zeros(SHAPE, np.float32), "of float32"),
    ],
)
def test_volumes_of_another_kind_are_refused(snemi, refused, name, array, told):
    snemi.serve(archive_of(volumes() | {name: array}, Path("other.zip")))
    line = refused("download", "snemi")
    assert name in line and told in line
    assert there() == {"snemi.zip", "snemi.zip.sha256"}
    # Nor is what lies there already overwritten.
    tifffile.imwrite(HERE / name, array)
    assert "move it away" in refused("download", "snemi")


def test_more_than_the_volumes_stays_in_the_archive(snemi, capsys):
    snemi.serve(archive_of(volumes(), Path("more.zip"), **{"__MACOSX/.x": "", "../evil": ""}))
    assert main(["download", "snemi"]) == 0
    assert "left in datasets/SNEMI/snemi.zip: " in capsys.readouterr().err
    assert there() == WANTED and not Path("datasets/evil").exists()


def test_without_the_server_it_says_what_to_do_by_hand(snemi, refused):
    by_hand = "mkdir -p datasets/SNEMI && cd datasets/SNEMI && wget"
    snemi.status = 503
    line = refused("download", "snemi")
    assert "status 503" in line and by_hand in line and "unzip snemi.zip" in line
    snemi.shutdown()
    snemi.server_close()
    line = refused("download", "snemi")
    assert "ConnectionError" in line and by_hand in line
    assert there() == set()
