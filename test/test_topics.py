"""Which of a bag's topics play which part, from what their first messages say."""

from dectrain_ros.bags.topics import (
    BagError, CAMERA_INFO, choose, COMPRESSED_IMAGE, Listed, ODOMETRY, POSE, RAW_IMAGE, Topics,
    TRANSFORMS)
import pytest

K = (100.0, 100.0, 50.0, 40.0)


def image(name='/cam/color/image_raw', encoding='rgb8', frame='optical', size=(100, 80)):
    return Listed(name, RAW_IMAGE, 100, encoding, frame, *size)


def depth(name='/cam/aligned_depth/image_raw', **changes):
    return image(name, '16UC1')._replace(**changes)


def info(name='/cam/color/camera_info', frame='optical', size=(100, 80), matrix=K):
    return Listed(name, CAMERA_INFO, 100, '', frame, *size, matrix)


def pose(name='/cam/pose', msgtype=POSE, count=100, frame='world'):
    return Listed(name, msgtype, count, '', frame)


def odometry(name='/odom', count=100):
    return pose(name, ODOMETRY, count, 'odom')


def chosen(*topics, **kwargs):
    """Return the choice among these and what a bag needs besides."""
    has = {t.msgtype for t in topics}
    needed = [t for t in (image(), info(), pose()) if t.msgtype not in has and not (
        t.msgtype == POSE and has & {ODOMETRY, TRANSFORMS})]
    if COMPRESSED_IMAGE in has:
        needed = [t for t in needed if t.msgtype != RAW_IMAGE]
    return choose('bag', [*topics, *needed], **kwargs)


# Poses

@pytest.mark.parametrize('other, why', [
    (pose('/aruco_single/pose', frame='optical'), 'its poses are in a camera frame, optical'),
    (pose('/tag/pose', frame='other_optical_frame'),
     'its poses are in a camera frame, other_optical'),
    (pose('/mavros/setpoint_position/local'), 'its name contains setpoint'),
    (pose('/target_pose'), 'its name contains target'), (pose('/goal'), 'its name contains goal'),
    (pose('/desired/pose'), 'its name contains desired'),
    (pose('/cmd_pose'), 'its name contains cmd'),
    (pose('/start_pose', count=1), 'it is a single message'),
    (pose('/checkpoints', count=9), 'it has 9 poses, another has 100')])
def test_what_is_not_the_cameras_pose_gives_way(other, why, caplog):
    assert chosen(other, odometry()).pose == '/odom'
    assert 'poses are read from /odom' in caplog.text
    assert f'{other.name}: {why}' in caplog.text


def test_words_inside_words_are_no_wishes(caplog):
    assert chosen(pose('/goalkeeper/pose'), odometry()).pose == '/goalkeeper/pose'


def test_poses_of_a_part_of_the_bag_give_way(caplog):
    seconds = {'/cam/pose': 3.0, '/odom': 10.0}
    picked = chosen(pose(), odometry(), spans=lambda names: [seconds[n] for n in names])
    assert picked.pose == '/odom' and '/cam/pose: it covers 3.0 of 10.0 s' in caplog.text


def test_of_poses_that_fit_the_more_telling_type_is_taken_and_that_is_logged(caplog):
    assert chosen(pose(), odometry()).pose == '/cam/pose'
    assert '/odom: its type or name is less specific' in caplog.text


def test_one_pose_topic_is_taken_without_a_word(caplog):
    assert chosen(pose()).pose == '/cam/pose' and not caplog.records


def test_transforms_are_better_than_a_single_pose_and_that_is_better_than_nothing():
    tree = Listed('/tf', TRANSFORMS, 100)
    assert chosen(pose('/start', count=1), tree).pose == '/tf'
    assert chosen(pose('/start', count=1)).pose == '/start'


def test_a_bag_with_nothing_but_wishes_has_no_poses():
    with pytest.raises(BagError, match='no camera poses .*, /goal: its name contains goal; name'):
        chosen(pose('/goal'))


def test_a_named_topic_is_taken_whatever_it_is():
    assert chosen(pose('/goal'), odometry(), wanted=Topics(pose='/goal')).pose == '/goal'


# Images

