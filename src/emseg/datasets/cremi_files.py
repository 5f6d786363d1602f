"""The layout of files of the CREMI challenge (https://cremi.org)."""

RAW, NEURONS = "volumes/raw", "volumes/labels/neuron_ids"
CLEFTS = "volumes/labels/clefts"
# The ids for no cleft, and for unknown.
BACKGROUND, INVALID = 2**64 - 1, 2**64 - 2
# Nanometres of a voxel (z, y, x) of every sample.
RESOLUTION = (40.0, 4.0, 4.0)
FILE_FORMAT = "0.2"
