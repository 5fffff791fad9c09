"""The package as it is installed: names, files and versions agree with each other."""

import ast
from glob import glob
import importlib
import importlib.util
from pathlib import Path
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from dectrain_ros.config import CheckpointsConfig, Config, options, ROOMS
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MESSAGES = ('_msgs', '_srvs', '_interfaces')
FROM_ROS = ('rclpy', 'message_filters', 'launch', 'launch_ros')
KEYS = {'cv2': 'python3-opencv', 'yaml': 'python3-yaml', 'numpy': 'python3-numpy',
        'scipy': 'python3-scipy', 'matplotlib': 'python3-matplotlib', 'rich': 'python3-rich',
        'jinja2': 'python3-jinja2'}


def setup_arguments():
    """Return what setup.py hands to setup(), without installing anything."""
    given = {}
    text = (ROOT / 'setup.py').read_text().replace(
        'from setuptools import find_packages, setup', 'from setuptools import find_packages')
    exec(compile(text, 'setup.py', 'exec'), {'setup': given.update})
    return given


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def imported():
    """Return the top-level names that package and launch file import."""
    names = set()
    for path in [*ROOT.glob('dectrain_ros/**/*.py'), *ROOT.glob('launch/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition('.')[0])
    return names


def test_package_xml_and_setup_py_name_one_package():
    given = setup_arguments()
    assert manifest().findtext('name') == given['name'] == 'dectrain_ros'
    assert manifest().findtext('version') == given['version']
    assert manifest().findtext('license') == given['license'] == 'Apache-2.0'
    assert manifest().get('format') == '3'
    assert manifest().findtext('export/build_type') == 'ament_python'


def test_package_xml_names_a_maintainer_and_a_page_that_can_be_reached():
    email, url = manifest().find('maintainer').get('email'), manifest().findtext('url')
    if email.endswith('.invalid') or url is None:
        pytest.xfail('set url and maintainer in package.xml before a release')
    assert '@' in email and url.startswith('https://')


def test_package_xml_declares_every_ros_and_system_package_that_is_imported():
    declared = {d.text for tag in ('depend', 'exec_depend') for d in manifest().findall(tag)}
    wanted = {n for n in imported() if n in FROM_ROS or n.endswith(MESSAGES)}
    wanted |= {KEYS[n] for n in imported() if n in KEYS}
    assert wanted - declared == set()


def test_setup_py_requires_every_pip_package_that_is_imported():
    required = {r.partition('>=')[0] for r in setup_arguments()['install_requires']}
    found = {'pyyaml' if n == 'yaml' else n for n in imported()}
    assert {n for n in found if n in (
        'torch', 'numpy', 'scipy', 'rosbags', 'safetensors', 'rich', 'jinja2', 'matplotlib',
        'pyyaml')} <= required
    assert all('opencv' not in r for r in required)     # pip cannot see the system's


def test_pip_is_not_asked_to_replace_what_the_machine_has():
    assert all('==' not in r and '<' not in r for r in setup_arguments()['install_requires'])


def test_every_executable_is_a_function():
    for line in setup_arguments()['entry_points']['console_scripts']:
        name, _, place = line.partition(' = ')
        module, _, function = place.partition(':')
        assert callable(getattr(importlib.import_module(module), function)), name


def test_every_file_to_install_is_there():
    given = setup_arguments()
    installed = dict(given['data_files'])
    assert all((ROOT / path).is_file() for files in installed.values() for path in files)
    assert installed['share/ament_index/resource_index/packages'] == ['resource/dectrain_ros']
    assert set(installed['share/dectrain_ros/launch']) == set(glob('launch/*.launch.py'))
    assert set(installed['share/dectrain_ros/views']) == set(glob('views/*'))
    assert set(installed['share/dectrain_ros/config']) == set(
        glob('config/*.yaml') + ['config/fastdds.xml'])
    assert 'test' not in given['packages'] and 'dectrain_ros.ros' in given['packages']
    for package, patterns in given['package_data'].items():
        folder = ROOT / package.replace('.', '/')
        kept = {p for pattern in patterns for p in folder.glob(pattern)}
        assert {p for p in folder.rglob('*') if p.suffix in (
            '.safetensors', '.json', '.j2')} == kept, package


def test_requirements_pin_everything():
    lines = [line for line in (ROOT / 'requirements.txt').read_text().splitlines()
             if line and not line.startswith('#')]
    assert lines and all('==' in line for line in lines)
    pinned = {line.partition('==')[0].partition('[')[0] for line in lines}
    given = setup_arguments()
    needed = [*given['install_requires'], *given['extras_require']['transformers']]
    assert {r.partition('>=')[0] for r in needed} <= pinned


def generator():
    """Load config/generate.py."""
    spec = importlib.util.spec_from_file_location('generate', ROOT / 'config' / 'generate.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(name):
    """Return {node: {'room.option': value}} of a parameter file."""
    found = {}
    for node, content in yaml.safe_load((ROOT / 'config' / name).read_text()).items():
        flat = found[node.rpartition('/')[2]] = {}
        for room, value in content['ros__parameters'].items():
            flat.update({f'{room}.{k}': v for k, v in value.items()}
                        if isinstance(value, dict) else {room: value})
    return found


def test_the_parameter_file_holds_every_default():
    nodes = parameters('dectrain.yaml')
    assert set(nodes) == {'depth_node', 'decision_node'}
    assert [nodes[n].pop('seed') for n in sorted(nodes)] == [Config().seed] * 2
    assert [nodes[n].pop('autostart') for n in sorted(nodes)] == [True] * 2
    assert nodes['depth_node'].pop('image.transport') == 'raw'
    both = set(nodes['depth_node']) & set(nodes['decision_node'])
    assert both == {o.name for o in options((CheckpointsConfig,))}
    merged = {**nodes['depth_node'], **nodes['decision_node']}
    assert merged == {o.name: o.default for o in options(ROOMS)}
    assert {k: type(v) for k, v in merged.items()} == {
        o.name: type(o.default) for o in options(ROOMS)}    # ROS takes no 1 for a 1.0


def test_the_parameter_file_is_as_make_docs_writes_it():
    assert (ROOT / 'config' / 'dectrain.yaml').read_text() == generator().parameters_yaml()


def test_the_page_of_options_lists_every_option_as_it_is():
    text = (ROOT / 'docs' / 'OPTIONS.md').read_text()
    assert generator().with_table(text) == text, 'run make docs'
    assert all(f'| `{o.name}` |' in text for o in options(ROOMS))
    with pytest.raises(ValueError, match='docs/OPTIONS.md lacks <!-- options'):
        generator().with_table('no table here')


@pytest.mark.parametrize('profile', ['cpu.yaml', 'jetson.yaml'])
def test_a_profile_names_known_options_and_only_what_differs(profile):
    defaults, config = parameters('dectrain.yaml'), Config()
    for node, values in parameters(profile).items():
        for name, value in values.items():
            config = config.replaced(name, value)       # in range
            assert value != defaults[node][name]        # KeyError: wrong node


def colcon(folder, *arguments):
    """Run colcon in a workspace."""
    done = subprocess.run(
        [sys.executable, '-m', 'colcon', '--log-base', 'log', *arguments], cwd=folder,
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """Build the package, with one file of its tests, in a workspace of its own."""
    if not importlib.util.find_spec('colcon_ros'):
        pytest.skip('colcon is not installed in this environment')
    workspace = tmp_path_factory.mktemp('workspace')
    source = workspace / 'src' / 'dectrain_ros'
    for name in ('dectrain_ros', 'config', 'launch', 'resource', 'views'):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    (source / 'test').mkdir()
    for name in ('package.xml', 'setup.py', 'setup.cfg', 'pyproject.toml', 'test/test_config.py'):
        shutil.copy(ROOT / name, source / name)
    colcon(workspace, 'build')
    return workspace


def test_colcon_test_runs_the_suite(workspace):
    colcon(workspace, 'test')
    results = workspace / 'build' / 'dectrain_ros' / 'pytest.xml'
    suite, = ElementTree.parse(results).getroot().iter('testsuite')
    assert int(suite.get('tests')) > 10 and suite.get('failures') == suite.get('errors') == '0'


def test_colcon_installs_executables_launch_and_parameters(workspace):
    prefix = workspace / 'install' / 'dectrain_ros'
    assert {p.name for p in (prefix / 'lib' / 'dectrain_ros').iterdir()} == {
        'depth_node', 'decision_node', 'bag_player', 'live_evaluation', 'dectrain',
        'dectrain_demo'}
    share = prefix / 'share' / 'dectrain_ros'
    assert (share / 'launch' / 'online_depth.launch.py').is_file()
    assert (share / 'config' / 'dectrain.yaml').is_file()
    assert (share / 'config' / 'fastdds.xml').is_file()
    assert (share / 'views' / 'depth.rviz').is_file()
    assert list(prefix.rglob('templates/report.html.j2'))
    weights = glob('dectrain_ros/assets/*.safetensors')
    assert len(list((prefix / 'lib').rglob('*.safetensors'))) == len(weights)
