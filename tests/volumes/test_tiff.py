import contextlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from emseg.errors import UserError
from emseg.volumes import open_volume

RAW = np.random.default_rng(0).integers(0, 255, (9, 32, 40), np.uint8)

LAYOUTS = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"compression": "zlib", "tile": (16, 16)},
    "one page at a time": {"compression": "zlib", "metadata": None},
    "big": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
}


def save(path, array, **options):
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_layout_reads_as_the_library_does(layout, dtype):
    array = RAW.astype(dtype) * 3
    path = save(Path("a.tif"), array, **LAYOUTS[layout])
    volume = pickle.loads(pickle.dumps(open_volume(path)))
    block = volume.read((2, 3, 5), (7, 30, 6))
    np.testing.assert_array_equal(block, tifffile.imread(path)[2:7, 3:30, 5:6])
    assert block.dtype == dtype and block.dtype.isnative and block.flags.writeable
    np.testing.assert_array_equal(volume[...], array)


def test_uncompressed_stacks_are_mapped_and_others_decoded_by_section(monkeypatch):
    plain = open_volume(save(Path("plain.tif"), RAW))
    packed = open_volume(save(Path("packed.tif"), RAW, compression="zlib"))
    decoded = []
    one = tifffile.TiffPage.asarray
    monkeypatch.setattr(
        tifffile.TiffPage, "asarray", lambda page: decoded.append(page.index) or one(page)
    )
    monkeypatch.setattr(tifffile.TiffFrame, "asarray", tifffile.TiffPage.asarray)
    for volume in (plain, packed):
        np.testing.assert_array_equal(volume.read((4, 0, 0), (6, 8, 8)), RAW[4:6, :8, :8])
    assert decoded == [4, 5]


def test_imagej_and_ome_tell_the_voxel_size():
    imagej = {"spacing": 0.03, "unit": "um", "axes": "ZYX"}
    resolution = (1 / 0.006, 1 / 0.008)
    save(Path("a.tif"), RAW, imagej=True, resolution=resolution, metadata=imagej)
    assert open_volume("a.tif").voxel_size == pytest.approx((30, 8, 6))
    ome = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (0.03, 8, 6), strict=True)}
    ome |= {"PhysicalSizeYUnit": "nm", "PhysicalSizeXUnit": "nm", "axes": "ZYX"}
    save(Path("b.ome.tif"), RAW, metadata=ome)
    assert open_volume("b.ome.tif").voxel_size == pytest.approx((30, 8, 6))
    assert open_volume("b.ome.tif", voxel_size=(3, 2, 1)).voxel_size == (3, 2, 1)
    save(Path("c.tif"), RAW, resolution=(72, 72), resolutionunit="INCH")
    assert open_volume("c.tif").voxel_size is None


@pytest.mark.parametrize(
    ("spacing", "resolution"),
    [(0.03, ((0, 1), (0, 1))), (0.03, ((0, 1), (5, 1))), (0.0, ((5, 1), (5, 1)))],
)
def test_an_imagej_size_of_nothing_is_unknown(spacing, resolution):
    imagej = {"spacing": spacing, "unit": "um", "axes": "ZYX"}
    save(Path("a.tif"), RAW, imagej=True, resolution=resolution, metadata=imagej)
    assert open_volume("a.tif").voxel_size is None


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_channels_that_the_file_names_come_first(axes, compression):
    array = np.stack([RAW, RAW + 1], axis=axes.index("C"))
    path = Path("a.ome.tif")
    save(path, array, metadata={"axes": axes}, compression=compression)
    volume = open_volume(path)
    assert (volume.channels, volume.shape) == (2, RAW.shape)
    expected = np.stack([RAW, RAW + 1])[:, 3:5, 1:9, 2:4]
    np.testing.assert_array_equal(volume.read((3, 1, 2), (5, 9, 4)), expected)


def test_unnamed_axes_of_four_have_to_be_told():
    path = save(Path("a.tif"), np.stack([RAW, RAW]))
    with pytest.raises(UserError, match="axes=czyx"):
        open_volume(path)
    assert open_volume(path, axes="czyx").channels == 2


def test_colour_sections_are_channels_and_a_colour_image_is_no_stack():
    colour = np.stack([RAW, RAW, RAW], axis=-1)
    tifffile.imwrite(Path("a.tif"), colour, photometric="rgb")
    np.testing.assert_array_equal(open_volume("a.tif")[...], np.moveaxis(colour, -1, 0))
    tifffile.imwrite(Path("b.tif"), colour[0], photometric="rgb")
    with pytest.raises(UserError, match="one colour image"):
        open_volume("b.tif")
    tifffile.imwrite(Path("c.tif"), RAW[:3], photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match="one colour image"):
        open_volume("c.tif")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.8, 0.97, 0.999])
