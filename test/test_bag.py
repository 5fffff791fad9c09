"""Frames out of real bags, and into them."""

from dataclasses import replace
import logging
import struct

import cv2
from dectrain_ros.bags.reader import Bag, BagError, BagWriter, header_stamp_ns, Topics
from dectrain_ros.config import PoseConfig
from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.sensing.camera_poses import NOT_PLACED
from dectrain_ros.sensing.lens import Lens, Rectifier
from dectrain_ros.sensing.pose_stream import JUMPED
from dectrain_ros.sensing.pose_track import (
    AFTER_LAST, BEFORE_FIRST, INVALID, LONG_GAP, rigid_transform)
import numpy as np
import pytest
from rosbags.interfaces import (
    Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

TYPES = get_typestore(Stores.ROS2_JAZZY)
MS = 1_000_000
T0 = 1_700_000_000 * 10**9
CAMERA = Intrinsics(8.0, 8.5, 3.5, 2.5, 8, 6)
HALF = float(np.sqrt(0.5))
STILL = (0.0, 0.0, 0.0, 1.0)
IMAGE, INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
RNG_IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def make(kind, **fields):
    """Build a message."""
    return TYPES.types[kind](**fields)


def header(stamp_ns, frame_id='camera'):
    """Build a Header."""
    return make('std_msgs/msg/Header', frame_id=frame_id, stamp=make(
        'builtin_interfaces/msg/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9))


def image(stamp_ns, array=RNG_IMAGE, encoding='rgb8', padding=0, frame_id='camera', big=0):
    """Build an Image, with padding bytes after each row."""
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return make(IMAGE, header=header(stamp_ns, frame_id), height=array.shape[0],
                width=array.shape[1], encoding=encoding, is_bigendian=big, step=rows.shape[1],
                data=rows.ravel())


def packed(stamp_ns, data, form):
    """Build a CompressedImage."""
    return make(COMPRESSED, header=header(stamp_ns), format=form,
                data=np.frombuffer(bytes(data), np.uint8))


def png(array):
    """Return PNG bytes of an array in OpenCV's channel order."""
    return cv2.imencode('.png', array)[1].tobytes()


def info(stamp_ns, camera=CAMERA, d=(0.0,) * 5, k=None, p_fx=None):
    """Build a CameraInfo."""
    matrix = camera.matrix()
    projection = np.hstack([matrix, np.zeros((3, 1))])
    projection[0, 0] = p_fx or projection[0, 0]
    return make(INFO, header=header(stamp_ns), height=camera.height, width=camera.width,
                distortion_model='plumb_bob', d=np.array(d), p=projection.ravel(),
                k=matrix.ravel() if k is None else k, r=np.eye(3).ravel(), binning_x=0,
                binning_y=0, roi=make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0,
                                      height=0, width=0, do_rectify=False))


def bare_pose(x, turn=STILL):
    """Build a Pose x metres along the x axis."""
    return make('geometry_msgs/msg/Pose',
                position=make('geometry_msgs/msg/Point', x=float(x), y=0.0, z=0.0),
                orientation=make('geometry_msgs/msg/Quaternion', **dict(zip('xyzw', turn))))


def pose(stamp_ns, x, turn=STILL):
    """Build a PoseStamped."""
    return make('geometry_msgs/msg/PoseStamped', header=header(stamp_ns, 'world'),
                pose=bare_pose(x, turn))


def pose_with_covariance(stamp_ns, x):
    """Build a PoseWithCovarianceStamped."""
    return make('geometry_msgs/msg/PoseWithCovarianceStamped', header=header(stamp_ns, 'world'),
                pose=make('geometry_msgs/msg/PoseWithCovariance', pose=bare_pose(x),
                          covariance=np.zeros(36)))


def odometry(stamp_ns, x, child):
    """Build an Odometry."""
    zero = make('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0)
    return make('nav_msgs/msg/Odometry', header=header(stamp_ns, 'odom'), child_frame_id=child,
                pose=pose_with_covariance(stamp_ns, x).pose, twist=make(
                    'geometry_msgs/msg/TwistWithCovariance', covariance=np.zeros(36),
                    twist=make('geometry_msgs/msg/Twist', linear=zero, angular=zero)))


def tf(stamp_ns, *edges):
    """Build a TFMessage of (parent, child, x, quaternion)."""
    return make('tf2_msgs/msg/TFMessage', transforms=[
        make('geometry_msgs/msg/TransformStamped', header=header(stamp_ns, parent),
             child_frame_id=child, transform=make(
                 'geometry_msgs/msg/Transform',
                 translation=make('geometry_msgs/msg/Vector3', x=float(x), y=0.0, z=0.0),
                 rotation=bare_pose(0, turn).orientation)) for parent, child, x, turn in edges])


def record(path, messages, plugin=StoragePlugin.MCAP, **options):
    """Write (topic, log time, message or (type, bytes)) into a bag."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        connections = {}
        for topic, log_ns, message in messages:
            raw = isinstance(message, tuple)
            kind = message[0] if raw else message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=TYPES, **options)
            writer.write(connections[topic], log_ns,
                         message[1] if raw else TYPES.serialize_cdr(message, kind))
    return path


def scene(images=(), poses=None, infos=None):
    """Return messages of a small bag; poses at 0 and 100 ms go from x = 0 to 1 m."""
    poses = poses if poses is not None else [
        ('/pose', T0, pose(T0, 0)), ('/pose', T0 + 100 * MS, pose(T0 + 100 * MS, 1))]
    infos = infos if infos is not None else [('/cam/camera_info', T0, info(T0))]
    return sorted([*infos, *poses, *images], key=lambda m: m[1])


def opened(path, topics=Topics(), ground_truth_unit_m=0.001, **pose):
    """Open a bag whose camera may move 10 m/s, as that of scene does."""
    return Bag(path, topics, PoseConfig(**{'max_speed': 1e3, **pose}), ground_truth_unit_m)


def shots(*stamps_ms, topic='/cam/image_raw', **options):
    """Return image messages at the stamps."""
    return [(topic, T0 + ms * MS, image(T0 + ms * MS, **options)) for ms in stamps_ms]


def frames_of(n, with_pose=True):
    """Return n smooth frames, 33 ms apart, moving 10 mm each."""
    ramp = np.linspace(40, 200, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8)
    ramp[..., 2] //= 4
    return [Frame(
        T0 + i * 33 * MS, np.roll(ramp, i, axis=1), Intrinsics(60, 61, 31, 23, 64, 48),
        rigid_transform((i / 100, 2, 3), (HALF, 0, 0, HALF)) if with_pose else None,
        'optical') for i in range(n)]


# Round trip

@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compress', [True, False])
def test_what_was_written_is_read_back(tmp_path, storage, compress):
    depth = np.full((48, 64), 1.2344, np.float32)
    depth[0, :5] = (np.nan, np.inf, 65.534, 65.535, -1.0)
    written = frames_of(4)
    with BagWriter(tmp_path / 'new' / 'bag', storage, compress) as writer:
        for frame in written:
            writer.write(frame, depth)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['bag']
    bag = opened(tmp_path / 'new' / 'bag')
    read = list(bag.frames())
    assert len(bag) == len(read) == 4 and not bag.skipped
    assert bag.topics == Topics(
        '/camera/image_raw' + '/compressed' * compress, '/camera/camera_info', '/camera/pose',
        '/camera/depth/image_raw')
    assert not any(r.begins_segment for r in read)
    for (frame, truth, _), wrote in zip(read, written):
        assert (frame.stamp_ns, frame.intrinsics, frame.frame_id, frame.pose_problem) == (
            wrote.stamp_ns, wrote.intrinsics, 'optical', '')
        np.testing.assert_allclose(frame.world_from_camera, wrote.world_from_camera, atol=1e-12)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous and frame.image.flags.writeable
        error = np.abs(frame.image.astype(int) - wrote.image)
        assert error.mean() < 3 if compress else error.max() == 0
        assert truth.dtype == np.float32
        np.testing.assert_allclose(truth[1:], 1.234, atol=1e-6)      # whole millimetres
        np.testing.assert_allclose(
            truth[0, :5], [np.nan, np.nan, 65.534, np.nan, np.nan], atol=1e-5)


def test_a_frame_without_pose_is_written_without_one(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write(frames_of(1, with_pose=False)[0])
    with pytest.raises(BagError, match=r'no camera poses .*/camera/camera_info \[sensor_msgs'):
        opened(tmp_path / 'bag')


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_a_bag_that_is_interrupted_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error):
        with BagWriter(tmp_path / 'bag') as writer:
            writer.write(frames_of(1)[0])
            assert not (tmp_path / 'bag').exists()
            raise error
    assert list(tmp_path.iterdir()) == []


def test_a_bag_without_frames_is_not_written(tmp_path):
    with pytest.raises(BagError, match='no frame was written'):
        with BagWriter(tmp_path / 'bag'):
            pass
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_overwritten(tmp_path):
    with pytest.raises(BagError, match=f'{tmp_path} exists: choose another name'):
        BagWriter(tmp_path)
    with pytest.raises(BagError, match='created by another process'):
        with BagWriter(tmp_path / 'bag') as writer:
            writer.write(frames_of(1)[0])
            (tmp_path / 'bag').mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ['bag']


def test_an_unknown_storage_is_refused(tmp_path):
    with pytest.raises(BagError, match="'zip': it must be mcap or sqlite3"):
        BagWriter(tmp_path / 'bag', 'zip')


def test_an_image_that_is_not_of_the_intrinsics_size_is_not_written(tmp_path):
    frame = replace(frames_of(1)[0], intrinsics=CAMERA)
    with pytest.raises(ValueError, match=r'\(48, 64, 3\): it must be uint8 RGB .*\(6, 8, 3\)'):
        with BagWriter(tmp_path / 'bag') as writer:
            writer.write(frame)


# What is no bag

def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(BagError, match='nothing does not exist: name a rosbag2 folder'):
        opened(tmp_path / 'nothing')


def test_a_folder_without_a_bag_is_an_error(tmp_path):
    with pytest.raises(BagError, match=r'no metadata.yaml and 0 .mcap or .db3 files'):
        opened(tmp_path)


def test_a_ros_1_bag_is_an_error_that_says_how_to_convert(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0')
    with pytest.raises(BagError, match='rosbags-convert'):
        opened(tmp_path / 'old.bag')


@pytest.mark.parametrize('name', ['x.db3', 'x.mcap'])
@pytest.mark.parametrize('content', [b'', b'garbage ' * 100])
def test_garbage_is_an_error_of_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BagError, match=f'{name} cannot be read, it is damaged') as caught:
        opened(tmp_path / name)
    assert '\n' not in str(caught.value)


def test_a_truncated_mcap_is_an_error(tmp_path):
    file = record(tmp_path / 'bag', scene(shots(0, 50))) / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(BagError, match='bag cannot be read, it is damaged or incomplete'):
        opened(tmp_path / 'bag')


def test_damage_inside_an_mcap_is_an_error_when_it_is_met(tmp_path):
    file = record(tmp_path / 'bag', scene(shots(0, 50))) / 'bag.mcap'
    bag = opened(tmp_path / 'bag')
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(BagError, match='damaged or incomplete'):
        list(bag.frames())


def changed_metadata(path, change):
    """Change the text of a bag's metadata.yaml."""
    file = path / 'metadata.yaml'
    text = change(file.read_text())
    assert text != file.read_text()
    file.write_text(text)


FOREVER = QosTime(9223372036, 854775807)
QOS = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, FOREVER, FOREVER,
    QosLiveliness.AUTOMATIC, FOREVER, False)
PLUGINS = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]


@pytest.mark.parametrize('plugin', PLUGINS)
@pytest.mark.parametrize('change, why', [
    (lambda text: 'rosbag2_bagfile_information: 3', 'Invalid bag metadata'),
    (lambda text: text.replace('version: 8', 'version: 10'), 'version 10 not supported'),
    (lambda text: text.replace('depth: 10', 'depth: 5'), 'another quality of service of'),
    (lambda text: text.replace('/cam/image_raw', '/old/image_raw'), 'it lacks /cam/image_raw'),
    (lambda text: text.replace('bag.', 'old.'), 'files are missing')])
def test_the_one_file_of_a_bag_is_read_where_its_metadata_does_not_fit(
        tmp_path, plugin, change, why, caplog):
    path = record(tmp_path / 'bag', scene(shots(0, 50)), plugin, offered_qos_profiles=[QOS])
    assert len(opened(path)) == 2 and not caplog.records
    changed_metadata(path, change)
    assert len(list(opened(path).frames())) == 2
    assert 'metadata.yaml does not fit' in caplog.text and why in caplog.text
    assert 'is read without it; ros2 bag reindex corrects it' in caplog.text


def test_metadata_that_does_not_fit_many_files_or_compressed_messages_is_an_error(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0, 50)))
    changed_metadata(path, lambda text: text.replace('/cam/image_raw', '/old/image_raw'))
    (path / 'more.mcap').write_bytes(b'')
    with pytest.raises(BagError, match='it lacks /cam/image_raw.*: run ros2 bag reindex'):
        opened(path)
    (path / 'more.mcap').unlink()
    with (path / 'metadata.yaml').open('a') as file:
        file.write('# compression_mode: MESSAGE')
    with pytest.raises(BagError, match='it lacks /cam/image_raw'):
        opened(path)
    changed_metadata(path, lambda text: text.replace('version: 8', 'version: 10'))
    with pytest.raises(BagError, match='metadata.yaml is newer than this rosbags supports.*upd'):
        opened(path)


