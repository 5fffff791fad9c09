"""
CUDA streams, the one place that knows of them: inference goes before training on one device.

Every thread that works beside another has a stream of its own, and neither waits for the other's;
what one made for the other is marked by an event, for which the other's stream waits, not its
thread. A device without streams needs none of it. What inference made for training, encoder
features, is there by then: a prediction ends with its depth on the host.
"""

from __future__ import annotations

from typing import List, Sequence

import torch
from torch import Tensor


def enter(device: torch.device, urgent: bool) -> None:
    """
    Give the calling thread a stream of its own, which starts after what the thread did before.

    :param urgent: whether its work goes before that of threads that are not.
    """
    if device.type != 'cuda':
        return
    least, greatest = torch.cuda.Stream.priority_range()
    stream = torch.cuda.Stream(device, priority=greatest if urgent else least)
    stream.wait_stream(torch.cuda.current_stream(device))
    torch.cuda.set_stream(stream)


class Processor:
    """
    Divides the processor between the thread that predicts and the thread that trains.

    :param device: that both compute on.
    :param train_threads: CPU threads of the thread that trains; 0 leaves torch's number.
    """

    def __init__(self, device: torch.device, train_threads: int):
        """Remember torch's present number of threads for inference."""
        self._device, self._train_threads = device, train_threads
        self._others = torch.get_num_threads()

    def share(self, trains: bool) -> None:
        """
        Set up the calling thread; to be called first by each of the two threads.

        On a device with streams inference goes before training. torch counts CPU threads by
        calling thread, and a new one begins with the number set last by any: so inference must
        set its own, too.

        :param trains: whether the calling thread trains; otherwise it predicts.
        """
        enter(self._device, urgent=not trains)
        if self._train_threads:
            torch.set_num_threads(self._train_threads if trains else self._others)


def finish(device: torch.device) -> None:
    """Wait until the calling thread's work is done; that of others goes on."""
    if device.type == 'cuda':
        torch.cuda.current_stream(device).synchronize()


class Handover:
    """
    Tensors that one thread made for another.

    :param tensors: at least one, not to be changed any more.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        """Mark where the calling thread's stream has made them."""
        self._tensors, self._device = list(tensors), tensors[0].device
        on_stream = self._device.type == 'cuda'
        self._made = torch.cuda.current_stream(self._device).record_event() if on_stream else None

    def take(self) -> List[Tensor]:
        """Make the stream of the calling thread wait for them, and return them."""
        if self._made is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._made)
            for tensor in self._tensors:
                tensor.record_stream(stream)    # its memory is not reused before that is through
        return self._tensors
