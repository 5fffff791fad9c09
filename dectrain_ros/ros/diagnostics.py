"""Contents of /diagnostics: problems with their remedies, and numbers."""

from __future__ import annotations

import math
import os
from pathlib import Path
import platform
from typing import Iterator, Mapping, NamedTuple, TYPE_CHECKING

from dectrain_ros.ros import messages
from dectrain_ros.ros.problem_counts import Cause, Health
from dectrain_ros.sensing.pose_stream import JUMPED
from dectrain_ros.sensing.pose_track import LONG_GAP
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

if TYPE_CHECKING:       # the decision node starts without torch
    from dectrain_ros.decision.saved_policy import SavedPolicy
    from dectrain_ros.training.trainer import Safety

SLOWER = 'newer image came before its turn'
NO_CAMERA = 'no camera_info yet'
REFUSED = 'invalid camera_info'
STILL = 'pose does not change'
# Not warned of: the first has a cause of its own if frequent; the second is normal at rest.
UNREMARKABLE = f'dropped: {SLOWER}', f'problem: {STILL}'
_SILENT_S = 2.0
_LONG_SILENT_S = 5.0    # longer than any start or pause: an error, and logged
_SETTINGS = {           # parameters that select the type of a subscription
    'sensor_msgs/msg/Image': 'image.transport: raw',
    'sensor_msgs/msg/CompressedImage': 'image.transport: compressed',
    'geometry_msgs/msg/PoseStamped': 'pose.source: pose',
    'geometry_msgs/msg/PoseWithCovarianceStamped': 'pose.source: pose_with_covariance',
    'nav_msgs/msg/Odometry': 'pose.source: odometry'}
_SLOWER_SHARE = 0.1     # warn if a larger share of images is dropped
_MOST_SHARE = 0.5       # warn if a larger share of frames lacks a pose
_SEVERAL = 3
_SHARE_S = 60.0         # period over which the share trained is computed
_CLOCKS = 'compare the clocks, or raise pose.wait_s'
_REMEDIES = {           # if poses arrive, for reasons other than the clocks
    LONG_GAP: 'publish poses more often, or raise pose.max_gap_s',
    JUMPED: 'raise pose.max_speed or pose.max_turn_rate if the camera is that fast'}
_PAGE = os.sysconf('SC_PAGE_SIZE') if hasattr(os, 'sysconf') else 4096


class Topic(NamedTuple):
    """A subscribed topic: its name after remapping, and its expected type."""

    name: str
    type: str       # noqa: A003


def depth_causes(node: Node, health: Health, topics: Mapping[str, Topic], is_training: bool
                 ) -> Iterator[Cause]:
    """
    Yield the problems of an active depth node.

    :param topics: the topics of images, camera_info, poses and decisions.
    """
    silent_s = health.silence_s('images')
    if silent_s > _SILENT_S:
        yield _unheard(
            node, topics, 'images', silent_s, f'no images for {silent_s:.1f} s on',
            'is the camera running, and the topic remapped?', is_vital=True)
        return                          # all else follows from it
    drops = health.rises('dropped: ')
    lost, blind = drops.pop(SLOWER, 0), drops.pop(NO_CAMERA, 0)     # they have causes of their own
    if sum(drops.values()) >= _SEVERAL and not health.recent('frames'):
        reason = drops.most_common(1)[0][0]
        yield _error(f'no depth: {sum(drops.values())} images dropped, most often {reason}: '
                     + health.detail(f'dropped: {reason}'))
    refusal = health.detail(f'problem: {REFUSED}')
    if refusal and (blind or health.recent(f'problem: {REFUSED}')):     # it may be sent only once
        yield _error(f'camera_info is refused: {refusal}')
    elif blind:
        yield _unheard(
            node, topics, 'camera_info', health.silence_s('camera_info'), 'no camera_info on',
            'depth needs it; is it published, and the topic remapped?', is_vital=True)
    if is_training:
        silent_s = health.silence_s('poses')
        if silent_s > _SILENT_S:
            yield _unheard(
                node, topics, 'poses', silent_s, f'no poses for {silent_s:.1f} s on',
                'depth continues without training; is odometry running, and the topic remapped?')
        else:
            yield from _pose_causes(health)
        if health.recent('candidates') and health.silence_s('decisions') > _SILENT_S:
            topic = _described(node, topics['decisions'].name)
            yield _warning(f'no decision node answers on {topic}: start decision_node in this '
                           'namespace, or switch training off with ~/set_training')
    images = health.recent('images')
    if not blind and lost >= _SEVERAL and lost > _SLOWER_SHARE * images:
        yield _warning(f'inference is slower than the camera: {lost} of {images} images dropped: '
                       "lower the camera's rate, use a smaller network, or train less")


def _unheard(node: Node, topics: Mapping[str, Topic], what: str, silent_s: float, text: str,
             remedy: str, is_vital: bool = False) -> Cause:
    """
    Return the problem of a topic without messages for a while.

    :param is_vital: whether depth needs the topic.
    """
    name, expected = topics[what]
    others = sorted({end.topic_type for end in node.get_publishers_info_by_topic(name)}
                    - {expected})
    if others:
        kind = _SETTINGS.get(expected, '').partition(':')[0]
        setting = next((_SETTINGS[other] for other in others
                        if kind and _SETTINGS.get(other, '').startswith(kind)), '')
        text = (f'{name} is published as {", ".join(others)}, but this node expects {expected}'
                f': {f"set {setting}, or " if setting else ""}remap {what} to another topic')
    else:
        text = f'{text} {_described(node, name)}: {remedy}'
    lasts = bool(others) or silent_s > _LONG_SILENT_S
    level = DiagnosticStatus.ERROR if lasts and is_vital else DiagnosticStatus.WARN
    return Cause(level, text, what if lasts else '')


