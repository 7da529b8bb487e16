"""What keys and values weigh, and what room there is for them."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def token_bytes(config, dtype: torch.dtype) -> int:
    """Bytes that one token of one branch keeps: a key and a value a layer and key-value head."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * dtype.itemsize


def learning_bytes(config, dtype: torch.dtype, tokens: int, said: int, checkpointing: bool = False) -> int:
    """What a forward and a backward pass over one view keeps beside the weights, about.

    `tokens` are read, `said` of them learnt from. A layer keeps some 10 vectors of the hidden width a token and 6 of
    the inner one (with `checkpointing` its input alone, but for the layer under way); the logits keep 4 numbers in
    float32, the mask one a pair of tokens.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layer = tokens * (10 * width + 6 * inner) * dtype.itemsize
    kept = tokens * layers * width * dtype.itemsize + layer if checkpointing else layers * layer
    return kept + said * config.vocab_size * 16 + tokens**2 * dtype.itemsize


def weight_bytes(
    config, dtype: torch.dtype, r: int, modules: str | list[str], full: bool = False, layers: list[int] | None = None
) -> int:
    """What a learner keeps whatever it reads: its weights, and of what is trained a gradient and AdamW's two moments.

    `layers`: that get an adapter, None for all. An adapter is in float32, and so is a model that is trained whole
    (`full`), which is there a second time as it was untouched.
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
    """What can still be allocated there: on CUDA what the driver has left and what torch holds without using it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(psutil.virtual_memory().available, _left_to_this_container())


def place(device: torch.device) -> str:
    """Which memory that is: engines with the same place share it."""
    if device.type == "cuda":
        return f"{platform.node()} {torch.cuda.get_device_properties(device).uuid}"
    return f"{platform.node()} {device.type}"


def _left_to_this_container() -> float:
    """Bytes up to the limit of the control group, infinite where there is none."""
    try:
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such files, or "max"
        return float("inf")
