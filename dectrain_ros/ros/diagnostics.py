"""What the nodes say of themselves in /diagnostics: causes a person can act on, and numbers."""

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
# No reason to warn: the first has a cause where it is a trend, robots that rest stand still.
UNREMARKABLE = f'dropped: {SLOWER}', f'problem: {STILL}'
_SILENT_S = 2.0
_LONG_SILENT_S = 5.0    # no start or pause lasts so long: an error, and logged
_SETTINGS = {           # that listen to a type
    'sensor_msgs/msg/Image': 'image.transport: raw',
    'sensor_msgs/msg/CompressedImage': 'image.transport: compressed',
    'geometry_msgs/msg/PoseStamped': 'pose.source: pose',
    'geometry_msgs/msg/PoseWithCovarianceStamped': 'pose.source: pose_with_covariance',
    'nav_msgs/msg/Odometry': 'pose.source: odometry'}
_SLOWER_SHARE = 0.1     # of the images: fewer lost now and then are no trend
_MOST_SHARE = 0.5       # of the frames
_SEVERAL = 3
_SHARE_S = 60.0         # the share trained goes over so long
_CLOCKS = 'compare the clocks, or raise pose.wait_s'
_REMEDIES = {           # where poses come and it is not the clocks
    LONG_GAP: 'publish poses more often, or raise pose.max_gap_s',
    JUMPED: 'raise pose.max_speed or pose.max_turn_rate if the camera is that fast'}
_PAGE = os.sysconf('SC_PAGE_SIZE') if hasattr(os, 'sysconf') else 4096


class Topic(NamedTuple):
    """A topic that is listened to, as remapped, and the type that is expected on it."""

    name: str
    type: str       # noqa: A003


def depth_causes(node: Node, health: Health, topics: Mapping[str, Topic], is_training: bool
                 ) -> Iterator[Cause]:
    """
    Return why an active depth node's work does not go well.

    :param topics: those of images, camera_info, poses and decisions.
    """
    silent_s = health.silence_s('images')
    if silent_s > _SILENT_S:
        yield _unheard(
            node, topics, 'images', silent_s, f'no images for {silent_s:.1f} s on',
            'is the camera running and the topic remapped?', is_vital=True)
        return                          # then nothing else can be expected
    drops = health.rises('dropped: ')
    lost, blind = drops.pop(SLOWER, 0), drops.pop(NO_CAMERA, 0)     # of which causes say more
    if sum(drops.values()) >= _SEVERAL and not health.recent('frames'):
        reason = drops.most_common(1)[0][0]
        yield _error(f'no depth, {sum(drops.values())} images dropped, most often {reason}: '
                     + health.detail(f'dropped: {reason}'))
    refusal = health.detail(f'problem: {REFUSED}')
    if refusal and (blind or health.recent(f'problem: {REFUSED}')):     # it may come but once
        yield _error(f'camera_info is refused: {refusal}')
    elif blind:
        yield _unheard(
            node, topics, 'camera_info', health.silence_s('camera_info'), 'no camera_info on',
            'there is no depth without; is it published and remapped?', is_vital=True)
    if is_training:
        silent_s = health.silence_s('poses')
        if silent_s > _SILENT_S:
            yield _unheard(
                node, topics, 'poses', silent_s, f'no poses for {silent_s:.1f} s on',
                'depth goes on, training does not; is odometry running and the topic remapped?')
        else:
            yield from _pose_causes(health)
        if health.recent('candidates') and health.silence_s('decisions') > _SILENT_S:
            yield _warning('no decision node answers on '
                           f'{_told(node, topics["decisions"].name)}: start decision_node in this '
                           'namespace, or switch training off by ~/set_training')
    images = health.recent('images')
    if not blind and lost >= _SEVERAL and lost > _SLOWER_SHARE * images:
        yield _warning(f'inference is slower than the camera: {lost} of {images} images dropped: '
                       "lower the camera's rate, take a smaller network, or train less")


def _unheard(node: Node, topics: Mapping[str, Topic], what: str, silent_s: float, text: str,
             remedy: str, is_vital: bool = False) -> Cause:
    """
    Return what is wrong with a topic on which nothing was heard for a while.

    :param is_vital: there is no depth without it.
    """
    name, expected = topics[what]
    others = sorted({end.topic_type for end in node.get_publishers_info_by_topic(name)}
                    - {expected})
    if others:
        kind = _SETTINGS.get(expected, '').partition(':')[0]
        setting = next((_SETTINGS[other] for other in others
                        if kind and _SETTINGS.get(other, '').startswith(kind)), '')
        text = (f'{name} is published as {", ".join(others)}, and this node listens to {expected}'
                f': {f"set {setting}, or " if setting else ""}remap {what} to another topic')
    else:
        text = f'{text} {_told(node, name)}: {remedy}'
    lasts = bool(others) or silent_s > _LONG_SILENT_S
    level = DiagnosticStatus.ERROR if lasts and is_vital else DiagnosticStatus.WARN
    return Cause(level, text, what if lasts else '')


