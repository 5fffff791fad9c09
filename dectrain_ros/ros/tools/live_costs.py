"""The nodes' pipeline with the weights before any training: its pictures, and what work costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import math
from typing import Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.bags.reader import Recorded
from dectrain_ros.composition import compose
from dectrain_ros.config import CheckpointsConfig, Config
from dectrain_ros.evaluation.costs import Costs
from dectrain_ros.evaluation.measure import picture
from dectrain_ros.evaluation.results import Amounts, FrameRecord, Picture
from dectrain_ros.frames import StepResult
from dectrain_ros.ros.messages import Origin
import numpy as np


class Pictured(NamedTuple):
    """A frame of which a picture is shown, and the depth that the nodes published."""

    index: int
    recorded: Recorded
    depth: np.ndarray


class ShippedPipeline:
    """
    A pipeline as the nodes compose it, but never trained.

    :param config: of the nodes. Checkpoints are left out: resuming would load adapted weights.
    """

    def __init__(self, config: Config):
        """Load the network."""
        self._pipeline = compose(replace(
            config.replaced('decision.features', 'none'), checkpoints=CheckpointsConfig()))
        self._counts_decision = config.decision.features != 'reference'

    def pictures(self, shown: Sequence[Pictured]) -> Tuple[Picture, ...]:
        """Return pictures of the shipped weights' depth beside the depth that was published."""
        return tuple(picture(
            index, recorded.frame.image, self._pipeline.observe(recorded.frame).depth, depth,
            recorded.ground_truth) for index, recorded, depth in shown)

    def gflops(self, recorded: Recorded, steps: Mapping[int, int], frames: int) -> Amounts:
        """
        Count the GFLOP of a frame: of its prediction, and of forward and backward passes.

        Checks on held-out frames and rehearsals are not in them. The published features take more
        or less work from frame to frame, so that their GFLOP are not known here: nan.

        :param recorded: any of the frames, as all have one size.
        :param steps: number of steps taken, by batch size.
        :param frames: that the steps are spread over.
        """
        counted = Costs(self._pipeline.estimator.device)
        counted.charge(0, lambda: self._pipeline.predict(recorded.frame))
        flops = sum(count * self._pipeline.trainer.step.flops(size)
                    for size, count in steps.items())
        return Amounts(counted.flops / 1e9, 0.0 if self._counts_decision else math.nan,
                       flops / frames / 1e9)


def steps_by_batch_size(
    sizes: Mapping[int, int], outcomes: Mapping[int, StepResult]
) -> Mapping[int, int]:
    """
    Count the training steps that were taken by the size of their batch.

    :param sizes: batch size by the stamp of the candidate.
    :param outcomes: by the stamp of the candidate; one without a time took no step.
    """
    return Counter(sizes[stamp_ns] for stamp_ns, outcome in outcomes.items()
                   if stamp_ns in sizes and not math.isnan(outcome.seconds))


def mean_ms(records: Sequence[FrameRecord], origins: Mapping[int, Origin]) -> Amounts:
    """
    Return the mean time of a frame as the nodes measured it, ms; nan where nothing is known.

    :param origins: by the stamp of the candidate.
    """
    known = [origins[r.stamp_ns] for r in records if r.stamp_ns in origins]
    if not known:
        return Amounts(math.nan, math.nan, math.nan)
    return Amounts(
        1e3 * math.fsum(o.inference_s for o in known) / len(known),
        1e3 * math.fsum(o.consideration_s for o in known) / len(known),
        math.fsum(r.training_ms for r in records) / len(records))
