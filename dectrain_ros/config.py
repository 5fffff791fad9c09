"""Every option: default, meaning and range, one frozen dataclass a room."""

from __future__ import annotations

from dataclasses import asdict, dataclass, Field, field, fields, replace
import math
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple


class Option(NamedTuple):
    """One option as parameters, command line and documentation see it."""

    name: str                       # 'room.option'
    default: Any
    help: str
    low: Optional[float]
    high: Optional[float]
    choices: Tuple[str, ...]
    live: bool                      # may change while running
    nodes: Tuple[str, ...]          # that have it as a parameter


def option(  # noqa: A002
    default, help, low=None, high=None, choices=(), live=False, nodes=()
):
    """
    Declare one field of a room's configuration with its meaning and range.

    :param nodes: nodes that have it as a parameter; empty: those of its room.
    """
    return field(default=default, metadata={
        'help': help, 'low': low, 'high': high, 'choices': tuple(choices), 'live': live,
        'nodes': tuple(nodes)})


def _checked(room: str, declared: Field, value):
    """Give the value in the declared type, or raise ValueError naming option, value and range."""
    name, kind, rule = f'{room}.{declared.name}', type(declared.default), declared.metadata
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f'{name} is {value!r}: it must be a {kind.__name__}')
    if rule['choices'] and value not in rule['choices']:
        raise ValueError(f'{name} is {value!r}: it must be one of {", ".join(rule["choices"])}')
    if kind in (int, float):
        low, high = rule['low'], rule['high']
        if (kind is float and math.isnan(value)) or (low is not None and value < low) or (
                high is not None and value > high):
            raise ValueError(f'{name} is {value}: it must be between {low} and {high}')
    return value


class Room:
    """
    Base of the rooms' configurations: checks every field when built.

    room: prefix of its options' names. nodes: nodes that have them as parameters.
    """

    room = ''
    nodes: Tuple[str, ...] = ('depth_node',)

    def __post_init__(self):
        """Check types and ranges; whole numbers become floats where a float is meant."""
        for declared in fields(self):
            value = _checked(self.room, declared, getattr(self, declared.name))
            object.__setattr__(self, declared.name, value)


@dataclass(frozen=True)
class DepthConfig(Room):
    """Which network predicts depth, and where."""

    room = 'depth'
    network: str = option(
        'lite', 'Depth network; transformers is any depth model of a Hugging Face folder.',
        choices=('lite', 'elastic', 'resnet18', 'resnet50', 'transformers'))
    weights: str = option(
        '', 'Weights: a .safetensors file with its .json card, a folder holding encoder.pth and '
        'depth.pth, or a Hugging Face folder; empty takes the shipped ones.')
    input_size: str = option(
        '', "Size of the network's input, WIDTHxHEIGHT, of network transformers: smaller is "
        'faster and coarser, and the shape should be that of the images; empty takes the '
        "preprocessor's.")
    device: str = option('auto', 'torch device; auto takes an accelerator where there is one.')
    threads: int = option(
        0, 'CPU threads for torch; 0 takes in a node all usable ones but one, at most 8, and '
        'offline leaves torch its own choice.', low=0, high=256)
    output_size: str = option(
        'camera', "Size of the published depth: the camera image's or the network's.",
        choices=('camera', 'network'))


