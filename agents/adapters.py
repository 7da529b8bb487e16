"""PEFT folders on one model. Several may be loaded; the model wears one at a time, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from agents.errors import first_line, reason
from agents.models import LoadedModel, check_adapter

SHARED = ("embed_tokens", "lm_head")  # PEFT sometimes saves a copy of the base's own beside the adapter


class Adapters:
    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._names: dict[str, str] = {}  # folder -> name inside the model
        self._worn: str | None = None

    def load(self, folder: str) -> None:
        """Once a folder. ValueError, and a model as it was, where a file is missing or it was made for another base."""
        if folder in self._names:
            return
        from peft import PeftConfig
        from safetensors.torch import load_file

        path = check_adapter(folder)
        try:
            config = PeftConfig.from_pretrained(path)
            tensors = load_file(Path(path) / "adapter_model.safetensors")
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"adapter {folder!r} could not be read ({reason(error)}); expected a folder that PEFT saved") from error
        if problem := _misfit(self.loaded.model, config, path):
            raise ValueError(f"adapter {folder!r} does not fit {self.loaded.info.model!r} (it was made for "
                             f"{config.base_model_name_or_path!r}): {problem}")
        self._put_on(folder, config, tensors)

    def install(self, folder: str, config: Mapping[str, object], weights: Mapping[str, torch.Tensor]) -> None:
        """An adapter that lies in no folder, by PEFT's config and names; from now on with these weights where it is there already."""
        from peft import LoraConfig, set_peft_model_state_dict

        if folder not in self._names:
            self._put_on(folder, LoraConfig(**{key: value for key, value in config.items() if key in LoraConfig.__dataclass_fields__}),
                         dict(weights))
            return
        set_peft_model_state_dict(self.loaded.model, dict(weights), adapter_name=self._names[folder])

    def _put_on(self, folder: str, config, tensors: dict[str, torch.Tensor]) -> None:
        name = f"adapter_{len(self._names):03d}"  # of one length, since transformers looks for names inside of names
        self.loaded.model.load_adapter(peft_config=config, adapter_state_dict=tensors, adapter_name=name)
        self.loaded.model.eval().requires_grad_(False)
        self._names[folder] = self._worn = name

    @contextmanager
    def wearing(self, folder: str | None) -> Iterator[None]:
        name = self._names[folder] if folder is not None else None
        if name != self._worn:
            if name is None:
                self.loaded.model.disable_adapters()
            else:
                self.loaded.model.enable_adapters()
                self.loaded.model.set_adapter(name)
            self._worn = name
        yield


def _misfit(model, config, folder: str) -> str:
    """Why the folder's tensors are not those that its config would put on this model; "" where they are.

    Tried on a shadow of the model that has shapes and no weights, so that nothing is left on the model itself.
    """
    from peft import get_peft_model_state_dict, inject_adapter_in_model

    with torch.device("meta"):
        shadow = type(model)(model.config)
    try:
        inject_adapter_in_model(config, shadow, "default")
    except ValueError as error:
        return first_line(error, 300)
    wanted = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(
        shadow, adapter_name="default", save_embedding_layers=False).items()}
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
        found = {name.removeprefix("base_model.model."): file.get_slice(name).get_shape() for name in file.keys()}
    wanted = {name.removeprefix("base_model.model."): shape for name, shape in wanted.items()}
    for name in sorted(wanted.keys() | {name for name in found if not any(word in name for word in SHARED)}):
        if wanted.get(name) != found.get(name):
            return f"{name} has shape {found.get(name, 'none')}, expected {wanted.get(name, 'no such tensor')}"
    return ""
