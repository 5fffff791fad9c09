"""The gain network as it goes on learning on the robot, watched by its own record."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.decision.policy import Memory
from dectrain_ros.decision.published.agreement import correlation, ranks
from dectrain_ros.decision.published.gain_network import GainNetwork, Layers, Outcomes
from dectrain_ros.decision.published.learning import calibrated, loss_of, regress, Rows, Schedule
import numpy as np

_FIFO = 300         # recent outcomes kept
_DRAWN = 32         # of them, and of the stored ones: to learn from, and as many to validate on
_JUDGES = 8         # fewer outcomes tell no better network from a worse one
_SCHEDULE = Schedule(epochs=10, batch=16, patience=5)


class Outcome(NamedTuple):
    """One step taken: the features before it, (F,) float32, and the change it brought."""

    features: np.ndarray
    change: float


class Drawn(NamedTuple):
    """What one adaptation learns from, and what it is judged by; no row is in both."""

    train: Outcomes
    validation: Outcomes


class OnlineGain:
    """
    Predicts gains and learns from the steps taken (DecTrain, ALGORITHMS.md 5.4).

    The source accepts every adapted network. [ours] One is accepted only if it is better than the
    one in use on outcomes held back from it, and its slope is not negative. Predictions are
    compared with what came; while they do not agree, or are nan, trusted is false: a policy should
    then go by a fixed schedule, whose outcomes can bring the trust back.

    correlation is the rank correlation of predicted and realised gain over the last window
    outcomes, nan where either does not vary; accepted and rejected count adaptations. basis names
    the features and the network as fitted: what is learnt stands on them.

    :param stored: offline outcomes to rehearse; those that came with the network if not given.
    :param min_correlation: least correlation to be trusted by; trust lost comes back at recovery
        above it. One step's outcome is mostly noise, so what is not surely negative is trusted:
        two standard errors of the correlation over a full window.
    :param judged_from: outcomes before which the record is too short to judge by.
    :raises ValueError: if judged_from is out of its range, or stored has other features.
    """

    def __init__(
        self, network: GainNetwork, stored: Optional[Outcomes] = None, *, seed: int = 0,
        min_correlation: float = -0.2, recovery: float = 0.1, window: int = 100,
        judged_from: int = 50
    ):
        """Start with the network as it was fitted, trusted until its record says otherwise."""
        if not 3 <= judged_from <= window:
            raise ValueError(
                f'judged_from is {judged_from}: it must be between 3 and the window, {window}')
        self._stored = network.stored if stored is None else stored
        wide = (len(self._stored.change), len(network.feature_names))
        if len(self._stored.change) and self._stored.features.shape != wide:
            raise ValueError(
                f'stored features are {self._stored.features.shape}: they must be {wide}, those '
                f'of {network.feature_set!r}; fit the decision anew')
        self.basis = {'features': f'{network.feature_set}: {", ".join(network.feature_names)}',
                      'gain_network': network.digest}
        self._network = network
        self._thresholds = (min_correlation, min_correlation + recovery)
        self._judged_from = judged_from
        self._rng = np.random.default_rng(seed)
        self._recent: Deque[Outcome] = deque(maxlen=_FIFO)
        self._record: Deque[Tuple[float, float]] = deque(maxlen=window)
        self._broken, self._agrees = False, True
        self.correlation = math.nan
        self.accepted = self.rejected = 0

    @property
    def network(self) -> GainNetwork:
        """The network in use."""
        return self._network

    @property
    def learns(self) -> bool:
        """Whether the change a robot is told of says anything of the target."""
        return self._network.told.slope > 0.0

    @property
    def trusted(self) -> bool:
        """Whether to go by the predictions."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why the predictions are not to be trusted; '' if they are."""
        if self._broken:
            return 'the gain network gives nan'
        if not self._agrees:
            return (f'predicted and realised gain correlate by {self.correlation:.2f} over '
                    f'{len(self._record)} steps')
        return ''

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt: the network in use, recent outcomes, record and random stream."""
        network, recent = self._network, self._recent
        wide = len(recent), len(network.feature_names)
        return {
            **network.layers._asdict(), 'slope': network.slope, 'intercept': network.intercept,
            'features': np.array([row.features for row in recent], np.float32).reshape(wide),
            'changes': np.array([row.change for row in recent], np.float64),
            'record': np.array(self._record, np.float64).reshape(-1, 2),
            'correlation': float(self.correlation), 'agrees': bool(self._agrees),
            'broken': self._broken, 'accepted': self.accepted, 'rejected': self.rejected,
            'random': self._rng.bit_generator.state}

    def remember(self, memory: Memory) -> None:
        """
        Take what memory gave.

        :raises KeyError, TypeError, ValueError: if it gave something else.
        """
        self._network = self._network.replaced(
            layers=Layers(*(memory[name] for name in Layers._fields)), slope=memory['slope'],
            intercept=memory['intercept'])
        self._recent = deque(map(Outcome, memory['features'], memory['changes'].tolist()), _FIFO)
        self._record = deque(map(tuple, memory['record'].tolist()), self._record.maxlen)
        self.correlation, self._agrees, self._broken, self.accepted, self.rejected = (
            memory[name] for name in ('correlation', 'agrees', 'broken', 'accepted', 'rejected'))
        self._rng.bit_generator.state = memory['random']

    def predict(self, features: Sequence[float]) -> float:
        """
        Predict the gain of a step; nan, and no trust, if the network is broken.

        :param features: in the order of the network's feature_names, (F,).
        """
        gain = self._network.predict(features)
        self._broken = not math.isfinite(gain)
        return gain

    def learn(self, features: Sequence[float], change: float) -> bool:
        """
        Learn from a step that was taken.

        :param features: what the gain was predicted from, (F,).
        :param change: relative change of the target by the step, negative is good; nothing is
            learned where it is not finite, nor by a network that does not learn.
        :returns: whether the network was changed.
        """
        if not (self.learns and math.isfinite(change)):
            return False
        features = np.array(features, np.float32)
        self._judge(self.predict(features), -change)
        told = self._network.told
        change = told.slope * change + told.intercept
        drawn = draw(Outcome(features, change), self._recent, self._stored, self._rng)
        self._recent.append(Outcome(features, change))
        adapted = self._adapted(drawn) if drawn else None
        if adapted is None:
            self.rejected += 1
            return False
        self._network = adapted
        self.accepted += 1
        return True

    def _judge(self, predicted: float, realised: float) -> None:
        """Put a prediction made before learning beside what came, and see how they agree."""
        if self._broken:
            return
        self._record.append((predicted, realised))
        ours, theirs = np.array(self._record).T
        self.correlation = correlation(ranks(ours), ranks(theirs))
        if len(self._record) >= self._judged_from:
            least, enough = self._thresholds
            # A network that says the same of every frame has no opinion: nan is not agreement.
            self._agrees = self.correlation >= (least if self._agrees else enough)

    def _adapted(self, drawn: Drawn) -> Optional[GainNetwork]:
        """Give the network adapted to what was drawn, None if it is no better."""
        now, scaling = self._network, self._network.scaling
        lessons = [Rows(now.standardised(part.features), scaling.targets(part.change))
                   for part in drawn]
        learned = regress(now.layers, *lessons, _SCHEDULE, self._rng)
        raw = now.replaced(layers=learned.layers, slope=1.0, intercept=0.0)
        line = calibrated(-raw.gains(drawn.train.features), drawn.train.change)
        if not line.slope >= 0:     # turned round, or without an opinion
            return None
        adapted = raw.replaced(slope=line.slope, intercept=line.intercept)
        return adapted if _error(adapted, drawn) < _error(now, drawn) else None


def draw(
    new: Outcome, recent: Sequence[Outcome], stored: Outcomes, rng: np.random.Generator
) -> Optional[Drawn]:
    """
    Draw what to learn from, the new outcome with it, and what to be judged by.

    :returns: None while there is too little to be judged by.
    """
    count = len(recent)
    # Neighbours in time resemble each other: one stretch of the past judges, the rest teaches.
    turned = np.roll(np.arange(count), -int(rng.integers(max(count, 1))))
    judges, teachers = (rng.permutation(part)[:_DRAWN] for part in (
        turned[:count // 2], turned[count // 2:]))
    rehearsed = rng.permutation(len(stored.change))[:2 * _DRAWN]
    half = len(rehearsed) // 2
    if len(judges) + half < _JUDGES:
        return None
    return Drawn(
        _outcomes([new, *(recent[k] for k in teachers)], stored, rehearsed[half:]),
        _outcomes([recent[k] for k in judges], stored, rehearsed[:half]))


def _outcomes(recent: Sequence[Outcome], stored: Outcomes, rehearsed: np.ndarray) -> Outcomes:
    rows = [*recent, *(Outcome(stored.features[k], stored.change[k]) for k in rehearsed)]
    return Outcomes(np.array([row.features for row in rows], np.float32),
                    np.array([row.change for row in rows], np.float32))


def _error(network: GainNetwork, drawn: Drawn) -> float:
    """Give the loss of the calibrated gains on the validation outcomes; nan if they are broken."""
    targets = network.scaling.targets
    features, change = drawn.validation
    return loss_of(targets(-network.gains(features)), targets(change))
