"""Hierarchical merging of a region graph, cheapest edge first.

Nearly all of its time goes into waiting for memory, at places that have nothing to do with each
other: what is not needed at once is asked for before.
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
    home_of,
    insert,
    is_full,
    move_out,
    region_of,
    remove,
    rename_in_list,
    rename_in_table,
    room_to_grow,
)
from emseg.kernels.prefetch import prefetch
from emseg.kernels.region_edges import SUM_UNIT

_LOW = np.uint64(0xFFFFFFFF)


def merge_regions(
    edges, scores, queue, starts, bins, weights, quantile, levels, until, parents, heights
):
    """How many edges were looked at; fills `parents` and `heights`, int32 and float32 per fragment.

    `edges` is an array of EDGE, no pair of regions twice, `scores` float32 the score of each. The
    cheapest edge merges its regions while its score is below `until`; the larger number's region
    goes into the smaller's: `parents` of the former becomes the latter, `heights` the score. Where
    both regions touch a third, the dearer of the two edges is folded into the cheaper one (of
    equals that of the smaller number's region into the other), which keeps its score until it is
    the cheapest and is then scored again. Among equal scores the one queued first goes first; to
    begin with, edges are queued in their order.

    The score is one minus the mean where `quantile` is 0, else one minus the quantile (percent) of
    histograms of 256 bins: that of edge e has the `bins` (uint8) and `weights` (int32) from
    `starts[e]` to `starts[e + 1]` (int32). With `levels` scores are rounded to the centres
    of 256 bins. `queue` has the edges that score below `until`, as the bits of their score * 2^32 +
    the edge, in ascending order. An edge stands for less than 2^32 pairs of voxels at any time.
    """
    graph, halves_end = graph_of(edges, len(parents))
    histograms = histograms_of(starts, bins, weights, quantile)
    fill_links(edges, scores, starts, weights, quantile, graph.links)
    # Each edge that is queued again has survived another, and waits in one place at a time.
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
    """Whether all is merged; else there has to be more room before it can go on."""
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
                room = room_to_grow(regions[large].degree + regions[small].degree)
                progress.lack_halves = room if halves_end + room > len(halves) else 0
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
        _ask_for(moved[:count], small, large, links, regions, halves)
        # Where a third region has an edge to `large` too, the place of that among its halves.
        for step in range(count):
            third, own = moved[step] >> 32, moved[step] & 0xFFFFFFFF
            if regions[third].room <= LISTED:
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
            kept = links[own].score < links[twin].score
            kept |= small_goes and links[own].score == links[twin].score
            keeper, loser = (own, twin) if kept else (twin, own)
            states[keeper], states[loser] = STALE, GONE
            links[keeper].sum += links[loser].sum
            links[keeper].count += links[loser].count
            if quantile:
                n_unused = join(histogram_of, samples, rows, unused, n_unused, keeper, loser)
            if kept:
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
    # Step by step, so that each step finds what the one before asked for a while ago.
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
        if regions[one].room < 0:
            prefetch(regions, regions[one].start)
        else:
            prefetch(halves, regions[one].start)
        if regions[two].room < 0:
            prefetch(regions, regions[two].start)
        else:
            prefetch(halves, regions[two].start)


@kernel
def _look_ahead_in_heap(heap, end, again, states, edges, links):
    if end < FIRST + 9:
        return
    # One of these is the first after the first.
    for place in range(FIRST + 1, FIRST + 9):
        prefetch(again, np.int64(heap[place] & _LOW) - len(edges))
    edge = np.int64(again[np.int64(heap[FIRST] & _LOW) - len(edges)])
    prefetch(states, edge)
    prefetch(edges, edge)
    prefetch(links, edge)


@kernel
def _ask_for(moved, small, large, links, regions, halves):
    into = regions[large]
    for half in moved:
        prefetch(regions, half >> 32)
        prefetch(links, half & 0xFFFFFFFF)
        if into.room > LISTED:
            prefetch(halves, into.start + home_of(half >> 32, into.room))
    for half in moved:
        third = regions[half >> 32]
        if third.room > LISTED:
            prefetch(halves, third.start + home_of(small, third.room))
            prefetch(halves, third.start + home_of(large, third.room))
        else:
            prefetch(halves, third.start)
            prefetch(halves, third.start + 8)


@kernel
def mean_scores(edges, levels):
    """One minus the mean affinity of each edge, float32: what `merge_regions` begins with."""
    scores = np.empty(len(edges), np.float32)
    for edge in range(len(edges)):
        scores[edge] = _mean_score(edges[edge].sum, edges[edge].count, levels)
    return scores


@kernel
def _mean_score(total, count, levels):
    # A sum in 1 / SUM_UNIT and its count are exact, and every rounding here is monotonous: the
    # score of two contacts together is never below both of theirs.
    mean = np.float32(np.float64(total) / (np.float64(count) * SUM_UNIT))
    score = np.float32(1.0 - np.float64(mean))
    if levels:
        return np.float32((min(int(score * np.float32(256)), 255) + 0.5) / 256)
    return score


@kernel
def quantile_scores(starts, bins, weights, quantile):
    """One minus the quantile of each edge's histogram, float32, for `merge_regions` to begin."""
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
    """Per fragment the smallest fragment of its region once all scores below `threshold` merged."""
    roots = np.empty_like(parents)
    for fragment in range(len(parents)):
        # A parent is smaller than its child, and merges no earlier.
        merged = heights[fragment] < threshold
        roots[fragment] = roots[parents[fragment]] if merged else fragment
    return roots
