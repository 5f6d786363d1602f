"""A heap of uint64, smallest first, from place FIRST of an array on.

Each place has eight children, which fill one cache line and are compared in a few steps.
"""

from emseg.kernels.compiled import kernel

FIRST = 7


@kernel
def push(heap, end, key):
    """Adds a key to a heap that ends before `end`; it then ends before `end` + 1."""
    place = end
    while place > FIRST:
        above = (place >> 3) + 6
        if heap[above] <= key:
            break
        heap[place], place = heap[above], above
    heap[place] = key


@kernel
def pop(heap, end):
    """Removes the first key of a heap that ends before `end` + 1; it then ends before `end`."""
    # The last key replaces the first, and moves down.
    key, place = heap[end], FIRST
    below = 8
    while below < end:
        least = below
        for other in range(below + 1, min(below + 8, end)):
            least = other if heap[other] < heap[least] else least
        if heap[least] >= key:
            break
        heap[place], place = heap[least], least
        below = 8 * (place - 6)
    heap[place] = key
