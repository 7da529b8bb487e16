"""PEFT adapters on one model. Several may be loaded; the model uses one at a time, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from agents.models.loading import LoadedModel, check_adapter
from agents.models.packed_linear import repack
from scenarios.messages import first_line, reason

IMPORTS = "megatron_config"  # key of a PEFT config that makes PEFT import a module which the config names
SHARED = ("embed_tokens", "lm_head")  # PEFT sometimes saves a copy of the base's own beside the adapter


class Adapters:
    """The adapters of one model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._names: dict[str, str] = {}  # folder -> name inside the model
        self._worn: str | None = None
        self._whole: dict[
            str | None, dict[str, torch.Tensor]
        ] = {}  # all weights of models that were trained whole, and under None the own

    def load(self, folder: str) -> None:
        """Loads the adapter of a folder once.

        Raises ValueError, with the model unchanged, where a file is missing or the adapter is for another base model.
        """
        if folder not in self._names:
            self._put_on(folder, *read(self.loaded.model, folder, self.loaded.info.model))

    def install(self, folder: str, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
        """Adds an adapter from PEFT's config and tensors, without a folder, or replaces the weights of a loaded one.

        With an empty config, `weights` are all weights of the model, by its own names.
        """
        from peft import LoraConfig, set_peft_model_state_dict

        if not config:
            self._whole.setdefault(None, {name: value.clone() for name, value in self._plain()})
            self._whole[folder] = dict(weights)
            self._names[folder] = folder
            if self._worn == folder:
                self._fill(folder)
            return
        if folder not in self._names:
            self._put_on(
                folder,
                LoraConfig(**{key: value for key, value in config.items() if key in LoraConfig.__dataclass_fields__}),
                dict(weights),
            )
            return
        set_peft_model_state_dict(self.loaded.model, dict(weights), adapter_name=self._names[folder])

    def _put_on(self, folder: str, config, tensors: dict[str, torch.Tensor]) -> None:
        if self._worn in self._whole:
            self._fill(None)
        name = f"adapter_{len(self._names):03d}"  # of one length, since transformers looks for names inside of names
        self.loaded.model.load_adapter(peft_config=config, adapter_state_dict=tensors, adapter_name=name)
        self.loaded.model.eval().requires_grad_(False)
        self._names[folder] = self._worn = name

    @contextmanager
    def wearing(self, folder: str | None) -> Iterator[None]:
        """A context in which the model uses the adapter of that folder, or none."""
        name = self._names[folder] if folder is not None else None
        if name != self._worn:
            if {name, self._worn} & (self._whole.keys() - {None}):
                self._fill(name)
            self._switch(None if name in self._whole else name)
            self._worn = name
        yield

    def _switch(self, name: str | None) -> None:
        """Activates that PEFT adapter, or none."""
        if self._names.keys() <= self._whole.keys():
            return
        if name is None:
            self.loaded.model.disable_adapters()
        else:
            self.loaded.model.enable_adapters()
            self.loaded.model.set_adapter(name)

    def _fill(self, name: str | None) -> None:
        """Loads the weights of the fully trained model of that name, or the model's own."""
        weights = self._whole.get(name, self._whole[None])
        with torch.no_grad():
            for key, value in self._plain():
                value.copy_(weights[key])
        repack(self.loaded.model)

    def _plain(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The model's own weights by their names without adapters."""
        for key, value in self.loaded.model.named_parameters():
            if "lora_" not in key:
                yield key.replace(".base_layer", ""), value


def upper_layers(config, share: float) -> list[int] | None:
    """PEFT's `layers_to_transform`: all layers but the lowest `share` of them; None for all layers."""
    count = config.get_text_config().num_hidden_layers
    return list(range(round(share * count), count)) if share else None


def read(model, folder: str, name: str) -> tuple:
    """The PEFT config and tensors of a folder.

    Raises ValueError where a file is missing or damaged, or the adapter is for another base model than `model`.
    """
    from peft import PeftConfig
    from safetensors.torch import load_file

    path = check_adapter(folder)
    try:
        raw_config = json.loads((Path(path) / "adapter_config.json").read_bytes())
        if raw_config.get(IMPORTS):
            raise ValueError(f"its {IMPORTS} names code to import")
        config = PeftConfig.from_pretrained(path)
        tensors = load_file(Path(path) / "adapter_model.safetensors")
    except (AttributeError, OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"adapter {folder!r} could not be read ({reason(error)}); expected a folder that PEFT saved"
        ) from error
    if problem := _misfit(model, config, path):
        raise ValueError(
            f"adapter {folder!r} does not fit {name!r} (it was made for {config.base_model_name_or_path!r}): {problem}"
        )
    return config, tensors


def _misfit(model, config, folder: str) -> str:
    """The reason why the folder's tensors are not those of its config on this model; "" where they are.

    This is tested on a copy of the model with shapes and without weights, so that the model is unchanged.
    """
    from peft import get_peft_model_state_dict, inject_adapter_in_model

    with torch.device("meta"):
        shadow = type(model)(model.config)
    try:
        inject_adapter_in_model(config, shadow, "default")
    except ValueError as error:
        return first_line(error, 300)
    wanted = {
        name: list(tensor.shape)
        for name, tensor in get_peft_model_state_dict(
            shadow, adapter_name="default", save_embedding_layers=False
        ).items()
    }
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
        names = file.keys()
        stored_shapes = {name.removeprefix("base_model.model."): file.get_slice(name).get_shape() for name in names}
    wanted = {name.removeprefix("base_model.model."): shape for name, shape in wanted.items()}
    for name in sorted(wanted.keys() | {name for name in stored_shapes if not any(word in name for word in SHARED)}):
        if wanted.get(name) != stored_shapes.get(name):
            return f"{name} has shape {stored_shapes.get(name, 'none')}, expected {wanted.get(name, 'no such tensor')}"
    return ""
