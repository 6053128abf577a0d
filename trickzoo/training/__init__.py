"""Training: schedule, objective, checkpoints and the loop."""
