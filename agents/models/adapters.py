"""PEFT adapters on one model. Several may be loaded; the model uses one at a time, or none.

Each adapter has a copy of the model's modules, with the model's own weights, in which PEFT puts its layers: adapters do
not meet, so that neither their order nor a load that fails can change what another one says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from agents.models.adapter_files import BASE, peft_config, put_on, read
from agents.models.bounded import READING_ERRORS
from agents.models.loading import LoadedModel
from agents.models.packed_linear import PackedLinear, pack, repack, unpack
from scenarios.messages import first_line


class Adapters:
    """The adapters of one model. `model` is what speaks now: the loaded one, or its copy with an adapter."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self._worn: dict[str, Any] = {}  # folder -> PeftModel, or a model that was trained whole

    def load(self, folder: str) -> None:
        """Loads the adapter of a folder once.

        Raises ValueError, with nothing changed, where a file is missing, the adapter is for another base model, or what
        was loaded is not what the file holds.
        """
        if folder in self._worn:
            return
        config, tensors = read(self.loaded.model, folder, self.loaded.info.model)
        try:
            self._worn[folder] = _adapted(self.loaded.model, config, tensors)
        except READING_ERRORS as error:
            raise ValueError(
                f"adapter {folder!r} could not be put on {self.loaded.info.model!r} ({first_line(error, 300)}); "
                "expected a folder that PEFT saved, and room for it in memory"
            ) from error

    def install(self, folder: str, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
        """Adds an adapter from PEFT's config and tensors, without a folder, or replaces the weights of a loaded one.

        With an empty config, `weights` are all weights of the model, by its own names.
        """
        from peft import set_peft_model_state_dict

        if not config:
            if folder not in self._worn:
                self._worn[folder] = _apart(self.loaded.model)
            self._worn[folder].load_state_dict(dict(weights), strict=False)
            repack(self._worn[folder])
        elif folder in self._worn:
            set_peft_model_state_dict(self._worn[folder], dict(weights))
        else:
            self._worn[folder] = _adapted(self.loaded.model, peft_config(config), dict(weights))

    @contextmanager
    def wearing(self, folder: str | None) -> Iterator[None]:
        """A context in which the model uses the adapter of that folder, or none."""
        before, worn = self.model, None if folder is None else self._worn[folder]
        if worn is None:
            self.model = self.loaded.model
        else:
            self.model = worn.get_base_model() if hasattr(worn, "get_base_model") else worn
        try:
            yield
        finally:
            self.model = before


def _adapted(model, config, tensors: dict[str, torch.Tensor]):
    """A PeftModel over a copy of the model's modules. Raises ValueError where it does not hold the tensors then."""
    twin = _twin(model)
    if getattr(config, "target_parameters", None):  # PEFT changes the weights while they are used
        unpack(twin)
    own = dict(twin.named_parameters(remove_duplicate=False))
    stored = {name.removeprefix(BASE).replace(".base_layer.", ".") for name in tensors}
    changed = own if getattr(config, "init_lora_weights", None) == "olora" else own.keys() & stored
    for weight in {id(own[name]): own[name] for name in changed}.values():
        weight.data = weight.data.clone()  # what PEFT changes in place
    adapted = put_on(twin, config, tensors)
    layers = (name for name, _ in model.named_modules() if name.rpartition(".")[2].isdigit())
    if any(twin.get_submodule(name)._forward_hooks is not model.get_submodule(name)._forward_hooks for name in layers):
        raise ValueError("it replaces whole layers of the model; expected one that changes modules within layers")
    unpack(twin, all_but={module.weight.data_ptr() for module in model.modules() if isinstance(module, PackedLinear)})
    return adapted.eval().requires_grad_(False)


def _apart(model):
    """A copy of the model with weights of its own, and the same hooks."""
    twin = _twin(model)
    for weight in twin.parameters():
        weight.data = weight.data.clone()
    if any(isinstance(module, PackedLinear) for module in twin.modules()):
        unpack(twin)
        pack(twin)
    return twin


def _twin(model):
    """A copy of the model's modules that has the weights and the hooks in common with it.

    Hooks are in common, so that what reads or steers the model's states does so under every adapter.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for module in model.modules():
        memo |= {id(value): value for name, value in vars(module).items() if "_hooks" in name}
    for weight in model.parameters():  # those of quantised layers are of other types, and never change
        plain = type(weight) is torch.nn.Parameter
        memo[id(weight)] = torch.nn.Parameter(weight.data, requires_grad=False) if plain else weight
    twin = copy.deepcopy(model, memo)
    for source, copied in zip(model.modules(), twin.modules(), strict=True):
        if isinstance(source, PackedLinear):
            copied.__class__, copied.together, copied.number = PackedLinear, source.together, source.number
    return twin
