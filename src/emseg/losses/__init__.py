"""Losses of logits, target and mask, in float32, equal on one device and on many."""
