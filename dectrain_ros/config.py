"""All options with default, meaning and range: one frozen dataclass per room."""

from __future__ import annotations

from dataclasses import asdict, dataclass, Field, field, fields, replace
import math
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple


class Option(NamedTuple):
    """One option, as used by parameters, command line and documentation."""

    name: str                       # 'room.option'
    default: Any
    meaning: str
    low: Optional[float]
    high: Optional[float]
    choices: Tuple[str, ...]
    live: bool                      # can be changed while running
    nodes: Tuple[str, ...]          # nodes that have it as a parameter


def option(default, meaning, low=None, high=None, choices=(), live=False, nodes=()):
    """
    Declare an option as a dataclass field with its meaning and range.

    :param live: whether it can be changed while running.
    :param nodes: nodes that have it as a parameter; empty: the nodes of its room.
    """
    return field(default=default, metadata={
        'meaning': meaning, 'low': low, 'high': high, 'choices': tuple(choices), 'live': live,
        'nodes': tuple(nodes)})


def _checked(room: str, declared: Field, value):
    """Return the value in the declared type; raise ValueError with option, value and range."""
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
    Base class of the rooms: checks every option on construction.

    room: prefix of the options' names. nodes: nodes that have the options as parameters.
    """

    room = ''
    nodes: Tuple[str, ...] = ('depth_node',)

    def __post_init__(self):
        """Check types and ranges; convert whole numbers to float for float options."""
        for declared in fields(self):
            value = _checked(self.room, declared, getattr(self, declared.name))
            object.__setattr__(self, declared.name, value)


@dataclass(frozen=True)
class DepthConfig(Room):
    """The depth network and where it runs."""

    room = 'depth'
    network: str = option(
        'lite', 'Depth network; transformers is any depth model of a Hugging Face folder.',
        choices=('lite', 'elastic', 'resnet18', 'resnet50', 'transformers'))
    weights: str = option(
        '', 'Weights: a .safetensors file with its .json card, a folder with encoder.pth and '
        'depth.pth, or a Hugging Face folder; empty: the shipped weights.')
    input_size: str = option(
        '', "Size of the network's input, WIDTHxHEIGHT, of network transformers: smaller is "
        'faster and coarser, and the shape should be that of the images; empty: as the '
        "folder's preprocessor has it.")
    subnet: str = option(
        'largest', 'Size of an elastic network: largest; auto, the best whose predictions fit '
        'depth.latency_ms on this device; or decoder width x encoder depth.',
        choices=('largest', 'auto', '1x4', '0.75x4', '0.5x4', '1x2', '0.75x2', '0.5x2', '1x1',
                 '0.75x1', '0.5x1'))
    latency_ms: float = option(
        33.0, 'Longest time, ms, that 95 % of predictions may take with depth.subnet auto.',
        low=0.01, high=1e5, live=True)
    device: str = option(
        'auto', 'torch device; auto: an accelerator if there is one, else the CPU.')
    threads: int = option(
        0, "CPU threads of torch; 0: in a node all processors but one, at most 8; offline torch's "
        'own default.', low=0, high=256)
    output_size: str = option(
        'camera', "Size of the published depth: that of the camera image or of the network's "
        'input.', choices=('camera', 'network'))


@dataclass(frozen=True)
class TrainingConfig(Room):
    """The self-supervised training step and its data."""

    room = 'training'
    scope: str = option(
        'full', 'Trained parameters: the full network, or the depth decoder at half the cost; of '
        'network transformers also its head, or lora:R, the head and low-rank adapters of rank R '
        'in the attention.',
        choices=('decoder', 'full', 'head', 'lora:4', 'lora:8', 'lora:16'))
    learning_rate: float = option(
        1.5e-4, 'Adam learning rate; 3e-4 suits the decoder alone.', low=0.0, high=1.0, live=True)
    max_grad_norm: float = option(
        1.0, 'Greatest gradient norm; larger gradients are scaled down to it.', low=0.0, high=1e6)
    photometric_weight: float = option(
        10.0, 'Weight of the photometric loss.', low=0.0, high=1e4)
    smoothness_weight: float = option(
        1e-3, 'Weight of the edge-aware smoothness loss.', low=0.0, high=1e4)
    photometric_cap: float = option(
        0.5, "Upper bound of a pixel's photometric error; limits the effect of moving objects.",
        low=0.01, high=10.0)
    replay_frames: int = option(
        2, 'Replayed frames in a training batch, beside the current one.', low=0, high=16)
    replay_capacity: int = option(
        300, 'Greatest number of frames in the replay buffer.', low=0, high=100000)
    replay_megabytes: float = option(
        384.0, 'Greatest memory of the replay buffer, MB (10^6 bytes).', low=0.0, high=1e6)
    replay_similarity: float = option(
        0.98, 'A frame is stored for replay if its cosine similarity to every stored frame is '
        'below this; lower stores fewer, more different frames.', low=-1.0, high=1.0)
    source_views: int = option(
        2, 'Greatest number of source views of a training frame.', low=1, high=4)
    history_frames: int = option(
        120, 'Recent frames from which source views are chosen.', low=2, high=1000)
    min_baseline: float = option(
        0.02, 'Least distance to a source view, in median depths; with less parallax there is no '
        'training.', low=0.0, high=1.0)
    target_baseline: float = option(
        0.05, 'Preferred distance to a source view, in median depths.', low=0.0, high=1.0)
    max_baseline: float = option(
        0.15, 'Greatest distance to a source view, in median depths.', low=0.0, high=2.0)
    max_rotation_deg: float = option(
        25.0, 'Greatest rotation to a source view, degrees.', low=0.0, high=180.0)
    max_rotation_per_parallax: float = option(
        4.0, 'Greatest rotation to a source view as a multiple of the parallax angle, which the '
        'distance to it subtends at the median depth.', low=0.0, high=1000.0)
    min_overlap: float = option(
        0.6, 'Least share of the frame that must be visible in a source view.', low=0.0, high=1.0)


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
    """Checks and limits that keep training from harming the depth."""

    room = 'safety'
    check_every: int = option(
        20, 'Steps between checks of the trained weights: loss, median depth and spread of depth '
        'on held-out frames are compared with the loaded weights and the last good version; '
        '0: no checks.',
        low=0, high=10000)
    held_out_frames: int = option(
        4, 'Replayed frames that are held out of training for the checks.', low=1, high=64)
    loss_tolerance: float = option(
        0.5, 'Share by which the held-out loss may exceed that of the loaded weights.',
        low=0.0, high=100.0)
    loss_factor: float = option(
        3.0, 'Factor by which the held-out loss may exceed the least one of the good versions.',
        low=1.0, high=1000.0)
    depth_factor: float = option(
        3.0, 'Factor by which the median depth of held-out frames may change between checks.',
        low=1.0, high=1000.0)
    spread_factor: float = option(
        3.0, 'Factor by which the spread of held-out depth (deviation of its logarithm) may '
        'fall.', low=1.0, high=1000.0)
    max_weight_change: float = option(
        0.05, 'Weights are checked at once if they differ from the last good version by more than '
        'this share of their norm.', low=0.0, high=1000.0)
    cooldown_frames: int = option(
        30, 'Frames without training after a rollback of the weights; doubles with every '
        'further rollback.', low=0, high=100000)
    anchor: float = option(
        10.0, 'Every step moves the weights towards the loaded ones by this times the learning '
        'rate times the distance; 0: off.', low=0.0, high=1e4, live=True)
    max_step_rms: float = option(
        1.0, 'Greatest step of a tensor in learning rates (root mean square); Adam exceeds it '
        'where gradients grow suddenly.', low=0.01, high=1e6)
    rehearse_every: int = option(
        4, 'Steps between rehearsals, which keep the depth of views without parallax from '
        'drifting while other views are trained on; 0: off.', low=0, high=10000)
    rehearse_factor: float = option(
        2.0, 'Factor by which the depth of rehearsed views may differ from its first prediction.',
        low=1.0, high=1000.0)
    forgetting_every: int = option(
        200, 'Steps between measurements of forgetting, the error on stored source frames; 0: '
        'off.', low=0, high=1000000)


@dataclass(frozen=True)
class CheckpointsConfig(Room):
    """Checkpoints of what depth network and policy have learnt."""

    room = 'checkpoints'
    nodes = ('depth_node', 'decision_node')
    folder: str = option(
        '', 'Folder of checkpoints, which both nodes may share; nodes in a namespace use a '
        'sub-folder of its name; empty: no checkpoints.')
    save_every: int = option(
        500, 'Steps between checkpoints; 0: only on request and at the end.', low=0, high=1000000)
    keep: int = option(
        3, 'Number of newest checkpoints to keep; older ones are deleted.', low=1, high=1000)
    resume: bool = option(
        False, 'Start from the newest usable checkpoint of the folder, if there is one.')


@dataclass(frozen=True)
class LimitsConfig(Room):
    """Limits on the time, rate and heat of training."""

    room = 'limits'
    max_train_share: float = option(
        1.0, 'Greatest share of time spent on training steps; 1: no limit.', low=0.01, high=1.0,
        live=True)
    max_steps_hz: float = option(
        0.0, 'Greatest number of training steps per second; 0: no limit.', low=0.0, high=1000.0,
        live=True)
    min_depth_hz: float = option(
        0.0, 'No training while inference takes too long for depth at this rate, Hz; 0: no '
        'limit.', low=0.0, high=1000.0, live=True)
    max_celsius: float = option(
        0.0, "No training while the machine's hottest sensor is at least this warm, degrees "
        'Celsius; 0: no limit.', low=0.0, high=200.0, live=True)
    train_threads: int = option(
        0, 'CPU threads of a training step in a node, to leave others to inference; 0: as many as '
        'inference has.', low=0, high=256)

    @property
    def of_training(self) -> Dict[str, float]:
        """The limits without train_threads, which cannot be changed while running, by name."""
        limits = asdict(self)
        del limits['train_threads']
        return limits


@dataclass(frozen=True)
class PoseConfig(Room):
    """The camera's pose."""

    room = 'pose'
    source: str = option(
        'pose', 'Source of poses: a topic of type pose (PoseStamped), pose_with_covariance '
        '(PoseWithCovarianceStamped) or odometry (Odometry), or the transforms of tf.',
        choices=('pose', 'pose_with_covariance', 'odometry', 'tf'))
    world_frame: str = option(
        'odom', 'World frame of poses with source tf; it must not jump (REP 105).')
    body_frame: str = option(
        '', "Frame whose poses the topic has, if its messages do not name it; empty: the camera's "
        'optical frame (x right, y down, z forward).')
    extrinsic: str = option(
        '', "Pose of the camera's optical frame in the frame of the poses: x y z (m) and the unit "
        'quaternion qx qy qz qw; empty: from /tf_static, if the two frames differ.')
    max_speed: float = option(
        3.0, 'Speed, m/s, that the camera never reaches. A faster change of pose, or any change '
        'after five seconds without poses, counts as a jump: views before it are not used after '
        'it.', low=0.01, high=1e4, live=True)
    max_turn_rate: float = option(
        720.0, 'Turn rate, degrees/s, that the camera never reaches; see max_speed.',
        low=1.0, high=1e5, live=True)
    wait_s: float = option(
        0.2, "Longest wait for the poses around an image's stamp, s; a frame without a pose is "
        'not trained on. An image also waits this long for the camera_info of its stamp, if the '
        'image before had one.', low=0.0, high=10.0)
    max_gap_s: float = option(
        0.25, 'Poses further apart than this are not interpolated, s.', low=0.0, high=10.0)