def test_a_truncated_stack_is_refused_or_has_every_voxel(layout, part):
    path = save(Path("a.tif"), RAW, **LAYOUTS[layout])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    if part == 0.999:
        # What is missing may be page tags that repeat those of the first page.
        with contextlib.suppress(UserError):
            np.testing.assert_array_equal(open_volume(path)[...], RAW)
    else:
        with pytest.raises(UserError, match=r"^[^\n]*a\.tif[^\n]*$"):
            open_volume(path)


def one_by_one(path):
    for section in RAW:
        tifffile.imwrite(path, section, append=path.exists())


def in_two_compressions(path):
    with tifffile.TiffWriter(path) as writer:
        for number, section in enumerate(RAW):
            writer.write(section, metadata=None, compression="zlib" if number else None)


def in_two_stacks(path):
    for half in (RAW[:4], RAW[4:]):
        tifffile.imwrite(path, half, append=path.exists(), photometric="minisblack")


def by_pillow(path, compression="raw"):
    first, *rest = [Image.fromarray(section) for section in RAW]
    first.save(path, save_all=True, append_images=rest, compression=compression)


@pytest.mark.parametrize("write", [one_by_one, in_two_compressions, in_two_stacks, by_pillow])
def test_pages_of_one_shape_and_type_are_one_stack(write):
    write(Path("a.tif"))
    volume = pickle.loads(pickle.dumps(open_volume("a.tif")))
    np.testing.assert_array_equal(volume.read((2, 3, 5), (7, 30, 6)), RAW[2:7, 3:30, 5:6])
    np.testing.assert_array_equal(volume[...], RAW)
    cut = Path("cut.tif")
    cut.write_bytes(Path("a.tif").read_bytes()[:-900])
    with pytest.raises(UserError, match=r"^[^\n]*cut\.tif[^\n]*$"):
        open_volume(cut)


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd", "packbits", "tiff_adobe_deflate"])
def test_stacks_that_other_programs_have_packed(compression):
    by_pillow(Path("a.tif"), compression)
    np.testing.assert_array_equal(open_volume("a.tif")[...], RAW)


def test_jpeg_and_tiles_of_lzw():
    save(Path("a.tif"), RAW, compression="jpeg", tile=(16, 16))
    np.testing.assert_array_equal(open_volume("a.tif")[...], tifffile.imread(Path("a.tif")))
    save(Path("b.tif"), RAW, compression="lzw", tile=(16, 16), predictor=True)
    np.testing.assert_array_equal(open_volume("b.tif")[...], RAW)


def test_a_codec_that_is_not_there_is_named(monkeypatch):
    by_pillow(Path("a.tif"), "tiff_lzw")

    def lacking(page):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", lacking)
    with pytest.raises(UserError, match="cannot decode .*: <COMPRESSION"):
        open_volume("a.tif")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UserError, match="LZW, needs imagecodecs.*pip install imagecodecs$"):
        open_volume("a.tif")


@pytest.mark.parametrize("layout", ["plain", "deflate", "imagej"])
def test_one_image_is_one_section(layout):
    options = LAYOUTS[layout] | ({"metadata": {"axes": "YX"}} if layout == "imagej" else {})
    volume = open_volume(save(Path("a.tif"), RAW[0], **options))
    assert (volume.axes, volume.shape) == ("zyx", (1, 32, 40))
    np.testing.assert_array_equal(volume.read((0, 3, 4), (1, 9, 8)), RAW[:1, 3:9, 4:8])


def test_a_series_of_times_and_depths_is_no_stack():
    both = np.stack([RAW, RAW])[:, :, None]
    save(Path("a.tif"), both, imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(UserError, match="4 axes"):
        open_volume("a.tif")
    save(Path("b.tif"), both[:1], imagej=True, metadata={"axes": "TZCYX"})
    np.testing.assert_array_equal(open_volume("b.tif", axes="tczyx"[2:])[...], RAW)
    with tifffile.TiffWriter(Path("c.ome.tif")) as writer:
        for half in (RAW, RAW):
            writer.write(half, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match="holds 2 images"):
        open_volume("c.ome.tif")


def test_other_content_is_refused():
    Path("text.tif").write_text("no image here")
    with pytest.raises(UserError, match="cannot open '.*text.tif' as TIFF"):
        open_volume("text.tif")
    with tifffile.TiffWriter(Path("two.tif")) as writer:
        writer.write(RAW[:4], photometric="minisblack")
        writer.write(RAW[:4, :8, :8], photometric="minisblack")
    with pytest.raises(
        UserError, match=r"two.tif' holds pages of several kinds, uint8 \(32, 40\) "
    ):
        open_volume("two.tif")
    with pytest.raises(UserError, match="holds no 'main'"):
        open_volume(save(Path("a.tif"), RAW).with_name("a.tif:main"))
