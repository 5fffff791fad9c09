"""Trained weights and the optimiser's state at one moment: to come back to and compare with."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor


class Snapshot(NamedTuple):
    """
    Weights and Adam's state in memory of their own.

    state: of every parameter by its place; none where the optimiser has not moved it yet.
    """

    weights: Tuple[Tensor, ...]
    state: Dict[int, Dict[str, Tensor]]

    @classmethod
    def of(
        cls, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer,
        into: Optional['Snapshot'] = None
    ) -> 'Snapshot':
        """
        Copy the present weights and state.

        :param into: an older snapshot of these parameters, no longer wanted; its memory is used.
        """
        now = cls(tuple(p.detach() for p in parameters),
                  {k: optimizer.state[p] for k, p in enumerate(parameters)
                   if p in optimizer.state})
        if into is None or into.state.keys() != now.state.keys():
            return cls(tuple(w.clone() for w in now.weights),
                       {k: {name: value.clone() for name, value in state.items()}
                        for k, state in now.state.items()})
        with torch.no_grad():
            torch._foreach_copy_(into._tensors(), now._tensors())
        return into

    @torch.no_grad()
    def bring_back(
        self, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Put weights and state back; the snapshot can be used again."""
        torch._foreach_copy_(list(parameters), list(self.weights))
        for k, parameter in enumerate(parameters):
            if k not in self.state:
                optimizer.state.pop(parameter, None)
                continue
            there = optimizer.state[parameter]
            for name, value in self.state[k].items():
                if name not in there:       # laid out in memory as Adam would
                    there[name] = torch.empty_like(parameter if value.dim() else value)
                there[name].copy_(value)

    @torch.no_grad()
    def moved(self, parameters: Sequence[Tensor]) -> float:
        """
        Give how far parameters are from here, as a share of the norm they had here.

        Not finite as soon as one of them is not.
        """
        away = _norm(torch._foreach_sub(list(parameters), list(self.weights)))
        return away / _norm(list(self.weights)) if away else 0.0

    def _tensors(self) -> List[Tensor]:
        """List every tensor, in one order for snapshots of the same parameters."""
        return [*self.weights, *(value for _, state in sorted(self.state.items())
                                 for _, value in sorted(state.items()))]


def _norm(tensors: List[Tensor]) -> float:
    """Give the norm of all tensors as one vector."""
    norms = torch._foreach_norm(tensors)
    return float(torch.linalg.vector_norm(torch.stack(norms)))
