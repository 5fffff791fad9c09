"""Arguments of the launch files, and the processes to start, without the launch package."""

from __future__ import annotations

import difflib
import os
from typing import (
    Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union)

from dectrain_ros.bags.reader import Bag
from dectrain_ros.bags.topics import is_static, Listed, Topics, TRANSFORMS
from dectrain_ros.config import DepthConfig, options, PoseConfig
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.policy import GainPredictor
from dectrain_ros.ros.tools.playlist import kinds, LISTENER
import yaml

Value = Union[str, int, bool]

_CHOICES = {o.name: ('', *o.choices) for o in options((DepthConfig, PoseConfig)) if o.choices}
_TYPES = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed',
          'geometry_msgs/msg/PoseStamped': 'pose', 'nav_msgs/msg/Odometry': 'odometry',
          'geometry_msgs/msg/PoseWithCovarianceStamped': 'pose_with_covariance',
          TRANSFORMS: 'tf'}
_OF_LAUNCH = ('launch-prefix', 'launch-prefix-filter')      # added by ros2 launch itself
_VALUES = {'depth.threads': int, 'autostart': lambda text: text == 'true',     # else str
           'checkpoints.resume': lambda text: text == 'true'}
_LOGS_READY = ('debug', 'info')     # levels at which the depth node's `ready` line is logged
_COMPRESSED = '/compressed'
_TRUTH = ('true', 'false', 'True', 'False')


class Argument(NamedTuple):
    """One argument of a launch file; without choices it may have any text."""

    name: str
    default: str
    help: str       # noqa: A003
    choices: Tuple[str, ...] = ()


class Stream(NamedTuple):
    """Topics and types of the depth node's input; the parameter file sets an empty type."""

    image: str
    camera_info: str
    pose: str
    image_transport: str
    pose_source: str


class Command(NamedTuple):
    """A process to start: an executable of this package, or another program."""

    executable: str
    arguments: List[str]
    is_ours: bool = True


STREAM = (
    Argument('image', '', 'Image topic; empty: that of the bag, else image.'),
    Argument('camera_info', '', 'CameraInfo topic; empty: that of the bag, else camera_info.'),
    Argument('pose', '', 'Pose topic; empty: that of the bag, else pose. Unused with '
             'pose_source:=tf.'),
    Argument('image_transport', '', 'Type of the image topic: raw (Image) or compressed '
             '(CompressedImage; image:=NAME then reads NAME/compressed).',
             ('', 'raw', 'compressed')),
    Argument('pose_source', '', 'Type of the pose topic, or tf.', _CHOICES['pose.source']))

OF_A_CAMERA = (
    Argument('network', '', 'Depth network.', _CHOICES['depth.network']),
    Argument('weights', '', 'Weights: a .safetensors file, a folder with encoder.pth and '
             'depth.pth, or a Hugging Face folder; empty: as in params_file.'),
    Argument('policy', '', 'When to train: never, always, periodic:K, random:P, pattern:1100, '
             'dectrain, paced, budget:B.'),
    Argument('log_level', 'info', 'Least severity that is logged.',
             ('debug', 'info', 'warn', 'error', 'fatal')),
    Argument('autostart', '', 'Configure and activate the nodes at start; false: wait for '
             'lifecycle transitions.', ('', *_TRUTH)),
    Argument('checkpoints', 'auto', 'Folder of checkpoints, with a sub-folder per namespace; '
             'auto: that of params_file, else ~/.ros/dectrain_ros, but none for a bag.'),
    Argument('resume', '', 'Start from the newest checkpoint of that folder, if there is one.',
             ('', *_TRUTH)),
    Argument('threads', '', 'CPU threads of the depth node; 0: all but one, at most 8.'),
    Argument('body_frame', '', 'Frame whose poses the pose topic has, if its messages do not '
             'name it.'),
    Argument('extrinsic', '', 'Pose of the camera in the frame of the poses: x y z (m) and '
             'qx qy qz qw, in quotes.'),
    Argument('respawn_decision', 'true', 'Restart the decision node if it dies; depth continues '
             'in either case.', _TRUTH),
    Argument('respawn_depth', 'true', 'Restart the depth node if it dies, from its newest '
             'checkpoint if resume:=true; the other nodes continue in either case.', _TRUTH),
    Argument('respawn_delay', '2.0', 'Time until a node that died is restarted, s.'))

