"""Who works in a folder: one run at a time."""
