"""Step records whose gain is known by construction, and a network worked out by hand."""

from dectrain_ros.decision.published.gain_network import GainNetwork, HIDDEN, Layers, Scaling
from dectrain_ros.decision.published.step_records import StepRecords
import numpy as np

NAMES = ('loss', 'parallax', 'novelty')


def by_hand(names=('a', 'b'), **changes):
    """Return a network whose MLP returns the first feature, a, standardised: gain -a / 2."""
    zeros = np.zeros((HIDDEN, HIDDEN), np.float32)
    first, second, last = zeros[:, :len(names)].copy(), zeros.copy(), zeros[:1].copy()
    first[0, 0], first[1, 0] = 1, -1            # relu(z) and relu(-z)
    second[0, 0] = second[1, 1] = 1
    last[0, 0], last[0, 1] = 1, -1              # relu(z) - relu(-z) = z
    none, rest = np.zeros(HIDDEN, np.float32), [1.0] * (len(names) - 2)
    layers = Layers(first, none, second, none, last, np.zeros(1, np.float32))
    return GainNetwork(**{
        'feature_set': 'toy', 'feature_names': names, 'layers': layers,
        'scaling': Scaling(np.array([1.0, 10.0, *rest]), np.array([2.0, 5.0, *rest]), 0.1, 0.5),
        'slope': 2.0, 'intercept': 0.3, **changes})


def truth(features):
    """Return the gain that linear_records are made by: about 0.003 +- 0.011."""
    loss, parallax = (features[:, 0] - 3) / 2, (features[:, 1] - 100) / 50
    return 0.003 + 0.01 * loss - 0.005 * parallax


def linear_records(*, noise=0.0, signal=1.0, sequences=10, rows=100, seed=0, names=NAMES):
    """Return steps whose gain is signal * truth + noise * 0.01 * N(0, 1), in full steps only."""
    rng = np.random.default_rng(seed)
    count = sequences * rows
    scale = np.array([[3, 100, *(0,) * (len(names) - 2)], [2, 50, *(1,) * (len(names) - 2)]])
    features = (scale[0] + scale[1] * rng.normal(size=(count, len(names)))).astype(np.float32)
    gain = signal * truth(features) + 0.01 * noise * rng.normal(size=count)
    return StepRecords(
        features, -gain.astype(np.float32), np.repeat(np.arange(sequences), rows),
        'toy', names, tuple(f'place {k}' for k in range(sequences)),
        'a change made by hand')