@dataclass(frozen=True)
class Config:
    """The whole configuration; seed is the only source of randomness."""

    depth: DepthConfig = field(default_factory=DepthConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    seed: int = 0

    def as_dict(self) -> dict:
        """Return nested dictionaries of plain values, e.g. for JSON."""
        return asdict(self)

    def with_seed(self, seed: int) -> 'Config':
        """Return a copy with another seed."""
        return replace(self, seed=seed)

    def replaced(self, name: str, value) -> 'Config':
        """
        Return a copy with one option changed.

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


# Names of options in earlier versions: refused with the present name.
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
            yield Option(f'{room.room}.{f.name}', f.default, m['meaning'], m['low'], m['high'],
                         m['choices'], m['live'], m['nodes'] or room.nodes)


def parsed(assignments: Iterable[str], base: Optional[Config] = None) -> Config:
    """
    Return a configuration with 'room.option=value' texts applied in order.

    :raises ValueError: with the text that is malformed, unknown or out of range.
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
    """Convert a text to the type of the option's default."""
    kind = type(default)
    if kind is bool:
        if text.lower() not in ('true', 'false'):
            raise ValueError(f'{name} is {text!r}: it must be true or false')
        return text.lower() == 'true'
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f'{name} is {text!r}: it must be a {kind.__name__}') from None
