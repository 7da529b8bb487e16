"""What sampled lines are worth: judges, answers and tripwires turned into one number a line.

reward = weighted mean of the parts that apply to the line, each from -1 (contradicts) to 1 (does not), minus the
penalty where a wire is tripped; the mean is 0 where no part applies (small talk, where only answers are rewarded). A
line that no judge could score has no reward where one was asked, and nothing is learnt from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import polars as pl

from agents.learning.views import Sampled, View
from agents.seats.base import Spoken
from metrics.judges import Judge, Pair
from metrics.judges.answer_words import is_right
from metrics.judges.pair_retrieval import Embed
from metrics.judges.pairs import pairs
from metrics.judges.text.wording import NAME
from metrics.tripwires import MOST_PARROTING, LogProbs, line_wires, tripwires
from scenarios.jobs.training import Reward
from scenarios.records import PARTNER, Fact, Line, Persona

MOST_FACTS = 2  # that a line may name, besides the speaker's name
JUDGED = {"prompt_to_line", "line_to_line"}
PARTS = ("prompt_to_line", "line_to_line", "qa", "relevance")


@dataclass(frozen=True)
class Talk:
    """A played conversation, and the trained seat's view of it."""

    number: int
    seat: str
    cast: Mapping[str, Persona]
    lines: Sequence[Line]
    ids: tuple[int, ...]
    spoken: Sequence[Spoken]


@dataclass
class Worth:
    """A sampled line under way to its reward."""

    talk: Talk
    line: Sampled
    parts: dict[str, float] = field(default_factory=dict)
    penalty: float = 0.0
    missed: bool = False  # a judge was asked and could not tell


def sampled(talk: Talk) -> list[Sampled]:
    """Every line that was sampled in it, those that the dialogue never went on with and answers off the record
    included.
    """
    return [
        Sampled(
            one.turn,
            one.start,
            sample.token_ids,
            sample.drawn,
            place == 0 and not one.about,
            one.given,
            text.strip(),
            one.about,
        )
        for one in talk.spoken
        for place, (sample, text) in enumerate(zip(one.samples, one.texts, strict=True))
        if sample.token_ids
    ]


def rewarded(
    talks: Sequence[Talk],
    reward: Reward,
    judge: Judge,
    embed: Embed | None,
    known: Mapping[tuple[int, int], Mapping[str, float]] | None = None,
) -> tuple[list[View], dict[str, float]]:
    """Views whose lines carry their rewards, and the mean of each part, of the reward and of what was unscored, for the
    log. `known`: parts by the talk's number and the turn, which the judge is not asked for.
    """
    worths = [Worth(talk, line) for talk in talks for line in sampled(talk)]
    spoken = [worth for worth in worths if not worth.line.about]
    for worth in spoken if known else ():
        worth.parts |= known.get((worth.talk.number, worth.line.turn), {})
    _judge(spoken, reward, judge)
    for worth in worths if reward.qa else ():
        if fact := _asked(worth):
            worth.parts["qa"] = 1.0 if is_right(worth.line.text, fact) else -1.0
    if reward.relevance and embed is not None:
        _relevance(spoken, embed)
    for worth in worths:
        worth.penalty = float(_trips(worth))
    totals = [_total(worth, reward) for worth in worths]
    views = []
    for talk in talks:
        lines = [
            replace(worth.line, reward=total) for worth, total in zip(worths, totals, strict=True) if worth.talk is talk
        ]
        views.append(
            View(talk.number, talk.cast[talk.seat].id, talk.ids, tuple(lines), talk.cast[PARTNER[talk.seat]].id)
        )
    return views, _told(worths, totals)


def wires(talks: Sequence[Talk], seat: str, *, embed: Embed | None, logprobs: LogProbs | None) -> dict[str, float]:
    """Every tripwire's mean over the lines that the seat said of its own in these dialogues."""
    said = pl.DataFrame([asdict(line) for talk in talks for line in talk.lines], infer_schema_length=None)
    cards = {(talk.number, name): persona.card for talk in talks for name, persona in talk.cast.items()}
    found = tripwires(
        said,
        cards,
        counted=said.filter(pl.col("seat") == seat, pl.col("logprob").is_not_null()),
        embed=embed,
        logprobs=logprobs,
        confidence=0.95,
        resamples=1,
        seed=0,
    )
    return dict(found.filter(pl.col("level") == "run", pl.col("seat") == seat).select("metric", "value").iter_rows())


