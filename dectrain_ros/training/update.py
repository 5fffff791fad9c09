"""Which parameters a training step changes."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.depth.networks.low_rank import adapter_names, add_adapters
from torch import nn


class Update(NamedTuple):
    """
    The parameters a training step changes; the log-variance head is never among them.

    parts: names of the network's modules that are trained. rank: of adapters in the encoder that
    are trained too, 0 for none.
    """

    parts: Tuple[str, ...]
    rank: int = 0

    @property
    def keeps_features(self) -> bool:
        """Whether the encoder stays as it is, so that its features can be stored and reused."""
        return 'encoder' not in self.parts and not self.rank

    def prepare(self, network: DepthNetwork, seed: int) -> None:
        """
        Add what is trained and a network does not have yet.

        :param seed: of the adapters' first values.
        :raises ValueError: if the network has nothing of what is to be trained.
        """
        if not any(True for _ in self.parameters(network)):
            raise ValueError(
                f'depth.network {network.card.network} has none of the parts that training.scope '
                'names: set it to full or decoder')
        if self.rank:
            add_adapters(network.encoder, self.rank, seed)

    def parameters(self, network: DepthNetwork) -> Iterator[Tuple[str, nn.Parameter]]:
        """List the parameters of a network that a step changes, with their names."""
        prefixes = tuple(f'{part}.' for part in self.parts)
        adapters = set(adapter_names(network)) if self.rank else set()
        for name, parameter in network.named_parameters():
            if name.startswith(prefixes) or name in adapters:
                yield name, parameter


FULL = Update(('encoder', 'decoder'))
DECODER = Update(('decoder',))
# Of network transformers: what models name their last layers, and what follows those.
HEAD = Update((
    'decoder.model.head', 'decoder.model.relative_head', 'decoder.model.metric_head',
    'decoder.output'))
_SCOPES = {'full': FULL, 'decoder': DECODER, 'head': HEAD}


def make_update(scope: str) -> Update:
    """Return the update of a value of training.scope."""
    if scope.startswith('lora:'):
        return HEAD._replace(rank=int(scope.partition(':')[2]))
    return _SCOPES[scope]
