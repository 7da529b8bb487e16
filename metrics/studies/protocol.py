"""The protocol between a study and the model that it examines, and what a study returns: controls and tests.

A file of `metrics/studies/` holds

    class Stimuli(Strict): ...                                                  # the schema of its stimuli file
    def study(ask: Ask, stimuli: Stimuli, seed: int, *, items: Count) -> Finding

and does not know who answers: `ask` is a model in a run, and in tests a respondent with known answers. A study is a
function of the answers alone: equal answers give an equal finding, so that an interrupted study resumes by asking what
is missing. A study must end whatever the answers are: before a model is asked, the study is executed on a respondent
that finds all options equally probable, which gives the number of questions. `metrics.studies.verdict` decides on the
finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import polars as pl

from metrics.stats.intervals import Interval, clustered_mean, clustered_statistic, ratio
from metrics.stats.shares import share_of_counts

Message = tuple[str, str]  # role ("system", "user", "assistant") and words
Range = tuple[float, float]
NEVER: Range = math.inf, -math.inf  # nothing lies in it: what cannot refute by itself, or confirm


@dataclass(frozen=True)
class StudyQuestion:
    """One question to the model.

    `messages` are an optional system text, then user and assistant in turn. Where the last message is the assistant's,
    its answer continues that text. `options` are the possible continuations, which start with a blank where a text is
    continued.
    """

    item: str  # what the answer is of, for tables and the live view
    messages: tuple[Message, ...]
    options: tuple[str, ...] = ()
    cluster: str = ""  # items of one unit of the intervals
    seed: int = 0  # of a sampled answer


@dataclass(frozen=True)
class OptionScores:
    """The log-probability of each option as a continuation (nats, summed over its tokens), and its number of tokens."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def p(self) -> np.ndarray:
        """(options,) probabilities given that one of the options is the answer: softmax of `nats`."""
        weights = np.exp(np.array(self.nats) - max(self.nats))
        return weights / weights.sum()


@dataclass(frozen=True)
class Lesson:
    """A reply of the assistant to train on.

    A `reward` below 0 marks a reply to avoid, for the methods that use negative examples.
    """

    messages: tuple[Message, ...]
    reply: str
    reward: float = 1.0


@dataclass(frozen=True)
class Teaching:
    """How an adapter is trained.

    `method` is sft, unlikelihood, gold, varmi, dpo or kto; `batch` is the number of lessons per step.
    """

    steps: int
    batch: int = 8
    method: str = "sft"
    learning_rate: float = 2e-4
    r: int = 8
    beta: float = 0.1  # of DPO and KTO
    seed: int = 0


@dataclass(frozen=True)
class Steered:
    """How the model's hidden states are changed along a direction.

    `how` (add, ablate, cap or floor) is as in `agents.engine.protocol.Steer`.
    """

    direction: str  # what `direct` named
    how: str = "add"
    coefficient: float = (
        0.5  # of add in lengths of a state; of cap and floor 0 is what it leads away from, 1 what it leads to
    )
    depths: tuple[float, ...] = (0.5,)  # behind which layers, as shares of them
    random: int | None = None  # the seed of a direction of equal length that stands for nothing, in its place


@dataclass(frozen=True)
class PlayedRun:
    """The frames of a run, with the columns of the files in its folder."""

    turns: pl.DataFrame
    judgements: pl.DataFrame
    metrics: pl.DataFrame


@dataclass(frozen=True)
class Trained:
    """The frames and figures of a training, with the columns of the files in its folder."""

    worn: str  # the name of the adapter
    evaluation: pl.DataFrame
    training: pl.DataFrame
    parameters: int = 0  # number of trained weights
    seconds: float = 0.0  # of playing and training
    stopped: str = ""  # the tripwire that stopped it, in words; "" for none


