"""Subscriptions, by message_filters where it is installed."""

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
    Subscribe, as the source of a message filter where there are message filters.

    Parameters `qos_overrides.*` go before qos.

    Nothing is matched there. Its synchronisers lose the image whose camera_info was lost, match
    none of 150 images 150 ms late with poses at 200 Hz and the usual queue of 10, none of 300
    after time went back on full queues, and nothing ever again once a callback raised. The inbox
    matches instead, and the callback only enqueues.

    :returns: what node.destroy_subscription takes.
    """
    if message_filters is None:
        return node.create_subscription(
            kind, topic, callback, qos, qos_overriding_options=by_parameters())
    source = message_filters.Subscriber(
        node, kind, topic, qos_profile=qos, qos_overriding_options=by_parameters())
    source.registerCallback(callback)
    return source.sub


def sensor(depth: int) -> QoSProfile:
    """Return the quality of service that takes from every publisher: best effort."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
