"""Damaged global heaps are found; the bytes here are no HDF5 file."""

import struct
from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.volumes import hdf5_links
from emseg.volumes.hdf5_links import damaged_heap, open_hdf5


def heap(texts: list[bytes], free: int) -> bytes:
    """A collection of 4096 bytes: the texts, then free space that says it has `free` bytes."""
    objects = b"".join(
        struct.pack("<HHIQ", number, 1, 0, len(text)) + text + bytes(-len(text) % 8)
        for number, text in enumerate(texts, 1)
    )
    head = b"GCOL\x01\0\0\0" + struct.pack("<Q", 4096)
    return (head + objects + struct.pack("<HHIQ", 0, 0, 0, free)).ljust(4096, b"\0")


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 50))
def test_free_space_without_a_size_is_damage(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], before: int
) -> None:
    path = tmp_path_factory.mktemp("heap") / "heap.bin"
    free_at = 16 + sum(16 + len(text) + -len(text) % 8 for text in texts)
    path.write_bytes(bytes(before) + heap(texts, free=4096 - free_at))
    assert damaged_heap(path) is None
    path.write_bytes(bytes(before) + heap([], free=4080) + heap(texts, free=0))
    assert damaged_heap(path) == before + 4096 + free_at
    with pytest.raises(UserError, match=f"'{path}' is damaged: .* byte {before + 4096 + free_at}"):
        open_hdf5(path)


def test_sound_files_are_opened_and_large_ones_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sound.h5"
    with h5py.File(path, "w") as file:
        for number in range(300):
            file.attrs[f"text{number}"] = "x" * number
    assert path.read_bytes().count(b"GCOL") > 5 and damaged_heap(path) is None
    path.write_bytes(heap([], free=0))
    monkeypatch.setattr(hdf5_links, "LARGEST_SEARCHED", 4095)
    assert damaged_heap(path) is None
