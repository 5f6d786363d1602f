"""Renames, sorts and adds up edges of region graphs (arrays of EDGE)."""

from emseg.kernels.compiled import kernel


@kernel
def rename_edges(edges, ids):
    """Edges between the labels u and v become those between ids[u] and ids[v], u <= v."""
    for edge in edges:
        one, two = ids[edge.u], ids[edge.v]
        edge.u, edge.v = min(one, two), max(one, two)


@kernel
def order_of(edges, ends, by_v, order):
    """Fills `order`, int32, with the places of the edges sorted by (u, v); stable.

    A counting sort. Its work arrays: `ends`, int32 zeros, one more than labels, and `by_v`, like
    `order`.
    """
    for edge in edges:
        ends[edge.v + 1] += 1
    _add_to_next(ends)
    for place in range(len(edges)):
        v = edges[place].v
        by_v[ends[v]] = place
        ends[v] += 1
    ends[:] = 0
    for edge in edges:
        ends[edge.u + 1] += 1
    _add_to_next(ends)
    for place in by_v:
        u = edges[place].u
        order[ends[u]] = place
        ends[u] += 1


@kernel
def add_up(edges, order, added, places):
    """The number of pairs of labels; fills `added` with one edge for each, the sum of its edges.

    `order` sorts by (u, v). `places[e]`, int32, becomes the place of input edge e in `added`; -1
    for one within a label, which is left out.
    """
    count = 0
    for edge in order:
        new, last = edges[edge], added[max(count - 1, 0)]
        if new.u == new.v:
            places[edge] = -1
            continue
        if count and new.u == last.u and new.v == last.v:
            last.max = max(last.max, new.max)
            last.count += new.count
            last.sum += new.sum
        else:
            added[count] = new
            count += 1
        places[edge] = count - 1
    return count


@kernel
def _add_to_next(counts):
    for place in range(1, len(counts)):
        counts[place] += counts[place - 1]
