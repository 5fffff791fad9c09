"""A tree of TF frames that stores only the transforms between two of them."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional

from dectrain_ros.sensing.pose_stream import PoseEvent, PoseStream
from dectrain_ros.sensing.pose_track import NO_POSES, PoseLookup
import numpy as np

_MAX_FRAMES = 10_000    # a source of more frames is faulty


class _Path(NamedTuple):
    """The frames from source and from target up to, but without, their common ancestor."""

    from_source: List[str]
    from_target: List[str]
    is_joined: bool

    @property
    def frames(self) -> List[str]:
        """Every frame whose pose in its parent is needed."""
        return self.from_source + self.from_target


class TransformTree:
    """
    Frames, each with its pose in its parent, and one transform to look up: target_from_source.

    It stores the poses of moving frames on the path between the two only, as a robot's joints send
    far more. tf2's buffer is not used: it has no limits on jumps and gaps, and needs a ROS
    installation. Not thread-safe.

    :param new_stream: makes the stream for the poses of a moving frame in its parent.
    """

    def __init__(self, new_stream: Callable[[], PoseStream]):
        """Start without frames."""
        self._new_stream = new_stream
        self._parents: Dict[str, str] = {}
        self._fixed: Dict[str, np.ndarray] = {}
        self._moving: Dict[str, PoseStream] = {}
        self._asked = ('', '')                          # target, source
        self._path = _Path([], [], False)

    def ask_for(self, target: str, source: str) -> None:
        """Set the transform to look up; setting the same again costs nothing."""
        asked = _plain(target), _plain(source)
        if asked != self._asked:
            self._asked = asked
            self._find_path()

    def wants(self, parent: str, child: str) -> bool:
        """Record the parent of a moving frame; return whether its pose is on the path."""
        self._set_parent(_plain(parent), _plain(child))
        return _plain(child) in self._path.frames

    def add(self, child: str, stamp_ns: int, matrix: Optional[np.ndarray]
            ) -> Optional[PoseEvent]:
        """
        Add the pose of a frame on the path.

        :param matrix: parent_from_child in m, (4, 4); None if the source sent an invalid one.
        :returns: a jump or a frozen source to report, if there is one.
        """
        child = _plain(child)
        if child not in self._moving:
            self._fixed.pop(child, None)
            self._moving[child] = self._new_stream()
        return self._moving[child].add(stamp_ns, matrix)

    def fix(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Set the fixed pose of a frame in its parent, (4, 4) m."""
        if self._set_parent(_plain(parent), _plain(child)):
            self._moving.pop(_plain(child), None)
            self._fixed[_plain(child)] = parent_from_child

    def at(self, stamp_ns: int) -> PoseLookup:
        """Return target_from_source at a stamp, (4, 4) m, or the first problem on the path."""
        target, source = self._asked
        if not self._path.is_joined:
            return PoseLookup(None, f'TF does not connect {source} to {target}')
        ancestor_from_ends = []        # of source, then of target
        for frames in self._path.from_source, self._path.from_target:
            matrix = np.eye(4)
            for frame in frames:
                step = self._step(frame, stamp_ns)
                if step.matrix is None:
                    return step
                matrix = step.matrix @ matrix
            ancestor_from_ends.append(matrix)
        from_source, from_target = ancestor_from_ends
        return PoseLookup(np.linalg.inv(from_target) @ from_source)

    @property
    def newest_ns(self) -> Optional[int]:
        """Newest stamp that every moving frame on the path has reached, None without poses."""
        stamps = [self._moving[frame].newest_ns if frame in self._moving else None
                  for frame in self._path.frames if frame not in self._fixed]
        return None if not stamps or None in stamps else min(stamps)

    @property
    def is_joined(self) -> bool:
        """Whether target and source are connected."""
        return self._path.is_joined

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether any frame on the path jumped between two stamps."""
        return any(self._moving[frame].jumped(since_ns, until_ns)
                   for frame in self._path.frames if frame in self._moving)

    def clear(self) -> None:
        """Drop the poses of moving frames, as after a jump in time."""
        for stream in self._moving.values():
            stream.clear()

    def _step(self, frame: str, stamp_ns: int) -> PoseLookup:
        """Return a frame's pose in its parent."""
        if frame in self._fixed:
            return PoseLookup(self._fixed[frame])
        stream = self._moving.get(frame)
        return PoseLookup(None, NO_POSES) if stream is None else stream.at(stamp_ns)

    def _set_parent(self, parent: str, child: str) -> bool:
        """Record a frame's parent; return false if there are too many frames."""
        if self._parents.get(child) != parent:
            if len(self._parents) >= _MAX_FRAMES and child not in self._parents:
                return False
            self._parents[child] = parent
            self._moving.pop(child, None)               # its poses were in another frame
            self._find_path()
        return True

    def _find_path(self) -> None:
        target, source = self._asked
        above = {'target': self._upwards(target), 'source': self._upwards(source)}
        meeting = next((f for f in above['source'] if f in above['target']), None)
        self._path = _Path(
            *(frames[:frames.index(meeting)] if meeting is not None else frames[:-1]
              for frames in (above['source'], above['target'])), meeting is not None)

    def _upwards(self, frame: str) -> List[str]:
        """List a frame and its ancestors; a cycle is followed once."""
        frames = [frame]
        while self._parents.get(frames[-1], frame) not in frames:
            frames.append(self._parents[frames[-1]])
        return frames


def _plain(frame: str) -> str:
    """Return a frame's name without the leading slash of ROS 1, as tf2 does."""
    return frame.lstrip('/')
