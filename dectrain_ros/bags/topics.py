"""Which of a bag's topics play which part."""

from __future__ import annotations

import logging
import re
from typing import Callable, FrozenSet, Iterable, List, NamedTuple, Sequence, Tuple

logger = logging.getLogger(__name__)

RAW_IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
POSE = 'geometry_msgs/msg/PoseStamped'
POSE_WITH_COVARIANCE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
ODOMETRY = 'nav_msgs/msg/Odometry'
TRANSFORMS = 'tf2_msgs/msg/TFMessage'

IMAGES = (RAW_IMAGE, COMPRESSED_IMAGE)
POSES = (POSE, POSE_WITH_COVARIANCE, ODOMETRY)       # in order of preference

_DEPTH_ENCODINGS = ('16uc1', '32fc1', 'mono16')
# Words of a name, without digits: what is neither a picture nor a depth, and what is no depth.
_OTHER_IMAGES = frozenset((
    'confidence', 'label', 'labels', 'mask', 'segmentation', 'semantic', 'instance', 'disparity',
    'normal', 'normals'))
_NOT_COLOUR = frozenset(('thermal', 'ir', 'infra', 'infrared', 'mono', 'intensity', 'amplitude'))
# Poses somebody asked for, not where the robot is.
_WISHES = frozenset((
    'goal', 'initialpose', 'target', 'setpoint', 'desired', 'command', 'cmd', 'waypoint'))
_VIDEO_TYPES = ('FFMPEGPacket', 'CompressedVideo', 'theora_image_transport/msg/Packet')

_SELDOM = 0.1           # of the poses of the most frequent topic: a topic with fewer is seldom
_MOST_OF = 0.8          # of the longest time that poses cover
_SAME_ASPECT = 0.01     # by which shapes of images may differ
_SAME_CAMERA = 0.02     # of the focal length, by which calibrations of one camera may differ


class BagError(ValueError):
    """A bag cannot be read or written; the text is one line naming the file and what to do."""


class Topics(NamedTuple):
    """
    Names of the topics to read; an empty one is found.

    ground_truth_info: of a ground truth of another camera, which is brought into the image.
    """

    image: str = ''
    camera_info: str = ''
    pose: str = ''
    ground_truth: str = ''
    ground_truth_info: str = ''


class Listed(NamedTuple):
    """
    A topic that has messages, and what its first message says.

    encoding: of an image, or its compressed format. width, height: of a raw image or a
    CameraInfo, else 0. matrix: fx, fy, cx, cy of a CameraInfo.
    """

    name: str
    msgtype: str
    count: int
    encoding: str = ''
    frame_id: str = ''
    width: int = 0
    height: int = 0
    matrix: Tuple[float, ...] = ()

    @property
    def words(self) -> FrozenSet[str]:
        """Split the name into words, in small letters and without digits."""
        return frozenset(re.findall('[a-z]+', self.name.lower()))

    @property
    def is_depth(self) -> bool:
        """Whether this is an image of distances."""
        encoding, named = self.encoding.lower(), 'depth' in self.name.lower()
        if self.msgtype not in IMAGES or self.words & _OTHER_IMAGES or (
                self.words & _NOT_COLOUR and not named):
            return False
        if 'compresseddepth' in encoding:
            return True
        # mono16 is a camera's; only its name can say that it is depth.
        return encoding.startswith(_DEPTH_ENCODINGS) and (
            named or not encoding.startswith('mono16'))

    @property
    def is_picture(self) -> bool:
        """Whether this is what a camera sees."""
        return self.msgtype in IMAGES and not (
            self.is_depth or self.words & _OTHER_IMAGES or 'depth' in self.name.lower())


# Seconds of the bag that each of some topics covers, from its first message to its last.
Spans = Callable[[Sequence[str]], Sequence[float]]
# Whether fixed transforms join two frames.
Joined = Callable[[str, str], bool]


def choose(path: object, listed: Sequence[Listed], wanted: Topics = Topics(),
           spans: Spans = lambda names: [0.0] * len(names),
           joined: Joined = lambda frame, other: False) -> Topics:
    """
    Choose a bag's topics: those wanted by name, the others by what they hold.

    Of several images one whose name speaks of colour is preferred, then the first by alphabet.
    Where several topics fit, which one is taken and why others are not is logged.

    :param path: the bag, for errors.
    :param listed: the bag's topics.
    :param spans: asked only where several pose topics fit.
    :param joined: asked only where there is depth of another camera alone.
    :raises BagError: if a topic is missing or has an unfitting type; it lists the bag's topics.
    """
    chosen = _Choice(path, listed)
    image = chosen.named('image', wanted.image, IMAGES) or chosen.image()
    camera_info = (chosen.named('camera_info', wanted.camera_info, (CAMERA_INFO,))
                   or chosen.camera_info(image))
    truth = chosen.named('ground_truth', wanted.ground_truth, IMAGES), wanted.ground_truth_info
    if not truth[0]:
        truth = chosen.ground_truth(image, camera_info, joined)
    return Topics(
        image=image, camera_info=camera_info, ground_truth=truth[0], ground_truth_info=truth[1],
        pose=chosen.named('pose', wanted.pose, (*POSES, TRANSFORMS))
        or chosen.pose(image, spans))