def test_files_that_are_whole_but_not_ours_are_named_as_what_they_are(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0)))
    (path / 'metadata.yaml').unlink()
    file, whole = path / 'bag.mcap', (path / 'bag.mcap').read_bytes()
    place = whole.index(b'ros2', 8)
    for profile, text in ((b'ros1', 'bag.mcap holds ROS 1 messages: convert its original .bag'),
                          (b'ros3', "bag.mcap is of profile 'ros3', not ros2")):
        file.write_bytes(whole[:place] + profile + whole[place + 4:])
        with pytest.raises(BagError, match=text):
            opened(path)
    file.unlink()
    (path / 'x.db3.zstd').write_bytes(b'')
    for named in (path, path / 'x.db3.zstd'):
        with pytest.raises(BagError, match='x.db3.zstd is compressed: .* zstd -d x.db3.zstd'):
            opened(named)
    (path / 'x.db3.zstd').rename(path / 'run.bag')
    for named in (path, path / 'run.bag'):
        with pytest.raises(BagError, match='run.bag is a ROS 1 bag: convert it: rosbags-convert '):
            opened(named)
    (path / 'run.bag').rename(path / 'run.txt')
    with pytest.raises(BagError, match='run.txt is not a rosbag2 file'):
        opened(path / 'run.txt')


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_that_lost_its_metadata_is_read_from_its_one_file(tmp_path, plugin):
    path = record(tmp_path / 'bag', scene(shots(0, 50)), plugin)
    (path / 'metadata.yaml').unlink()
    file, = path.iterdir()
    assert len(list(opened(path).frames())) == len(list(opened(file).frames())) == 2


