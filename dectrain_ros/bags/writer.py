"""Writing of frames to a ROS 2 bag, without ROS."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import tempfile
from typing import Dict, Optional

import cv2
from dectrain_ros.bags.topics import BagError, CAMERA_INFO, COMPRESSED_IMAGE, POSE, RAW_IMAGE
from dectrain_ros.frames import Frame
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from scipy.spatial.transform import Rotation

IMAGE_TOPIC = '/camera/image_raw'
COMPRESSED_TOPIC = '/camera/image_raw/compressed'
CAMERA_INFO_TOPIC = '/camera/camera_info'
POSE_TOPIC = '/camera/pose'
DEPTH_TOPIC = '/camera/depth/image_raw'

_JPEG_QUALITY = 92
_PLUGINS = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


class BagWriter:
    """
    Writes a new bag; the folder appears only when the bag is complete.

    Use it as a context manager; an exception inside removes the partial bag.

    :param path: folder to write; it must not exist.
    :param storage: mcap (zstd) or sqlite3.
    :param compress_images: write JPEG of quality 92 instead of raw images.
    :raises BagError: if path exists, or storage is another.
    """

    def __init__(self, path, storage: str = 'mcap', compress_images: bool = True):
        """Check the arguments; nothing is written yet."""
        self.path = Path(path)
        if self.path.exists():
            raise BagError(f'{self.path} exists: choose another name, or remove it')
        if storage not in _PLUGINS:
            raise BagError(
                f'{self.path}: storage is {storage!r}: it must be {" or ".join(_PLUGINS)}')
        self._storage = storage
        self._compress_images = compress_images
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._connections: Dict[str, object] = {}

    def __enter__(self) -> 'BagWriter':
        """Start writing to a temporary folder beside path."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._work = Path(tempfile.mkdtemp(
            prefix=f'.{self.path.name}.', suffix='.partial', dir=self.path.parent))
        try:
            self._writer = Writer(
                self._work / self.path.name, version=8, storage_plugin=_PLUGINS[self._storage])
            if self._storage == 'mcap':
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except BaseException:
            shutil.rmtree(self._work)
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Finish the bag and rename it to path; after an error remove it."""
        try:
            self._writer.__exit__(kind, error, trace)
            if kind is not None:
                return
            if not self._connections:
                raise BagError(f'{self.path}: no frame was written; a bag needs at least one')
            if self.path.exists():
                raise BagError(f'{self.path} was created by another process: choose another name')
            os.rename(self._work / self.path.name, self.path)
        finally:
            shutil.rmtree(self._work)

    def write(self, frame: Frame, ground_truth: Optional[np.ndarray] = None) -> None:
        """
        Write one frame, all its messages with the frame's stamp.

        :param frame: if it has no pose, none is written.
        :param ground_truth: depth in m, (h, w), NaN where invalid; written as uint16 mm, with 0
            where it is invalid or beyond 65.535 m.
        :raises ValueError: if the image is not uint8 RGB of the intrinsics' size.
        """
        camera = frame.intrinsics
        if frame.image.dtype != np.uint8 or frame.image.shape != (camera.height, camera.width, 3):
            raise ValueError(
                f'image is {frame.image.dtype} {frame.image.shape}: it must be uint8 RGB of '
                f'size ({camera.height}, {camera.width}, 3)')
        header = self._header(frame.stamp_ns, frame.frame_id or 'camera_optical_frame')
        self._put(CAMERA_INFO_TOPIC, frame.stamp_ns, self._camera_info(frame, header))
        if frame.world_from_camera is not None:
            self._put(POSE_TOPIC, frame.stamp_ns, self._pose(frame))
        if self._compress_images:
            self._put(COMPRESSED_TOPIC, frame.stamp_ns, self._jpeg(frame, header))
        else:
            self._put(IMAGE_TOPIC, frame.stamp_ns, self._image(frame.image, 'rgb8', header))
        if ground_truth is not None:
            metres = np.nan_to_num(ground_truth, nan=0.0, posinf=0.0, neginf=0.0)
            millimetres = np.rint(metres * 1e3)
            millimetres[(millimetres < 0) | (millimetres > 65534)] = 0
            self._put(DEPTH_TOPIC, frame.stamp_ns,
                      self._image(millimetres.astype(np.uint16), '16UC1', header))

    def _put(self, topic: str, stamp_ns: int, message) -> None:
        """Write one message; the first of a topic declares it."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._types)
        self._writer.write(
            self._connections[topic], stamp_ns, self._types.serialize_cdr(message, kind))

    def _make(self, kind: str, **fields):
        """Build a message."""
        return self._types.types[kind](**fields)

    def _header(self, stamp_ns: int, frame_id: str):
        """Build a Header."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self._make('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
        return self._make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def _camera_info(self, frame: Frame, header):
        """Build the CameraInfo of an undistorted camera."""
        matrix = frame.intrinsics.matrix()
        region = self._make(
            'sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
            do_rectify=False)
        return self._make(
            CAMERA_INFO, header=header, height=frame.intrinsics.height,
            width=frame.intrinsics.width, distortion_model='plumb_bob', d=np.zeros(5),
            k=matrix.ravel(), r=np.eye(3).ravel(),
            p=np.hstack([matrix, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0, roi=region)

    def _pose(self, frame: Frame):
        """Build the PoseStamped of the camera in 'world'."""
        x, y, z = map(float, frame.world_from_camera[:3, 3])
        qx, qy, qz, qw = map(
            float, Rotation.from_matrix(frame.world_from_camera[:3, :3]).as_quat())
        return self._make(
            POSE, header=self._header(frame.stamp_ns, 'world'), pose=self._make(
                'geometry_msgs/msg/Pose',
                position=self._make('geometry_msgs/msg/Point', x=x, y=y, z=z),
                orientation=self._make('geometry_msgs/msg/Quaternion', x=qx, y=qy, z=qz, w=qw)))

    def _jpeg(self, frame: Frame, header):
        """Build a CompressedImage."""
        _, data = cv2.imencode('.jpg', cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR),
                               (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        return self._make(COMPRESSED_IMAGE, header=header, format='jpeg', data=data.ravel())

    def _image(self, array: np.ndarray, encoding: str, header):
        """Build an Image from a contiguous copy of an array."""
        array = np.ascontiguousarray(array)
        return self._make(
            RAW_IMAGE, header=header, height=array.shape[0], width=array.shape[1],
            encoding=encoding, is_bigendian=0, step=array.strides[0],
            data=array.view(np.uint8).ravel())
