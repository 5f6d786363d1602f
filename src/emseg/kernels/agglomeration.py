"""Hierarchical merging of a region graph, cheapest edge first."""

import numpy as np
from numba import njit

from emseg.kernels.region_graph import SUM_UNIT

_STALE, _GONE = 1, 2

# An edge while regions merge: the slots of its two regions, in the lists of those regions the half
# edge that follows, the score it is queued with, and what the score is computed from.
_LINK = np.dtype(
    [
        ("slot0", np.int32),
        ("slot1", np.int32),
        ("next0", np.int32),
        ("next1", np.int32),
        ("score", np.float32),
        ("state", np.int32),
        ("sum", np.int64),  # of affinities, for a mean
        ("count", np.int64),  # of affinities, or of samples in the histogram
    ],
    align=True,
)

# A region: the first and last of the list of its half edges, how many of them are not gone, and the
# smallest fragment in it.
_REGION = np.dtype(
    [("head", np.int32), ("tail", np.int32), ("degree", np.int32), ("name", np.int32)]
)

# A histogram: a list of its samples while those are few, else a row of 256 bins.
_HISTOGRAM = np.dtype(
    [("head", np.int32), ("tail", np.int32), ("length", np.int32), ("row", np.int32)]
)
_SAMPLE = np.dtype([("next", np.int32), ("bin", np.int32), ("weight", np.int32)])
_LISTED = 32

_PAIR = np.dtype([("one", np.int32), ("two", np.int32), ("edge", np.int32)])


@njit(cache=True, nogil=True)
def merge_regions(
    edges, scores, queue, starts, bins, weights, quantile, levels, until, parents, heights
):
    """How many edges were looked at; fills `parents` and `heights`, int32 and float32 per fragment.

    `edges` is an array of EDGE, `scores` float32 the score of each. The cheapest
    edge merges its regions while its score is below `until`; the larger number's region goes into
    the smaller's: `parents` of the former becomes the latter, `heights` the score. Where both
    regions touch a third, the dearer of the two edges is folded into the cheaper one (of equals
    that of the smaller number's region into the other), which keeps its score until it is the
    cheapest and is then scored again. Among equal scores the one queued first goes first; to begin
    with, edges are queued in their order.

    The score is one minus the mean where `quantile` is 0, else one minus the quantile (percent) of
    histograms of 256 bins: that of edge e has the `bins` (uint8) and `weights` (int32) from
    `starts[e]` to `starts[e + 1]` (int32). With `levels` scores are rounded to the centres
    of 256 bins. `queue` has the edges that score below `until`, as the bits of their score * 2^32 +
    the edge, in ascending order.
    """
    links, regions, pairs = _linked(edges, scores, starts, weights, quantile, len(parents))
    histograms, samples = _listed(starts, bins, weights, quantile)
    # Rows of histograms, and a stack, with room for all of them, of those that nobody uses.
    rows, free = np.zeros((16, 256), np.int64), np.arange(16).astype(np.int32)
    n_free = 16
    heap, heap_edges = np.empty(1024, np.uint64), np.empty(1024, np.int32)
    as_float = np.empty(1, np.float32)
    as_bits = as_float.view(np.uint32)
    waiting, at, queued, popped = 0, 0, np.uint64(len(edges)), 0
    used = len(edges)
    while at < len(queue) or waiting:
        popped += 1
        if waiting == 0 or (at < len(queue) and queue[at] < heap[0]):
            edge = np.int64(queue[at] & np.uint64(0xFFFFFFFF))
            at += 1
        else:
            edge = np.int64(heap_edges[0])
            waiting -= 1
            _sink(heap, heap_edges, waiting)
        link = links[edge]
        if link.state == _GONE:
            continue
        if link.state == _STALE:
            link.state = 0
            if quantile:
                score = _quantile_score(histograms[edge], samples, rows, quantile, link.count)
            else:
                score = _mean_score(link.sum, link.count, levels)
            link.score = score
            if score < until:
                as_float[0] = score
                if waiting == len(heap):
                    heap = np.concatenate((heap, np.empty(waiting, np.uint64)))
                    heap_edges = np.concatenate((heap_edges, np.empty(waiting, np.int32)))
                _rise(
                    heap, heap_edges, waiting, np.uint64(as_bits[0]) << np.uint64(32) | queued, edge
                )
                waiting += 1
                queued += np.uint64(1)
            continue
        small, large = link.slot0, link.slot1
        if regions[small].degree > regions[large].degree:
            small, large = large, small
        small_goes = regions[small].name > regions[large].name
        goes, stays = regions[small].name, regions[large].name
        if not small_goes:
            goes, stays = stays, goes
        parents[goes], heights[goes] = stays, link.score
        regions[large].name = stays
        link.state = _GONE
        regions[large].degree -= 1
        # Room for the new names of all that move; a tidy table has it.
        if 4 * (used + regions[small].degree) > 3 * len(pairs):
            pairs, used = _tidied(links)
        half = regions[small].head
        while half >= 0:
            moved = half >> 1
            own = links[moved]
            following = own.next1 if half & 1 else own.next0
            if own.state == _GONE:
                half = following
                continue
            third = own.slot0 if half & 1 else own.slot1
            place = _place(pairs, large, third)
            kept = True
            if pairs[place].one >= 0 and links[pairs[place].edge].state != _GONE:
                twin = np.int64(pairs[place].edge)
                if small_goes:
                    kept = own.score <= links[twin].score
                else:
                    kept = own.score < links[twin].score
                keeper, loser = (moved, twin) if kept else (twin, moved)
                links[keeper].state, links[loser].state = _STALE, _GONE
                links[keeper].sum += links[loser].sum
                links[keeper].count += links[loser].count
                if quantile:
                    if n_free == 0:
                        n_free = len(rows)
                        free = np.arange(n_free, 3 * n_free).astype(np.int32)
                        rows = np.concatenate((rows, np.zeros((n_free, 256), np.int64)))
                    n_free = _fold(histograms, samples, rows, free, n_free, keeper, loser)
                regions[third].degree -= 1
                regions[large].degree -= kept
            elif pairs[place].one < 0:
                pairs[place].one, pairs[place].two = min(large, third), max(large, third)
                used += 1
            if kept:
                pairs[place].edge = moved
                _append(links, regions, large, half)
                if half & 1:
                    own.slot1 = large
                else:
                    own.slot0 = large
                regions[large].degree += 1
            half = following
    return popped