# Topics

@pytest.mark.parametrize('left_out, text', [
    ('/cam/image_raw', r'no colour image topic.*this bag has: /cam/camera_info \[sensor_msgs/'),
    ('/cam/camera_info', 'no CameraInfo topic for /cam/image_raw'),
    ('/pose', r'no camera poses \(PoseStamped'),
])
def test_a_bag_that_lacks_a_part_says_which(tmp_path, left_out, text):
    messages = [m for m in scene(shots(0, 50)) if m[0] != left_out]
    with pytest.raises(BagError, match=text):
        opened(record(tmp_path / 'bag', messages))


def test_colour_is_preferred_and_depth_is_never_taken_for_it(tmp_path):
    thermal = np.zeros((6, 8), np.uint16)
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0, topic='/a/infra') + shots(0, topic='/b/color') + shots(0, topic='/a/image_raw')
        + shots(0, topic='/a/color/thermal', array=thermal, encoding='mono16')
        + shots(0, topic='/a/depth_color') + shots(0, topic='/a/depth'),
        infos=[('/b/camera_info', T0, info(T0)), ('/a/camera_info', T0, info(T0))])))
    assert bag.topics == Topics('/b/color', '/b/camera_info', '/pose')


@pytest.mark.parametrize('form', ['16UC1; compressedDepth png', 'png; compressedDepth'])
def test_compressed_depth_is_depth(tmp_path, form):
    data = bytes(12) + png(np.full((6, 8), 1500, np.uint16))
    bag = opened(record(tmp_path / 'bag', scene(shots(0) + [
        ('/a/range', T0, packed(T0, data, form))])))
    assert bag.topics.ground_truth == '/a/range'
    assert next(bag.frames()).ground_truth == pytest.approx(np.full((6, 8), 1.5))


def test_goals_are_not_where_the_camera_was(tmp_path):
    bag = opened(record(tmp_path / 'bag', scene(shots(0), poses=[
        ('/goal_pose', T0, pose(T0, 9)), ('/odometry', T0, odometry(T0, 1, 'camera'))])))
    assert bag.topics.pose == '/odometry'


def test_named_topics_are_taken(tmp_path):
    path = record(tmp_path / 'bag', scene(
        shots(0, topic='/cam/color') + shots(0, topic='/cam/grey') + shots(0, topic='/a/depth')
        + shots(0, topic='/b/depth'),
        poses=[('/p1', T0, pose(T0, 1)), ('/p2', T0, pose(T0, 2))],
        infos=[('/cam/camera_info', T0, info(T0)), ('/info', T0, info(T0))]))
    wanted = Topics('/cam/grey', '/info', '/p2', '/b/depth')
    assert opened(path, wanted).topics == wanted


@pytest.mark.parametrize('wanted, text', [
    (Topics(image='/nope'), r'image topic /nope is not in it .*/pose \[geometry_msgs/msg/Pose'),
    (Topics(image='/pose'), 'image topic /pose is of type geometry_msgs.*must be sensor_msgs'),
    (Topics(pose='/cam/image_raw'), 'pose topic /cam/image_raw is of type sensor_msgs'),
    (Topics(camera_info='/pose'), 'camera_info topic /pose is of type'),
    (Topics(ground_truth='/pose'), 'ground_truth topic /pose is of type'),
])
def test_named_topics_must_exist_and_fit(tmp_path, wanted, text):
    path = record(tmp_path / 'bag', scene(shots(0)))
    with pytest.raises(BagError, match=text):
        opened(path, wanted)


