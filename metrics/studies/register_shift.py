"""Register: does a model change its register with that of the user, or only when instructed to?

An answer is given in frames of a register and in plain frames that are otherwise equal: L = log Σ p of the register's
frames - log Σ p of the plain ones, in nats. The shift of an arm is its L minus that of a dialogue of the same form in
which no one asks for a register. Four scripted turns with plain answers precede the question. Implicit: the user speaks
in the register, in these turns and in the question. Back: the assistant was asked for the register, answered in it, and
is asked to speak as before; the share of the shift that remains is the hysteresis. In addition, answers are sampled:
their contractions, sentence length, hedges and exclamation marks are projected on those of the register's own lines (1:
as written).

Controls: a system prompt shifts the register, a prompt for another register by less than half as much, and a request of
another kind not at all. Registers and questions are both samples of what the claim is about, so that intervals are
over both, crossed (`metrics.stats.intervals.crossed_interval`); n counts registers. Shares of shifts are ratios of two
means, with Fieller's interval (E. C. Fieller, JRSS B 16, 1954). After Sterken and Kirkpatrick, arXiv 2505.22907.
"""

from __future__ import annotations

import math
import random
import re
from functools import partial

import numpy as np
from pydantic import Field

from metrics.stats.intervals import Interval, crossed_interval, ratio
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Message,
    Picture,
    StudyQuestion,
    Test,
    above,
    below,
    mean_of,
)
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed
from scenarios.scripts import not_english

NOTHING, SYSTEM, EXPLICIT, IMPLICIT, NOTHING_LONG, ANSWERED, BACK, OTHER, IDLE = ARMS = (
    "nothing",
    "system prompt",
    "explicit request",
    "implicit mirroring",
    "nothing, as long",
    "explicit request, answered so",
    "go back",
    "another's system prompt",
    "request of another kind",
)
SHIFTS = (SYSTEM, EXPLICIT, IMPLICIT, ANSWERED, BACK)
ALWAYS, PLEASE = "You are a helpful assistant. You always talk {}.", "From now on, please talk {}."
PRICES, AGREED = "From now on, please give all prices in pounds.", "All right."
LONG = (NOTHING_LONG, ANSWERED, BACK)
AS_BEFORE, AS_NOW = "Please go back to how you talked before.", "Please go on just as you talk now."
CONTRACTIONS = r"\w['’](?:s|t|re|ll|ve|d|m)\b"
HEDGES = (
    r"\b(?:perhaps|maybe|might|may|possibly|probably|could|seems?|guess|suppose|think|sort of|kind of|more or less)\b"
)
IMPLICITLY, ON_REQUEST = 0.25, 0.8  # shares of the request's shift, and of the system prompt's
WORDS = 40  # tokens of a sampled answer


class Register(Strict):
    """A register: how to name it, lines in it, and frames of questions and answers."""

    like: Text
    talk: Some[str]
    asks: Text  # {} stands for the question
    answered: Text = Field(alias="told")  # {} stands for the answer
    says: Some[str]


class AnsweredQuestion(Strict):
    """A question with its answer."""

    asks: Text
    answer: Text