class Ask(Protocol):
    """The model under study, in batches.

    `arm` is the name under which the live view, the log and answers.parquet count the questions. `worn` is the name of
    an adapter that the model uses instead of its seat's own. `steered` says how its states are moved.
    """

    def choose(
        self, arm: str, questions: Sequence[StudyQuestion], worn: str | None = None, steered: Steered | None = None
    ) -> list[OptionScores]:
        """The log-probability of every option of each question, in nats."""
        ...

    def say(
        self,
        arm: str,
        questions: Sequence[StudyQuestion],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        worn: str | None = None,
        steered: Steered | None = None,
    ) -> list[str]:
        """A sampled answer to each question, without top-k or top-p; temperature 0 takes the most probable token."""
        ...

    def teach(self, arm: str, lessons: Sequence[Lesson], how: Teaching) -> str:
        """The name of an adapter trained on the lessons, for `worn`. Equal lessons are trained once and give the same
        name.
        """
        ...

    def direct(self, away: Sequence[StudyQuestion], towards: Sequence[StudyQuestion]) -> str:
        """The name of the direction from the mean state over `away` to the mean state over `towards`.

        The state is the one before the answer, or the mean over the tokens of the first option where a question has
        options.
        """
        ...

    def play(self, arm: str, scenario: str, changes: Mapping[str, object], worn: str | None = None) -> PlayedRun:
        """A run of a scenario; equal arguments play one run only.

        `scenario` is a file, relative to the stimuli file. `changes` maps dotted keys to values that override the file.
        The model under study speaks in the user's seat and uses the adapter `worn`.
        """
        ...

    def train(self, arm: str, recipe: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Trained:
        """A training of the model under study; equal arguments train once.

        `recipe` is a file, relative to the stimuli file. `changes` maps dotted keys to values that override the file;
        keys under "overrides." are those of the scenario. `data` names trainings from whose dialogues it learns.
        """
        ...


@dataclass(frozen=True)
class Control:
    """An effect that must be there, or must be absent, if the measure works.

    The control has passed where all of the interval lies in the range `passes`, has failed where all of it lies
    outside, and is unclear otherwise. `interval.n` is the number of its units; `unit` is the unit of its values.
    """

    interval: Interval
    passes: Range
    unit: str = ""


@dataclass(frozen=True)
class Test:
    """An interval with the ranges that confirm or refute the claim where they contain all of it.

    `interval.n` is the number of its units.
    """

    __test__ = False  # pytest's word for its own

    interval: Interval
    confirms: Range
    refutes: Range


@dataclass(frozen=True)
class Picture:
    """A plot: curves of (x, interval), x a number or a name, and `marks`, horizontal lines by label."""

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[tuple[float | str, Interval]]]
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """The result of a study. The first of the `tests` is its statistic; a finding is confirmed where all tests
    confirm, and refuted by any of them.
    """

    tests: Mapping[str, Test]  # by what was measured, in words, with its unit
    controls: Mapping[str, Control]
    reading: str  # a sentence that says what came out, in words
    measures: Mapping[str, Interval] = field(default_factory=dict)  # further figures
    pictures: Mapping[str, Picture] = field(default_factory=dict)  # by file name, without .png
    # title -> row -> column; rows may lack some
    tables: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(default_factory=dict)


def above(bound: float) -> Range:
    """The open range above the bound, for a `Test`."""
    return bound, math.inf


def below(bound: float) -> Range:
    """The open range below the bound, for a `Test`."""
    return -math.inf, bound


def mean_of(values: object) -> Interval:
    """The mean of all `values` (units, ...), without NaN, with its 95% interval over units.

    A unit is one row: a game with all its turns, an item with all its wordings. For paired differences, give the
    differences; for what is true or false, take `proportion_of`. n counts units with any value; without values the mean
    is NaN and n = 0.
    """
    rows = _unit_rows(values)
    units, known = np.repeat(np.arange(len(rows)), rows.shape[1]), np.isfinite(rows.ravel())
    return replace(clustered_mean(rows.ravel()[known], units[known]), n=len(set(units[known])))


def proportion_of(values: object, less: float = 0.0) -> Interval:
    """The share of `values` (units, ...) that are 1, without NaN, with its 95% interval (`metrics.stats.shares`).

    The values of one unit are a cluster. They may be parts of 1, such as hits among equals. `less`, the share by
    chance, is subtracted. n counts units with any value; without values the share is NaN and n = 0.
    """
    rows = _unit_rows(values)
    known = np.isfinite(rows).sum(1)
    share = share_of_counts(np.nansum(rows, 1), known)
    return Interval(share.value - less, share.low - less, share.high - less, int((known > 0).sum()))


def share_of(part: np.ndarray, whole: np.ndarray) -> Interval:
    """Σ part / Σ whole, both (units, ...), with its 95% interval over units.

    NaN where the whole is not above 0; without an interval where it is not above 0 without one of the units.
    """
    sums = np.stack([np.reshape(values, (len(values), -1)).sum(1) for values in (part, whole)], 1)
    return clustered_statistic(sums, lambda s: ratio(s[:, :1], np.where(s[:, 1:] > 0, s[:, 1:], 0.0)), n=len(sums))


def _unit_rows(values: object) -> np.ndarray:
    """(units, values of each), also without units."""
    rows = np.asarray(values, float)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def entropy_bits(p: np.ndarray) -> np.ndarray:
    """-Σ p log₂ p over the last axis: (..., options) -> (...)."""
    p = np.asarray(p, float)
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(-1)
