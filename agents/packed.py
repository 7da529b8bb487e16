"""Linear layers whose weights lie the way the CPU's matrix kernels read them.

oneDNN reads bfloat16 weights in blocks and, asked to multiply by a plain matrix, puts it into blocks every time: with few
tokens a step that costs more than the product. Packed once, a step of 8 to 32 tokens costs about half; the products are the
same numbers. The plain weights stay beside the packed ones, for training and adapters.
"""

from __future__ import annotations

import torch

FOR_TOKENS = 32  # what the blocks are laid out for; other numbers of tokens work too


class PackedLinear(torch.nn.Linear):
    """A Linear that multiplies by its packed weights wherever no gradient is asked for."""

    packed: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack(model: torch.nn.Module) -> int:
    """Pack every bfloat16 Linear on the CPU, in place; how many there were. Elsewhere, or without oneDNN, nothing happens."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return 0
    plain = [module for module in model.modules() if type(module) is torch.nn.Linear
             and module.weight.device.type == "cpu" and module.weight.dtype == torch.bfloat16]
    for module in plain:
        module.packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), FOR_TOKENS)
        module.__class__ = PackedLinear
    return len(plain)