def _pose_causes(health: Health) -> Iterator[Cause]:
    """Return why most frames find no pose although poses come."""
    lacking = health.rises('problem: no pose, ')
    lost = sum(lacking.values())
    if lost >= _SEVERAL and lost > _MOST_SHARE * health.recent('frames'):
        reason = lacking.most_common(1)[0][0]
        remedy = health.detail(f'problem: {reason}') or _REMEDIES.get(reason, _CLOCKS)
        yield _warning(f'poses come but match no image ({reason}): {remedy}')


def depth_numbers(health: Health) -> Mapping[str, float]:
    """Return a depth node's rates, Hz, and the share of frames trained on in the last minute."""
    return {'images_hz': health.rate('images'), 'depth_hz': health.rate('frames'),
            'poses_hz': health.rate('poses'),
            'share_trained': _share(health, 'trained', 'frames'), 'memory_mb': memory_mb()}


def safety_numbers(safety: Safety) -> Mapping[str, float]:
    """Return how training fares; rollbacks by reason, too, and the limit that holds by name."""
    numbers = safety._asdict()
    del numbers['rollbacks']
    numbers['rollbacks'] = sum(safety.rollbacks.values())
    return {**numbers, **{f'rollbacks: {why}': n for why, n in safety.rollbacks.items()}}


def safety_causes(safety: Safety) -> Iterator[Cause]:
    """Return why training harms, or is not remembered."""
    if safety.pause_frames:
        often = max(safety.rollbacks, key=safety.rollbacks.get)
        yield _warning(
            f'training harmed and was taken back {sum(safety.rollbacks.values())} times, most '
            f'often as {often}; it pauses for {safety.pause_frames} frames: are poses metric and '
            'in step with the images, and is training.learning_rate low enough?')
    yield from unsaved_causes(safety.save_failures)


def unsaved_causes(failures: int) -> Iterator[Cause]:
    """Return that what is learnt will not be remembered."""
    if failures:
        yield _warning(f'{failures} checkpoints could not be written: is there room, and may '
                       'checkpoints.folder be written to?')


def decision_causes(node: Node, health: Health, predictor) -> Iterator[Cause]:
    """
    Return why an active decision node's work does not go well.

    :param predictor: of gain, None where the policy needs none.
    """
    silent_s = health.silence_s('candidates')
    if silent_s > _SILENT_S:
        topic = node.resolve_topic_name(messages.CANDIDATE)
        yield _warning(f'no candidates for {silent_s:.1f} s on {_told(node, topic)}: is '
                       'depth_node running in this namespace, and does it get images?')
    if predictor is not None and not predictor.trusted:
        yield _warning(f'{predictor.reason}: it trains at a fixed period meanwhile; fit a gain '
                       'network to this place (dectrain collect, fit-decision)')


def policy_numbers(saved: SavedPolicy) -> Mapping[str, float]:
    """Return whether predicted gain is trusted, steps asked for and checkpoints, if it learns."""
    if not saved.policy.predictor:
        return {}
    return {'gain_trusted': int(saved.policy.predictor.trusted), 'steps': saved.steps,
            'saved': saved.saved, 'save_failures': saved.save_failures}


def decision_numbers(health: Health) -> Mapping[str, float]:
    """Return a decision node's rate, Hz, and the share of frames asked for in the last minute."""
    return {'decisions_hz': health.rate('candidates'),
            'share_asked': _share(health, 'asked to train', 'candidates'),
            'memory_mb': memory_mb()}


def lifecycle_cause(state: str, problem: str, address: str) -> Cause:
    """Return that a node does nothing, as it is not active, and what to do."""
    if problem:
        return _error(f'{state}: {problem}')
    step = 'configure' if state == 'unconfigured' else 'activate'
    return _warning(f'{state}: ros2 lifecycle set {address} {step}')


def report(node: Node, status: DiagnosticStatus, device: str = '') -> DiagnosticArray:
    """
    Return the message for /diagnostics.

    :param device: what computes, beside the machine's name.
    """
    status.hardware_id = f'{platform.node()} {device}'.strip()
    message = DiagnosticArray(status=[status])
    message.header.stamp = node.get_clock().now().to_msg()
    return message


def status_name(node: Node, task: str) -> str:
    """Return a status' name, which two cameras in two namespaces must not share."""
    return f'{node.get_fully_qualified_name().lstrip("/")}: {task}'


def memory_mb() -> float:
    """Return the memory this process holds, MB (10^6 bytes); nan where it is not known."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * _PAGE / 1e6
    except OSError:
        return math.nan


def _share(health: Health, part: str, whole: str) -> float:
    return health.recent(part, _SHARE_S) / max(health.recent(whole, _SHARE_S), 1)


def _told(node: Node, topic: str) -> str:
    """Return a topic and how many publish on it: none, or some whose messages do not come."""
    return f'{topic} ({node.count_publishers(topic)} publishers)'


def _error(text: str) -> Cause:
    return Cause(DiagnosticStatus.ERROR, text)


def _warning(text: str) -> Cause:
    return Cause(DiagnosticStatus.WARN, text)
