"""Images, cameras and poses as they come from real topics: late, lost, jumping, and set back."""

import importlib.util
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.composition import compose  # noqa: E402,I100
from dectrain_ros.config import Config, PoseConfig  # noqa: E402,I100,I202
from dectrain_ros.frames import Frame  # noqa: E402
from dectrain_ros.memory.views import ViewHistory  # noqa: E402
from dectrain_ros.ros import conversions, messages  # noqa: E402
from dectrain_ros.ros.depth_node import DepthNode  # noqa: E402
from dectrain_ros.ros.inbox import Asked, Inbox  # noqa: E402
from dectrain_ros.ros.inputs import Inputs, patience_clock  # noqa: E402
from dectrain_ros.ros.parameters import ImageConfig  # noqa: E402
from dectrain_ros.ros.problem_counts import Health  # noqa: E402
from dectrain_ros.sensing.camera_poses import ANOTHER_FRAME              # noqa: E402
from dectrain_ros.sensing.lens import Lens, lens_from_camera_info, Rectifier  # noqa: E402
from dectrain_ros.sensing.pose_track import AFTER_LAST, rigid_transform  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402
from geometry_msgs.msg import PoseStamped, TransformStamped     # noqa: E402
from nav_msgs.msg import Odometry                       # noqa: E402
from node_parts import CAMERA, Camera, counter, depth_node, header, MS, picture, T0  # noqa: E402
from rclpy.node import Node                             # noqa: E402
from rclpy.parameter import Parameter                   # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile      # noqa: E402
from ros_parts import wait_until                        # noqa: E402
from rosgraph_msgs.msg import Clock                     # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image   # noqa: E402
from std_msgs.msg import Header                         # noqa: E402

pytest_plugins = ('ros_fixture',)
HALF = np.sqrt(0.5)
HAS_TF = importlib.util.find_spec('tf2_msgs') is not None
BARREL = (-0.2, 0.02, 0.0, 0.0, 0.0)


class Listening(Node):
    """A node with nothing but the inputs of a depth node."""

    def __init__(self, ros, image=None, **pose):
        """Subscribe."""
        super().__init__('listening', context=ros.context)
        self.health, self.inbox = Health(self.get_logger()), Inbox(wait_s=0.2)
        self.inputs = Inputs(
            self, image or ImageConfig(), PoseConfig(**pose), self.inbox, self.health)

    def pose(self, ms, frame_id='optical'):
        """Give what is known of the pose at so many ms."""
        return self.inbox.pose(Asked(T0 + ms * MS, frame_id, 0.0))

    def counts(self):
        """Give the problems that were counted."""
        return {v.key: int(v.value) for v in self.health.status('').values
                if v.key.startswith('problem')}


def odometry(ms, x=0.0, child='base_link'):
    """Give the odometry of a body x metres along."""
    message = Odometry(child_frame_id=child)
    message.header = Header(stamp=messages.stamp_from_ns(T0 + ms * MS), frame_id='odom')
    message.pose.pose.position.x = float(x)
    message.pose.pose.orientation.w = 1.0
    return message


def told(candidates, count):
    """Give the refusals of so many candidates, in their order."""
    return [messages.candidate_from(m).refusal for m in candidates.wait_for(count)]


def pose_message(ms, x):
    """Give a pose x metres along."""
    message = PoseStamped(header=Header(stamp=messages.stamp_from_ns(T0 + ms * MS)))
    message.pose.position.x, message.pose.orientation.w = float(x), 1.0
    return message


def test_poses_at_200_hz_and_images_150_ms_late_find_each_other(ros, weights):
    look = counter(depth_node(ros, weights, **{'pose.wait_s': 10.0}))
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    camera, sent = Camera(ros), 0
    for number in range(1, 16):
        while 5 * sent + 2 <= 100 * number + 150:
            camera.poses.publish(pose_message(5 * sent + 2, 0.002 * (5 * sent + 2)))
            sent += 1
        camera.info(number)
        camera.image(number)
        candidates.wait_for(number)
    refused = told(candidates, 15)
    assert refused[0] == ViewHistory.NO_VIEWS and [r for r in refused if 'pose' in r] == []
    assert look('frames') == 15


