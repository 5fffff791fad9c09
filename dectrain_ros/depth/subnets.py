"""The size of an elastic network: the best that this device runs in time, also under load."""

from __future__ import annotations

from collections import deque
import time
from typing import Deque, Dict, Mapping, NamedTuple, Optional, Union

from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.depth.networks.elastic import LARGEST, Subnet, SUBNETS
import numpy as np
import torch

LARGEST_NAME, AUTO = 'largest', 'auto'
_ROUNDS = 20            # predictions each that start-up measures, after one that warms up
_FRAMES = 30            # that a change of size is decided on
_MARGIN = 0.9           # a larger size must take less than this share of the time allowed


class Latency(NamedTuple):
    """How long predictions take, ms: their median and their 95th percentile."""

    p50: float
    p95: float


def subnet_name(subnet: Subnet) -> str:
    """Return what a size is called in depth.subnet: decoder width x encoder depth."""
    return f'{subnet.width:g}x{subnet.depth}'


NAMES = {subnet_name(subnet): subnet for subnet in SUBNETS}


@torch.inference_mode()
def measured_latencies(network: DepthNetwork, rounds: int = _ROUNDS) -> Dict[Subnet, Latency]:
    """
    Measure every size in turn on the device the network is on; its own size stays.

    In turn, so that other load meets them all alike.
    """
    card, device, own = network.card, next(network.parameters()).device, network.subnet
    image = torch.zeros(1, 3, card.height, card.width, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    focal_px = torch.full((1,), float(card.width), device=device)
    times: Dict[Subnet, list] = {subnet: [] for subnet in SUBNETS}
    try:
        for _ in range(rounds + 1):
            for subnet, taken in times.items():
                network.subnet = subnet
                started = time.perf_counter()
                network.depth(network.encode(image), focal_px).cpu()    # waits for the device
                taken.append(1e3 * (time.perf_counter() - started))
    finally:
        network.subnet = own
    return {subnet: Latency(*np.percentile(taken[1:], (50, 95)).tolist())
            for subnet, taken in times.items()}


class SubnetChoice:
    """
    Runs the best size whose 95th percentile fits the time allowed; what takes longer is better.

    Where predictions take more or less time than at start-up, all sizes are assumed to differ by
    the same factor. A size is kept for 30 frames at least, and a larger one must fit with a tenth
    to spare, so that two do not take turns (ALGORITHMS.md section 9).

    The network's size is set by the thread that predicts alone, between two predictions; any
    other may set latency_ms.

    :param network: elastic; its size is set.
    :param latencies: of all sizes, at start-up.
    :param latency_ms: time allowed.
    :raises ValueError: if none fits.
    """

    def __init__(self, network: DepthNetwork, latencies: Mapping[Subnet, Latency],
                 latency_ms: float):
        """Set the network's size."""
        self._network, self._latencies = network, dict(latencies)
        self._recent: Deque[float] = deque(maxlen=_FRAMES)
        self.latency_ms = latency_ms
        self._set(self._wanted)

    @property
    def latency_ms(self) -> float:
        """Return the time a prediction may take."""
        return self._latency_ms

    @latency_ms.setter
    def latency_ms(self, value: float) -> None:
        """
        Allow another time; the next prediction's end sets the size that suits it.

        :raises ValueError: if none does; nothing is changed then.
        """
        best = self._best(value, 1.0)
        if best is None:
            fastest = self._fastest
            raise ValueError(
                f'depth.latency_ms is {value:g}: no size of the network is as fast on this '
                f'device; the nearest, {subnet_name(fastest)}, takes '
                f'{self._latencies[fastest].p95:.1f} ms (95th percentile): allow that')
        self._latency_ms, self._wanted = value, best

    def predicted(self, seconds: float) -> None:
        """Record how long a prediction took, and change the size for the next where it must be."""
        wanted = self._wanted
        if wanted is not None:
            self._set(wanted)
            return
        self._recent.append(1e3 * seconds)
        if len(self._recent) < _FRAMES:
            return
        now = self._network.subnet
        factor = sorted(self._recent)[int(0.95 * _FRAMES)] / self._latencies[now].p95
        best = self._best(self._latency_ms, factor) or self._fastest
        if self._takes(best) > self._takes(now):
            best = max(now, self._best(_MARGIN * self._latency_ms, factor) or now, key=self._takes)
        if best != now:
            self._set(best)

    def _set(self, subnet: Subnet) -> None:
        self._network.subnet, self._wanted = subnet, None
        self._recent.clear()

    def _takes(self, subnet: Subnet) -> float:
        return self._latencies[subnet].p50

    @property
    def _fastest(self) -> Subnet:
        return min(self._latencies, key=lambda subnet: self._latencies[subnet].p95)

    def _best(self, allowed_ms: float, factor: float) -> Optional[Subnet]:
        """Return the slowest size that fits where all are slower by a factor, if any."""
        fitting = [subnet for subnet, latency in self._latencies.items()
                   if factor * latency.p95 <= allowed_ms]
        return max(fitting, key=self._takes, default=None)


class FixedSize:
    """
    Leaves the size as it is.

    latency_ms: of no effect.
    """

    latency_ms = 0.0

    def predicted(self, seconds: float) -> None:
        """Do nothing."""


NetworkSize = Union[SubnetChoice, FixedSize]


def choose_subnet(network: DepthNetwork, subnet: str, latency_ms: float) -> NetworkSize:
    """
    Set the size of a network on its device, and return what adjusts it from then on.

    :param subnet: 'largest', 'auto', or a name in NAMES.
    :param latency_ms: time that 'auto' may take.
    :raises ValueError: if the network has one size only, or none fits.
    """
    if network.subnet is None:
        if subnet != LARGEST_NAME:
            raise ValueError(
                f'depth.subnet is {subnet}, and {network.card.network} has one size: set '
                f'depth.network to elastic, or depth.subnet to {LARGEST_NAME}')
        return FixedSize()
    if subnet == AUTO:
        return SubnetChoice(network, measured_latencies(network), latency_ms)
    network.subnet = LARGEST if subnet == LARGEST_NAME else NAMES[subnet]
    return FixedSize()
