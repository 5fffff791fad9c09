"""
Work of two threads on one device: its own stream for each, and weights handed over by an event.

Those with CUDA in their name are skipped without a CUDA device.
"""

import threading

from dectrain_ros.training import streams
from dectrain_ros.training.streams import Handover
from dectrain_ros.training.weights import WeightVersions
import pytest
import torch

CPU = torch.device('cpu')
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
LONG = 500_000_000          # cycles, a fraction of a second


def in_thread(work):
    """Return what work gives in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_a_device_without_streams_needs_none():
    made = [torch.ones(3)]
    streams.enter(CPU, urgent=True)
    streams.finish(CPU)
    assert Handover(made).take()[0] is made[0]


@on_cuda
def test_on_cuda_inference_goes_before_training_and_neither_is_on_the_default_stream():
    device = torch.device('cuda', torch.cuda.current_device())

    def entered(urgent):
        streams.enter(device, urgent)
        return torch.cuda.current_stream(device)
    inference, training = (in_thread(lambda: entered(urgent)) for urgent in (True, False))
    assert inference.priority < training.priority       # CUDA's first is its least number
    assert len({inference, training, torch.cuda.default_stream(device)}) == 3


@on_cuda
def test_on_cuda_weights_are_whole_though_neither_thread_waits_for_them():
    device = torch.device('cuda', torch.cuda.current_device())
    live, trained = ([torch.zeros(1000, 1000, device=device) for _ in range(4)] for _ in range(2))
    versions, busy = WeightVersions(live), []

    def train():
        streams.enter(device, urgent=False)
        torch.cuda._sleep(LONG)
        for tensor in trained:
            tensor.fill_(1.0)
        versions.commit(trained)
        busy.append(torch.cuda.current_stream(device))
        for tensor in trained:          # a step further: what was committed must not follow
            tensor.fill_(2.0)

    def infer():
        streams.enter(device, urgent=True)
        assert versions.adopt() == 1
        assert not busy[0].query()      # training still sleeps: nobody waited for it
        seen = [tensor.clone() for tensor in live]
        streams.finish(device)
        return [bool((tensor == 1.0).all()) for tensor in seen]
    in_thread(train)
    assert in_thread(infer) == [True] * 4


@on_cuda
def test_on_cuda_memory_of_replaced_weights_is_not_reused_while_inference_reads_them():
    device = torch.device('cuda', torch.cuda.current_device())
    live = [torch.zeros(4_000_000, device=device)]
    versions = WeightVersions(live)
    training, inference = (torch.cuda.Stream(device, priority=p) for p in (0, -1))
    for number in range(1, 20):
        with torch.cuda.stream(training):
            versions.commit([torch.full((4_000_000,), float(number), device=device)])
        with torch.cuda.stream(inference):
            versions.adopt()
            torch.cuda._sleep(LONG // 50)
            seen = live[0].clone()          # after the sleep; by then they are replaced
        with torch.cuda.stream(training):
            versions.commit([torch.zeros(4_000_000, device=device)])
        with torch.cuda.stream(inference):
            versions.adopt()                # lets the others go
        with torch.cuda.stream(training):
            torch.full((4_000_000,), -1.0, device=device)       # would take their memory
        inference.synchronize()
        assert bool((seen == number).all())
