"""The array at a location, by the format of its file."""

from pathlib import Path

from emseg.errors import UserError
from emseg.volumes.damage import one_line
from emseg.volumes.location import Location, parse_location, require_there
from emseg.volumes.source import Presence, StoredArray, StoredSource


def open_source(location: str | Path | Location) -> StoredSource:
    """The stored array of numbers at a location, not read.

    Args:
        location: as for open_volume.

    Raises:
        UserError: file or key are missing, broken, empty or not numbers.
    """
    source = open_stored(location)
    check_array(source, where=f"'{_parsed(location)}'")
    return source


def open_stored(location: str | Path | Location) -> StoredSource:
    """The stored array, of any type and shape, at a location.

    Raises:
        UserError: file or key are missing or broken.
    """
    location = _parsed(location)
    require_there(location)
    with one_line(f"cannot open '{location}' as {location.format}"):
        try:
            return _source_of(location)(location.path, location.key)
        except ImportError as error:
            if not location.remote:
                raise
            extra = "buckets" if str(location).startswith(("s3", "gs")) else "remote"
            raise UserError(f"'{location}' needs pip install 'emseg[{extra}]': {error}") from error


def all_keys(location: Location) -> list[str]:
    """The keys of all arrays in the file of a location, whatever its own key.

    TIFF files, folders of sections and what is at a URL have the key "" alone.

    Raises:
        UserError: the file is missing or broken.
    """
    require_there(location)
    with one_line(f"cannot open '{location.path}' as {location.format}"):
        return _source_of(location).keys(location.path)


def presence(location: str | Path) -> list[Presence]:
    """What is stored of the array at a location, and of the sources of a virtual data set.

    Returns:
        A count for each; none for TIFF and section images, of which nothing may be missing, and
        for what is at a URL, where counting would ask for each chunk.

    Raises:
        UserError: as for open_volume, or there is a broken link among the chunks.
    """
    return open_stored(location).presence()


def check_array(source: StoredArray, *, where: str) -> None:
    """Raises UserError for an array without voxels or with values that are not numbers."""
    if source.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {source.dtype}, not numbers")
    if 0 in source.shape:
        raise UserError(f"{where} is empty: shape {tuple(source.shape)}")


def _parsed(location: str | Path | Location) -> Location:
    return location if isinstance(location, Location) else parse_location(location)


def _source_of(location: Location) -> type[StoredSource]:
    # A format's library is imported only when a file of that format is opened.
    name = location.format
    if name == "hdf5":
        from emseg.volumes.hdf5 import Hdf5Array

        return Hdf5Array
    if location.remote:
        from emseg.volumes.remote import Precomputed, RemoteZarr

        return RemoteZarr if name == "zarr" else Precomputed
    if name == "zarr":
        from emseg.volumes.ome_zarr import ZarrArray

        return ZarrArray
    if name == "sections":
        from emseg.volumes.sections import SectionFolder

        return SectionFolder
    from emseg.volumes.tiff import TiffStack

    return TiffStack
