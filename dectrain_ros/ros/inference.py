"""The inference thread: newest image in, depth out, one problem never the last."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
import threading
from typing import Callable, Deque, NamedTuple, Optional

from dectrain_ros.frames import Candidate, DepthPrediction, Frame, Intrinsics
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.poses import AFTER_LAST, PoseLookup
from dectrain_ros.ros.conversions import rgb_from_image
from dectrain_ros.ros.health import Health
from dectrain_ros.ros.messages import ns_from_stamp
from dectrain_ros.ros.pose_stream import JUMP_NS
from dectrain_ros.ros.rectify import Lens, Rectifier
from dectrain_ros.ros.sync import Asked, Inbox, Received
import numpy as np
from std_msgs.msg import Header

# Frames that wait for their poses, 0.27 s at 30 Hz; each holds its image and encoder features.
WAITING = 8
CROWDED = f'pose later than {WAITING} more images'

_GAP_NS = 10_000_000_000        # images further apart are not of one drive: a bag was sought in
_SAME_CAMERA = 1e-3     # of the focal length: a smaller difference is noise of a calibration
_SAME_ASPECT = 1e-2     # images this near in shape to camera_info are a resize


class _Dropped(Exception):
    """An image gets no depth; args are one of a few fixed reasons and the detail."""


class _Predicted(NamedTuple):
    """A frame whose depth is published and whose pose is waited for."""

    asked: Asked
    frame: Frame
    prediction: DepthPrediction
    header: Header
    stretch: int            # frames of two stretches are no views of each other


class Inference:
    """
    Runs the pipeline on the newest image of the inbox until closed.

    Depth is published as soon as it is there. The frame then waits for its pose, while the next
    image has its turn; frames are considered in their order, one between two predictions.

    :param publish_depth: takes an image as it was received, its frame, without a pose, and its
        depth, on this thread.
    :param publish_candidate: takes the image's header, the candidate it became and the version of
        the weights that predicted, on this thread.
    """

    def __init__(self, pipeline: Pipeline, inbox: Inbox, health: Health,
                 publish_depth: Callable[[Received, Frame, DepthPrediction], None],
                 publish_candidate: Callable[[Header, Candidate, int], None]):
        """Start the thread."""
        self._pipeline = pipeline
        self._inbox = inbox
        self._health = health
        self._publish_depth = publish_depth
        self._publish_candidate = publish_candidate
        self._predicted: Deque[_Predicted] = deque()
        self._stamp_ns: Optional[int] = None            # of the newest image taken
        self._camera: Optional[Intrinsics] = None       # of the newest image taken
        self._stretch = self._of_views = 0              # of the newest image, and of the views
        self._view_ns: Optional[int] = None             # of the newest view
        self._lens: Optional[Lens] = None               # what the rectifier is of
        self._rectifier: Optional[Rectifier] = None
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.5) -> bool:
        """End after the frame in work; returns whether the thread ended in time."""
        self._inbox.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._inbox.wait(self._predicted[0].asked if self._predicted else None):
            received = self._inbox.take_image()
            if received is not None:
                self._predict(received)
            if self._predicted and (len(self._predicted) > WAITING
                                    or self._inbox.is_decided(self._predicted[0].asked)):
                self._consider(self._predicted.popleft())

    def _predict(self, received: Received) -> None:
        """Publish the depth of an image, and let its frame wait."""
        try:
            frame = self._frame(received)
            prediction = self._pipeline.predict(frame)
            self._publish_depth(received, frame, prediction)
        except _Dropped as dropped:
            self._health.drop(*dropped.args)
        except Exception as error:      # e.g. out of memory: the next frame may well fit
            self._health.drop('inference failed', f'{type(error).__name__}: {error}')
        else:
            asked = Asked(frame.stamp_ns, frame.frame_id, self._inbox.now_s())
            self._predicted.append(_Predicted(
                asked, frame, prediction, received.message.header, self._stretch))

    def _consider(self, predicted: _Predicted) -> None:
        """Publish what a frame may teach, with its pose or the reason why it has none."""
        try:
            pose = self._pose(predicted)
            frame = replace(predicted.frame, world_from_camera=pose.matrix,
                            pose_problem=pose.problem)
            self._keep_views(predicted.stretch, frame)
            candidate = self._pipeline.consider(frame, predicted.prediction)
            self._publish_candidate(
                predicted.header, candidate, predicted.prediction.weight_version)
        except Exception as error:
            self._health.problem('no candidate', f'{type(error).__name__}: {error}')

    def _pose(self, predicted: _Predicted) -> PoseLookup:
        pose = self._inbox.pose(predicted.asked)
        if pose.problem == AFTER_LAST and len(self._predicted) >= WAITING:
            pose = PoseLookup(None, CROWDED)
        if pose.matrix is None:
            self._health.problem(f'no pose, {pose.problem}', 'the frame is not trained on')
        return pose

    def _keep_views(self, stretch: int, frame: Frame) -> None:
        """Start the views afresh where this frame must not be compared with them."""
        jumped = (self._view_ns is not None and frame.world_from_camera is not None
                  and self._inbox.jumped(self._view_ns, frame.stamp_ns))
        if stretch != self._of_views or jumped:
            self._pipeline.forget_views()
            self._of_views, self._view_ns = stretch, None
        if frame.world_from_camera is not None:
            self._view_ns = frame.stamp_ns

    def _frame(self, received: Received) -> Frame:
        """Make an image a frame, without its pose; raises _Dropped if that cannot be."""
        message = received.message
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._keep_order(stamp_ns)
        lens = self._inbox.lens()
        if lens is None:
            raise _Dropped('no camera_info yet')
        try:
            image = rgb_from_image(message)
        except ValueError as error:
            raise _Dropped('unreadable image', str(error)) from error
        lens = _fitted(lens, *image.shape[1::-1])
        camera = lens.camera
        if lens.coefficients:
            rectifier = self._rectifier_of(lens)
            image, camera = rectifier(image), rectifier.camera
        self._keep_camera(camera)
        return Frame(stamp_ns, image, camera, frame_id=message.header.frame_id)

    def _rectifier_of(self, lens: Lens) -> Rectifier:
        """Give the rectifier of a lens, made once; raises _Dropped if there cannot be one."""
        if self._lens != lens:
            self._lens, self._rectifier = lens, None
            try:
                # As many images as may wait, the one more that is there then, and the next.
                self._rectifier = Rectifier(lens, buffers=WAITING + 2)
            except ValueError as error:
                raise _Dropped('image cannot be rectified', str(error)) from error
        if self._rectifier is None:
            raise _Dropped('image cannot be rectified')
        return self._rectifier

    def _keep_camera(self, camera: Intrinsics) -> None:
        """Begin another stretch where the camera is not the one before."""
        before = self._camera
        if before is not None and _is_same(before, camera):
            return
        self._camera = camera
        if before is None:
            return
        resized = (before.width, before.height) != (camera.width, camera.height)
        self._health.problem('image size changed' if resized else 'camera changed',
                             f'from {before} to {camera}; earlier views are not used any more')
        self._stretch += 1

    def _keep_order(self, stamp_ns: int) -> None:
        """Drop images that are not newer; far back or ahead in time, begin another stretch."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if last_ns is None or last_ns < stamp_ns <= last_ns + _GAP_NS:
            return
        if stamp_ns > last_ns:
            self._health.problem(
                'time jumped ahead', f'by {(stamp_ns - last_ns) * 1e-9:.1f} s (a bag sought in, '
                'a camera that was away); earlier views are not used any more')
            self._stretch += 1
            return
        if last_ns - stamp_ns <= JUMP_NS and not self._inbox.take_went_back():
            self._stamp_ns = last_ns
            raise _Dropped('stamp not after the previous image',
                           f'{stamp_ns} ns after {last_ns} ns')
        self._health.problem(
            'time jumped back', f'by {(last_ns - stamp_ns) * 1e-9:.1f} s (a looping bag?); '
            'earlier poses and views are forgotten, the weights stay')
        self._inbox.rewind(stamp_ns)
        self._stretch += 1


def _fitted(lens: Lens, width: int, height: int) -> Lens:
    """Give the camera of images resized from camera_info's; raises _Dropped for another shape."""
    camera = lens.camera
    if (camera.width, camera.height) == (width, height):
        return lens
    if abs(width * camera.height / (height * camera.width) - 1) > _SAME_ASPECT:
        raise _Dropped(
            'size differs from camera_info',
            f'image {width}x{height}, camera_info {camera.width}x{camera.height}')
    return lens.resized(width, height)


def _is_same(one: Intrinsics, other: Intrinsics) -> bool:
    """Say whether two cameras have the same size and, but for noise, the same numbers."""
    apart = np.abs(one.matrix() - other.matrix()).max()
    return ((one.width, one.height) == (other.width, other.height)
            and bool(apart <= _SAME_CAMERA * one.fx))
