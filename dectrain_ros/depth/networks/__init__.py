"""Depth networks behind one interface, and how their weights are loaded."""
