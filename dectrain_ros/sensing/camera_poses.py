"""The camera's pose at a stamp: from poses of the camera or of a body, or from transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, Optional

from dectrain_ros.config import PoseConfig
from dectrain_ros.sensing.pose_stream import Limits, PoseEvent, PoseStream
from dectrain_ros.sensing.pose_track import NO_POSES, PoseLookup, rigid_transform
from dectrain_ros.sensing.stamps import stamp_ns_of
from dectrain_ros.sensing.transform_tree import TransformTree
import numpy as np

NOT_PLACED = 'camera is not placed on the body'
INVALID_POSE = 'invalid pose'

# Called with the reason of a problem, one of a few fixed texts, and its detail.
Report = Callable[[str, str], None]


class CameraPoses(ABC):
    """
    The camera's poses. Messages may be of rclpy or of rosbags, as only their fields are read.

    Not thread-safe: threads that share it must lock.

    :param config: frames of the poses, and limits of plausible motion.
    :param report: called with problems: invalid poses, jumps, frozen sources.
    """

    def __init__(self, config: PoseConfig, report: Report):
        """Start without poses."""
        self._limits = Limits(config.max_gap_s, config.max_speed, config.max_turn_rate)
        self._report = report
        self._tree = TransformTree(lambda: PoseStream(self._limits))
        self.has_valid = False      # whether any pose or transform was valid

    def change_limits(self, max_speed: float, max_turn_rate: float) -> None:
        """Set the speeds, m/s and degrees/s, above which later poses count as jumps."""
        self._limits.max_speed, self._limits.max_turn_rate = max_speed, max_turn_rate

    @abstractmethod
    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Return world_from_camera at a stamp, (4, 4) m, or the reason why there is none."""

    @property
    @abstractmethod
    def newest_ns(self) -> Optional[int]:
        """Newest stamp with a pose, None without poses."""

    @property
    @abstractmethod
    def needs_moving_transforms(self) -> bool:
        """Whether transforms of /tf are needed, not only those of /tf_static."""

    @abstractmethod
    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether poses of two stamps cannot be compared."""

    @abstractmethod
    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""

    def add_fixed(self, transform) -> None:
        """Add a TransformStamped of /tf_static."""
        matrix = self._matrix(transform)
        if matrix is not None:
            self._tree.fix(transform.header.frame_id, transform.child_frame_id, matrix)

    def add_moving(self, transform) -> bool:
        """Add a TransformStamped of /tf if its frames are needed; return whether they are."""
        if not self._tree.wants(transform.header.frame_id, transform.child_frame_id):
            return False
        self._report_event(self._tree.add(
            transform.child_frame_id, stamp_ns_of(transform.header.stamp),
            self._matrix(transform)))
        return True

    def _matrix(self, message) -> Optional[np.ndarray]:
        """Return the transform of a message, (4, 4); report an invalid one and return None."""
        try:
            matrix = pose_matrix(message)
        except ValueError as error:
            self._report(INVALID_POSE, str(error))
            return None
        self.has_valid = True
        return matrix

    def _report_event(self, event: Optional[PoseEvent]) -> None:
        if event is not None:
            self._report(*event)


class TransformPoses(CameraPoses):
    """The camera's pose in `pose.world_frame`, from transforms alone."""

    needs_moving_transforms = True

    def __init__(self, config: PoseConfig, report: Report):
        """Start without transforms."""
        super().__init__(config, report)
        self._world = config.world_frame

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Return world_from_camera at a stamp, (4, 4) m, or the reason why there is none."""
        if not camera_frame:
            return PoseLookup(None, 'images do not name their frame')
        self.ask_for(camera_frame)
        return self._tree.at(stamp_ns)

    def ask_for(self, camera_frame: str) -> None:
        """Set the camera's frame; from now on, transforms on its path to the world are stored."""
        self._tree.ask_for(self._world, camera_frame)

    @property
    def is_joined(self) -> bool:
        """Whether transforms connect the world and the camera's frame."""
        return self._tree.is_joined

    @property
    def newest_ns(self) -> Optional[int]:
        """Newest stamp with a pose, None without poses."""
        return self._tree.newest_ns

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether poses of two stamps cannot be compared."""
        return self._tree.jumped(since_ns, until_ns)

    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""
        self._tree.clear()


class BodyPoses(CameraPoses):
    """
    The camera's pose from poses of a body and the camera's pose on that body.

    The latter is `pose.extrinsic` if set, else a transform. A body without a name is the camera.

    :raises ValueError: if `pose.extrinsic` is not a transform.
    """

    def __init__(self, config: PoseConfig, report: Report):
        """Start without poses."""
        super().__init__(config, report)
        self._extrinsic = _extrinsic(config.extrinsic)
        self._body = config.body_frame
        self._stream = PoseStream(self._limits)
        self._is_placed = True

    def add_pose(self, message) -> None:
        """Add a PoseStamped, PoseWithCovarianceStamped or Odometry."""
        self._body = getattr(message, 'child_frame_id', '') or self._body
        self._report_event(self._stream.add(
            stamp_ns_of(message.header.stamp), self._matrix(message)))

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Return world_from_camera at a stamp, (4, 4) m, or the reason why there is none."""
        pose = self._stream.at(stamp_ns)
        if pose.matrix is None:
            return pose
        place = self._body_from_camera(stamp_ns, camera_frame)
        return place if place.matrix is None else PoseLookup(pose.matrix @ place.matrix)

    @property
    def newest_ns(self) -> Optional[int]:
        """Newest stamp with a pose, None without poses."""
        return self._stream.newest_ns

    @property
    def needs_moving_transforms(self) -> bool:
        """Whether the camera's pose on the body was not found in /tf_static."""
        return not self._is_placed

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether poses of two stamps cannot be compared."""
        return self._stream.jumped(since_ns, until_ns)

    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""
        self._stream.clear()

    def _body_from_camera(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Return the camera's pose on the body, (4, 4) m, or why there is none."""
        if self._extrinsic is not None:
            return PoseLookup(self._extrinsic)
        if not self._body or not camera_frame:
            return PoseLookup(np.eye(4))
        self._tree.ask_for(self._body, camera_frame)
        place = self._tree.at(stamp_ns)
        if place.matrix is None:
            self._is_placed = False
            self._report(NOT_PLACED, (
                f'poses are of {self._body}, images of {camera_frame}: set pose.extrinsic, or '
                'publish the transform between them on /tf_static'
                + (f' ({place.problem})' if place.problem != NO_POSES else '')))
            return PoseLookup(None, NOT_PLACED)
        return place


