"""Imports point one way between the rooms, and each outside library has its place."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'dectrain_ros'
FILES = sorted(PACKAGE.rglob('*.py'))
NOUNS = {'frames', 'config'}

# What each room may import of the others. Nouns know nothing of ours.
ARROWS = {
    'frames': set(), 'config': set(), 'assets': set(), 'checkpoints': set(),
    'sensing': NOUNS,
    'depth': {'frames', 'assets', 'checkpoints'},
    'memory': {'depth', 'frames'},
    'decision': {'frames', 'checkpoints'},
    'training': {'memory', 'depth', 'frames', 'checkpoints'},
    'pipeline': {'depth', 'decision', 'training', 'frames'},
    'composition': {'pipeline', 'checkpoints', 'depth', 'decision', 'memory', 'training'} | NOUNS,
    'bags': {'sensing'} | NOUNS,
    'evaluation': {'composition', 'pipeline', 'decision', 'depth', 'bags', 'checkpoints',
                   'assets'} | NOUNS,
    'synthetic': {'bags', 'depth', 'training', 'checkpoints', 'frames'},
    'cli': {'evaluation', 'synthetic', 'bags', 'decision'} | NOUNS,
    'ros': {'composition', 'pipeline', 'decision', 'sensing', 'checkpoints'} | NOUNS,
}
# Single files of a room that may know more, and exactly what: wiring, and the yardstick's
# features, which are measured with the network.
DOORS = {
    'ros/training_thread.py': {'training.worker'},
    'ros/diagnostics.py': {'training.trainer'},
    'evaluation/collect.py': {'training.trial'},
    'ros/tools/bag_player.py': {'bags.*'},
    'ros/tools/playlist.py': {'bags.*'},
    'ros/tools/launch_arguments.py': {'bags.*'},
    'ros/tools/live_evaluation.py': {'bags.*', 'evaluation.*'},
    'ros/tools/demo.py': {'bags.*', 'evaluation.*', 'synthetic.*'},
    'ros/tools/live_scores.py': {'bags.*', 'evaluation.*'},
    'ros/tools/live_costs.py': {'bags.*', 'evaluation.*'},
    'decision/published/measured_features.py': {'depth.*', 'memory.*'},
}
# Who may import decision.published, the yardstick, besides itself.
PUBLISHED_BY = ('decision/published/', 'decision/policies.py', 'decision/feature_sets.py',
                'composition.py', 'evaluation/', 'cli.py')
ROS = ('rclpy', 'tf2_ros', 'tf2_py', 'message_filters', 'cv_bridge', 'launch', 'launch_ros')


def imports(path):
    """Return every dotted name a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: imports are written in full'
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return name_of(path).partition('/')[0].removesuffix('.py')


def strangers(name, imported):
    """Return those of our modules that the file may not import."""
    room = name.partition('/')[0].removesuffix('.py')
    doors = DOORS.get(name, set())
    for dotted in imported:
        package, _, module = dotted.partition('.')
        target = module.partition('.')[0]
        if package != 'dectrain_ros' or not target or target in ARROWS[room] | {room}:
            continue
        if not any(module == door or module.startswith(f'{door}.') or door.endswith('*')
                   and module.startswith(door[:-1]) or door.startswith(f'{module}.')
                   for door in doors):
            yield dotted


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_imports_point_one_way(path):
    if name_of(path) == '__init__.py':
        assert list(imports(path)) == []
        return
    assert room_of(path) in ARROWS, 'a new room: say here and in the design whom it may know'
    assert list(strangers(name_of(path), imports(path))) == []


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_the_published_method_is_imported_by_tables_and_tools_only(path):
    if not name_of(path).startswith(PUBLISHED_BY):
        assert not [n for n in imports(path) if n.startswith('dectrain_ros.decision.published')]


def test_an_import_against_the_arrows_is_found():
    assert list(strangers('depth/losses.py', ['dectrain_ros.training.step', 'torch'])) == [
        'dectrain_ros.training.step']
    assert list(strangers('frames.py', ['dectrain_ros.config'])) == ['dectrain_ros.config']
    assert list(strangers('ros/inbox.py', ['dectrain_ros.training.worker'])) != []
    assert list(strangers('ros/training_thread.py', ['dectrain_ros.training.step'])) != []
    assert list(strangers('ros/training_thread.py', ['dectrain_ros.training.worker.Worker'])) == []
    assert list(strangers('ros/bag_player.py', ['dectrain_ros.bags.reader',
                                                'dectrain_ros.cli'])) != []
    assert list(strangers('pipeline.py', ['dectrain_ros.bags.reader'])) != []


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_each_outside_library_keeps_to_its_place(path):
    room, names = room_of(path), set(imports(path))
    tops = {n.partition('.')[0] for n in names}
    if room != 'ros':
        assert not {t for t in tops if t in ROS or t.endswith(('_msgs', '_srvs'))}
    if room != 'bags':
        assert 'rosbags' not in tops
    if not name_of(path).startswith('depth/networks/transformers'):
        assert not tops & {'transformers', 'huggingface_hub', 'tokenizers', 'PIL'}
    if room in ('frames', 'config', 'decision', 'sensing', 'checkpoints'):
        # For types only; and a decision is taken by NumPy alone, its network learns by torch.
        assert 'torch' not in tops or name_of(path) in (
            'frames.py', 'decision/published/learning.py',
            'decision/published/measured_features.py')
    assert not tops & {'torchvision', 'timm'}
    # The error alone may be named: it is how torch says that a file wants to run code.
    assert {n for n in names if n.startswith('pickle')} <= {'pickle', 'pickle.UnpicklingError'}
    assert 'import pickle' not in path.read_text()


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_no_device_is_written_down_and_nothing_unpickles(path):
    text = path.read_text()
    assert 'cuda:0' not in text and 'cuda()' not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'torch.load':
            assert any(k.arg == 'weights_only' and ast.unparse(k.value) == 'True'
                       for k in node.keywords), f'line {node.lineno}: torch.load unpickles'