@dataclass(frozen=True)
class TrainingConfig(Room):
    """How one self-supervised step is taken, and what it may use."""

    room = 'training'
    scope: str = option(
        'full', 'What a step trains: the whole network, or the depth decoder at half the cost; of '
        'network transformers also its head alone, or lora:R, the head and low-rank adapters of '
        'rank R in the attention.',
        choices=('decoder', 'full', 'head', 'lora:4', 'lora:8', 'lora:16'))
    learning_rate: float = option(
        1.5e-4, 'Adam learning rate; 3e-4 suits the decoder alone.', low=0.0, high=1.0, live=True)
    max_grad_norm: float = option(
        1.0, 'Gradients are scaled down to this norm.', low=0.0, high=1e6)
    photometric_weight: float = option(
        10.0, 'Weight of the photometric loss.', low=0.0, high=1e4)
    smoothness_weight: float = option(
        1e-3, 'Weight of the edge-aware smoothness loss.', low=0.0, high=1e4)
    photometric_cap: float = option(
        0.5, 'Photometric error of a pixel counts at most this much (moving objects).',
        low=0.01, high=10.0)
    replay_frames: int = option(
        2, 'Replayed frames in a training batch beside the current one.', low=0, high=16)
    replay_capacity: int = option(300, 'Most frames in the replay buffer.', low=0, high=100000)
    replay_megabytes: float = option(
        384.0, 'Most memory of the replay buffer, MB (10^6 bytes).', low=0.0, high=1e6)
    replay_similarity: float = option(
        0.98, 'A frame enters the replay buffer if its cosine similarity to every stored one is '
        'below this.', low=-1.0, high=1.0)
    source_views: int = option(2, 'Source views of a training frame.', low=1, high=4)
    history_frames: int = option(
        120, 'Recent frames from which source views are chosen.', low=2, high=1000)
    min_baseline: float = option(
        0.02, 'Least distance to a source view, in median depths; below it there is no parallax '
        'and no training.', low=0.0, high=1.0)
    target_baseline: float = option(
        0.05, 'Wanted distance to a source view, in median depths.', low=0.0, high=1.0)
    max_baseline: float = option(
        0.15, 'Greatest distance to a source view, in median depths.', low=0.0, high=2.0)
    max_rotation_deg: float = option(
        25.0, 'Greatest rotation to a source view, degrees.', low=0.0, high=180.0)
    max_rotation_per_parallax: float = option(
        4.0, 'Greatest rotation to a source view, in parallaxes: the angle under which the median '
        'depth sees the distance to it.', low=0.0, high=1000.0)
    min_overlap: float = option(
        0.6, 'Least share of the frame that a source view must see.', low=0.0, high=1.0)


@dataclass(frozen=True)
class DecisionConfig(Room):
    """When a training step is worth its cost."""

    room = 'decision'
    nodes = ('decision_node',)
    policy: str = option(
        'periodic:4', 'never, always, periodic:K (every K-th frame), random:P (share of frames), '
        'pattern:1100 (repeated), dectrain (where predicted gain is worth the cost of a step), '
        'paced (where it is, added up over frames), or budget:B '
        'with B a share of frames (0.25), device time (120ms/s) or power (1.5W).', live=True)
    alpha: float = option(
        80.0, 'Steps that a predicted gain of 1 is worth, by policies dectrain (train where '
        'alpha * gain > cost) and paced (the same, with the gain of the frames since the last '
        'step added up); larger trains more.', low=0.0, high=1e12, live=True)
    exploration: float = option(
        0.02, 'Probability of training, by policies dectrain and budget, on a frame whose '
        'predicted gain is not worth the cost; it shows where the prediction is wrong.',
        low=0.0, high=1.0, live=True)
    min_share: float = option(
        0.02, 'Least share of frames trained on, by policy paced, and by dectrain while predicted '
        'gain is not to be trusted.', low=0.0, high=1.0, live=True)
    features: str = option(
        'lean', 'Features of a frame from which gain is predicted: lean (cheap), reference (as '
        'published, at the cost of about an inference), or none.',
        choices=('lean', 'reference', 'none'), nodes=('depth_node',))
    judged_by: str = option(
        'nothing', 'Samples on which the change of the loss by a step is measured, from which '
        'the predictor of gain learns: frame (its own, as published), batch (its batch), replay '
        '(replayed frames it did not train on), or nothing; of use where the network of '
        'decision.gain_file learns, which the shipped one does not.',
        choices=('nothing', 'frame', 'batch', 'replay'),
        nodes=('depth_node',))
    cost: str = option(
        'flops', 'Unit of the cost of a step: flops (the same in every run), measured '
        "milliseconds, or joules by the device's power sensor.",
        choices=('flops', 'milliseconds', 'joules'), live=True,
        nodes=('depth_node',))
    gain_file: str = option(
        '', 'Gain network: a .safetensors file with its .json card; empty takes the shipped one.')


