"""The kinds of synthetic places."""
