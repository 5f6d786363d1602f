"""Synthetic electron microscopy with its whole truth: labels, skeletons, synapses, defects."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from emseg.data.synthetic_labels import make_skeletons, one_piece_each
from emseg.data.synthetic_lattice import unbend
from emseg.data.synthetic_scene import MARGIN, Scene, make_scene, render
from emseg.data.synthetic_synapses import place_synapses
from emseg.errors import UserError

SLIVER = 0.1  # edge of the cube, in diameters, below which a cut-off piece is a sliver


@dataclass(frozen=True)
class MissingSection:
    """A section without an image (black); its labels stay."""

    section: int


@dataclass(frozen=True)
class FaintSection:
    """A section whose grey values shrink towards their mean by the factor `contrast`."""

    section: int
    contrast: float = 0.3


@dataclass(frozen=True)
class MisalignedSection:
    """A section that shows the tissue moved by `shift` voxels along its two axes, labels too."""

    section: int
    shift: tuple[int, int]


Defect = MissingSection | FaintSection | MisalignedSection


@dataclass(frozen=True)
class SyntheticVolume:
    """A volume and its truth, all arrays of one shape.

    `skeletons` has one connected component per label id; nodes carry `id` (int), `index_position`
    (three ints: a voxel of that label) and `nm_position` (three floats, voxel i centred at i times
    the voxel size). Synapse s has `clefts == s` on both sides of the contact, `pre == s` inside
    label `partners[s][0]` and `post == s` inside label `partners[s][1]`.
    """

    raw: np.ndarray  # uint8
    labels: np.ndarray  # uint32, 0 is extracellular space
    skeletons: nx.Graph
    clefts: np.ndarray  # uint32 synapse ids
    pre: np.ndarray  # uint32 synapse ids
    post: np.ndarray  # uint32 synapse ids
    partners: dict[int, tuple[int, int]]
    voxel_size: tuple[float, float, float]  # nm


def synthesize(
    shape: Sequence[int],
    *,
    seed: int,
    voxel_size: Sequence[float] = (30.0, 6.0, 6.0),
    neurite_diameter_nm: float = 200.0,
    membrane_nm: float = 20.0,
    extracellular_nm: float = 0.0,
    noise: float = 12.0,
    organelles: float = 1.0,
    synapses_per_um3: float = 1.5,
    defects: Sequence[Defect] = (),
) -> SyntheticVolume:
    """A synthetic volume of `shape` voxels, the same for the same arguments.

    Neurites of `neurite_diameter_nm` on average grow, branch and pack densely; where two touch
    stands a dark membrane, `membrane_nm` thick from cell to cell, blurred by the thickness of the
    section where it is cut obliquely, and faint in places. With `extracellular_nm` above 0 they
    stand that far apart and the space between them is label 0. `organelles` (0 to 1) scales
    mitochondria, vesicles and endoplasmic reticulum, `noise` is the standard deviation of white
    noise in grey levels.

    Each label is one 6-connected piece; a neurite that the volume's border cuts into several gives
    several ids, and pieces of a few voxels go to a neighbour.

    Sections are the planes along the axis of the largest voxel size (the first of them). A missing
    or faint section changes the image of that section alone. A misaligned one moves image, labels
    and skeleton nodes; a neurite that it cuts in two has two ids, in all sections.

    Raises UserError for a shape, size or defect out of bounds.
    """
    sizes = _checked_sizes(shape, voxel_size, neurite_diameter_nm)
    _check_look(membrane_nm, extracellular_nm, noise, organelles, synapses_per_um3)
    sections_first = np.argsort(np.arange(3) != np.argmax(sizes), kind="stable")
    inner_shape = tuple(int(shape[a]) for a in sections_first)
    sizes = sizes[sections_first]
    limit = np.floor(MARGIN * neurite_diameter_nm / sizes[1:]).astype(int)
    shift = _shift_of_sections(defects, inner_shape, limit)
    rng = np.random.default_rng(seed)
    scene = make_scene(
        inner_shape, voxel_size=sizes, shift=shift, diameter_nm=neurite_diameter_nm, rng=rng
    )
    raw, trees = render(
        scene,
        inner_shape,
        membrane_nm=membrane_nm,
        extracellular_nm=extracellular_nm,
        noise=noise,
        organelles=organelles,
    )
    sliver = math.ceil((SLIVER * neurite_diameter_nm) ** 3 / float(np.prod(sizes)))
    volume = _with_synapses(
        raw, trees, scene, sliver_voxels=sliver, per_um3=synapses_per_um3, rng=rng
    )
    _spoil(raw, defects)
    return _reordered(volume, np.argsort(sections_first).tolist())


def _with_synapses(
    raw: np.ndarray,
    trees: np.ndarray,
    scene: Scene,
    *,
    sliver_voxels: int,
    per_um3: float,
    rng: np.random.Generator,
) -> SyntheticVolume:
    """The volume of a drawn scene; its synapses are drawn into `raw`."""
    sizes = scene.voxel_size
    pieces = one_piece_each(trees, sliver_voxels=sliver_voxels)
    places = unbend(
        scene.lattice, scene.neurites.centre, voxel_size=sizes, margin=np.zeros(3, np.int64)
    )
    skeletons = make_skeletons(pieces, scene.neurites, places, voxel_size=sizes, shift=scene.shift)
    synapses = place_synapses(
        raw, pieces.labels, voxel_size=sizes, per_um3=per_um3, key=scene.tissue.key, rng=rng
    )
    masks = {"clefts": synapses.clefts, "pre": synapses.pre, "post": synapses.post}
    return SyntheticVolume(
        raw, pieces.labels, skeletons, **masks, partners=synapses.partners,
        voxel_size=tuple(sizes.tolist()),
    )  # fmt: skip


def _checked_sizes(
    shape: Sequence[int], voxel_size: Sequence[float], diameter_nm: float
) -> np.ndarray:
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"shape: {tuple(shape)} is not three positive numbers of voxels")
    if len(voxel_size) != 3 or not all(0 < size < math.inf for size in voxel_size):
        raise UserError(f"voxel_size: {tuple(voxel_size)} is not three positive lengths in nm")
    if not 2 * max(voxel_size) <= diameter_nm < math.inf:
        raise UserError(
            f"neurite_diameter_nm: {diameter_nm} is below two voxels of {max(voxel_size):g} nm"
        )
    return np.array(voxel_size, np.float64)


def _check_look(
    membrane_nm: float,
    extracellular_nm: float,
    noise: float,
    organelles: float,
    synapses_per_um3: float,
) -> None:
    for name, value, high in (
        ("membrane_nm", membrane_nm, 100.0),
        ("extracellular_nm", extracellular_nm, 100.0),
        ("noise", noise, 128.0),
        ("organelles", organelles, 1.0),
        ("synapses_per_um3", synapses_per_um3, 100.0),
    ):
        if not 0 <= value <= high:
            raise UserError(f"{name}: {value} is not between 0 and {high:g}")


def _shift_of_sections(
    defects: Sequence[Defect], shape: tuple[int, int, int], limit: np.ndarray
) -> np.ndarray:
    """Where in the tissue each section begins, in voxels (sections, 2); checks the defects."""
    shift = np.zeros((shape[0], 2), np.int64)
    for defect in defects:
        if not 0 <= defect.section < shape[0]:
            raise UserError(f"defects: section {defect.section} is not in 0..{shape[0] - 1}")
        if isinstance(defect, FaintSection) and not 0 <= defect.contrast <= 1:
            raise UserError(f"defects: contrast {defect.contrast} is not between 0 and 1")
        if isinstance(defect, MisalignedSection):
            if (np.abs(defect.shift) > limit).any():
                allowed = " and ".join(map(str, limit))
                raise UserError(f"defects: shift {defect.shift} is beyond {allowed} voxels")
            shift[defect.section] = -np.array(defect.shift)
    return shift


def _spoil(raw: np.ndarray, defects: Sequence[Defect]) -> None:
    for defect in defects:
        section = raw[defect.section]
        if isinstance(defect, MissingSection):
            section[:] = 0
        elif isinstance(defect, FaintSection):
            mean = section.mean()
            section[:] = np.rint(mean + defect.contrast * (section - mean))


def _reordered(volume: SyntheticVolume, axes: list[int]) -> SyntheticVolume:
    """The volume with its axes in another order."""
    if axes == [0, 1, 2]:
        return volume
    for _, node in volume.skeletons.nodes(data=True):
        for key in ("index_position", "nm_position"):
            node[key] = tuple(node[key][a] for a in axes)
    arrays = ("raw", "labels", "clefts", "pre", "post")
    moved = {name: np.ascontiguousarray(getattr(volume, name).transpose(axes)) for name in arrays}
    return replace(volume, **moved, voxel_size=tuple(volume.voxel_size[a] for a in axes))
