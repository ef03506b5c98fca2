"""The training loop: optimizer, schedules, distribution, checkpoints, summaries."""
