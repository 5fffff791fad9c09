"""Which of a bag's topics play which part."""

from __future__ import annotations

from typing import Callable, Iterable, List, NamedTuple, Sequence, Tuple

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
# Poses somebody asked for, not where the robot is.
_WISHES = ('goal', 'initialpose', 'target')


class BagError(ValueError):
    """A bag cannot be read or written; the text is one line naming the file and what to do."""


class Topics(NamedTuple):
    """Names of the topics to read; an empty one is found by type."""

    image: str = ''
    camera_info: str = ''
    pose: str = ''
    ground_truth: str = ''


class Listed(NamedTuple):
    """A topic that has messages; encoding is an image's (or its compressed format), else ''."""

    name: str
    msgtype: str
    count: int
    encoding: str = ''

    @property
    def is_depth(self) -> bool:
        """Whether this is an image of distances."""
        encoding = self.encoding.lower()
        return self.msgtype in IMAGES and (
            'depth' in self.name.lower() or 'compresseddepth' in encoding
            or encoding.startswith(_DEPTH_ENCODINGS))


def choose(path: object, listed: Sequence[Listed], wanted: Topics = Topics()) -> Topics:
    """
    Choose a bag's topics: those wanted by name, the others by type.

    Of several that fit, one whose name speaks of colour is preferred, then the first by alphabet.

    :param path: the bag, for errors.
    :param listed: the bag's topics.
    :raises BagError: if a topic is missing or has an unfitting type; it lists the bag's topics.
    """
    chosen = _Choice(path, listed)
    image = chosen.named('image', wanted.image, IMAGES) or chosen.best(
        lambda t: t.msgtype in IMAGES and not t.is_depth, ('color', 'rgb', 'image'))
    if not image:
        raise chosen.error('it has no colour image topic')
    depth = chosen.named('ground_truth', wanted.ground_truth, IMAGES) or chosen.best(
        lambda t: t.is_depth and t.name != image, ('color', 'rgb', 'registered'))
    return Topics(
        image=image, ground_truth=depth,
        camera_info=chosen.named('camera_info', wanted.camera_info, (CAMERA_INFO,))
        or chosen.camera_info(image),
        pose=chosen.named('pose', wanted.pose, (*POSES, TRANSFORMS)) or chosen.pose())


def base_name(image_topic: str) -> str:
    """Give the name of an image topic without its transport: /camera/image_raw."""
    base, _, last = image_topic.rpartition('/')
    transports = ('compressed', 'compresseddepth', 'zstd', 'ffmpeg', 'theora')
    return base if last.lower() in transports else image_topic


class _Choice:
    """The rules by which topics are chosen from a bag."""

    def __init__(self, path: object, listed: Sequence[Listed]):
        self._path = path
        self._listed = sorted(listed)

    def error(self, problem: str) -> BagError:
        """Give an error that lists the bag's topics."""
        topics = ', '.join(f'{t.name} [{t.msgtype}]' for t in self._listed)
        return BagError(
            f'{self._path}: {problem}; name another topic or record one, this bag has: '
            f'{topics or "no messages"}')

    def named(self, part: str, name: str, types: Iterable[str]) -> str:
        """Give the wanted name if it exists with a fitting type."""
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

    def best(self, fits: Callable[[Listed], bool], words: Tuple[str, ...] = ()) -> str:
        """Give the best name that fits, preferring earlier words, '' if none does."""
        def rank(name: str):
            return tuple(word not in name.lower() for word in words), name
        return min((t.name for t in self._listed if fits(t)), key=rank, default='')

    def camera_info(self, image: str) -> str:
        """Give the camera_info of the image's namespace, or the only one there is."""
        names: List[str] = [t.name for t in self._listed if t.msgtype == CAMERA_INFO]
        own = base_name(image).rpartition('/')[0] + '/camera_info'
        if own in names:
            return own
        if len(names) > 1:
            raise self.error(f'none of its CameraInfo topics belongs to {image}')
        if not names:
            raise self.error(f'it has no CameraInfo topic for {image}')
        return names[0]

    def pose(self) -> str:
        """Give the pose topic of the most telling type, /tf if there is none."""
        for kind in POSES:
            name = self.best(
                lambda t: t.msgtype == kind
                and not any(wish in t.name.lower() for wish in _WISHES),
                ('color', 'rgb', 'camera'))
            if name:
                return name
        name = self.best(lambda t: t.msgtype == TRANSFORMS and not is_static(t.name))
        if not name:
            raise self.error('it has no camera poses (PoseStamped, PoseWithCovarianceStamped, '
                             'Odometry or /tf)')
        return name


def is_static(name: str) -> bool:
    """Whether a transform topic holds what never moves."""
    return name.endswith('tf_static')
