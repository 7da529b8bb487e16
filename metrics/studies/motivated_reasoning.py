"""Motivated reasoning: does a persona read the same table differently where one result suits it?

Tables of 2 x 2 counts, drawn by the seed for each topic, in which the largest count misleads and only ratios are right.
Each table is used with its outcomes named both ways. Congruence = p(right | the true outcome suits the persona) -
p(right | it does not), over two opposed personas: what both do alike cancels, including a preference for an outcome or
a position. The claim is about topics, so that the unit is the topic with all its tables: intervals are over topics, and
polarizing and neutral topics are two independent samples (Welch's t).

Controls: a neutral speaker reads easy tables above chance; two invented groups show no difference; a persona that is
instructed what to conclude does. After Dash et al., arXiv 2506.20020, with tables like those of Kahan et al.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from metrics.stats.differences import difference_of
from metrics.studies.prompt_search import cross_chosen
from metrics.studies.protocol import NEVER, Ask, Control, Finding, Picture, StudyQuestion, Test, above, below, mean_of
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

SMALL, NEAR, LARGE = 0.02, 0.05, 0.2  # congruence: what is a bend, what is none, what a bend by order must reach
PLAIN, THINK, INCENTIVE, ASIDE = ARMS = "no debiasing", "chain of thought", "accuracy incentive", "persona set aside"
Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]
Counts = tuple[int, int, int, int]


class Topic(Strict):
    """A question with its two groups and its two outcomes."""

    asked: Text
    treated: Text
    control: Text
    what: Text
    outcomes: Pair


class Stimuli(Strict):
    """The schema of the stimuli file."""

    identities: Pair
    nonsense: Pair
    convinced: Text
    polarizing: Some[Topic]
    neutral: Some[Topic]
    table: Text
    stem: Text
    think: Text
    incentive: Text
    aside: Text


Cards = Callable[[Topic], Sequence[str]]  # of a topic's two personas, or nobody's


def study(ask: Ask, stimuli: Stimuli, seed: int, *, topics: Count, tables: Count, thought: Count) -> Finding:
    """The finding on congruence.

    `topics` is the number of polarizing topics, and of neutral ones; `tables` is the number of hard tables for each
    topic, and of easy tables for each neutral one; `thought` is the number of tokens of a chain of thought.
    """
    draw = random.Random(seed)
    polarizing, neutral = (
        draw.sample(of_kind, min(topics, len(of_kind))) for of_kind in (stimuli.polarizing, stimuli.neutral)
    )
    right = partial(_right, ask, stimuli, tables, thought, seed)

    def convinced(topic: Topic) -> list[str]:
        orders = [stimuli.convinced.format(**topic.model_dump(), outcome=outcome) for outcome in topic.outcomes]
        return [f"{card} {order}" for card, order in zip(stimuli.identities, orders, strict=True)]

    p = {arm: right(arm, lambda topic: stimuli.identities, polarizing) for arm in ARMS}
    bent = {arm: _congruence(values) for arm, values in p.items()}  # (topics,) each
    unbent = _congruence(right("neutral topics", lambda topic: stimuli.identities, neutral))
    groups = mean_of(_congruence(right("nonsense groups", lambda topic: stimuli.nonsense, polarizing)))
    ordered = mean_of(_congruence(right("told what to conclude", convinced, neutral)))
    nobody = {
        kind: mean_of(right(f"nobody, {kind} tables", lambda topic: [""], neutral, easy=kind == "easy"))
        for kind in ("easy", "hard")
    }
    effect, aside = {arm: mean_of(by_topic) for arm, by_topic in bent.items()}, mean_of(unbent)
    best, left = cross_chosen({arm: by_topic for arm, by_topic in bent.items() if arm != PLAIN})
    liked, other = (mean_of((p[PLAIN][:, 0, :, n] + p[PLAIN][:, 1, :, 1 - n]) / 2) for n in (0, 1))
    return Finding(
        {
            "congruence, polarizing less neutral topics": Test(
                difference_of(unbent, bent[PLAIN]), above(SMALL), below(SMALL)
            ),
            "congruence, neutral topics": Test(aside, (-NEAR, NEAR), NEVER),
            "what the best debiasing leaves, over half": Test(mean_of(left - bent[PLAIN] / 2), above(0), below(0)),
        },
        {
            "easy tables are read above chance": Control(nobody["easy"], above(0.5), "right"),
            "invented groups differ in nothing": Control(groups, (-NEAR, NEAR), "congruence"),
            "who is told what to conclude concludes it": Control(ordered, above(LARGE), "congruence"),
        },
        f"A persona reads polarizing tables right at p = {liked.value:.2f} where it likes the truth, {other.value:.2f} "
        f"where it does not; neutral ones {aside.value:+.2f} apart. Of {effect[PLAIN].value:+.2f} {best} leaves "
        f"{effect[best].value:+.2f}.",
        {
            "right where the truth is liked": liked,
            "right where it is not": other,
            "congruence, invented groups": groups,
            "congruence, told what to conclude": ordered,
            **{f"congruence, {arm}": interval for arm, interval in effect.items()},
            **{f"right, nobody in particular, {kind} tables": interval for kind, interval in nobody.items()},
        },
        {
            "congruence": Picture(
                "How far a persona bends what it reads",
                "who reads what",
                "congruence of p(right)",
                {
                    "congruence": [
                        ("polarizing", effect[PLAIN]),
                        ("neutral", aside),
                        ("invented groups", groups),
                        ("told to", ordered),
                    ]
                },
                {"a bend": SMALL},
            ),
            "debiasing": Picture(
                "What debiasing leaves",
                "prompt",
                "congruence of p(right)",
                {"polarizing": list(effect.items())},
                {"half": effect[PLAIN].value / 2},
            ),
        },
    )


def _congruence(p: np.ndarray) -> np.ndarray:
    """(topics,) congruence from p(right), (topics, personas, tables, outcomes).

    The first outcome suits the first persona, the second outcome the second.
    """
    return ((p[:, 0, :, 0] + p[:, 1, :, 1] - p[:, 0, :, 1] - p[:, 1, :, 0]) / 2).mean(1)


def _table(seed: int, easy: bool) -> Counts:
    """Counts of two outcomes among the treated and the untreated.

    In an easy table treatment makes the first outcome more frequent, by counts and by ratios. In a hard table the count
    of the first outcome among the treated is the largest, but by ratios treatment makes the second outcome more
    frequent, since two to three times as many are treated.
    """
    rng = random.Random(seed)
    few = rng.randint(80, 150)
    many = round(few * (rng.uniform(0.9, 1.1) if easy else rng.uniform(2, 3)))
    share = rng.uniform(0.1, 0.2) if easy else rng.uniform(0.7, 0.85)
    treated = round(many * (rng.uniform(0.8, 0.9) if easy else share - rng.uniform(0.08, 0.15)))
    return treated, many - treated, (first := round(few * share)), few - first


def _asked(template: str, topic: Topic, table: Counts, number: int, true: int, added: str) -> str:
    """The question with its table, whose outcomes are named such that treatment makes the outcome `true` more frequent.

    The order in the table, and in the question, rotates with `number`.
    """
    a, b, c, d = table
    first, second = topic.outcomes if (a / (a + b) > c / (c + d)) == (true == 0) else topic.outcomes[::-1]
    if number % 2:
        first, second, a, b, c, d = second, first, b, a, d, c
    either, other = topic.outcomes if number // 2 % 2 else topic.outcomes[::-1]
    return template.format(
        **topic.model_dump(), first=first, second=second, a=a, b=b, c=c, d=d, either=either, other=other, added=added
    )


def _right(
    ask: Ask,
    stimuli: Stimuli,
    tables: int,
    thought: int,
    seed: int,
    arm: str,
    cards: Cards,
    topics: Sequence[Topic],
    easy: bool = False,
) -> np.ndarray:
    """(topics, personas, tables, outcomes) p(right), once with the first and once with the second outcome true."""
    added = {THINK: f"{stimuli.think} ", INCENTIVE: f"{stimuli.incentive} ", ASIDE: f"{stimuli.aside} "}.get(arm, "")
    places = [
        # even and odd topics, of which `cross_chosen` makes two halves, have the same orders
        (topic, card, _table(derive_seed(seed, topic.asked, n), easy), number // 2 + n, true)
        for number, topic in enumerate(topics)
        for card in cards(topic)
        for n in range(tables)
        for true in (0, 1)
    ]
    talks = [
        (*([("system", card)] if card else []), ("user", _asked(stimuli.table, topic, table, order, true, added)))
        for topic, card, table, order, true in places
    ]
    names = [
        f"{card.partition(' and')[0] or 'Nobody'}: {topic.treated}, order {order}, {topic.what} {topic.outcomes[true]}"
        for topic, card, _, order, true in places
    ]
    said = [""] * len(talks)
    if arm == THINK:
        thinking = [
            StudyQuestion(name, talk, (), topic.treated, derive_seed(seed, name))
            for name, talk, (topic, *_) in zip(names, talks, places, strict=True)
        ]
        said = [f"{' '.join(text.split())} So: " for text in ask.say(f"{arm}, thoughts", thinking, max_tokens=thought)]
    stems = [
        ("assistant", words + stimuli.stem.format(**topic.model_dump()))
        for words, (topic, *_) in zip(said, places, strict=True)
    ]
    asked = [
        StudyQuestion(name, (*talk, stem), tuple(f" {outcome}" for outcome in topic.outcomes), topic.treated)
        for name, talk, stem, (topic, *_) in zip(names, talks, stems, places, strict=True)
    ]
    p = [choice.p[true] for choice, (*_, true) in zip(ask.choose(arm, asked), places, strict=True)]
    return np.array(p).reshape(len(topics), -1, tables, 2)
