"""Steps on trial: how much training on a frame would bring, taken back at the end."""

from __future__ import annotations

from contextlib import contextmanager
import math
from typing import Iterator, NamedTuple

from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Sample
from dectrain_ros.training.batch import TrainingBatch
from dectrain_ros.training.batch_maker import JUDGES
from dectrain_ros.training.trainer import Trainer
import numpy as np


class Trial(NamedTuple):
    """
    Relative change of losses by the first step of a trial, negative is good; nan where unknown.

    frame: of the frame it is taken on. replay: of samples it is not taken on.
    """

    frame: float
    replay: float


@contextmanager
def trial(
    trainer: Trainer, sample: Sample, replay: ReplayBuffer[Sample], rng: np.random.Generator, *,
    steps: int, replay_frames: int
) -> Iterator[Trial]:
    """
    Try several steps on a sample; within the context frames are predicted by their weights.

    At the end weights and optimiser are as before. Features, cost, replay buffer and the random
    streams of training are not touched.

    :param rng: draws replayed samples, anew for every step.
    :param steps: at least one.
    """
    step, before = trainer.step, trainer.step.snapshot()
    judges = replay.draw(JUDGES, rng, exclude=(sample,))
    changes = {'frame': math.nan, 'replay': math.nan}
    try:
        for k in range(steps):
            replayed = replay.draw(replay_frames, rng, exclude=(sample, *judges))
            measured = {'frame': (sample,), 'replay': judges} if not k else {}
            losses = {name: step.loss_of(by) for name, by in measured.items() if by}
            step.take(TrainingBatch(sample, replayed))
            changes.update({name: step.loss_of(measured[name]) / loss - 1
                            for name, loss in losses.items() if loss > 0})
        trainer.weights.commit(step.parameters)
        yield Trial(**changes)
    finally:
        trainer.restore(before)
