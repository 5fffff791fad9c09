"""Counters: every problem counted, the first of a kind logged; rates over the last seconds."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros.problem_counts import Cause, Health       # noqa: E402,I100,I202
from diagnostic_msgs.msg import DiagnosticStatus        # noqa: E402


class Log:
    """Collects warnings."""

    def __init__(self):
        """Start empty."""
        self.warnings = []

    def warning(self, text):
        """Store one."""
        self.warnings.append(text)


class Clock:
    """Goes as the test says, s."""

    def __init__(self):
        """Start."""
        self.now_s = 100.0

    def __call__(self):
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(Log(), clock)


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
    assert health.detail('dropped: unreadable image') == 'encoding y'
    assert health.detail('problem: none') == ''


def test_it_warns_of_problems_since_the_last_status_and_names_the_most_frequent_one(health):
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


def test_what_is_unremarkable_is_counted_and_logged_and_is_no_reason_to_warn():
    log = Log()
    health = Health(log, unremarkable=['problem: rest'])
    for _ in range(3):
        health.problem('rest')
    status = health.status('x')
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'OK')
    assert [(v.key, v.value) for v in status.values] == [('problem: rest', '3')]
    assert log.warnings == ['rest (logged once, counted in /diagnostics)']
    health.problem('rest')
    health.drop('rest')
    status = health.status('x')
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN, '1 new problems, most often dropped: rest')


def test_causes_give_the_worst_level_and_all_texts_the_worst_first(health):
    health.problem('invalid pose')          # a cause that is known says more
    status = health.status('x', [Cause(DiagnosticStatus.WARN, 'a'),
                                 Cause(DiagnosticStatus.ERROR, 'b')], 'policy never')
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, 'b; a')
    status = health.status('x', note='policy never')
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'policy never')


def test_latency_is_told_as_percentiles_of_the_newest_frames(health):
    for milliseconds in [1000] * 300 + list(range(1, 301)):     # the first 300 are too old
        health.latency(milliseconds / 1e3)
    values = {v.key: v.value for v in health.status('x').values}
    assert values == {
        'latency_ms_p50': '151.00', 'latency_ms_p95': '286.00', 'latency_ms_p99': '298.00'}


def test_rates_go_over_the_last_seconds_and_not_over_the_whole_life(health, clock):
    assert health.rate('images') == 0.0
    for hz in [30] * 20 + [10] * 6:         # a status each second
        for _ in range(hz):
            health.heard('images')
        clock.now_s += 1.0
        health.status('x')
    assert health.rate('images') == pytest.approx(10.0)
    assert health.recent('images', 5.0) == 50
    assert health.recent('images', 60.0) == 20 * 30 + 6 * 10
    for _ in range(70):
        clock.now_s += 1.0
        health.status('x')
    assert health.rate('images') == 0.0 and health.recent('images', 60.0) == 0
    # Private: nothing public shows how much is kept.
    assert len(health._ticks) == 61         # bounded


def test_drops_and_problems_have_recent_counts_too(health, clock):
    health.drop('unreadable image')
    health.problem('invalid pose')
    assert health.recent('dropped: unreadable image') == 1
    assert health.rises('dropped: ') == {'unreadable image': 1}
    for _ in range(7):
        clock.now_s += 1.0
        health.status('x')
    assert health.recent('dropped: unreadable image') == 0
    assert not health.rises('dropped: ')


def test_silence_is_told_of_what_is_expected_only(health, clock):
    clock.now_s += 5.0
    assert health.silence_s('images') == 0.0
    health.expect('images', 'poses')
    clock.now_s += 2.0
    health.heard('poses')
    clock.now_s += 1.0
    assert (health.silence_s('images'), health.silence_s('poses')) == (3.0, 1.0)
