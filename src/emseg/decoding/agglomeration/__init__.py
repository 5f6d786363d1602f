"""Fragments, their region graph, and what merges them."""
