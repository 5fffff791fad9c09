"""Configuration rooms as ROS parameters: described, in range, and refused when misspelt."""

from __future__ import annotations

from dataclasses import dataclass
import difflib
from pathlib import Path
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from dectrain_ros.config import Config, Option, option, options, RENAMED, Room, ROOMS
from dectrain_ros.ros import qos_overrides
from rcl_interfaces.msg import FloatingPointRange, IntegerRange
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter


@dataclass(frozen=True)
class ImageConfig(Room):
    """How images come in (live)."""

    room = 'image'
    transport: str = option(
        'raw', 'Type of the image topic: raw (Image) or compressed (CompressedImage).',
        choices=('raw', 'compressed'))


def with_own_checkpoints(config: Config, node: Node) -> Config:
    """
    Return the configuration with checkpoints in a sub-folder of the node's namespace.

    Two cameras may be given the same parameters; the checkpoints of one are none of the other's.
    """
    folder, namespace = config.checkpoints.folder, node.get_namespace().strip('/')
    if not folder or not namespace:
        return config
    return config.replaced('checkpoints.folder', str(Path(folder) / namespace))


NODES = ('depth_node', 'decision_node')
SEED = Option('seed', 0, 'Seed of everything random.', 0, 2**31 - 1, (), False, NODES)
AUTOSTART = Option(
    'autostart', True, 'Configure and activate when started; else wait for lifecycle transitions.',
    None, None, (), False, NODES)
PLAIN = (AUTOSTART, SEED)               # options of no room, of every node
_OF_ROS = ('use_sim_time', 'start_type_description_service')
ALL_ROOMS = (*ROOMS, ImageConfig)


def options_of(kind: str) -> Iterator[Option]:
    """
    List the options that a node has as parameters, in declaration order.

    :param kind: one of NODES.
    """
    return (o for o in (*options(ALL_ROOMS), *PLAIN) if kind in o.nodes)


class Parameters:
    """
    The parameters of a node made with automatically_declare_parameters_from_overrides=True.

    :param node: where they are declared.
    :param kind: one of NODES, whose options the node has; an override for the other is left alone,
        so that nodes can share a parameter file.
    :param changed: called with the new configuration when a live option is set, and only then; a
        ValueError it raises rejects the set. Without it every parameter is read-only.
    :raises ValueError: if an override names no option, or its value is out of range.
    """

    def __init__(self, node: Node, kind: str,
                 changed: Optional[Callable[[Config], None]] = None):
        """Check the overrides, then declare every option."""
        known = list(options_of(kind))
        given = {name: p.value for name, p in node.get_parameters_by_prefix('').items()}
        _refuse_unknown(given, [o.name for o in (*options(ALL_ROOMS), *PLAIN)])
        values = {o.name: given[o.name] for o in known if o.name in given}
        self.rooms: Dict[str, Room] = {
            room.room: room(**_of_room(room.room, values)) for room in ALL_ROOMS
            if any(o.name.startswith(f'{room.room}.') for o in known)}
        qos_overrides.take_overrides(node, given, self._overridable(kind))
        self.autostart = _autostart(values.get(AUTOSTART.name, AUTOSTART.default))
        self.config = Config(
            seed=_seed(values.get(SEED.name, SEED.default)),
            **{room.room: self.rooms[room.room] for room in ROOMS if room.room in self.rooms})
        for name in set(given) - set(values) - set(_OF_ROS):
            if not name.startswith(qos_overrides.PREFIX):
                node.undeclare_parameter(name)          # another node's: setting it does nothing
        self._live = {o.name for o in known if o.live and changed is not None}
        self._changed, self._logger = changed, node.get_logger()
        for o in known:
            if o.name in given:
                node.undeclare_parameter(o.name)        # ROS declared it without a descriptor
            node.declare_parameter(
                o.name, self._value(o.name), _descriptor(o, o.name in self._live),
                ignore_override=True)
        node.add_on_set_parameters_callback(self._set)

    def _overridable(self, kind: str) -> List[Tuple[str, str]]:
        """List the topics whose quality of service parameters may set."""
        if kind != 'depth_node':
            return []
        by_topic = self.rooms['pose'].source != 'tf'
        heard = ['image', 'camera_info', *(['pose'] if by_topic else [])]
        return [*((name, 'subscription') for name in heard), ('depth/image', 'publisher')]

    def _value(self, name: str):
        room, _, key = name.partition('.')
        if key:
            return getattr(self.rooms[room], key)
        return self.autostart if name == AUTOSTART.name else self.config.seed

    def _set(self, parameters: List[Parameter]) -> SetParametersResult:
        """Set all of the new values, or none and return why."""
        changes = [p for p in parameters if p.name in self._live]
        config = self.config
        try:
            for p in changes:
                config = config.replaced(p.name, p.value)
            if changes:
                self._changed(config)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.config = config
        for p in changes:
            self._logger.info(f'{p.name} is set to {p.value}')
        return SetParametersResult(successful=True)


def _of_room(room: str, values: Dict[str, Any]) -> Dict[str, Any]:
    prefix = f'{room}.'
    return {name[len(prefix):]: v for name, v in values.items() if name.startswith(prefix)}


def _seed(value) -> int:
    if type(value) is not int or not SEED.low <= value <= SEED.high:
        raise ValueError(
            f'seed is {value!r}: it must be a whole number from {SEED.low} to {SEED.high}')
    return value


def _autostart(value) -> bool:
    if type(value) is not bool:
        raise ValueError(f'autostart is {value!r}: it must be true or false')
    return value


def _refuse_unknown(given: Iterable[str], known: List[str]) -> None:
    """Raise ValueError for overrides that name no option, with what was probably meant."""
    for name in sorted(given):
        if name in known or name in _OF_ROS or name.startswith(qos_overrides.PREFIX):
            continue
        if name in RENAMED:
            raise ValueError(f'parameter {name!r} is now called {RENAMED[name]}: use that name')
        close = difflib.get_close_matches(name, known, n=3)
        hint = f'did you mean {" or ".join(close)}?' if close else f'known: {", ".join(known)}'
        raise ValueError(f'there is no parameter {name!r}: {hint}')


def _descriptor(o: Option, live: bool) -> ParameterDescriptor:
    """Describe one option; a double may be set by an integer, as people write 800 for 800.0."""
    is_float = isinstance(o.default, float)
    descriptor = ParameterDescriptor(
        name=o.name, description=o.help, read_only=not live, dynamic_typing=is_float)
    if o.choices:
        descriptor.additional_constraints = f'one of {", ".join(o.choices)}'
    if o.low is None and o.high is None:
        return descriptor
    if is_float:
        most = sys.float_info.max
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=float(-most if o.low is None else o.low),
            to_value=float(most if o.high is None else o.high))]
    else:
        most = 2**63 - 1
        descriptor.integer_range = [IntegerRange(
            from_value=int(-most if o.low is None else o.low),
            to_value=int(most if o.high is None else o.high), step=1)]
    return descriptor
