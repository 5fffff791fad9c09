"""Images become frames: in order of time, with the camera that took them, rectified."""

from __future__ import annotations

from typing import Callable, Optional

from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.sensing.camera_poses import Report
from dectrain_ros.sensing.images import ImageProblem, PictureDecoder
from dectrain_ros.sensing.lens import Lens, Rectifier
from dectrain_ros.sensing.pose_stream import JUMP_NS
from dectrain_ros.sensing.stamps import stamp_ns_of
import numpy as np

# Frames that wait for their poses, 0.27 s at 30 Hz; a live one holds image and encoder features.
MAX_WAITING = 8
CROWDED = f'pose later than {MAX_WAITING} more images'

_GAP_NS = 10_000_000_000        # images further apart are not of one drive: a bag was sought in
_SAME_CAMERA = 1e-3     # of the focal length: a smaller difference is noise of a calibration
_SAME_ASPECT = 1e-2     # images this near in shape to camera_info are a resize


class Dropped(Exception):
    """An image gets no depth; args are one of a few fixed reasons and the detail."""


class FrameBuilder:
    """
    Makes frames of the images of one stream.

    Frames of different stretches are no views of each other: between them time jumped, or the
    camera changed.

    :param report: takes problems that cost no image: time jumped, camera changed.
    :param buffers: a rectified image is overwritten when so many more were made; 0: never.
    :param take_clock_went_back: returns whether the clock was set back since it was last asked.
    :param rewind: called with an image's stamp in ns when time jumped back to it.
    """

    def __init__(
        self, report: Report, buffers: int, *,
        take_clock_went_back: Callable[[], bool] = lambda: False,
        rewind: Callable[[int], None] = lambda stamp_ns: None
    ):
        """Start before the first image."""
        self._report, self._buffers = report, buffers
        self._take_clock_went_back, self._rewind = take_clock_went_back, rewind
        self._pictures = PictureDecoder()
        self.stretch = 0                                # of the newest image
        self._stamp_ns: Optional[int] = None            # of the newest image
        self._camera: Optional[Intrinsics] = None       # of the newest image
        self._lens: Optional[Lens] = None               # of the rectifier
        self._rectifier: Optional[Rectifier] = None
        self._unrectifiable = ''        # why there is none

    def build(self, message, lens: Optional[Lens]) -> Frame:
        """
        Return an image's frame, without its pose.

        :param message: Image or CompressedImage, as rclpy or rosbags made it.
        :param lens: of the camera that took it, None while it is unknown.
        :raises Dropped: if the image cannot be used.
        """
        stamp_ns = stamp_ns_of(message.header.stamp)
        self._keep_order(stamp_ns)
        if lens is None:
            raise Dropped('no camera_info yet')
        try:
            image = self._pictures.rgb(message)
        except ImageProblem as problem:
            raise Dropped(problem.reason, problem.detail) from problem
        lens = _fitted(lens, *image.shape[1::-1])
        camera = lens.camera
        if lens.coefficients:
            rectifier = self._rectifier_of(lens)
            image, camera = rectifier(image), rectifier.camera
        else:
            self._lens = self._rectifier = None
        self._keep_camera(camera)
        return Frame(stamp_ns, image, camera, frame_id=message.header.frame_id)

    @property
    def rectifier(self) -> Optional[Rectifier]:
        """What rectified the newest frame's image, None where it has no distortion."""
        return self._rectifier

    def _rectifier_of(self, lens: Lens) -> Rectifier:
        """Return the rectifier of a lens, made once; raise Dropped if there cannot be one."""
        if self._lens != lens:
            self._lens, self._rectifier = lens, None
            try:
                self._rectifier = Rectifier(lens, self._buffers)
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
        self._report('image size changed' if resized else 'camera changed',
                     f'from {before} to {camera}; earlier views are not used any more')
        self.stretch += 1

    def _keep_order(self, stamp_ns: int) -> None:
        """Drop images that are not newer; far back or ahead in time, begin another stretch."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if last_ns is None or last_ns < stamp_ns <= last_ns + _GAP_NS:
            return
        if stamp_ns > last_ns:
            self._report(
                'time jumped ahead', f'by {(stamp_ns - last_ns) * 1e-9:.1f} s (a bag sought in, '
                'a camera that was away); earlier views are not used any more')
            self.stretch += 1
            return
        went_back = self._take_clock_went_back()        # of this jump, whichever way it is seen
        if last_ns - stamp_ns <= JUMP_NS and not went_back:
            self._stamp_ns = last_ns
            raise Dropped('stamp not after the previous image',
                          f'{stamp_ns} ns after {last_ns} ns')
        self._report(
            'time jumped back', f'by {(last_ns - stamp_ns) * 1e-9:.1f} s (a looping bag?); '
            'earlier poses and views are forgotten, the weights stay')
        self._rewind(stamp_ns)
        self.stretch += 1


class Stretches:
    """
    Tells where views must be forgotten: at a frame of another stretch, or after a pose jump.

    :param jumped: returns whether poses of two stamps, ns, cannot be compared.
    """

    def __init__(self, jumped: Callable[[int, int], bool]):
        """Start before the first frame."""
        self._jumped = jumped
        self._stretch = 0
        self._posed_ns: Optional[int] = None    # of the newest frame with a pose

    def breaks_at(self, frame: Frame, stretch: int) -> bool:
        """Return whether a frame must not be compared with those before it."""
        has_pose = frame.world_from_camera is not None
        breaks = stretch != self._stretch or (
            has_pose and self._posed_ns is not None
            and self._jumped(self._posed_ns, frame.stamp_ns))
        self._stretch = stretch
        if has_pose:
            self._posed_ns = frame.stamp_ns
        return breaks


def _fitted(lens: Lens, width: int, height: int) -> Lens:
    """Return the lens of images resized from camera_info's; raise Dropped for another shape."""
    camera = lens.camera
    if (camera.width, camera.height) == (width, height):
        return lens
    if abs(width * camera.height / (height * camera.width) - 1) > _SAME_ASPECT:
        raise Dropped(
            'size differs from camera_info',
            f'image {width}x{height}, camera_info {camera.width}x{camera.height}')
    return lens.resized(width, height)


def _is_same(one: Intrinsics, other: Intrinsics) -> bool:
    """Return whether two cameras have the same size and, but for noise, the same numbers."""
    apart = np.abs(one.matrix() - other.matrix()).max()
    return ((one.width, one.height) == (other.width, other.height)
            and bool(apart <= _SAME_CAMERA * one.fx))