def test_mono16_is_a_camera_unless_its_name_says_depth():
    grey = image('/cam0/image_raw', 'mono16')
    assert chosen(grey).image == '/cam0/image_raw'
    assert chosen(image(), image('/cam0/image_raw', 'mono16')).ground_truth == ''
    assert chosen(image(), image('/cam0/depth', 'mono16')).ground_truth == '/cam0/depth'


@pytest.mark.parametrize('name', [
    '/cam/thermal', '/cam/ir/image_raw', '/cam/infra1', '/mono/image', '/cam/confidence',
    '/depth/confidence', '/label', '/mask', '/a/segmentation', '/disparity'])
def test_16_bits_of_something_else_are_no_depth(name):
    assert chosen(image(), image(name, '16UC1')).ground_truth == ''


def test_depth_brought_to_an_infrared_camera_is_depth():
    assert chosen(image(), depth('/cam/depth_to_infra1')).ground_truth == '/cam/depth_to_infra1'


def test_an_infrared_camera_alone_is_the_camera_and_beside_another_it_is_not():
    infrared = image('/a/infra1/image', 'mono8')
    assert chosen(infrared).image == '/a/infra1/image'
    assert chosen(infrared, image('/b/left')).image == '/b/left'


def test_a_video_is_named():
    video = Listed('/cam/ffmpeg', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket', 9)
    with pytest.raises(BagError, match='/cam/ffmpeg is video, which is not decoded; republish'):
        choose('bag', [video, info(), pose()])


# True depth

@pytest.mark.parametrize('other, why', [
    (depth(frame_id='depth_optical'), 'its frame_id is depth_optical, that of the images optical'),
    (depth(width=106, height=60), 'it is 106x60, /cam/color/image_raw 100x80')])
def test_depth_of_another_camera_is_refused(other, why, caplog):
    assert chosen(other, image()).ground_truth == ''
    assert why in caplog.text and 'register it (depth_image_proc)' in caplog.text
    wanted = Topics(ground_truth=other.name)
    assert chosen(other, image(), wanted=wanted).ground_truth == other.name


def test_depth_of_another_calibration_is_refused(caplog):
    other = depth('/cam/depth/image_raw')
    wider = info('/cam/depth/camera_info', matrix=(90.0, 90.0, 50.0, 40.0))
    assert chosen(image(), other, info(), wider).ground_truth == ''
    assert '/cam/depth/camera_info differs from /cam/color/camera_info' in caplog.text


def test_depth_of_half_the_size_of_the_same_camera_is_taken(caplog):
    half = depth('/cam/depth/image_raw', width=50, height=40)
    halved = info('/cam/depth/camera_info', size=(50, 40), matrix=(50.0, 50.0, 24.75, 19.75))
    assert chosen(image(), half, info(), halved).ground_truth == half.name
    assert not caplog.records


def test_depth_that_does_not_say_its_frame_is_taken():
    assert chosen(image(), depth(frame_id='')).ground_truth == '/cam/aligned_depth/image_raw'


# Calibration

def compressed(name):
    return Listed(name, COMPRESSED_IMAGE, 100, 'jpeg', 'optical')


@pytest.mark.parametrize('pictures, infos, wanted', [
    (compressed('/cam/color/compressed'), ['/cam/color/camera_info', '/b/camera_info'],
     '/cam/color/camera_info'),
    (image('/cam/image_raw'), ['/cam/camera_info', '/cam/camera_info_raw'],
     '/cam/camera_info_raw'),
    (image('/cam/image_rect'), ['/cam/camera_info', '/cam/camera_info_raw'], '/cam/camera_info'),
    (image('/cam/image_raw'), ['/cam/camera_info_raw', '/b/camera_info'],
     '/cam/camera_info_raw')])
def test_the_calibration_belongs_to_the_images(pictures, infos, wanted):
    assert chosen(pictures, *map(info, infos)).camera_info == wanted


def test_the_calibration_of_the_images_frame_is_taken():
    picked = chosen(image('/x/image'), info('/a/camera_info', frame='other'), info('/b/info'))
    assert picked.camera_info == '/b/info'
    picked = chosen(compressed('/x/color/compressed'), info('/x/camera_info', frame='other'),
                    info('/x/color/camera_info'))
    assert picked.camera_info == '/x/color/camera_info'