def make_camera_poses(from_transforms: bool, config: PoseConfig, report: Report) -> CameraPoses:
    """
    Make the source of the camera's poses.

    :param from_transforms: use transforms only, no topic of poses.
    :raises ValueError: if `pose.extrinsic` is not a transform.
    """
    return (TransformPoses if from_transforms else BodyPoses)(config, report)


def pose_matrix(message) -> np.ndarray:
    """
    Return the rigid transform of a message, (4, 4), m.

    :param message: PoseStamped, PoseWithCovarianceStamped, Odometry or TransformStamped.
    :raises ValueError: if a number is not finite or the quaternion is not of unit length.
    """
    if hasattr(message, 'transform'):
        position, turn = message.transform.translation, message.transform.rotation
    else:
        pose = getattr(message.pose, 'pose', message.pose)
        position, turn = pose.position, pose.orientation
    return rigid_transform(
        (position.x, position.y, position.z), (turn.x, turn.y, turn.z, turn.w))


def _extrinsic(text: str) -> Optional[np.ndarray]:
    """Parse body_from_camera, (4, 4) m; return None for an empty text."""
    if not text.strip():
        return None
    try:
        numbers = [float(number) for number in text.replace(',', ' ').strip('[] ').split()]
        if len(numbers) != 7:
            raise ValueError(f'it has {len(numbers)} numbers')
        return rigid_transform(numbers[:3], numbers[3:])
    except ValueError as error:
        raise ValueError(
            f'pose.extrinsic is {text!r}: {error}; it must be x y z (m) and the unit quaternion '
            'qx qy qz qw of the camera in the frame of the poses') from None
