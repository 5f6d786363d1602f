"""The download verb against a server of our own: whole, in parts, damaged, and not there."""

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile

from datasets.served import serving
from emseg.cli import main
from emseg.datasets import download
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
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(archive_of(volumes(), tmp_path / "served.zip")) as running:
        known = download.DataSet(running.url, str(HERE), SHAPE, (FILES[0], FILES[2]), FILES[1:2])
        monkeypatch.setitem(download.DATA_SETS, "snemi", known)
        yield running


@pytest.fixture
def refused(capsys):
    """Calls the verb and hands back its one line of error."""

    def call(*words):
        capsys.readouterr()
        assert main(["download", "snemi", *words]) == 2
        told = capsys.readouterr()
        lines = told.err.splitlines()
        assert told.out == "" and all(line.startswith("emseg: ") for line in lines)
        return lines[-1]

    return call


def there(folder=HERE):
    return {path.name for path in folder.iterdir()}


def test_a_data_set_is_fetched_once_and_its_hash_stays_beside_it(server, capsys):
    digest = hashlib.sha256(server.body).hexdigest()
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
    assert server.seen == [(200, None, len(server.body))]


def test_another_folder_and_a_file_that_was_fetched_by_hand(server):
    Path("mine").mkdir()
    Path("mine/snemi.zip").write_bytes(server.body)
    assert main(["download", "snemi", "mine"]) == 0
    assert there(Path("mine")) == WANTED and server.seen == []


