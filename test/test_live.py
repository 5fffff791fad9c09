"""Keeping score of live nodes: by stamp, whatever comes or does not."""

from dectrain_ros.decision.features import NoFeatures
from dectrain_ros.frames import Candidate, Frame, Intrinsics, StepResult
from dectrain_ros.offline.bag import Bag, BagWriter
import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import messages                   # noqa: E402,I100,I202
from dectrain_ros.ros.conversions import ImageBuffer  # noqa: E402
from dectrain_ros.ros.demo import main                  # noqa: E402
from dectrain_ros.ros.live import LiveEvaluation, NO_DEPTH, NO_FRAME    # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402,I100
from ros_parts import wait_until                        # noqa: E402
from sensor_msgs.msg import Image                       # noqa: E402
from std_msgs.msg import Header                         # noqa: E402

pytest_plugins = ('ros_fixture',)
T0, STEP = 1_700_000_000 * 10**9, 10**8
CAMERA = Intrinsics(8.0, 8.0, 3.5, 2.5, 8, 6)


@pytest.fixture
def live(ros, tmp_path):
    """Keep score of five frames, 2 m from a wall."""
    with BagWriter(tmp_path / 'bag') as writer:
        for number in range(5):
            writer.write(Frame(T0 + number * STEP, np.zeros((6, 8, 3), np.uint8), CAMERA,
                               np.eye(4), 'cam'), np.full((6, 8), 2.0, np.float32))
    return ros.add(LiveEvaluation(Bag(tmp_path / 'bag'), frozenset(), {}, context=ros.context))


def depth(live, stamp_ns):
    """Let it hear a depth image of 2 m."""
    image = ImageBuffer('32FC1')
    image.new_array((6, 8)).fill(2.0)
    live._on_depth(image.message(Header(stamp=messages.stamp_from_ns(stamp_ns))))


def test_depth_of_unknown_stamps_or_twice_of_one_costs_no_other_frame(live):
    for stamp_ns in (T0 - 1, T0, T0, T0 + 1, T0 + 2 * STEP, T0 + 2 * STEP + 1, T0 + 3 * STEP):
        depth(live, stamp_ns)
    result = live.result('bag', 'never', 0)
    assert [r.index for r in result.records] == [0, 2, 3]
    assert result.skipped == {NO_FRAME: 4, NO_DEPTH: 2}


def test_a_record_has_the_version_that_predicted_and_it_settles_with_every_outcome(live):
    depth(live, T0)
    assert not live.settled                 # its candidate is on its way
    live._on_candidate(messages.candidate_message(
        Candidate(T0, NoFeatures()), 'cam', 4))
    assert not live.settled                 # nor is it decided on
    live._on_outcome(messages.outcome_message(StepResult(T0, True, 'policy always', 6, 0.5, 1.0)))
    assert live.settled
    record, = live.result('bag', 'always', 0).records
    assert record.weight_version == 4 and record.trained and record.loss_before == 0.5


def test_it_is_connected_once_all_it_listens_to_is_published(live, ros):
    for kind, topic in ((DiagnosticArray, messages.CANDIDATE), (Image, 'depth/image')):
        assert not live.connected
        ros.speak(kind, topic)
    assert not live.connected               # outcomes would be lost
    ros.speak(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: live.connected)


def test_the_demo_refuses_a_policy_as_it_compares_two(tmp_path, capsys):
    assert main(['--out', str(tmp_path), '--set', 'decision.policy=never']) == 1
    assert 'leave decision.policy out of --set' in ' '.join(capsys.readouterr().err.split())
