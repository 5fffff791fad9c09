"""Counters: every problem counted, the first of a kind logged."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros.health import Health              # noqa: E402,I100,I202


class Log:
    """Collects warnings."""

    def __init__(self):
        """Start empty."""
        self.warnings = []

    def warning(self, text):
        """Take one."""
        self.warnings.append(text)


def test_a_kind_of_problem_is_logged_once_and_counted_always():
    log = Log()
    health = Health(log)
    health.drop('unreadable image', 'encoding x')
    health.drop('unreadable image', 'encoding y')
    health.problem('invalid pose')
    health.count('frames')
    status = health.status('node: depth', weight_version=3)
    assert {v.key: v.value for v in status.values} == {
        'frames': '1', 'weight_version': '3', 'dropped: unreadable image': '2',
        'problem: invalid pose': '1'}
    assert log.warnings == [
        'image dropped, unreadable image: encoding x (logged once, counted in /diagnostics)',
        'invalid pose (logged once, counted in /diagnostics)']
    assert (status.name, status.message) == ('node: depth', '3 problems')


def test_latency_is_told_as_median_and_95th_percentile_of_the_newest_frames():
    health = Health(Log())
    for milliseconds in [1000] * 300 + list(range(1, 301)):     # the first 300 are too old
        health.latency(milliseconds / 1e3)
    values = {v.key: v.value for v in health.status('x').values}
    assert values == {'latency_ms_median': '150.50', 'latency_ms_p95': '286.00'}
