"""Choice of a bag's image, camera_info, pose and ground truth topics."""

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
# Words of topic names, without digits: neither pictures nor depth; pictures, but not in colour.
_OTHER_IMAGES = frozenset((
    'confidence', 'label', 'labels', 'mask', 'segmentation', 'semantic', 'instance', 'disparity',
    'normal', 'normals'))
_NOT_COLOUR = frozenset(('thermal', 'ir', 'infra', 'infrared', 'mono', 'intensity', 'amplitude'))
# Words in names of commanded poses, which are not measured ones.
_COMMANDS = frozenset((
    'goal', 'initialpose', 'target', 'setpoint', 'desired', 'command', 'cmd', 'waypoint'))
_VIDEO_TYPES = ('FFMPEGPacket', 'CompressedVideo', 'theora_image_transport/msg/Packet')

_MIN_COUNT = 0.1        # least number of poses, as a share of the topic with the most
_MIN_SPAN = 0.8         # least duration of poses, as a share of the longest
_SAME_ASPECT = 0.01     # relative difference allowed between aspect ratios
_SAME_CAMERA = 0.02     # difference allowed between calibrations, as a share of the focal length


class BagError(ValueError):
    """A bag cannot be read or written; the text is one line naming the file and what to do."""


class Topics(NamedTuple):
    """
    Names of the topics to read; an empty name is chosen by content.

    ground_truth_info: of a ground truth of another camera, which is brought into the image.
    """

    image: str = ''
    camera_info: str = ''
    pose: str = ''
    ground_truth: str = ''
    ground_truth_info: str = ''


class Listed(NamedTuple):
    """
    A topic with messages, described by its first one.

    encoding: of an image, or the format of a compressed one. width, height: of a raw image or
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
        """Words of the name, in lower case and without digits."""
        return frozenset(re.findall('[a-z]+', self.name.lower()))

    @property
    def is_depth(self) -> bool:
        """Whether this is a depth image topic."""
        encoding, named = self.encoding.lower(), 'depth' in self.name.lower()
        if self.msgtype not in IMAGES or self.words & _OTHER_IMAGES or (
                self.words & _NOT_COLOUR and not named):
            return False
        if 'compresseddepth' in encoding:
            return True
        # mono16 is usually a camera image: it is depth only if its name says so.
        return encoding.startswith(_DEPTH_ENCODINGS) and (
            named or not encoding.startswith('mono16'))

    @property
    def is_picture(self) -> bool:
        """Whether this is a camera image topic."""
        return self.msgtype in IMAGES and not (
            self.is_depth or self.words & _OTHER_IMAGES or 'depth' in self.name.lower())


# Returns the seconds from first to last message of each of some topics.
Spans = Callable[[Sequence[str]], Sequence[float]]
# Whether fixed transforms join two frames.
Joined = Callable[[str, str], bool]


def choose(path: object, listed: Sequence[Listed], wanted: Topics = Topics(),
           spans: Spans = lambda names: [0.0] * len(names),
           joined: Joined = lambda frame, other: False) -> Topics:
    """
    Choose a bag's topics: those that are named, the others by content.

    Among images, names with color or rgb are preferred, then the first in alphabetical order. If
    several pose topics fit, a log line says which one is used and why the others are not.

    :param path: the bag, for errors.
    :param listed: the bag's topics.
    :param wanted: names given by the user.
    :param spans: called only if several pose topics fit.
    :param joined: called only if all depth is of other cameras.
    :raises BagError: if a topic is missing or of the wrong type; it lists the bag's topics.
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
    """Return an image topic without its transport: /camera/image_raw for .../compressed."""
    base, _, last = image_topic.rpartition('/')
    transports = ('compressed', 'compresseddepth', 'zstd', 'ffmpeg', 'theora')
    return base if last.lower() in transports else image_topic