def base_name(image_topic: str) -> str:
    """Return the name of an image topic without its transport: /camera/image_raw."""
    base, _, last = image_topic.rpartition('/')
    transports = ('compressed', 'compresseddepth', 'zstd', 'ffmpeg', 'theora')
    return base if last.lower() in transports else image_topic


class _Choice:
    """The rules by which topics are chosen from a bag."""

    def __init__(self, path: object, listed: Sequence[Listed]):
        self._path = path
        self._listed = sorted(listed)
        self._by_name = {t.name: t for t in self._listed}

    def error(self, problem: str) -> BagError:
        """Return an error that lists the bag's topics."""
        topics = ', '.join(f'{t.name} [{t.msgtype}]' for t in self._listed)
        return BagError(
            f'{self._path}: {problem}; name another topic or record one, this bag has: '
            f'{topics or "no messages"}')

    def named(self, part: str, name: str, types: Iterable[str]) -> str:
        """Return the wanted name if it exists with a fitting type."""
        if not name:
            return ''
        found = [t for t in self._listed if t.name == name]
        if not found:
            raise self.error(f'{part} topic {name} is not in it or has no messages')
        if found[0].msgtype not in types:
            raise self.error(
                f'{part} topic {name} is of type {found[0].msgtype}: it must be '
                f'{" or ".join(types)}')
        return name

    def image(self) -> str:
        """Return the topic of the camera's images."""
        pictures = [t for t in self._listed if t.is_picture]
        name = _best(
            [t for t in pictures if not t.words & _NOT_COLOUR] or pictures,
            ('color', 'rgb', 'image'))
        if name:
            return name
        video = next((t for t in self._listed if t.msgtype.endswith(_VIDEO_TYPES)), None)
        if video:
            raise self.error(
                f'it has no colour image topic: {video.name} is video, which is not decoded; '
                'republish it as raw or compressed (image_transport republish)')
        raise self.error('it has no colour image topic')

    def camera_info(self, image: str) -> str:
        """Return the camera_info of the image's namespace or frame, or the only one there is."""
        infos = [t for t in self._listed if t.msgtype == CAMERA_INFO]
        if not infos:
            raise self.error(f'it has no CameraInfo topic for {image}')
        frame = self._by_name[image].frame_id
        own = [name for name in _info_names(image) if name in {t.name for t in infos}]
        own.sort(key=lambda name: self._by_name[name].frame_id != frame)
        if own:
            return own[0]
        if len(infos) == 1:
            return infos[0].name
        same = [t.name for t in infos if frame and t.frame_id == frame]
        if len(same) != 1:
            raise self.error(f'none of its CameraInfo topics belongs to {image}')
        return same[0]

    def ground_truth(self, image: str, camera_info: str, joined: Joined) -> Tuple[str, str]:
        """
        Return the depth of the image's own camera, else of one whose place is known.

        :returns: its name, and its CameraInfo if it is of another camera; '' where there is none.
            Which depth is not used, and why, is logged.
        """
        fitting, strangers = [], {}
        for depth in self._listed:
            if depth.is_depth and depth.name != image:
                stranger = self._stranger(depth, self._by_name[image], self._by_name[camera_info])
                if stranger:
                    strangers[depth.name] = stranger
                else:
                    fitting.append(depth)
        info = ''
        if not fitting:
            infos = {name: self._info_beside(name, camera_info) for name in strangers}
            fitting = [self._by_name[name] for name in strangers if infos[name] and joined(
                self._by_name[name].frame_id, self._by_name[image].frame_id)]
            info = infos.get(_best(fitting, _TRUTH_WORDS), '')
        taken = _best(fitting, _TRUTH_WORDS)
        for name, stranger in strangers.items():
            logger.warning(
                '%s: %s is of another camera than %s (%s): %s', self._path, name, image, stranger,
                'it is brought into the image by both calibrations and TF' if name == taken else
                'it is not used as true depth; register it (depth_image_proc), or name it by '
                '--ground-truth')
        return taken, info

    def _info_beside(self, depth: str, camera_info: str) -> str:
        """Return the CameraInfo of a depth image's own namespace, '' if it has none."""
        return next((name for name in _info_names(depth) if name in self._by_name
                     and self._by_name[name].msgtype == CAMERA_INFO and name != camera_info), '')

    def _stranger(self, depth: Listed, image: Listed, camera: Listed) -> str:
        """Return what shows that a depth image is of another camera, '' if nothing does."""
        if depth.frame_id and image.frame_id and depth.frame_id != image.frame_id:
            return f'its frame_id is {depth.frame_id}, that of the images {image.frame_id}'
        sized = image if image.width else camera
        if not _same_shape(depth, sized):
            return (f'it is {depth.width}x{depth.height}, {sized.name} {sized.width}x'
                    f'{sized.height}')
        own = next((self._by_name[name] for name in _info_names(depth.name)
                    if name in self._by_name), camera)
        return '' if _same_camera(own, camera) else f'{own.name} differs from {camera.name}'

    def pose(self, image: str, spans: Spans) -> str:
        """Return the topic of the camera's poses, of the most telling type; /tf if none fits."""
        found = [t for t in self._listed if t.msgtype in POSES]
        why_not = {t.name: self._not_the_cameras(t, image) for t in found}
        most = max((t.count for t in found if not why_not[t.name]), default=0)
        for topic in found:
            if not why_not[topic.name] and topic.count < _SELDOM * most:
                why_not[topic.name] = f'{topic.count} poses where others have {most}'
        fits = [t for t in found if not why_not[t.name]]
        if len(fits) > 1:
            covered = dict(zip((t.name for t in fits), spans([t.name for t in fits])))
            for name, span in covered.items():
                if span < _MOST_OF * max(covered.values()):
                    why_not[name] = f'covers {span:.1f} of {max(covered.values()):.1f} s'
            fits = [t for t in fits if not why_not[t.name]]
        transforms = [t for t in self._listed
                      if t.msgtype == TRANSFORMS and not is_static(t.name)]
        single = [t for t in found if why_not[t.name] == _SINGLE]
        name = self._most_telling(fits) or _best(transforms) or self._most_telling(single)
        if not name:
            refused = ''.join(f', {t.name}: {why_not[t.name]}' for t in found)
            raise self.error('it has no camera poses (PoseStamped, PoseWithCovarianceStamped, '
                             f'Odometry or /tf){refused}')
        others = [f'{t.name}: {why_not[t.name] or "of a less telling type or name"}'
                  for t in found if t.name != name]
        if others:
            logger.warning('%s: poses are taken from %s (not from %s); --pose names another',
                           self._path, name, '; '.join(others))
        return name

    def _not_the_cameras(self, pose: Listed, image: str) -> str:
        """Return why a pose topic is not the camera's, '' if it may be."""
        wishes = sorted(pose.words & _WISHES)
        camera = self._by_name[image]
        if wishes:
            return f'its name says {wishes[0]}'
        if pose.frame_id and (pose.frame_id == camera.frame_id
                              or pose.frame_id.endswith('optical_frame')):
            return f'it is seen from a camera, {pose.frame_id}'
        return _SINGLE if pose.count == 1 and camera.count > 1 else ''

    @staticmethod
    def _most_telling(poses: Sequence[Listed]) -> str:
        """Return the best name of the most telling type, '' without poses."""
        return next(filter(None, (
            _best([t for t in poses if t.msgtype == kind], ('color', 'rgb', 'camera'))
            for kind in POSES)), '')


