"""What a segmentation is worth: metrics against a truth, as named numbers.

A metric is a function `(segmentation, truth, *, its arguments, table) -> {name: number}`.
"""

from emseg.evaluation.table import Accumulator, Contingency, contingency

__all__ = ["Accumulator", "Contingency", "contingency"]
