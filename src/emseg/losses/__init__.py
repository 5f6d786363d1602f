"""Losses of logits, target and mask, in float32, the same on one device and on many."""