def _pose_causes(health: Health) -> Iterator[Cause]:
    """Yield why most frames have no pose although poses arrive."""
    lacking = health.rises('problem: no pose, ')
    lost = sum(lacking.values())
    if lost >= _SEVERAL and lost > _MOST_SHARE * health.recent('frames'):
        reason = lacking.most_common(1)[0][0]
        remedy = health.detail(f'problem: {reason}') or _REMEDIES.get(reason, _CLOCKS)
        yield _warning(f'poses arrive but most images have none ({reason}): {remedy}')


def depth_numbers(health: Health) -> Mapping[str, float]:
    """Return a depth node's rates, Hz, and the share of frames trained on in the last minute."""
    return {'images_hz': health.rate('images'), 'depth_hz': health.rate('frames'),
            'poses_hz': health.rate('poses'),
            'share_trained': _share(health, 'trained', 'frames'), 'memory_mb': memory_mb()}


def safety_numbers(safety: Safety) -> Mapping[str, float]:
    """Return the state of training, with rollbacks in total and by reason."""
    numbers = safety._asdict()
    del numbers['rollbacks']
    numbers['rollbacks'] = sum(safety.rollbacks.values())
    return {**numbers, **{f'rollbacks: {why}': n for why, n in safety.rollbacks.items()}}


def safety_causes(safety: Safety) -> Iterator[Cause]:
    """Yield the problems of training: rollbacks, and checkpoints that could not be written."""
    if safety.pause_frames:
        often = max(safety.rollbacks, key=safety.rollbacks.get)
        yield _warning(
            f'training made the depth worse and was rolled back {sum(safety.rollbacks.values())} '
            f'times, most often as {often}; it pauses for {safety.pause_frames} frames: are poses '
            'metric and synchronous with the images, and is training.learning_rate low enough?')
    yield from unsaved_causes(safety.save_failures)


def unsaved_causes(failures: int) -> Iterator[Cause]:
    """Yield the problem that checkpoints could not be written."""
    if failures:
        yield _warning(f'{failures} checkpoints could not be written: is the disk full, or '
                       'checkpoints.folder read-only?')


def decision_causes(node: Node, health: Health, predictor) -> Iterator[Cause]:
    """
    Yield the problems of an active decision node.

    :param predictor: of gain, None if the policy has none.
    """
    silent_s = health.silence_s('candidates')
    if silent_s > _SILENT_S:
        topic = node.resolve_topic_name(messages.CANDIDATE)
        yield _warning(f'no candidates for {silent_s:.1f} s on {_described(node, topic)}: is '
                       'depth_node running in this namespace, and does it receive images?')
    if predictor is not None and not predictor.trusted:
        yield _warning(f'{predictor.reason}: training at a fixed period instead; fit a gain '
                       'network to this place (dectrain collect, fit-decision)')


def policy_numbers(saved: SavedPolicy) -> Mapping[str, float]:
    """Return whether predicted gain is trusted, steps asked for and checkpoints, if it learns."""
    if not saved.policy.predictor:
        return {}
    return {'gain_trusted': int(saved.policy.predictor.trusted), 'steps': saved.steps,
            'saved': saved.saved, 'save_failures': saved.save_failures}


def decision_numbers(health: Health) -> Mapping[str, float]:
    """Return the rate of decisions, Hz, and the share that asked to train in the last minute."""
    return {'decisions_hz': health.rate('candidates'),
            'share_asked': _share(health, 'asked to train', 'candidates'),
            'memory_mb': memory_mb()}


def lifecycle_cause(state: str, problem: str, address: str) -> Cause:
    """Return the problem that a node is not active."""
    if problem:
        return _error(f'{state}: {problem}')
    step = 'configure' if state == 'unconfigured' else 'activate'
    return _warning(f'{state}: ros2 lifecycle set {address} {step}')


def report(node: Node, status: DiagnosticStatus, device: str = '') -> DiagnosticArray:
    """
    Return the message for /diagnostics.

    :param device: torch device, added to the machine's name.
    """
    status.hardware_id = f'{platform.node()} {device}'.strip()
    message = DiagnosticArray(status=[status])
    message.header.stamp = node.get_clock().now().to_msg()
    return message


def status_name(node: Node, task: str) -> str:
    """Return the name of a status, with the namespace so that cameras differ."""
    return f'{node.get_fully_qualified_name().lstrip("/")}: {task}'


def memory_mb() -> float:
    """Return the resident memory of this process, MB (10^6 bytes); nan where unknown."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * _PAGE / 1e6
    except OSError:
        return math.nan


def _share(health: Health, part: str, whole: str) -> float:
    return health.recent(part, _SHARE_S) / max(health.recent(whole, _SHARE_S), 1)


def _described(node: Node, topic: str) -> str:
    """Return a topic and its number of publishers."""
    return f'{topic} ({node.count_publishers(topic)} publishers)'


def _error(text: str) -> Cause:
    return Cause(DiagnosticStatus.ERROR, text)


def _warning(text: str) -> Cause:
    return Cause(DiagnosticStatus.WARN, text)
