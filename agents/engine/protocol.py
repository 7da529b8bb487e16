"""What an engine is asked and what it answers. Plain data, so that a Ray actor or a server can stand in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from agents.models.info import EngineInfo

MIN_TOKENS = 1  # of a line: an empty one is none


@dataclass(frozen=True)
class Sampling:
    """How one branch is continued. The same seed on the same branch gives the same tokens (exactly so in float32)."""

    seed: int
    max_tokens: int = 48
    temperature: float = 0.8  # 0: greedy
    top_k: int = 50  # 0: whole vocabulary
    top_p: float = 1.0
    sentences: int | None = None  # stop once that many sentences have ended
    min_tokens: int = MIN_TOKENS  # no stop token before that many


@dataclass(frozen=True)
class Sample:
    """What was sampled. `logprobs` are natural logs at temperature 1 over the whole vocabulary, one a token; `drawn`
    those of the probabilities that the tokens were drawn with, () where a server does not say.
    """

    token_ids: tuple[int, ...]  # the stop token included, where one was sampled
    logprobs: tuple[float, ...]
    stopped: str  # "stop" (a stop token), "sentences" or "length"
    trouble: str | None = None  # why nothing could be sampled, where a server failed
    projections: Mapping[str, float] = field(default_factory=dict)  # on the directions that the engine watches, by name
    drawn: tuple[float, ...] = ()


@dataclass(frozen=True)
class Steer:
    """What is done to the state h of every token of a branch behind some decoder layers, along a vector v of length 1
    each:

    add: h + amount v. ablate: h - (h·v) v. cap: h·v made the amount where it is more; floor: where it is less.
    """

    how: str
    layers: tuple[int, ...]  # from 0
    vectors: bytes  # (layers, width) float32
    amounts: tuple[float, ...]  # one a layer, on the scale of the states


@dataclass
class Usage:
    """Work done so far. `tokens_computed / tokens_new` is 1 where no token was ever read twice."""

    tokens_new: int = 0  # tokens that no branch had read before at their place
    tokens_computed: int = 0  # tokens that went through the model
    generated: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "generate": 0.0, "score": 0.0})

    def plus(self, other: Usage) -> Usage:
        totals = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "seconds"}
        return Usage(**totals, seconds={phase: s + other.seconds[phase] for phase, s in self.seconds.items()})


class Engine(Protocol):
    """A model that remembers: branches of token ids, each read once.

    A branch is named by an int. `fork` copies one, `score` reads continuations of one without changing it, `drop` frees
    it.
    """

    def info(self) -> EngineInfo: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens in the text recognised, none added."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Text of each id list, special tokens left out."""

    def open(
        self, prompts: Sequence[Sequence[int]], adapter: str | None = None, steer: Steer | None = None
    ) -> list[int]:
        """A branch per prompt, under an adapter folder or the bare model, steered or not, and so are its forks. No
        prompts: the adapter is loaded, nothing else.
        """

    def install(self, adapter: str, config: Mapping[str, object], weights: Mapping[str, object]) -> None:
        """An adapter by this name, of PEFT's config and tensors; one that is there gets these. Open branches keep what
        they read.
        """

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None: ...

    def fork(self, branches: Sequence[int]) -> list[int]: ...

    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]: ...

    def score(
        self,
        branches: Sequence[int],
        continuations: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]],
    ) -> list[list[list[float]]]:
        """For each branch and each (given ids, target ids) after it: log p of every target token, in nats."""

    def drop(self, branches: Sequence[int]) -> None: ...

    def watch(self, cards: Mapping[str, str], heard: Sequence[str], seed: int) -> None:
        """From now on every sample tells its projection on the direction of each card; see `agents.engine.steering`."""

    def states(self, prompts: Sequence[Sequence[int]], starts: Sequence[int], adapter: str | None = None) -> np.ndarray:
        """(prompts, layers, width) float32: behind each decoder layer the mean state of each prompt's tokens from its
        start on.
        """

    def usage(self) -> Usage: ...
