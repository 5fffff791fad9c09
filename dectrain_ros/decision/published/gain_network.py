"""The gain network: predicts the gain of a training step from the features of its frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.checkpoints.checkpoint import digest
from dectrain_ros.checkpoints.files import read_tensors, write_arrays, write_json
from dectrain_ros.decision.feature_sets import FEATURE_SETS
from dectrain_ros.decision.published.step_records import mismatch, read_card
import numpy as np

HIDDEN = 32
_FAR = 10.0         # standard deviations: features are clipped there
_NAMES = ('weight_1', 'bias_1', 'weight_2', 'bias_2', 'weight_3', 'bias_3')
_SHIPPED = Path(__file__).parents[2] / 'assets'
_MAKE = 'fit one with `dectrain fit-decision`'


class Layers(NamedTuple):
    """The MLP F-32-32-1 with ReLU; weights are (outputs, inputs), biases (outputs,)."""

    weight_1: np.ndarray
    bias_1: np.ndarray
    weight_2: np.ndarray
    bias_2: np.ndarray
    weight_3: np.ndarray
    bias_3: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the output, (...), of inputs (..., F)."""
        hidden = np.maximum(inputs @ self.weight_1.T + self.bias_1, 0.0)
        hidden = np.maximum(hidden @ self.weight_2.T + self.bias_2, 0.0)
        return (hidden @ self.weight_3.T + self.bias_3)[..., 0]


class Scaling(NamedTuple):
    """Mean and deviation: of every feature (F,), and of the target, over the rows trained on."""

    mean: np.ndarray
    deviation: np.ndarray
    target_mean: float
    target_deviation: float

    def targets(self, change: np.ndarray) -> np.ndarray:
        """Return the MLP's target output for changes, (N,) float32."""
        return ((change - self.target_mean) / self.target_deviation).astype(np.float32)


class Proxy(NamedTuple):
    """
    A line from the change that a robot measures to the change of the target.

    A robot cannot measure the error of its depth, only the change of a loss, a proxy. slope 0:
    the proxy does not predict the target.
    """

    slope: float = 1.0
    intercept: float = 0.0


class Examples(NamedTuple):
    """Features (N, F) float32, nan where unknown, and the change by a step, (N,) float32."""

    features: np.ndarray
    change: np.ndarray