OF_A_BAG = (
    Argument('bag', '', 'Bag to play; the launch ends with it.'),
    Argument('player', 'auto', 'Player: rosbag2, ours (bag_player), or auto: rosbag2 if it is '
             'installed and supports the arguments.', ('auto', 'rosbag2', 'ours')),
    Argument('rate', '1.0', 'Factor of the recorded speed; 0: as fast as depth arrives (ours).'),
    Argument('loop', '1', 'Number of times to play the bag; 0: for ever. More than 1: ours.'),
    Argument('start', '0.0', 'Where to start, s into the bag; above 0: ours.'),
    Argument('evaluate', 'false', 'Evaluate the nodes on the bag and write a report at its end '
             '(ours).', _TRUTH),
    Argument('out', 'out/live', 'Folder of the report.'))


def params_file(share: str) -> Argument:
    """Return the argument for the parameter file; share: share folder of the package."""
    return Argument(
        'params_file', os.path.join(share, 'config', 'dectrain.yaml'),
        'Parameter file of both nodes; in the same folder: jetson.yaml and cpu.yaml.')


def online_depth(share: str) -> List[Argument]:
    """List the arguments of online_depth.launch.py; the parameter file sets empty ones."""
    return [
        *STREAM, params_file(share), Argument('namespace', '', 'Namespace of the nodes.'),
        *OF_A_CAMERA,
        Argument('use_sim_time', 'auto', 'Whether nodes use /clock; auto: if a bag is played.',
                 ('auto', *_TRUTH)),
        *OF_A_BAG,
        Argument('rviz', 'false', 'Show image, depth and points in RViz.', _TRUTH),
        Argument('rviz_frame', '', "Fixed frame of RViz; empty: the bag images', or map.")]


def two_cameras(share: str) -> List[Argument]:
    """List the arguments of two_cameras.launch.py; topics are relative to the namespaces."""
    return [
        Argument('first', 'left', 'Namespace of one camera, with its nodes and topics.'),
        Argument('second', 'right', 'Namespace of the other camera.'),
        *STREAM, params_file(share), *OF_A_CAMERA,
        Argument('use_sim_time', 'false', 'Whether nodes use /clock.', _TRUTH)]


def refuse_unknown(given: Iterable[str], known: Sequence[Argument]) -> None:
    """
    Raise ValueError for an unknown argument, which `ros2 launch` would ignore.

    :param given: arguments of the command line, name:=value.
    :raises ValueError: with the argument, and similar names.
    """
    names = [argument.name for argument in known]
    for name in (text.partition(':=')[0] for text in given):
        if name not in names and name not in _OF_LAUNCH:
            close = difflib.get_close_matches(name, names, n=2)
            hint = f'did you mean {" or ".join(close)}?' if close else (
                f'known: {", ".join(names)}')
            raise ValueError(f'there is no argument {name!r}: {hint}')


def with_lower_case_booleans(given: Mapping[str, str]) -> Dict[str, str]:
    """Return the arguments with True and False in lower case."""
    return {name: text.lower() if text in _TRUTH else text for name, text in given.items()}


