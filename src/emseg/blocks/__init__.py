"""Work in pieces and in other processes."""
