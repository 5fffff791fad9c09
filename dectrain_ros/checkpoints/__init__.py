"""Checkpoints of learned state, and files that are written atomically."""
