"""What a training step costs: in FLOPs, in milliseconds or in joules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
import math
import statistics
from typing import Deque, Dict, List, Mapping, NamedTuple, Sequence

from dectrain_ros.decision.power import find_sensor, PowerSensor

SOURCES = ('flops', 'milliseconds', 'joules')
_WINDOW = 31            # steps of the running median: not disturbed by a burst of other load
_FIRST = 5              # steps whose median is a cost of 1: the very first warms the device up


class Spent(NamedTuple):
    """Time and energy of one step; nan where not measured."""

    seconds: float
    joules: float = math.nan


class StepAmounts:
    """
    Running median of the amounts that steps took.

    :param window: steps of the median.
    """

    def __init__(self, window: int = _WINDOW):
        """Start without a step."""
        self._amounts: Deque[float] = deque(maxlen=window)
        self.median = math.nan

    def __len__(self) -> int:
        """Return the number of steps of the median."""
        return len(self._amounts)

    def add(self, amount: float) -> None:
        """Add a step; an amount that is not positive and finite is ignored."""
        if amount > 0.0 and math.isfinite(amount):
            self._amounts.append(amount)
            self.median = statistics.median(self._amounts)

    def state_dict(self) -> Dict[str, List[float]]:
        """Return the amounts of the median."""
        return {'amounts': list(self._amounts)}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Restore what state_dict returned."""
        self._amounts.clear()
        self.median = math.nan
        for amount in state['amounts']:
            self.add(amount)


class CostModel(ABC):
    """
    The cost of a training step.

    unit: of the amounts.
    """

    unit: str

    def observe(self, seconds: float) -> Spent:
        """
        Record a step that has just ended.

        :param seconds: its time, the device synchronised on both sides.
        :returns: time and energy, for its StepResult.
        """
        return Spent(seconds)

    @abstractmethod
    def cost(self) -> float:
        """Return the cost of a step, in steps as first measured; always a number."""

    @abstractmethod
    def amount(self) -> float:
        """Return the amount that a step takes, in unit; nan where it is not known."""


class FlopCost(CostModel):
    """
    FLOPs, counted once and so the same in every run; a step costs exactly 1.

    :param flops: of a step, as executed (FlopCounterMode, 2 x MAC); nan where not counted.
    :raises ValueError: if the count is not positive.
    """

    unit = 'FLOP'

    def __init__(self, flops: float = math.nan):
        """Check the count."""
        if not (math.isnan(flops) or 0.0 < flops < math.inf):
            raise ValueError(f'a step is counted at {flops} FLOPs: it must be positive')
        self._flops = flops

    def cost(self) -> float:
        """Return 1."""
        return 1.0

    def amount(self) -> float:
        """Return the FLOPs of a step."""
        return self._flops


class TimeCost(CostModel):
    """Running median of measured milliseconds."""

    unit = 'ms'

    def __init__(self):
        """Start without a measurement."""
        self._amounts = StepAmounts()
        self._one = math.nan            # a step as first measured

    def observe(self, seconds: float) -> Spent:
        """Record the milliseconds of a step that has just ended."""
        self._add(seconds * 1e3)
        return Spent(seconds)

    def cost(self) -> float:
        """Return the cost of a step, in steps as first measured; 1 until enough were."""
        return 1.0 if math.isnan(self._one) else self.amount() / self._one

    def amount(self) -> float:
        """Return the median of recent steps, in unit."""
        return self._amounts.median

    def _add(self, amount: float) -> None:
        self._amounts.add(amount)
        if math.isnan(self._one) and len(self._amounts) >= _FIRST:
            self._one = self._amounts.median


class EnergyCost(TimeCost):
    """
    Running median of joules: the power right after a step, which sensors average, times its time.

    :param sensor: of the device's power.
    """

    unit = 'J'

    def __init__(self, sensor: PowerSensor):
        """Start without a measurement."""
        super().__init__()
        self._sensor = sensor

    def observe(self, seconds: float) -> Spent:
        """Record the joules of a step that has just ended."""
        spent = Spent(seconds, self._sensor.watts() * seconds)
        self._add(spent.joules)
        return spent


def make_cost_model(source: str, flops: float = math.nan) -> CostModel:
    """
    Make the cost model of a source.

    :param source: 'flops', 'milliseconds' or 'joules'.
    :param flops: of a step, nan where not counted.
    :raises ValueError: if there is no such source, or no power sensor on this machine.
    """
    if source == 'joules':
        return EnergyCost(find_sensor())
    if source not in SOURCES:
        raise ValueError(f'{source!r} is no source of cost: use {", ".join(SOURCES)}')
    return FlopCost(flops) if source == 'flops' else TimeCost()
