"""A procedural world: places full of solids, rendered to image and depth along trajectories."""
