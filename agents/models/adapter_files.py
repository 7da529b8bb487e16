"""PEFT's adapter folders: what is read, what is refused, and how an adapter is put on a model.

An adapter is refused where the engine would not say what PEFT says: the engine packs the tokens of all branches in one
row, so that an adapter may change how a token is computed, but add no tokens and look at no other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from agents.models.bounded import READING_ERRORS, bounded
from agents.models.loading import check_adapter
from scenarios.messages import first_line, reason

BASE = "base_model.model."  # before every name in a file that PEFT saved
CONFIG_BYTES = 1_000_000
NAMES = ("model.layers.10.self_attn.q_proj", "model.layers.10.mlp.experts.7.down_proj", "transformer.h.10.attn.c_attn")
# keys of a PEFT config that make it import a module, read another file, or look at more than the token itself
REFUSED_KEYS = {
    "megatron_config": "names code to import",
    "corda_config": "names files to read",
    "lora_ga_config": "names files to read",
    "layer_replication": "repeats layers",
    "alora_invocation_tokens": "waits for certain tokens",
    "arrow_config": "names other adapters",
    "monteclora_config": "draws its weights at random",
    "use_bdlora": "is for several devices",
    "sample_at_inference": "draws its output at random",
}
REFUSED_KINDS = {"ADAPTION_PROMPT", "LILY", "POLY", "SHADOW", "XLORA"}  # beside those that put tokens before the prompt
INITS = (True, False, None, "gaussian", "orthogonal", "eva", "mica", "olora", "pissa")  # those that need no data
UNBOUND = ("seed", "prng", "alpha", "step", "warmup", "interval", "tinit", "tfinal", "deltaT")  # no sizes
LOOPS = ("depth", "num_B", "num_subspaces", "num_cayley_neumann_terms", "boft_n_butterfly_factor")
MOST_LOOPS, ALWAYS_FINE = 256, 4096


def upper_layers(config, share: float) -> list[int] | None:
    """PEFT's `layers_to_transform`: all layers but the lowest `share` of them; None for all layers."""
    count = config.get_text_config().num_hidden_layers
    return list(range(round(share * count), count)) if share else None


def read_config(folder: str, names: Sequence[str] = NAMES) -> tuple[dict[str, Any], Any]:
    """The config of a folder, as it stands there and as PEFT's; its patterns are tried on the names of modules.

    Raises ValueError where it is missing, damaged, or of a kind that the engine cannot use.
    """
    path = Path(check_adapter(folder)) / "adapter_config.json"
    try:
        if (size := path.stat().st_size) > CONFIG_BYTES:
            raise ValueError(f"its config has {size} bytes, expected at most {CONFIG_BYTES}")
        raw = json.loads(path.read_bytes())
        check_keys(raw)
        if patterns := sorted({pattern for pattern in _patterns(raw) if set(pattern) & set("*+{")}):
            bounded("matched", patterns=patterns, names=list(names))
        return raw, peft_config(raw)
    except READING_ERRORS as error:
        raise _unreadable(folder, error) from error


def read(model, folder: str, name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """The PEFT config and tensors of a folder.

    Raises ValueError where a file is missing or damaged, the adapter is of a kind that the engine cannot use, or it is
    for another base model than `model`.
    """
    from safetensors.torch import load_file

    raw, config = read_config(folder, [module for module, _ in model.named_modules()])
    try:
        tensors = {
            key if key.startswith("base_model.") else BASE + key: tensor
            for key, tensor in load_file(Path(check_adapter(folder)) / "adapter_model.safetensors").items()
        }
        sizes = (size for tensor in (*tensors.values(), *model.parameters()) for size in tensor.shape)
        check_sizes(raw, max(len(tensors), *sizes))
    except READING_ERRORS as error:
        raise _unreadable(folder, error) from error
    if problem := _misfit(model, config, tensors):
        raise ValueError(
            f"adapter {folder!r} does not fit {name!r} (it was made for {config.base_model_name_or_path!r}): {problem}"
        )
    return config, tensors


def _unreadable(folder: str, error: Exception) -> ValueError:
    return ValueError(f"adapter {folder!r} could not be read ({reason(error)}); expected a folder that PEFT saved")


def check_keys(raw: Mapping[str, Any]) -> None:
    """Raises ValueError for a config whose adapter is not used here, with the reason."""
    from peft import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = raw["peft_type"]
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"its peft_type {kind!r} is none that PEFT knows here")
    if kind in REFUSED_KINDS or issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[kind], PromptLearningConfig):
        raise ValueError(
            f"its peft_type {kind} adds tokens or looks at the whole prompt, expected one of layers, as LORA"
        )
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"its task_type is {raw['task_type']!r}, expected CAUSAL_LM")
    for key, problem in REFUSED_KEYS.items():
        if raw.get(key):
            raise ValueError(f"its {key} {problem}, expected none")
    if (init := raw.get("init_lora_weights")) not in INITS:
        raise ValueError(
            f"its init_lora_weights {init!r} needs data or chance, expected weights converted to plain LoRA"
        )