@dataclass(frozen=True)
class SafetyConfig(Room):
    """What keeps training from harming the depth."""

    room = 'safety'
    check_every: int = option(
        20, 'Steps from check to check of the trained weights: the loss, depth and its spread on '
        'held-out frames, against the loaded weights and the last good version; 0 leaves them '
        'unchecked.',
        low=0, high=10000)
    held_out_frames: int = option(
        4, 'Replayed frames held out of training for the checks.', low=1, high=64)
    loss_tolerance: float = option(
        0.5, 'The held-out loss may be above that of the loaded weights by this share.',
        low=0.0, high=100.0)
    loss_factor: float = option(
        3.0, 'The held-out loss may rise over the least of the good versions by this factor.',
        low=1.0, high=1000.0)
    depth_factor: float = option(
        3.0, 'The median depth of held-out frames may change from check to check by this factor.',
        low=1.0, high=1000.0)
    spread_factor: float = option(
        3.0, "The spread of held-out frames' depth (deviation of its logarithm) may fall by this "
        'factor.', low=1.0, high=1000.0)
    max_weight_change: float = option(
        0.05, 'Weights further from the last good version than this share of their norm are '
        'checked at once.', low=0.0, high=1000.0)
    cooldown_frames: int = option(
        30, 'Frames not trained on after weights were taken back; twice as many each time it '
        'happens again.', low=0, high=100000)
    anchor: float = option(
        10.0, 'Pull of every step towards the loaded weights: the share of the distance is this '
        'times the learning rate; 0 for none.', low=0.0, high=1e4, live=True)
    max_step_rms: float = option(
        1.0, 'No tensor of the network steps further than so many learning rates (root mean '
        'square), as Adam would where gradients grow all at once.', low=0.01, high=1e6)
    rehearse_every: int = option(
        4, 'Steps from rehearsal to rehearsal: a view that cannot be learnt from (no parallax) is '
        'kept from straying while others are; 0 for none.', low=0, high=10000)
    rehearse_factor: float = option(
        2.0, 'The depth of such views may change by this factor from when they were first seen.',
        low=1.0, high=1000.0)
    forgetting_every: int = option(
        200, 'Steps between measurements of the error on stored source frames; 0 for none.',
        low=0, high=1000000)


@dataclass(frozen=True)
class CheckpointsConfig(Room):
    """How what was learnt, of depth and of decisions, is remembered over restarts."""

    room = 'checkpoints'
    nodes = ('depth_node', 'decision_node')
    folder: str = option(
        '', 'Folder of checkpoints, which both nodes may share; those in a namespace have a '
        'sub-folder of its name; empty saves none.')
    save_every: int = option(
        500, 'Steps between checkpoints; 0 saves only when asked to and, where that need not wait '
        'for a step, at the end.', low=0, high=1000000)
    keep: int = option(3, 'Newest checkpoints kept.', low=1, high=1000)
    resume: bool = option(
        False, 'Start with the newest usable checkpoint of the folder, where there is one.')


@dataclass(frozen=True)
class LimitsConfig(Room):
    """How much of the machine training may take; it yields first."""

    room = 'limits'
    max_train_share: float = option(
        1.0, 'Most of the time that goes to training steps; 1 is no limit.', low=0.01, high=1.0,
        live=True)
    max_steps_hz: float = option(
        0.0, 'Most training steps a second; 0 is no limit.', low=0.0, high=1000.0,
        live=True)
    min_depth_hz: float = option(
        0.0, 'Training yields while frames take too long for depth at this rate, Hz; 0 is no '
        'limit.', low=0.0, high=1000.0, live=True)
    max_celsius: float = option(
        0.0, "Training yields while the device's hottest sensor is at this temperature or above; "
        '0 is no limit.', low=0.0, high=200.0, live=True)
    train_threads: int = option(
        0, 'CPU threads of a training step beside a live stream, the rest is left to inference; 0 '
        'takes as many as inference does.', low=0, high=256)

    @property
    def of_training(self) -> Dict[str, float]:
        """The limits that hold training back, and may change while running, by name."""
        limits = asdict(self)
        del limits['train_threads']
        return limits