@njit(cache=True, nogil=True)
def mean_scores(edges, levels):
    """One minus the mean affinity of each edge, float32: what `merge_regions` begins with."""
    scores = np.empty(len(edges), np.float32)
    for edge in range(len(edges)):
        scores[edge] = _mean_score(edges[edge].sum, edges[edge].count, levels)
    return scores


@njit(cache=True, nogil=True)
def _mean_score(total, count, levels):
    # A sum in 1 / SUM_UNIT and its count are exact, and every rounding here is monotonous: the score
    # of two contacts together is never below both of theirs.
    mean = np.float32(np.float64(total) / (np.float64(count) * SUM_UNIT))
    score = np.float32(1.0 - np.float64(mean))
    if levels:
        return np.float32((min(int(score * np.float32(256)), 255) + 0.5) / 256)
    return score


@njit(cache=True, nogil=True)
def quantile_scores(starts, bins, weights, quantile):
    """One minus the quantile of each edge's histogram, float32: what `merge_regions` begins with."""
    scores = np.empty(len(starts) - 1, np.float32)
    counts = np.zeros(256, np.int64)
    for edge in range(len(scores)):
        first, last = starts[edge], starts[edge + 1]
        if last - first == 1:
            scores[edge] = _score_of_bin(bins[first])
            continue
        counts[:] = 0
        for sample in range(first, last):
            counts[bins[sample]] += weights[sample]
        scores[edge] = _score_of_bin(_quantile(counts, quantile, counts.sum()))
    return scores


@njit(cache=True, nogil=True)
def roots_below(parents, heights, threshold):
    """Per fragment the smallest fragment of its region once all scores below `threshold` merged."""
    roots = np.empty_like(parents)
    for fragment in range(len(parents)):
        # A parent is smaller than its child, and merges no earlier.
        merged = heights[fragment] < threshold
        roots[fragment] = roots[parents[fragment]] if merged else fragment
    return roots


@njit(cache=True, nogil=True)
def _linked(edges, scores, starts, weights, quantile, fragments):
    links = np.empty(len(edges), _LINK)
    regions = np.empty(fragments, _REGION)
    for fragment in range(fragments):
        region = regions[fragment]
        region.head, region.tail, region.degree, region.name = -1, -1, 0, fragment
    size = 16
    while 2 * size < 3 * len(edges):
        size *= 2
    pairs = _empty_pairs(size)
    for place in range(len(edges)):
        edge, link = edges[place], links[place]
        link.slot0, link.slot1 = edge.u, edge.v
        link.score, link.state = scores[place], 0
        link.sum, link.count = edge.sum, edge.count
        if quantile:
            link.count = weights[starts[place] : starts[place + 1]].sum()
        _append(links, regions, edge.u, 2 * place)
        _append(links, regions, edge.v, 2 * place + 1)
        regions[edge.u].degree += 1
        regions[edge.v].degree += 1
        _add_pair(pairs, edge.u, edge.v, place)
    return links, regions, pairs


