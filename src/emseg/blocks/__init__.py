"""Processing in blocks and in child processes."""
