#!/usr/bin/env bash
# lsd-lite 1.0.1, get_lsds: the local shape descriptors of one object change when it lies elsewhere in
# the volume. Covariances are differences of float32 sums of squared positions, counted from the corner
# of the array in nm, so that what cancels grows with the square of the distance from that corner.
#
# Seen, a rod of 9 voxels of 10 nm, sigma 80 nm, all values in [0, 1]; the largest change of each channel
# when it is moved along x from voxel 30 to
#   voxel   300: variance x 0.000, correlation zx 0.006
#   voxel  3000: variance x 0.021, correlation zx 0.082
#   voxel 12000: variance x 0.380, correlation zx 0.500
# A rod along x has no correlation between z and y (0.5); at voxel 30 it has 0.439.
#
# Fails if that changes. Way round: compute them on small crops, or with positions relative to the voxel.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lsd-lite==1.0.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PY'
import numpy as np
from lsd_lite import get_lsds


def rod(first):
    labels = np.zeros((9, 9, first + 40), np.uint32)
    labels[4, 4, first : first + 9] = 1
    return get_lsds(labels, 80.0, (10, 10, 10))[:, 4, 4, first : first + 9]


near, changes = rod(30), {}
for first in (300, 3000, 12000):
    change = np.abs(rod(first) - near).max(axis=1)
    changes[first] = change[5], change[7]
    print(f"voxel {first:5}: variance x {change[5]:.3f}, correlation zx {change[7]:.3f}")
print(f"correlation zy at voxel 30: {near[6, 0]:.3f}")
assert changes[300][0] < 0.001 and changes[3000][0] > 0.01 and changes[12000][0] > 0.1
assert changes[3000][1] > 0.05 and abs(near[6, 0] - 0.5) > 0.05
PY
