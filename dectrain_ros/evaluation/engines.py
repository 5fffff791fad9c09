"""Run jobs in parallel, in processes of this machine or on a Ray cluster."""

from __future__ import annotations

from collections import deque
from concurrent.futures import BrokenExecutor, Executor, FIRST_COMPLETED, Future, wait
import math
import os
import signal
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Protocol, Sequence, Tuple

from joblib.externals.loky import ProcessPoolExecutor

ENGINES = ('local', 'ray')


class Ended(NamedTuple):
    """The end of a job: its place in the list, and its value, or why it failed."""

    index: int
    value: Any = None
    failure: str = ''


class Engine(Protocol):
    """Runs many jobs, several at a time."""

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Ended]:
        """
        Do the work on every job in another process; yields each job as it ends, in any order.

        A job that fails, or whose process dies, does not affect the others. Closing the iterator
        ends the processes.

        :param work: a module's function, which can be pickled.
        :param jobs: its arguments, which can be pickled.
        """


def make_engine(name: str, jobs: int, threads: int, device: str = 'auto') -> Engine:
    """
    Make an engine by name.

    :param jobs: how many run at a time.
    :param threads: CPU threads of each.
    :param device: torch device that the jobs use.
    :raises ValueError: if there is none of that name, jobs is below 1, or Ray is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f'engine {name!r} is unknown: use {" or ".join(ENGINES)}')
    if jobs < 1:
        raise ValueError(f'jobs is {jobs}: it must be at least 1')
    return LocalEngine(jobs) if name == 'local' else RayEngine(jobs, threads, device)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    text = ' '.join(str(error).split())
    return text if text and isinstance(error, ValueError) else f'{type(error).__name__}: {text}'


class LocalEngine:
    """
    Processes of this machine.

    Each has its own executor, so that a process that dies, out of memory say, ends no other.
    """

    def __init__(self, jobs: int):
        """Keep the number of jobs to run at a time; nothing is started yet."""
        self._jobs = jobs

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Ended]:
        """Do the work on every job; see Engine."""
        waiting = deque(enumerate(jobs))
        lanes: List[Executor] = []
        idle: List[Executor] = []
        busy: Dict[Future, Tuple[int, Executor]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self._jobs:
                    if not idle:
                        lanes.append(ProcessPoolExecutor(1, initializer=_leave_interrupts))
                        idle.append(lanes[-1])
                    index, job = waiting.popleft()
                    lane = idle.pop()
                    busy[lane.submit(work, job)] = index, lane
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    index, lane = busy.pop(future)
                    error = future.exception()
                    if not isinstance(error, BrokenExecutor):
                        idle.append(lane)
                    yield Ended(index, failure=one_line(error)) if error else Ended(
                        index, future.result())
        finally:
            for lane in lanes:
                lane.shutdown(wait=True, kill_workers=True)


def _leave_interrupts() -> None:
    """Ignore Ctrl-C: it reaches every process of a terminal, and the parent ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class RayEngine:
    """
    A Ray cluster: that of RAY_ADDRESS if set, else one on this machine, ended afterwards.

    Every machine of a cluster needs this package, and bags and weights at the same paths.
    """

    def __init__(self, jobs: int, threads: int, device: str = 'auto'):
        """
        Import Ray; nothing is started yet.

        :raises ValueError: if it is not installed.
        """
        try:
            import ray
        except ImportError:
            raise ValueError('engine ray needs Ray, which is not installed: '
                             'pip install dectrain_ros[ray]') from None
        self._ray, self._jobs, self._threads, self._device = ray, jobs, threads, device

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Ended]:
        """Do the work on every job; see Engine."""
        ray, waiting = self._ray, deque(enumerate(jobs))
        busy: Dict[Any, int] = {}
        try:
            remote = self._connected(work)
            while waiting or busy:
                while waiting and len(busy) < self._jobs:
                    index, job = waiting.popleft()
                    busy[remote.remote(job)] = index
                for reference in ray.wait(list(busy))[0]:
                    index = busy.pop(reference)
                    try:
                        ended = Ended(index, ray.get(reference))
                    except ray.exceptions.RayTaskError as error:
                        ended = Ended(index, failure=one_line(getattr(error, 'cause', error)))
                    except ray.exceptions.RayError as error:
                        ended = Ended(index, failure=one_line(error))
                    yield ended
        finally:
            for reference in busy:              # else a cluster would finish them
                ray.cancel(reference, force=True)
            ray.shutdown()

    def _connected(self, work: Callable[[Any], Any]) -> Any:
        """Connect, and return the work as a Ray function; a GPU that no job asks for is hidden."""
        ray, cluster = self._ray, os.environ.get('RAY_ADDRESS')
        if cluster:
            ray.init(cluster, logging_level='ERROR')
        else:
            ray.init('local', num_cpus=self._jobs, include_dashboard=False, logging_level='ERROR')
        gpus = 0 if self._device == 'cpu' else ray.cluster_resources().get('GPU', 0)
        return ray.remote(
            num_cpus=self._threads if cluster else 1, max_retries=0,
            num_gpus=1 / math.ceil(self._jobs / gpus) if gpus else 0)(work)
