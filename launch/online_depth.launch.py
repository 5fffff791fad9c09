r"""
Run the depth node and the decision node, on a camera or on a bag.

    ros2 launch dectrain_ros online_depth.launch.py image:=/camera/image_rect \\
        camera_info:=/camera/camera_info pose:=/odometry pose_source:=odometry
    ros2 launch dectrain_ros online_depth.launch.py bag:=PATH rate:=0.5

`ros2 launch dectrain_ros online_depth.launch.py --show-args` describes every argument.
"""

import os
from typing import NamedTuple

from ament_index_python.packages import get_package_share_directory
from dectrain_ros.config import DepthConfig, options, PoseConfig
from dectrain_ros.offline.bag import Bag
from dectrain_ros.offline.bag_topics import Topics
from dectrain_ros.ros.bag_player import kinds
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import Shutdown
from launch_ros.actions import Node

CHOICES = {o.name: ('', *o.choices) for o in options((DepthConfig, PoseConfig)) if o.choices}
TYPES = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed',
         'geometry_msgs/msg/PoseStamped': 'pose', 'nav_msgs/msg/Odometry': 'odometry',
         'geometry_msgs/msg/PoseWithCovarianceStamped': 'pose_with_covariance'}


def arguments():
    """Give every argument; an empty one leaves what the parameter file says."""
    share = get_package_share_directory('dectrain_ros')

    def argument(name, default, description, choices=None):
        return DeclareLaunchArgument(
            name, default_value=default, description=description, choices=choices)
    return [
        argument('image', '', 'Topic of the rectified image; else as in the bag, or image.'),
        argument('camera_info', '', 'Topic of its calibration; else likewise.'),
        argument('pose', '', 'Topic of the pose, a pose_source; else likewise.'),
        argument('image_transport', '', 'Type of the image topic: Image or CompressedImage.',
                 ('', 'raw', 'compressed')),
        argument('pose_source', '', 'Type of the pose topic.', CHOICES['pose.source']),
        argument('params_file', os.path.join(share, 'config', 'dectrain.yaml'),
                 'Parameters of both nodes; beside the default: jetson.yaml and cpu.yaml.'),
        argument('namespace', '', 'Namespace of the nodes.'),
        argument('network', '', 'Depth network.', CHOICES['depth.network']),
        argument('weights', '', 'Weights: a .safetensors file, or a folder with encoder.pth and '
                 'depth.pth.'),
        argument('policy', '', 'When to train: never, always, periodic:K, random:P, dectrain, '
                 'budget:B.'),
        argument('use_sim_time', 'auto', 'Whether nodes follow /clock; auto: where a bag plays.',
                 ('auto', 'true', 'false')),
        argument('bag', '', 'A recording to play; all ends when it has been played.'),
        argument('rate', '1.0', 'Times the recorded speed; 0: next image once depth arrived.'),
        argument('loop', '1', 'Times through the bag.'),
        argument('log_level', 'info', 'Least severity that is logged.',
                 ('debug', 'info', 'warn', 'error', 'fatal')),
    ]


class Stream(NamedTuple):
    """Where the depth node's input comes from; an empty type is left to the parameter file."""

    image: str
    camera_info: str
    pose: str
    image_transport: str
    pose_source: str


def stream_of(bag, wanted):
    """Fill in what was not said: the usual names, or what the bag holds."""
    if not bag:
        return wanted._replace(image=wanted.image or 'image', pose=wanted.pose or 'pose',
                               camera_info=wanted.camera_info or 'camera_info')
    recording = Bag(bag, Topics(*wanted[:3]))
    found = recording.topics

    types = kinds(recording, [found.image, found.pose])
    return Stream(found.image, found.camera_info, found.pose,
                  wanted.image_transport or TYPES.get(types[found.image], ''),
                  wanted.pose_source or TYPES.get(types[found.pose], ''))


def nodes(context):
    """Give the nodes for the arguments as they are now."""
    given = context.launch_configurations
    bag, params_file = given['bag'], given['params_file']
    for name in ('bag', 'params_file'):
        if given[name] and not os.path.exists(given[name]):
            raise FileNotFoundError(f'{name}:={given[name]} does not exist')
    stream = stream_of(bag, Stream(*(given[name] for name in Stream._fields)))
    sim_time = bool(bag) if given['use_sim_time'] == 'auto' else given['use_sim_time'] == 'true'

    def node(executable, parameters=(), **rest):
        said = {name: text for name, text in dict(parameters).items() if text}
        return Node(
            package='dectrain_ros', executable=executable, name=executable, output='screen',
            namespace=given['namespace'], ros_arguments=['--log-level', given['log_level']],
            parameters=[*([params_file] if params_file else []), {
                **said, 'use_sim_time': sim_time}], **rest)
    over = {'on_exit': EmitEvent(event=Shutdown(reason='the bag cannot go on'))} if bag else {}
    found = [
        node('depth_node', {
            'depth.network': given['network'], 'depth.weights': given['weights'],
            'pose.source': stream.pose_source, 'image.transport': stream.image_transport},
            remappings=[(name, getattr(stream, name)) for name in Stream._fields[:3]], **over),
        node('decision_node', {'decision.policy': given['policy']}),
    ]
    if bag:
        found.append(Node(
            package='dectrain_ros', executable='bag_player', name='bag_player', output='screen',
            namespace=given['namespace'],
            arguments=[bag, '--rate', given['rate'], '--loop', given['loop']],
            on_exit=EmitEvent(event=Shutdown(reason='the bag has ended'))))
    return found


def generate_launch_description():
    """Give the description that ros2 launch runs."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=nodes)])
