"""What docs/TOPICS.md says of topics and services, and what views show, is what the nodes have."""

import importlib
import itertools
import json
from pathlib import Path
import re
from typing import NamedTuple

import pytest
import yaml

pytest.importorskip('rclpy')

from dectrain_ros.ros.decision_node import DecisionNode     # noqa: E402,I100,I202
from dectrain_ros.ros.depth_node import DepthNode       # noqa: E402
from rclpy.parameter import Parameter                   # noqa: E402
from ros_parts import wait_until                        # noqa: E402

pytest_plugins = ('ros_fixture',)
ROOT = Path(__file__).resolve().parent.parent
NODES = ('depth_node', 'decision_node')
NUMBERS = itertools.count()
TF = ('/tf', '/tf_static')
OF_EVERY_NODE = re.compile(
    r'/(rosout|parameter_events|clock|.*/(get|set|list|describe)_parameter.*'
    r'|.*/get_type_description)$')


class Row(NamedTuple):
    """A line of the table of docs/TOPICS.md."""

    node: str
    direction: str
    name: str
    types: frozenset


def table():
    """Return the table of docs/TOPICS.md, a line of both nodes as two."""
    text = (ROOT / 'docs' / 'TOPICS.md').read_text()
    text = text.partition('<!-- interface')[2].partition('<!-- end of interface -->')[0]
    found = []
    for line in text.splitlines()[3:]:
        node, direction, name, types = (cell.strip() for cell in line.split('|')[1:5])
        found += [Row(n, direction, name.strip('`'), frozenset(types.split(', ')))
                  for n in (NODES if node == 'both' else (node,))]
    assert len(found) > 20
    return found


def absolute(node, name):
    """Return a name as it is in the root namespace."""
    return name.replace('~', f'/{node}') if name[0] in '~/' else f'/{name}'


def has_tf():
    """Return whether messages of TF are installed."""
    return importlib.util.find_spec('tf2_msgs') is not None


def interface(node):
    """Return (direction, name, type) of what is the node's own, without namespace."""
    space = node.get_namespace()
    asked = {'in': node.get_subscriber_names_and_types_by_node,
             'out': node.get_publisher_names_and_types_by_node,
             'service': node.get_service_names_and_types_by_node}
    return {(direction, name.removeprefix(space), re.sub('/(msg|srv)/', '/', kind))
            for direction, ask in asked.items()
            for name, kinds in ask(node.get_name(), space) for kind in kinds
            if not OF_EVERY_NODE.match(name)}


def expected(node, chosen):
    """Return what the table says of a node; chosen are the types of those that come in several."""
    return {(row.direction, absolute(node, row.name), kind) for row in table()
            if row.node == node and (has_tf() or row.name not in TF)
            for kind in row.types if len(row.types) == 1 or kind in chosen}


def start(ros, kind, **overrides):
    """Start a node in a namespace of its own, as that of an earlier test may be known yet."""
    space = f'n{next(NUMBERS)}'
    node = kind(context=ros.context, namespace=space, parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()])
    node.start()
    return ros.add(node)


@pytest.mark.parametrize('transport, image, source, pose', [
    ('raw', 'sensor_msgs/Image', 'pose', 'geometry_msgs/PoseStamped'),
    ('compressed', 'sensor_msgs/CompressedImage', 'odometry', 'nav_msgs/Odometry'),
    ('raw', 'sensor_msgs/Image', 'pose_with_covariance',
     'geometry_msgs/PoseWithCovarianceStamped')])
def test_the_readme_lists_what_the_depth_node_has(ros, transport, image, source, pose):
    node = start(ros, DepthNode, **{
        'image.transport': transport, 'pose.source': source, 'depth.device': 'cpu'})
    wanted = expected('depth_node', {image, pose})
    wanted -= {('in', '/tf', 'tf2_msgs/TFMessage')}
    wait_until(lambda: interface(node) >= wanted)
    assert interface(node) == wanted


def test_the_readme_lists_what_the_depth_node_has_by_tf(ros):
    pytest.importorskip('tf2_msgs', reason='tf2_msgs is not installed: pose.source tf needs it')
    node = start(ros, DepthNode, **{'pose.source': 'tf', 'depth.device': 'cpu'})
    wanted = {row for row in expected('depth_node', {'sensor_msgs/Image'}) if row[1] != '/pose'}
    wait_until(lambda: interface(node) >= wanted)
    assert interface(node) == wanted


def test_the_readme_lists_what_the_decision_node_has(ros):
    node = start(ros, DecisionNode, **{'decision.policy': 'budget:0.25'})
    wanted = expected('decision_node', set())
    wait_until(lambda: interface(node) >= wanted)
    assert interface(node) == wanted


def test_every_type_the_readme_names_exists():
    for kind in {kind for row in table() for kind in row.types}:
        package, _, name = kind.partition('/')
        if package != 'tf2_msgs' or has_tf():
            folder = 'srv' if any(r.direction == 'service' and kind in r.types for r in table()) \
                else 'msg'
            assert hasattr(importlib.import_module(f'{package}.{folder}'), name), kind


def topics():
    """Return every topic the table names, absolute."""
    return {absolute(row.node, row.name) for row in table() if row.direction != 'service'}


def values(tree, key):
    """Return every value of a key, however deep."""
    if isinstance(tree, dict):
        yield from ([tree[key]] if key in tree else [])
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from values(part, key)


def test_rviz_shows_topics_the_nodes_have_relative_to_its_namespace():
    view = yaml.safe_load((ROOT / 'views' / 'depth.rviz').read_text())
    shown = {topic['Value'] for topic in values(view, 'Topic')}
    assert shown == {'image', 'depth/color', 'depth/image', 'depth/points'}
    assert {f'/{name}' for name in shown} <= topics()
    assert {t['Reliability Policy'] for t in values(view, 'Topic')} == {'Best Effort'}
    displays = view['Visualization Manager']['Displays']
    assert len({display['Name'] for display in displays}) == len(displays)


def test_foxglove_shows_topics_the_nodes_have_and_numbers_they_send():
    from dectrain_ros.frames import Decision, StepResult
    from dectrain_ros.ros import messages
    layout = json.loads((ROOT / 'views' / 'foxglove.json').read_text())
    panels = layout['configById']
    text = json.dumps(layout)
    shown = set(re.findall(r'"(/[a-z_/]+)', text))
    assert {'/image', '/depth/color', '/depth/points', '/diagnostics', '/training/decision',
            '/training/outcome'} <= shown <= topics()
    sent = {
        '/training/decision': messages.decision_message(Decision(1, True, '', 1., 1., 1.)),
        '/training/outcome': messages.outcome_message(StepResult(1, True, '', 1, 1., 1.))}
    plotted = set()
    for path in (path['value'] for plot in values(panels, 'paths') for path in plot):
        topic, key = re.fullmatch(
            r'(.*)\.status\[0\]\.values\[:\]\{key=="(.*)"\}\.value', path).groups()
        number, = (v.value for v in sent[topic].status[0].values if v.key == key)
        float(number)
        plotted.add(key)
    assert {'predicted_gain', 'cost', 'alpha', 'loss_before'} <= plotted
    placed = set(re.findall(r'"((?:Image|3D|Plot|DiagnosticSummary)![a-z]+)"',
                            json.dumps(layout['layout'])))
    assert placed == set(panels)
