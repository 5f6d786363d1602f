"""From affinities (C, Z, Y, X) to labels (Z, Y, X)."""
