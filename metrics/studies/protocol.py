"""What a study asks, by a small protocol, and what it comes to: controls first, then tests, then one word.

A file of `metrics/studies/` holds

    class Stimuli(Strict): ...                                                  # the form of its stimuli file
    def study(ask: Ask, stimuli: Stimuli, seed: int, *, items: Count) -> Finding

and knows nobody who answers: `ask` is a model in a run, and in tests a respondent who is planted with a known answer. A
study is a function of the answers alone: the same ones give the same finding, so that a killed study resumes by asking
what is left. It must come to an end whatever is answered, nothing sensible included: before anybody is asked, it is
played on somebody who finds all options alike, which tells how much there is to ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import polars as pl

from metrics.stats.bootstrap import Interval, clustered_mean, clustered_statistic, ratio

CONFIRMS, REFUTES, INCONCLUSIVE, FAILED = "confirms", "refutes", "inconclusive", "no verdict: a control failed"
Message = tuple[str, str]  # role ("system", "user", "assistant") and words
Range = tuple[float, float]
NEVER: Range = math.inf, -math.inf  # nothing lies in it: what cannot refute by itself, or confirm
FEWEST = 6  # units: of fewer, intervals by resampling are far too narrow (of three, 75% at the most in place of 95%)


@dataclass(frozen=True)
class StudyQuestion:
    """What is asked once. `messages`: a system text or none, then user and assistant in turn; where the assistant's
    come last, its turn begins with them. `options`: how its turn goes on, with a blank in front where it has begun.
    """

    item: str  # what the answer is of, for tables and the live view
    messages: tuple[Message, ...]
    options: tuple[str, ...] = ()
    cluster: str = ""  # what the bootstrap draws together
    seed: int = 0  # of a sampled answer


@dataclass(frozen=True)
class OptionScores:
    """Log-probability of each option as the next words, in nats, summed over its tokens; and how many these are."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def p(self) -> np.ndarray:
        """(options,) as though one of the options had to come: softmax of nats."""
        weights = np.exp(np.array(self.nats) - max(self.nats))
        return weights / weights.sum()


@dataclass(frozen=True)
class Lesson:
    """What the assistant says in answer to a talk; with a `reward` below 0 what it is not to say, in methods that hear
    of it.
    """

    messages: tuple[Message, ...]
    reply: str
    reward: float = 1.0


@dataclass(frozen=True)
class Teaching:
    """How an adapter learns; `method`: sft, unlikelihood, gold, varmi, dpo or kto. `batch`: talks a step."""

    steps: int
    batch: int = 8
    method: str = "sft"
    learning_rate: float = 2e-4
    r: int = 8
    beta: float = 0.1  # of DPO and KTO
    seed: int = 0


@dataclass(frozen=True)
class Steered:
    """What is done meanwhile to the model's states along a direction; `how`: add, ablate, cap or floor, as in
    `agents.engine.protocol.Steer`.
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
    """A run: its frames, as they lie in its folder."""

    turns: pl.DataFrame
    judgements: pl.DataFrame
    metrics: pl.DataFrame


@dataclass(frozen=True)
class Trained:
    """A training: its frames, as they lie in its folder."""

    worn: str  # the name of what was learnt
    evaluation: pl.DataFrame
    training: pl.DataFrame
    parameters: int = 0  # that learnt
    seconds: float = 0.0  # playing and learning
    stopped: str = ""  # by which tripwire, in words


class Ask(Protocol):
    """Batches in, batches out. `arm`: what the live view, the log and answers.parquet count them under. `worn`: the
    name of what the model was taught and wears meanwhile, in place of the seat's own adapter; `steered`: what is done
    to its states.
    """

    def choose(
        self, arm: str, questions: Sequence[StudyQuestion], worn: str | None = None, steered: Steered | None = None
    ) -> list[OptionScores]: ...

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
        """An answer to each in words, sampled from the whole vocabulary; temperature 0 takes the likeliest."""
        ...

    def teach(self, arm: str, lessons: Sequence[Lesson], how: Teaching) -> str:
        """The name of what was learnt, to be `worn`: the same for the same lessons, which are taught once."""
        ...

    def direct(self, away: Sequence[StudyQuestion], towards: Sequence[StudyQuestion]) -> str:
        """The name of a direction of the model's states, from their mean over one set of talks to that over the other:
        the state that its turn goes on from, or the mean over the words of the first option where there are options.
        """
        ...

    def play(self, arm: str, scenario: str, changes: Mapping[str, object], worn: str | None = None) -> PlayedRun:
        """An ordinary run, which is played once. `scenario`: its file, relative to the stimuli's; `changes`: values by
        dotted key, laid over it. The seat's model speaks for the user, who wears `worn`.
        """
        ...

    def train(self, arm: str, recipe: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Trained:
        """An ordinary training of the seat's model, likewise; keys below "overrides." are the scenario's. `data`: names
        of trainings whose dialogues it learns from.
        """
        ...


@dataclass(frozen=True)
class Control:
    """Whether the measure finds what is known to be there, or nothing where nothing is; `evidence`: the figures
    that say so.
    """

    passed: bool
    evidence: str


@dataclass(frozen=True)
class Test:
    """An interval, and the ranges that it must lie in as a whole to confirm or to refute. `interval.n`: units that were
    resampled.
    """

    __test__ = False  # pytest's word for its own

    interval: Interval
    confirms: Range
    refutes: Range


@dataclass(frozen=True)
class Picture:
    """Curves of (x, interval); x is a number or a name. `marks`: horizontal lines by their name."""

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[tuple[float | str, Interval]]]
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a study came to. The first of the `tests` is the statistic; all must confirm for the finding to be
    confirmed.
    """

    tests: Mapping[str, Test]  # by what was measured, in words, with its unit
    controls: Mapping[str, Control]
    reading: str  # a sentence that says what came out, in words
    measures: Mapping[str, Interval] = field(default_factory=dict)  # further figures
    pictures: Mapping[str, Picture] = field(default_factory=dict)  # by file name, without .png
    tables: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(
        default_factory=dict
    )  # title -> row -> column; rows may lack some


