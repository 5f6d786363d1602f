"""How many contacts of fragments the memory holds while they are merged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from emseg.blocks.memory import GIB
from emseg.errors import UserError

# Half edges are numbered by int32.
MOST_EDGES = 2**30 - 1
# Memory per edge for assembling the graph, and its histograms of all affinities (measured on noise,
# the worst case). Merging takes what is left, and files.
BYTES_PER_EDGE, BYTES_WITH_HISTOGRAMS = 135, 265
# Memory per edge of one block, whose graph others continue.
BYTES_IN_BLOCK = 80
# Memory per fragment for its number, size, place in the merge tree and region, measured.
BYTES_PER_FRAGMENT = 90
# The same for the fragments' areas and overlaps in sections.
BYTES_OF_SECTIONS = 30


class TooManyEdges(Exception):
    """There are more edges than allowed; `fragments` and `edges` are the numbers found so far."""

    def __init__(self, fragments: int, edges: int) -> None:
        super().__init__(f"{fragments} fragments with {edges} edges")
        self.fragments, self.edges = fragments, edges


@dataclass(frozen=True)
class EdgeLimit:
    """The number of edges that may be merged in `memory` bytes.

    Attributes:
        aff_threshold: that of the watershed, if any.
        histograms, sections: whether the graph has these.
        dust: whether dust is merged.
    """

    memory: int
    aff_threshold: tuple[float, float] | None = None
    histograms: bool = False
    sections: bool = False
    dust: bool = False

    @property
    def in_memory(self) -> bool:
        """Whether all edges must be in memory; else only those of a block."""
        return self.histograms or self.sections or self.dust

    @property
    def most(self) -> int:
        """Edges in memory."""
        return min(self.memory // self._bytes_per_edge, MOST_EDGES)

    @property
    def most_of_block(self) -> int:
        """Edges of one block."""
        return self.most if self.in_memory else min(self.memory // BYTES_IN_BLOCK, MOST_EDGES)

    def check(self, fragments: int, edges: int) -> None:
        """Raises TooManyEdges for a graph that cannot be merged."""
        if not self.fits(fragments, edges):
            raise TooManyEdges(fragments, edges)

    def fits(self, fragments: int, edges: int) -> bool:
        """Whether a graph can be merged."""
        return edges <= MOST_EDGES and self.needed(fragments, edges) <= self.memory

    def needed(self, fragments: int, edges: int) -> int:
        """Bytes of memory for merging a graph; edges that need not be there are in files."""
        if self.in_memory:
            return edges * self._bytes_per_edge
        return fragments * BYTES_PER_FRAGMENT

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Within it TooManyEdges becomes a UserError that says what to do."""
        try:
            yield
        except TooManyEdges as error:
            watershed = (
                f"raise the first of decoding.aff_threshold {list(self.aff_threshold)} (more "
                "background), lower the second (larger fragments), "
                if self.aff_threshold
                else ""
            )
            needed, many = error.fragments * BYTES_PER_FRAGMENT, f"{error.fragments} fragments"
            if error.edges:
                needed = error.edges * (self._bytes_per_edge if self.in_memory else BYTES_IN_BLOCK)
                many += f" with {error.edges} edges between them"
            raise UserError(
                f"the watershed leaves at least {many}: merging those takes more than "
                f"{needed / GIB:.3g} GiB, "
                f"decoding.memory_limit is {self.memory / GIB:.3g}. A prediction as noisy as that "
                f"is seldom worth it: {watershed}smooth the prediction, or raise the limit"
            ) from error

    @property
    def _bytes_per_edge(self) -> int:
        merging = BYTES_WITH_HISTOGRAMS if self.histograms else BYTES_PER_EDGE
        return merging + (BYTES_OF_SECTIONS if self.sections else 0)