def test_the_calibration_of_another_camera_is_not_guessed(tmp_path):
    infos = [('/x/camera_info', T0, info(T0)), ('/y/camera_info', T0, info(T0))]
    with pytest.raises(BagError, match='none of its CameraInfo topics belongs to /cam/image_raw'):
        opened(record(tmp_path / 'two', scene(shots(0), infos=infos)))
    bag = opened(record(tmp_path / 'one', scene(shots(0), infos=infos[:1])))
    assert bag.topics.camera_info == '/x/camera_info'


# Calibration

def test_an_uncalibrated_camera_is_an_error(tmp_path):
    with pytest.raises(BagError, match=r'/cam/camera_info: intrinsics are fx=0.0 .*calibrate'):
        opened(record(tmp_path / 'bag', scene(
            shots(0), infos=[('/cam/camera_info', T0, info(T0, k=np.zeros(9)))])))


def test_the_calibration_is_scaled_to_resized_images(tmp_path):
    full = Intrinsics(16.0, 18.0, 7.5, 5.5, 16, 12)
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0), infos=[('/cam/camera_info', T0, info(T0, full))])))
    # Half the focal length; (7.5 + 0.5) / 2 - 0.5 = 3.5.
    assert next(bag.frames()).frame.intrinsics == Intrinsics(8.0, 9.0, 3.5, 2.5, 8, 6)


def test_the_calibration_of_a_part_of_the_sensor_is_of_that_part(tmp_path):
    message = info(T0, Intrinsics(16.0, 18.0, 7.5, 5.5, 16, 12))
    message.roi.x_offset, message.roi.y_offset = 3, 2
    message.roi.width, message.roi.height = 8, 6
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0), infos=[('/cam/camera_info', T0, message)])))
    assert next(bag.frames()).frame.intrinsics == Intrinsics(16.0, 18.0, 4.5, 3.5, 8, 6)


def test_a_calibration_of_another_shape_is_an_error(tmp_path):
    other = Intrinsics(16.0, 18.0, 7.5, 5.5, 16, 14)
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0), infos=[('/cam/camera_info', T0, info(T0, other))])))
    with pytest.raises(BagError, match='size differs from camera_info .*8x6, camera_info 16x14'):
        next(bag.frames())


def test_a_distorted_image_and_its_true_depth_are_rectified_alike(tmp_path):
    lens, big = (0.2, 0.05, 0, 0, 0), Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3 + 30, (48, 64))
    bag = opened(record(tmp_path / 'bag', scene([
        ('/cam/image_raw', T0, image(T0, np.repeat(ramp[..., None], 3, -1))),
        ('/cam/depth', T0, image(T0, ramp.astype(np.uint16) * 10, '16UC1'))],
        infos=[('/cam/camera_info', T0, info(T0, big, d=lens))])))
    recorded = next(bag.frames())
    rectifier = Rectifier(Lens(big, 'plumb_bob', lens[:4]), buffers=0)
    np.testing.assert_array_equal(
        recorded.frame.image, rectifier(np.repeat(ramp[..., None], 3, -1)))
    assert recorded.frame.intrinsics == rectifier.camera != big
    # 10 mm and three grey levels a column: both stand in the same one, but for rounding.
    apart = np.abs(recorded.ground_truth * 100 - recorded.frame.image[..., 0])
    assert np.nanmax(apart) <= 3.01 and np.nanstd(apart) > 0


def test_rectified_images_use_the_projection_matrix(tmp_path, caplog):
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0, topic='/cam/image_rect'),
        infos=[('/cam/camera_info', T0, info(T0, d=(0.1, 0, 0, 0, 0), p_fx=7.0))])))
    assert next(bag.frames()).frame.intrinsics.fx == 7.0
    assert 'distortion' not in caplog.text


# Poses

@pytest.mark.parametrize('kind', [
    pose, pose_with_covariance, lambda t, x: odometry(t, x, 'camera')])
@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_the_pose_is_interpolated_at_the_images_stamp(tmp_path, kind, plugin):
    poses = [('/p', T0 + ms * MS, kind(T0 + ms * MS, ms / 100)) for ms in (0, 100, 200)]
    bag = opened(record(tmp_path / 'bag', scene(shots(25, 130), poses), plugin))
    found = [r.frame.world_from_camera[:3, 3].tolist() for r in bag.frames()]
    np.testing.assert_allclose(found, [[0.25, 0, 0], [1.3, 0, 0]], atol=1e-9)


# The optical frame seen from a body that looks along its x axis (REP 103).
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
TURNED = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]


def test_odometry_of_the_body_is_carried_to_the_camera(tmp_path):
    poses = [('/odom', T0 + ms * MS, odometry(T0 + ms * MS, ms / 100, 'base')) for ms in (0, 100)]
    poses += [('/tf_static', T0, tf(
        T0, ('base', 'mount', 0.3, STILL), ('mount', 'camera', 0.2, OPTICAL)))]
    bag = opened(record(tmp_path / 'bag', scene(shots(50), poses)))
    matrix = next(bag.frames()).frame.world_from_camera
    np.testing.assert_allclose(matrix[:3, 3], [0.5 + 0.3 + 0.2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3], TURNED, atol=1e-9)


def test_body_and_camera_may_hang_side_by_side(tmp_path):
    poses = [('/odom', T0, odometry(T0, 0, 'imu')), ('/tf_static', T0, tf(
        T0, ('base', 'imu', 0.1, STILL), ('base', 'camera', 0.4, STILL)))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0), poses)))
    assert next(bag.frames()).frame.world_from_camera[0, 3] == pytest.approx(0.3)


def test_odometry_of_a_body_whose_camera_is_nowhere_is_not_trained_on(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0), [('/odom', T0, odometry(T0, 4, 'base'))]))
    frame = next(opened(path).frames()).frame
    assert frame.world_from_camera is None and frame.pose_problem == NOT_PLACED
    frame = next(opened(path, extrinsic='0.5 0 0 0 0 0 1').frames()).frame
    assert frame.world_from_camera[0, 3] == 4.5


