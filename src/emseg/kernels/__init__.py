"""Arrays in, arrays out: numpy and numba, no files, no torch."""
