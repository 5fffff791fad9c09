"""The inference thread: newest image in, depth out, one problem never the last."""

from __future__ import annotations

from dataclasses import replace
import threading
from typing import Callable, Optional

from dectrain_ros.frames import Candidate, DepthPrediction, Frame, Intrinsics
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros.conversions import rgb_from_image
from dectrain_ros.ros.health import Health
from dectrain_ros.ros.messages import ns_from_stamp
from dectrain_ros.ros.sync import Inbox, JUMP_NS, Received
import numpy as np
from std_msgs.msg import Header

_SAME_CAMERA = 1e-3     # of the focal length: a smaller difference is noise of a calibration
_SAME_ASPECT = 1e-2     # images this near in shape to camera_info are a resize


class _Dropped(Exception):
    """An image gets no depth; args are one of a few fixed reasons and the detail."""


class Inference:
    """
    Runs the pipeline on the newest image of the inbox until closed.

    Depth is published as soon as it is there; only then is the frame's pose waited for.

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
        self._stamp_ns: Optional[int] = None            # of the newest image taken
        self._camera: Optional[Intrinsics] = None       # of the views remembered
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.5) -> bool:
        """End after the frame in work; returns whether the thread ended in time."""
        self._inbox.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            received = self._inbox.take_image()
            if received is None:
                return
            try:
                frame = self._frame(received)
                prediction = self._pipeline.predict(frame)
                self._publish_depth(received, frame, prediction)
            except _Dropped as dropped:
                self._health.drop(*dropped.args)
                continue
            except Exception as error:      # e.g. out of memory: the next frame may well fit
                self._health.drop('inference failed', f'{type(error).__name__}: {error}')
                continue
            try:
                candidate = self._pipeline.consider(self._with_pose(frame), prediction)
                self._publish_candidate(
                    received.message.header, candidate, prediction.weight_version)
            except Exception as error:
                self._health.problem('no candidate', f'{type(error).__name__}: {error}')

    def _with_pose(self, frame: Frame) -> Frame:
        """Give the frame with its pose, waiting for it; without one, with the reason."""
        pose = self._inbox.pose_at(frame.stamp_ns)
        if pose.matrix is None:
            self._health.problem(f'no pose, {pose.problem}', 'the frame is not trained on')
        return replace(frame, world_from_camera=pose.matrix, pose_problem=pose.problem)

    def _frame(self, received: Received) -> Frame:
        """Make an image a frame, without its pose; raises _Dropped if that cannot be."""
        message = received.message
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._keep_order(stamp_ns)
        camera = self._inbox.camera()
        if camera is None:
            raise _Dropped('no camera_info yet')
        try:
            image = rgb_from_image(message)
        except ValueError as error:
            raise _Dropped('unreadable image', str(error)) from error
        camera = _fitted(camera, *image.shape[1::-1])
        self._keep_camera(camera)
        return Frame(stamp_ns, image, camera, frame_id=message.header.frame_id)

    def _keep_camera(self, camera: Intrinsics) -> None:
        """Start the views afresh where the camera is not the one of the views before."""
        before = self._camera
        if before is not None and _is_same(before, camera):
            return
        self._camera = camera
        if before is None:
            return
        resized = (before.width, before.height) != (camera.width, camera.height)
        self._health.problem('image size changed' if resized else 'camera changed',
                             f'from {before} to {camera}; earlier views are not used any more')
        self._pipeline.forget_views()

    def _keep_order(self, stamp_ns: int) -> None:
        """Drop images that are not newer; far back in time, start the views afresh instead."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if last_ns is None or stamp_ns > last_ns:
            return
        if last_ns - stamp_ns <= JUMP_NS:
            self._stamp_ns = last_ns
            raise _Dropped('stamp not after the previous image',
                           f'{stamp_ns} ns after {last_ns} ns')
        self._health.problem(
            'time jumped back', f'by {(last_ns - stamp_ns) * 1e-9:.1f} s (a looping bag?); '
            'earlier poses and views are forgotten, the weights stay')
        self._inbox.rewind(stamp_ns)
        self._pipeline.forget_views()


def _fitted(camera: Intrinsics, width: int, height: int) -> Intrinsics:
    """Give the camera of images resized from camera_info's; raises _Dropped for another shape."""
    if abs(width * camera.height / (height * camera.width) - 1) > _SAME_ASPECT:
        raise _Dropped(
            'size differs from camera_info',
            f'image {width}x{height}, camera_info {camera.width}x{camera.height}')
    return camera.resized(width, height)


def _is_same(one: Intrinsics, other: Intrinsics) -> bool:
    """Say whether two cameras have the same size and, but for noise, the same numbers."""
    apart = np.abs(one.matrix() - other.matrix()).max()
    return ((one.width, one.height) == (other.width, other.height)
            and bool(apart <= _SAME_CAMERA * one.fx))
