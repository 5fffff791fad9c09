r"""
Run the depth node and the decision node, on a camera or on a bag.

    ros2 launch dectrain_ros online_depth.launch.py image:=/camera/image_rect \\
        camera_info:=/camera/camera_info pose:=/odometry pose_source:=odometry
    ros2 launch dectrain_ros online_depth.launch.py bag:=PATH rate:=0.5
    ros2 launch dectrain_ros online_depth.launch.py bag:=PATH evaluate:=true out:=DIR

`ros2 launch dectrain_ros online_depth.launch.py --show-args` describes every argument.
"""

import os
import sys

from ament_index_python.packages import get_package_share_directory, get_packages_with_prefixes
from dectrain_ros.ros.executable import NOT_STARTED
from dectrain_ros.ros.tools import launch_arguments
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, EmitEvent, ExecuteProcess, LogInfo, OpaqueFunction,
    RegisterEventHandler)
from launch.event_handlers import OnProcessIO
from launch.events import Shutdown
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory('dectrain_ros')
ARGUMENTS = launch_arguments.online_depth(SHARE)


def is_root():
    """Return whether this launch file is on the command line, not included by another."""
    return os.path.basename(__file__) in map(os.path.basename, sys.argv)


def ended(why):
    """
    Return an on_exit handler that shuts the launch down when a process ends.

    After a failure it raises an exception: only then does ros2 launch exit non-zero.
    """
    def on_exit(event, context):
        if context.is_shutdown:
            return None
        if event.returncode:
            raise RuntimeError(f'{event.process_name} failed, see above: shutting down')
        return [LogInfo(msg=f'{why}: shutting down'), EmitEvent(event=Shutdown(reason=why))]
    return on_exit


def failed(event, context):
    """Shut the launch down if a process ended with a failure."""
    return ended('')(event, context) if event.returncode else None


def died(meanwhile):
    """
    Return an on_exit handler that logs the end of a node.

    It shuts the launch down only if the node's first start fails.

    :param meanwhile: what happens next, for the log.
    """
    starts = []

    def on_exit(event, context):
        if context.is_shutdown:
            return None
        starts.append(event.returncode)
        if starts == [NOT_STARTED]:
            raise RuntimeError(f'{event.process_name} cannot start, see above: shutting down')
        return [LogInfo(msg=f'{event.process_name} has ended with exit code {event.returncode}: '
                        f'{meanwhile}')]
    return on_exit


class Parts:
    """The processes to start for the arguments."""

    def __init__(self, given):
        """Check the arguments, and read the topics of the bag."""
        launch_arguments.refuse_unusable(given)
        self._given, self._stream = given, launch_arguments.stream_of(given)
        self._sim_time = {'auto': bool(given['bag']), 'true': True, 'false': False}[
            given['use_sim_time']]

    def _node(self, executable, **rest):
        return Node(
            package='dectrain_ros', executable=executable, name=executable, output='screen',
            namespace=self._given['namespace'],
            ros_arguments=['--log-level', self._given['log_level']], **rest)

    def nodes(self):
        """Return the two nodes."""
        params_file = self._given['params_file']
        remappings = {'depth_node': [
            (name, getattr(self._stream, name)) for name in ('image', 'camera_info', 'pose')]}
        return [self._node(
            name, remappings=remappings.get(name, []),
            parameters=[*([params_file] if params_file else []), {
                **{key: ParameterValue(value, value_type=type(value))
                   for key, value in values.items()},
                'use_sim_time': self._sim_time}],
            **self._life(name))
            for name, values in launch_arguments.parameters(self._given, self._stream).items()]

    def _life(self, name):
        """Return the arguments of Node for the end of a node; in an evaluation it must not die."""
        if self._given['evaluate'] == 'true':
            return {'on_exit': ended(f'{name} has ended')}
        delay = self._given['respawn_delay']
        respawns = self._given[{'depth_node': 'respawn_depth',
                                'decision_node': 'respawn_decision'}[name]] == 'true'
        meanwhile = f'it restarts in {delay} s' if respawns else 'the other nodes continue'
        # Without a delay it would be restarted before the shutdown is handled.
        return {'on_exit': died(meanwhile), 'respawn': respawns,
                'respawn_delay': max(0.1, float(delay))}

    def player(self, depth_node):
        """Return the player of the bag; rosbag2 starts when the depth node is ready."""
        command = launch_arguments.player(
            self._given, self._stream, 'ros2bag' in get_packages_with_prefixes())
        on_exit = failed if self._given['evaluate'] == 'true' else ended('the bag has ended')
        if command.is_ours:             # it waits for the node itself
            return self._node('bag_player', arguments=command.arguments, on_exit=on_exit)
        playing = ExecuteProcess(
            cmd=[command.executable, *command.arguments], output='screen', on_exit=on_exit)
        started = []

        def start(event):
            if started or b'ready: ' not in event.text:
                return None
            started.append(True)
            return [playing]
        return RegisterEventHandler(OnProcessIO(
            target_action=depth_node, on_stdout=start, on_stderr=start))

    def evaluation(self):
        """Return the evaluation, if asked for; the launch ends with it."""
        command = launch_arguments.evaluation(self._given, self._stream)
        return [] if command is None else [self._node(
            command.executable, arguments=command.arguments,
            on_exit=ended('the report is written'))]

    def rviz(self):
        """Return RViz, if asked for."""
        if self._given['rviz'] != 'true':
            return []
        if 'rviz2' not in get_packages_with_prefixes():
            raise ValueError('rviz:=true, but RViz is not installed: install '
                             'ros-$ROS_DISTRO-rviz2, or open views/foxglove.json in Foxglove')
        return [Node(
            package='rviz2', executable='rviz2', namespace=self._given['namespace'],
            arguments=['-d', os.path.join(SHARE, 'views', 'depth.rviz'), '-f',
                       launch_arguments.fixed_frame(self._given, self._stream)],
            remappings=[('image', self._stream.image)],
            parameters=[{'use_sim_time': self._sim_time}])]

    def all(self):      # noqa: A003
        """Return every part."""
        nodes = self.nodes()
        bag = [self.player(nodes[0]), *self.evaluation()] if self._given['bag'] else []
        return [*nodes, *bag, *self.rviz()]


def parts(context):
    """Check the arguments, then return the processes to start."""
    if is_root():
        launch_arguments.refuse_unknown(context.argv, ARGUMENTS)
    return Parts(launch_arguments.with_lower_case_booleans(
        {a.name: context.launch_configurations[a.name] for a in ARGUMENTS})).all()


def generate_launch_description():
    """Return the description that ros2 launch runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(a.name, default_value=a.default, description=a.help,
                                choices=a.choices or None) for a in ARGUMENTS),
        OpaqueFunction(function=parts)])
