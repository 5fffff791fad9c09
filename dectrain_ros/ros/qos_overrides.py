"""Quality of service by parameters: `qos_overrides./topic.subscription.depth`."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Tuple

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

PREFIX = 'qos_overrides.'
_POLICIES = {'history': HistoryPolicy, 'reliability': ReliabilityPolicy,
             'durability': DurabilityPolicy}
_NAMES = ('history', 'depth', 'reliability', 'durability')


def by_parameters() -> QoSOverridingOptions:
    """Return the option with which parameters can set the policies of a topic."""
    return QoSOverridingOptions([QoSPolicyKind[name.upper()] for name in _NAMES])


def take_overrides(node: Node, given: Mapping[str, Any], topics: Iterable[Tuple[str, str]]
                   ) -> None:
    """
    Check the overrides, and undeclare them: rclpy declares them with the topic.

    :param given: every parameter override by name.
    :param topics: name, and 'subscription' or 'publisher', of the topics that can be overridden.
    :raises ValueError: with an override that would have no effect, or an invalid value.
    """
    known = [f'{PREFIX}{node.resolve_topic_name(name)}.{end}' for name, end in topics]
    for name in sorted(name for name in given if name.startswith(PREFIX)):
        topic, _, policy = name.rpartition('.')
        if topic not in known or policy not in _NAMES:
            where = (f'known: {", ".join(known)}, each followed by .{", .".join(_NAMES)}'
                     if known else 'they belong under depth_node in the parameter file')
            raise ValueError(f'parameter {name!r} overrides nothing: {where}')
        _check(name, policy, given[name])
        node.undeclare_parameter(name)      # ROS declared it without a descriptor


def _check(name: str, policy: str, value: Any) -> None:
    if policy == 'depth':
        if type(value) is not int or value < 1:
            raise ValueError(f'{name} is {value!r}: it must be a whole number from 1 on')
        return
    choices = [choice.name.lower() for choice in _POLICIES[policy] if choice.name != 'UNKNOWN']
    if value not in choices:
        raise ValueError(f'{name} is {value!r}: it must be one of {", ".join(choices)}')
