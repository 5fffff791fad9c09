"""Which parameters a training step changes."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork
from torch import nn


class Update(NamedTuple):
    """
    The parameters a training step changes; the log-variance head is never among them.

    parts: names of the network's modules that are trained.
    """

    parts: Tuple[str, ...]

    @property
    def keeps_features(self) -> bool:
        """Whether the encoder stays as it is, so that its features can be stored and reused."""
        return 'encoder' not in self.parts

    def parameters(self, network: DepthNetwork) -> Iterator[Tuple[str, nn.Parameter]]:
        """List the parameters of a network that a step changes, with their names."""
        prefixes = tuple(f'{part}.' for part in self.parts)
        for name, parameter in network.named_parameters():
            if name.startswith(prefixes):
                yield name, parameter


FULL = Update(('encoder', 'decoder'))
DECODER = Update(('decoder',))


def make_update(scope: str) -> Update:
    """Return the update of a value of training.scope: 'full' or 'decoder'."""
    return {'full': FULL, 'decoder': DECODER}[scope]