def test_what_broke_off_goes_on_from_there(server, refused):
    whole, kept = len(server.body), []
    for most in (whole // 3, whole // 4):
        server.most = most
        line = refused()
        assert "the same command goes on from there" in line and server.url in line
        assert there() == {"snemi.zip.partial"}
        kept.append((HERE / "snemi.zip.partial").stat().st_size)
    server.most = whole
    assert main(["download", "snemi"]) == 0
    assert 0 < kept[0] < kept[1] < whole
    assert server.seen == [
        (200, None, whole // 3),
        (206, f"bytes={kept[0]}-", whole // 4),
        (206, f"bytes={kept[1]}-", whole - kept[1]),
    ]
    assert there() == WANTED


def test_a_server_that_knows_no_range_sends_it_all_again(server, refused):
    server.most = 9000
    refused()
    kept = (HERE / "snemi.zip.partial").stat().st_size
    server.most, server.ranges = len(server.body), False
    assert main(["download", "snemi"]) == 0
    assert kept > 0 and server.seen[-1] == (200, f"bytes={kept}-", len(server.body))
    assert (HERE / "snemi.zip").read_bytes() == server.body and there() == WANTED


def test_killed_after_the_last_byte_nothing_is_asked_for(server):
    HERE.mkdir(parents=True)
    (HERE / "snemi.zip.partial").write_bytes(server.body)
    assert main(["download", "snemi"]) == 0
    assert server.seen == [] and there() == WANTED


def test_a_part_of_a_larger_file_does_not_stand_in_the_way(server, refused):
    HERE.mkdir(parents=True)
    (HERE / "snemi.zip.partial").write_bytes(bytes(len(server.body) + 5))
    assert "status 416" in refused()
    assert main(["download", "snemi"]) == 0 and there() == WANTED


def test_a_damaged_archive_is_not_kept(server, refused):
    good = server.body
    at = len(good) // 2
    server.body = good[:at] + bytes(byte ^ 255 for byte in good[at : at + 40]) + good[at + 40 :]
    assert "fetch it anew" in refused()
    assert there() == set()
    server.body = b"<html>moved</html>"
    assert "no sound zip archive" in refused()
    assert there() == set()
    # One that the user has put there is the user's.
    (HERE / "snemi.zip").write_bytes(good[:at])
    assert "no sound zip archive" in refused()
    assert there() == {"snemi.zip"}


def test_another_hash_than_the_wanted_or_the_recorded_one(server, refused):
    assert "64 hexadecimal digits" in refused("--sha256", "abc")
    for words in (["--sha256"], ["--sha256=abc"], ["--sha", "abc"]):
        assert "emseg download DATASET [DIR] [--sha256 HASH]" in refused(*words)
    assert server.seen == []
    assert f"not the wanted {'0' * 64}" in refused("--sha256", "0" * 64)
    assert there() == set()
    assert main(["download", "snemi"]) == 0
    digest = hashlib.sha256(server.body).hexdigest()
    server.body = archive_of(volumes(seed=1), Path("other.zip"))
    server.most = len(server.body)
    for name in (*FILES, "snemi.zip"):
        (HERE / name).unlink()
    line = refused()
    assert digest in line and "snemi.zip.sha256" in line
    assert there() == {"snemi.zip.sha256"}
    (HERE / "snemi.zip.sha256").write_text("")
    assert "snemi.zip.sha256 is empty" in refused()
    (HERE / "snemi.zip.sha256").unlink()
    assert main(["download", "snemi"]) == 0
    assert f"not the wanted {digest}" in refused("--sha256", digest)


def test_an_archive_of_other_names_is_refused_with_what_it_holds(server, refused):
    arrays = {f"image/{name.upper()}": array for name, array in volumes().items()}
    server.body = archive_of(arrays, Path("other.zip"), **{"AC3/notes.txt": "x"})
    server.most = len(server.body)
    line = refused()
    assert (
        "image/TRAIN-INPUT.TIF" in line and "AC3/notes.txt" in line and "unpack it by hand" in line
    )
    assert there() == {"snemi.zip", "snemi.zip.sha256"}


def test_volumes_are_taken_from_wherever_they_lie_in_the_archive(server, refused):
    arrays = {f"SNEMI/{name[:4]}/{name}": array for name, array in volumes().items()}
    server.body = archive_of(arrays, Path("deep.zip"), **{"__MACOSX/._train-input.tif": "x"})
    server.most = len(server.body)
    assert main(["download", "snemi"]) == 0 and there() == WANTED
    for name, array in volumes().items():
        np.testing.assert_array_equal(open_volume(HERE / name)[...], array)
        (HERE / name).unlink()
    # One name twice: nobody can say which is meant.
    twice = {"old/test-input.tif": arrays["SNEMI/test/test-input.tif"]}
    archive_of(volumes() | twice, HERE / "snemi.zip")
    (HERE / "snemi.zip.sha256").unlink()
    assert "snemi.zip has test-input.tif and old/test-input.tif" in refused()
    assert there() == {"snemi.zip", "snemi.zip.sha256"}


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("test-input.tif", np.zeros((5, 40, 48), np.uint8), "(5, 40, 48) of uint8"),
        ("train-input.tif", np.zeros(SHAPE, np.uint16), "of uint16"),
        ("train-labels.tif", np.zeros(SHAPE, np.float32), "of float32"),
    ],
)
def test_volumes_of_another_kind_are_refused(server, refused, name, array, told):
    server.body = archive_of(volumes() | {name: array}, Path("other.zip"))
    server.most = len(server.body)
    line = refused()
    assert name in line and told in line
    assert there() == {"snemi.zip", "snemi.zip.sha256"}
    # Nor is what lies there already overwritten.
    tifffile.imwrite(HERE / name, array)
    assert "move it away" in refused()


def test_more_than_the_volumes_stays_in_the_archive(server, capsys):
    server.body = archive_of(volumes(), Path("more.zip"), **{"__MACOSX/.x": "", "../evil": ""})
    server.most = len(server.body)
    assert main(["download", "snemi"]) == 0
    assert "left in datasets/SNEMI/snemi.zip: " in capsys.readouterr().err
    assert there() == WANTED and not Path("datasets/evil").exists()


def test_without_the_server_it_says_what_to_do_by_hand(server, refused):
    by_hand = "mkdir -p datasets/SNEMI && cd datasets/SNEMI && wget"
    server.status = 503
    line = refused()
    assert "status 503" in line and by_hand in line and "unzip snemi.zip" in line
    server.shutdown()
    server.server_close()
    line = refused()
    assert "ConnectionError" in line and by_hand in line
    assert there() == set()
