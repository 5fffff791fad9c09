"""One recording through both doors, a bag reader and a live node, gives the same frames."""

from types import SimpleNamespace

from dectrain_ros.bags.reader import Bag
from dectrain_ros.config import PoseConfig
import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.frames import Intrinsics  # noqa: E402,I100,I202
from dectrain_ros.ros.inbox import Inbox  # noqa: E402
from dectrain_ros.ros.inference_thread import Inference  # noqa: E402
from dectrain_ros.ros.inputs import Inputs  # noqa: E402
from dectrain_ros.ros.parameters import ImageConfig  # noqa: E402
from dectrain_ros.ros.problem_counts import Health  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ros_parts import wait_until  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from test_bag import image, info, MS, odometry, record, T0  # noqa: E402

pytest_plugins = ('ros_fixture',)
CAMERA = Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
BARREL = (-0.2, 0.02, 0.0, 0.0, 0.0)
POSE = PoseConfig(source='odometry', extrinsic='0.1 0 0 -0.5 0.5 -0.5 0.5', max_speed=3.0,
                  wait_s=10.0)
POSES = ((40, 0.0), (80, 0.01), (120, 0.02), (160, 5.0), (200, 5.01), (240, 5.02))
# One before the first pose, one in the pose jump, one too late, one of an unknown encoding.
IMAGES = (20, 60, 100, 130, 90, 180, 190, 240)


class _Inbox(Inbox):
    """Counts the calibrations it is given; waits says that one is waited for."""

    lenses, waits = 0, False

    def put_lens(self, stamp_ns, lens):
        super().put_lens(stamp_ns, lens)
        self.lenses += 1

    def take_lens(self, image_ns):
        self.waits = True
        lens = super().take_lens(image_ns)
        self.waits = False
        return lens


class _Recorder:
    """Stands for the pipeline: keeps the frames it is asked to consider."""

    def __init__(self):
        self.frames, self.begins, self._forgotten = [], [], False

    def predict(self, frame):
        return SimpleNamespace(weight_version=0)

    def forget_views(self):
        self._forgotten = True

    def consider(self, frame, prediction):
        self.frames.append(frame)
        self.begins.append(self._forgotten)
        self._forgotten = False


def body_with_a_jump():
    """Make images of a distorted camera and odometry of the body it is on, with a jump."""
    noise = np.random.default_rng(0)
    messages = [('/camera_info', T0, info(T0, CAMERA, BARREL))]
    messages += [('/pose', T0 + ms * MS, odometry(T0 + ms * MS, x, 'base')) for ms, x in POSES]
    for number, ms in enumerate(IMAGES):
        pixels = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        # Logged when the one before it was: 90 comes after 130.
        log_ns = T0 + max(IMAGES[:number + 1]) * MS + 1
        messages.append(('/image', log_ns, image(
            T0 + ms * MS, pixels, 'odd' if ms == 190 else 'rgb8')))
    return sorted(messages, key=lambda m: m[1])


def zoom():
    """Make images whose camera_info, logged after each, begins with a default and zooms."""
    noise, messages = np.random.default_rng(0), []
    for number, fx in enumerate((90.0, 60.0, 60.0, 75.0, None, 85.0)):
        stamp_ns = T0 + 50 * number * MS
        messages.append(('/image', stamp_ns, image(
            stamp_ns, noise.integers(0, 256, (48, 64, 3), dtype=np.uint8), 'rgb8')))
        if fx is not None:
            messages.append(('/camera_info', stamp_ns + 1, info(
                stamp_ns, Intrinsics(fx, fx, 31.5, 23.5, 64, 48))))
        messages.append(('/pose', stamp_ns + 2, odometry(stamp_ns, 0.01 * number, 'base')))
    return messages


@pytest.mark.parametrize('messages, begun, reasons', [(body_with_a_jump, 1, 5), (zoom, 3, 1)])
def test_a_live_node_and_the_bag_reader_make_the_same_frames(
        ros, tmp_path, messages, begun, reasons):
    recording = Bag(record(tmp_path / 'bag', messages()), pose=POSE)
    offline = list(recording.frames())
    if messages is zoom:        # the one without a camera_info is overtaken by the next
        assert [r.frame.intrinsics.fx for r in offline] == [90.0, 60.0, 60.0, 75.0, 75.0, 85.0]
    node = ros.add(Node('listening', context=ros.context))
    health, inbox, pipeline = Health(node.get_logger()), _Inbox(wait_s=30.0), _Recorder()
    inputs = Inputs(node, ImageConfig(), POSE, inbox, health)
    inference = Inference(pipeline, inbox, health, lambda *published: health.count('frames'),
                          lambda *published: None)
    speakers = {'/image': ros.speak(Image, 'image'), '/pose': ros.speak(Odometry, 'pose'),
                '/camera_info': ros.speak(CameraInfo, 'camera_info')}

    def counts(kind):
        values = {v.key: v.value for v in health.status('').values}
        return {key[len(kind):]: int(n) for key, n in values.items() if key.startswith(kind)}

    def handled():
        images = sum(sum(counts(kind).values()) for kind in ('frames', 'dropped: '))
        return (inbox.lenses == sent['/camera_info']
                and sum(counts('poses').values()) == sent['/pose']
                and (inbox.waits or images == sent['/image']))
    sent = dict.fromkeys(speakers, 0)
    for raw in recording.messages():
        speakers[raw.topic].publish(bytes(raw.data))
        sent[raw.topic] += 1
        wait_until(handled)
    wait_until(lambda: len(pipeline.frames) == len(offline))
    inference.close()
    inputs.close()
    assert [r.begins_stretch for r in offline] == pipeline.begins
    assert sum(pipeline.begins) == begun
    for recorded, live in zip(offline, pipeline.frames):
        frame = recorded.frame
        assert (frame.stamp_ns, frame.frame_id, frame.pose_problem, frame.intrinsics) == (
            live.stamp_ns, live.frame_id, live.pose_problem, live.intrinsics)
        np.testing.assert_array_equal(frame.image, live.image)
        np.testing.assert_array_equal(frame.world_from_camera, live.world_from_camera)
    assert {**counts('problem: '), **counts('dropped: ')} == recording.skipped
    assert len(recording.skipped) == reasons
