"""The gain network that goes on learning online, trusted as far as its predictions hold."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.decision.policy import State
from dectrain_ros.decision.published.agreement import rank_correlation
from dectrain_ros.decision.published.gain_network import Examples, GainNetwork, Layers
from dectrain_ros.decision.published.learning import (
    calibrated, loss_of, regress, Schedule, TrainingRows)
import numpy as np

_FIFO = 300         # recent examples kept
_DRAWN = 32         # of them, and of the stored ones: to train on, and as many to validate on
_LEAST_HELD_OUT = 8     # fewer examples cannot tell a better network from a worse one
_SCHEDULE = Schedule(epochs=10, batch=16, patience=5)


class Example(NamedTuple):
    """One step: the features before it, (F,) float32, and the change by it."""

    features: np.ndarray
    change: float


class Drawn(NamedTuple):
    """What one adaptation is trained on, and validated on; no example is in both."""

    train: Examples
    validation: Examples


class OnlineGain:
    """
    Predicts gains and learns from the steps taken (DecTrain, ALGORITHMS.md 5.4).

    The source accepts every adapted network. [ours] One is accepted only if it is better than the
    one in use on examples held out from it, and its slope is not negative. Predictions are
    compared with the realised gains; while they do not agree, or are nan, trusted is false: a
    policy should then train by a fixed schedule, whose steps can restore the trust.

    correlation: rank correlation of predicted and realised gain over the last window steps, nan
    where either does not vary. accepted, rejected: number of adaptations. basis: the features and
    the fitted network, which the state depends on.

    :param stored: offline examples to rehearse; those of the network if not given.
    :param min_correlation: least correlation at which predictions are trusted; lost trust is
        restored at recovery above it. One step's change is mostly noise, so what is not surely
        negative is trusted: two standard errors of the correlation over a full window.
    :param judged_from: steps before which the correlation is not looked at.
    :raises ValueError: if judged_from is out of its range, or stored has other features.
    """

    def __init__(
        self, network: GainNetwork, stored: Optional[Examples] = None, *, seed: int = 0,
        min_correlation: float = -0.2, recovery: float = 0.1, window: int = 100,
        judged_from: int = 50
    ):
        """Start with the network as it was fitted, trusted."""
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
        self._recent: Deque[Example] = deque(maxlen=_FIFO)
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
        """Whether the change measured online predicts that of the target."""
        return self._network.proxy.slope > 0.0

    @property
    def trusted(self) -> bool:
        """Whether the predictions may decide."""
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

    def state_dict(self) -> Dict[str, Any]:
        """Return the network in use, recent examples, predictions compared, and random stream."""
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

    def load_state_dict(self, state: State) -> None:
        """
        Restore what state_dict returned.

        :raises KeyError, TypeError, ValueError: if the state is of something else.
        """
        self._network = self._network.replaced(
            layers=Layers(*(state[name] for name in Layers._fields)), slope=state['slope'],
            intercept=state['intercept'])
        self._recent = deque(map(Example, state['features'], state['changes'].tolist()), _FIFO)
        self._record = deque(map(tuple, state['record'].tolist()), self._record.maxlen)
        self.correlation, self._agrees, self._broken, self.accepted, self.rejected = (
            state[name] for name in ('correlation', 'agrees', 'broken', 'accepted', 'rejected'))
        self._rng.bit_generator.state = state['random']

    def predict(self, features: Sequence[float]) -> float:
        """
        Predict the gain of a step; nan, and no longer trusted, if the network is broken.

        :param features: in the order of the network's feature_names, (F,).
        """
        gain = self._network.predict(features)
        self._broken = not math.isfinite(gain)
        return gain

    def learn(self, features: Sequence[float], change: float) -> bool:
        """
        Learn from a step.

        :param features: those the gain was predicted from, (F,).
        :param change: relative change by the step, as it was measured, negative is good; nothing
            is learned where it is not finite, nor by a network that does not learn.
        :returns: whether the network was changed.
        """
        if not (self.learns and math.isfinite(change)):
            return False
        features = np.array(features, np.float32)
        self._compare(self.predict(features), -change)
        proxy = self._network.proxy
        example = Example(features, proxy.slope * change + proxy.intercept)
        drawn = draw(example, self._recent, self._stored, self._rng)
        self._recent.append(example)
        adapted = self._adapted(drawn) if drawn else None
        if adapted is None:
            self.rejected += 1
            return False
        self._network = adapted
        self.accepted += 1
        return True

    def _compare(self, predicted: float, realised: float) -> None:
        """Compare a prediction with the realised gain, before learning from it."""
        if self._broken:
            return
        self._record.append((predicted, realised))
        ours, theirs = np.array(self._record).T
        self.correlation = rank_correlation(ours, theirs)
        if len(self._record) >= self._judged_from:
            least, enough = self._thresholds
            # nan, of a network that predicts the same for every frame, is no agreement.
            self._agrees = self.correlation >= (least if self._agrees else enough)

    def _adapted(self, drawn: Drawn) -> Optional[GainNetwork]:
        """Return the network adapted to the drawn examples, None if it is no better."""
        now, scaling = self._network, self._network.scaling
        rows = [TrainingRows(now.standardised(part.features), scaling.targets(part.change))
                for part in drawn]
        learned = regress(now.layers, *rows, _SCHEDULE, self._rng)
        raw = now.replaced(layers=learned.layers, slope=1.0, intercept=0.0)
        line = calibrated(-raw.gains(drawn.train.features), drawn.train.change)
        if not line.slope >= 0:     # the wrong way round, or nan
            return None
        adapted = raw.replaced(slope=line.slope, intercept=line.intercept)
        return adapted if _error(adapted, drawn) < _error(now, drawn) else None


def draw(
    new: Example, recent: Sequence[Example], stored: Examples, rng: np.random.Generator
) -> Optional[Drawn]:
    """
    Draw the examples to train on, the new one among them, and those to validate on.

    :returns: None while there are too few to validate on.
    """
    count = len(recent)
    # Neighbours in time are alike: one stretch of the past validates, the rest trains.
    turned = np.roll(np.arange(count), -int(rng.integers(max(count, 1))))
    held_out, trained = (rng.permutation(part)[:_DRAWN] for part in (
        turned[:count // 2], turned[count // 2:]))
    rehearsed = rng.permutation(len(stored.change))[:2 * _DRAWN]
    half = len(rehearsed) // 2
    if len(held_out) + half < _LEAST_HELD_OUT:
        return None
    return Drawn(
        _examples([new, *(recent[k] for k in trained)], stored, rehearsed[half:]),
        _examples([recent[k] for k in held_out], stored, rehearsed[:half]))


def _examples(recent: Sequence[Example], stored: Examples, rehearsed: np.ndarray) -> Examples:
    rows = [*recent, *(Example(stored.features[k], stored.change[k]) for k in rehearsed)]
    return Examples(np.array([row.features for row in rows], np.float32),
                    np.array([row.change for row in rows], np.float32))


def _error(network: GainNetwork, drawn: Drawn) -> float:
    """Return the loss of the calibrated gains on the validation examples, nan if not finite."""
    targets = network.scaling.targets
    features, change = drawn.validation
    return loss_of(targets(-network.gains(features)), targets(change))