def test_poses_that_come_after_their_images_hold_up_no_depth_and_are_used(ros, weights):
    look = counter(depth_node(ros, weights, **{'pose.wait_s': 10.0}))
    depths = ros.listen(Image, 'depth/image')
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    camera = Camera(ros)
    camera.info(0)
    for number in (1, 2, 3):
        camera.image(number)
        depths.wait_for(number, timeout_s=8.0)
    assert not candidates.messages
    for number in (1, 2, 3):
        camera.pose(number)
    refused = told(candidates, 3)
    assert refused[0] == ViewHistory.NO_VIEWS and [r for r in refused if 'pose' in r] == []
    stamps = [messages.candidate_from(m).stamp_ns for m in candidates.messages]
    assert stamps == [T0 + number * 100 * MS for number in (1, 2, 3)]
    assert look('problem: no pose, no poses yet') == 0


def test_a_lost_camera_info_costs_no_depth(ros, weights):
    look = counter(depth_node(ros, weights))
    depths = ros.listen(Image, 'depth/image')
    camera = Camera(ros)
    camera.info(1)
    for number in range(1, 6):
        camera.image(number)
        depths.wait_for(number)
    assert look('frames') == 5


def test_a_latched_camera_info_from_before_the_node_is_heard(ros):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    speaker = ros.add(Node('speaker', context=ros.context))
    infos = speaker.create_publisher(CameraInfo, 'camera_info', latched)
    infos.publish(conversions.camera_info_message(header(1), CAMERA))
    node = ros.add(Listening(ros))
    wait_until(lambda: node.inbox.take_lens(0) == Lens(CAMERA))


def test_two_cameras_in_two_namespaces_know_nothing_of_each_other(ros, weights):
    parts = {}
    for name in ('left', 'right'):
        node = DepthNode(context=ros.context, namespace=name, parameter_overrides=[
            Parameter('depth.weights', value=weights), Parameter('depth.device', value='cpu')])
        node.start()
        ros.add(node)
        parts[name] = (node, ros.listen(Image, f'{name}/depth/image'),
                       ros.speak(Image, f'{name}/image'),
                       ros.speak(CameraInfo, f'{name}/camera_info'))
    pipeline = compose(Config().replaced('depth.weights', weights))
    for number, (_, _, images, infos) in enumerate(parts.values(), 1):
        infos.publish(conversions.camera_info_message(header(number), CAMERA))
        images.publish(Image(header=header(number), encoding='rgb8', height=72, width=96,
                             step=288, data=picture(10 * number).tobytes()))
    for number, (node, depths, *_) in enumerate(parts.values(), 1):
        depth, = depths.wait_for(1)
        direct = pipeline.observe(Frame(0, picture(10 * number), CAMERA)).depth
        assert depth.header == header(number) and depth.data.tobytes() == direct.tobytes()
        assert counter(node)('images') == 1


def test_a_jump_of_the_pose_is_told_and_no_pair_goes_across_it(ros, weights):
    look = counter(depth_node(ros, weights))
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    camera = Camera(ros)
    for count, (number, x) in enumerate(((1, 0.2), (2, 0.4), (3, 3.0), (4, 3.2)), 1):
        camera.info(number)
        camera.pose(number, x=x)
        camera.image(number)
        candidates.wait_for(count)
    refused = told(candidates, 4)
    assert refused[0] == refused[2] == ViewHistory.NO_VIEWS
    assert refused[1] != ViewHistory.NO_VIEWS and refused[3] != ViewHistory.NO_VIEWS
    assert look('problem: pose jumped') == 1


@pytest.mark.parametrize('text', [
    '1.0 0 0 0 0 0.70710678 0.70710678', '[1, 0, 0,  0, 0, 0.70710678, 0.70710678]'])
def test_the_extrinsic_places_the_camera_on_the_body(ros, text):
    node = ros.add(Listening(ros, source='odometry', extrinsic=text))
    poses = ros.speak(Odometry, 'pose')
    for ms in (0, 100):
        poses.publish(odometry(ms, x=0.002 * ms))
    wait_until(lambda: node.pose(50).matrix is not None)
    np.testing.assert_allclose(
        node.pose(50).matrix, rigid_transform((1.1, 0.0, 0.0), (0.0, 0.0, HALF, HALF)), atol=1e-8)


