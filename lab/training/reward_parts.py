"""The parts of a reward, one entry each. Each scores a sampled line by itself, from -1 to 1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np

from metrics.judges import LINES, Judge, Pair, rows_by_pair
from metrics.judges.answer_words import is_right, is_wrong
from metrics.judges.pair_retrieval import Embed
from metrics.judges.pairs import pairs_of_line
from metrics.judges.text.claims import claims
from metrics.judges.text.wording import NAME
from scenarios import plugins
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.training_keys import Reward
from scenarios.records import Fact, Judgement, Line, Persona

if TYPE_CHECKING:
    from agents.learning.views import Sampled
    from agents.seats.base import Spoken

ROUNDING = 1e-3  # by which a score may leave -1 to 1


@dataclass(frozen=True)
class Rollout:
    """A played conversation, and the trained seat's view of it."""

    number: int
    seat: str
    cast: Mapping[str, Persona]
    lines: Sequence[Line]
    ids: tuple[int, ...]
    spoken: Sequence[Spoken]


@dataclass
class Completion:
    """A sampled line with its parts and its penalty (0 or 1).

    `line.about` is the id of the fact that a Q&A probe asked for, "" for a line of the dialogue.
    """

    talk: Rollout
    line: Sampled
    parts: dict[str, float] = field(default_factory=dict)
    penalty: float = 0.0
    missed: bool = False  # a part applies that could not be scored

    @property
    def text(self) -> str:
        """The text of the line."""
        return self.line.text

    @property
    def persona(self) -> Persona:
        """The persona of the speaker."""
        return self.talk.cast[self.talk.seat]

    @property
    def before(self) -> list[Line]:
        """The lines of both seats before this one."""
        return [line for line in self.talk.lines if line.turn < self.line.turn]

    @property
    def heard(self) -> str:
        """The partner's line that this line answers; "" at the start, and for a probe, whose words an answer may
        repeat.
        """
        if self.line.about:
            return ""
        return next((line.text for line in reversed(self.before) if line.seat != self.talk.seat), "")


@dataclass
class RewardContext:
    """What parts use besides the lines.

    `judged` holds the metrics that the judge is asked for, all in one batch.
    """

    judge: Judge
    embed: Embed | None  # texts -> unit vectors (texts, width)
    judged: Collection[str] = ()
    _inconsistency: dict[str, list[float | None]] | None = None

    def inconsistency(self, completions: Sequence[Completion], metric: str) -> list[float | None]:
        """For each line the maximum of p_inconsistent, 0 to 1, over its pairs of that metric.

        NaN where the judge scored none of them, None where the line has no pair. Raises KeyError for a metric not in
        `judged`.
        """
        if self._inconsistency is None:
            self._inconsistency = _judge(completions, set(self.judged), self.judge)
        return self._inconsistency[metric]


@dataclass(frozen=True)
class RewardEntry:
    """A part of a reward. A package adds one by an entry point of the group `dialogue_lab.rewards`.

    `score` returns, for each line, a number from -1 to 1, None where the part does not apply, or NaN where it applies
    but could not be scored. `probes` says whether it also gets the answers to Q&A probes. `judged` is the metric that
    the training's judge has to score for it, if any.
    """

    name: str
    score: Callable[[Sequence[Completion], RewardContext], Sequence[float | None]]
    probes: bool = False
    judged: str | None = None


def scores(entry: RewardEntry, completions: Sequence[Completion], context: RewardContext) -> list[float | None]:
    """The entry's score for each line: -1 to 1, None or NaN as in `RewardEntry`.

    Raises ValueError where the number of scores is not that of the lines, or a score lies outside -1 to 1.
    """
    values = list(entry.score(completions, context))
    if len(values) != len(completions):
        raise ValueError(f"the reward part {entry.name!r} gave {len(values)} scores for {len(completions)} lines")
    wrong = [value for value in values if value is not None and not isnan(value) and abs(value) > 1 + ROUNDING]
    if wrong:
        raise ValueError(f"the reward part {entry.name!r} gave {wrong[0]}; expected -1 to 1, None or NaN")
    return values


def reward_entries(reward: Reward) -> list[RewardEntry]:
    """The entries of the parts with a weight above 0: the lab's, then those of installed packages by name.

    Raises ValueError where a package's entry cannot be used.
    """
    return [REWARDS.get(name) or plugins.load_entry(plugins.REWARDS, name, RewardEntry) for name in reward.weights()]


def has_probes(recipe: Recipe) -> bool:
    """Whether rollouts have Q&A probes: a weighted part reads the answers, and no whole dialogues are compared.

    Raises ValueError like `reward_entries`.
    """
    return not recipe.compares_episodes() and any(entry.probes for entry in reward_entries(recipe.reward))


def _line_of(completion: Completion) -> Line:
    """The sampled line as one of the dialogue."""
    talk, line = completion.talk, completion.line
    return Line(talk.number, line.turn, talk.seat, completion.persona.id, "", completion.text, len(line.ids))


