"""What a training step costs: in FLOPs, in milliseconds or in joules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
import math
import statistics
from typing import Deque, Dict, List, Mapping, NamedTuple

from dectrain_ros.decision.power import find_sensor, PowerSensor
from dectrain_ros.frames import Action, Costs

SOURCES = ('flops', 'milliseconds', 'joules')
_WINDOW = 31            # steps a running median goes over: rides out a burst of other load
_FIRST = 5              # full steps whose median is one: the very first warms the device up
_UNKNOWN = Costs(math.nan, math.nan)


class Spent(NamedTuple):
    """What one step took; nan where not measured."""

    seconds: float
    joules: float = math.nan


class StepAmounts:
    """
    Running medians of what steps took, one for each action.

    :param window: steps of an action that its median goes over.
    """

    def __init__(self, window: int = _WINDOW):
        """Start without a step."""
        self._taken: Dict[Action, Deque[float]] = {
            action: deque(maxlen=window) for action in (Action.LIGHT, Action.FULL)}
        self._medians = dict.fromkeys(self._taken, math.nan)

    def add(self, action: Action, amount: float) -> None:
        """Take note of a step; an amount that is not positive and finite was not measured."""
        if amount > 0.0 and math.isfinite(amount):
            self._taken[action].append(amount)
            self._medians[action] = statistics.median(self._taken[action])

    def memory(self) -> Dict[str, List[float]]:
        """Give what the medians go over, for keeping."""
        return {action.value: list(taken) for action, taken in self._taken.items()}

    def remember(self, memory: Mapping[str, List[float]]) -> None:
        """Take what memory gave."""
        for action, taken in self._taken.items():
            taken.clear()
            self._medians[action] = math.nan
            for amount in memory[action.value]:
                self.add(action, amount)

    def count(self, action: Action) -> int:
        """Give the steps that the action's median goes over."""
        return len(self._taken[action])

    def medians(self, light_share: float = math.nan) -> Costs:
        """
        Give the medians; nan where no step tells.

        :param light_share: of a full step that a light one takes, as long as only one of the two
            was measured.
        """
        light, full = self._medians[Action.LIGHT], self._medians[Action.FULL]
        if math.isnan(full):
            full = light / light_share
        if math.isnan(light):
            light = full * light_share
        return Costs(light, full)


class CostModel(ABC):
    """
    What a step of each action costs.

    unit: what amounts are in.
    """

    unit: str

    def observe(self, action: Action, seconds: float) -> Spent:
        """
        Take note of a step that has just ended.

        :param action: light or full.
        :param seconds: that it took, the device synchronised on both sides.
        :returns: what it took, for its StepResult.
        """
        return Spent(seconds)

    @abstractmethod
    def costs(self) -> Costs:
        """Give the cost of a step, in full steps as first measured; full is always a number."""

    @abstractmethod
    def amounts(self) -> Costs:
        """Give what a step takes, in unit; nan where it is not known."""


class FlopCost(CostModel):
    """
    Counted once, so the same in every run; a full step costs exactly 1.

    :param flops: of a step of each action, as executed (FlopCounterMode, 2 x MAC); light is nan
        where there is no light step. Without them a full step costs 1 and a light one is unknown.
    :raises ValueError: if a count is not positive.
    """

    unit = 'FLOP'

    def __init__(self, flops: Costs = _UNKNOWN):
        """Take the counts."""
        self._flops = _checked(flops)

    def costs(self) -> Costs:
        """Give the cost of a step, in full steps."""
        return Costs(self._flops.light / self._flops.full, 1.0)

    def amounts(self) -> Costs:
        """Give the FLOPs of a step."""
        return self._flops


class TimeCost(CostModel):
    """
    Running medians of measured milliseconds.

    :param flops: as for FlopCost; they say what share of a full step a light one takes until both
        were measured.
    """

    unit = 'ms'

    def __init__(self, flops: Costs = _UNKNOWN):
        """Start without a measurement."""
        flops = _checked(flops)
        self._light_share = flops.light / flops.full
        self._amounts = StepAmounts()
        self._one = math.nan            # full step as first measured

    def observe(self, action: Action, seconds: float) -> Spent:
        """Take note of a step that has just ended, and of what it took."""
        spent = Spent(seconds)
        self._note(action, seconds * 1e3)
        return spent

    def costs(self) -> Costs:
        """Give the cost of a step, in full steps as first measured; 1 until one was."""
        light, full = self.amounts()
        if math.isnan(full):
            return Costs(self._light_share, 1.0)
        one = full if math.isnan(self._one) else self._one
        return Costs(light / one, full / one)

    def amounts(self) -> Costs:
        """Give what a step takes, in unit."""
        return self._amounts.medians(self._light_share)

    def _note(self, action: Action, amount: float) -> None:
        self._amounts.add(action, amount)
        if math.isnan(self._one) and self._amounts.count(Action.FULL) >= _FIRST:
            self._one = self._amounts.medians().full


class EnergyCost(TimeCost):
    """
    Running medians of joules: the power right after a step, which sensors average, by its time.

    :param sensor: of the device's power.
    """

    unit = 'J'

    def __init__(self, sensor: PowerSensor, flops: Costs = _UNKNOWN):
        """Start without a measurement."""
        super().__init__(flops)
        self._sensor = sensor

    def observe(self, action: Action, seconds: float) -> Spent:
        """Take note of a step that has just ended, and of what it took."""
        spent = Spent(seconds, self._sensor.watts() * seconds)
        self._note(action, spent.joules)
        return spent


def make_cost_model(source: str, flops: Costs = _UNKNOWN) -> CostModel:
    """
    Make the cost model of a source.

    :param source: 'flops', 'milliseconds' or 'joules'.
    :param flops: of a step of each action, nan where not counted.
    :raises ValueError: if there is no such source, or no power sensor on this machine.
    """
    if source == 'joules':
        return EnergyCost(find_sensor(), flops)
    if source not in SOURCES:
        raise ValueError(f'{source!r} is no source of cost: use {", ".join(SOURCES)}')
    return FlopCost(flops) if source == 'flops' else TimeCost(flops)


def _checked(flops: Costs) -> Costs:
    """Refuse counts that no step has; nan is one that is not known."""
    if any(not (math.isnan(count) or 0.0 < count < math.inf) for count in flops):
        raise ValueError(f'a step is counted at {flops.light} FLOPs light and {flops.full} full: '
                         'both must be positive, nan where not known')
    return flops
