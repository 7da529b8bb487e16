"""The memory of keys and values, of weights and of training, and the free memory, in bytes."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def token_bytes(config, dtype: torch.dtype) -> int:
    """The bytes of one token of one branch: a key and a value per layer and key-value head."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * dtype.itemsize


def learning_bytes(config, dtype: torch.dtype, tokens: int, said: int, checkpointing: bool = False) -> int:
    """An estimate of the bytes of a forward and a backward pass over one view, besides the weights.

    `tokens` are read, `said` of them have a loss. A layer keeps about 10 vectors of the hidden width and 6 of the inner
    width per token (with `checkpointing` only its input, except for the layer in progress). The logits keep 4 numbers
    in float32, the mask one per pair of tokens.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layer = tokens * (10 * width + 6 * inner) * dtype.itemsize
    kept = tokens * layers * width * dtype.itemsize + layer if checkpointing else layers * layer
    return kept + said * config.vocab_size * 16 + tokens**2 * dtype.itemsize


def weight_bytes(
    config, dtype: torch.dtype, r: int, modules: str | list[str], full: bool = False, layers: list[int] | None = None
) -> int:
    """The bytes of a learner independent of its data: the weights and, for trained weights, a gradient and AdamW's two
    moments.

    `layers` are those with an adapter, None for all. Adapters are in float32. So is a fully trained model (`full`),
    which also keeps a copy of itself from before training.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        weights = sum(parameter.numel() for parameter in model.parameters())
        if full:
            return weights * (4 + 4 + 4 + 8)
        adapted = get_peft_model(
            model, LoraConfig(r=r, target_modules=modules, layers_to_transform=layers, task_type="CAUSAL_LM")
        )
        trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    return weights * dtype.itemsize + trained * (4 + 4 + 8)


def free_bytes(device: torch.device) -> int:
    """The bytes that can still be allocated; on CUDA, those free in the driver and those that torch reserves but does
    not use.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(min(psutil.virtual_memory().available, _left_to_this_container()))


def place(device: torch.device) -> str:
    """The name of the memory of a device: engines with equal names share it."""
    if device.type == "cuda":
        return f"{platform.node()} {torch.cuda.get_device_properties(device).uuid}"
    return f"{platform.node()} {device.type}"


def _left_to_this_container() -> float:
    """The bytes up to the limit of the control group; infinite without a limit."""
    try:
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such files, or "max"
        return float("inf")
