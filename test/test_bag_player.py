"""The bag player: recorded bytes on recorded names, in time or as fast as depth comes."""

import importlib.util
import signal
import threading

from dectrain_ros.bags.reader import (
    Bag, BagWriter, header_stamp_ns, RawMessage, Topics, TRANSFORMS)
from dectrain_ros.frames import Frame, Intrinsics
import numpy as np
import pytest
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_typestore, Stores

pytest.importorskip('rclpy')

from dectrain_ros.ros.messages import ns_from_stamp, OUTCOME  # noqa: E402,I100
from dectrain_ros.ros.tools.bag_player import BagPlayer, Play  # noqa: E402,I100,I202
from dectrain_ros.ros.tools.playlist import hold_images  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402
from geometry_msgs.msg import PoseStamped               # noqa: E402
from rclpy.node import Node                             # noqa: E402
from ros_parts import BEST_EFFORT, output, start, wait_until      # noqa: E402
from rosgraph_msgs.msg import Clock                     # noqa: E402
from sensor_msgs.msg import CameraInfo, Image           # noqa: E402
from std_msgs.msg import Empty                          # noqa: E402
from std_srvs.srv import SetBool                        # noqa: E402

pytest_plugins = ('ros_fixture',)
MS = 1_000_000
T0 = 1_700_000_000 * 1000 * MS
CAMERA = Intrinsics(8.0, 8.0, 3.5, 2.5, 8, 6)
IMAGE, INFO = '/camera/image_raw', '/camera/camera_info'
POSE, DEPTH = '/camera/pose', '/camera/depth/image_raw'


@pytest.fixture
def bag(tmp_path):
    """Write three frames, 10 ms apart, with true depth."""
    path = tmp_path / 'bag'
    with BagWriter(path, compress_images=False) as writer:
        for number in range(3):
            image = np.full((6, 8, 3), number, np.uint8)
            writer.write(Frame(T0 + number * 10 * MS, image, CAMERA, np.eye(4), 'cam'),
                         np.ones((6, 8), np.float32))
    return Bag(path)


class Ended(threading.Event):
    """An event that is set by being called."""

    def __call__(self):
        """Happen."""
        self.set()


def play(ros, bag, **how):
    """Start playing; gives the player and the event of its end."""
    ended = Ended()
    return ros.add(BagPlayer(bag, Play(**how), ended, context=ros.context)), ended


