"""Images become frames: in order of time, with the camera that took them, rectified."""

from __future__ import annotations

from typing import Optional

from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.ros.inbox import Inbox, Received
from dectrain_ros.ros.messages import ns_from_stamp
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.sensing.images import ImageProblem, PictureDecoder
from dectrain_ros.sensing.lens import Lens, Rectifier
from dectrain_ros.sensing.pose_stream import JUMP_NS
import numpy as np

_GAP_NS = 10_000_000_000        # images further apart are not of one drive: a bag was sought in
_SAME_CAMERA = 1e-3     # of the focal length: a smaller difference is noise of a calibration
_SAME_ASPECT = 1e-2     # images this near in shape to camera_info are a resize


class Dropped(Exception):
    """An image gets no depth; args are one of a few fixed reasons and the detail."""


class Framing:
    """
    Makes frames of the images of one stream.

    :param inbox: knows the camera, and whether the clock was set back.
    :param pictures: a rectified image is overwritten when so many more were made.
    """

    def __init__(self, inbox: Inbox, health: Health, pictures: int):
        """Start before the first image."""
        self._inbox, self._health, self._pictures = inbox, health, pictures
        self._decoder = PictureDecoder()
        self.stretch = 0        # of the newest image; those of two are no views of each other
        self._stamp_ns: Optional[int] = None            # of the newest image
        self._camera: Optional[Intrinsics] = None       # of the newest image
        self._lens: Optional[Lens] = None               # what the rectifier is of
        self._rectifier: Optional[Rectifier] = None
        self._unrectifiable = ''        # why there is none

    def frame(self, received: Received) -> Frame:
        """
        Make an image a frame, without its pose.

        :raises Dropped: if that cannot be.
        """
        message = received.message
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._keep_order(stamp_ns)
        lens = self._inbox.lens()
        if lens is None:
            raise Dropped('no camera_info yet')
        try:
            image = self._decoder.rgb(message)
        except ImageProblem as error:
            raise Dropped(error.reason, error.detail) from error
        lens = _fitted(lens, *image.shape[1::-1])
        camera = lens.camera
        if lens.coefficients:
            rectifier = self._rectifier_of(lens)
            image, camera = rectifier(image), rectifier.camera
        self._keep_camera(camera)
        return Frame(stamp_ns, image, camera, frame_id=message.header.frame_id)

    def _rectifier_of(self, lens: Lens) -> Rectifier:
        """Give the rectifier of a lens, made once; raises Dropped if there cannot be one."""
        if self._lens != lens:
            self._lens, self._rectifier = lens, None
            try:
                self._rectifier = Rectifier(lens, self._pictures)
            except ValueError as error:
                self._unrectifiable = str(error)
        if self._rectifier is None:
            raise Dropped('image cannot be rectified', self._unrectifiable)
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
        self.stretch += 1

    def _keep_order(self, stamp_ns: int) -> None:
        """Drop images that are not newer; far back or ahead in time, begin another stretch."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if last_ns is None or last_ns < stamp_ns <= last_ns + _GAP_NS:
            return
        if stamp_ns > last_ns:
            self._health.problem(
                'time jumped ahead', f'by {(stamp_ns - last_ns) * 1e-9:.1f} s (a bag sought in, '
                'a camera that was away); earlier views are not used any more')
            self.stretch += 1
            return
        went_back = self._inbox.take_went_back()        # of this jump, whichever way it is seen
        if last_ns - stamp_ns <= JUMP_NS and not went_back:
            self._stamp_ns = last_ns
            raise Dropped('stamp not after the previous image',
                          f'{stamp_ns} ns after {last_ns} ns')
        self._health.problem(
            'time jumped back', f'by {(last_ns - stamp_ns) * 1e-9:.1f} s (a looping bag?); '
            'earlier poses and views are forgotten, the weights stay')
        self._inbox.rewind(stamp_ns)
        self.stretch += 1


def _fitted(lens: Lens, width: int, height: int) -> Lens:
    """Give the camera of images resized from camera_info's; raises Dropped for another shape."""
    camera = lens.camera
    if (camera.width, camera.height) == (width, height):
        return lens
    if abs(width * camera.height / (height * camera.width) - 1) > _SAME_ASPECT:
        raise Dropped(
            'size differs from camera_info',
            f'image {width}x{height}, camera_info {camera.width}x{camera.height}')
    return lens.resized(width, height)


def _is_same(one: Intrinsics, other: Intrinsics) -> bool:
    """Say whether two cameras have the same size and, but for noise, the same numbers."""
    apart = np.abs(one.matrix() - other.matrix()).max()
    return ((one.width, one.height) == (other.width, other.height)
            and bool(apart <= _SAME_CAMERA * one.fx))
