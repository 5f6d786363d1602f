"""Decoders that can do many thresholds in one pass, or work block by block."""

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.blocks.grid import Block


@dataclass(frozen=True)
class Sharing:
    """How the segmentations of one prediction share their fragments.

    `fragments` takes what the decoder takes (without the swept argument) and returns (labels of the
    fragments, their graph), the same for all arguments with one `key` (None: nothing to share).
    `tables` takes the graph, the values of the swept argument and the decoder's other own
    arguments, and yields (value, table) in ascending order: table[f] is the label of fragment f.
    """

    key: Callable[[Mapping[str, Any]], Hashable | None]
    fragments: Callable[..., tuple[np.ndarray, Any]]
    tables: Callable[..., Iterator[tuple[float, np.ndarray]]]


@dataclass(frozen=True)
class Sweep:
    """How to sweep a decoder: the decoder's module has it as `SWEEP`.

    `function` takes what `decoder` takes, with a sequence of values for the decoder's `argument`,
    and yields (value, labels) in ascending order of the values; the caller may change the labels.
    `nodes` takes the prediction, voxels (N, 3) and the same other arguments, and yields
    (value, segments): (N,) int64, 0 for none, for callers that need the segments of these only.
    """

    decoder: Callable[..., np.ndarray]
    argument: str
    function: Callable[..., Iterator[tuple[float, np.ndarray]]]
    sharing: Sharing | None = None
    nodes: Callable[..., Iterator[tuple[float, np.ndarray]]] | None = None


@dataclass(frozen=True)
class Blockwise:
    """How to decode in blocks: the decoder's module has it as `BLOCKWISE`.

    `function` takes what `decoder` takes, with a Volume for the prediction, a `store` (see
    `emseg.blocks.store`) and a `block_shape`, and yields (block, labels) in C order of the blocks.
    """

    decoder: Callable[..., np.ndarray]
    function: Callable[..., Iterator[tuple[Block, np.ndarray]]]


def blockwise_of(decoder: Callable[..., np.ndarray]) -> Blockwise | None:
    """How a decoder function works in blocks, or None when it cannot."""
    found = getattr(sys.modules[decoder.__module__], "BLOCKWISE", None)
    return found if found is not None and found.decoder is decoder else None


def sweep_of(decoder: Callable[..., np.ndarray]) -> Sweep | None:
    """The sweep of a decoder function, or None when it has none."""
    sweep = getattr(sys.modules[decoder.__module__], "SWEEP", None)
    return sweep if sweep is not None and sweep.decoder is decoder else None
