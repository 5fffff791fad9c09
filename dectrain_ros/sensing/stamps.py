"""Stamps of messages as whole nanoseconds."""

from __future__ import annotations


def stamp_ns_of(stamp) -> int:
    """Return a builtin_interfaces/Time, of rclpy or rosbags, in ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
