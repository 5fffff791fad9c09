"""Newest image wins, poses are waited for but not for ever, and no image is the last."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.frames import Candidate, DepthPrediction, Intrinsics  # noqa: E402,I100
from dectrain_ros.ros.inbox import Inbox  # noqa: E402
from dectrain_ros.ros.inference_thread import Inference                 # noqa: E402
from dectrain_ros.ros.messages import stamp_from_ns  # noqa: E402
from dectrain_ros.ros.problem_counts import Health  # noqa: E402
from dectrain_ros.sensing.frame_builder import MAX_WAITING, TOO_LATE     # noqa: E402
from dectrain_ros.sensing.lens import Lens, Rectifier  # noqa: E402
from dectrain_ros.sensing.pose_stream import JUMPED, Limits, PoseStream  # noqa: E402
from dectrain_ros.sensing.pose_track import AFTER_LAST, INVALID, NO_POSES  # noqa: E402
from rclpy.logging import get_logger                                        # noqa: E402
from ros_parts import Heard, wait_until                                     # noqa: E402
from sensor_msgs.msg import Image                                           # noqa: E402
from std_msgs.msg import Header                                             # noqa: E402

S = 1_000_000_000
CAMERA = Intrinsics(4.0, 4.0, 1.5, 0.5, 4, 2)


class Brightness:
    """A pipeline whose depth is the image's red, in m."""

    def __init__(self):
        """Start with nothing seen."""
        self.frames = []                # predicted
        self.considered = []
        self.forgotten = 0
        self.order = []                 # stamps considered, and 'forgotten'
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.problem = None
        self.problem_considering = None

    def predict(self, frame):
        """Record the frame."""
        self.frames.append(frame)
        assert self.may_go_on.wait(10.0)
        if self.problem:
            raise self.problem
        return DepthPrediction(frame.stamp_ns, frame.image[..., 0].astype(np.float32), frame.image,
                               frame.intrinsics, (), 7)

    def consider(self, frame, prediction):
        """Record the frame."""
        assert prediction.stamp_ns == frame.stamp_ns
        if self.problem_considering:
            raise self.problem_considering
        self.considered.append(frame)
        self.order.append(frame.stamp_ns)
        return Candidate(frame.stamp_ns, ())

    def forget_views(self):
        """Count that."""
        self.forgotten += 1
        self.order.append('forgotten')


class Poses(PoseStream):
    """The poses of a camera."""

    def at(self, stamp_ns, camera_frame=''):
        """Return the pose at a stamp."""
        return super().at(stamp_ns)


class Bench:
    """Inbox, inference thread and what it published."""

    def __init__(self, wait_s, **options):
        """Start the thread."""
        self.pipeline, self.inbox = Brightness(), Inbox(wait_s=wait_s, **options)
        self.poses = Poses(Limits(10.0, max_speed=5.0))
        self.inbox.use_poses(self.poses)
        self.health = Health(get_logger('bench'))
        self.published, self.candidates = Heard(), Heard()
        self.inference = Inference(
            self.pipeline, self.inbox, self.health, lambda *depth: self.published(depth),
            lambda *candidate: self.candidates(candidate))

    def image(self, stamp_ns, red=1, encoding='rgb8', size=(2, 4)):
        """Put an image."""
        return self.inbox.put_image(Image(
            header=Header(stamp=stamp_from_ns(stamp_ns), frame_id='cam'), encoding=encoding,
            height=size[0], width=size[1], step=3 * size[1],
            data=bytes([red]) * (3 * size[0] * size[1])))

    def pose(self, stamp_ns, x=0.0):
        """Put a pose."""
        matrix = None if x is None else np.eye(4)
        if x is not None:
            matrix[0, 3] = x
        with self.inbox.changing():
            self.poses.add(stamp_ns, matrix)

    def camera(self, camera=CAMERA):
        """Put a camera without distortion."""
        self.inbox.put_lens(0, Lens(camera))

    def counts(self):
        """Return what was counted."""
        return {v.key: int(v.value) for v in self.health.status('x').values
                if not v.key.startswith('latency')}


