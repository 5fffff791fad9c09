"""Launch files: what they refuse, what they start, and that they do."""

import importlib.util
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys

from dectrain_ros.bags.reader import BagWriter
from dectrain_ros.frames import Frame, Intrinsics
import numpy as np
from processes import popen
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros.parameters import options_of                  # noqa: E402,I100
from dectrain_ros.ros.tools import launch_arguments                  # noqa: E402,I100,I202
from dectrain_ros.ros.tools.bag_player import _parser as player_parser    # noqa: E402
from dectrain_ros.ros.tools.live_evaluation import _parser as evaluation_parser   # noqa: E402
from test_bag import image, MS, odometry, pose, record, scene, STILL, T0, tf    # noqa: E402

pytest_plugins = ('ros_fixture',)      # a domain of its own, for what is launched too

ROOT = Path(__file__).resolve().parent.parent
HAS_LAUNCH = all(map(importlib.util.find_spec, ('launch', 'launch_ros', 'ament_index_python')))
needs_launch = pytest.mark.skipif(
    not HAS_LAUNCH, reason='launch and launch_ros are not installed: tables tested only')
# As `ros2 launch` does it: what the file is told comes by the command line.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
path, said = sys.argv[1], sys.argv[2:]
service = LaunchService(argv=said, noninteractive=True)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    AnyLaunchDescriptionSource(path),
    launch_arguments=[text.split(':=', 1) for text in said])]))
