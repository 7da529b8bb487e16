"""Learners on small random models: folders as transformers saves them, so that a learner and an engine load them by
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tiny
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from agents.learning.learner import Learner
from agents.learning.views import Sampled, View
from scenarios.jobs.training_keys import Tuning

END = 3  # the end-of-text token
HEARD = 12  # tokens before each line of `view`
QUESTION = 5  # and of the question after its last


def tokenizer(vocabulary: int = tiny.VOCABULARY) -> PreTrainedTokenizerFast:
    """As `tiny.Characters`: token i is the character i. The end of the text is token 3, or the last of fewer."""
    word_level = Tokenizer(models.WordLevel({chr(i): i for i in range(vocabulary)}, chr(0)))
    word_level.pre_tokenizer, word_level.decoder = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=word_level, eos_token=chr(min(END, vocabulary - 1)), pad_token=chr(0)
    )


def text(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def saved(config: PretrainedConfig, folder: Path, seed: int = 0) -> str:
    """The name of `tiny.plain(config, seed)`."""
    tiny.plain(config, seed).save_pretrained(folder)
    tokenizer(config.vocab_size).save_pretrained(folder)
    return str(folder)


def tuning(**keys) -> Tuning:
    return Tuning(**{"r": 4, "lora_alpha": 32.0, "learning_rate": 1e-4} | keys)


def learner(name: str, *, noise: float = 0.1, **keys) -> Learner:
    """On the CPU in float32; `keys` of the learner and of its tuning. `noise`: deviation added to what is trained, so
    that the model is no longer the untouched one.
    """
    tuned = {key: value for key, value in keys.items() if key in Tuning.model_fields}
    rest = {key: value for key, value in keys.items() if key not in tuned}
    built = Learner(name, tuning(**tuned), dtype="float32", device="cpu", **rest)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in built.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * noise)
    return built


def gradient(learner: Learner, parts) -> tuple[float, torch.Tensor]:
    """The loss of an update, and its gradient as one vector, from a learner whose max_grad_norm is out of reach."""
    loss = learner.update(parts).loss
    return loss, torch.cat([parameter.grad.flatten() for parameter in learner.parameters])


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in learner.parameters]).clone()


def view(*lengths: int, conversation: int = 0, takes: int = 2, rewards: Sequence[float | None] | None = None) -> View:
    """For each length 12 tokens heard and a line of so many, the END included; at each place `takes` lines, the first
    on the trunk and each other a token longer than the one before it; after the last a question with as many answers.
    `rewards` in that order.
    """
    sizes = [n for length in lengths for n in (HEARD, *(length - 1 + take for take in range(takes)))]
    tokens = iter(tiny.prompts(*sizes, QUESTION, *(2 + take for take in range(takes)), seed=1 + conversation))
    ids: list[int] = []
    lines = []
    for turn in range(len(lengths)):
        ids += next(tokens)
        said = [(*next(tokens), END) for _ in range(takes)]
        lines += [Sampled(turn, len(ids), line, on_trunk=take == 0) for take, line in enumerate(said)]
        ids += said[0]
    given = tuple(next(tokens))
    lines += [
        Sampled(len(lengths), len(ids), (*answer, END), on_trunk=False, given=given, about="fact") for answer in tokens
    ]
    if rewards is not None:
        lines = [
            replace(line, reward=None if reward is None else float(reward))
            for line, reward in zip(lines, rewards, strict=True)
        ]
    return View(conversation, f"persona{conversation}", tuple(ids), tuple(lines))
