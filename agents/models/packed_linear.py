"""Linear layers whose weights are stored in the layout of the CPU's matrix kernels.

oneDNN reads bfloat16 weights in blocks. It converts a plain matrix at every call, which costs more than the product for
few tokens per step. With weights packed once, a step of 8 to 32 tokens takes about half the time, with equal results.
Layers with the same input (query, key and value; gate and up) are packed together, since a small product consists
mostly of its overhead. The plain weights are kept for training and adapters.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any

import torch

FOR_TOKENS = 32  # what the blocks are laid out for; other numbers of tokens work too
PACKED = ("together", "number")  # attributes of a packed layer
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # children that are given the same input


class Together:
    """The product of one input with the weights of several layers, each of which takes its part."""

    def __init__(self, layers: list[torch.nn.Linear]) -> None:
        self.packed = _packed(torch.cat([layer.weight.detach() for layer in layers]))
        self.bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
        self.sizes = [layer.out_features for layer in layers]
        self._input, self._parts = None, {}

    def part(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The output of layer `number` for the input."""
        if self._input is not x or number not in self._parts:
            self._input = x
            self._parts = dict(enumerate(_product(x, self.packed, self.bias).split(self.sizes, -1)))
        output = self._parts.pop(number)
        if not self._parts:
            self._input = None
        return output


class PackedLinear(torch.nn.Linear):
    """A Linear that uses its packed weights where no gradient is needed. A copy is a plain Linear: its weights may
    change.
    """

    together: Together
    number: int  # among the layers packed together

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return super().forward(input)
        return self.together.part(self.number, input)

    def __deepcopy__(self, memo: dict) -> torch.nn.Linear:
        plain = memo[id(self)] = torch.nn.Linear.__new__(torch.nn.Linear)
        vars(plain).update(copy.deepcopy({k: v for k, v in vars(self).items() if k not in PACKED}, memo))
        return plain


def pack(model: torch.nn.Module) -> int:
    """Packs every bfloat16 Linear on the CPU in place, and returns their number; 0 elsewhere or without oneDNN."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return 0
    plain = {
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.bfloat16
    }
    groups = [
        siblings
        for parent in model.modules()
        for names in SIBLINGS
        if plain.issuperset(siblings := [getattr(parent, name, None) for name in names]) and _alike(siblings)
    ]
    grouped = {module for siblings in groups for module in siblings}
    for layers in [*groups, *([module] for module in plain - grouped)]:
        together = Together(layers)
        for number, module in enumerate(layers):
            module.together, module.number = together, number
            module.__class__ = PackedLinear
    return len(plain)


def repack(model: torch.nn.Module) -> None:
    """Packs the packed layers again, after their weights have changed."""
    groups: dict[Together, dict[int, PackedLinear]] = {}
    for module in model.modules():
        if isinstance(module, PackedLinear):
            groups.setdefault(module.together, {})[module.number] = module
    for layers in groups.values():
        together = Together([layers[number] for number in sorted(layers)])
        for layer in layers.values():
            layer.together = together


def unpack(model: torch.nn.Module, all_but: Container[int] = ()) -> None:
    """Makes packed layers plain ones again, but for those whose weights lie at the addresses `all_but`."""
    packed: list[Any] = [module for module in model.modules() if isinstance(module, PackedLinear)]
    for module in packed:
        if module.weight.data_ptr() not in all_but:
            module.__class__ = torch.nn.Linear
            del module.together, module.number


def _alike(layers: list[Any]) -> bool:
    return len({(layer.in_features, layer.bias is None) for layer in layers}) == 1


def _packed(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, FOR_TOKENS)


def _product(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