def test_poses_of_a_body_that_do_not_name_it_are_carried_to_the_camera(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0), [
        ('/pose', T0, pose(T0, 4)), ('/tf_static', T0, tf(T0, ('base', 'camera', 0.2, STILL)))]))
    assert next(opened(path, body_frame='base').frames()).frame.world_from_camera[0, 3] == 4.2
    assert next(opened(path).frames()).frame.world_from_camera[0, 3] == 4.0     # the camera's


def test_the_cameras_place_may_come_on_tf(tmp_path):
    poses = [m for ms in (0, 40, 80) for m in (
        ('/odom', T0 + ms * MS, odometry(T0 + ms * MS, 1, 'base')),
        ('/tf', T0 + ms * MS, tf(T0 + ms * MS, ('base', 'camera', 0.2, STILL))))]
    found = [r.frame for r in opened(record(
        tmp_path / 'bag', scene(shots(40, 80), poses))).frames()]
    assert found[-1].world_from_camera[0, 3] == 1.2


def test_the_cameras_frame_may_be_the_parent_of_the_bodys(tmp_path):
    poses = [('/odom', T0, odometry(T0, 1, 'base')),
             ('/tf_static', T0, tf(T0, ('camera', 'base', 0.2, STILL)))]
    frame = next(opened(record(tmp_path / 'bag', scene(shots(0), poses))).frames()).frame
    assert frame.world_from_camera[0, 3] == pytest.approx(0.8)


def test_an_extrinsic_that_is_none_is_an_error(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0)))
    with pytest.raises(BagError, match="bag: pose.extrinsic is '1 2': it has 2 numbers"):
        opened(path, extrinsic='1 2')


def test_a_source_of_poses_that_is_not_the_topics_is_refused(tmp_path):
    path = record(tmp_path / 'bag', scene(shots(0)))
    with pytest.raises(BagError, match='pose.source is odometry but poses are on /pose of type '):
        opened(path, source='odometry')


def test_where_a_pose_jumps_another_segment_begins(tmp_path):
    poses = [('/pose', T0 + ms * MS, pose(T0 + ms * MS, x))
             for ms, x in ((0, 0), (40, 0.01), (80, 5), (120, 5.01))]
    path = record(tmp_path / 'bag', scene(shots(0, 40, 60, 80, 120), poses))
    bag = opened(path, max_speed=3.0)
    read = list(bag.frames())
    assert [r.begins_segment for r in read] == [False, False, False, True, False]
    assert read[2].frame.pose_problem == JUMPED
    assert bag.skipped == {'pose jumped': 1, f'no pose, {JUMPED}': 1}
    assert not any(r.begins_segment for r in opened(path).frames())


def test_a_recorded_loop_is_another_segment(tmp_path):
    def lap(log_ms):
        return [(topic, T0 + (log_ms + ms) * MS, message) for ms in (0, 2000)
                for topic, message in (('/pose', pose(T0 + ms * MS, 0)),
                                       ('/cam/image_raw', image(T0 + ms * MS)))]
    bag = opened(record(tmp_path / 'bag', [
        ('/cam/camera_info', T0, info(T0)), *lap(0), *lap(3000)]))
    read = list(bag.frames())
    assert [(r.frame.stamp_ns - T0) // MS for r in read] == [0, 2000, 0, 2000]
    assert [r.begins_segment for r in read] == [False, False, True, False]
    assert all(r.frame.world_from_camera is not None for r in read)


@pytest.mark.parametrize('stamps_ms, posed', [
    ((0, 30, 3_600_000, 90, 120), [0, 30, 90, 120]), ((-T0 // MS, 30, 60), [30, 60])])
def test_one_wrong_stamp_costs_one_frame(tmp_path, stamps_ms, posed):
    poses = [('/pose', T0 + ms * MS, pose(T0 + ms * MS, 0)) for ms in range(0, 400, 30)]
    images = [('/cam/image_raw', T0 + 30 * k * MS, image(T0 + ms * MS))
              for k, ms in enumerate(stamps_ms)]
    read = [r.frame for r in opened(record(tmp_path / 'bag', scene(images, poses))).frames()]
    assert [(f.stamp_ns - T0) // MS for f in read if f.world_from_camera is not None] == posed


def test_every_frame_has_the_camera_that_took_it(tmp_path):
    zoomed = Intrinsics(16.0, 17.0, 3.5, 2.5, 8, 6)
    infos = [('/cam/camera_info', T0, info(T0)),
             ('/cam/camera_info', T0 + 50 * MS, info(T0 + 50 * MS, zoomed))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 40, 60, 80), infos=infos)))
    read = list(bag.frames())
    assert [r.frame.intrinsics.fx for r in read] == [8.0, 8.0, 16.0, 16.0]
    assert [r.begins_segment for r in read] == [False, False, True, False]


def test_a_drivers_first_calibration_of_zeros_is_passed_over(tmp_path):
    infos = [('/cam/camera_info', T0, info(T0, k=np.zeros(9))),
             ('/cam/camera_info', T0 + 10 * MS, info(T0))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 40), infos=infos)))
    assert [r.frame.intrinsics for r in bag.frames()] == [CAMERA, CAMERA]


def test_transforms_are_composed_down_to_the_camera(tmp_path):
    poses = [('/tf', T0 + ms * MS, tf(
        T0 + ms * MS, ('odom', 'base', ms / 100, STILL), ('base', 'wheel', 5, STILL),
        ('map', 'odom', 50, STILL))) for ms in (0, 100)]
    poses += [('/tf_static', T0, tf(T0, ('base', '/camera', 0.2, OPTICAL)))]
    bag = opened(record(tmp_path / 'bag', scene(shots(25), poses)))
    assert bag.topics.pose == '/tf'
    matrix = next(bag.frames()).frame.world_from_camera
    np.testing.assert_allclose(matrix[:3, 3], [0.25 + 0.2, 0, 0], atol=1e-9)     # from odom
    np.testing.assert_allclose(matrix[:3, :3], TURNED, atol=1e-9)


