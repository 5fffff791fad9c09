"""Counters: every problem counted, the first of a kind logged."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros.health import Health              # noqa: E402,I100,I202
from diagnostic_msgs.msg import DiagnosticStatus        # noqa: E402


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
    assert status.name == 'node: depth'


def test_it_warns_of_problems_since_the_last_status_and_names_the_most_frequent_one():
    health = Health(Log())

    def told():
        status = health.status('x')
        return status.level, status.message
    assert told() == (DiagnosticStatus.OK, 'OK')
    for _ in range(3):
        health.problem('invalid pose')
    assert told() == (DiagnosticStatus.WARN, '3 new problems, most often problem: invalid pose')
    health.count('frames')
    assert told() == (DiagnosticStatus.OK, 'OK')
    health.problem('invalid pose')
    health.drop('unreadable image')
    health.drop('unreadable image')
    assert told() == (
        DiagnosticStatus.WARN, '3 new problems, most often dropped: unreadable image')


def test_latency_is_told_as_median_and_95th_percentile_of_the_newest_frames():
    health = Health(Log())
    for milliseconds in [1000] * 300 + list(range(1, 301)):     # the first 300 are too old
        health.latency(milliseconds / 1e3)
    values = {v.key: v.value for v in health.status('x').values}
    assert values == {'latency_ms_median': '150.50', 'latency_ms_p95': '286.00'}