@pytest.mark.parametrize('child, frame_id, known', [
    ('', 'optical', True), ('/optical', 'optical', True), ('optical', '/optical', True),
    ('base_link', '', True), ('base_link', 'optical', False)])
def test_a_body_that_is_the_camera_needs_no_extrinsic_and_another_is_refused(
        ros, child, frame_id, known):
    node = ros.add(Listening(ros, source='odometry'))
    poses = ros.speak(Odometry, 'pose')
    poses.publish(odometry(0, x=3.0, child=child))
    if known:
        wait_until(lambda: node.pose(0, frame_id).matrix is not None)
        assert node.pose(0, frame_id).matrix[0, 3] == 3.0 and not node.counts()
    else:
        wait_until(lambda: node.pose(0, frame_id).problem == ANOTHER_FRAME)
        assert 'problem: pose is of another frame' in node.counts()
        assert 'base_link, images are of optical: give pose.extrinsic' in node.health.detail(
            'problem: pose is of another frame')


def test_a_topic_that_does_not_name_its_body_may_be_of_the_one_configured(ros):
    node = ros.add(Listening(ros, source='pose', body_frame='base_link'))
    ros.speak(PoseStamped, 'pose').publish(pose_message(0, 1.0))
    wait_until(lambda: node.pose(0).problem == ANOTHER_FRAME)
    assert node.pose(0, 'base_link').matrix[0, 3] == 1.0


@pytest.mark.parametrize('text, reason', [
    ('1 2 3', 'it has 3 numbers; it must be x y z'),
    ('1 2 3 0 0 0 2', 'of length 2: it must have length 1; it must be x y z'),
    ('nan 0 0 0 0 0 1', 'three finite numbers'), ('one 0 0 0 0 0 1', 'could not convert')])
def test_an_extrinsic_that_is_no_transform_is_refused_with_the_reason(ros, text, reason):
    with pytest.raises(ValueError, match=f"pose.extrinsic is '{text}': .*{reason}"):
        ros.add(Listening(ros, extrinsic=text))


def test_a_pose_that_hangs_is_told(ros):
    node = ros.add(Listening(ros, source='odometry'))
    poses = ros.speak(Odometry, 'pose')
    for ms in range(0, 2200, 100):
        poses.publish(odometry(ms, x=1.0))
    wait_until(lambda: node.counts() == {'problem: pose does not change': 1})


@pytest.mark.skipif(HAS_TF, reason='tf2_msgs is installed')
def test_without_tf2_msgs_poses_of_tf_are_refused_by_the_packages_name(ros):
    with pytest.raises(ValueError, match='the Python package tf2_msgs is not installed: install'):
        ros.add(Listening(ros, source='tf'))


def transform(parent, child, ms=0, place=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0, 1.0)):
    """Give the place of a frame in its parent."""
    message = TransformStamped(child_frame_id=child)
    message.header = Header(stamp=messages.stamp_from_ns(T0 + ms * MS), frame_id=parent)
    to, rotation = message.transform.translation, message.transform.rotation
    to.x, to.y, to.z = map(float, place)
    rotation.x, rotation.y, rotation.z, rotation.w = map(float, turn)
    return message