def test_transforms_start_at_the_world_frame(tmp_path):
    poses = [('/tf', T0 + ms * MS, tf(
        T0 + ms * MS, ('earth', 'map', 2, STILL), ('map', 'camera', 1, STILL))) for ms in (0, 40)]
    path = record(tmp_path / 'bag', scene(shots(40), poses))
    with pytest.raises(BagError, match="from 'odom' down to .* 'camera'; set pose.world_frame"):
        opened(path)
    assert next(opened(path, world_frame='earth').frames()).frame.world_from_camera[0, 3] == 3.0


@pytest.mark.parametrize('edges', [
    [('/tf', ('odom', 'base', 0, STILL)), ('/tf_static', ('mount', 'camera', 0, STILL))],
    [('/tf', ('odom', 'base', 0, STILL))]])
def test_transforms_that_do_not_reach_the_camera_are_an_error(tmp_path, edges):
    messages = scene(shots(0), [(topic, T0, tf(T0, edge)) for topic, edge in edges])
    with pytest.raises(BagError, match="no moving transform from 'odom' down to "
                                       "the camera frame 'camera'"):
        opened(record(tmp_path / 'bag', messages))


def test_transforms_in_a_circle_end(tmp_path):
    poses = [('/tf', T0, tf(T0, ('a', 'camera', 1, STILL), ('camera', 'a', 1, STILL)))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0), poses)), world_frame='a')
    assert next(bag.frames()).frame.world_from_camera[0, 3] in (-1.0, 1.0)


def test_a_static_transform_that_is_none_is_an_error(tmp_path):
    poses = [('/tf', T0, tf(T0, ('odom', 'base', 0, STILL))),
             ('/tf_static', T0, tf(T0, ('base', 'camera', 0, (0.0, 0.0, 0.0, 0.0))))]
    with pytest.raises(BagError, match="no moving transform from 'odom' down"):
        opened(record(tmp_path / 'bag', scene(shots(0), poses)))


@pytest.mark.parametrize('turn', [
    (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, float('nan')), (0.0, 0.0, 1.0, 1.0)])
def test_an_invalid_pose_leaves_its_frames_without_one(tmp_path, turn, caplog):
    poses = [('/pose', T0 + ms * MS, pose(T0 + ms * MS, ms, turn if ms == 50 else STILL))
             for ms in (0, 50, 100, 150)]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 50, 75, 125), poses)))
    read = [r.frame for r in bag.frames()]
    assert [f.pose_problem for f in read] == ['', INVALID, INVALID, '']
    assert [f.world_from_camera is None for f in read] == [False, True, True, False]
    assert bag.skipped == {'invalid pose': 1, f'no pose, {INVALID}': 2}
    assert caplog.text.count('quaternion is') == 1


def test_a_bag_without_one_valid_pose_is_an_error(tmp_path):
    poses = [('/pose', T0, pose(T0, float('nan')))]
    with pytest.raises(BagError, match=r'/pose has no valid pose: translation is \[nan'):
        opened(record(tmp_path / 'bag', scene(shots(0), poses)))


def test_frames_outside_the_poses_and_in_gaps_say_so(tmp_path):
    poses = [('/pose', T0 + ms * MS, pose(T0 + ms * MS, 0)) for ms in (100, 200, 451)]
    bag = opened(record(tmp_path / 'bag', scene(shots(50, 150, 300, 500), poses)))
    assert [r.frame.pose_problem for r in bag.frames()] == [BEFORE_FIRST, '', LONG_GAP, AFTER_LAST]
    assert bag.skipped == {
        f'no pose, {problem}': 1 for problem in (BEFORE_FIRST, LONG_GAP, AFTER_LAST)}
    assert opened(bag.path, max_gap_s=0.3).skipped == {}
    assert [r.frame.pose_problem for r in opened(bag.path, max_gap_s=0.3).frames()][2] == ''


@pytest.mark.parametrize('shift_s', [-5, 5])
def test_poses_of_another_clock_are_an_error(tmp_path, shift_s):
    stamp = T0 + shift_s * 10**9
    with pytest.raises(BagError, match='poses on /pose cover 1[67].* start at 1700000000.000 s: '
                                       'stamp both by the same clock'):
        opened(record(tmp_path / 'bag', scene(shots(0, 50), [('/pose', T0, pose(stamp, 0))])))


# Images

GREY = RNG_IMAGE[..., 0]


@pytest.mark.parametrize('encoding, array, rgb', [
    ('rgb8', RNG_IMAGE, RNG_IMAGE), ('bgr8', RNG_IMAGE[..., ::-1], RNG_IMAGE),
    ('rgba8', np.dstack([RNG_IMAGE, GREY]), RNG_IMAGE),
    ('bgra8', np.dstack([RNG_IMAGE[..., ::-1], GREY]), RNG_IMAGE),
    ('mono8', GREY, np.dstack([GREY] * 3)),
    ('rgb16', RNG_IMAGE.astype(np.uint16) * 257, RNG_IMAGE),
])
@pytest.mark.parametrize('padding', [0, 6])
def test_encodings_become_rgb_whatever_the_row_padding(tmp_path, encoding, array, rgb, padding):
    bag = opened(record(tmp_path / 'bag', scene(
        shots(0, array=array, encoding=encoding, padding=padding))))
    read = next(bag.frames()).frame.image
    np.testing.assert_allclose(read.astype(int), rgb, atol=1)
    assert read.flags.c_contiguous and read.flags.writeable


def test_a_bayer_mosaic_becomes_colour(tmp_path):
    mosaic = np.zeros((6, 8), np.uint8)
    mosaic[0::2, 0::2] = 200                         # only red light falls on RGGB
    bag = opened(record(tmp_path / 'bag', scene(shots(0, array=mosaic, encoding='bayer_rggb8'))))
    assert next(bag.frames()).frame.image[2, 2].tolist() == [200, 0, 0]


@pytest.mark.parametrize('data, form, rgb', [
    (png(RNG_IMAGE[..., ::-1]), 'rgb8; png compressed bgr8', RNG_IMAGE),
    (png(GREY), 'mono8; png compressed mono8', np.dstack([GREY] * 3))])
