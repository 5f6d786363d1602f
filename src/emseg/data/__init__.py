"""Samples for training: patches, augmentation, targets, synthetic volumes."""