class _Choice:
    """The rules for choosing topics of a bag."""

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
        """Return a name given by the user; raise BagError if it is missing or of another type."""
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
        """Return the image topic."""
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
        """Return the CameraInfo of the image's namespace or frame, or the only one."""
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
        Return the depth topic of the image's camera, else of one whose place is known.

        :returns: its name, and its CameraInfo topic if it is of another camera; '' for none. Depth
            topics that are not used are logged with the reason.
        """
        fitting, others = [], {}
        for depth in self._listed:
            if depth.is_depth and depth.name != image:
                difference = self._difference(
                    depth, self._by_name[image], self._by_name[camera_info])
                if difference:
                    others[depth.name] = difference
                else:
                    fitting.append(depth)
        info = ''
        if not fitting:
            infos = {name: self._info_beside(name, camera_info) for name in others}
            fitting = [self._by_name[name] for name in others if infos[name] and joined(
                self._by_name[name].frame_id, self._by_name[image].frame_id)]
            info = infos.get(_best(fitting, _TRUTH_WORDS), '')
        taken = _best(fitting, _TRUTH_WORDS)
        for name, difference in others.items():
            logger.warning(
                '%s: %s is of another camera than %s (%s): %s', self._path, name, image,
                difference,
                'it is brought into the image by both calibrations and TF' if name == taken else
                'it is not used as true depth; register it (depth_image_proc), or name it by '
                '--ground-truth')
        return taken, info

    def _info_beside(self, depth: str, camera_info: str) -> str:
        """Return the CameraInfo of a depth image's own namespace, '' if it has none."""
        return next((name for name in _info_names(depth) if name in self._by_name
                     and self._by_name[name].msgtype == CAMERA_INFO and name != camera_info), '')

    def _difference(self, depth: Listed, image: Listed, camera: Listed) -> str:
        """Return how a depth topic's camera differs from the image's, '' if it does not."""
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
        """Return the pose topic of the preferred type; /tf if none fits."""
        found = [t for t in self._listed if t.msgtype in POSES]
        why_not = {t.name: self._why_not(t, image) for t in found}
        most = max((t.count for t in found if not why_not[t.name]), default=0)
        for topic in found:
            if not why_not[topic.name] and topic.count < _MIN_COUNT * most:
                why_not[topic.name] = f'it has {topic.count} poses, another has {most}'
        fits = [t for t in found if not why_not[t.name]]
        if len(fits) > 1:
            covered = dict(zip((t.name for t in fits), spans([t.name for t in fits])))
            for name, span in covered.items():
                if span < _MIN_SPAN * max(covered.values()):
                    why_not[name] = f'it covers {span:.1f} of {max(covered.values()):.1f} s'
            fits = [t for t in fits if not why_not[t.name]]
        transforms = [t for t in self._listed
                      if t.msgtype == TRANSFORMS and not is_static(t.name)]
        single = [t for t in found if why_not[t.name] == _SINGLE]
        name = (self._of_preferred_type(fits) or _best(transforms)
                or self._of_preferred_type(single))
        if not name:
            refused = ''.join(f', {t.name}: {why_not[t.name]}' for t in found)
            raise self.error('it has no camera poses (PoseStamped, PoseWithCovarianceStamped, '
                             f'Odometry or /tf){refused}')
        others = [f'{t.name}: {why_not[t.name] or "its type or name is less specific"}'
                  for t in found if t.name != name]
        if others:
            logger.warning('%s: poses are read from %s (not from %s); name another with --pose',
                           self._path, name, '; '.join(others))
        return name

    def _why_not(self, pose: Listed, image: str) -> str:
        """Return why a pose topic is not of the camera or its body, '' if it may be."""
        commands = sorted(pose.words & _COMMANDS)
        camera = self._by_name[image]
        if commands:
            return f'its name contains {commands[0]}'
        if pose.frame_id and (pose.frame_id == camera.frame_id
                              or pose.frame_id.endswith('optical_frame')):
            return f'its poses are in a camera frame, {pose.frame_id}'
        return _SINGLE if pose.count == 1 and camera.count > 1 else ''

    @staticmethod
    def _of_preferred_type(poses: Sequence[Listed]) -> str:
        """Return the best name of the preferred type, '' without topics."""
        return next(filter(None, (
            _best([t for t in poses if t.msgtype == kind], ('color', 'rgb', 'camera'))
            for kind in POSES)), '')


_SINGLE = 'it is a single message'
_TRUTH_WORDS = 'color', 'rgb', 'registered'


def _best(topics: Sequence[Listed], words: Tuple[str, ...] = ()) -> str:
    """Return the name with the earliest of the words, '' without topics."""
    def rank(name: str):
        return tuple(word not in name.lower() for word in words), name
    return min((t.name for t in topics), key=rank, default='')


def _info_names(image: str) -> List[str]:
    """List possible CameraInfo names of an image topic, the likeliest first."""
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
    """Return whether two CameraInfo agree up to a resize, as far as they are known."""
    if not (one.matrix and other.matrix and one.width and other.width and other.matrix[0] > 0):
        return True
    scale = other.width / one.width
    return _same_shape(one, other) and all(
        abs(scale * a - b) <= _SAME_CAMERA * other.matrix[0]
        for a, b in zip(one.matrix, other.matrix))


def is_static(name: str) -> bool:
    """Return whether this is a topic of fixed transforms."""
    return name.endswith('tf_static')
