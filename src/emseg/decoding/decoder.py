"""What a decoder is: a frozen dataclass of settings, called with a prediction and facts about it.

Its fields are its settings, with their ranges, checked when it is made. The keyword arguments of
`__call__` are the facts that it needs of a prediction: `offsets`, `edge_side` (see `axis_edges`) or
`voxel_size` (nm). The classes below are what a decoder may do beside; their methods take the same
facts. A function of prediction, settings and facts is a decoder, too.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from emseg.blocks.grid import Block
from emseg.bounds import check_fields
from emseg.decoding.edges import Offsets
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Decoder(ABC):
    """From a prediction to labels (Z, Y, X)."""

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def __call__(self, *args: Any, **facts: Any) -> np.ndarray:
        """`decoder(prediction, **facts)`: the labels, 0 where there is no object."""


class Sweeping(Decoder):
    """A decoder that tries many values of one setting, `swept`, in one pass."""

    swept: ClassVar[str]

    def __call__(
        self, prediction: np.ndarray | Volume, *, offsets: Offsets, edge_side: EdgeSide
    ) -> np.ndarray:
        """The labels for the own value of `swept`. A decoder of other facts overrides this."""
        own = [getattr(self, self.swept)]
        [(_, labels)] = self.sweep(prediction, own, offsets=offsets, edge_side=edge_side)
        return labels

    @abstractmethod
    def sweep(self, *args: Any, **facts: Any) -> Iterator[tuple[float, np.ndarray]]:
        """`sweep(prediction, values, **facts)`: the labels for many values of `swept`.

        Yields:
            (value, labels), each value once, ascending; the caller may change the labels.
        """

    def ascending(self, values: Sequence[float]) -> list[float]:
        """The values of `swept`, each once.

        Raises:
            UserError: if there is none, or one is out of the setting's range.
        """
        if not values:
            raise UserError(f"{type(self).__name__}: {self.swept} is empty; give one value or more")
        for value in values:
            replace(self, **{self.swept: value})  # checks it
        return sorted(set(values))


class Sharing(Sweeping):
    """A decoder whose segments are unions of fragments, which many settings share."""

    @abstractmethod
    def fragments_key(self) -> Hashable | None:
        """What the fragments depend on: equal keys, equal fragments; None if it shares none."""

    @abstractmethod
    def make_fragments(self, *args: Any, **facts: Any) -> tuple[np.ndarray, Any]:
        """`make_fragments(prediction, **facts)`: (labels of the fragments, their graph)."""

    @abstractmethod
    def tables(self, graph: Any, values: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
        """The labels of the fragments of `make_fragments`, for many values of `swept`.

        Yields:
            (value, table), each value once, ascending: table[f] is the label of fragment f.
        """


class Blockwise(Decoder):
    """A decoder of volumes that do not fit the memory."""

    def label(self, *args: Any, **facts: Any) -> None:
        """`label(prediction, blocks, store=..., **facts)`: labels these blocks into the store.

        It is the part of `blocks` that needs no other block, which any process can do. Nothing by
        default.
        """

    @abstractmethod
    def blocks(self, *args: Any, **facts: Any) -> Iterator[tuple[Block, np.ndarray]]:
        """`blocks(prediction, store=..., block_shape=..., **facts)`: the labels, block by block.

        Args:
            prediction: a Volume.
            store: holds labels of blocks; with one on disk no array is as large as the volume, and
                blocks that are done there, by `label` perhaps, are not computed again.
            block_shape: voxels per axis.

        Yields:
            (block, its labels), in C order; they are those of the whole volume.
        """


@runtime_checkable
class Nodes(Protocol):
    """A decoder that knows the segments of some voxels without making a volume of labels."""

    swept: ClassVar[str]

    def nodes(self, *args: Any, **facts: Any) -> Iterator[tuple[float, np.ndarray]]:
        """`nodes(prediction, voxels, values, **facts)`: the segments of the voxels (N, 3).

        Yields:
            (value, segments): int64 (N,), 0 for none, with other numbers than those of the labels.
        """


def as_function(decoder: type[Decoder]) -> Callable[..., np.ndarray]:
    """A decoder's class as one function of prediction, settings and facts.

    Configs name it and notebooks call it. It has the name of the class's module.
    """
    itself, prediction, *facts = inspect.signature(decoder.__call__).parameters.values()
    names = [fact.name for fact in facts]

    def decode(prediction: Any, **arguments: Any) -> np.ndarray:
        given = {name: arguments.pop(name) for name in names if name in arguments}
        labels: np.ndarray = decoder(**arguments)(prediction, **given)
        return labels

    settings = inspect.signature(decoder).parameters.values()
    decode.__name__ = decode.__qualname__ = decoder.__module__.rpartition(".")[2]
    decode.__module__, decode.__doc__ = decoder.__module__, decoder.__doc__
    signature = inspect.Signature([prediction, *settings, *facts], return_annotation=np.ndarray)
    vars(decode).update(__signature__=signature, decoder=decoder)
    return decode


def decoder_of(choice: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The decoder of a config's choice.

    Args:
        choice: as `emseg.config.build` returns it: a function of `as_function` with settings
            becomes its class with these, any other function is returned as it is.

    Raises:
        UserError: a setting is out of its range.
    """
    made_by = getattr(choice.func, "decoder", None) if isinstance(choice, partial) else None
    if not isinstance(choice, partial) or made_by is None:
        return choice
    decoder: Callable[..., np.ndarray] = made_by(**choice.keywords)
    return decoder
