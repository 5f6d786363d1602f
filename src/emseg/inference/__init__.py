"""Sliding-window prediction of volumes of any size by any callable network."""
