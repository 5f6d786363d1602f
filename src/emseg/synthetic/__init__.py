"""Volumes made up, and their layouts: neurites, their image and their synapses."""