@pytest.fixture
def bench():
    """Return a bench without patience, with camera."""
    made = Bench(wait_s=0.02)
    made.camera()
    yield made
    made.pipeline.may_go_on.set()
    assert made.inference.close()


@pytest.fixture
def patient():
    """Return a bench that waits long for poses, with camera."""
    made = Bench(wait_s=10.0)
    made.camera()
    yield made
    assert made.inference.close()


def test_an_image_becomes_a_frame_with_camera_pose_and_name(bench):
    bench.pose(1 * S, x=1.0)
    bench.pose(3 * S, x=3.0)
    bench.image(2 * S, red=7)
    received, seen, prediction = bench.published.wait_for()[0]
    header, candidate, origin = bench.candidates.wait_for()[0]
    frame = bench.pipeline.considered[0]
    assert header is received.message.header
    assert (header.frame_id, frame.frame_id, frame.stamp_ns) == ('cam', 'cam', 2 * S)
    assert frame.intrinsics == CAMERA and (frame.image[..., 0] == 7).all()
    assert frame.image is seen.image and seen.world_from_camera is None
    assert frame.world_from_camera[0, 3] == 2.0 and frame.pose_problem == ''
    assert (prediction.depth == 7).all()
    assert (candidate.stamp_ns, origin.weight_version) == (2 * S, 7)
    assert origin.inference_s > 0 and origin.consideration_s > 0


def test_the_newest_image_wins_while_one_is_in_work(bench):
    bench.pipeline.may_go_on.clear()
    assert not bench.image(1 * S)
    wait_until(lambda: bench.pipeline.frames)
    assert not bench.image(2 * S)
    assert bench.image(3 * S) and bench.image(4 * S)
    bench.pipeline.may_go_on.set()
    bench.published.wait_for(2)
    assert [f.stamp_ns for f in bench.pipeline.frames] == [1 * S, 4 * S]


def test_depth_is_published_before_its_pose_comes_and_only_the_candidate_waits(patient):
    patient.pose(1 * S, x=1.0)
    patient.image(2 * S)
    patient.published.wait_for(timeout_s=5.0)           # a pose would be waited for for 10 s
    time.sleep(0.05)
    assert not patient.candidates.messages
    patient.pose(3 * S, x=3.0)
    patient.candidates.wait_for(timeout_s=5.0)
    assert patient.pipeline.considered[0].world_from_camera[0, 3] == 2.0


def test_the_next_depth_does_not_wait_for_poses_and_frames_are_considered_in_order(patient):
    patient.pose(0)
    for number in (1, 2, 3):
        patient.image(number * S)
        patient.published.wait_for(number, timeout_s=5.0)   # each pose would be awaited for 10 s
    assert not patient.candidates.messages
    patient.pose(4 * S, x=4.0)
    patient.candidates.wait_for(3, timeout_s=5.0)
    assert patient.pipeline.order == [1 * S, 2 * S, 3 * S]
    assert [f.world_from_camera[0, 3] for f in patient.pipeline.considered] == [1.0, 2.0, 3.0]


def test_no_more_frames_than_allowed_wait_and_those_beyond_go_on_with_the_reason(patient):
    patient.pose(0)
    for number in range(1, MAX_WAITING + 3):
        patient.image(number * S)
        patient.published.wait_for(number, timeout_s=5.0)
    patient.candidates.wait_for(2, timeout_s=5.0)
    assert [(f.stamp_ns, f.pose_problem) for f in patient.pipeline.considered] == [
        (1 * S, TOO_LATE), (2 * S, TOO_LATE)]
    assert patient.counts() == {f'problem: no pose, {TOO_LATE}': 2}


def test_a_frame_of_the_camera_before_is_considered_before_its_views_are_forgotten(patient):
    patient.pose(0)
    patient.image(1 * S)
    patient.published.wait_for(1)
    patient.camera(CAMERA.resized(8, 4))
    patient.image(2 * S, size=(4, 8))
    patient.published.wait_for(2)
    patient.pose(9 * S)
    patient.candidates.wait_for(2)
    assert patient.pipeline.order == [1 * S, 'forgotten', 2 * S]


