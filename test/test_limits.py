"""Operating limits: training yields, and says to which."""

from concurrent.futures import ThreadPoolExecutor
import math

from dectrain_ros.composition import compose, threads_beside_a_camera
from dectrain_ros.frames import Decision
from dectrain_ros.training.throttle import (
    DEPTH, HEAT, hottest_celsius, OperatingLimits, RATE, SHARE)
from dectrain_ros.training.worker import Worker
import pytest
from scenes import config, frame, weights_file
import torch


class Clock:
    """A clock that the test moves."""

    now_s = 100.0

    def __call__(self):
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_without_limits_nothing_is_looked_at():
    limits = OperatingLimits(now_s=lambda: 1 / 0, hottest=lambda: 1 / 0)
    limits.predicted(1e9)
    assert limits.reason() == ''


def test_a_step_is_followed_by_the_rest_that_its_share_asks_for(clock):
    limits = OperatingLimits(max_train_share=0.25, now_s=clock)
    assert limits.reason() == ''
    limits.stepped(2.0)             # then 6 s of rest: 2 of 8
    clock.now_s += 5.99
    assert limits.reason() == SHARE
    clock.now_s += 0.02
    assert limits.reason() == ''


def test_steps_come_no_more_often_than_they_may(clock):
    limits = OperatingLimits(max_steps_hz=4.0, now_s=clock)
    limits.stepped(0.1)             # began 0.1 s ago: the next may begin in 0.15 s
    clock.now_s += 0.14
    assert limits.reason() == RATE
    clock.now_s += 0.02
    assert limits.reason() == ''


def test_other_limits_hold_from_now_on(clock):
    limits = OperatingLimits(max_train_share=0.01, now_s=clock)
    limits.stepped(1.0)
    assert limits.reason() == SHARE
    limits.change(max_train_share=1.0, max_steps_hz=4.0, min_depth_hz=0.0, max_celsius=0.0)
    assert limits.reason() == ''
    limits.stepped(0.1)
    assert limits.reason() == RATE
    limits.change(max_train_share=1.0, max_steps_hz=0.0, min_depth_hz=0.0, max_celsius=0.0)
    assert limits.reason() == ''


def test_training_yields_while_frames_take_too_long_and_comes_back(clock):
    limits = OperatingLimits(min_depth_hz=10.0, now_s=clock)
    assert limits.reason() == ''
    limits.predicted(0.09)
    assert limits.reason() == ''
    limits.predicted(0.19)          # 0.09 + 0.2 * 0.1 = 0.11 s
    assert limits.reason() == DEPTH
    limits.predicted(0.05)          # 0.11 - 0.2 * 0.06 = 0.098 s
    assert limits.reason() == ''


def test_heat_holds_training_and_is_asked_for_once_a_second(clock):
    told = [79.0, 80.0, 81.0, math.nan]
    limits = OperatingLimits(max_celsius=80.0, now_s=clock, hottest=lambda: told.pop(0))
    held = []
    for _ in range(4):
        held += [limits.reason(), limits.reason()]
        clock.now_s += 1.0
    assert held == ['', '', HEAT, HEAT, HEAT, HEAT, '', '']


def test_the_hottest_sensor_counts_and_one_that_sleeps_does_not(tmp_path):
    assert math.isnan(hottest_celsius(tmp_path))
    for k, text in enumerate(('41000', '56500', 'not now')):
        zone = tmp_path / f'thermal_zone{k}'
        zone.mkdir()
        (zone / 'temp').write_text(text)
    assert hottest_celsius(tmp_path) == 56.5


def test_a_decision_is_answered_with_the_limit_that_holds(tmp_path):
    pipeline = compose(config(weights_file(tmp_path), 'limits.max_steps_hz=0.001',
                              'safety.forgetting_every=0'))
    results = []
    for k in range(4):
        seen = pipeline.observe(frame(k))
        results.append(pipeline.train(
            Decision(seen.candidate.stamp_ns, seen.candidate.trainable, 'so decided')))
    assert [r.trained for r in results] == [False, True, False, False]
    assert results[2].reason == results[3].reason == pipeline.trainer.safety.limit == RATE


def test_a_frame_that_takes_too_long_holds_training(tmp_path):
    pipeline = compose(config(weights_file(tmp_path), 'limits.min_depth_hz=1000.0',
                              'safety.forgetting_every=0'))
    pipeline.observe(frame(0))
    assert pipeline.trainer.safety.limit == DEPTH


@pytest.fixture
def threads():
    """Set 3 CPU threads for this thread, and restore their number later."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.mark.parametrize('bound, trained_by', [(0, 3), (2, 2)])
def test_training_is_bound_to_its_cpu_threads_and_inference_is_not(
        tmp_path, threads, bound, trained_by):
    pipeline = compose(config(weights_file(tmp_path), f'limits.train_threads={bound}',
                              'safety.forgetting_every=0'))
    worker = Worker(pipeline.train, print, lambda: pipeline.processor.share(trains=True))
    try:
        assert worker.call(torch.get_num_threads).result(30) == trained_by
        with ThreadPoolExecutor(1) as inference:        # begins later: with what was set last
            inference.submit(pipeline.processor.share, False).result(30)
            assert inference.submit(torch.get_num_threads).result(30) == threads
        assert worker.call(torch.get_num_threads).result(30) == trained_by
        assert torch.get_num_threads() == threads
    finally:
        worker.close()


@pytest.mark.parametrize('torchs, usable, taken', [
    (2, 2, 1), (1, 1, 1), (4, 8, 4), (8, 8, 7), (32, 64, 8), (1, 64, 1)])
def test_a_processor_is_left_to_others_beside_a_camera(monkeypatch, torchs, usable, taken):
    monkeypatch.setattr('os.sched_getaffinity', lambda _: set(range(usable)), raising=False)
    monkeypatch.setattr('torch.get_num_threads', lambda: torchs)
    assert threads_beside_a_camera() == taken
