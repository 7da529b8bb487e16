"""Small models with random weights, and a tokenizer whose tokens are the 128 ASCII characters."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from agents.engine.local import LocalEngine
from agents.models import attention
from agents.models.chat_template import ChatFormat
from agents.models.info import EngineInfo
from agents.models.loading import LoadedModel, context_length

VOCABULARY = 128
CLOSE = 1e-4  # nats
WINDOW = 16
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
LAYERS = ["sliding_attention", "full_attention"]


def llama(**changes) -> PretrainedConfig:
    return LlamaConfig(**SIZES | changes)


CONFIGS = {
    "llama": llama,
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "gemma2": lambda: Gemma2Config(
        **SIZES,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=WINDOW,
        layer_types=LAYERS,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=WINDOW, layer_types=LAYERS
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    ),
}


class Characters:
    """A tokenizer in which every token is one character."""

    chat_template, eos_token_id, bos_token_id, name_or_path = None, None, None, "characters"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) % VOCABULARY for character in text]

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, ids))


def plain(config: PretrainedConfig, seed: int = 0):
    """The model as transformers runs it. Eager attention knows every model's softcap."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)


def engine(model, *stop_ids: int) -> LocalEngine:
    """An engine over a copy of the model."""
    attention.register()
    model = copy.deepcopy(model)
    model.set_attn_implementation(attention.NAME)
    info = EngineInfo(
        "tiny",
        "cpu",
        "float32",
        context_length(model.config),
        sum(p.numel() for p in model.parameters()),
        ChatFormat.plain(),
    )
    return LocalEngine(LoadedModel(model, Characters(), info, frozenset(stop_ids)))


def prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


@torch.inference_mode()
def logprobs(model, ids: list[int]) -> torch.Tensor:
    """(len(ids), V): row t is what comes after ids[: t + 1], from one plain forward pass."""
    return model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def target_logprobs(model, given: list[int], target: list[int]) -> list[float]:
    """log p of each target token after the given ones, from one plain forward pass."""
    table = logprobs(model, [*given, *target])
    return [float(table[len(given) + i - 1, token]) for i, token in enumerate(target)]


def greedy(model, prompt: list[int], tokens: int) -> list[int]:
    out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
    return out[0, len(prompt) :].tolist()


def flat(nested) -> list[float]:
    if isinstance(nested, (list, tuple)):
        return [x for part in nested for x in flat(part)]
    return [nested]


def close(actual, wanted) -> bool:
    actual, wanted = flat(actual), flat(wanted)
    return len(actual) == len(wanted) > 0 and float(np.abs(np.subtract(actual, wanted)).max()) < CLOSE
