"""Renames, sorts and adds up edges of region graphs (arrays of EDGE)."""

from emseg.kernels.compiled import kernel


@kernel
def rename_edges(edges, ids):
    """Edges between the labels u and v become those between ids[u] and ids[v], u <= v, in place."""
    for edge in edges:
        one, two = ids[edge.u], ids[edge.v]
        edge.u, edge.v = min(one, two), max(one, two)


@kernel
def order_of(edges, ends, by_v, order):
    """Fills `order` with the places of the edges sorted by (u, v); a stable counting sort.

    Args:
        edges: EDGEs.
        ends: work space, int32 zeros, one more than there are labels, 0 included.
        by_v: work space, like `order`.
        order: int32, per edge.
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

    Args:
        edges: EDGEs; those within a label are left out.
        order: sorts them by (u, v).
        added: EDGEs, as many as there may be pairs.
        places: int32, becomes the place of each edge in `added`; -1 if left out.
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