def _judge(worths: Sequence[Worth], reward: Reward, judge: Judge) -> None:
    wanted = {name for name in JUDGED if getattr(reward, name)}
    asked: list[list[Pair]] = []
    for worth in worths:
        before = [line for line in worth.talk.lines if line.turn < worth.line.turn]
        speaker = worth.talk.cast[worth.talk.seat]
        line = Line(len(asked), worth.line.turn, worth.talk.seat, speaker.id, "", worth.line.text, len(worth.line.ids))
        own = [one for one in before if one.seat == worth.talk.seat and one.logprob is not None]
        asked.append(list(pairs(line, before, worth.talk.cast, wanted - worth.parts.keys(), own)))
    found: dict[tuple[int, str], list[float]] = {}
    for row in judge.judge([pair for some in asked for pair in some]):
        if row.p_inconsistent is not None and (row.metric != "prompt_to_line" or row.against == "persona"):
            found.setdefault((row.conversation, row.metric), []).append(row.p_inconsistent)
    for number, worth in enumerate(worths):
        for metric in sorted(wanted):
            if values := found.get((number, metric)):
                worth.parts[metric] = 1 - 2 * max(values)
            elif any(pair.metric == metric for pair in asked[number]):
                worth.missed = True


def _heard(worth: Worth) -> str:
    """The line that it answers; "" for a question off the record, whose words an answer may well repeat."""
    if worth.line.about:
        return ""
    return next(
        (
            line.text
            for line in reversed(worth.talk.lines)
            if line.turn < worth.line.turn and line.seat != worth.talk.seat
        ),
        "",
    )


def _asked(worth: Worth) -> Fact | None:
    """The fact that the line answers a question about, off the record or in the dialogue."""
    facts, heard = worth.talk.cast[worth.talk.seat].facts, _heard(worth)
    if worth.line.about:
        return next(fact for fact in facts if fact.id == worth.line.about)
    return next((fact for fact in facts if any(question in heard for question in fact.slot.questions)), None)


def _relevance(worths: Sequence[Worth], embed: Embed) -> None:
    heard = [_heard(worth) for worth in worths]
    able = [place for place, text in enumerate(heard) if text.strip() and worths[place].line.text]
    vectors = embed([worths[place].line.text for place in able] + [heard[place] for place in able])
    for place, near in zip(able, np.sum(vectors[: len(able)] * vectors[len(able) :], axis=1), strict=True):
        worths[place].parts["relevance"] = float(near)


def _trips(worth: Worth) -> bool:
    """Whether the line copies its card, recites it fact by fact, speaks of itself as another, or evades."""
    persona = worth.talk.cast[worth.talk.seat]
    if sum(is_right(worth.line.text, fact) for fact in persona.facts if fact.id != NAME) > MOST_FACTS:
        return True
    wires = line_wires(worth.line.text, persona.card, _heard(worth))
    return wires.get("parroting", 0) > MOST_PARROTING or any(
        wires.get(name, 0) > 0 for name in ("wrong_person", "helper_voice", "evasion")
    )


def _total(worth: Worth, reward: Reward) -> float | None:
    weights = {name: weight for name in worth.parts if (weight := getattr(reward, name))}
    if worth.missed and not weights.keys() & JUDGED:
        return None
    mean = (
        sum(weight * worth.parts[name] for name, weight in weights.items()) / sum(weights.values()) if weights else 0.0
    )
    return mean - reward.penalty * worth.penalty


def _told(worths: Sequence[Worth], totals: Sequence[float | None]) -> dict[str, float]:
    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    found = {f"reward_{name}": mean([worth.parts[name] for worth in worths if name in worth.parts]) for name in PARTS}
    scored = [
        total
        for worth, total in zip(worths, totals, strict=True)
        if total is not None and (worth.parts or worth.penalty)
    ]
    return found | {
        "reward": mean(scored),
        "penalised": mean([worth.penalty for worth in worths]),
        "lines": float(len(worths)),
        "unscored": float(totals.count(None)),
        "length": mean([float(len(worth.line.ids)) for worth in worths]),
    }
