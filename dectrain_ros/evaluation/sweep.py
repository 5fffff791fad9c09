"""Run many policies on many bags with many seeds; an interrupted sweep can be continued."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
import hashlib
import json
import logging
from pathlib import Path
import re
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from dectrain_ros import assets
from dectrain_ros.checkpoints.files import write_json
from dectrain_ros.config import Config
from dectrain_ros.decision.policies import BY_ALPHA, PREDICTING
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.evaluation.engines import Engine
from dectrain_ros.evaluation.results import versions
from dectrain_ros.evaluation.run import distinct_names, evaluate, opened, Plan, policy_of
from dectrain_ros.evaluation.sweep_results import aggregate, Point, PointResult
from joblib import cpu_count

_SHIPPED = Path(assets.__file__).parent
_SUMMARY = {'share_trained', 'delta1', 'absrel', 'rmse', 'gflops_per_frame', 'ms_per_frame'}

logger = logging.getLogger(__name__)


class SweepPlan(NamedTuple):
    """
    The policies, budgets, bags and seeds of a sweep.

    alphas: values of alpha for each named policy that uses it, or for dectrain if none does; empty
    takes the configured value. seeds: runs of each policy on every bag; never is run once, as it
    uses no random numbers. start, frames, loops and ground_truth_unit_m are those of Plan; jobs:
    runs at a time.
    """

    bags: Tuple[Path, ...]
    policies: Tuple[str, ...]
    alphas: Tuple[float, ...] = ()
    budgets: Tuple[str, ...] = ()
    seeds: int = 3
    start: int = 0
    frames: Optional[int] = None
    loops: int = 1
    jobs: int = 1
    ground_truth_unit_m: float = 0.001

    def as_dict(self) -> dict:
        """Return plain values, for JSON."""
        return {**self._asdict(), 'bags': [str(path) for path in self.bags]}


class Job(NamedTuple):
    """One run: bag is its name in the sweep; plan and config are the arguments of `evaluate`."""

    point: Point
    bag: str
    seed: int
    plan: Plan
    config: Config

    @property
    def label(self) -> str:
        """Name of the run for people."""
        return f'{self.bag} {self.point.label} seed {self.seed}'


class _Silence:
    """Shows no progress of frames: a sweep counts runs."""

    def start(self, name: str, frames: int) -> None:
        """Do nothing."""

    def advance(self) -> None:
        """Do nothing."""


def run_job(job: Job) -> dict:
    """
    Run a job in this process, as `dectrain evaluate` does.

    :returns: the summary of the run.
    :raises ValueError: if it cannot be run, or not one frame could be used.
    """
    run, = evaluate(job.plan, job.config, _Silence())
    if not run.records:
        raise ValueError(f'{run.bag} has no frame to use: {run.skipped}')
    return run.summary()


class Sweep:
    """
    A sweep with its results in a folder; finished runs are not repeated.

    :param directory: its sub-folder `runs` holds one file for each finished run.
    :raises ValueError: if a bag, policy, number or option is not usable.
    """

    def __init__(self, plan: SweepPlan, config: Config, directory: Path):
        """Check the plan, list the runs and read those that are finished; nothing is written."""
        if plan.jobs < 1:
            raise ValueError(f'jobs is {plan.jobs}: it must be at least 1')
        if not config.depth.threads:
            config = config.replaced('depth.threads', max(1, cpu_count() // plan.jobs))
        self.plan, self.config, self.points = plan, config, _points(plan, config)
        _check(plan, config, self.points)
        self.bags = tuple(distinct_names(plan.bags))
        self.jobs = tuple(self._list())
        self._folder = directory / 'runs'
        digest = lru_cache(maxsize=None)(_digest)       # many jobs share few files
        self._keys = {job: _key(job, digest) for job in self.jobs}
        stored = {job: _stored(self._file(job), key) for job, key in self._keys.items()}
        self._found = {job: summary for job, summary in stored.items() if summary is not None}

    def _list(self) -> Iterator[Job]:
        """Yield all jobs, seed by seed: an interrupted sweep has every point with some seeds."""
        plan = self.plan
        for seed in range(plan.seeds):
            for point in self.points:
                config = _config_of(point, self.config)
                for name, path in zip(self.bags, plan.bags):
                    if seed == 0 or point.policy != 'never':
                        yield Job(point, name, seed, Plan(
                            (path,), (point.policy,), start=plan.start, frames=plan.frames,
                            loops=plan.loops, first_seed=seed,
                            ground_truth_unit_m=plan.ground_truth_unit_m), config)

    @property
    def done(self) -> int:
        """Count the finished jobs."""
        return len(self._found)

    def run(self, engine: Engine, on_end: Callable[[Job, str], None]) -> Dict[Job, str]:
        """
        Run what is not finished.

        :param on_end: is called with every job as it ends, and why it failed or ''.
        :returns: the jobs that failed, and why.
        :raises KeyboardInterrupt: if interrupted, saying how much is done.
        :raises OSError: if a result cannot be written.
        """
        left = [job for job in self.jobs if job not in self._found]
        failed: Dict[Job, str] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with closing(engine.run(run_job, left)) as ended:
                for end in ended:
                    job = left[end.index]
                    if end.failure:
                        failed[job] = end.failure
                    else:
                        self._keep(job, end.value)
                    on_end(job, end.failure)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f'{self.done} of {len(self.jobs)} runs are done and kept; the same command goes '
                'on from there') from None
        return failed

    def _keep(self, job: Job, summary: dict) -> None:
        write_json(self._file(job), {'key': self._keys[job], 'run': summary})
        self._found[job] = summary

    def _file(self, job: Job) -> Path:
        """Name a job's file: for people, then by all that determines its numbers."""
        text = json.dumps(self._keys[job], sort_keys=True)
        readable = re.sub(r'[^A-Za-z0-9._=-]+', '-', job.label)
        return self._folder / f'{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json'

    def results(self) -> List[PointResult]:
        """Put together what is finished."""
        return aggregate(self.points, self.bags, {
            (job.point, job.bag, job.seed): summary for job, summary in self._found.items()})