@dataclass(frozen=True)
class Verdict:
    word: str  # CONFIRMS, REFUTES, INCONCLUSIVE or FAILED
    why: str
    needed: int | None = None  # units that would probably decide, where it is inconclusive and any number would


def above(bound: float) -> Range:
    return bound, math.inf


def below(bound: float) -> Range:
    return -math.inf, bound


def study_verdict(controls: Mapping[str, Control], tests: Mapping[str, Test]) -> Verdict:
    """Controls decide first: where one failed there is no finding. Then one test that refutes refutes, and all must
    confirm to confirm; what has fewer than FEWEST units does neither.

    Inconclusive: an interval's width shrinks with the root of n, so that n (half width / distance to the bound)² units
    would bring it to that side of the bound that its value is on.
    """
    if failed := [f"{name} ({control.evidence})" for name, control in controls.items() if not control.passed]:
        return Verdict(FAILED, f"control failed: {'; '.join(failed)}")
    if refuting := [name for name, test in tests.items() if _within(test.interval, test.refutes)]:
        return Verdict(REFUTES, f"{refuting[0]} lies {_range_text(tests[refuting[0]].refutes)}")
    open_ones = {name: test for name, test in tests.items() if not _within(test.interval, test.confirms)}
    if not open_ones:
        return Verdict(
            CONFIRMS, " and ".join(f"{name} lies {_range_text(test.confirms)}" for name, test in tests.items())
        )
    if few := [f"{name}, {test.interval.n}" for name, test in open_ones.items() if not _enough(test.interval)]:
        return Verdict(INCONCLUSIVE, f"too few units for an interval (at least {FEWEST}): {'; '.join(few)}")
    needed = {name: _needed(test) for name, test in open_ones.items()}
    if undecided := [name for name, units in needed.items() if units is None]:
        test = tests[undecided[0]]
        return Verdict(
            INCONCLUSIVE,
            f"{undecided[0]} lies where no number of units would decide between {_range_text(test.confirms)} "
            f"(confirms) and {_range_text(test.refutes)} (refutes)",
        )
    explanation = " and ".join(
        f"{name}: the interval is too wide; about {units} units in place of {tests[name].interval.n} would decide"
        for name, units in needed.items()
    )
    return Verdict(INCONCLUSIVE, explanation, max(units for units in needed.values() if units is not None))


def _enough(interval: Interval) -> bool:
    return interval.n >= FEWEST and math.isfinite(interval.value)


def _within(interval: Interval, wanted: Range) -> bool:
    """False where the interval is not known, or comes of too few units."""
    return _enough(interval) and wanted[0] < interval.low <= interval.high < wanted[1]


def _needed(test: Test) -> int | None:
    value, half = test.interval.value, (test.interval.high - test.interval.low) / 2
    for low, high in (test.refutes, test.confirms):
        if low < value < high and half > 0:
            return math.ceil(test.interval.n * (half / min(value - low, high - value)) ** 2)
    return None


def _range_text(wanted: Range) -> str:
    low, high = wanted
    if low > high:
        return "nowhere"
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def mean_of(values: object, seed: int, *, proportion: bool = False) -> Interval:
    """Mean of all `values` (units, ...), NaN left out, with its 95% interval by resampling units, which n counts where
    any value is known.

    A row a unit: a game with its turns, an item with its wordings. Of paired differences give the differences. No
    values: NaN, n = 0. `proportion`: of yes and no; where all units say the same, in which resampling finds no width,
    the interval is the exact binomial one (Clopper and Pearson, 1934).
    """
    rows = np.asarray(values, float)
    rows = rows.reshape(len(rows), -1)
    units, known = np.repeat(np.arange(len(rows)), rows.shape[1]), np.isfinite(rows.ravel())
    interval = replace(clustered_mean(rows.ravel()[known], units[known], seed=seed), n=len(set(units[known])))
    if not proportion or interval.value not in (0.0, 1.0):
        return interval
    width = 1 - 0.025 ** (1 / interval.n)
    return replace(interval, high=width) if interval.value == 0 else replace(interval, low=1 - width)


def share_of(part: np.ndarray, whole: np.ndarray, seed: int) -> Interval:
    """Σ some / Σ whole, both (units, ...), with its 95% interval by resampling units: NaN where the whole is not above
    0, and open above where it is not in too many resamples.
    """
    sums = np.stack([np.reshape(values, (len(values), -1)).sum(1) for values in (part, whole)], 1)
    with np.errstate(invalid="ignore"):
        interval = clustered_statistic(
            sums, lambda s: np.where(s[:, 1] > 0, ratio(s[:, 0], s[:, 1]), np.inf)[:, None], n=len(sums), seed=seed
        )
    return interval if math.isfinite(interval.value) else Interval(math.nan, math.nan, math.nan, len(sums))


def entropy_bits(p: np.ndarray) -> np.ndarray:
    """-Σ p log₂ p over the last axis: (..., options) -> (...)."""
    p = np.asarray(p, float)
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(-1)
