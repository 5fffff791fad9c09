"""The tree of TF, as much of it as is asked for."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional

from dectrain_ros.sensing.pose_stream import PoseEvent, PoseStream
from dectrain_ros.sensing.pose_track import NO_POSES, PoseLookup
import numpy as np

_FRAMES = 10_000        # most frames known; who sends more sends nonsense


class _Way(NamedTuple):
    """Frames to be climbed from source and from target up to where they meet."""

    from_source: List[str]
    from_target: List[str]
    meet: bool

    @property
    def frames(self) -> List[str]:
        """Every frame whose place in its parent matters."""
        return self.from_source + self.from_target


class TransformTree:
    """
    Frames, each with its place in its parent.

    It is asked for one transform, target_from_source, and of moving frames it takes only those on
    the way, as a robot's joints send far more. tf2's buffer knows neither jumps nor the longest
    gap to guess across, and its core is C++ that only an installation has. Not locked.

    :param new_stream: makes the stream of a moving frame's poses in its parent.
    """

    def __init__(self, new_stream: Callable[[], PoseStream]):
        """Start without frames."""
        self._new_stream = new_stream
        self._parents: Dict[str, str] = {}
        self._fixed: Dict[str, np.ndarray] = {}
        self._moving: Dict[str, PoseStream] = {}
        self._asked = ('', '')                          # target, source
        self._way = _Way([], [], False)

    def ask_for(self, target: str, source: str) -> None:
        """Name the transform wanted from now on; asking for the same again costs nothing."""
        asked = _plain(target), _plain(source)
        if asked != self._asked:
            self._asked = asked
            self._find_way()

    def wants(self, parent: str, child: str) -> bool:
        """Take note of a moving frame and its parent; returns whether its pose is of use."""
        self._hang(_plain(parent), _plain(child))
        return _plain(child) in self._way.frames

    def add(self, child: str, stamp_ns: int, matrix: Optional[np.ndarray]
            ) -> Optional[PoseEvent]:
        """
        Take the pose of a wanted frame in its parent, (4, 4), or None if it was invalid.

        :returns: what there is to tell of it, if anything.
        """
        child = _plain(child)
        if child not in self._moving:
            self._fixed.pop(child, None)
            self._moving[child] = self._new_stream()
        return self._moving[child].add(stamp_ns, matrix)

    def fix(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Take the unmoving place of a frame, (4, 4)."""
        if self._hang(_plain(parent), _plain(child)):
            self._moving.pop(_plain(child), None)
            self._fixed[_plain(child)] = parent_from_child

    def at(self, stamp_ns: int) -> PoseLookup:
        """Give target_from_source at a stamp, or the problem of the first frame that has one."""
        target, source = self._asked
        if not self._way.meet:
            return PoseLookup(None, f'TF does not join {source} to {target}')
        climbed = []
        for frames in self._way.from_source, self._way.from_target:
            matrix = np.eye(4)
            for frame in frames:
                step = self._step(frame, stamp_ns)
                if step.matrix is None:
                    return step
                matrix = step.matrix @ matrix
            climbed.append(matrix)
        return PoseLookup(np.linalg.inv(climbed[1]) @ climbed[0])

    @property
    def newest_ns(self) -> Optional[int]:
        """Give the newest stamp every moving frame has reached, None before the first poses."""
        stamps = [self._moving[frame].newest_ns if frame in self._moving else None
                  for frame in self._way.frames if frame not in self._fixed]
        return None if not stamps or None in stamps else min(stamps)

    @property
    def is_joined(self) -> bool:
        """Whether the frames asked for hang in one tree."""
        return self._way.meet

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether any frame on the way jumped between two stamps."""
        return any(self._moving[frame].jumped(since_ns, until_ns)
                   for frame in self._way.frames if frame in self._moving)

    def clear(self) -> None:
        """Forget every pose that moves, for when time jumped."""
        for stream in self._moving.values():
            stream.clear()

    def _step(self, frame: str, stamp_ns: int) -> PoseLookup:
        """Give a frame's place in its parent."""
        if frame in self._fixed:
            return PoseLookup(self._fixed[frame])
        stream = self._moving.get(frame)
        return PoseLookup(None, NO_POSES) if stream is None else stream.at(stamp_ns)

    def _hang(self, parent: str, child: str) -> bool:
        """Take note of a frame's parent; returns false where there are too many frames."""
        if self._parents.get(child) != parent:
            if len(self._parents) >= _FRAMES and child not in self._parents:
                return False
            self._parents[child] = parent
            self._moving.pop(child, None)               # its poses were in another frame
            self._find_way()
        return True

    def _find_way(self) -> None:
        target, source = self._asked
        above = {'target': self._upwards(target), 'source': self._upwards(source)}
        meeting = next((f for f in above['source'] if f in above['target']), None)
        self._way = _Way(
            *(frames[:frames.index(meeting)] if meeting is not None else frames[:-1]
              for frames in (above['source'], above['target'])), meeting is not None)

    def _upwards(self, frame: str) -> List[str]:
        """List a frame and those above it; a ring ends where it closes."""
        frames = [frame]
        while self._parents.get(frames[-1], frame) not in frames:
            frames.append(self._parents[frames[-1]])
        return frames


def _plain(frame: str) -> str:
    """Give a frame's name as tf2 does, without the slash of ROS 1."""
    return frame.lstrip('/')