def test_views_before_a_jump_of_the_pose_are_forgotten(patient):
    for stamp, x in ((1, 0.0), (2, 1.0), (3, 50.0), (4, 51.0)):
        patient.pose(stamp * S, x=x)
    stamps = [int(s * S) for s in (1.5, 2, 2.5, 3, 3.5)]
    for count, stamp_ns in enumerate(stamps, 1):
        patient.image(stamp_ns)
        patient.candidates.wait_for(count)
    assert patient.pipeline.order == [*stamps[:3], 'forgotten', *stamps[3:]]
    assert [f.pose_problem for f in patient.pipeline.considered] == ['', '', JUMPED, '', '']


def test_an_image_minutes_ahead_is_no_view_of_those_before_and_one_seconds_ahead_is(patient):
    patient.pose(500 * S)
    for count, second in enumerate((1, 11, 22, 200), 1):
        patient.image(second * S)
        patient.candidates.wait_for(count)
    assert patient.pipeline.order == [
        1 * S, 11 * S, 'forgotten', 22 * S, 'forgotten', 200 * S]
    assert patient.counts()['problem: time jumped ahead'] == 2


def test_a_clock_set_back_a_little_lets_older_images_in_and_forgets_poses(patient):
    patient.pose(500 * S // 100)
    patient.image(490 * S // 100)
    patient.candidates.wait_for(1)
    patient.inbox.clock_went_back(450 * S // 100)
    patient.image(450 * S // 100)
    patient.published.wait_for(2)
    patient.pose(450 * S // 100, x=7.0)
    patient.candidates.wait_for(2)
    assert patient.pipeline.considered[1].world_from_camera[0, 3] == 7.0
    assert patient.pipeline.forgotten == 1
    patient.image(440 * S // 100)                       # a second time it is out of order
    wait_until(lambda: patient.counts().get('dropped: stamp not after the previous image') == 1)


def test_a_clock_set_back_by_a_whole_loop_excuses_no_image_after_it(patient):
    patient.image(50 * S)
    patient.published.wait_for(1)
    patient.inbox.clock_went_back(1 * S)
    for count, stamp_ns in enumerate((1 * S, 2 * S), 2):
        patient.image(stamp_ns)
        patient.published.wait_for(count)
    patient.image(2 * S)
    wait_until(lambda: patient.counts().get('dropped: stamp not after the previous image') == 1)
    assert patient.counts()['problem: time jumped back'] == 1


def test_a_clock_set_back_keeps_poses_that_came_since(patient):
    patient.pose(3 * S)
    patient.inbox.clock_went_back(4 * S)
    patient.image(3 * S)
    patient.candidates.wait_for(1)
    assert patient.pipeline.considered[0].pose_problem == ''


def test_while_the_clock_stands_still_a_frame_waits_without_complaint():
    now_s = [100.0]
    bench = Bench(wait_s=0.02, now_s=lambda: now_s[0])
    bench.camera()
    bench.pose(0)
    bench.image(1 * S)
    bench.published.wait_for(1)
    time.sleep(0.2)                                     # ten times its patience
    assert not bench.candidates.messages and not bench.counts()
    now_s[0] = 101.0
    bench.candidates.wait_for(1)
    assert bench.pipeline.considered[0].pose_problem == AFTER_LAST
    bench.image(2 * S)
    bench.published.wait_for(2)
    now_s[0] = 1.0                                      # set back: nobody waits for 100 s
    bench.candidates.wait_for(2)
    assert bench.inference.close()


def test_a_distorted_image_is_predicted_as_a_pinhole_sees_it_and_no_waiting_one_changes(patient):
    lens = Lens(Intrinsics(40.0, 40.0, 15.5, 7.5, 32, 16), 'plumb_bob', (0.2, 0.0, 0.0, 0.0))
    patient.inbox.put_lens(0, lens)
    patient.pose(0)
    for number in range(1, MAX_WAITING + 1):
        patient.image(number * S, red=number, size=(16, 32))
        patient.published.wait_for(number)
    patient.pose(99 * S)
    patient.candidates.wait_for(MAX_WAITING)
    assert [int(f.image.max())
            for f in patient.pipeline.considered] == [*range(1, MAX_WAITING + 1)]
    assert patient.pipeline.frames[0].intrinsics == Rectifier(lens, 1).camera != lens.camera
    assert patient.pipeline.forgotten == 0


def test_an_image_that_cannot_be_rectified_is_dropped_with_the_reason(bench):
    bench.inbox.put_lens(0, Lens(CAMERA, 'plumb_bob', (4e3, 0.0, 0.0, 0.0)))
    bench.image(1 * S)
    wait_until(lambda: bench.counts() == {'dropped: image cannot be rectified': 1})
    bench.image(2 * S)
    wait_until(lambda: bench.counts() == {'dropped: image cannot be rectified': 2})
    bench.camera()
    bench.image(3 * S)
    bench.published.wait_for(1)


def test_depth_is_published_where_no_pose_ever_comes(patient):
    patient.image(1 * S)
    patient.published.wait_for(timeout_s=5.0)
    assert patient.inference.close(timeout_s=5.0)
    assert patient.pipeline.frames[0].world_from_camera is None


def test_a_problem_in_considering_costs_the_candidate_and_no_depth(bench):
    bench.pose(9 * S)
    bench.pipeline.problem_considering = RuntimeError('no room')
    bench.image(1 * S)
    bench.published.wait_for(1)
    wait_until(lambda: bench.counts().get('problem: no candidate') == 1)
    bench.pipeline.problem_considering = None
    bench.image(2 * S)
    assert bench.candidates.wait_for(1)[0][1].stamp_ns == 2 * S
    assert not any(key.startswith('dropped') for key in bench.counts())


def test_without_a_pose_in_time_it_goes_on_and_says_why(bench):
    bench.image(1 * S)
    bench.candidates.wait_for(1)
    bench.pose(1 * S)
    bench.image(2 * S)
    bench.candidates.wait_for(2)
    bench.pose(4 * S, None)
    bench.image(3 * S)
    bench.candidates.wait_for(3)
    assert [(f.world_from_camera, f.pose_problem) for f in bench.pipeline.considered] == [
        (None, NO_POSES), (None, AFTER_LAST), (None, INVALID)]
    assert bench.counts() == {f'problem: no pose, {reason}': 1
                              for reason in (NO_POSES, AFTER_LAST, INVALID)}


def test_without_camera_info_an_image_is_dropped():
    bench = Bench(wait_s=0.02)
    bench.image(1 * S)
    wait_until(lambda: bench.counts() == {'dropped: no camera_info yet': 1})
    bench.camera()
    bench.image(2 * S)
    bench.published.wait_for()
    assert bench.inference.close() and len(bench.pipeline.frames) == 1


def test_the_first_camera_info_may_come_just_after_its_image():
    bench = Bench(wait_s=10.0)
    bench.pose(1 * S)
    bench.image(1 * S)
    time.sleep(0.05)
    bench.camera()
    bench.published.wait_for()
    assert bench.inference.close()


@pytest.mark.parametrize('image, reason', [
    ({'encoding': 'nonsense'}, 'unsupported image encoding'),
    ({'size': (4, 4)}, 'size differs from camera_info')])
def test_a_bad_image_is_dropped_and_the_next_one_taken(bench, image, reason):
    bench.image(1 * S, **image)
    wait_until(lambda: bench.counts() == {f'dropped: {reason}': 1})
    bench.image(2 * S)
    bench.published.wait_for()


def test_a_failing_pipeline_drops_the_image_and_the_next_one_is_taken(bench):
    bench.pose(9 * S)
    bench.pipeline.problem = RuntimeError('out of memory')
    bench.image(1 * S)
    wait_until(lambda: bench.counts().get('dropped: inference failed'))
    bench.pipeline.problem = None
    bench.image(2 * S)
    bench.published.wait_for()


def test_images_resized_from_camera_info_have_its_camera_at_their_size(bench):
    bench.image(1 * S, size=(4, 8))
    bench.published.wait_for(1)
    assert bench.pipeline.frames[0].intrinsics == Intrinsics(8.0, 8.0, 3.5, 1.5, 8, 4)
    bench.image(2 * S, size=(8, 12))                    # 3 : 2, not 2 : 1
    wait_until(lambda: bench.counts().get('dropped: size differs from camera_info'))


@pytest.mark.parametrize('camera, times', [
    (Intrinsics(4.003, 4.003, 1.5, 0.5, 4, 2), 0), (Intrinsics(4.005, 4.0, 1.5, 0.5, 4, 2), 1),
    (Intrinsics(4.0, 4.0, 1.5, 0.51, 4, 2), 1)])
def test_a_camera_that_changed_by_more_than_noise_forgets_the_views(bench, camera, times):
    bench.image(1 * S)
    bench.published.wait_for(1)
    bench.camera(camera)
    bench.image(2 * S)
    bench.published.wait_for(2)
    bench.image(3 * S)
    bench.candidates.wait_for(3)
    assert bench.pipeline.forgotten == times
    assert bench.counts().get('problem: camera changed', 0) == times


def test_a_new_image_size_forgets_the_views_and_goes_on(bench):
    bench.image(1 * S)
    bench.published.wait_for(1)
    assert bench.pipeline.forgotten == 0
    bench.camera(CAMERA.resized(8, 4))
    bench.image(2 * S, size=(4, 8))
    bench.candidates.wait_for(2)
    assert bench.pipeline.forgotten == 1
    assert bench.counts()['problem: image size changed'] == 1


@pytest.mark.parametrize('stamp_ns', [5 * S, 5 * S - 1, 4 * S])
def test_an_image_not_newer_than_the_last_is_dropped(bench, stamp_ns):
    bench.image(5 * S)
    bench.published.wait_for(1)
    bench.image(stamp_ns)
    wait_until(lambda: bench.counts().get('dropped: stamp not after the previous image'))
    bench.image(5 * S + 1)
    bench.published.wait_for(2)
    assert bench.pipeline.forgotten == 0


def test_a_far_jump_back_forgets_views_and_old_poses_and_goes_on(patient):
    patient.pose(1 * S, x=1.0)
    patient.pose(6 * S, x=6.0)
    patient.image(5 * S)
    patient.candidates.wait_for(1)
    patient.image(1 * S)                    # first image of the next loop, before its pose
    patient.published.wait_for(2)
    time.sleep(0.05)
    assert len(patient.pipeline.considered) == 1
    patient.pose(1 * S, x=10.0)
    patient.candidates.wait_for(2)
    assert patient.pipeline.forgotten == 1
    assert patient.pipeline.considered[1].world_from_camera[0, 3] == 10.0
    assert patient.counts() == {'problem: time jumped back': 1}


def test_poses_that_jumped_back_before_their_image_are_kept(patient):
    patient.pose(6 * S, x=6.0)
    patient.image(6 * S)
    patient.candidates.wait_for(1)
    patient.pose(1 * S, x=10.0)             # poses of the next loop come first
    patient.pose(2 * S, x=20.0)
    patient.image(1 * S)
    patient.candidates.wait_for(2)
    assert patient.pipeline.considered[1].world_from_camera[0, 3] == 10.0


def test_closing_ends_a_wait_for_poses_at_once(patient):
    patient.image(1 * S)
    time.sleep(0.05)
    assert patient.inference.close(timeout_s=5.0)


def test_rgb_images_reach_the_pipeline_without_a_copy(bench):
    message = Image(encoding='rgb8', height=2, width=4, step=12, data=bytes(24))
    bench.inbox.put_image(message)
    bench.published.wait_for()
    assert np.shares_memory(
        bench.pipeline.frames[0].image, np.frombuffer(message.data, np.uint8))
