"""Regions of volumes in HDF5, zarr and TIFF files: opened lazily, written atomically."""

from emseg.volumes.atomic import check_writable
from emseg.volumes.content import identity
from emseg.volumes.layout import default_chunks
from emseg.volumes.padding import read_padded
from emseg.volumes.partial import PartialVolume
from emseg.volumes.volume import Volume, from_array, open_volume, read_attributes
from emseg.volumes.write import write_volume

__all__ = [
    "PartialVolume",
    "Volume",
    "check_writable",
    "default_chunks",
    "from_array",
    "identity",
    "open_volume",
    "read_attributes",
    "read_padded",
    "write_volume",
]
