"""Training: objectives, batches, schedules, averages of weights, and checkpoints."""
