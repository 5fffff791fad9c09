"""The inference thread: from the newest image to published depth; errors do not end it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
import threading
import time
from typing import Callable, Deque, NamedTuple

from dectrain_ros.frames import Candidate, DepthPrediction, Frame
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros.inbox import Inbox, PoseRequest, Received
from dectrain_ros.ros.messages import Origin
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.sensing.frame_builder import (
    Dropped, FrameBuilder, MAX_WAITING, Segments, TOO_LATE)
from dectrain_ros.sensing.pose_track import AFTER_LAST, PoseLookup
from dectrain_ros.sensing.stamps import stamp_ns_of
from std_msgs.msg import Header


class _Predicted(NamedTuple):
    """A frame whose depth is published and that waits for its pose."""

    request: PoseRequest
    frame: Frame
    prediction: DepthPrediction
    inference_s: float
    header: Header
    segment: int            # see FrameBuilder


class Inference:
    """
    Runs the pipeline on the newest image of the inbox until closed.

    Depth is published as soon as it is predicted. The frame then waits for its pose while the next
    image is predicted; frames are considered in order, at most one between two predictions.

    :param publish_depth: called on this thread with the received image, its frame (without a
        pose) and its prediction.
    :param publish_candidate: called on this thread with the image's header, its candidate and
        what led to it.
    :param begin: called once, before anything else, on this thread.
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
        # Enough buffers for the waiting frames, the current one and one more.
        self._builder = FrameBuilder(
            health.problem, buffers=MAX_WAITING + 2,
            take_clock_went_back=inbox.take_went_back, rewind=inbox.rewind)
        self._segments = Segments(inbox.jumped)
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.5) -> bool:
        """End after the current frame; return whether the thread ended in time."""
        self._inbox.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._begin()
        while self._inbox.wait(self._predicted[0].request if self._predicted else None):
            received = self._inbox.take_image()
            if received is not None:
                self._predict(received)
            if self._predicted and (len(self._predicted) > MAX_WAITING
                                    or self._inbox.is_decided(self._predicted[0].request)):
                self._consider(self._predicted.popleft())

    def _predict(self, received: Received) -> None:
        """Predict and publish the depth of an image; its frame then waits for its pose."""
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
        except Exception as error:      # e.g. out of memory: the next frame may fit
            self._health.drop('inference failed', f'{type(error).__name__}: {error}')
        else:
            request = PoseRequest(frame.stamp_ns, frame.frame_id, self._inbox.now_s())
            self._predicted.append(_Predicted(
                request, frame, prediction, inference_s, received.message.header,
                self._builder.segment))

    def _consider(self, predicted: _Predicted) -> None:
        """Look up a frame's pose, and publish the frame as a candidate."""
        try:
            pose = self._pose(predicted)
            frame = replace(predicted.frame, world_from_camera=pose.matrix,
                            pose_problem=pose.problem)
            if self._segments.begins_at(frame, predicted.segment):
                self._pipeline.forget_views()
            started_s = time.perf_counter()
            candidate = self._pipeline.consider(frame, predicted.prediction)
            self._publish_candidate(predicted.header, candidate, Origin(
                predicted.prediction.weight_version, predicted.inference_s,
                time.perf_counter() - started_s))
        except Exception as error:
            self._health.problem('no candidate', f'{type(error).__name__}: {error}')

    def _pose(self, predicted: _Predicted) -> PoseLookup:
        pose = self._inbox.pose(predicted.request)
        if pose.problem == AFTER_LAST and len(self._predicted) >= MAX_WAITING:
            pose = PoseLookup(None, TOO_LATE)
        if pose.matrix is None:
            self._health.problem(f'no pose, {pose.problem}', 'the frame is not trained on')
        return pose
