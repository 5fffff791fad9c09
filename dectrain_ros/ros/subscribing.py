"""Subscriptions, by message_filters where it is installed."""

from __future__ import annotations

from typing import Callable

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
    Subscribe, as the source of a message filter where there are message filters.

    Nothing is matched there: its synchronisers drop an image whose camera_info was lost, and of
    200 Hz poses beside images 150 ms late they match one in a hundred; after time went back they
    wait for stamps that come no more. The inbox matches instead, and the callback only enqueues.

    :returns: what node.destroy_subscription takes.
    """
    if message_filters is None:
        return node.create_subscription(kind, topic, callback, qos)
    source = message_filters.Subscriber(node, kind, topic, qos_profile=qos)
    source.registerCallback(callback)
    return source.sub


def sensor(depth: int) -> QoSProfile:
    """Give the quality of service that takes from every publisher: best effort."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