class Broadcaster:
    """Sends transforms as tf2_ros does."""

    def __init__(self, ros):
        """Advertise both topics."""
        self.kind = pytest.importorskip(
            'tf2_msgs.msg', reason='tf2_msgs is not installed').TFMessage
        self._moving = ros.tester.create_publisher(self.kind, '/tf', 100)
        self._fixed = ros.tester.create_publisher(self.kind, '/tf_static', QoSProfile(
            depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def fix(self, *transforms):
        """Send unmoving ones; who comes later hears them too."""
        self._fixed.publish(self.kind(transforms=list(transforms)))

    def move(self, *transforms):
        """Send moving ones."""
        self._moving.publish(self.kind(transforms=list(transforms)))

    def wait(self):
        """Wait until somebody listens to what moves."""
        wait_until(lambda: self._moving.get_subscription_count() > 0)


def test_the_camera_is_found_by_tf_at_the_stamp(ros):
    tf = Broadcaster(ros)
    tf.fix(transform('base', 'optical', place=(1.0, 0.0, 0.0)))
    node = ros.add(Listening(ros, source='tf'))
    tf.wait()
    tf.move(transform('odom', 'base'), transform('base', 'wheel'))
    wait_until(lambda: 'join' not in node.pose(0).problem)      # from here on base is of use
    for ms in (0, 100):
        tf.move(transform('odom', 'base', ms, (0.002 * ms, 0.0, 0.0)))
    wait_until(lambda: node.pose(50).matrix is not None)
    assert node.pose(50).matrix[0, 3] == pytest.approx(1.1)
    assert node.pose(50, '').problem == 'images do not name their frame'
    assert node.pose(50, 'thermal').problem == 'TF does not join thermal to odom'


def test_a_correction_of_the_map_is_a_jump_of_a_camera_found_by_tf(ros):
    tf = Broadcaster(ros)
    node = ros.add(Listening(ros, source='tf', world_frame='map'))
    tf.wait()
    tf.move(transform('map', 'odom'), transform('odom', 'optical'))
    wait_until(lambda: 'join' not in node.pose(0).problem)
    for ms in (0, 20, 40):
        tf.move(transform('map', 'odom', ms, (2.0 * (ms == 40), 0.0, 0.0)),
                transform('odom', 'optical', ms))
    wait_until(lambda: node.counts() == {'problem: pose jumped': 1})
    assert node.inbox.jumped(T0, T0 + 40 * MS) and not node.inbox.jumped(T0, T0 + 20 * MS)


def test_tf_that_is_no_transform_is_counted_and_gives_no_pose(ros):
    tf = Broadcaster(ros)
    node = ros.add(Listening(ros, source='tf'))
    tf.wait()
    tf.move(transform('odom', 'optical'))
    wait_until(lambda: 'join' not in node.pose(0).problem)
    tf.move(transform('odom', 'optical', turn=(0.0, 0.0, 0.0, 0.0)))
    wait_until(lambda: node.counts() == {'problem: invalid pose': 1})
    assert node.pose(0).problem == 'invalid pose'


def test_the_extrinsic_of_a_topics_body_comes_from_static_tf(ros):
    tf = Broadcaster(ros)
    tf.fix(transform('base_link', 'imu'), transform('base_link', 'optical', place=(0.5, 0.0, 0.0),
                                                    turn=(0.0, 0.0, HALF, HALF)))
    node = ros.add(Listening(ros, source='odometry'))
    ros.speak(Odometry, 'pose').publish(odometry(0, x=1.0))
    wait_until(lambda: node.pose(0).matrix is not None)
    np.testing.assert_allclose(
        node.pose(0).matrix, rigid_transform((1.5, 0.0, 0.0), (0.0, 0.0, HALF, HALF)), atol=1e-8)


def test_inputs_that_are_closed_listen_no_more(ros):
    node = ros.add(Listening(ros))
    topics = {'image': 1, 'camera_info': 1, 'pose': 1}
    wait_until(lambda: all(ros.tester.count_subscribers(t) == n for t, n in topics.items()))
    node.inputs.close()
    wait_until(lambda: not any(ros.tester.count_subscribers(t) for t in topics))


def test_every_subscription_is_a_source_of_message_filters_where_they_are_installed(ros):
    message_filters = pytest.importorskip(
        'message_filters', reason='message_filters is not installed')
    seen = []
    register = message_filters.Subscriber.registerCallback
    message_filters.Subscriber.registerCallback = (
        lambda source, *args: (seen.append(source.getTopic()), register(source, *args)))
    try:
        node = ros.add(Listening(ros, ImageConfig('compressed')))
    finally:
        message_filters.Subscriber.registerCallback = register
    assert sorted(seen) == ['camera_info', 'image', 'pose']
    ros.speak(CompressedImage, 'image').publish(CompressedImage(format='png'))
    assert node.inbox.wait(None) and node.inbox.take_image().message.format == 'png'


def test_a_distorted_camera_gives_the_depth_of_its_rectified_image(ros, weights):
    depth_node(ros, weights)
    depths, infos = ros.listen(Image, 'depth/image'), ros.listen(CameraInfo, 'depth/camera_info')
    camera = Camera(ros)
    message = conversions.camera_info_message(header(1), CAMERA)
    message.d = list(BARREL)
    camera.infos.publish(message)
    camera.image(1)
    depth, info = depths.wait_for()[0], infos.wait_for()[0]
    rectifier = Rectifier(Lens(CAMERA, 'plumb_bob', BARREL), 1)
    assert not any(info.d) and lens_from_camera_info(info) == Lens(rectifier.camera)
    pipeline = compose(Config().replaced('depth.weights', weights))
    direct = pipeline.observe(Frame(0, rectifier(picture(1)), rectifier.camera)).depth
    assert depth.data.tobytes() == direct.tobytes()


def test_a_lens_of_an_unknown_model_is_refused_and_its_images_are_dropped(ros, weights):
    look = counter(depth_node(ros, weights))
    camera = Camera(ros)
    message = conversions.camera_info_message(header(1), CAMERA)
    message.distortion_model, message.d = 'odd', [0.1]
    camera.infos.publish(message)
    camera.image(1)
    wait_until(lambda: look('problem: invalid camera_info') == 1)
    wait_until(lambda: look('dropped: no camera_info yet') == 1)


class Replay:
    """A bag player: the clock, and frames at their stamps."""

    def __init__(self, ros, weights):
        """Start a depth node that goes by it."""
        self.node = depth_node(ros, weights, use_sim_time=True)
        self.camera = Camera(ros)
        self.clock = ros.speak(Clock, '/clock')
        self.candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
        self.depths = ros.listen(Image, 'depth/image')
        self.look = counter(self.node)

    def now(self, ms):
        """Set the clock, and wait until the node knows."""
        stamp = messages.stamp_from_ns(T0 + ms * MS)
        self.clock.publish(Clock(clock=stamp))
        wait_until(lambda: self.node.get_clock().now().to_msg() == stamp)

    def frames(self, *numbers):
        """Play frames, each with its pose first."""
        for number in numbers:
            before = len(self.candidates.messages)
            self.now(100 * number)
            self.camera.info(number)
            self.camera.poses.publish(pose_message(100 * number, 0.2 * (number % 50)))
            self.camera.images.publish(Image(
                header=header(number), encoding='rgb8', height=72, width=96, step=288,
                data=picture(number % 50).tobytes()))
            self.candidates.wait_for(before + 1)

    def problems(self):
        """Give what went wrong."""
        return {v.key for v in self.node._health.status('').values
                if v.key.startswith(('problem', 'dropped'))}


def test_a_bag_shorter_than_a_second_loops(ros, weights):
    replay = Replay(ros, weights)
    replay.frames(1, 2, 3, 4)
    replay.frames(1, 2, 3, 4)               # 300 ms back, which without a clock is disorder
    refused = told(replay.candidates, 8)
    assert [i for i, r in enumerate(refused) if r == ViewHistory.NO_VIEWS] == [0, 4]
    assert replay.look('frames') == 8 and replay.problems() == {'problem: time jumped back'}


def test_a_bag_may_be_sought_in_both_ways_and_no_pair_goes_across(ros, weights):
    replay = Replay(ros, weights)
    replay.frames(1, 2, 3001, 3002, 11, 12)         # five minutes ahead, and back
    refused = told(replay.candidates, 6)
    assert [i for i, r in enumerate(refused) if r == ViewHistory.NO_VIEWS] == [0, 2, 4]
    assert replay.problems() == {        # where it was meanwhile nobody knows
        'problem: time jumped ahead', 'problem: pose jumped', 'problem: time jumped back'}


def test_a_pause_between_an_image_and_its_pose_is_no_error(ros, weights):
    replay = Replay(ros, weights)
    replay.frames(1, 2)
    replay.now(300)
    replay.camera.image(3)
    replay.depths.wait_for(3)
    time.sleep(1.0)                         # three times what a pose is waited for
    assert len(replay.candidates.messages) == 2 and not replay.problems()
    replay.camera.pose(3)
    assert ViewHistory.NO_VIEWS not in told(replay.candidates, 3)[1:]
    assert not replay.problems()
    replay.camera.image(4)
    replay.depths.wait_for(4)
    replay.now(1000)                        # the clock goes on, and no pose came
    assert told(replay.candidates, 4)[3] == AFTER_LAST


def test_a_node_waits_by_simulated_time_only_where_it_is_told_to(ros):
    node = ros.add(Node('waits', context=ros.context))
    assert abs(patience_clock(node)() - time.perf_counter()) < 5.0
    node.set_parameters([Parameter('use_sim_time', value=True)])
    assert patience_clock(node)() == 0.0
