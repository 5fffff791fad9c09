"""The dectrain command: what it says, where it says it, and how it ends."""

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time

from dectrain_ros.bags.reader import Bag
from dectrain_ros.cli import main
from lite_parts import write_bag, write_lite
import numpy as np
from processes import popen
import pytest

SMALL = ['--frames', '4', '--policies', 'never']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cli')
    write_bag(folder / 'bag', 6)
    write_lite(folder)
    return folder


@pytest.fixture(autouse=True)
def own_logging():
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers.clear()
    yield
    root.handlers[:] = before


def refused(arguments, capsys):
    """Run a command that must fail; gives its one line on stderr."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 1
    assert out == ''
    assert err.count('\n') == 1 and err.endswith('\n') and 'Traceback' not in err, err
    return err


def evaluation(folder, out, *more, bag='bag'):
    """Return the arguments of a small evaluation."""
    return ['evaluate', folder / bag, '--out', out, '--set', 'depth.device=cpu', '--set',
            f'depth.weights={folder / "random.safetensors"}', *more]


def run(arguments):
    """Run a command in this process."""
    main([str(a) for a in arguments])


def test_an_evaluation_ends_with_a_table_and_the_reports_path(folder, tmp_path, capsys):
    run(evaluation(folder, tmp_path / 'report', *SMALL))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ''
    assert lines[-1] == f'report: {tmp_path / "report" / "report.html"}'
    heading = next(line for line in lines if 'Policy' in line)
    # No heading is broken where the output is no terminal.
    assert all(word in heading for word in ('2nd half delta1', '2nd half AbsRel', 'GFLOP/frame'))
    assert any('never' in line for line in lines)
    report = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert report['runs'][0]['frames'] == 4


@pytest.mark.parametrize('more, message', [
    (['--policies', 'sometimes'], "'sometimes' is not a policy"),
    (['--policies', 'never', 'periodic:x'], "'periodic:x' is not a policy"),
    (['--seeds', '0'], 'seeds is 0'),
    (['--frames', '0'], 'frames 0'), (['--ground-truth-unit', '-1'], 'true depth is -1.0 m'),
    (['--start', '6'], 'has 6 images: start is 6'),
    (['--loops', '0'], 'loops 0'),
    (['--set', 'training.rate=1'], "there is no option 'training.rate'"),
    (['--set', 'training.learning_rate=5'], 'it must be between 0.0 and 1.0'),
    (['--set', 'training.learning_rate'], 'is not room.option=value'),
    (['--set', 'training.replay_frames=two'], "training.replay_frames is 'two'"),
    (['--set', 'depth.weights=missing.safetensors'], 'is no .safetensors file'),
    (['--set', 'depth.device=abacus'], "'abacus' cannot be used here"),
    (['--pose', '/nowhere'], '/nowhere is not in it'),
])
def test_a_bad_argument_is_one_line_and_nothing_is_written(
        folder, tmp_path, capsys, more, message):
    assert message in refused(evaluation(folder, tmp_path / 'report', *more), capsys)
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_one_line(folder, tmp_path, capsys):
    (tmp_path / 'w.safetensors').write_bytes(b'no weights')
    (tmp_path / 'w.json').write_text((folder / 'random.json').read_text())
    arguments = evaluation(
        folder, tmp_path / 'report', '--set', f'depth.weights={tmp_path / "w.safetensors"}')
    assert 'is not a readable safetensors file' in refused(arguments, capsys)


def copy_bag(folder, path, leave_out, spoil=(b'\0', b'\0')):
    """Copy the bag without topics with a word in them; spoil replaces bytes in what is left."""
    from rosbags.rosbag2 import Reader, Writer
    from rosbags.typesys import get_typestore, Stores
    types = get_typestore(Stores.ROS2_JAZZY)
    with Reader(folder / 'bag') as reader, Writer(path, version=8) as writer:
        kept = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=types)
                for c in reader.connections if leave_out not in c.topic}
        for connection, stamp, data in reader.messages():
            if connection.id in kept:
                writer.write(kept[connection.id], stamp, bytes(data).replace(*spoil))


@pytest.mark.parametrize('part, message', [
    ('image_raw', 'image'), ('pose', 'it has no camera poses'),
    ('camera_info', 'it has no CameraInfo topic')])
def test_a_bag_that_lacks_a_part_is_one_line(folder, tmp_path, capsys, part, message):
    copy_bag(folder, tmp_path / 'less', part)
    error = refused(evaluation(tmp_path, tmp_path / 'report', bag='less'), capsys)
    assert str(tmp_path / 'less') in error and message in error


def test_a_missing_and_a_damaged_bag_are_one_line(folder, tmp_path, capsys):
    assert 'does not exist' in refused(
        evaluation(folder, tmp_path / 'report', bag='missing'), capsys)
    (tmp_path / 'broken').mkdir()
    for file in (folder / 'bag').iterdir():
        data = file.read_bytes()
        (tmp_path / 'broken' / file.name).write_bytes(
            data if file.suffix == '.yaml' else data[:len(data) // 2])
    assert 'damaged or incomplete' in refused(
        evaluation(tmp_path, tmp_path / 'report', bag='broken'), capsys)


def test_an_out_that_is_a_file_is_refused_at_once_and_kept(folder, tmp_path, capsys):
    (tmp_path / 'taken').write_text('mine')
    for out in (tmp_path / 'taken', tmp_path / 'taken' / 'below'):
        assert 'is not a writable folder' in refused(
            evaluation(folder, out, *SMALL), capsys)
    assert (tmp_path / 'taken').read_text() == 'mine'


def test_a_later_run_that_fails_leaves_the_report_of_the_earlier_ones(folder, tmp_path, capsys):
    # Not one of its images can be decoded, which shows only once it is gone through.
    copy_bag(folder, tmp_path / 'spoilt', 'depth', (b'\xff\xd8', b'\x00\x00'))
    arguments = evaluation(folder, tmp_path / 'report', *SMALL)
    arguments.insert(2, tmp_path / 'spoilt')
    with pytest.raises(SystemExit) as end:
        run(arguments)
    assert end.value.code == 1
    assert 'none of 4 images on' in capsys.readouterr().err
    report = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert [(r['bag'], r['frames']) for r in report['runs']] == [('bag', 4)]


def test_an_interrupted_evaluation_keeps_finished_runs_and_exits_130(
        folder, tmp_path, capsys, monkeypatch):
    from dectrain_ros.evaluation import run as running
    start = running._Run.over

    def interrupted(self, *arguments):
        if self._policy_text == 'always':
            raise KeyboardInterrupt
        return start(self, *arguments)
    monkeypatch.setattr(running._Run, 'over', interrupted)
    with pytest.raises(SystemExit) as end:
        run(evaluation(folder, tmp_path / 'report', '--frames', '3'))
    assert end.value.code == 130
    assert capsys.readouterr().err == 'dectrain evaluate: interrupted\n'
    report = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert [r['policy'] for r in report['runs']] == ['never']


def test_a_report_is_overwritten_whole(folder, tmp_path):
    for frames in ('2', '3'):
        run(evaluation(folder, tmp_path, '--policies', 'never', '--frames', frames))
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [r['frames'] for r in report['runs']] == [3]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith('.')]


def test_synthesize_writes_a_bag_once(tmp_path, capsys):
    arguments = ['synthesize', tmp_path / 'bag', '--frames', '2', '--size', '32x24', '--place',
                 'room', '--seed', '3']
    run(arguments)
    out, err = capsys.readouterr()
    assert (out, err) == (f'{tmp_path / "bag"}: 2 frames\n', '')
    assert next(Bag(tmp_path / 'bag').frames()).frame.image.shape == (24, 32, 3)
    assert 'exists' in refused(arguments, capsys)


def test_synthesize_goes_through_several_places(tmp_path):
    run(['synthesize', tmp_path / 'bag', '--frames', '4', '--size', '32x24', '--place', 'room',
         'attic'])
    x = [r.frame.world_from_camera[0, 3] for r in Bag(tmp_path / 'bag').frames()]
    assert max(x[:2]) < 10 and min(x[2:]) > 90


@pytest.mark.parametrize('more, message', [
    (['--size', '320'], "--size '320' is not WIDTHxHEIGHT"),
    (['--size', '0x24'], 'size is 0x24'), (['--frames', '0'], 'frames is 0'),
    (['--rate', '-1'], 'rate -1.0 Hz'), (['--fov', '200'], 'field of view 200.0'),
    (['--seed', '-1'], 'seed -1'),
    (['--frames', '1', '--place', 'room', 'attic'], 'frames is 1 for 2 places')])
def test_an_impossible_walk_is_one_line_and_leaves_nothing(tmp_path, capsys, more, message):
    assert message in refused(['synthesize', tmp_path / 'bag', *more], capsys)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_synthesis_leaves_nothing(tmp_path, capsys, monkeypatch):
    from rich.progress import Progress

    def interrupted(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(Progress, 'update', interrupted)
    with pytest.raises(SystemExit) as end:
        run(['synthesize', tmp_path / 'bag', '--frames', '3', '--size', '32x24'])
    assert end.value.code == 130
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == 'dectrain synthesize: interrupted\n'


def test_pretrain_refuses_what_would_fail_after_hours(tmp_path, capsys):
    assert 'must end in .safetensors' in refused(
        ['pretrain', '--out', tmp_path / 'weights', '--work', tmp_path / 'w'], capsys)
    (tmp_path / 'file').write_text('')
    assert 'is not a writable folder' in refused(
        ['pretrain', '--out', tmp_path / 'file' / 'a.safetensors', '--work', tmp_path / 'w'],
        capsys)
    for name in ('encoder', 'photographs'):
        assert f'--{name} is for --network elastic' in refused(
            ['pretrain', '--out', tmp_path / 'a.safetensors', '--work', tmp_path / 'w',
             f'--{name}', tmp_path], capsys)
    assert not (tmp_path / 'w').exists()
    assert 'which licences' in refused(
        ['pretrain', '--network', 'elastic', '--photographs', tmp_path, '--rooms', '2', '--out',
         tmp_path / 'a.safetensors', '--work', tmp_path / 'w'], capsys)


@pytest.mark.parametrize('command, mistake', [
    ('evaluate', ''), ('sweep', ''), ('collect', ''), ('fit-decision', ''),     # no such files
    ('synthesize', '--size 1'), ('pretrain', '--out weights.txt')])
def test_the_examples_of_every_command_are_understood(
        command, mistake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([command, '--help'])
    lines = capsys.readouterr().out.splitlines()
    examples = lines[lines.index('examples:') + 1:]
    assert examples
    for example in examples:
        refused([*shlex.split(example)[1:], *mistake.split()], capsys)     # by status 1, not 2


def test_help_lists_options_without_loading_torch():
    code = ('import sys\nfrom dectrain_ros.cli import main\n'
            'try:\n    main(["evaluate", "--help"])\n'
            'finally:\n    assert "torch" not in sys.modules')
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    for option in ('--policies', '--seeds', '--out', '--frames', '--loops', '--set', '--pose'):
        assert option in found.stdout


def test_pixels_of_a_synthesized_bag_are_not_blank(folder):
    images = np.stack([r.frame.image for r in Bag(folder / 'bag').frames()])
    assert images.std() > 20


def test_a_killed_rendering_leaves_no_process_behind(tmp_path):
    command = popen(
        [sys.executable, '-m', 'dectrain_ros.cli', 'pretrain', '--rooms', '500', '--jobs',
         '2', '--out', str(tmp_path / 'lite.safetensors'), '--work', str(tmp_path)],
        start_new_session=True, stderr=subprocess.PIPE)
    try:
        rendered = tmp_path / 'views' / 'done.npy'
        until_s = time.monotonic() + 60
        while not (rendered.exists() and np.load(rendered).any()):
            assert time.monotonic() < until_s and command.poll() is None
            time.sleep(0.2)
        command.terminate()
        _, complaint = command.communicate(timeout=60)
        assert (command.returncode, complaint) == (130, b'dectrain pretrain: interrupted\n')
        with pytest.raises(ProcessLookupError):         # the whole group has ended
            until_s = time.monotonic() + 30
            while time.monotonic() < until_s:
                os.killpg(command.pid, 0)
                time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
