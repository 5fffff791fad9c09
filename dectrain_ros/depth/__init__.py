"""Depth networks, geometry, losses and metrics."""
