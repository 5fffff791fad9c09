"""Read the parameters of running nodes through their parameter services."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from dectrain_ros.config import Config, options
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter

_EVERY_S = 0.5


class Settings:
    """
    The parameters of running nodes, each asked for once the node is there.

    :param node: asks for them, and must be spun.
    :param others: names of the nodes to ask, in its namespace.
    """

    def __init__(self, node: Node, others: Sequence[str]):
        """Look for the nodes now and then."""
        self._values: Dict[str, Dict[str, Any]] = {}            # of the nodes that answered
        self._lists = {other: node.create_client(ListParameters, f'{other}/list_parameters')
                       for other in others}
        self._gets = {other: node.create_client(GetParameters, f'{other}/get_parameters')
                      for other in others}
        node.create_timer(_EVERY_S, self._ask, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def complete(self) -> bool:
        """Whether every node has answered."""
        return self._values.keys() == self._lists.keys()

    @property
    def config(self) -> Config:
        """
        The configuration of all nodes together.

        :raises ValueError: if a node has not answered.
        """
        silent = [other for other in self._lists if other not in self._values]
        if silent:
            raise ValueError(f'{" and ".join(silent)} did not answer with parameters: is it '
                             'running, in this namespace?')
        config, known = Config(), {o.name for o in options()}
        for values in self._values.values():
            for name in known & values.keys():
                config = config.replaced(name, values[name])
        seeds = [values['seed'] for values in self._values.values() if 'seed' in values]
        return config.with_seed(seeds[0]) if seeds else config

    def _ask(self) -> None:
        """Ask the nodes that have not answered; if an answer was lost, ask again."""
        for other in self._lists.keys() - self._values.keys():
            if self._lists[other].service_is_ready() and self._gets[other].service_is_ready():
                self._lists[other].call_async(ListParameters.Request()).add_done_callback(
                    lambda listed, other=other: self._get(other, listed.result().result.names))

    def _get(self, other: str, names: Sequence[str]) -> None:
        def take(got) -> None:
            values = got.result().values
            if len(values) == len(names):       # else one is gone since they were listed
                self._values[other] = {name: Parameter.from_parameter_msg(
                    ParameterMessage(name=name, value=value)).value
                    for name, value in zip(names, values)}
        request = GetParameters.Request(names=names)
        self._gets[other].call_async(request).add_done_callback(take)