def test_compressed_colour_and_grey_become_rgb(tmp_path, data, form, rgb):
    bag = opened(record(tmp_path / 'bag', scene(
        [('/cam/i/compressed', T0, packed(T0, data, form))],
        infos=[(f'/{name}/camera_info', T0, info(T0)) for name in ('a', 'cam', 'cam/i')])))
    assert bag.topics.camera_info == '/cam/camera_info'
    assert np.array_equal(next(bag.frames()).frame.image, rgb)


def lacking(message, **fields):
    """Return an image message with some fields changed."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize('broken, reason', [
    (image(T0 + 30 * MS, encoding='fancy8'), 'unsupported image encoding'),
    (image(T0 + 30 * MS, array=GREY, encoding='nv12'), 'image data does not fit its size'),
    (lacking(image(T0 + 30 * MS), height=7), 'image data does not fit its size'),
    (lacking(image(T0 + 30 * MS), step=23), 'image data does not fit its size'),
    (lacking(image(T0 + 30 * MS), width=0), 'image data does not fit its size'),
    (image(T0 + 30 * MS, array=RNG_IMAGE[:, :4]), 'size differs from camera_info'),
    (image(T0), 'stamp not after the previous image'),
    (image(T0 - MS), 'stamp not after the previous image'),
    ((IMAGE, b'\0\1\0\0'), 'unreadable message on /cam/image_raw'),
    ((IMAGE, bytes(TYPES.serialize_cdr(image(T0 + 30 * MS), IMAGE))[:60]),
     'unreadable message on /cam/image_raw'),
])
def test_an_image_that_cannot_be_used_is_left_out_and_counted(tmp_path, broken, reason, caplog):
    bad = [('/cam/image_raw', T0 + 30 * MS, broken)]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 60) + bad)))
    for _ in range(2):
        read = [(r.frame.stamp_ns - T0) // MS for r in bag.frames()]
        assert read == [0, 60]
        assert bag.skipped == {reason: 1}
    assert caplog.text.count(reason) == 1


def test_damaged_jpegs_are_left_out(tmp_path):
    good = cv2.imencode('.jpg', RNG_IMAGE)[1]
    images = [('/cam/i/compressed', T0 + ms * MS, packed(T0 + ms * MS, data, 'jpeg'))
              for ms, data in ((0, good), (30, b'no jpeg'), (40, b''), (60, good))]
    bag = opened(record(tmp_path / 'bag', scene(images)))
    assert len(list(bag.frames())) == 2
    assert bag.skipped == {'damaged compressed image': 2}


def test_when_no_image_can_be_used_the_commonest_reason_is_told(tmp_path):
    messages = scene(shots(0, 10, encoding='fancy8') + [
        ('/cam/image_raw', T0 + 20 * MS, lacking(image(T0 + 20 * MS), height=9))])
    bag = opened(record(tmp_path / 'bag', messages))
    with pytest.raises(BagError, match=r'none of 3 images on /cam/image_raw can be used: '
                                       r'unsupported image encoding \(2 times\): '
                                       r'image encoding .fancy8.'):
        list(bag.frames())


@pytest.mark.parametrize('start, count, stamps', [
    (0, None, [0, 10, 30, 40]), (1, 2, [10]), (3, None, [30, 40]), (0, 1, [0]), (4, 9, [40])])
def test_a_part_of_the_bag_counts_recorded_images(tmp_path, start, count, stamps):
    messages = shots(0, 10, 30, 40) + shots(20, encoding='fancy8')
    bag = opened(record(tmp_path / 'bag', scene(messages)))
    assert len(bag) == 5
    assert [(r.frame.stamp_ns - T0) // MS for r in bag.frames(start, count)] == stamps


@pytest.mark.parametrize('start, count, text', [
    (2, None, 'frames 2 to the end asked of 2 images'), (-1, 3, 'frames -1 to 2 asked'),
    (0, 0, 'frames 0 to 0 asked')])
def test_a_part_the_bag_does_not_have_is_an_error(tmp_path, start, count, text):
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 50))))
    with pytest.raises(BagError, match=text):
        next(bag.frames(start, count))


# Ground truth

def millimetres(ms, value):
    """Return a depth image message of one value."""
    stamp = T0 + ms * MS
    return '/depth', stamp, image(stamp, np.full((6, 8), value, np.uint16), '16UC1')


def test_each_image_gets_the_depth_nearest_in_time(tmp_path):
    depths = [millimetres(ms, value) for ms, value in (
        (0, 1000), (41, 2000), (54, 3000), (79, 4000), (121, 5000))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 49, 60, 100) + depths)))
    truths = [r.ground_truth for r in bag.frames()]
    assert [t[0, 0] if t is not None else None for t in truths] == [1.0, 3.0, 3.0, None]
    assert bag.skipped == {'no depth image near the stamp': 1}       # 21 ms is too far


def test_depth_that_was_logged_late_still_finds_its_image(tmp_path):
    late = [('/depth', log + 200 * MS, message) for _, log, message in (
        millimetres(0, 1000), millimetres(33, 2000), millimetres(66, 3000))]
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 33, 66) + late)))
    assert [r.ground_truth[0, 0] for r in bag.frames()] == [1.0, 2.0, 3.0]
    assert [r.ground_truth[0, 0] for r in bag.frames(1, 1)] == [2.0]


def test_when_depth_ends_the_images_go_on(tmp_path):
    stamps = range(0, 90, 1)
    bag = opened(record(tmp_path / 'bag', scene(shots(*stamps) + [millimetres(0, 1000)])))
    read = list(bag.frames())
    assert [(r.frame.stamp_ns - T0) // MS for r in read] == list(stamps)
    assert sum(r.ground_truth is not None for r in read) == 21       # 0 to 20 ms


def test_images_do_not_pile_up_waiting_for_late_depth(tmp_path):
    _, _, late = millimetres(0, 1000)
    bag = opened(record(tmp_path / 'bag', scene(
        shots(*range(50)) + [('/depth', T0 + 100 * MS, late)])))
    matched = [r.ground_truth is not None for r in bag.frames()]
    # 32 of 50 images wait; of those at 18 to 49 ms, three are within 20 ms of the depth image.
    assert np.flatnonzero(matched).tolist() == [18, 19, 20]


def test_a_bag_without_depth_gives_no_ground_truth(tmp_path):
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 50))))
    assert [r.ground_truth for r in bag.frames()] == [None, None]
    assert not bag.skipped and bag.topics.ground_truth == ''


NAN, INF = float('nan'), float('inf')
METRES = np.array([[0.5, 0.0, NAN, INF, -INF, -1.0]], np.float32)


@pytest.mark.parametrize('array, encoding, big, expected', [
    (np.array([[0, 1, 1500, 65535]], np.uint16), '16UC1', 0, [NAN, 0.001, 1.5, NAN]),
    (np.array([[0, 1500]], '>u2'), '16UC1', 1, [NAN, 1.5]),
    (METRES, '32FC1', 0, [0.5, NAN, NAN, NAN, NAN, NAN]),
])
@pytest.mark.parametrize('padding', [0, 4])
def test_depth_is_in_metres_and_nan_where_invalid(
        tmp_path, array, encoding, big, expected, padding):
    depth = image(T0, array, encoding, padding, big=big)
    bag = opened(record(tmp_path / 'bag', scene(shots(0) + [('/depth', T0, depth)])),
                 Topics(ground_truth='/depth'))
    truth = next(bag.frames()).ground_truth
    assert truth.dtype == np.float32
    np.testing.assert_allclose(truth[0], expected, rtol=1e-6)


def test_quantised_float_depth_is_decoded(tmp_path):
    # compressed_depth_image_transport: depth = a / (value - b); 0 is invalid.
    data = struct.pack('<iff', 0, 100.0, 10.0) + png(np.array([[0, 60, 110]], np.uint16))
    depth = packed(T0, data, '32FC1; compressedDepth png')
    bag = opened(record(tmp_path / 'bag', scene(shots(0) + [('/depth', T0, depth)])),
                 Topics(ground_truth='/depth'))
    np.testing.assert_allclose(next(bag.frames()).ground_truth, [[NAN, 2.0, 1.0]], rtol=1e-6)


@pytest.mark.parametrize('depth', [
    image(T0, encoding='rgb8'), packed(T0, b'', '16UC1; compressedDepth png'),
    packed(T0, png(RNG_IMAGE), '16UC1; png compressed'),
    packed(T0, bytes(12) + b'rvl', '16UC1; compressedDepth rvl')])
def test_unusable_depth_costs_the_truth_but_not_the_frame(tmp_path, depth):
    bag = opened(record(tmp_path / 'bag', scene(shots(0) + [('/depth', T0, depth)])),
                 Topics(ground_truth='/depth'))
    assert next(bag.frames()).ground_truth is None
    assert bag.skipped == {'unusable depth image': 1}


def test_true_depth_in_another_unit_is_read_by_it_and_doubted_once_without(tmp_path, caplog):
    counts = np.full((6, 8), 200, np.uint16)            # 2 m in cm, 0.2 m in mm
    far = np.full((6, 8), 60000, np.uint16)             # 600 m in cm
    path = record(tmp_path / 'bag', scene(shots(0, 20, 40) + [
        ('/depth', T0, image(T0, counts, '16UC1')),
        ('/depth', T0 + 20 * MS, image(T0 + 20 * MS, far, '16UC1')),
        ('/depth', T0 + 40 * MS, image(T0 + 40 * MS, far, '16UC1'))]))
    truth = [r.ground_truth[0, 0] for r in opened(path, ground_truth_unit_m=0.01).frames()]
    np.testing.assert_allclose(truth, [2.0, 600.0, 600.0])
    assert caplog.text.count('unlikely unit of true depth: /depth: its median is 600 m') == 1
    caplog.clear()
    np.testing.assert_allclose(next(opened(path).frames()).ground_truth, 0.2)
    assert not caplog.records


def test_the_time_that_poses_cover_decides(tmp_path, caplog):
    images = shots(*range(0, 500, 50))
    short = [('/a/pose', T0 + ms * MS, pose(T0 + ms * MS, 0)) for ms in range(0, 100, 10)]
    whole = [('/odom', T0 + ms * MS, odometry(T0 + ms * MS, 0, 'camera'))
             for ms in range(0, 500, 50)]
    assert opened(record(tmp_path / 'bag', scene(images, short + whole))).topics.pose == '/odom'
    assert '/a/pose: it covers 0.1 of 0.5 s' in caplog.text


# Raw messages

@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_raw_messages_come_as_they_were_logged(tmp_path, plugin):
    messages = scene(shots(10, 50))
    bag = opened(record(tmp_path / 'bag', messages, plugin))
    raw = list(bag.messages())
    assert [(m.topic, m.stamp_ns) for m in raw] == [(t, log) for t, log, _ in messages]
    for message, (_, _, original) in zip(raw, messages):
        assert message.msgtype == original.__msgtype__
        assert message.data == TYPES.serialize_cdr(original, message.msgtype)
    assert [m.topic for m in bag.messages(['/pose'])] == ['/pose', '/pose']
    with pytest.raises(BagError, match='no messages on /nope; it has /cam/camera_info'):
        next(bag.messages(['/pose', '/nope']))


@pytest.mark.parametrize('little', [True, False])
def test_a_stamp_is_read_from_raw_bytes(little):
    data = TYPES.serialize_cdr(pose(T0 + 123, 0), pose(0, 0).__msgtype__, little_endian=little)
    assert header_stamp_ns(data) == T0 + 123
    assert header_stamp_ns(bytes(data)) == T0 + 123
    with pytest.raises(ValueError, match='message has 11 bytes'):
        header_stamp_ns(data[:11])


def test_two_passes_over_one_bag_do_not_disturb_each_other(tmp_path):
    bag = opened(record(tmp_path / 'bag', scene(shots(0, 10, 20))))
    for one, other in zip(bag.frames(), bag.frames()):
        assert one.frame.stamp_ns == other.frame.stamp_ns


def test_nothing_is_logged_about_a_sound_bag(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert len(list(opened(record(tmp_path / 'bag', scene(shots(0, 50)))).frames())) == 2
    assert caplog.text == ''
