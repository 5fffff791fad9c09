"""Counting the floating-point operations of networks as they are executed."""

from __future__ import annotations

from typing import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = Sequence[int]


def _attention(query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# Attention on a CPU, which torch's own counter leaves out.
_ON_CPU = {'_scaled_dot_product_flash_attention_for_cpu': _attention,
           '_scaled_dot_product_flash_attention_for_cpu_backward': _attention_backward}


def flop_counter() -> FlopCounterMode:
    """Return torch's counter (2 x MAC), a context, that counts attention on every device."""
    operators = torch.ops.aten
    return FlopCounterMode(display=False, custom_mapping={
        getattr(operators, name): formula for name, formula in _ON_CPU.items()
        if hasattr(operators, name)})       # older versions of torch have none
