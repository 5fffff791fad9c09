"""FLOPs and time of the work of an evaluation."""

from __future__ import annotations

import time
from typing import Callable, Dict, Hashable, Optional

from dectrain_ros.depth.flops import flop_counter
import torch


class Costs:
    """
    FLOPs and milliseconds of the work for one purpose.

    :param device: runs the work; measurements wait for it at both ends.
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == 'cuda'
        self.flops = 0
        self.calls = 0
        self.last_ms = 0.0
        self._timed = 0
        self._seconds = 0.0
        self._flops_of: Dict[Hashable, int] = {}

    def charge(
        self, kind: Optional[Hashable], work: Callable, whole: Callable = lambda result: True
    ):
        """
        Do the work, add its cost, and return its result.

        FLOPs are counted the first time that a kind of work is done: its shapes, and so its FLOPs,
        stay the same. Counting slows work down, so the first time is not timed.

        :param kind: names work of the same shapes; None is work whose shapes differ from call to
            call: it is counted every time, and timed with the counting.
        :param whole: whether the work was done to its end; FLOPs of work that broke off are not
            reused for its kind.
        """
        if kind is None or kind not in self._flops_of:
            started = self._now()
            with flop_counter() as counter:
                result = work()
            flops = counter.get_total_flops()
            self.last_ms = float('nan')
            if kind is None:
                self._note(self._now() - started)
            elif whole(result):
                self._flops_of[kind] = flops
        else:
            started = self._now()
            result = work()
            self._note(self._now() - started)
            flops = self._flops_of[kind]
        self.calls += 1
        self.flops += flops
        return result

    def _note(self, elapsed: float) -> None:
        self._timed += 1
        self._seconds += elapsed
        self.last_ms = elapsed * 1e3

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    @property
    def ms(self) -> float:
        """Time of all calls, those not timed taken as the mean of the others; nan if none was."""
        if not self.calls:
            return 0.0
        return self._seconds * 1e3 * self.calls / self._timed if self._timed else float('nan')