@njit(cache=True, nogil=True)
def _append(links, regions, region, half):
    last = regions[region].tail
    if last < 0:
        regions[region].head = half
    elif last & 1:
        links[last >> 1].next1 = half
    else:
        links[last >> 1].next0 = half
    regions[region].tail = half
    if half & 1:
        links[half >> 1].next1 = -1
    else:
        links[half >> 1].next0 = -1


@njit(cache=True, nogil=True)
def _empty_pairs(size):
    pairs = np.empty(size, _PAIR)
    for place in range(size):
        pairs[place].one = -1
    return pairs


@njit(cache=True, nogil=True)
def _add_pair(pairs, one, two, edge):
    place = _place(pairs, one, two)
    pairs[place].one, pairs[place].two, pairs[place].edge = min(one, two), max(one, two), edge


@njit(cache=True, nogil=True)
def _place(pairs, one, two):
    small, large = min(one, two), max(one, two)
    mixed = (np.uint64(small) << np.uint64(32) | np.uint64(large)) * np.uint64(0x9E3779B97F4A7C15)
    last = len(pairs) - 1
    place = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(last))
    while pairs[place].one >= 0 and (pairs[place].one != small or pairs[place].two != large):
        place = (place + 1) & last
    return place


@njit(cache=True, nogil=True)
def _tidied(links):
    live = 0
    for link in links:
        live += link.state != _GONE
    size = 16
    while size < 2 * live:
        size *= 2
    pairs = _empty_pairs(size)
    for edge in range(len(links)):
        if links[edge].state != _GONE:
            _add_pair(pairs, links[edge].slot0, links[edge].slot1, edge)
    return pairs, live


@njit(cache=True, nogil=True)
def _sink(heap, edges, size):
    # The last entry goes where the first was, and down.
    key, edge, place = heap[size], edges[size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place], edges[place], place = heap[child], edges[child], child
    heap[place], edges[place] = key, edge


@njit(cache=True, nogil=True)
def _rise(heap, edges, place, key, edge):
    while place and heap[(place - 1) >> 1] > key:
        above = (place - 1) >> 1
        heap[place], edges[place], place = heap[above], edges[above], above
    heap[place], edges[place] = key, edge


@njit(cache=True, nogil=True)
def _listed(starts, bins, weights, quantile):
    histograms = np.empty(len(starts) - 1 if quantile else 0, _HISTOGRAM)
    samples = np.empty(len(bins) if quantile else 0, _SAMPLE)
    for sample in range(len(samples)):
        samples[sample].next = sample + 1
        samples[sample].bin, samples[sample].weight = bins[sample], weights[sample]
    for edge in range(len(histograms)):
        histogram = histograms[edge]
        histogram.head, histogram.tail = starts[edge], starts[edge + 1] - 1
        histogram.length, histogram.row = starts[edge + 1] - starts[edge], -1
    return histograms, samples


@njit(cache=True, nogil=True)
def _fold(histograms, samples, rows, free, n_free, keeper, loser):
    """Adds the loser's histogram to the keeper's; returns how many rows are free then."""
    to, of = histograms[keeper], histograms[loser]
    if to.row < 0 and of.row < 0 and to.length + of.length <= _LISTED:
        samples[to.tail].next = of.head
        to.tail = of.tail
        to.length += of.length
        return n_free
    if to.row < 0:
        if of.row < 0:
            n_free -= 1
            of.row = free[n_free]
            rows[of.row] = 0
            _pour(of, samples, rows[of.row])
        _pour(to, samples, rows[of.row])
        to.row = of.row
    elif of.row < 0:
        _pour(of, samples, rows[to.row])
    else:
        rows[to.row] += rows[of.row]
        free[n_free] = of.row
        n_free += 1
    return n_free


@njit(cache=True, nogil=True)
def _pour(histogram, samples, row):
    sample = histogram.head
    for _ in range(histogram.length):
        row[samples[sample].bin] += samples[sample].weight
        sample = samples[sample].next


@njit(cache=True, nogil=True)
def _quantile_score(histogram, samples, rows, quantile, total):
    if histogram.row >= 0:
        return _score_of_bin(_quantile(rows[histogram.row], quantile, total))
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
    wanted, below = quantile * total // 100 + 1, 0
    for place in range(histogram.length):
        below += weights[place]
        if below >= wanted:
            return _score_of_bin(bins[place])
    return np.float32(0)  # not reached: the weights add up to the total


@njit(cache=True, nogil=True)
def _quantile(counts, quantile, total):
    # The bin of the sample whose rank, from 1, is the quantile's.
    wanted, below = quantile * total // 100 + 1, 0
    for place in range(256):
        below += counts[place]
        if below >= wanted:
            return place
    return 255


@njit(cache=True, nogil=True)
def _score_of_bin(place):
    return np.float32((255.5 - place) / 256)
