"""Synthetic volumes (neurites, their image and their synapses) and their layouts on disk."""
