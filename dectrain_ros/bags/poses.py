"""Camera poses of a bag: from a pose topic, or from its tree of transforms."""

from __future__ import annotations

import logging
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from dectrain_ros.bags.topics import BagError, is_static, ODOMETRY, TRANSFORMS
from dectrain_ros.sensing.pose_track import PoseLookup, PoseTrack, rigid_transform
import numpy as np

logger = logging.getLogger(__name__)

# REP 105: map jumps when the robot relocalises, odom never does.
_SMOOTH_FRAME = 'odom'


class PoseSource(NamedTuple):
    """
    What is needed to find a bag's poses.

    messages() reads (topic, message) of topics from the start; count bounds a track's poses.
    """

    path: object
    topic: str
    msgtype: str
    count: int
    static_topics: Tuple[str, ...]
    camera_frame: str
    max_gap_s: float
    messages: Callable[[Tuple[str, ...]], Iterator[tuple]]


class Chain:
    """Transforms from a fixed frame down to the camera: PoseTracks and unmoving matrices."""

    def __init__(self, links: List[Union[PoseTrack, np.ndarray]]):
        """Take the links, the fixed frame's first."""
        self._links = links

    def at(self, stamp_ns: int) -> PoseLookup:
        """Give world_from_camera at a stamp, or the problem of the first link that has one."""
        matrix = np.eye(4)
        for link in self._links:
            if isinstance(link, PoseTrack):
                link, problem = link.at(stamp_ns)
                if problem:
                    return PoseLookup(None, problem)
            matrix = matrix @ link
        return PoseLookup(matrix)

    def span_ns(self) -> Tuple[int, int]:
        """Give the first and the last stamp at which every moving link has poses."""
        tracks = [link for link in self._links if isinstance(link, PoseTrack)]
        return max(t.oldest_ns for t in tracks), min(t.newest_ns for t in tracks)


def read_poses(source: PoseSource) -> Chain:
    """
    Read every pose of the bag.

    :raises BagError: if there is not one valid pose, or /tf does not lead to the camera.
    """
    if source.msgtype == TRANSFORMS:
        return _from_transforms(source)
    return _from_topic(source)


def _from_topic(source: PoseSource) -> Chain:
    """Read PoseStamped, PoseWithCovarianceStamped or Odometry."""
    track = _Track(source)
    body_frame = ''
    for _, message in source.messages((source.topic,)):
        pose = message.pose if source.msgtype.endswith('/PoseStamped') else message.pose.pose
        track.add(message.header.stamp, pose.position, pose.orientation)
        if source.msgtype == ODOMETRY:
            body_frame = message.child_frame_id.lstrip('/')
    track.check()
    if not body_frame or body_frame == source.camera_frame:
        return Chain([track.poses])
    body_from_camera = _static_transform(source, body_frame)
    if body_from_camera is None:
        logger.warning(
            '%s: %s gives the pose of %r and /tf_static has no transform from it to %r: it is '
            'taken as the pose of the camera itself (x right, y down, z forward)',
            source.path, source.topic, body_frame, source.camera_frame)
        return Chain([track.poses])
    return Chain([track.poses, body_from_camera])


def _from_transforms(source: PoseSource) -> Chain:
    """Read the transforms between a fixed frame and the camera, and no others."""
    topics = (source.topic, *source.static_topics)
    parents: Dict[str, str] = {}
    for _, child, transform in _transforms(source, topics):
        parents.setdefault(child, transform.header.frame_id.lstrip('/'))
    frames = _ancestors(source.camera_frame, parents)
    if _SMOOTH_FRAME in frames:
        frames = frames[:frames.index(_SMOOTH_FRAME) + 1]
    links: Dict[str, object] = {}
    for topic, child, transform in _transforms(source, topics):
        if child not in frames[:-1] or transform.header.frame_id.lstrip('/') != parents[child]:
            continue
        shift, turn = transform.transform.translation, transform.transform.rotation
        if is_static(topic):
            links[child] = _fixed(source, topic, shift, turn)
        elif not isinstance(links.get(child), np.ndarray):
            links.setdefault(child, _Track(source)).add(transform.header.stamp, shift, turn)
    tracks = [link for link in links.values() if isinstance(link, _Track)]
    if not tracks:
        raise BagError(
            f'{source.path}: {source.topic} has no moving transform down to the camera frame '
            f'{source.camera_frame!r}; name a pose topic, or record /tf and /tf_static')
    for track in tracks:
        track.check()
    return Chain([getattr(links[f], 'poses', links[f]) for f in reversed(frames[:-1])])


def _static_transform(source: PoseSource, body_frame: str) -> Optional[np.ndarray]:
    """Give body_from_camera from static transforms, (4, 4), None if they do not meet."""
    parents, steps = {}, {}
    for topic, child, transform in _transforms(source, source.static_topics):
        parents[child] = transform.header.frame_id.lstrip('/')
        steps[child] = _fixed(
            source, topic, transform.transform.translation, transform.transform.rotation)
    above_body = _ancestors(body_frame, parents)
    above_camera = _ancestors(source.camera_frame, parents)
    common = next((frame for frame in above_camera if frame in above_body), None)
    if common is None:
        return None

    def from_common(frames):
        matrix = np.eye(4)
        for frame in reversed(frames[:frames.index(common)]):
            matrix = matrix @ steps[frame]
        return matrix
    return np.linalg.inv(from_common(above_body)) @ from_common(above_camera)


def _transforms(source: PoseSource, topics: Tuple[str, ...]) -> Iterator[tuple]:
    """Read (topic, child frame, TransformStamped); frames without tf1's leading slash."""
    if not topics:
        return
    for topic, message in source.messages(topics):
        for transform in message.transforms:
            yield topic, transform.child_frame_id.lstrip('/'), transform


def _ancestors(frame: str, parents: Dict[str, str]) -> List[str]:
    """List a frame and its ancestors up to the root."""
    frames = [frame]
    while parents.get(frames[-1]) not in (None, *frames):
        frames.append(parents[frames[-1]])
    return frames


def _values(shift, turn) -> tuple:
    """Give translation and quaternion of a message as numbers."""
    return (shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w)


def _fixed(source: PoseSource, topic: str, shift, turn) -> np.ndarray:
    """Give a static transform, which must be valid."""
    try:
        return rigid_transform(*_values(shift, turn))
    except ValueError as error:
        raise BagError(f'{source.path}: {topic}: {error}; record it anew') from None


class _Track:
    """A PoseTrack in the making, and what was wrong with its first invalid pose."""

    def __init__(self, source: PoseSource):
        self._source = source
        self._valid = False
        self._problem = ''
        self.poses = PoseTrack(max_gap_s=source.max_gap_s, capacity=max(2, source.count))

    def add(self, stamp, shift, turn) -> None:
        """Take one pose; an invalid one is kept as such."""
        matrix = None
        try:
            matrix = rigid_transform(*_values(shift, turn))
            self._valid = True
        except ValueError as error:
            if not self._problem:
                self._problem = str(error)
                logger.warning('%s: invalid pose on %s: %s', self._source.path,
                               self._source.topic, error)
        self.poses.add(stamp.sec * 10**9 + stamp.nanosec, matrix)

    def check(self) -> None:
        """Refuse a track without one valid pose."""
        if not self._valid:
            raise BagError(
                f'{self._source.path}: {self._source.topic} has no valid pose: '
                f'{self._problem or "it has no readable messages"}; name another pose topic')
