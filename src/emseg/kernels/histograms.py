"""Histograms of 256 bins that are joined while regions merge, and their quantiles."""

import numpy as np

from emseg.kernels.compiled import kernel

# A histogram: a list of its samples while they are few, else a row of counts.
HISTOGRAM = np.dtype(
    [("head", np.int32), ("tail", np.int32), ("length", np.int32), ("row", np.int32)]
)
SAMPLE = np.dtype([("next", np.int32), ("bin", np.int32), ("weight", np.int32)])
_LISTED = 32


@kernel
def make_histograms(starts, bins, weights, histograms, samples):
    """Fills `histograms` and `samples`; the samples from starts[e] to starts[e + 1] are e's."""
    for sample in range(len(samples)):
        samples[sample].next = sample + 1
        samples[sample].bin, samples[sample].weight = bins[sample], weights[sample]
    for edge in range(len(histograms)):
        histogram = histograms[edge]
        histogram.head, histogram.tail = starts[edge], starts[edge + 1] - 1
        histogram.length, histogram.row = starts[edge + 1] - starts[edge], -1


@kernel
def join(histograms, samples, rows, unused, n_unused, one, other):
    """Adds histogram `other` to `one`; returns how many of the `rows` are then unused.

    The first `n_unused` entries of `unused`, at least one, are the numbers of the unused rows.
    """
    to, of = histograms[one], histograms[other]
    if to.row < 0 and of.row < 0 and to.length + of.length <= _LISTED:
        samples[to.tail].next = of.head
        to.tail = of.tail
        to.length += of.length
        return n_unused
    if to.row < 0 and of.row < 0:
        n_unused -= 1
        to.row = unused[n_unused]
        for place in range(256):
            rows[to.row, place] = 0
        _pour(to, samples, rows, to.row)
        _pour(of, samples, rows, to.row)
    elif to.row < 0:
        _pour(to, samples, rows, of.row)
        to.row = of.row
    elif of.row < 0:
        _pour(of, samples, rows, to.row)
    else:
        for place in range(256):
            rows[to.row, place] += rows[of.row, place]
        unused[n_unused] = of.row
        n_unused += 1
    return n_unused


@kernel
def quantile_bin(histogram, samples, rows, quantile, total):
    """The bin of the sample whose rank is `quantile` percent of `total`, the sum of weights."""
    wanted, below = quantile * total // 100 + 1, 0
    if histogram.row >= 0:
        for place in range(256):
            below += rows[histogram.row, place]
            if below >= wanted:
                return place
        return 255  # not reached: the counts add up to the total
    # A short list, sorted by insertion.
    bins, weights = np.empty(_LISTED, np.int32), np.empty(_LISTED, np.int64)
    sample = histogram.head
    for size in range(histogram.length):
        new, place = samples[sample], size
        while place and bins[place - 1] > new.bin:
            bins[place], weights[place] = bins[place - 1], weights[place - 1]
            place -= 1
        bins[place], weights[place] = new.bin, new.weight
        sample = new.next
    for place in range(histogram.length):
        below += weights[place]
        if below >= wanted:
            return np.int64(bins[place])
    return 255  # not reached: the weights add up to the total


@kernel
def _pour(histogram, samples, rows, row):
    sample = histogram.head
    for _ in range(histogram.length):
        rows[row, samples[sample].bin] += samples[sample].weight
        sample = samples[sample].next