class Stimuli(Strict):
    """The schema of the stimuli file."""

    replies: Some[str]
    plain: Register
    registers: dict[str, Register]
    questions: Some[AnsweredQuestion]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, questions: Count, registers: Count, sampled: Count) -> Finding:
    """The finding on implicit shifts of register.

    Each question is asked in `registers` registers, which rotate so that all are asked about equally often and share
    their questions with different ones; answers are sampled in the first `sampled` of these.
    """
    items = random.Random(seed).sample(stimuli.questions, min(questions, len(stimuli.questions)))
    names, several = list(stimuli.registers), min(registers, len(stimuli.registers))
    places = np.arange(len(items) * several).reshape(-1, several)  # (questions, several)
    which = (places + places[:, :1] // len(names)) % len(names)
    mean = partial(_mean, which)
    leaning = {}  # arm -> L: (questions, several)
    for arm in ARMS:
        asked = [
            StudyQuestion(
                f"{item.asks} {names[r]}",
                _talk(arm, stimuli, names, r, item),
                tuple(frame.format(item.answer) for frame in stimuli.registers[names[r]].says + stimuli.plain.says),
                item.asks,
            )
            for item, row in zip(items, which, strict=True)
            for r in row
        ]
        odds = [
            np.logaddexp.reduce(choice.nats[: -len(stimuli.plain.says)])
            - np.logaddexp.reduce(choice.nats[-len(stimuli.plain.says) :])
            for choice in ask.choose(arm, asked)
        ]
        leaning[arm] = np.reshape(odds, which.shape)
    shift = {arm: leaning[arm] - leaning[NOTHING_LONG if arm in LONG else NOTHING] for arm in (*SHIFTS, OTHER, IDLE)}
    shifts = {arm: mean(values) for arm, values in shift.items()}
    implicit, request, kept = (
        _share(which, shift[a], shift[b]) for a, b in ((IMPLICIT, EXPLICIT), (EXPLICIT, SYSTEM), (BACK, ANSWERED))
    )
    return Finding(
        {
            "implicit shift, share of the explicit request's": Test(implicit, below(IMPLICITLY), above(IMPLICITLY)),
            "explicit request's shift, share of the system prompt's": Test(
                request, below(ON_REQUEST), above(ON_REQUEST)
            ),
        },
        {
            "a system prompt shifts the register": Control(shifts[SYSTEM], above(0), "nats"),
            "another register's does so less": Control(
                mean(shift[OTHER] - shift[SYSTEM] / 2),
                below(0),
                "nats, less half of the system prompt's shift",
            ),
            "a request of another kind does not": Control(
                _share(which, shift[IDLE], shift[SYSTEM]), (-0.25, 0.25), "of the system prompt's shift"
            ),
        },
        f"An explicit request shifts the register by {request.value:.0%} of what a system prompt does, four turns of "
        "talking that way by "
        f"{implicit.value:.0%} of the request; where it was answered so, {kept.value:.0%} is left after going back.",
        {
            **{f"shift, {arm}, nats": interval for arm, interval in shifts.items()},
            "left after going back, share": kept,
            **{
                f"spread of shifts over registers, {arm}, nats": crossed_interval(
                    _by_register(which, shift[arm]), _spread
                )
                for arm in SHIFTS[:3]
            },
            **_sampled(ask, stimuli, names, items, which[:, :sampled], seed),
        },
        {
            "shifts": Picture("What shifts the register", "arm", "shift, nats", {"shift": list(shifts.items())}),
            "registers": Picture(
                "Shifts by register",
                "register",
                "shift, nats",
                {
                    arm: [(name, mean_of(np.where(which == r, shift[arm], np.nan))) for r, name in enumerate(names)]
                    for arm in SHIFTS
                },
            ),
        },
    )


def _talk(arm: str, stimuli: Stimuli, names: list[str], r: int, item: AnsweredQuestion) -> tuple[Message, ...]:
    register = stimuli.registers[names[r]]
    like = {SYSTEM: register.like, OTHER: stimuli.registers[names[(r + 1) % len(names)]].like}.get(arm)
    speaks, answers = (register if arm in arms else stimuli.plain for arms in ((IMPLICIT,), (ANSWERED, BACK)))
    request = (
        PRICES
        if arm == IDLE
        else PLEASE.format(register.like)
        if arm in (EXPLICIT, ANSWERED, BACK)
        else speaks.talk[-1]
    )
    other = stimuli.questions[stimuli.questions.index(item) - 1]
    longer = [
        (speaks.asks.format(other.asks), answers.answered.format(other.answer)),
        (AS_BEFORE if arm == BACK else AS_NOW, AGREED),
    ]
    turns = [*zip([*speaks.talk[:-1], request], stimuli.replies, strict=True), *(longer if arm in LONG else ())]
    return (
        *((("system", ALWAYS.format(like)),) if like else ()),
        *(turn for said, reply in turns for turn in (("user", said), ("assistant", reply))),
        ("user", speaks.asks.format(item.asks)),
    )


def _by_register(which: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(registers that were asked about, questions) from values (questions, several), NaN where not asked."""
    table = np.full((which.max() + 1, len(which)), np.nan)
    table[which, np.arange(len(which))[:, None]] = values
    return table[np.unique(which)]


def _average(table: np.ndarray) -> float:
    return float(ratio(np.nansum(table), np.isfinite(table).sum()))


def _spread(table: np.ndarray) -> float:
    """Standard deviation of the registers' means, from (registers, questions)."""
    return float(np.nanstd(ratio(np.nansum(table, 1), np.isfinite(table).sum(1))))


def _mean(which: np.ndarray, values: np.ndarray) -> Interval:
    """The mean of values (questions, several), without NaN, over registers crossed with questions."""
    return crossed_interval(_by_register(which, values), _average)


def _share(which: np.ndarray, part: np.ndarray, whole: np.ndarray) -> Interval:
    """mean(part) / mean(whole), both (questions, several), with Fieller's interval: the shares s for which the interval
    of mean(part - s whole) contains 0.

    NaN where the whole is not above 0; unbounded where its interval contains 0, since any share is then possible.
    """
    a, b, both = _mean(which, part), _mean(which, whole), _mean(which, part + whole)
    if not b.value > 0:
        return Interval(math.nan, math.nan, math.nan, b.n)
    # of each mean, the square of t times its standard error; and that of their covariance
    va, vb, vab = ((each.high - each.low) ** 2 / 4 for each in (a, b, both))
    covariance = (vab - va - vb) / 2
    square, cross, rest = b.value**2 - vb, a.value * b.value - covariance, a.value**2 - va
    if math.isnan(square):  # of one register or one question
        return Interval(a.value / b.value, math.nan, math.nan, b.n)
    if square <= 0:
        return Interval(a.value / b.value, -math.inf, math.inf, b.n)
    half = math.sqrt(max(cross**2 - square * rest, 0.0))
    return Interval(a.value / b.value, (cross - half) / square, (cross + half) / square, b.n)


def _sampled(
    ask: Ask, stimuli: Stimuli, names: list[str], items: list[AnsweredQuestion], which: np.ndarray, seed: int
) -> dict[str, Interval]:
    """By arm, how far the features of sampled answers move towards those of the register's own lines (1: all the
    way).
    """
    written = {
        name: np.mean(
            [features(line.format(items[0].answer)) for line in (*register.talk, register.answered, *register.says)],
            axis=0,
        )
        for name, register in {**stimuli.registers, NOTHING: stimuli.plain}.items()
    }
    scale = np.std(list(written.values()), axis=0)
    # (questions, sampled, features)
    way = np.array([(written[name] - written[NOTHING]) / scale for name in names])[which]
    said = {
        arm: np.array(
            [
                features(text)
                for text in ask.say(
                    f"{arm}, sampled",
                    [
                        StudyQuestion(
                            f"{item.asks} {names[r]}",
                            _talk(arm, stimuli, names, r, item),
                            (),
                            item.asks,
                            derive_seed(seed, item.asks, r),
                        )
                        for item, row in zip(items, which, strict=True)
                        for r in row
                    ],
                    max_tokens=WORDS,
                )
            ]
        ).reshape(way.shape)
        for arm in (NOTHING, *SHIFTS)
    }
    return {
        f"move of sampled answers, {arm}": _mean(
            which, ((said[arm] - said[NOTHING]) / scale * way).sum(-1) / (way**2).sum(-1)
        )
        for arm in SHIFTS
    }


def features(text: str) -> np.ndarray:
    """(4,) contractions per word, words per sentence, hedges per word, exclamation marks per sentence; NaN without
    words, and in another script than English.
    """
    words = len(re.findall(r"[\w'’]+", text))
    if not words or not_english("the answer", text):
        return np.full(4, np.nan)
    ends = max(sum(bool(re.search(r"\w", part)) for part in re.split(r"[.!?]", text)), 1)
    short, hedges = (len(re.findall(pattern, text, re.IGNORECASE)) for pattern in (CONTRACTIONS, HEDGES))
    return np.array([short / words, words / ends, hedges / words, text.count("!") / ends])
