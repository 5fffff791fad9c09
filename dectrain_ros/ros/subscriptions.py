"""Subscriptions, through message_filters if it is installed."""

from __future__ import annotations

from typing import Callable

from dectrain_ros.ros.qos_overrides import by_parameters
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

try:
    import message_filters
except ImportError:             # not on the package index
    message_filters = None


def subscribe(
    node: Node, kind: type, topic: str, callback: Callable, qos: QoSProfile
) -> Subscription:
    """
    Subscribe, through a message_filters.Subscriber if message_filters is installed.

    Parameters `qos_overrides.*` take precedence over qos.

    The synchronisers of message_filters are not used: they drop the image whose camera_info was
    lost, match none of 150 images that come 150 ms late with poses at 200 Hz and a queue of 10,
    none of 300 after time went back on full queues, and nothing any more once a callback raised.
    The inbox matches poses to images instead.

    :returns: the subscription, for node.destroy_subscription.
    """
    if message_filters is None:
        return node.create_subscription(
            kind, topic, callback, qos, qos_overriding_options=by_parameters())
    source = message_filters.Subscriber(
        node, kind, topic, qos_profile=qos, qos_overriding_options=by_parameters())
    source.registerCallback(callback)
    return source.sub


def sensor(depth: int) -> QoSProfile:
    """Return best effort, which is compatible with every publisher."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
