"""Damaged input files are read, or refused in one line; nothing else comes of them."""

import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emseg.datasets.inspect import inspect
from emseg.errors import UserError
from emseg.volumes import identity, open_volume
from emseg.volumes.skeletons import is_skeletons, read_skeletons
from volumes.mutations import MAKERS, damaged

TIMES = int(os.environ.get("EMSEG_MUTATIONS", "22"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, make in MAKERS.items():
            make(name)
    return folder


@pytest.mark.parametrize("name", MAKERS)
def test_damage_is_one_line(name, sound, capsys):
    for seed in range(TIMES):
        copy = shutil.copytree if (sound / name).is_dir() else shutil.copyfile
        copy(sound / name, name)
        how = damaged(random.Random(f"{name} {seed}"), name)
        for use in (read_all, identify, list_all):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    use(name)
            except UserError as error:
                assert error.line().isprintable()
            except BaseException as error:
                pytest.fail(f"seed {seed}, {how}: {use.__name__} raises {error!r}")
        discard(Path(name))


def test_millions_of_strips_that_are_not_there_end(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 6, 8), np.uint8), imagej=True, photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        length = file.pages[0].tags["ImageLength"].valueoffset
    content[length : length + 4] = b"\x7f" * 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="a.tif"):
        open_volume(path)


def read_all(name: str) -> None:
    if is_skeletons(name):
        read_skeletons(name, voxel_size=(30, 6, 6))
        return
    volume = open_volume(name)
    volume.read((0, 0, 0), [min(size, 4) for size in volume.shape])


def identify(name: str) -> None:
    identity(name, verify=True)


def list_all(name: str) -> None:
    if not is_skeletons(name):
        inspect(name)


def discard(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
