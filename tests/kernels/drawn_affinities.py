"""Affinities of small volumes for hypothesis: three dtypes, ties or none, either edge side."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

HALVES = np.arange(0x3C00 + 1, dtype=np.int16).view(np.float16).astype(np.float32)
BYTES = np.arange(256, dtype=np.float32) / np.float32(255)

# What kernels look up an affinity in: none for one that is its own value.
LEVELS = {"float32": None, "float16": HALVES, "uint8": BYTES}
TOPS = {"float32": np.float32(1), "float16": np.int16(0x3C00), "uint8": np.uint8(255)}

# What is stored for pairs that lead out of the volume: no kernel may look at it.
_NOTHING = {"float32": np.float32(np.nan), "float16": np.int16(-1), "uint8": np.uint8(255)}
_ILLEGAL = {
    "float32": np.array([np.nan, np.inf, -np.inf, -0.25, 1.5, np.nextafter(1, 2)], np.float32),
    "float16": np.array([np.nan, np.inf, -np.inf, -0.25, 1.5, -np.nan, 1.001], np.float16).view(
        np.int16
    ),
    "uint8": np.array([0, 255], np.uint8),
}


def keys_of(values, dtype):
    """Values in [0, 1] as kernels take them: float16 as its bits."""
    if dtype == "float32":
        return np.asarray(values, np.float32)
    if dtype == "float16":
        return np.asarray(values, np.float16).view(np.int16)
    return np.rint(np.asarray(values) * 255).astype(np.uint8)


def values_of(keys, dtype):
    return keys if LEVELS[dtype] is None else LEVELS[dtype][keys]


@dataclass(frozen=True)
class Drawn:
    """`keys` (3, Z, Y, X), channel a at v for the pair (v - e_a, v), and where they are stored."""

    dtype: str
    source: bool
    keys: np.ndarray
    low: np.generic
    high: np.generic

    @property
    def shape(self):
        return self.keys.shape[1:]

    @property
    def affinities(self):
        """float32."""
        return values_of(self.keys, self.dtype)

    @property
    def limits(self):
        """low and high as affinities."""
        return tuple(values_of(np.array([self.low, self.high]), self.dtype).tolist())

    @property
    def stored(self):
        found = []
        for axis, channel in enumerate(self.keys):
            own = channel.copy()
            own[(slice(None),) * axis + (0,)] = _NOTHING[self.dtype]
            found.append(np.ascontiguousarray(np.roll(own, -self.source, axis)))
        return found

    def at(self, start=(0, 0, 0)):
        """Where the pair of the voxel at start and the one before it is stored, per axis."""
        return np.array([start] * 3) - self.source * np.eye(3, dtype=np.int64)


@st.composite
def drawn_affinities(draw, longest=5, illegal=False):
    dtype = draw(st.sampled_from(sorted(LEVELS)))
    shape = draw(st.tuples(*[st.integers(1, longest)] * 3))
    levels = draw(st.lists(st.floats(0, 1), min_size=2, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        places = arrays(np.uint8, (3, *shape), elements=st.integers(0, len(levels) - 1))
        keys = keys_of(np.array(levels)[draw(places)], dtype)
    else:
        keys = keys_of(rng.random((3, *shape)), dtype)
    if illegal:
        few = rng.random(keys.shape) < draw(st.sampled_from([0, 0.01, 0.1]))
        keys[few] = rng.choice(_ILLEGAL[dtype], few.sum())
    bounds = np.unique(keys_of([0.1, 0.5, 0.999, 1, 0, *levels], dtype))
    low = draw(st.integers(0, len(bounds) - 2))
    high = draw(st.integers(low + 1, len(bounds) - 1))
    return Drawn(dtype, draw(st.booleans()), keys, bounds[low], bounds[high])


@st.composite
def boxes(draw, shape):
    """(start, stop) of a box of at least one voxel."""
    ends = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in shape]
    return [a if a < b else b - 1 for a, b in ends], [b for _, b in ends]
