"""What makes a judge a choice in every scenario: its name, how it is made, what it needs and what it can see."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from metrics.judges import LINES, Judge
from metrics.judges.pair_retrieval import Embed
from scenarios.schema import Measure

EMBEDDER, REFERENCE = "embedder", "reference"  # what a judge may need


class Models(Protocol):
    """What a judge is made from."""

    measure: Measure
    engines: Any  # the lab's engines by the name of their base model
    device: str  # of models that are no engines

    def embed(self) -> Embed:
        """The embedder: texts -> unit vectors (texts, width). Only for judges whose `needs` name it."""
        ...

    def logprobs(self) -> Callable:
        """What the embedded model gives texts, in nats (see `metrics.judges.likelihood`); `needs` has REFERENCE."""
        ...

    def judge(self, name: str) -> Judge:
        """Another judge, made from the same."""
        ...


def _nothing(measure: Measure) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class JudgeEntry:
    """A judge that a scenario can name. A package brings its own by an entry point of `dialogue_lab.judges`.

    `make` gives the judge, whose `name` is the entry's. `scores` are the metrics whose pairs it can score, and the
    judge's own `metrics` are among them. `engines` gives the base models that it needs an engine of, for a scenario's
    measure; `check` raises ValueError where something else that it needs is not there, before a model is loaded.
    `finds` are the kinds of planted drift that `python -m lab.selftest` requires it to find.
    """

    name: str
    make: Callable[[Models], Judge]
    scores: tuple[str, ...] = LINES
    needs: tuple[str, ...] = ()  # of EMBEDDER and REFERENCE
    engines: Callable[[Measure], Collection[str]] = _nothing
    check: Callable[[Measure], object] = _nothing
    finds: tuple[str, ...] = ()

    def scores_lines(self) -> bool:
        """Whether it can reward a training or be part of a cascade."""
        return bool(set(LINES) & set(self.scores))
