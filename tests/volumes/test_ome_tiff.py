"""OME-TIFF in several files, written as OME says: each names the others by file and number."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from emseg.errors import UserError
from emseg.volumes import identity, open_volume

RAW = np.random.default_rng(0).integers(0, 255, (8, 6, 7), np.uint8)
NUMBERS = ["urn:uuid:8d7b2c5a-0000-4000-8000-00000000000" + digit for digit in "01"]
PLANE = (
    '<TiffData IFD="{}" FirstZ="{}" PlaneCount="1"><UUID FileName="{}.ome.tif">{}</UUID></TiffData>'
)


@pytest.fixture(autouse=True)
def two_files(here):
    planes = "".join(PLANE.format(z % 4, z, "ab"[z // 4], NUMBERS[z // 4]) for z in range(8))
    for name, own, part in zip("ab", NUMBERS, np.split(RAW, 2), strict=True):
        text = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint8" SizeX="7" SizeY="6" SizeZ="8" SizeC="1" SizeT="1">'
            f"{planes}</Pixels></Image></OME>"
        )
        tifffile.imwrite(
            f"{name}.ome.tif", part, description=text, metadata=None, photometric="minisblack"
        )


@pytest.mark.filterwarnings("ignore:.*reading array from closed file")
def test_both_files_belong_to_the_volume():
    np.testing.assert_array_equal(open_volume("a.ome.tif")[...], RAW)
    before = identity("a.ome.tif", verify=True)
    assert list(before["linked"]) == ["b.ome.tif"]
    content = bytearray(Path("b.ome.tif").read_bytes())
    content[content.index(RAW[7].tobytes())] ^= 1
    Path("b.ome.tif").write_bytes(content)
    assert identity("a.ome.tif", verify=True)["sha256"] != before["sha256"]


def test_a_missing_file_is_named():
    Path("b.ome.tif").rename("elsewhere.tif")
    with pytest.raises(UserError, match="'a.ome.tif' has planes in another file: 'b.ome.tif' does"):
        open_volume("a.ome.tif")


def test_a_file_alone_may_be_renamed():
    tifffile.imwrite("alone.ome.tif", RAW, metadata={"axes": "ZYX"})
    Path("alone.ome.tif").rename("other.ome.tif")
    assert "linked" not in identity("other.ome.tif")
