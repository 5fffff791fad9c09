"""Trained weights and the optimiser's state at one moment: to come back to and compare with."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
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

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> 'Snapshot':
        """Gather what as_arrays gave, from among others."""
        weights: Dict[int, Tensor] = {}
        state: Dict[int, Dict[str, Tensor]] = {}
        for name, array in arrays.items():
            kind, _, place = name.partition('.')
            if kind == 'weight':
                weights[int(place)] = torch.from_numpy(array)
            elif kind == 'adam':
                k, _, part = place.partition('.')
                state.setdefault(int(k), {})[part] = torch.from_numpy(array)
        return cls(tuple(weights[k] for k in sorted(weights)), state)

    def as_arrays(self) -> Dict[str, np.ndarray]:
        """Give weights and state as weight.PLACE and adam.PLACE.PART."""
        found = {f'weight.{k}': _array(weight) for k, weight in enumerate(self.weights)}
        for k, state in self.state.items():
            found.update({f'adam.{k}.{part}': _array(value) for part, value in state.items()})
        return found

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


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _norm(tensors: List[Tensor]) -> float:
    """Give the norm of all tensors as one vector."""
    norms = torch._foreach_norm(tensors)
    return float(torch.linalg.vector_norm(torch.stack(norms)))