def check_sizes(raw: Mapping[str, Any], largest: int) -> None:
    """Raises ValueError for a whole number in the config beyond `largest`, the largest size that its weights have."""
    for key, number in _numbers(raw):
        most = MOST_LOOPS if key in LOOPS else max(largest, ALWAYS_FINE)
        if not any(word in key for word in UNBOUND) and number > most:
            raise ValueError(f"its {key} is {number}, expected at most {most}, the largest size of its weights")


def _numbers(data: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in the data, with the key that it stands under; those in mappings have the mapping's key."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _numbers(value, key or str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _numbers(value, key)
    elif isinstance(data, int):
        yield key, data


def _patterns(raw: Mapping[str, Any]) -> Iterator[str]:
    """What PEFT may read as a regular expression."""
    for key, value in raw.items():
        if key in ("target_modules", "exclude_modules", "layers_pattern") or key.endswith("_pattern"):
            yield from [value] if isinstance(value, str) else value or ()


def peft_config(raw: Mapping[str, Any]) -> Any:
    """PEFT's config object of a dict, without the keys that this version of PEFT does not know."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = PEFT_TYPE_TO_CONFIG_MAPPING[raw["peft_type"]]
    known = {key: value for key, value in raw.items() if key in kind.__dataclass_fields__ and key != "runtime_config"}
    return kind(**kind.check_kwargs(**known))


def put_on(model, config, tensors: dict[str, torch.Tensor], trainable: bool = False) -> Any:
    """A PeftModel over the model, whose modules PEFT replaces.

    Raises ValueError where the adapter's weights are not equal to the tensors afterwards.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config.inference_mode = not trainable
    adapted = get_peft_model(model, config)
    set_peft_model_state_dict(adapted, tensors)
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if problem := _difference(tensors, adapted.state_dict() | wanted, wanted, values=True):
        raise ValueError(problem)
    return adapted


def _difference(stored: Mapping, held: Mapping, wanted: Mapping, values: bool) -> str:
    """The first difference between a file's tensors and those that a model holds and wants; "" where there is none."""
    for name in sorted(wanted.keys() | stored.keys()):
        if name not in stored or name not in held or stored[name].shape != held[name].shape:
            sizes = [list(tensors[name].shape) if name in tensors else None for tensors in (stored, held)]
            return f"{name.removeprefix(BASE)} has shape {sizes[0] or 'none'}, expected {sizes[1] or 'no such tensor'}"
        if values and not torch.equal(stored[name].to(held[name]), held[name]):
            return f"{name.removeprefix(BASE)} is not loaded as it stands in the file"
    return ""


def _misfit(model, config, tensors: Mapping[str, torch.Tensor]) -> str:
    """The reason why the tensors are not those of the config on this model; "" where they are.

    This is tested on a copy of the model with shapes and without weights, before memory is taken.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if config.peft_type == "BOFT":
        return ""  # its layers cannot be made without numbers, nor those of the kinds for which torch says so below
    try:
        with torch.device("meta"):
            shadow = get_peft_model(type(model)(copy.deepcopy(model.config)), copy.deepcopy(config))
            if config.peft_type == "ADALORA":  # whose ranks become those of the file when it is loaded
                shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
                set_peft_model_state_dict(shadow, shapes)
            wanted = get_peft_model_state_dict(shadow, save_embedding_layers=False)
            problem = _difference(tensors, shadow.state_dict() | wanted, wanted, values=False)
    except NotImplementedError:
        return ""
    except READING_ERRORS as error:
        return first_line(error, 300)
    return problem