_SINGLE = 'it is a single message'
_TRUTH_WORDS = 'color', 'rgb', 'registered'


def _best(topics: Sequence[Listed], words: Tuple[str, ...] = ()) -> str:
    """Return the best name, preferring earlier words, '' without topics."""
    def rank(name: str):
        return tuple(word not in name.lower() for word in words), name
    return min((t.name for t in topics), key=rank, default='')


def _info_names(image: str) -> List[str]:
    """List the names a CameraInfo of an image topic may have, the likeliest first."""
    base = base_name(image)
    folder, _, last = base.rpartition('/')
    names = [f'{folder}/camera_info', f'{base}/camera_info']
    raw = [f'{folder}/camera_info_raw']
    return raw + names if 'raw' in last.split('_') else names + raw


def _same_shape(one: Listed, other: Listed) -> bool:
    if not (one.width and one.height and other.width and other.height):
        return True
    return abs(one.width * other.height / (one.height * other.width) - 1) <= _SAME_ASPECT


def _same_camera(one: Listed, other: Listed) -> bool:
    """Whether two CameraInfo agree but for a resize, as far as they say."""
    if not (one.matrix and other.matrix and one.width and other.width and other.matrix[0] > 0):
        return True
    scale = other.width / one.width
    return _same_shape(one, other) and all(
        abs(scale * a - b) <= _SAME_CAMERA * other.matrix[0]
        for a, b in zip(one.matrix, other.matrix))


def is_static(name: str) -> bool:
    """Whether a transform topic holds what never moves."""
    return name.endswith('tf_static')