raise SystemExit(service.run())
"""


@pytest.fixture
def bag(tmp_path):
    """Write five frames, 2 m from a wall."""
    rng = np.random.default_rng(0)
    with BagWriter(tmp_path / 'bag') as writer:
        for number in range(5):
            writer.write(Frame(
                10**18 + number * 10**8, rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
                Intrinsics(64.0, 64.0, 31.5, 23.5, 64, 48), np.eye(4), 'cam'),
                np.full((48, 64), 2.0, np.float32))
    return tmp_path / 'bag'


def given(**said):
    """Return every argument, at its default where it is not said."""
    values = {a.name: a.default for a in launch_arguments.online_depth(str(ROOT))}
    assert set(said) <= set(values)
    return {**values, **said}


def test_every_argument_is_described_and_its_default_among_its_choices():
    for arguments in (launch_arguments.online_depth(str(ROOT)),
                      launch_arguments.two_cameras(str(ROOT))):
        assert len({a.name for a in arguments}) == len(arguments)
        for a in arguments:
            assert a.help.endswith('.') and (not a.choices or a.default in a.choices), a.name
    launch_arguments.refuse_unusable(given())          # the defaults can be used


def test_an_unknown_argument_is_refused_with_what_was_meant():
    known = launch_arguments.online_depth(str(ROOT))
    launch_arguments.refuse_unknown(['bag:=x', 'launch-prefix:=gdb'], known)
    with pytest.raises(ValueError, match="no argument 'imge': did you mean image"):
        launch_arguments.refuse_unknown(['bag:=x', 'imge:=/camera'], known)
    with pytest.raises(ValueError, match="no argument 'zzz': known: image, camera_info, "):
        launch_arguments.refuse_unknown(['zzz:=1'], known)


@pytest.mark.parametrize('said, match', [
    ({'bag': '/no/bag'}, 'bag:=/no/bag does not exist'),
    ({'params_file': '/no/file'}, 'params_file:=/no/file does not exist'),
    ({'weights': '/no/file'}, 'weights:=/no/file does not exist'),
    ({'rate': 'fast'}, 'rate:=fast must be a number from 0 on'),
    ({'rate': 'nan'}, 'rate:=nan must be a number from 0 on'),
    ({'start': '-1'}, 'start:=-1 must be a number from 0 on'),
    ({'threads': 'two'}, 'threads:=two must be a whole number from 0 on'),
    ({'respawn_delay': '-1'}, 'respawn_delay:=-1 must be a number from 0 on'),
    ({'loop': '1.5'}, 'loop:=1.5 must be a whole number from 0 on'),
    ({'policy': 'allways'}, "policy:=allways: 'allways' is not a policy: use never"),
    ({'policy': 'oracle'}, "policy 'oracle' runs offline only"),
    ({'evaluate': 'true'}, 'evaluate:=true needs bag:=PATH and loop:=1'),
    ({'evaluate': 'true', 'bag': str(ROOT), 'loop': '2'}, 'needs bag:=PATH and loop:=1')])
def test_a_value_that_cannot_be_used_is_refused_before_anything_starts(said, match):
    with pytest.raises(ValueError, match=match):
        launch_arguments.refuse_unusable(given(**said))


def test_policies_that_predict_gain_are_let_pass():
    for policy in ('dectrain', 'paced', 'budget:0.25', 'periodic:4', 'pattern:1100'):
        launch_arguments.refuse_unusable(given(policy=policy))


def test_input_is_what_was_said_else_what_the_bag_holds_else_the_usual_names(bag):
    assert launch_arguments.stream_of(given(image='/left/image_rect')) == (
        '/left/image_rect', 'camera_info', 'pose', '', '')
    found = launch_arguments.stream_of(given(bag=str(bag)))
    assert found == ('/camera/image_raw/compressed', '/camera/camera_info', '/camera/pose',
                     'compressed', 'pose')
    with pytest.raises(ValueError, match='image topic /other is not in it'):
        launch_arguments.stream_of(given(bag=str(bag), image='/other'))
    assert launch_arguments.fixed_frame(given(bag=str(bag)), found) == 'cam'
    assert launch_arguments.fixed_frame(given(), found) == 'map'
    assert launch_arguments.fixed_frame(given(bag=str(bag), rviz_frame='odom'), found) == 'odom'


@pytest.mark.parametrize('said, transport, topic', [
    ('/cam/image_raw', 'compressed', '/cam/image_raw/compressed'),
    ('/cam/image_raw/compressed', 'compressed', '/cam/image_raw/compressed'),
    ('', 'compressed', 'image/compressed'), ('/cam/image_raw', 'raw', '/cam/image_raw'),
    ('/cam/image_raw', '', '/cam/image_raw')])
def test_compressed_images_are_heard_where_image_transport_sends_them(said, transport, topic):
    found = launch_arguments.stream_of(given(image=said, image_transport=transport))
    assert (found.image, found.image_transport) == (topic, transport)


def test_compressed_images_of_a_bag_are_heard_under_the_name_they_have(bag):
    found = launch_arguments.stream_of(given(
        bag=str(bag), image='/camera/image_raw/compressed', image_transport='compressed'))
    assert found.image == '/camera/image_raw/compressed'


@pytest.fixture
def posed(tmp_path):
    """Record a camera whose poses are known four times, of three types."""
    stamps = (T0, T0 + 100 * MS)
    return str(record(tmp_path / 'posed', scene([('/cam/image', T0, image(T0))], [
        message for n, stamp in enumerate(stamps) for message in (
            ('/mocap', stamp, pose(1 + n, n)),              # of another clock
            ('/odom', stamp, odometry(stamp, n, 'camera')),
            ('/robot/tf', stamp, tf(stamp, ('odom', 'camera', n, STILL))),
            ('/tf', stamp, tf(stamp, ('odom', 'camera', n, STILL))))])))


@pytest.mark.parametrize('said, topic, source', [
    ({'pose_source': 'odometry'}, '/odom', 'odometry'), ({'pose_source': 'tf'}, '/tf', 'tf'),
    ({'pose': '/odom'}, '/odom', 'odometry'), ({'pose': '/tf'}, '/tf', 'tf'),
    ({'pose': '/odom', 'pose_source': 'odometry'}, '/odom', 'odometry')])
def test_pose_source_chooses_among_the_poses_of_a_bag(posed, said, topic, source):
    found = launch_arguments.stream_of(given(bag=posed, **said))
    assert (found.pose, found.pose_source) == (topic, source)
    assert launch_arguments.fixed_frame(given(bag=posed), found) == 'camera'
    arguments = launch_arguments.player(given(bag=posed), found, has_rosbag2=True).arguments
    assert arguments[-2:] == [topic, '/tf_static']


@pytest.mark.parametrize('said, match', [
    ({'pose_source': 'pose_with_covariance'},
     'pose_with_covariance is the type of no pose topic; '),
    ({'pose_source': 'tf', 'pose': '/odom'}, 'tf is not the type of pose:=/odom; poses '),
    ({'pose_source': 'pose', 'pose': '/tf'}, 'pose is not the type of pose:=/tf; poses ')])
def test_a_pose_source_that_the_bag_does_not_have_is_refused(posed, said, match):
    with pytest.raises(ValueError, match=match) as error:
        launch_arguments.stream_of(given(bag=posed, **said))
    assert ('/mocap (pose), /odom (odometry), /robot/tf (tf), /tf (tf); set pose:=TOPIC'
            in str(error.value))


def test_only_what_was_said_overrides_the_parameter_file():
    said = given(network='resnet18', policy='never', pose_source='odometry', checkpoints='')
    assert launch_arguments.parameters(said, launch_arguments.stream_of(said)) == {
        'depth_node': {'depth.network': 'resnet18', 'pose.source': 'odometry'},
        'decision_node': {'decision.policy': 'never'}}
    assert launch_arguments.parameters(
        {**said, 'checkpoints': '/there'}, launch_arguments.stream_of(said))['decision_node'] == {
            'checkpoints.folder': '/there', 'decision.policy': 'never'}


def test_arguments_reach_parameters_in_their_type():
    said = launch_arguments.with_lower_case_booleans(given(
        autostart='False', resume='True', threads='3', body_frame='base_link',
        extrinsic='0 0 1 0 0 0 1', checkpoints='~/there'))
    found = launch_arguments.parameters(said, launch_arguments.stream_of(said))
    both = {'autostart': False, 'checkpoints.resume': True,
            'checkpoints.folder': os.path.expanduser('~/there')}
    assert found == {'decision_node': both, 'depth_node': {
        **both, 'depth.threads': 3, 'pose.body_frame': 'base_link',
        'pose.extrinsic': '0 0 1 0 0 0 1'}}
    assert type(found['depth_node']['autostart']) is bool
    known = {node: {o.name for o in options_of(node)} for node in found}
    assert all(set(values) <= known[node] for node, values in found.items())


@pytest.mark.parametrize('text, said, folder', [
    ('', {}, '/ros/dectrain_ros'),
    ('/**:\n  ros__parameters:\n    checkpoints:\n      folder: ""\n', {}, '/ros/dectrain_ros'),
    ('/**:\n  ros__parameters:\n    checkpoints:\n      folder: /mine\n', {}, None),
    ('/a:\n  depth_node:\n    ros__parameters:\n      checkpoints.folder: /mine\n', {}, None),
    ('/**:\n  ros__parameters:\n    checkpoints:\n      folder: /mine\n',
     {'checkpoints': '/other'}, '/other'),
    ('', {'checkpoints': ''}, None), ('', {'bag': 'x'}, None)])
def test_checkpoints_go_to_the_folder_of_the_file_else_to_that_of_ros(
        tmp_path, monkeypatch, text, said, folder):
    monkeypatch.setenv('ROS_HOME', '/ros')
    (tmp_path / 'file.yaml').write_text(text)
    said = given(params_file=str(tmp_path / 'file.yaml'), **said)
    stream = launch_arguments.Stream('image', 'camera_info', 'pose', '', '')
    for values in launch_arguments.parameters(said, stream).values():
        assert values.get('checkpoints.folder') == folder


def test_rosbag2_plays_where_it_is_installed_and_can(bag):
    said = given(bag=str(bag), rate='0.5', loop='0')
    stream = launch_arguments.stream_of(said)
    command = launch_arguments.player(said, stream, has_rosbag2=True)
    assert (command.executable, command.is_ours) == ('ros2', False)
    assert command.arguments == [
        'bag', 'play', str(bag), '--clock', '200', '--rate', '0.5', '--loop',
        '--disable-keyboard-controls', '--topics', *stream[:3], '/tf_static']
    transforms = launch_arguments.player(said, stream._replace(pose_source='tf'), True).arguments
    assert transforms[-4:] == [*stream[:2], '/tf', '/tf_static']
    for more in ({'rate': '0'}, {'loop': '2'}, {'start': '0.1'}, {'loop': '1', 'evaluate': 'true'},
                 {'player': 'ours'}):
        assert launch_arguments.player({**said, **more}, stream, True).is_ours
    for level in ('debug', 'info', 'warn', 'error', 'fatal'):   # 'ready: ' is of level info
        command = launch_arguments.player({**said, 'log_level': level}, stream, True)
        assert command.is_ours == (level not in ('debug', 'info'))
    with pytest.raises(ValueError, match='rosbag2 cannot do log_level:=warn; or use player:=ours'):
        launch_arguments.player({**said, 'player': 'rosbag2', 'log_level': 'warn'}, stream, True)
    with pytest.raises(ValueError, match='player:=rosbag2 is not installed: install ros-'):
        launch_arguments.player({**said, 'player': 'rosbag2'}, stream, False)
    with pytest.raises(ValueError, match='player:=rosbag2 cannot do rate:=0; or use player:=ours'):
        launch_arguments.player({**said, 'player': 'rosbag2', 'rate': '0'}, stream, True)


def test_our_executables_understand_what_they_are_told(bag):
    said = given(bag=str(bag), evaluate='true', out='there', rate='0', start='0.1')
    stream = launch_arguments.stream_of(said)
    assert launch_arguments.evaluation(given(), stream) is None
    options = player_parser().parse_args(launch_arguments.player(said, stream, False).arguments)
    assert (options.bag, options.rate, options.loop, options.start, options.listener) == (
        str(bag), 0.0, 1, 0.1, 'live_evaluation')
    assert (options.image, options.camera_info, options.pose) == stream[:3]
    options = evaluation_parser().parse_args(launch_arguments.evaluation(said, stream).arguments)
    assert (options.bag, options.out, options.image) == (bag, Path('there'), stream.image)
    assert not player_parser().parse_args(launch_arguments.player(
        given(bag=str(bag)), stream, False).arguments).listener


@pytest.fixture
def prefix(tmp_path):
    """Install the package as far as launch looks: its files, and executables of this Python."""
    prefix = tmp_path / 'prefix'
    marks = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages'
    programs = prefix / 'lib' / 'dectrain_ros'
    for folder in (marks, programs):
        folder.mkdir(parents=True)
    (marks / 'dectrain_ros').touch()
    for name in ('launch', 'config'):
        (prefix / 'share' / 'dectrain_ros').mkdir(parents=True, exist_ok=True)
        (prefix / 'share' / 'dectrain_ros' / name).symlink_to(ROOT / name)
    for name in ('depth_node', 'decision_node', 'bag_player', 'live_evaluation'):
        program = programs / name
        room = 'ros' if name.endswith('_node') else 'ros.tools'
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m dectrain_ros.{room}.{name} "$@"\n')
        program.chmod(0o755)
    return prefix


def launched(prefix, name, *said):
    """Start a launch file as ros2 launch does."""
    path = prefix / 'share' / 'dectrain_ros' / 'launch' / name
    environment = {
        **os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path]),
        'AMENT_PREFIX_PATH': f'{prefix}{os.pathsep}{os.environ.get("AMENT_PREFIX_PATH", "")}',
        'ROS_LOG_DIR': str(prefix / 'log'), 'ROS_HOME': str(prefix / 'ros')}
    return popen(
        [sys.executable, '-c', LAUNCH, str(path), *said], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def said_by(process, timeout_s=120.0):
    """Return exit status and output of a launch that ends."""
    try:
        text, _ = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, text


@needs_launch
@pytest.mark.parametrize('name, said, match', [
    ('online_depth.launch.py', ['imge:=x'], "there is no argument 'imge': did you mean image"),
    ('online_depth.launch.py', ['network:=big'], 'provided value "big" is not valid'),
    ('online_depth.launch.py', ['loop:=-1'], 'loop:=-1 must be a whole number from 0 on'),
    ('two_cameras.launch.py', ['bag:=x'], "there is no argument 'bag'"),
    ('two_cameras.launch.py', ['second:=left'], 'must be two namespaces'),
    ('two_cameras.launch.py', ['policy:=allways'], "'allways' is not a policy")])
def test_a_launch_that_cannot_be_is_refused_in_a_line(prefix, name, said, match):
    status, text = said_by(launched(prefix, name, *said))
    assert status == 1 and match in text and 'process started' not in text


@needs_launch
def test_a_launched_bag_is_evaluated_and_all_ends(prefix, bag, tmp_path):
    status, text = said_by(launched(
        prefix, 'online_depth.launch.py', f'bag:={bag}', 'evaluate:=true', 'rate:=0',
        'policy:=never', 'namespace:=robot', f'out:={tmp_path / "out"}'))
    assert status == 0, text
    run, = json.loads((tmp_path / 'out' / 'report.json').read_text())['runs']
    assert (run['policy'], run['frames'], run['dropped']) == ('never', 5, 0)
    assert text.count('process has finished cleanly') == 4 and 'Traceback' not in text


def read_until(process, *wanted):
    """Return what a launch says until it has said all of that."""
    text = ''
    while not all(part in text for part in wanted):
        line = process.stdout.readline()
        assert line, text
        text += line
    return text


def pid_of(node, text):
    """Return the process that a node was started as last."""
    return int(re.findall(rf'\[{node}-\d+\]: process started with pid \[(\d+)\]', text)[-1])


@needs_launch
def test_a_node_that_cannot_start_ends_the_launch_with_an_error(prefix, tmp_path):
    (tmp_path / 'bad.yaml').write_text('/**:\n  ros__parameters:\n    depth.netwrk: lite\n')
    status, text = said_by(launched(
        prefix, 'online_depth.launch.py', f'params_file:={tmp_path / "bad.yaml"}'))
    assert "there is no parameter 'depth.netwrk'" in text, text
    assert 'cannot start, see above: shutting down' in text and status == 1


@needs_launch
def test_an_evaluation_that_fails_ends_the_launch_with_an_error(prefix, bag, tmp_path):
    (tmp_path / 'file').touch()
    status, text = said_by(launched(
        prefix, 'online_depth.launch.py', f'bag:={bag}', 'evaluate:=true', 'rate:=0',
        'policy:=never', f'out:={tmp_path / "file" / "out"}'))
    assert 'is not a writable folder' in text and status == 1, text


@needs_launch
@pytest.mark.parametrize('node, other', [
    ('decision_node', 'depth_node'), ('depth_node', 'decision_node')])
def test_a_node_that_dies_ends_nothing_else_and_is_started_again(prefix, node, other):
    begins = {'decision_node': 'policy never', 'depth_node': 'ready: listening'}
    process = launched(prefix, 'online_depth.launch.py', 'policy:=never', 'respawn_delay:=0.1')
    try:
        text = read_until(process, *begins.values())
        os.kill(pid_of(node, text), signal.SIGKILL)
        again = read_until(process, begins[node])
        assert 'has ended with exit code -9: it restarts in 0.1 s' in again
        os.kill(pid_of(other, text), 0)
    finally:
        process.send_signal(signal.SIGINT)
        status, rest = said_by(process)
    assert rest.count('process has finished cleanly') == 2 and status == 0, rest


@needs_launch
def test_a_node_that_is_not_to_be_started_again_ends_alone(prefix):
    process = launched(prefix, 'online_depth.launch.py', 'policy:=never',
                       'respawn_decision:=False', 'respawn_depth:=False')
    try:
        text = read_until(process, 'policy never', 'ready: listening')
        os.kill(pid_of('decision_node', text), signal.SIGKILL)
        read_until(process, 'has ended with exit code -9: the other nodes continue')
        os.kill(pid_of('depth_node', text), 0)
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = said_by(process)
    assert rest.count('process has finished cleanly') == 1, rest


@needs_launch
def test_two_cameras_have_both_nodes_each_in_a_namespace(prefix):
    process = launched(prefix, 'two_cameras.launch.py', 'image:=image_rect', 'first:=front',
                       'policy:=never')
    wanted = {'[front.decision_node]: policy never', '[right.decision_node]: policy never',
              'listening on /front/image_rect', 'listening on /right/image_rect'}
    read_until(process, *wanted)
    process.send_signal(signal.SIGINT)
    _, rest = said_by(process)
    assert rest.count('process has finished cleanly') == 4, rest
