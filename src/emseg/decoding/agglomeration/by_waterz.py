"""Agglomeration by the waterz package, followed by our dust merge and branch merge."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from emseg.decoding.agglomeration.basins import VoxelSize
from emseg.decoding.agglomeration.branches import unites_branches
from emseg.decoding.agglomeration.supervoxels import (
    Supervoxels,
    bare_supervoxels,
    given_supervoxels,
)
from emseg.decoding.agglomeration.waterz_child import waterz_partitions
from emseg.decoding.edges import AxisEdge, check_values, destination_affinities
from emseg.volumes import Volume

if TYPE_CHECKING:
    from emseg.decoding.agglomerate import Agglomerate

Tables = Iterator[tuple[float, np.ndarray]]


def found_by_waterz(
    decoder: "Agglomerate",
    prediction: np.ndarray | Volume,
    ascending: Sequence[float],
    channels: Sequence[AxisEdge],
    voxel_size: VoxelSize,
) -> tuple[Supervoxels, Tables]:
    """The fragments that waterz makes, or ours if they are not of its kind, and its segments."""
    whole = prediction[...] if isinstance(prediction, Volume) else prediction
    check_values([whole], whole.dtype)
    given = None
    if decoder.fragments != "volume":
        ours = decoder.supervoxels(whole, channels, voxel_size)
        given = np.empty(whole.shape[-3:], np.uint32)
        ours.relabel_all(None, given, 1)
    fragments, partitions = waterz_partitions(
        destination_affinities(whole, channels),
        ascending,
        merge_function=decoder.merge_function,
        aff_threshold=decoder.aff_threshold,
        discretize_queue=decoder.discretize_queue,
        time_limit=decoder.time_limit,
        memory_limit=decoder.memory,
        fragments=given,
    )
    found = bare_supervoxels(fragments)
    if decoder.dust_merge_size or unites_branches(decoder):
        with decoder.edge_limit.explained():
            found = given_supervoxels(
                fragments,
                whole,
                edges=channels,
                histograms=decoder.needs_histograms,
                sections=unites_branches(decoder),
                limit=decoder.edge_limit,
            )
    return found, ((at, decoder.table(found.graph, one.astype(np.int32))) for at, one in partitions)
