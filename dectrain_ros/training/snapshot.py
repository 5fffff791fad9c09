"""Copies of trained weights and optimiser state, to restore and to compare with."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor


class Snapshot(NamedTuple):
    """
    A copy of trained parameters and of Adam's state.

    state: Adam's tensors by parameter index, without parameters that were never updated.
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

        :param into: an older snapshot of the same parameters to overwrite, to save an allocation.
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
        """Return the snapshot that as_arrays wrote; other arrays are ignored."""
        weights: Dict[int, Tensor] = {}
        state: Dict[int, Dict[str, Tensor]] = {}
        for name, array in arrays.items():
            kind, _, index = name.partition('.')
            if kind == 'weight':
                weights[int(index)] = torch.from_numpy(array)
            elif kind == 'adam':
                k, _, part = index.partition('.')
                state.setdefault(int(k), {})[part] = torch.from_numpy(array)
        return cls(tuple(weights[k] for k in sorted(weights)), state)

    def as_arrays(self) -> Dict[str, np.ndarray]:
        """Return weights and state, named weight.INDEX and adam.INDEX.PART."""
        arrays = {f'weight.{k}': _array(weight) for k, weight in enumerate(self.weights)}
        for k, state in self.state.items():
            arrays.update({f'adam.{k}.{part}': _array(value) for part, value in state.items()})
        return arrays

    @torch.no_grad()
    def restore(
        self, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Copy weights and state back into parameters and optimiser."""
        torch._foreach_copy_(list(parameters), list(self.weights))
        for k, parameter in enumerate(parameters):
            if k not in self.state:
                optimizer.state.pop(parameter, None)
                continue
            current = optimizer.state[parameter]
            for name, value in self.state[k].items():
                if name not in current:     # in the memory layout that Adam itself uses
                    current[name] = torch.empty_like(parameter if value.dim() else value)
                current[name].copy_(value)

    @torch.no_grad()
    def relative_change(self, parameters: Sequence[Tensor]) -> float:
        """Return |parameters - weights| / |weights|; not finite if a parameter is not."""
        change = _norm(torch._foreach_sub(list(parameters), list(self.weights)))
        return change / _norm(list(self.weights)) if change else 0.0

    def _tensors(self) -> List[Tensor]:
        """List every tensor, in the same order for all snapshots of the same parameters."""
        return [*self.weights, *(value for _, state in sorted(self.state.items())
                                 for _, value in sorted(state.items()))]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _norm(tensors: List[Tensor]) -> float:
    """Return the Euclidean norm of all tensors as one vector."""
    norms = torch._foreach_norm(tensors)
    return float(torch.linalg.vector_norm(torch.stack(norms)))
