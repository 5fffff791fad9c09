"""Files on disk that are written whole or not at all, and checkpoints of what was learnt."""
