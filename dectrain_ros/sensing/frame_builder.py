"""From image messages to frames: decoded, rectified, in order of time."""

from __future__ import annotations

from typing import Callable, Optional

from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.sensing.camera_poses import Report
from dectrain_ros.sensing.images import ImageProblem, PictureDecoder
from dectrain_ros.sensing.lens import Lens, Rectifier
from dectrain_ros.sensing.pose_stream import JUMP_NS
from dectrain_ros.sensing.stamps import stamp_ns_of
import numpy as np

# Most frames that wait for poses, 0.27 s at 30 Hz; each holds an image and encoder features.
MAX_WAITING = 8
TOO_LATE = f'pose arrived later than {MAX_WAITING} more images'

_GAP_NS = 10_000_000_000        # images further apart do not belong together, e.g. after a seek
_SAME_CAMERA = 1e-3     # of the focal length: a smaller change of the camera is noise
_SAME_ASPECT = 1e-2     # relative: images this close in aspect to camera_info are a resize


class Dropped(Exception):
    """An image cannot be used; args are one of a few fixed reasons, and the detail."""


class FrameBuilder:
    """
    Makes frames from the image messages of one stream.

    A new segment begins where time jumps or the camera changes; frames of different segments
    must not be compared with each other.

    :param report: called with problems that do not drop the image: time jumped, camera changed.
    :param buffers: number of buffers for rectified images, used in turn; 0: a new array each.
    :param take_clock_went_back: returns whether the clock was set back since its last call.
    :param rewind: called with the image's stamp in ns when time jumped back to it.
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
        self.segment = 0                                # of the newest image
        self._stamp_ns: Optional[int] = None            # of the newest image
        self._camera: Optional[Intrinsics] = None       # of the newest image
        self._lens: Optional[Lens] = None               # of the rectifier
        self._rectifier: Optional[Rectifier] = None
        self._unrectifiable = ''        # why the lens has no rectifier

    def build(self, message, lens: Optional[Lens]) -> Frame:
        """
        Return an image's frame, without its pose.

        :param message: Image or CompressedImage, of rclpy or rosbags.
        :param lens: of the camera, None while it is unknown.
        :raises Dropped: if the image cannot be used.
        """
        stamp_ns = stamp_ns_of(message.header.stamp)
        self._check_stamp(stamp_ns)
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
        self._check_camera(camera)
        return Frame(stamp_ns, image, camera, frame_id=message.header.frame_id)

    @property
    def rectifier(self) -> Optional[Rectifier]:
        """Rectifier of the newest frame, None for a camera without distortion."""
        return self._rectifier

    def _rectifier_of(self, lens: Lens) -> Rectifier:
        """Return the cached rectifier of a lens; raise Dropped if it cannot be rectified."""
        if self._lens != lens:
            self._lens, self._rectifier = lens, None
            try:
                self._rectifier = Rectifier(lens, self._buffers)
            except ValueError as error:
                self._unrectifiable = str(error)
        if self._rectifier is None:
            raise Dropped('image cannot be rectified', self._unrectifiable)
        return self._rectifier

    def _check_camera(self, camera: Intrinsics) -> None:
        """Begin a new segment if the camera changed."""
        before = self._camera
        if before is not None and _is_same(before, camera):
            return
        self._camera = camera
        if before is None:
            return
        resized = (before.width, before.height) != (camera.width, camera.height)
        self._report('image size changed' if resized else 'camera changed',
                     f'from {before} to {camera}; earlier views are not used any more')
        self.segment += 1

    def _check_stamp(self, stamp_ns: int) -> None:
        """Drop an image that is not newer; begin a new segment if time jumped."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if last_ns is None or last_ns < stamp_ns <= last_ns + _GAP_NS:
            return
        if stamp_ns > last_ns:
            self._report(
                'time jumped ahead', f'by {(stamp_ns - last_ns) * 1e-9:.1f} s (a seek in a '
                'bag, or a camera that stopped); earlier views are not used any more')
            self.segment += 1
            return
        went_back = self._take_clock_went_back()        # read, so that this jump is handled once
        if last_ns - stamp_ns <= JUMP_NS and not went_back:
            self._stamp_ns = last_ns
            raise Dropped('stamp not after the previous image',
                          f'{stamp_ns} ns after {last_ns} ns')
        self._report(
            'time jumped back', f'by {(last_ns - stamp_ns) * 1e-9:.1f} s (a looping bag?); '
            'earlier poses and views are dropped, the weights stay')
        self._rewind(stamp_ns)
        self.segment += 1


class Segments:
    """
    Detects frames before which views must be dropped: in a new segment, or after a pose jump.

    :param jumped: returns whether the poses at two stamps, ns, cannot be compared.
    """

    def __init__(self, jumped: Callable[[int, int], bool]):
        """Start before the first frame."""
        self._jumped = jumped
        self._segment = 0
        self._posed_ns: Optional[int] = None    # of the newest frame with a pose

    def begins_at(self, frame: Frame, segment: int) -> bool:
        """Return whether a frame must not be compared with earlier ones."""
        has_pose = frame.world_from_camera is not None
        begins = segment != self._segment or (
            has_pose and self._posed_ns is not None
            and self._jumped(self._posed_ns, frame.stamp_ns))
        self._segment = segment
        if has_pose:
            self._posed_ns = frame.stamp_ns
        return begins


def _fitted(lens: Lens, width: int, height: int) -> Lens:
    """Return the lens of images resized from camera_info's; raise Dropped for another aspect."""
    camera = lens.camera
    if (camera.width, camera.height) == (width, height):
        return lens
    if abs(width * camera.height / (height * camera.width) - 1) > _SAME_ASPECT:
        raise Dropped(
            'size differs from camera_info',
            f'image {width}x{height}, camera_info {camera.width}x{camera.height}')
    return lens.resized(width, height)


def _is_same(one: Intrinsics, other: Intrinsics) -> bool:
    """Return whether two cameras have the same size and, up to noise, the same matrix."""
    apart = np.abs(one.matrix() - other.matrix()).max()
    return ((one.width, one.height) == (other.width, other.height)
            and bool(apart <= _SAME_CAMERA * one.fx))
