"""Hierarchical merging of a region graph, cheapest edge first.

Nearly all of its time is spent waiting for memory at scattered addresses, so these are prefetched.
"""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.heap import FIRST, pop, push
from emseg.kernels.histograms import join, quantile_bin
from emseg.kernels.merge_arrays import (
    FRESH,
    GONE,
    PROGRESS,
    STALE,
    fill_links,
    graph_of,
    histograms_of,
    with_more_halves,
    with_more_rows,
)
from emseg.kernels.neighbours import (
    LISTED,
    find,
    grow,
    halves_needed,
    home_of,
    insert,
    is_full,
    move_out,
    region_of,
    remove,
    rename_in_list,
    rename_in_table,
)
from emseg.kernels.prefetch import prefetch
from emseg.kernels.region_edges import SUM_UNIT

_LOW = np.uint64(0xFFFFFFFF)


def merge_regions(
    edges, scores, queue, starts, bins, weights, quantile, levels, until, parents, heights
):
    """The number of edges processed; fills `parents` int32 and `heights` float32, per fragment.

    The cheapest edge, of equal ones the first queued, merges its regions while its score is below
    `until`: the entry of the larger region number in `parents` becomes the smaller number, in
    `heights` the score. Where both touch a third, the edge of higher score is added to the other
    (of equal ones that of the smaller number's region), which is scored again when it is cheapest.

    Args:
        edges: EDGEs, each pair of regions once; always less than 2^32 pairs of voxels per edge.
        scores: float32, per edge, as of `mean_scores` or `quantile_scores`.
        queue: score bits * 2^32 + edge, ascending, of the edges that score below `until`.
        starts, bins, weights: from `starts[e]` to `starts[e + 1]` (int32), `bins` (uint8) and
            `weights` (int32) are edge e's histogram of 256 bins.
        quantile: percent; 0 for means.
        levels: whether scores are rounded to the centres of 256 bins.
    """
    graph, halves_end = graph_of(edges, len(parents))
    histograms = histograms_of(starts, bins, weights, quantile)
    fill_links(edges, scores, starts, weights, quantile, graph.links)
    # An edge is queued again only after another was added to it, and never twice at once.
    again, heap = np.empty(len(edges), np.int32), np.empty(FIRST + 1 + len(queue), np.uint64)
    moved, places = np.empty(len(parents), np.int64), np.empty(len(parents), np.int64)
    progress = np.zeros(1, PROGRESS)[0]
    progress["end"], progress["halves"] = FIRST, halves_end
    while not _merge(
        edges, queue, again, heap, graph, histograms, quantile, levels, until, moved, places,
        progress, parents, heights,
    ):  # fmt: skip
        if progress["lack_rows"]:
            histograms = with_more_rows(histograms, progress)
        else:
            graph = with_more_halves(graph, progress)
    return int(progress["popped"])


@kernel
def _merge(
    edges, queue, again, heap, graph, histograms, quantile, levels, until, moved, places,
    progress, parents, heights,
):  # fmt: skip
    """Whether merging is complete; if not, an array must be enlarged before it can continue."""
    links, states, regions, halves, free = graph
    histogram_of, samples, rows, unused = histograms
    as_float = np.empty(1, np.float32)
    as_bits = as_float.view(np.uint32)
    at, end, n_again, popped = progress.at, progress.end, progress.again, progress.popped
    halves_end, n_unused = progress.halves, progress.unused
    while at < len(queue) or end > FIRST:
        from_heap = at == len(queue) or (end > FIRST and heap[FIRST] < queue[at])
        if from_heap:
            key = heap[FIRST]
            edge = np.int64(again[np.int64(key & _LOW) - len(edges)])
        else:
            key = queue[at]
            edge = np.int64(key & _LOW)
            _look_ahead(queue, at, edges, states, links, regions, halves)
        small, large = 0, 0
        if states[edge] == FRESH:
            small, large = region_of(regions, edges[edge].u), region_of(regions, edges[edge].v)
            if regions[small].degree > regions[large].degree:
                small, large = large, small
            progress.lack_halves, progress.lack_rows = 0, 0
            if is_full(regions[large], regions[small].degree):
                needed = halves_needed(regions[large].degree + regions[small].degree)
                progress.lack_halves = needed if halves_end + needed > len(halves) else 0
            if quantile and n_unused < regions[small].degree:
                progress.lack_rows = regions[small].degree
            if progress.lack_halves or progress.lack_rows:
                progress.at, progress.end = at, end
                progress.again, progress.popped = n_again, popped
                progress.halves, progress.unused = halves_end, n_unused
                return False
        popped += 1
        if from_heap:
            end -= 1
            pop(heap, end)
            _look_ahead_in_heap(heap, end, again, states, edges, links)
        else:
            at += 1
        if states[edge] == GONE:
            continue
        if states[edge] == STALE:
            states[edge] = FRESH
            link = links[edge]
            if quantile:
                place = quantile_bin(histogram_of[edge], samples, rows, quantile, link.count)
                score = _score_of_bin(place)
            else:
                score = _mean_score(link.sum, link.count, levels)
            link.score = score
            if score < until:
                as_float[0] = score
                number = np.uint64(len(edges) + n_again)
                push(heap, end, np.uint64(as_bits[0]) << np.uint64(32) | number)
                again[n_again] = edge
                end += 1
                n_again += 1
            continue
        small_goes = regions[small].name > regions[large].name
        goes, stays = regions[small].name, regions[large].name
        if not small_goes:
            goes, stays = stays, goes
        as_bits[0] = np.uint32(key >> np.uint64(32))
        parents[goes], heights[goes] = stays, as_float[0]
        regions[large].name = stays
        states[edge] = GONE
        remove(regions[large], halves, small)
        count = move_out(regions, small, large, halves, free, moved)
        _prefetch_moved(moved[:count], small, large, links, regions, halves)
        # If a third region has an edge to `large` too: the place of that edge in its halves.
        for step in range(count):
            third, own = moved[step] >> 32, moved[step] & 0xFFFFFFFF
            if regions[third].capacity <= LISTED:
                places[step] = rename_in_list(regions[third], halves, small, large)
            else:
                places[step] = rename_in_table(regions[third], halves, small, large, own)
            if places[step] >= 0:
                prefetch(links, halves[places[step]] & 0xFFFFFFFF)
        for step in range(count):
            if places[step] < 0:
                continue
            third, own = moved[step] >> 32, moved[step] & 0xFFFFFFFF
            twin = halves[places[step]] & 0xFFFFFFFF
            own_wins = links[own].score < links[twin].score
            own_wins |= small_goes and links[own].score == links[twin].score
            winner, loser = (own, twin) if own_wins else (twin, own)
            states[winner], states[loser] = STALE, GONE
            links[winner].sum += links[loser].sum
            links[winner].count += links[loser].count
            if quantile:
                n_unused = join(histogram_of, samples, rows, unused, n_unused, winner, loser)
            if own_wins:
                halves[places[step]] = large << 32 | own
                halves[find(regions[large], halves, third)] = third << 32 | own
        for step in range(count):
            if places[step] < 0:
                if is_full(regions[large], 1):
                    halves_end = grow(regions[large], halves, free, halves_end)
                insert(regions[large], halves, moved[step] >> 32, moved[step] & 0xFFFFFFFF)
    progress.popped = popped
    return True