@dataclass(frozen=True, eq=False)
class GainNetwork:
    """
    Predicts the gain of a full training step (DecTrain, ALGORITHMS.md 5.2).

    Features are standardised, a missing one is taken for its mean, and y_hat is the MLP's output
    in the target's units. The gain is g = -(slope * y_hat + intercept) with slope >= 0, the w and
    b of the source: positive is good.

    :param stored: offline examples that online adaptation rehearses.
    :param fitted: how it was fitted, in plain values.
    :param proxy: from the change that is measured online to that of the target.
    """

    feature_set: str
    feature_names: Tuple[str, ...]
    scaling: Scaling
    layers: Layers
    slope: float = 1.0
    intercept: float = 0.0
    stored: Examples = Examples(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
    fitted: Mapping[str, Any] = field(default_factory=dict)
    proxy: Proxy = Proxy()

    def predict(self, features: Sequence[float]) -> float:
        """
        Predict the gain of a step; nan if the network is broken.

        :param features: in the order of feature_names, (F,); one that is not finite is missing.
        :raises ValueError: if there are more or fewer.
        """
        return float(self.gains(np.array(features, np.float64)))

    def gains(self, features: np.ndarray) -> np.ndarray:
        """Predict the gains, (...), of features (..., F)."""
        if features.shape[-1:] != (len(self.feature_names),):
            raise ValueError(
                f'features are {features.shape}: the gain network takes the '
                f'{len(self.feature_names)} of {self.feature_set!r}')
        return self._folded(self._known(features))

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Return features as the MLP takes them, (..., F) float32."""
        known = (self._known(features) - self.scaling.mean) / self.scaling.deviation
        return known.astype(np.float32)

    def replaced(self, **changes: Any) -> 'GainNetwork':
        """Return the network with some fields replaced."""
        return replace(self, **changes)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it predicts and learns by, except the stored examples."""
        mean, deviation, *target = self.scaling
        return digest(
            {**self.layers._asdict(), 'mean': mean, 'deviation': deviation},
            json.dumps([self.feature_names, target, self.slope, self.intercept, self.proxy]))

    def _known(self, features: np.ndarray) -> np.ndarray:
        known = np.where(np.isfinite(features), features, self.scaling.mean)
        low, high = self._range
        return np.minimum(np.maximum(known, low), high)

    @cached_property
    def _range(self) -> Tuple[np.ndarray, np.ndarray]:
        mean, far = self.scaling.mean, _FAR * self.scaling.deviation
        return mean - far, mean + far

    @cached_property
    def _folded(self) -> Layers:
        """The MLP from features to gain, with scaling, slope and intercept folded in."""
        first, bias, second, between, last, end = (np.float64(a) for a in self.layers)
        mean, deviation, target_mean, target_deviation = self.scaling
        first = first / deviation
        return Layers(
            first, bias - first @ mean, second, between,
            -self.slope * target_deviation * last,
            -self.slope * (target_deviation * end + target_mean) - self.intercept)

    def save(self, path: Path) -> None:
        """Write layers and stored examples, .safetensors, and the card beside them, .json."""
        path = _checked(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {
            **{k: np.float32(v) for k, v in self.layers._asdict().items()},
            **{f'stored.{k}': np.float32(v) for k, v in self.stored._asdict().items()}})
        mean, deviation, target_mean, target_deviation = self.scaling
        write_json(path.with_suffix('.json'), {
            'feature_set': self.feature_set, 'feature_names': list(self.feature_names),
            'mean': mean.tolist(), 'deviation': deviation.tolist(),
            'target_mean': target_mean, 'target_deviation': target_deviation,
            'w': self.slope, 'b': self.intercept,
            'proxy': self.proxy._asdict(), 'sha256': _digest(path), 'fitted': dict(self.fitted)})

    @classmethod
    def load(cls, path: Path, feature_names: Sequence[str]) -> 'GainNetwork':
        """
        Read what save wrote.

        :param feature_names: those in use, in their order.
        :raises ValueError: if a file is missing or damaged, or for other features.
        """
        path = _checked(path)
        card_path = path.with_suffix('.json')
        tensors = read_tensors(path, 'np')
        card = read_card(card_path, {
            'feature_set': str, 'feature_names': list, 'mean': list, 'deviation': list,
            'target_mean': float, 'target_deviation': float, 'w': float, 'b': float,
            'proxy': dict, 'sha256': str, 'fitted': dict}, _MAKE)
        problem = mismatch(card['feature_names'], feature_names)
        if problem:
            raise ValueError(
                f'{path} was fitted on {card["feature_set"]!r} features, not on those in use: '
                f'{problem}; name the decision file of this feature set, or {_MAKE}')
        if card['sha256'] != _digest(path):
            raise ValueError(f'{path} is not what {card_path} describes: keep both as one fit '
                             f'wrote them, or {_MAKE}')
        try:
            return cls(
                card['feature_set'], tuple(card['feature_names']),
                Scaling(np.array(card['mean'], float), np.array(card['deviation'], float),
                        card['target_mean'], card['target_deviation']),
                Layers(*(tensors[name] for name in _NAMES)), card['w'], card['b'],
                Examples(tensors['stored.features'], tensors['stored.change']), card['fitted'],
                Proxy(**card['proxy']))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{path} is no gain network ({error}): {_MAKE}') from error

    def __post_init__(self):
        """Check shapes, finite numbers, and signs."""
        count = len(self.feature_names)
        shapes = ((HIDDEN, count), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (1, HIDDEN), (1,))
        for name, array, shape in (
                *zip(_NAMES, self.layers, shapes), ('mean', self.scaling.mean, (count,)),
                ('deviation', self.scaling.deviation, (count,))):
            if array.shape != shape:
                raise ValueError(f'{name} is {array.shape}: it must be {shape}')
            if not np.isfinite(array).all():
                raise ValueError(f'{name} holds numbers that are not finite')
        numbers = (self.slope, self.intercept, *self.proxy, *self.scaling[2:])
        if not np.isfinite(numbers).all() or self.slope < 0:
            raise ValueError(f'w is {self.slope}, b {self.intercept}: both must be finite, w >= 0')
        if not (self.scaling.deviation > 0).all() or not self.scaling.target_deviation > 0:
            raise ValueError('a deviation is not positive')


def load_gain(path: str, feature_set: str = '') -> GainNetwork:
    """
    Read a gain network.

    :param path: a .safetensors file with its .json card; '' takes the shipped one.
    :param feature_set: 'lean' or 'reference'; '' takes the one the file is for, lean if shipped.
    :raises ValueError: if it is missing, damaged, or for other features.
    """
    if not feature_set:
        found = read_card(Path(path).with_suffix('.json'), {'feature_set': str}, _MAKE)[
            'feature_set'] if path else 'lean'
        feature_set = found if found in FEATURE_SETS else 'lean'
    if not FEATURE_SETS[feature_set]._fields:
        raise ValueError(f'decision.features is {feature_set}: gain is predicted from features; '
                         'set it to lean or reference')
    shipped = _SHIPPED / f'gain_{feature_set}.safetensors'
    if not path and not shipped.exists():
        raise ValueError(f'no gain network for {feature_set} features is shipped: {_MAKE} and '
                         'name it by decision.gain_file')
    return GainNetwork.load(Path(path) if path else shipped, FEATURE_SETS[feature_set]._fields)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checked(path: Path) -> Path:
    if Path(path).suffix != '.safetensors':
        raise ValueError(f'{path} is no .safetensors file: {_MAKE}')
    return Path(path)
