"""Changes of intensities: by a table of all 256 levels, by noise, by blurring a section."""

import math

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def look_up(image, table, start, stop):
    """Sets v to table[v], in place, in the box `start` to `stop` of image (C, Z, Y, X) uint8."""
    for c in range(len(image)):
        for z in range(start[0], stop[0]):
            for y in range(start[1], stop[1]):
                row = image[c, z, y, start[2] : stop[2]]
                for x in range(len(row)):
                    row[x] = table[row[x]]


@kernel
def scale_levels(levels, scale, out):
    """Sets out[i] to levels[i] * scale: uint8 (N,) to float32, several times as fast as numpy."""
    for at in range(len(levels)):
        out[at] = np.float32(levels[at]) * scale


@kernel
def add_noise(levels, table, raw):
    """Adds a random entry of the table to each level, in place, limited to 0 to 255.

    Args:
        levels: uint8 (N,).
        table: int16 (8192,), within +-255.
        raw: N random uint16, of which 13 bits select the entry.
    """
    noise = np.empty(1024, table.dtype)
    for first in range(0, len(levels), len(noise)):
        part, bits = levels[first : first + len(noise)], raw[first : first + len(noise)]
        for x in range(len(part)):
            noise[x] = table[bits[x] & np.uint16(8191)]
        # A loop of its own: the compiler can then use vector instructions.
        for x in range(len(part)):
            noisy = np.int16(np.int16(part[x]) + noise[x])
            part[x] = min(max(noisy, np.int16(0)), np.int16(255))


def blur(section: np.ndarray, sigma: float, radius: int | None = None) -> np.ndarray:
    """The section (Y, X), float32, blurred by a Gaussian, a new array.

    Near the section's sides only pixels inside count, and their weights are scaled to sum to 1.

    Args:
        section: float32 (Y, X).
        sigma: pixels; 0 changes nothing.
        radius: pixels after which the Gaussian ends; None: 3 sigma, rounded up.
    """
    radius = math.ceil(3 * sigma) if radius is None else radius
    if radius == 0 or sigma == 0:
        return section.copy()
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    down, across = np.empty_like(section), np.empty_like(section)
    _blur_down(section, weights, down)
    _blur_across(down, weights, across)
    return across


@kernel
def _blur_down(section, weights, out):
    height, width = section.shape
    radius = len(weights) // 2
    for y in range(height):
        row = out[y]
        row[:] = 0
        total = np.float32(0)
        for at in range(max(0, y - radius), min(height, y + radius + 1)):
            weight, other = weights[at - y + radius], section[at]
            total += weight
            for x in range(width):
                row[x] += weight * other[x]
        # With a division, values of at most 1 stay at most 1.
        for x in range(width):
            row[x] /= total


@kernel
def _blur_across(section, weights, out):
    height, width = section.shape
    radius = len(weights) // 2
    total = np.zeros(width, np.float32)
    for step in range(-radius, radius + 1):
        for x in range(max(0, -step), min(width, width - step)):
            total[x] += weights[step + radius]
    for y in range(height):
        row, whole = out[y], section[y]
        row[:] = 0
        for step in range(-radius, radius + 1):
            weight, first = weights[step + radius], max(0, -step)
            count = min(width, width - step) - first
            # Slices counted from 0 let the compiler use vector instructions.
            to, source = row[first : first + count], whole[first + step : first + step + count]
            for x in range(count):
                to[x] += weight * source[x]
        for x in range(width):
            row[x] /= total[x]