def refuse_unusable(given: Mapping[str, str]) -> None:
    """
    Raise ValueError for values that would fail only when the nodes are running.

    :param given: every argument of online_depth.launch.py.
    :raises ValueError: with argument, value and what it must be.
    """
    for name in ('bag', 'params_file', 'weights'):
        if given[name] and not os.path.exists(given[name]):
            raise ValueError(f'{name}:={given[name]} does not exist')
    for name, kind, word in (('rate', float, 'number'), ('start', float, 'number'),
                             ('loop', int, 'whole number'), ('respawn_delay', float, 'number'),
                             ('threads', int, 'whole number')):
        if (given[name] or name != 'threads') and not _is_at_least_0(given[name], kind):
            raise ValueError(f'{name}:={given[name]} must be a {word} from 0 on')
    if given['policy']:
        try:
            make_policy(given['policy'], make_gain=_NoGain)
        except ValueError as error:
            raise ValueError(f'policy:={given["policy"]}: {error}') from None
    if given['evaluate'] == 'true' and (not given['bag'] or given['loop'] != '1'):
        raise ValueError('evaluate:=true needs bag:=PATH and loop:=1')


def stream_of(given: Mapping[str, str]) -> Stream:
    """
    Return the topics of the input; empty arguments get those of the bag, or default names.

    :param given: every argument.
    :raises BagError: if the bag cannot be read, or lacks a topic.
    :raises ValueError: if the bag has no poses of the given pose_source.
    """
    wanted = Stream(*(given[name] for name in Stream._fields))
    if not given.get('bag'):
        image = wanted.image or 'image'
        if wanted.image_transport == 'compressed' and not image.endswith(_COMPRESSED):
            image += _COMPRESSED            # as image_transport names it
        return wanted._replace(image=image, pose=wanted.pose or 'pose',
                               camera_info=wanted.camera_info or 'camera_info')
    recording = _PosedBag(given['bag'], Topics(*wanted[:3]), wanted.pose_source)
    found = recording.topics
    types = kinds(recording, [found.image, found.pose])
    return Stream(found.image, found.camera_info, found.pose,
                  wanted.image_transport or _TYPES.get(types[found.image], ''),
                  wanted.pose_source or _TYPES.get(types[found.pose], ''))


def parameters(given: Mapping[str, str], stream: Stream) -> Dict[str, Dict[str, Value]]:
    """Return the parameters that the arguments set, by node and parameter name."""
    both = {'autostart': given['autostart'], 'checkpoints.folder': _checkpoints(given),
            'checkpoints.resume': given['resume']}
    arguments = {
        'depth_node': {
            **both, 'depth.network': given['network'], 'depth.weights': given['weights'],
            'depth.threads': given['threads'], 'pose.source': stream.pose_source,
            'pose.body_frame': given['body_frame'], 'pose.extrinsic': given['extrinsic'],
            'image.transport': stream.image_transport},
        'decision_node': {**both, 'decision.policy': given['policy']}}
    return {node: {name: _VALUES.get(name, str)(text) for name, text in values.items() if text}
            for node, values in arguments.items()}


def _checkpoints(given: Mapping[str, str]) -> str:
    """Return the folder of checkpoints; '' leaves it to the parameter file."""
    if given['checkpoints'] != 'auto':
        return os.path.expanduser(given['checkpoints'])
    if given['bag'] or given['params_file'] and _sets_checkpoints(given['params_file']):
        return ''
    home = os.environ.get('ROS_HOME') or os.path.join('~', '.ros')
    return os.path.join(os.path.expanduser(home), 'dectrain_ros')


def _sets_checkpoints(path: str) -> bool:
    """Return whether a parameter file sets a folder of checkpoints."""
    with open(path) as file:
        nodes = yaml.safe_load(file) or {}
    return any(_folder_in(node) for node in nodes.values())


def _folder_in(tree: Any) -> bool:
    """Return whether checkpoints.folder is set in a node's parameters, nested or dotted."""
    if not isinstance(tree, dict):
        return False
    found = tree.get('checkpoints.folder') or (
        tree['checkpoints'].get('folder') if isinstance(tree.get('checkpoints'), dict) else '')
    return bool(found) or any(_folder_in(part) for part in tree.values())


