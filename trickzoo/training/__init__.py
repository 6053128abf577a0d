"""Training of any task: the loop, its checkpoints, its schedules, and the processes that take part."""
