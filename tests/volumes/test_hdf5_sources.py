"""Data sets that draw from other files: which those are, and that a missing one is refused."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes import identity, open_volume

HALF = np.arange(1, 1 + 4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
WHOLE = np.concatenate([HALF, HALF + 100])
UNLIMITED = h5py.h5s.UNLIMITED


def plain(name: str, array: np.ndarray = HALF, key: str = "raw") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(name, "w") as file:
        file[key] = array


def virtual(name: str, *sources: tuple[str, str], size: int = 8) -> None:
    """A data set `raw` of blocks of the size of HALF, one after the other along z."""
    layout = h5py.VirtualLayout((size, 5, 6), np.uint8)
    for n, (source, key) in enumerate(sources):
        layout[4 * n : 4 * n + 4] = h5py.VirtualSource(source, key, (4, 5, 6))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(name, "a") as file:
        file.create_virtual_dataset("raw", layout)


def numbered(name: str, file_name: str, key: str) -> None:
    """A data set `raw` of as many blocks as there are files of that name, %b being the number."""
    space = h5py.h5s.create_simple((4, 5, 6), (UNLIMITED, 5, 6))
    space.select_hyperslab((0, 0, 0), (UNLIMITED, 1, 1), (4, 1, 1), (4, 5, 6))
    block, made = h5py.h5s.create_simple((4, 5, 6)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    block.select_all()
    made.set_virtual(space, file_name.encode(), key.encode(), block)
    with h5py.File(name, "w") as file:
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, made)


def linked(name: str, to: str, key: str = "raw", *, own: str = "raw") -> None:
    with h5py.File(name, "a") as file:
        file[own] = h5py.ExternalLink(to, key)


def halves() -> None:
    plain("tiles/0.h5", HALF)
    plain("tiles/1.h5", HALF + 100)


def by_virtual_data_set() -> None:
    halves()
    virtual("set.h5", ("tiles/0.h5", "raw"), ("tiles/1.h5", "raw"))


def by_virtual_of_virtual() -> None:
    halves()
    virtual("tiles/both.h5", ("0.h5", "raw"), ("1.h5", "raw"))
    layout = h5py.VirtualLayout((8, 5, 6), np.uint8)
    layout[...] = h5py.VirtualSource("tiles/both.h5", "raw", (8, 5, 6))
    with h5py.File("set.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)


def by_virtual_of_links() -> None:
    halves()
    linked("tiles/link.h5", "1.h5")
    virtual("set.h5", ("tiles/0.h5", "raw"), ("tiles/link.h5", "raw"))


def by_number() -> None:
    halves()
    numbered("set.h5", "tiles/%b.h5", "raw")


def by_link() -> None:
    plain("tiles/1.h5", WHOLE)
    linked("set.h5", "tiles/1.h5")


def by_links_of_links() -> None:
    plain("tiles/1.h5", WHOLE, "deep/raw")
    with h5py.File("tiles/1.h5", "a") as file:
        file["short"] = h5py.SoftLink("deep")
        file["deep/again"] = h5py.SoftLink("raw")
    linked("tiles/0.h5", "1.h5", "short", own="group")
    linked("set.h5", "tiles/0.h5", "/group/again")


def by_raw_files() -> None:
    Path("tiles").mkdir()
    HALF.tofile("tiles/0.h5")
    (HALF + 100).tofile("tiles/1.h5")
    size = HALF.nbytes
    with h5py.File("set.h5", "w") as file:
        parts = [("tiles/0.h5", 0, size), ("tiles/1.h5", 0, size)]
        file.create_dataset("raw", (8, 5, 6), np.uint8, external=parts)


MAKERS = [
    by_virtual_data_set,
    by_virtual_of_virtual,
    by_virtual_of_links,
    by_number,
    by_link,
    by_links_of_links,
    by_raw_files,
]
each_maker = pytest.mark.parametrize("make", MAKERS)


@each_maker
def test_all_files_belong_to_the_identity(make):
    make()
    before = identity("set.h5:raw", verify=True)
    np.testing.assert_array_equal(open_volume("set.h5:raw")[...], WHOLE)
    there = {str(path) for path in Path().rglob("*.h5")}
    assert {"set.h5", *before["linked"]} == there
    assert before["size"] == sum(Path(name).stat().st_size for name in there)
    for name in before["linked"]:
        facts = Path(name).stat()
        os.utime(name, ns=(0, facts.st_mtime_ns - 10**9))
        after = identity("set.h5:raw", verify=True)
        assert after["linked"] != before["linked"] and after["sha256"] == before["sha256"]
        os.utime(name, ns=(0, facts.st_mtime_ns))
    content = bytearray(Path("tiles/1.h5").read_bytes())
    content[content.rindex(bytes(HALF[3, 4] + 100)) if make is not by_link else -1] ^= 1
    Path("tiles/1.h5").write_bytes(content)
    assert identity("set.h5:raw", verify=True)["sha256"] != before["sha256"]


@each_maker
@pytest.mark.parametrize("lost", ["file", "folder"])
def test_a_missing_file_is_refused_by_its_name(make, lost):
    make()
    if lost == "file" and make is not by_number:
        Path("tiles/1.h5").rename("tiles/elsewhere")
    elif lost == "file":  # The last one may be missing: there are as many as there are.
        plain("tiles/2.h5")
        Path("tiles/1.h5").rename("tiles/elsewhere")
    else:
        Path("tiles").rename("elsewhere")
    named = "1.h5" if lost == "file" else r"tiles/\w+.h5"
    with pytest.raises(UserError, match=f"^'set.h5:raw' .*'[^']*{named}.*which") as refusal:
        open_volume("set.h5:raw")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("array", "key", "message"),
    [
        (HALF, "other", "'tiles/1.h5:raw', but there is no such data set"),
        (HALF[:3], "raw", r"'tiles/1.h5:raw' of shape \(3, 5, 6\)"),
        (HALF, "raw/deep", "'tiles/1.h5:raw', but there is no such data set"),
    ],
)
def test_a_source_without_what_is_needed_is_refused(array, key, message):
    by_virtual_data_set()
    plain("tiles/1.h5", array, key)
    with pytest.raises(UserError, match=message):
        open_volume("set.h5:raw")


def test_a_part_of_a_source_must_be_there():
    plain("big.h5", WHOLE)
    layout = h5py.VirtualLayout((2, 5, 6), np.uint8)
    layout[...] = h5py.VirtualSource("big.h5", "raw", (8, 5, 6))[5:7]
    with h5py.File("set.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    np.testing.assert_array_equal(open_volume("set.h5")[...], WHOLE[5:7])
    plain("big.h5", WHOLE[:6])
    with pytest.raises(UserError, match=r"shape \(6, 5, 6\), and needs it up to \(7, 5, 6\)"):
        open_volume("set.h5")


@pytest.mark.parametrize("content", [b"no HDF5", b""])
@pytest.mark.parametrize("make", [by_virtual_data_set, by_link])
def test_a_source_that_is_no_hdf5_is_refused(make, content):
    make()
    Path("tiles/1.h5").write_bytes(content)
    with pytest.raises(UserError, match="'tiles/1.h5', which is not an HDF5 file"):
        open_volume("set.h5:raw")


def test_a_raw_file_that_ends_early_is_refused():
    by_raw_files()
    Path("tiles/1.h5").write_bytes(bytes(40))
    with pytest.raises(UserError, match="'tiles/1.h5', which has 40 of the 120 bytes"):
        open_volume("set.h5")


def test_a_source_that_goes_away_later_is_refused_when_it_is_read():
    by_virtual_data_set()
    volume = open_volume("set.h5")
    Path("tiles/1.h5").rename("gone.h5")
    with pytest.raises(UserError, match="'tiles/1.h5', which does not exist any more"):
        volume[...]


def test_the_file_itself_may_be_a_source():
    plain("set.h5", HALF, "a")
    with h5py.File("set.h5", "a") as file:
        file["b"] = HALF + 100
    virtual("set.h5", (".", "a"), (".", "b"))
    np.testing.assert_array_equal(open_volume("set.h5:raw")[...], WHOLE)
    assert "linked" not in identity("set.h5:raw")


def soft(name: str, **links: str) -> None:
    with h5py.File(name, "a") as file:
        for own, to in links.items():
            file[own] = h5py.SoftLink(to)


CIRCLES = {
    "two soft links": lambda: soft("set.h5", raw="/b", b="/raw"),
    "a soft link": lambda: soft("set.h5", raw="raw"),
    "an external link": lambda: linked("set.h5", "set.h5"),
    "two files": lambda: [linked("set.h5", "b.h5"), linked("b.h5", "set.h5")],
    "a virtual data set": lambda: virtual("set.h5", ("set.h5", "raw"), size=4),
    "two virtual data sets": lambda: [
        virtual("set.h5", ("b.h5", "raw"), size=4),
        virtual("b.h5", ("set.h5", "raw"), size=4),
    ],
}


@pytest.mark.parametrize("make", CIRCLES.values(), ids=CIRCLES.keys())
def test_circles_are_refused(make):
    make()
    with pytest.raises(UserError, match=r"'set.h5:raw' (leads in a circle|is .* made of itself)"):
        open_volume("set.h5:raw")


def test_groups_that_contain_themselves_end():
    plain("set.h5", HALF, "a/raw")
    with h5py.File("set.h5", "a") as file:
        file["a/up"], file["a/soft"], file["gone"] = file["/"], h5py.SoftLink("/"), file["a"]
        file["lost"] = h5py.ExternalLink("set.h5", "/")
    assert open_volume("set.h5").shape == HALF.shape
    np.testing.assert_array_equal(open_volume("set.h5:a/up/lost/a/soft/a/raw")[...], HALF)


def test_a_lone_data_set_behind_a_link_needs_no_key():
    plain("b.h5", HALF, "deep/raw")
    linked("set.h5", "b.h5", "deep", own="group")
    assert open_volume("set.h5").location == "set.h5:group/raw"
    linked("set.h5", "gone.h5", own="old")
    assert open_volume("set.h5").location == "set.h5:group/raw"
    with pytest.raises(UserError, match="'set.h5:old' draws from 'gone.h5', which does not exist"):
        open_volume("set.h5:old")


PLACES = ["beside", "here", "prefix", "absolute", "moved", "behind a link"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["link", "virtual"])
def test_files_are_looked_for_where_hdf5_looks(place, how, tmp_path, monkeypatch):
    """The oracle is HDF5: it reads what is there, and another file of the name is not taken."""
    folder = {"here": ".", "prefix": "prefix", "absolute": "far", "moved": "sets"}.get(
        place, "sets"
    )
    named = str(tmp_path / "far/part.h5") if place in ("absolute", "moved") else "part.h5"
    opened = "linked/set.h5" if place == "behind a link" else "sets/set.h5"
    Path("sets").mkdir()
    if how == "link":
        linked("sets/set.h5", named)
    else:
        virtual("sets/set.h5", (named, "raw"), size=4)
    if place == "behind a link":
        Path("linked").mkdir()
        Path("linked/set.h5").symlink_to("../sets/set.h5")
    if place == "prefix":
        for variable in ("HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX"):
            monkeypatch.setenv(variable, f"nowhere:{tmp_path / 'prefix'}")
        plain("sets/part.h5", HALF + 1)
    else:
        with pytest.raises(UserError, match=r"part.h5', which does not exist"):
            open_volume(opened)
    plain(f"{folder}/part.h5")
    with h5py.File(opened) as file:
        stored = file["raw"][...]
    np.testing.assert_array_equal(stored, HALF)
    assert [(Path(opened).parent / name).resolve() for name in identity(opened)["linked"]] == [
        (tmp_path / folder / "part.h5").resolve()
    ]
