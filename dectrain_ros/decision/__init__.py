"""When a training step is worth its cost."""