def stamps(heard):
    """Return the header stamps of messages, in ms after the start."""
    return [(ns_from_stamp(m.header.stamp) - T0) // MS for m in heard.messages]


def test_recorded_bytes_are_published_under_recorded_names(ros, bag):
    heard = {topic: ros.listen(kind, topic, raw=True) for topic, kind in (
        (IMAGE, Image), (INFO, CameraInfo), (POSE, PoseStamped), (DEPTH, Image))}
    clock = ros.listen(Clock, '/clock')
    player, ended = play(ros, bag)
    for topic in (IMAGE, INFO, POSE):
        recorded = [bytes(m.data) for m in bag.messages([topic])]
        assert heard[topic].wait_for(3) == recorded
    assert ended.wait(10.0) and player.problem == '' and player.images == 3
    assert heard[DEPTH].messages == []                  # true depth only if asked
    times = [ns_from_stamp(m.clock) for m in clock.wait_for(9)]
    assert times == sorted(times) and {times[0], times[-1]} == {T0, T0 + 20 * MS}


def test_true_depth_is_played_if_asked(ros, bag):
    for topic, kind in ((IMAGE, Image), (INFO, CameraInfo), (POSE, PoseStamped)):
        ros.listen(kind, topic)
    depth = ros.listen(Image, DEPTH)
    play(ros, bag, ground_truth=True)
    assert [m.encoding for m in depth.wait_for(3)] == ['16UC1'] * 3


def test_loops_start_again_with_the_recorded_stamps(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE)
    _, ended = play(ros, bag, rate=100.0, loops=2)
    images.wait_for(6)
    assert stamps(images) == [0, 10, 20, 0, 10, 20] and ended.wait(10.0)


def test_at_rate_0_the_next_image_waits_for_depth_of_the_one_before(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE, BEST_EFFORT)
    depth = ros.tester.create_publisher(Image, 'depth/image', 10)
    player, ended = play(ros, bag, rate=0.0, depth_timeout_s=30.0)
    for count in (1, 2, 3):
        newest = images.wait_for(count)[-1]
        assert len(images.messages) == count and not ended.is_set()
        while depth.get_subscription_count() == 0:
            pass
        depth.publish(Image(header=newest.header))
    assert ended.wait(10.0) and player.without_depth == 0 and stamps(images) == [0, 10, 20]


def test_at_rate_0_the_next_image_can_wait_for_training_on_the_one_before(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE, BEST_EFFORT)
    depth = ros.tester.create_publisher(Image, 'depth/image', 10)
    outcome = ros.tester.create_publisher(DiagnosticArray, OUTCOME, 10)
    player, ended = play(ros, bag, rate=0.0, await_training=True, depth_timeout_s=30.0)
    for count in (1, 2, 3):
        newest = images.wait_for(count)[-1]
        wait_until(lambda: depth.get_subscription_count() and outcome.get_subscription_count())
        depth.publish(Image(header=newest.header))
        assert not ended.wait(0.2) and len(images.messages) == count
        outcome.publish(DiagnosticArray(header=newest.header))
    assert ended.wait(10.0) and player.without_depth == 0


def test_an_outcome_that_does_not_come_is_not_taken_for_depth(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE, BEST_EFFORT)
    depth = ros.tester.create_publisher(Image, 'depth/image', 10)
    ros.tester.create_publisher(DiagnosticArray, OUTCOME, 10)
    player, ended = play(ros, bag, rate=0.0, await_training=True, depth_timeout_s=1.0)
    wait_until(lambda: depth.get_subscription_count())
    for count in (1, 2, 3):
        depth.publish(Image(header=images.wait_for(count)[-1].header))
    assert ended.wait(10.0) and (player.images, player.without_depth) == (3, 0)


def test_at_rate_0_depth_that_does_not_come_is_counted_and_playing_goes_on(ros, bag):
    for topic, kind in ((IMAGE, Image), (INFO, CameraInfo), (POSE, PoseStamped)):
        ros.listen(kind, topic)
    ros.tester.create_publisher(Image, 'depth/image', 10)
    player, ended = play(ros, bag, rate=0.0, depth_timeout_s=0.05)
    assert ended.wait(10.0) and (player.images, player.without_depth) == (3, 3)


def test_if_nobody_listens_it_says_to_what_and_ends(ros, bag):
    ros.listen(Image, IMAGE)
    player, ended = play(ros, bag, wait_s=0.3)
    assert ended.wait(10.0) and player.images == 0
    assert player.problem == f'no node subscribed to {INFO}, {POSE} in 0.3 s'


def test_a_rate_loops_or_start_that_cannot_be_is_refused(ros, bag):
    for how in ({'rate': -1.0}, {'rate': float('nan')}, {'loops': -1}, {'start_s': -0.1}):
        with pytest.raises(ValueError, match='rate .*, loops .* and start .* must be at least 0'):
            BagPlayer(bag, Play(**how), context=ros.context)
    with pytest.raises(ValueError, match='start 0.03 s is not in .*bag, which lasts 0.0 s'):
        BagPlayer(bag, Play(start_s=0.03), context=ros.context)


def test_it_can_start_within_the_bag(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE)
    _, ended = play(ros, bag, start_s=0.01, loops=2)
    assert ended.wait(10.0) and images.wait_for(4) and stamps(images) == [10, 20, 10, 20]


def test_a_camera_info_before_the_start_is_played_first_in_every_loop(ros, bag, tmp_path):
    with Writer(tmp_path / 'once', version=9) as writer:        # its first camera_info alone
        types, writers, infos = get_typestore(Stores.ROS2_JAZZY), {}, 0
        for message in bag.messages([IMAGE, INFO, POSE]):
            infos += message.topic == INFO
            if message.topic == INFO and infos > 1:
                continue
            if message.topic not in writers:
                writers[message.topic] = writer.add_connection(
                    message.topic, message.msgtype, typestore=types)
            writer.write(writers[message.topic], message.stamp_ns, bytes(message.data))
    once = Bag(tmp_path / 'once')
    ros.listen(PoseStamped, POSE)
    infos, images = ros.listen(CameraInfo, INFO, raw=True), ros.listen(Image, IMAGE)
    clock = ros.listen(Clock, '/clock')
    _, ended = play(ros, once, start_s=0.01, loops=2, rate=0.01)        # 1 s between images
    assert ended.wait(15.0) and images.wait_for(4) and stamps(images) == [10, 20, 10, 20]
    recorded, = [bytes(m.data) for m in once.messages([INFO])]
    assert infos.wait_for(2) == [recorded] * 2
    assert min(ns_from_stamp(m.clock) for m in clock.messages) == T0 + 10 * MS


def test_it_plays_for_ever_if_asked_until_it_is_closed(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE)
    player, ended = play(ros, bag, loops=0)
    images.wait_for(12)
    assert player.close() and ended.is_set() and player.problem == ''


def test_paused_it_holds_and_then_goes_on_where_it_was(ros, bag):
    ros.listen(CameraInfo, INFO), ros.listen(PoseStamped, POSE)
    images = ros.listen(Image, IMAGE)
    pause = ros.tester.create_client(SetBool, 'bag_player/pause')
    player, ended = play(ros, bag, wait_s=0.0, rate=0.02)        # 0.5 s between images
    assert pause.wait_for_service(15.0)
    images.wait_for(1)
    answer = pause.call_async(SetBool.Request(data=True))
    wait_until(answer.done)
    assert answer.result().success and answer.result().message == 'paused'
    held = len(images.messages)
    assert not ended.wait(1.5) and len(images.messages) <= held
    answer = pause.call_async(SetBool.Request(data=False))
    wait_until(answer.done)
    assert answer.result().message == 'playing'
    assert ended.wait(15.0) and player.images == 3


def test_it_waits_for_a_listener_and_for_all_it_listens_to(ros, bag):
    for topic, kind in ((IMAGE, Image), (INFO, CameraInfo), (POSE, PoseStamped)):
        ros.listen(kind, topic)
    player, ended = play(ros, bag, wait_s=0.3, listener='scorer')
    assert ended.wait(10.0) and player.problem == 'no node named scorer subscribed in 0.3 s'
    scorer = ros.add(Node('scorer', context=ros.context))
    scorer.create_subscription(Image, 'scored', print, 1)
    player, ended = play(ros, bag, wait_s=1.0, listener='scorer')
    assert ended.wait(10.0) and player.problem == 'no node published /scored in 1 s'
    ros.tester.create_publisher(Image, 'scored', 1)
    player, ended = play(ros, bag, wait_s=1.0, listener='scorer')
    assert ended.wait(10.0) and player.problem == 'no node advertised scorer/ready in 1 s'
    scorer.create_publisher(Empty, '~/ready', 1)
    player, ended = play(ros, bag, listener='scorer')
    assert ended.wait(10.0) and player.problem == '' and player.images == 3


@pytest.mark.skipif(importlib.util.find_spec('tf2_msgs') is not None,
                    reason='tf2_msgs is installed: transforms are played')
def test_a_bag_whose_poses_are_transforms_is_refused_where_none_can_be_sent(bag, tmp_path):
    types, path = get_typestore(Stores.ROS2_JAZZY), tmp_path / 'transforms'
    make = {name.rpartition('/')[2]: kind for name, kind in types.types.items()}
    with Writer(path, version=9) as writer:
        writers = {}
        for message in bag.messages([IMAGE, INFO, POSE]):
            topic, kind, data = message.topic, message.msgtype, message.data
            if topic == POSE:
                topic, kind = '/tf', 'tf2_msgs/msg/TFMessage'
                stamp = make['Time'](*divmod(message.stamp_ns, 10**9))
                transform = make['Transform'](
                    make['Vector3'](0.0, 0.0, 0.0), make['Quaternion'](0.0, 0.0, 0.0, 1.0))
                data = types.serialize_cdr(make['TFMessage']([make['TransformStamped'](
                    make['Header'](stamp, 'map'), 'cam', transform)]), kind)
            if topic not in writers:
                writers[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(writers[topic], message.stamp_ns, bytes(data))
    status, errors = output(start('tools.bag_player', str(path), '--wait', '0'))
    assert status == 1 and 'Traceback' not in errors and errors.count('[FATAL]') == 1
    assert ('message type tf2_msgs/msg/TFMessage is not installed: install '
            'ros-$ROS_DISTRO-tf2-msgs') in errors


def test_images_are_held_until_their_camera_info_and_a_pose_not_before_their_stamp():
    topics = Topics('i', 'c', 'p')

    def message(topic, ms):
        sec, nanosec = divmod(ms * MS, 1000 * MS)
        header = b'\0\1\0\0' + sec.to_bytes(4, 'little') + nanosec.to_bytes(4, 'little')
        return RawMessage(topic, '', 0, header)
    given = [message('i', 10), message('c', 10), message('p', 5), message('i', 20),
             message('p', 15), message('p', 20), message('i', 30), message('c', 30)]
    order = [(m.topic, header_stamp_ns(m.data) // MS) for m in hold_images(given, topics)]
    # The image of 20 ms has no camera_info of its own: that of 30 ms shows that none will come.
    assert order == [('c', 10), ('p', 5), ('p', 15), ('i', 10), ('p', 20), ('c', 30), ('i', 20),
                     ('i', 30)]
    latched = [message('c', 0), *given[2:6]]
    assert [m.topic for m in hold_images(latched, topics)] == ['c', 'p', 'p', 'p', 'i']
    transform = message('p', 35)._replace(msgtype=TRANSFORMS)
    data = transform.data[:4] + (1).to_bytes(4, 'little') + transform.data[4:]
    order = [m.topic for m in hold_images(
        [message('i', 35), transform._replace(data=transform.data[:4] + bytes(4)),
         message('c', 35), transform._replace(data=data)], topics)]
    assert order == ['p', 'c', 'p', 'i']
    many = [message('i', ms) for ms in range(100)]
    assert next(hold_images(iter(many), topics)) == many[0]
    assert list(hold_images(many, topics)) == many


def test_the_executable_plays_to_the_end_and_exits_0(bag):
    status, errors = output(start('tools.bag_player', str(
        bag.path), '--wait', '0', '--rate', '10'))
    assert status == 0 and 'played 3 images' in errors and 'Traceback' not in errors


def test_the_executable_exits_1_for_a_bag_that_is_none(tmp_path):
    status, errors = output(start('tools.bag_player', str(tmp_path / 'no_bag')))
    assert status == 1 and 'no_bag does not exist' in errors and 'Traceback' not in errors


def test_sigint_ends_the_executable_cleanly_while_it_plays(ros, bag):
    images = ros.listen(Image, IMAGE)
    process = start('tools.bag_player', str(bag.path), '--wait', '0', '--loop', '0')
    images.wait_for(3, timeout_s=60.0)
    process.send_signal(signal.SIGINT)
    status, errors = output(process)
    assert status == 0 and 'Traceback' not in errors and 'played' not in errors
