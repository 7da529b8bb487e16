"""The requests and answers of an engine: plain data, so that a Ray actor or a server can take its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from agents.models.info import EngineInfo

MIN_TOKENS = 1  # of a line: an empty one is none


@dataclass(frozen=True)
class Sampling:
    """How one branch is continued. Equal seeds on equal branches give equal tokens (exactly in float32)."""

    seed: int
    max_tokens: int = 48
    temperature: float = 0.8  # 0: greedy
    top_k: int = 50  # 0: whole vocabulary
    top_p: float = 1.0
    sentences: int | None = None  # stop once that many sentences have ended
    min_tokens: int = MIN_TOKENS  # no stop token before that many
    thinking: bool = False  # the branch ends inside a thought, whose sentences do not count


@dataclass(frozen=True)
class Sample:
    """A sampled line.

    `logprobs` are in nats at temperature 1 over the whole vocabulary, one per token. `drawn` are those of the
    distribution from which the tokens were drawn, () where a server does not give them.
    """

    token_ids: tuple[int, ...]  # the stop token included, where one was sampled
    logprobs: tuple[float, ...]
    stopped: str  # "stop" (a stop token), "sentences", "length", or "mark" (cut where it went on as the partner)
    trouble: str | None = None  # why nothing could be sampled, where a server failed
    projections: Mapping[str, float] = field(default_factory=dict)  # on the directions that the engine watches, by name
    drawn: tuple[float, ...] = ()


@dataclass(frozen=True)
class Steer:
    """A change of the hidden state h of every token of a branch, after some decoder layers, along a unit vector v.

    - add: h + amount v.
    - ablate: h - (h·v) v.
    - cap: where h·v exceeds the amount, it becomes the amount.
    - floor: where h·v is below the amount, it becomes the amount.
    """

    how: str
    layers: tuple[int, ...]  # from 0
    vectors: bytes  # (layers, width) float32
    amounts: tuple[float, ...]  # one a layer, on the scale of the states


@dataclass
class Usage:
    """The work of an engine: tokens, and seconds by activity. `tokens_computed / tokens_new` is 1 where no token was
    read twice.
    """

    tokens_new: int = 0  # tokens that no branch had read before at their place
    tokens_computed: int = 0  # tokens that went through the model
    generated: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "generate": 0.0, "score": 0.0})

    def plus(self, other: Usage) -> Usage:
        """The sums of both usages."""
        totals = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "seconds"}
        return Usage(**totals, seconds={phase: s + other.seconds[phase] for phase, s in self.seconds.items()})


class Engine(Protocol):
    """A model with a cache: branches of token ids, each token read once.

    A branch is named by an int; an unknown name raises KeyError, except in `drop`. `open`, `extend`, `generate` and
    `score` raise ValueError where tokens exceed the model's context, and leave all branches as they were.
    """

    def info(self) -> EngineInfo:
        """The description of the model."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text. Special tokens in the text are recognised, and none are added."""
        ...

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of ids, without special tokens."""
        ...

    def open(
        self, prompts: Sequence[Sequence[int]], adapter: str | None = None, steer: Steer | None = None
    ) -> list[int]:
        """A new branch per prompt, with an adapter folder or the bare model, optionally steered; forks inherit both.

        Without prompts, only the adapter is loaded. Raises ValueError for an empty prompt, and for an adapter or
        steering that does not fit the model.
        """
        ...

    def install(self, adapter: str, config: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Loads an adapter under this name from PEFT's config and tensors, or replaces its weights.

        Open branches keep their cache.
        """

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Appends ids to each branch; the tokens are read when they are needed."""

    def fork(self, branches: Sequence[int]) -> list[int]:
        """An independent copy of each branch."""
        ...

    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]:
        """One sampled line per branch, which is appended to it. Raises ValueError where a branch occurs twice."""
        ...

    def score(
        self,
        branches: Sequence[int],
        continuations: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]],
    ) -> list[list[list[float]]]:
        """For each branch and each (given ids, target ids) after it: the log-probability of every target token, in
        nats.

        The branches are unchanged.
        """
        ...

    def drop(self, branches: Sequence[int]) -> None:
        """Frees the branches; unknown names are ignored."""

    def watch(self, cards: Mapping[str, str], heard: Sequence[str], seed: int) -> None:
        """From now on every sample has its projection on the direction of each card, by name; see
        `agents.engine.steering.watch`.
        """

    def states(self, prompts: Sequence[Sequence[int]], starts: Sequence[int], adapter: str | None = None) -> np.ndarray:
        """The mean hidden state of each prompt's tokens from its start on, after each decoder layer.

        Shape (prompts, layers, width), float32. Raises ValueError for an engine on a server, which does not provide
        states.
        """
        ...

    def usage(self) -> Usage:
        """The work since the engine was started."""
        ...


def check_each_once(branches: Sequence[int]) -> None:
    """Raises ValueError where a branch is to be continued twice in one call."""
    if len(set(branches)) < len(branches):
        raise ValueError(
            f"{len(branches)} branches were to be continued, {len(set(branches))} of them different; expected each "
            "once (fork one for several lines)"
        )
