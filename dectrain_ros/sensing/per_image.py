"""What is published beside images, such as camera_info: once per image with its stamp, or not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Optional, TypeVar

from dectrain_ros.sensing.pose_stream import JUMP_NS

T = TypeVar('T')

_CAPACITY = 100


class PerImage(Generic[T]):
    """
    The values of one topic beside an image topic.

    Where the image before had a value of its own stamp the next one will have one, too, and is
    worth waiting for: with a zoom lens the newest camera_info is of the image before. Where
    values have other stamps, or come once only, the newest one holds. Not locked.

    :param first: holds until a value came.
    """

    def __init__(self, first: Optional[T] = None):
        """Start before the first value and the first image."""
        self._values: 'OrderedDict[int, T]' = OrderedDict()     # by stamp
        self._newest, self._newest_ns = first, 0                # the value that came last
        self._image_ns: Optional[int] = None                    # of the image before

    def add(self, stamp_ns: int, value: T) -> None:
        """Add the value of a stamp."""
        self._values.pop(stamp_ns, None)
        self._values[stamp_ns] = value
        self._newest, self._newest_ns = value, stamp_ns
        if len(self._values) > _CAPACITY:
            self._values.popitem(last=False)

    def is_decided(self, image_ns: int) -> bool:
        """Return whether waiting longer for an image's value is of no use."""
        if not self._values:
            return False
        return (image_ns in self._values or self._image_ns not in self._values
                or self._is_overtaken(image_ns))

    def take(self, image_ns: int) -> Optional[T]:
        """
        Return the value of the next image: of its stamp, else the last one up to it.

        :returns: None before any value.
        """
        self._image_ns = image_ns
        if image_ns not in self._values and self._is_overtaken(image_ns):
            before = [ns for ns in self._values if image_ns - JUMP_NS <= ns < image_ns]
            if before:
                return self._values[max(before)]
        return self._values.get(image_ns, self._newest)

    def _is_overtaken(self, image_ns: int) -> bool:
        """Return whether the newest value is of a later image, and not of before a time jump."""
        return image_ns < self._newest_ns <= image_ns + JUMP_NS