def player(given: Mapping[str, str], stream: Stream, has_rosbag2: bool) -> Command:
    """
    Return the command that plays the bag.

    :raises ValueError: if player:=rosbag2, but it is not installed or lacks a feature.
    """
    only_ours = _only_ours(given)
    wants = given['player']
    if wants == 'rosbag2' and (only_ours or not has_rosbag2):
        reason = f'cannot do {only_ours}' if only_ours else (
            'is not installed: install ros-$ROS_DISTRO-rosbag2')
        raise ValueError(f'player:=rosbag2 {reason}; or use player:=ours')
    if wants == 'ours' or only_ours or not has_rosbag2:
        awaited = ['--listener', LISTENER] if given['evaluate'] == 'true' else []
        return Command('bag_player', [
            given['bag'], '--rate', given['rate'], '--loop', given['loop'], '--start',
            given['start'], *_topics(stream), *awaited])
    pose = '/tf' if stream.pose_source == 'tf' else stream.pose
    return Command('ros2', [
        'bag', 'play', given['bag'], '--clock', '200', '--rate', given['rate'],
        *(['--loop'] if given['loop'] == '0' else []),
        '--disable-keyboard-controls', '--topics', stream.image, stream.camera_info,
        pose, '/tf_static'], is_ours=False)


def evaluation(given: Mapping[str, str], stream: Stream) -> Optional[Command]:
    """Return the command that evaluates the nodes, None without evaluate:=true."""
    if given['evaluate'] != 'true':
        return None
    return Command('live_evaluation', [
        given['bag'], '--out', given['out'], *_topics(stream)])


def fixed_frame(given: Mapping[str, str], stream: Stream) -> str:
    """Return the fixed frame of RViz: the argument, else that of the bag's images, else map."""
    if given['rviz_frame'] or not given['bag']:
        return given['rviz_frame'] or 'map'
    return next(Bag(given['bag'], Topics(*stream[:3]), pose=None).frames(count=1)).frame.frame_id


def _only_ours(given: Mapping[str, str]) -> str:
    """Return an argument that rosbag2 does not support, '' without one."""
    if given['evaluate'] == 'true':
        return 'evaluate:=true'
    if not float(given['rate']):
        return 'rate:=0'
    if float(given['start']):       # rosbag2 may skip earlier latched messages
        return f'start:={given["start"]}'
    if given['log_level'] not in _LOGS_READY:
        return f'log_level:={given["log_level"]}'
    return f'loop:={given["loop"]}' if given['loop'] not in ('0', '1') else ''


def _topics(stream: Stream) -> List[str]:
    return ['--image', stream.image, '--camera-info', stream.camera_info, '--pose', stream.pose]


def _is_at_least_0(text: str, kind: type) -> bool:
    try:
        return 0 <= kind(text) < float('inf')
    except ValueError:
        return False


class _PosedBag(Bag):
    """A bag restricted to the pose topics that fit pose_source; '' fits all."""

    def __init__(self, path, topics: Topics, pose_source: str):
        self._source, self._asked = pose_source, topics.pose
        super().__init__(path, topics, pose=None)

    def _list(self) -> Dict[str, Listed]:
        listed = super()._list()
        poses = {name: _TYPES[topic.msgtype] for name, topic in listed.items()
                 if _TYPES.get(topic.msgtype) in _CHOICES['pose.source'] and not is_static(name)}
        # Nodes subscribe to transforms on /tf only.
        fitting = {name for name, source in poses.items() if self._source in ('', source)
                   and (self._source != 'tf' or name == '/tf')}
        if self._asked in poses and self._asked not in fitting:
            problem = f'is not the type of pose:={self._asked}'
        elif self._source and not self._asked and not fitting:
            problem = 'is the type of no pose topic'
        else:
            return {name: t for name, t in listed.items() if name not in poses or name in fitting}
        has = ', '.join(f'{name} ({source})' for name, source in sorted(poses.items()))
        raise ValueError(
            f'pose_source:={self._source} {problem}; poses of {self.path}: {has or "none"}; '
            'set pose:=TOPIC to one of them, with its pose_source or none')


class _NoGain(GainPredictor):
    """A predictor of gain for checking the name of a policy only."""
