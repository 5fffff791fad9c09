"""How much of the machine training may take: it yields first."""

from __future__ import annotations

import math
from pathlib import Path
import time
from typing import Callable

SHARE = 'limits.max_train_share holds'
RATE = 'limits.max_steps_hz holds'
DEPTH = 'limits.min_depth_hz holds: a frame takes too long'
HEAT = 'limits.max_celsius holds'

_NEWEST = 0.2           # weight of a frame in the running mean of what one takes
_HEAT_S = 1.0           # a temperature is good for so long
_ZONES = Path('/sys/class/thermal')


class OperatingLimits:
    """
    Says whether there is room for a training step; without limits always, without a look.

    predicted may be called by one thread, change by another, and the rest by others.

    :param max_train_share: most of the time that goes to steps, 0 to 1; 1 is no limit. A step is
        followed by a rest that makes up for it.
    :param max_steps_hz: most steps a second; 0 is no limit.
    :param min_depth_hz: least rate at which frames could be predicted, by what the last ones took;
        0 is no limit.
    :param max_celsius: ceiling of the hottest sensor's temperature; 0 is no limit, and there is
        none where no sensor reports.
    :param now_s: a clock that never jumps, s.
    :param hottest: gives the temperature, nan where no sensor tells.
    """

    def __init__(
        self, *, max_train_share: float = 1.0, max_steps_hz: float = 0.0,
        min_depth_hz: float = 0.0,
        max_celsius: float = 0.0, now_s: Callable[[], float] = time.monotonic,
        hottest: Callable[[], float] = lambda: hottest_celsius()
    ):
        """Start rested."""
        self._now_s, self._hottest = now_s, hottest
        self._frame_s = math.nan
        self._heat, self._heat_until_s = math.nan, -math.inf
        self.change(max_train_share=max_train_share, max_steps_hz=max_steps_hz,
                    min_depth_hz=min_depth_hz, max_celsius=max_celsius)

    def change(self, *, max_train_share: float, max_steps_hz: float, min_depth_hz: float,
               max_celsius: float) -> None:
        """Go on rested, with other limits."""
        self._max_train_share, self._max_steps_hz = max_train_share, max_steps_hz
        self._min_depth_hz, self._max_celsius = min_depth_hz, max_celsius
        self._rested_s = self._next_s = -math.inf

    def reason(self) -> str:
        """Give which limit holds training back now, one of a few fixed texts, or ''."""
        if self._max_train_share < 1.0 and self._now_s() < self._rested_s:
            return SHARE
        if self._max_steps_hz and self._now_s() < self._next_s:
            return RATE
        if self._min_depth_hz and self._frame_s * self._min_depth_hz > 1.0:
            return DEPTH
        return HEAT if self._max_celsius and self._temperature() >= self._max_celsius else ''

    def stepped(self, seconds: float) -> None:
        """Take note of a step that ended now."""
        now_s = self._now_s()
        if self._max_train_share < 1.0:
            rest = 1.0 / self._max_train_share - 1.0 if self._max_train_share > 0.0 else math.inf
            self._rested_s = now_s + seconds * rest
        if self._max_steps_hz:
            self._next_s = now_s - seconds + 1.0 / self._max_steps_hz

    def predicted(self, seconds: float) -> None:
        """Take note of what a frame took."""
        before = self._frame_s if math.isfinite(self._frame_s) else seconds
        self._frame_s = before + _NEWEST * (seconds - before)

    def _temperature(self) -> float:
        if self._now_s() >= self._heat_until_s:
            self._heat = self._hottest()
            self._heat_until_s = self._now_s() + _HEAT_S
        return self._heat


def hottest_celsius(zones: Path = _ZONES) -> float:
    """Give the temperature of the hottest sensor, as Linux and Jetson tell; nan without any."""
    found = []
    for sensor in zones.glob('thermal_zone*/temp'):
        try:
            found.append(int(sensor.read_text()) / 1e3)
        except (OSError, ValueError):       # some sensors sleep, and say so by an error
            continue
    return max(found, default=math.nan)
