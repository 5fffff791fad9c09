"""Limits on the time, rate and heat of training."""

from __future__ import annotations

import math
from pathlib import Path
import time
from typing import Callable

SHARE = 'limits.max_train_share is reached'
RATE = 'limits.max_steps_hz is reached'
DEPTH = 'limits.min_depth_hz: frames take too long'
HEAT = 'limits.max_celsius is reached'

_NEWEST = 0.2           # weight of the newest frame in the running mean of inference time
_HEAT_S = 1.0           # time between readings of the temperature
_ZONES = Path('/sys/class/thermal')


class OperatingLimits:
    """
    Decides whether the machine's limits allow a training step now.

    Thread-safe for one thread each that calls predicted, change, and the other methods; any may
    call reason.

    :param max_train_share: greatest share of time for steps, 0 to 1; 1 is no limit. Every step is
        followed by a pause of matching length.
    :param max_steps_hz: most steps per second; 0 is no limit.
    :param min_depth_hz: no training while recent inference times allow less than this rate, Hz;
        0 is no limit.
    :param max_celsius: no training while the hottest sensor is at least this warm; 0 is no limit.
        Without a sensor it has no effect.
    :param now_s: a monotonic clock, s.
    :param hottest: returns the temperature in degrees Celsius, nan without a sensor.
    """

    def __init__(
        self, *, max_train_share: float = 1.0, max_steps_hz: float = 0.0,
        min_depth_hz: float = 0.0,
        max_celsius: float = 0.0, now_s: Callable[[], float] = time.monotonic,
        hottest: Callable[[], float] = lambda: hottest_celsius()
    ):
        """Start without a pause pending."""
        self._now_s, self._hottest = now_s, hottest
        self._frame_s = math.nan
        self._celsius, self._read_again_s = math.nan, -math.inf
        self.change(max_train_share=max_train_share, max_steps_hz=max_steps_hz,
                    min_depth_hz=min_depth_hz, max_celsius=max_celsius)

    def change(self, *, max_train_share: float, max_steps_hz: float, min_depth_hz: float,
               max_celsius: float) -> None:
        """Replace the limits, and end a pause that is pending."""
        self._max_train_share, self._max_steps_hz = max_train_share, max_steps_hz
        self._min_depth_hz, self._max_celsius = min_depth_hz, max_celsius
        self._paused_until_s = self._next_s = -math.inf

    def reason(self) -> str:
        """Return the limit that forbids training now, one of the module's constants, or ''."""
        if self._max_train_share < 1.0 and self._now_s() < self._paused_until_s:
            return SHARE
        if self._max_steps_hz and self._now_s() < self._next_s:
            return RATE
        if self._min_depth_hz and self._frame_s * self._min_depth_hz > 1.0:
            return DEPTH
        return HEAT if self._max_celsius and self._temperature() >= self._max_celsius else ''

    def stepped(self, seconds: float) -> None:
        """Account for a step that ended now and took so many seconds."""
        now_s = self._now_s()
        if self._max_train_share < 1.0:
            share = self._max_train_share
            pause = 1.0 / share - 1.0 if share > 0.0 else math.inf      # of the step's time
            self._paused_until_s = now_s + seconds * pause
        if self._max_steps_hz:
            self._next_s = now_s - seconds + 1.0 / self._max_steps_hz

    def predicted(self, seconds: float) -> None:
        """Account for the inference time of a frame, s."""
        before = self._frame_s if math.isfinite(self._frame_s) else seconds
        self._frame_s = before + _NEWEST * (seconds - before)

    def _temperature(self) -> float:
        if self._now_s() >= self._read_again_s:
            self._celsius = self._hottest()
            self._read_again_s = self._now_s() + _HEAT_S
        return self._celsius


def hottest_celsius(zones: Path = _ZONES) -> float:
    """Return the hottest sensor's temperature on Linux, degrees Celsius; nan without any."""
    found = []
    for sensor in zones.glob('thermal_zone*/temp'):
        try:
            found.append(int(sensor.read_text()) / 1e3)
        except (OSError, ValueError):       # a sensor that is powered down
            continue
    return max(found, default=math.nan)