def _points(plan: SweepPlan, config: Config) -> Tuple[Point, ...]:
    """List what to run, each once."""
    points = [Point(p) for p in plan.policies if p not in BY_ALPHA]
    steered = [p for p in plan.policies if p in BY_ALPHA]
    points += [Point(p, float(alpha)) for p in steered or BY_ALPHA[:1]
               for alpha in plan.alphas or (config.decision.alpha,)[:len(steered)]]
    points += [Point(f'budget:{budget}') for budget in plan.budgets]
    return tuple(dict.fromkeys(points))


def _config_of(point: Point, config: Config) -> Config:
    return config if point.alpha is None else config.replaced('decision.alpha', point.alpha)


def _check(plan: SweepPlan, config: Config, points: Tuple[Point, ...]) -> None:
    """Refuse before the first run what a run would refuse."""
    if not plan.bags:
        raise ValueError('no bag is named: give at least one')
    load_network(config.depth.network, config.depth.weights, config.depth.input_size)
    for point in points:
        policy_of(point.policy, _config_of(point, config))
    opened(Plan(plan.bags, tuple(p.policy for p in points), plan.seeds, plan.start, plan.frames,
                plan.loops, ground_truth_unit_m=plan.ground_truth_unit_m), config)


def _key(job: Job, digest: Callable[[Path], str]) -> dict:
    """Return everything that determines a run's numbers, in the types that JSON reads back."""
    config, depth, decision = job.config.as_dict(), job.config.depth, job.config.decision
    files = [Path(depth.weights) if depth.weights else _SHIPPED / 'lite.safetensors']
    if job.point.family in PREDICTING:
        shipped = _SHIPPED / f'gain_{job.config.decision.features}.safetensors'
        files.append(Path(decision.gain_file) if decision.gain_file else shipped)
    elif job.point.family != 'oracle':
        del config['decision']          # other policies do not look at it
    bag = job.plan.bags[0]
    return json.loads(json.dumps({
        'bag': bag.name, 'bag_bytes': sum(path.stat().st_size for path in _files(bag)),
        'policy': job.point.policy, 'alpha': job.point.alpha, 'seed': job.seed,
        'start': job.plan.start, 'frames': job.plan.frames, 'loops': job.plan.loops,
        'ground_truth_unit_m': job.plan.ground_truth_unit_m,
        'config': config, 'contents': [digest(path) for path in files],
        'versions': versions()}))


def _files(path: Path) -> List[Path]:
    return sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder."""
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _stored(path: Path, key: dict) -> Optional[dict]:
    """Read a finished run; None if there is none, or, with a warning, if it is unusable."""
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict) or stored.get('key') != key:
            raise ValueError('it is of another run')
        if not isinstance(stored.get('run'), dict) or not _SUMMARY <= set(stored['run']):
            raise ValueError('it lacks numbers')
        return stored['run']
    except (OSError, ValueError) as error:
        logger.warning('%s is damaged, its run is done again: %s', path, error)
        return None
