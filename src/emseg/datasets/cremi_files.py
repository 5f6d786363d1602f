"""The layout of files of the CREMI challenge (https://cremi.org), and their synaptic sites."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emseg.errors import UserError, unknown_name
from emseg.volumes.atomic import replacing
from emseg.volumes.damage import one_line
from emseg.volumes.hdf5_links import open_hdf5
from emseg.volumes.hdf5_writing import writable_hdf5
from emseg.volumes.location import Location, require_there
from emseg.volumes.skeletons import ROUNDING
from emseg.volumes.volume import Volume

RAW, NEURONS = "volumes/raw", "volumes/labels/neuron_ids"
CLEFTS = "volumes/labels/clefts"
# The ids for no cleft, and for unknown.
BACKGROUND, INVALID = 2**64 - 1, 2**64 - 2
# Nanometres of a voxel (z, y, x) of every sample.
RESOLUTION = (40.0, 4.0, 4.0)
FILE_FORMAT = "0.2"
SITES = ("presynaptic_site", "postsynaptic_site")


@dataclass(frozen=True, eq=False)
class Annotations:
    """Synaptic sites: `ids` (N,) uint64, `types` (of SITES), `locations` (N, 3) in nm, z, y, x.

    `partners` (M, 2) uint64 are pairs of ids, the presynaptic one first; `comments` are texts by
    id. UserError where these do not fit each other.
    """

    ids: np.ndarray
    types: tuple[str, ...]
    locations: np.ndarray
    partners: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    comments: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.locations.shape != (count, 3) or len(self.types) != count:
            raise UserError(
                f"{count} ids, {len(self.types)} types and locations of shape "
                f"{self.locations.shape} do not go together"
            )
        if not np.isfinite(self.locations).all():
            raise UserError("locations must be finite (nm)")
        types = dict(zip(self.ids.tolist(), self.types, strict=True))
        if len(types) < count:
            twice = min(name for name in types if np.count_nonzero(self.ids == name) > 1)
            raise UserError(f"the id {twice} occurs twice")
        for name in set(self.types) - {*SITES}:
            raise unknown_name("type", name, SITES)
        self._check_mentions(types)

    def _check_mentions(self, types: Mapping[int, str]) -> None:
        if self.partners.ndim != 2 or self.partners.shape[1] != 2:
            raise UserError(f"partners have shape {self.partners.shape}: they are pairs")
        for pair in self.partners.tolist():
            for name, wanted in zip(pair, SITES, strict=True):
                if types.get(name) != wanted:
                    found = f"a {types[name]}" if name in types else "not there"
                    raise UserError(f"the partners {pair}: {name} is {found}, no {wanted}")
        for name in self.comments:
            if name not in types:
                raise UserError(f"a comment is on {name}, which is not there")

    def voxels(self, volume: Volume) -> np.ndarray:
        """The voxel (N, 3) of the volume that each site lies in, int64; outside it, below 0 too.

        UserError when the voxel size is not known.
        """
        if volume.voxel_size is None:
            raise UserError(f"{volume.location} has no resolution: where is a site in nm?")
        order = ["zyx".index(axis) for axis in volume.axes]
        away = self.locations[:, order] - (volume.offset or (0.0, 0.0, 0.0))
        return np.floor(away / volume.voxel_size + ROUNDING).astype(np.int64)


def read_annotations(path: str | Path) -> Annotations:
    """The synaptic sites in a file of the challenge, where the offset of the annotations puts them.

    UserError when there are none, as in the held-out files, or they do not fit each other.
    """
    path = Path(path)
    require_there(Location(path, "", "hdf5"))
    with open_hdf5(path) as file:
        if not isinstance(file.get("annotations"), h5py.Group):
            raise UserError(f"{path} holds no 'annotations'")
        try:
            with one_line("they are broken"):
                return _annotations(file["annotations"])
        except UserError as error:
            raise UserError(f"the annotations of {path}: {error}") from error


def write_annotations(path: str | Path, annotations: Annotations) -> None:
    """Puts the sites into the file in place of its own, or into a new one, whole or not at all."""
    path = Path(path)
    with replacing(path) as partial:
        if path.exists():
            open_hdf5(path).close()
            shutil.copyfile(path, partial)
        with writable_hdf5(partial) as file:
            file.attrs["file_format"] = FILE_FORMAT
            if "annotations" in file:
                del file["annotations"]
            group, text = file.create_group("annotations"), h5py.string_dtype()
            group.attrs["offset"] = np.zeros(3)
            group["ids"] = annotations.ids.astype(np.uint64)
            group["locations"] = annotations.locations.astype(np.float64)
            group.create_dataset("types", data=[*annotations.types], dtype=text)
            if len(annotations.partners):
                group["presynaptic_site/partners"] = annotations.partners.astype(np.uint64)
            if annotations.comments:
                group["comments/target_ids"] = np.array([*annotations.comments], np.uint64)
                texts = [*annotations.comments.values()]
                group.create_dataset("comments/comments", data=texts, dtype=text)


def _annotations(group: h5py.Group) -> Annotations:
    ids = _column(group, "ids")
    offset = np.asarray(group.attrs.get("offset", np.zeros(3)), np.float64)
    locations = group["locations"][...].astype(np.float64) + offset
    partners, comments = np.zeros((0, 2), np.uint64), {}
    if "presynaptic_site/partners" in group:
        partners = group["presynaptic_site/partners"][...].astype(np.uint64)
    if "comments" in group:
        about = _column(group, "comments/target_ids").tolist()
        comments = dict(zip(about, _texts(group["comments/comments"]), strict=True))
    return Annotations(ids, tuple(_texts(group["types"])), locations, partners, comments)


def _column(group: h5py.Group, key: str) -> np.ndarray:
    return group[key][...].astype(np.uint64).reshape(-1)


def _texts(stored: Any) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else str(text) for text in stored[...]]
