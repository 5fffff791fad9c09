"""The inference thread: newest image in, depth out, one problem never the last."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
import threading
import time
from typing import Callable, Deque, NamedTuple

from dectrain_ros.frames import Candidate, DepthPrediction, Frame
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros.inbox import Asked, Inbox, Received
from dectrain_ros.ros.messages import Origin
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.sensing.frame_builder import (
    CROWDED, Dropped, FrameBuilder, MAX_WAITING, Stretches)
from dectrain_ros.sensing.pose_track import AFTER_LAST, PoseLookup
from dectrain_ros.sensing.stamps import stamp_ns_of
from std_msgs.msg import Header


class _Predicted(NamedTuple):
    """A frame whose depth is published and whose pose is waited for."""

    asked: Asked
    frame: Frame
    prediction: DepthPrediction
    inference_s: float
    header: Header
    stretch: int            # see FrameBuilder


class Inference:
    """
    Runs the pipeline on the newest image of the inbox until closed.

    Depth is published as soon as it is there. The frame then waits for its pose, while the next
    image has its turn; frames are considered in their order, one between two predictions.

    :param publish_depth: takes an image as it was received, its frame, without a pose, and its
        depth, on this thread.
    :param publish_candidate: takes the image's header, the candidate it became and how it came
        about, on this thread.
    :param begin: called first of all on this thread.
    """

    def __init__(self, pipeline: Pipeline, inbox: Inbox, health: Health,
                 publish_depth: Callable[[Received, Frame, DepthPrediction], None],
                 publish_candidate: Callable[[Header, Candidate, Origin], None],
                 begin: Callable[[], None] = lambda: None):
        """Start the thread."""
        self._begin = begin
        self._pipeline = pipeline
        self._inbox = inbox
        self._health = health
        self._publish_depth = publish_depth
        self._publish_candidate = publish_candidate
        self._predicted: Deque[_Predicted] = deque()
        # A frame keeps its picture while it and as many as may wait, and one more, are there.
        self._builder = FrameBuilder(
            health.problem, buffers=MAX_WAITING + 2,
            take_clock_went_back=inbox.take_went_back, rewind=inbox.rewind)
        self._stretches = Stretches(inbox.jumped)
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.5) -> bool:
        """End after the frame in work; returns whether the thread ended in time."""
        self._inbox.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._begin()
        while self._inbox.wait(self._predicted[0].asked if self._predicted else None):
            received = self._inbox.take_image()
            if received is not None:
                self._predict(received)
            if self._predicted and (len(self._predicted) > MAX_WAITING
                                    or self._inbox.is_decided(self._predicted[0].asked)):
                self._consider(self._predicted.popleft())

    def _predict(self, received: Received) -> None:
        """Publish the depth of an image; its frame then waits for its pose."""
        try:
            message = received.message
            lens = self._inbox.take_lens(stamp_ns_of(message.header.stamp))
            frame = self._builder.build(message, lens)
            started_s = time.perf_counter()
            prediction = self._pipeline.predict(frame)
            inference_s = time.perf_counter() - started_s
            self._publish_depth(received, frame, prediction)
        except Dropped as dropped:
            self._health.drop(*dropped.args)
        except Exception as error:      # e.g. out of memory: the next frame may well fit
            self._health.drop('inference failed', f'{type(error).__name__}: {error}')
        else:
            asked = Asked(frame.stamp_ns, frame.frame_id, self._inbox.now_s())
            self._predicted.append(_Predicted(
                asked, frame, prediction, inference_s, received.message.header,
                self._builder.stretch))

    def _consider(self, predicted: _Predicted) -> None:
        """Publish what a frame may teach, with its pose or the reason why it has none."""
        try:
            pose = self._pose(predicted)
            frame = replace(predicted.frame, world_from_camera=pose.matrix,
                            pose_problem=pose.problem)
            if self._stretches.breaks_at(frame, predicted.stretch):
                self._pipeline.forget_views()
            started_s = time.perf_counter()
            candidate = self._pipeline.consider(frame, predicted.prediction)
            self._publish_candidate(predicted.header, candidate, Origin(
                predicted.prediction.weight_version, predicted.inference_s,
                time.perf_counter() - started_s))
        except Exception as error:
            self._health.problem('no candidate', f'{type(error).__name__}: {error}')

    def _pose(self, predicted: _Predicted) -> PoseLookup:
        pose = self._inbox.pose(predicted.asked)
        if pose.problem == AFTER_LAST and len(self._predicted) >= MAX_WAITING:
            pose = PoseLookup(None, CROWDED)
        if pose.matrix is None:
            self._health.problem(f'no pose, {pose.problem}', 'the frame is not trained on')
        return pose
