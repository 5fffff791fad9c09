"""Counting the floating-point operations of networks as they are executed."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

# Attention on a CPU, which torch's own counter leaves out; without a kernel of its own it is made
# of matrix products, which are counted.
_ON_CPU = {
    name: formula for name, formula in (
        ('_scaled_dot_product_flash_attention_for_cpu', sdpa_flop),
        ('_scaled_dot_product_flash_attention_for_cpu_backward', sdpa_backward_flop))
    if hasattr(torch.ops.aten, name)}


def flop_counter() -> FlopCounterMode:
    """Return torch's counter (2 x MAC), a context, that counts attention on every device."""
    return FlopCounterMode(display=False, custom_mapping={
        getattr(torch.ops.aten, name): formula for name, formula in _ON_CPU.items()})
