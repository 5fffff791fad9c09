"""Memory of earlier frames: source views, replayed samples and rehearsed views."""
