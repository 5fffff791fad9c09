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


@pytest.fixture
def recording(tmp_path):
    """Write images of a distorted camera and odometry of the body it is on, with a jump."""
    noise = np.random.default_rng(0)
    messages = [('/camera_info', T0, info(T0, CAMERA, BARREL))]
    messages += [('/pose', T0 + ms * MS, odometry(T0 + ms * MS, x, 'base')) for ms, x in POSES]
    for number, ms in enumerate(IMAGES):
        pixels = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        # Logged when the one before it was: 90 comes after 130.
        log_ns = T0 + max(IMAGES[:number + 1]) * MS + 1
        messages.append(('/image', log_ns, image(
            T0 + ms * MS, pixels, 'odd' if ms == 190 else 'rgb8')))
    return Bag(record(tmp_path / 'bag', sorted(messages, key=lambda m: m[1])), pose=POSE)


def test_a_live_node_and_the_bag_reader_make_the_same_frames(ros, recording):
    offline = list(recording.frames())
    node = ros.add(Node('listening', context=ros.context))
    health, inbox, pipeline = Health(node.get_logger()), Inbox(wait_s=30.0), _Recorder()
    inputs = Inputs(node, ImageConfig(), POSE, inbox, health)
    inference = Inference(pipeline, inbox, health, lambda *published: health.count('frames'),
                          lambda *published: None)
    speakers = {'/image': ros.speak(Image, 'image'), '/pose': ros.speak(Odometry, 'pose'),
                '/camera_info': ros.speak(CameraInfo, 'camera_info')}

    def counts(kind):
        values = {v.key: v.value for v in health.status('').values}
        return {key[len(kind):]: int(n) for key, n in values.items() if key.startswith(kind)}

    def handled():
        if raw.topic == '/camera_info':
            return inbox.lens() is not None
        if raw.topic == '/pose':
            return sum(counts('poses').values()) == sent['/pose']
        return sum(sum(counts(k).values()) for k in ('frames', 'dropped: ')) == sent['/image']
    sent = dict.fromkeys(speakers, 0)
    for raw in recording.messages():
        speakers[raw.topic].publish(bytes(raw.data))
        sent[raw.topic] += 1
        wait_until(handled)
    wait_until(lambda: len(pipeline.frames) == len(offline))
    inference.close()
    inputs.close()
    assert [r.begins_segment for r in offline] == pipeline.begins
    assert sum(pipeline.begins) == 1
    for recorded, live in zip(offline, pipeline.frames):
        frame = recorded.frame
        assert (frame.stamp_ns, frame.frame_id, frame.pose_problem, frame.intrinsics) == (
            live.stamp_ns, live.frame_id, live.pose_problem, live.intrinsics)
        np.testing.assert_array_equal(frame.image, live.image)
        np.testing.assert_array_equal(frame.world_from_camera, live.world_from_camera)
    assert {**counts('problem: '), **counts('dropped: ')} == recording.skipped
    assert len(recording.skipped) >= 5