def _judge(completions: Sequence[Completion], wanted: Collection[str], judge: Judge) -> dict[str, list[float | None]]:
    pairs: list[list[Pair]] = []
    for completion in completions:
        line = replace(_line_of(completion), conversation=len(pairs))
        own = [said for said in completion.before if said.seat == completion.talk.seat and said.logprob is not None]
        pairs.append(
            list(pairs_of_line(line, completion.before, completion.talk.cast, wanted - completion.parts.keys(), own))
        )
    values: dict[tuple[int, str], list[float]] = {}
    for row in judge.judge([pair for of_line in pairs for pair in of_line]):
        if row.p_inconsistent is not None and (row.metric != "prompt_to_line" or row.against == "persona"):
            values.setdefault((row.conversation, row.metric), []).append(row.p_inconsistent)

    def worst(number: int, metric: str) -> float | None:
        missing = nan if any(pair.metric == metric for pair in pairs[number]) else None
        return max(values.get((number, metric), ()), default=missing)

    return {metric: [worst(number, metric) for number in range(len(completions))] for metric in wanted}


def _consistency(metric: str) -> Callable[[Sequence[Completion], RewardContext], list[float | None]]:
    """A function that scores 1 - 2 p_inconsistent: 1 for no contradiction, -1 for a certain one."""

    def score(completions: Sequence[Completion], context: RewardContext) -> list[float | None]:
        return [None if p is None else 1 - 2 * p for p in context.inconsistency(completions, metric)]

    return score


def _qa(completions: Sequence[Completion], context: RewardContext) -> list[float | None]:
    """1 where an answer names the value of the fact that was asked for, by a probe or in the dialogue, else -1."""
    facts = [_asked(completion) for completion in completions]
    return [
        None if fact is None else 1.0 if is_right(completion.text, fact) else -1.0
        for completion, fact in zip(completions, facts, strict=True)
    ]


def _asked(completion: Completion) -> Fact | None:
    """The fact of the question that the line answers; None where it answers none."""
    facts, heard = completion.persona.facts, completion.heard
    if completion.line.about:
        return next(fact for fact in facts if fact.id == completion.line.about)
    return next((fact for fact in facts if any(question in heard for question in fact.slot.questions)), None)


def _claims(completions: Sequence[Completion], context: RewardContext) -> list[float | None]:
    """1 where a line states a fact of its speaker's persona rightly, -1 where it contradicts one, 0 where it states
    none; NaN where the judge could not tell.

    A fact is stated where the line names a value that its slot lists, and the judge finds that the line speaks of the
    fact. A value that the speaker named before is worth nothing again, unless it was asked for.
    """
    facts = [_spoken_of(completion.text, completion.persona) for completion in completions]
    places = [place for place, of_line in enumerate(facts) if of_line]
    pairs = []
    for number, place in enumerate(places):
        line = replace(_line_of(completions[place]), conversation=number)
        talk, before = completions[place].talk, completions[place].before
        pairs += pairs_of_line(line, before, talk.cast, {"prompt_to_line"}, ())
    values: list[float | None] = [0.0] * len(completions)
    for place, rows in zip(places, rows_by_pair(pairs, context.judge.judge(pairs)), strict=True):
        values[place] = _claimed(completions[place], facts[place], rows)
    return values


def _spoken_of(text: str, persona: Persona) -> list[Fact]:
    """The facts of which the text names a listed value. A name alone ("Grace (smiling)") claims nothing."""
    return [
        fact
        for fact in persona.facts
        if (claims(text, (fact.slot,)) if fact.id == NAME else is_right(text, fact) or is_wrong(text, fact))
    ]


def _claimed(completion: Completion, facts: Sequence[Fact], rows: Sequence[Judgement]) -> float:
    """What the line claims of these facts, by the judgements of it: 1, -1, 0 or NaN."""
    if rows[0].p_inconsistent is None:
        return nan
    by_fact = {row.against: row for row in rows[1:]}
    spoken_of = [(fact, by_fact[fact.id]) for fact in facts if fact.id in by_fact]
    if any(row.verdict and is_wrong(completion.text, fact) for fact, row in spoken_of):
        return -1.0
    right = [fact for fact, row in spoken_of if not row.verdict and is_right(completion.text, fact)]
    own = [line.text for line in completion.before if line.seat == completion.talk.seat]
    new = [fact for fact in right if fact is _asked(completion) or not any(is_right(text, fact) for text in own)]
    return float(bool(new))


def _relevance(completions: Sequence[Completion], context: RewardContext) -> list[float | None]:
    """The cosine of the line with the partner's line that it answers, -1 to 1."""
    values: list[float | None] = [None] * len(completions)
    if context.embed is None:
        return values
    able = [place for place, completion in enumerate(completions) if completion.heard.strip() and completion.text]
    texts = [completions[place].text for place in able] + [completions[place].heard for place in able]
    vectors = context.embed(texts)  # (2 * able, width)
    for place, near in zip(able, np.sum(vectors[: len(able)] * vectors[len(able) :], axis=1), strict=True):
        values[place] = float(near)
    return values


ENTRIES = (
    *(RewardEntry(metric, _consistency(metric), judged=metric) for metric in LINES),
    RewardEntry("qa", _qa, probes=True),
    RewardEntry("claims", _claims),
    RewardEntry("relevance", _relevance),
)
REWARDS = {entry.name: entry for entry in ENTRIES}