@kernel
def _look_ahead(queue, at, edges, states, links, regions, halves):
    # In steps: each one reads what the one before has prefetched some edges ago.
    if at + 32 >= len(queue):
        return
    prefetch(states, np.int64(queue[at + 32] & _LOW))
    edge = np.int64(queue[at + 24] & _LOW)
    if states[edge] == FRESH:
        prefetch(edges, edge)
    elif states[edge] == STALE:
        prefetch(links, edge)
    edge = np.int64(queue[at + 16] & _LOW)
    if states[edge] == FRESH:
        prefetch(regions, np.int64(edges[edge].u))
        prefetch(regions, np.int64(edges[edge].v))
    edge = np.int64(queue[at + 8] & _LOW)
    if states[edge] == FRESH:
        one, two = np.int64(edges[edge].u), np.int64(edges[edge].v)
        if regions[one].capacity < 0:
            prefetch(regions, regions[one].start)
        else:
            prefetch(halves, regions[one].start)
        if regions[two].capacity < 0:
            prefetch(regions, regions[two].start)
        else:
            prefetch(halves, regions[two].start)


@kernel
def _look_ahead_in_heap(heap, end, again, states, edges, links):
    if end < FIRST + 9:
        return
    # One of these is the next smallest key.
    for place in range(FIRST + 1, FIRST + 9):
        prefetch(again, np.int64(heap[place] & _LOW) - len(edges))
    edge = np.int64(again[np.int64(heap[FIRST] & _LOW) - len(edges)])
    prefetch(states, edge)
    prefetch(edges, edge)
    prefetch(links, edge)


@kernel
def _prefetch_moved(moved, small, large, links, regions, halves):
    into = regions[large]
    for half in moved:
        prefetch(regions, half >> 32)
        prefetch(links, half & 0xFFFFFFFF)
        if into.capacity > LISTED:
            prefetch(halves, into.start + home_of(half >> 32, into.capacity))
    for half in moved:
        third = regions[half >> 32]
        if third.capacity > LISTED:
            prefetch(halves, third.start + home_of(small, third.capacity))
            prefetch(halves, third.start + home_of(large, third.capacity))
        else:
            prefetch(halves, third.start)
            prefetch(halves, third.start + 8)


@kernel
def mean_scores(edges, levels):
    """One minus the mean affinity of each edge, float32: the first scores of `merge_regions`."""
    scores = np.empty(len(edges), np.float32)
    for edge in range(len(edges)):
        scores[edge] = _mean_score(edges[edge].sum, edges[edge].count, levels)
    return scores


@kernel
def _mean_score(total, count, levels):
    # Sum and count are exact and all rounding is monotonic: two contacts never score below both.
    mean = np.float32(np.float64(total) / (np.float64(count) * SUM_UNIT))
    score = np.float32(1.0 - np.float64(mean))
    if levels:
        return np.float32((min(int(score * np.float32(256)), 255) + 0.5) / 256)
    return score


@kernel
def quantile_scores(starts, bins, weights, quantile):
    """One minus the quantile of each edge's histogram, float32: first scores of `merge_regions`."""
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
        wanted, below, place = quantile * counts.sum() // 100 + 1, counts[0], 0
        while below < wanted:
            place += 1
            below += counts[place]
        scores[edge] = _score_of_bin(place)
    return scores


@kernel
def _score_of_bin(place):
    return np.float32((255.5 - place) / 256)


@kernel
def roots_below(parents, heights, threshold):
    """Per fragment the smallest one of its region after merging all scores below `threshold`."""
    roots = np.empty_like(parents)
    for fragment in range(len(parents)):
        # A parent is smaller than its child, and merges no earlier.
        merged = heights[fragment] < threshold
        roots[fragment] = roots[parents[fragment]] if merged else fragment
    return roots
