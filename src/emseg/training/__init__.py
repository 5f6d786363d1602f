"""Training: what is fitted, the batches, schedules, averages of weights, and checkpoints."""
