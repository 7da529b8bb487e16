"""The entry of a judge: its name, its constructor, what it needs, and what it can detect."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from metrics.judges import LINES, Judge
from metrics.judges.pair_retrieval import Embed
from scenarios.schema import Measure

EMBEDDER, REFERENCE = "embedder", "reference"  # what a judge may need


class Models(Protocol):
    """The models from which a judge is made."""

    @property
    def measure(self) -> Measure: ...

    @property
    def engines(self) -> Any:  # the lab's engines by the name of their base model
        ...

    @property
    def device(self) -> str:  # of models that are no engines
        ...

    def embed(self) -> Embed:
        """The embedder, texts -> unit vectors (texts, width), for judges whose `needs` name EMBEDDER."""
        ...

    def logprobs(self) -> Callable:
        """The log-probabilities of texts in nats (see `metrics.judges.likelihood`), for judges whose `needs` name
        REFERENCE.
        """
        ...

    def judge(self, name: str) -> Judge:
        """Another judge, made from the same models."""
        ...


def _nothing(measure: Measure) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class JudgeEntry:
    """A judge that a scenario can name. A package adds one by an entry point of the group `dialogue_lab.judges`.

    `make` returns the judge, whose `name` is the entry's. `scores` are the metrics whose pairs it can score; the
    judge's own `metrics` are among them. `engines` returns the base models of which it needs an engine, for a
    scenario's measure. `check` raises ValueError where something else that it needs is missing, before any model is
    loaded. `finds` are the kinds of planted drift that `python -m lab.selftest` requires it to detect. `free` says that
    a judgement costs nothing but time; those of any other judge are stored a few lines at a time, so that none is paid
    for twice.
    """

    name: str
    make: Callable[[Models], Judge]
    scores: tuple[str, ...] = LINES
    needs: tuple[str, ...] = ()  # of EMBEDDER and REFERENCE
    engines: Callable[[Measure], Collection[str]] = _nothing
    check: Callable[[Measure], object] = _nothing
    finds: tuple[str, ...] = ()
    free: bool = False

    def scores_lines(self) -> bool:
        """Whether the judge scores lines, so that it can reward a training and take part in a cascade."""
        return bool(set(LINES) & set(self.scores))
