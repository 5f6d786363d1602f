"""Only regular files and folders are opened: the rest may never end. So no test here may hang."""

import os
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from emseg.cli import main
from emseg.datasets.alignment import read_alignment
from emseg.datasets.cremi_files import read_annotations
from emseg.errors import UserError
from emseg.volumes import identity, open_volume
from emseg.volumes.formats import presence
from emseg.volumes.skeletons import read_skeletons

RAW = np.ones((2, 3, 4), np.uint8)


def pipe(name: str) -> None:
    os.mkfifo(name)


def link_to_pipe(name: str) -> None:
    os.mkfifo("pipe")
    Path(name).symlink_to("pipe")


def device(name: str) -> None:
    Path(name).symlink_to("/dev/zero")


def a_socket(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(name)


def itself(name: str) -> None:
    Path(name).symlink_to(name)


SPECIAL = [pipe, link_to_pipe, device, a_socket, itself]


def skeletons(name: str) -> None:
    read_skeletons(name, voxel_size=(1, 1, 1))


def command(*words: str):
    def run(name: str) -> None:
        Path("t.yaml").write_text("defaults: [/base, _self_]\nexperiment_name: t\n")
        Path("there.h5").touch()
        given = [name if word == "NAME" else word for word in words]
        if main(given) == 2:
            raise UserError(f"{name}: refused, as standard error says")

    return run


test_data = "data.test.image=there.h5"
USES = [
    (open_volume, "a.h5"),
    (open_volume, "a.zarr"),
    (open_volume, "a.tif"),
    (identity, "a.hdf"),
    (presence, "a.h5"),
    (skeletons, "a.pkl"),
    (skeletons, "a.npz"),
    (skeletons, "a.swc"),
    (identity, "a.swc"),
    (read_alignment, "a.json"),
    (read_annotations, "a.hdf"),
]
COMMANDS = [
    (command("inspect", "NAME"), "a.h5"),
    (command("--config", "NAME"), "a.yaml"),
    (command("--config", "t.yaml", "--conf", "NAME"), "conf"),
    (command("--config", "t.yaml", "--mode", "infer", "--checkpoint", "NAME", test_data), "a.ckpt"),
    (command("--config", "t.yaml", "--mode", "decode", "--input", "NAME", test_data), "a.h5"),
    (command("--config", "t.yaml", "--mode", "evaluate", "--input", "NAME", test_data), "a.zarr"),
]


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize(("use", "name"), USES)
def test_special_files_are_refused(make, use, name):
    make(name)
    with pytest.raises(UserError, match=name):
        use(name)


@pytest.mark.parametrize("make", [link_to_pipe, device])
@pytest.mark.parametrize(("use", "name"), COMMANDS)
def test_special_files_are_refused_on_the_command_line(make, use, name):
    make(name)
    with pytest.raises(UserError, match=name):
        use(name)


def plain_zarr() -> None:
    zarr.save_array("a.zarr", RAW, zarr_format=2)


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("inside", [".zarray", ".zattrs", "0.0.0"])
def test_special_files_in_a_zarr_folder(make, inside):
    plain_zarr()
    Path("a.zarr", inside).unlink(missing_ok=True)
    make(f"a.zarr/{inside}")
    with pytest.raises(UserError, match=r"a\.zarr"):
        presence("a.zarr")


@pytest.mark.parametrize("make", SPECIAL)
def test_special_files_behind_links_of_hdf5(make):
    make("far.h5")
    with h5py.File("a.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("far.h5", "raw")
        layout = h5py.VirtualLayout(RAW.shape, "u1")
        layout[...] = h5py.VirtualSource("far.h5", "raw", RAW.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("stored", RAW.shape, "u1", external=[("far.h5", 0, RAW.size)])
    for key in ("raw", "virtual", "stored"):
        with pytest.raises(UserError, match=r"far\.h5"):
            open_volume(f"a.h5:{key}")
    assert main(["inspect", "a.h5"]) == 2


def test_special_files_in_a_folder_of_skeletons():
    Path("swc").mkdir()
    Path("swc/1.swc").write_text("1 0 0 0 0 1 -1\n")
    os.mkfifo("swc/2.swc")
    with pytest.raises(UserError, match=r"swc/2\.swc.*pipe"):
        skeletons("swc")


def test_choices_that_are_no_files():
    Path("conf/model").mkdir(parents=True)
    os.mkfifo("conf/model/rsunet.yaml")
    with pytest.raises(UserError, match="refused"):
        command("--config", "t.yaml", "--conf", "conf", "--print-config")("t.yaml")


def test_folders_of_zarr_that_contain_themselves():
    zarr.create_group("a.zarr")["b/raw"] = RAW
    Path("a.zarr/b/up").symlink_to("..")
    np.testing.assert_array_equal(open_volume("a.zarr")[...], RAW)
    assert identity("a.zarr")["shape"] == [2, 3, 4]
    Path("a.zarr/b/raw/up").symlink_to("..")
    with pytest.raises(UserError, match="a.zarr/b/raw/up' is a link to a folder that it lies in"):
        identity("a.zarr")


def test_chunks_may_lie_behind_links():
    plain_zarr()
    Path("a.zarr").rename("far")
    Path("a.zarr").mkdir()
    for file in Path("far").iterdir():
        Path("a.zarr", file.name).symlink_to(file.absolute())
    before = identity("a.zarr", verify=True)
    np.testing.assert_array_equal(open_volume("a.zarr")[...], RAW)
    chunk = Path("far/0.0.0")
    chunk.write_bytes(chunk.read_bytes()[::-1])
    assert identity("a.zarr", verify=True)["sha256"] != before["sha256"]
