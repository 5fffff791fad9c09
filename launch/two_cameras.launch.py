r"""
Run a depth node and a decision node for each of two cameras, in a namespace of its own.

    ros2 launch dectrain_ros two_cameras.launch.py first:=front second:=rear \\
        image:=image_rect pose_source:=tf

Topics are relative: the first camera's images are then on /front/image_rect, and its depth on
/front/depth/image.
"""

import os
import sys

from ament_index_python.packages import get_package_share_directory
from dectrain_ros.ros.tools import launch_arguments
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction)
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = get_package_share_directory('dectrain_ros')
ARGUMENTS = launch_arguments.two_cameras(SHARE)


def cameras(context):
    """Check the arguments, then return the nodes of both cameras."""
    if os.path.basename(__file__) in map(os.path.basename, sys.argv):       # not included
        launch_arguments.refuse_unknown(context.argv, ARGUMENTS)
    given = {a.name: context.launch_configurations[a.name] for a in ARGUMENTS}
    first, second = given.pop('first'), given.pop('second')
    if first == second or not (first and second):
        raise ValueError(f'first:={first} and second:={second} must be two namespaces')
    source = os.path.join(SHARE, 'launch', 'online_depth.launch.py')
    return [GroupAction([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(source),
        launch_arguments={**given, 'namespace': namespace}.items())])
        for namespace in (first, second)]


def generate_launch_description():
    """Return the description that ros2 launch runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(a.name, default_value=a.default, description=a.help,
                                choices=a.choices or None) for a in ARGUMENTS),
        OpaqueFunction(function=cameras)])
