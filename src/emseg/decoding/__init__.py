"""From affinities (C, Z, Y, X) to labels (Z, Y, X).

A decoder is a function `(prediction, *, its arguments, offsets, edge_side) -> labels`.
"""

from emseg.decoding.decoder_forms import Sweep, sweep_of

__all__ = ["Sweep", "sweep_of"]