@dataclass(frozen=True)
class PoseConfig(Room):
    """Where the camera's pose comes from (live)."""

    room = 'pose'
    source: str = option(
        'pose', 'Where poses come from: a topic of type pose (PoseStamped), pose_with_covariance '
        '(PoseWithCovarianceStamped) or odometry (Odometry), or tf.',
        choices=('pose', 'pose_with_covariance', 'odometry', 'tf'))
    world_frame: str = option(
        'odom', 'Fixed frame poses are given in, by source tf; one that never jumps (REP 105).')
    body_frame: str = option(
        '', "Frame the topic's poses are of, where the messages do not name it; empty: the "
        "camera's optical frame (x right, y down, z forward).")
    extrinsic: str = option(
        '', "Place of the camera's optical frame on the frame the poses are of: x y z (m) and the "
        'unit quaternion qx qy qz qw; empty: what /tf_static says, where they are two.')
    max_speed: float = option(
        3.0, "Above the camera's greatest speed, m/s: a pose further away, or another one after "
        'five seconds without any, is a correction, and views before it are not compared with '
        'those after.', low=0.01, high=1e4, live=True)
    max_turn_rate: float = option(
        720.0, "Above the camera's greatest turn rate, degrees/s; as max_speed.",
        low=1.0, high=1e5, live=True)
    wait_s: float = option(
        0.2, "Longest wait for poses around an image's stamp, s; then it goes on without one. So long "
        'an image waits for its camera_info, too, where the image before had one of its stamp.',
        low=0.0, high=10.0)
    max_gap_s: float = option(
        0.25, 'Poses further apart than this are not interpolated, s.', low=0.0, high=10.0)


@dataclass(frozen=True)
class Config:
    """Everything there is to configure; seed is the only source of randomness."""

    depth: DepthConfig = field(default_factory=DepthConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    seed: int = 0

    def as_dict(self) -> dict:
        """Give nested plain values, for JSON."""
        return asdict(self)

    def with_seed(self, seed: int) -> 'Config':
        """Give a copy with another seed."""
        return replace(self, seed=seed)

    def replaced(self, name: str, value) -> 'Config':
        """
        Give a copy with one option changed.

        :param name: 'room.option'.
        :raises ValueError: if there is no such option, or the value is out of its range.
        """
        room, _, key = name.partition('.')
        known = {o.name for o in options()}
        if name in RENAMED:
            raise ValueError(f'option {name!r} is now called {RENAMED[name]}: use that name')
        if name not in known:
            raise ValueError(
                f'there is no option {name!r}; known: {", ".join(sorted(known))}')
        return replace(self, **{room: replace(getattr(self, room), **{key: value})})


ROOMS = (DepthConfig, TrainingConfig, DecisionConfig, SafetyConfig, CheckpointsConfig,
         LimitsConfig, PoseConfig)


# Names that options had in earlier versions: refused, with the present one.
RENAMED = {
    'decision.epsilon': 'decision.exploration or decision.min_share',
    'training.features': 'decision.features',
    'training.judged_by': 'decision.judged_by',
    'training.cost': 'decision.cost',
    'safety.windows': 'safety.held_out_frames',
    'safety.probe_every': 'safety.forgetting_every',
    'safety.max_moved': 'safety.max_weight_change',
    'safety.max_step': 'safety.max_step_rms',
    'limits.steps_hz': 'limits.max_steps_hz',
    'limits.depth_hz': 'limits.min_depth_hz',
    'limits.celsius': 'limits.max_celsius',
    'limits.train_share': 'limits.max_train_share',
    'training.max_turn': 'training.max_rotation_per_parallax',
    'training.baseline_low': 'training.min_baseline',
    'training.baseline_high': 'training.max_baseline',
    'training.baseline_target': 'training.target_baseline',
}


def options(rooms: Iterable[type] = ROOMS) -> Iterator[Option]:
    """List every option of the given rooms in declaration order."""
    for room in rooms:
        for f in fields(room):
            m = f.metadata
            yield Option(f'{room.room}.{f.name}', f.default, m['help'], m['low'], m['high'],
                         m['choices'], m['live'], m['nodes'] or room.nodes)


def parsed(assignments: Iterable[str], base: Optional[Config] = None) -> Config:
    """
    Give the configuration with 'room.option=value' texts applied in order.

    :raises ValueError: naming the text that is malformed, unknown or out of range.
    """
    config = base or Config()
    defaults = {o.name: o.default for o in options()}
    for text in assignments:
        name, equals, value = text.partition('=')
        if not equals:
            raise ValueError(
                f'{text!r} is not room.option=value, e.g. training.learning_rate=1e-4')
        config = config.replaced(name, _from_text(name, value, defaults.get(name, '')))
    return config


def _from_text(name: str, text: str, default):
    """Read a value of the default's type from text."""
    kind = type(default)
    if kind is bool:
        if text.lower() not in ('true', 'false'):
            raise ValueError(f'{name} is {text!r}: it must be true or false')
        return text.lower() == 'true'
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f'{name} is {text!r}: it must be a {kind.__name__}') from None
