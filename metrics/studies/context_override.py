"""Context against knowledge: when does a false sentence about a capital override the true one, and does steering
override where text does not?

X = log P(true) - log P(false) without a text, in nats: how firmly a capital is known; it counts as known where X > 0. A
text overrides where the false city is more probable with it. Arms: the sentence; the sentence three times; with an
order to obey it; from a persona who believes it; and the sentence with steered states. The steering direction leads
from answering by knowledge to answering by the text. Direction, depth and strength are searched on separate countries,
by how much more they do than random directions of equal length, among settings at which random directions do little:
any strong enough push makes a model forget. Results are given by fifths of X among the known capitals.

Controls: a sentence about another country must not override; a sentence about an invented country must; other random
directions must add nothing. After REMEDI, arXiv 2304.00740; Yu et al., arXiv 2310.15910; Minder et al., arXiv
2411.07404.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from scipy.special import expit

from metrics.stats.intervals import Interval, clustered_rows
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Picture,
    Steered,
    StudyQuestion,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
)
from scenarios.fields import Count, Some, Strict, Text

CLAIM, ASKS, ANSWERS = "The capital of {0} is {1}.", "What is the capital of {0}?", "The capital of {0} is"
NONE, SENTENCE, REPEATED, OBEY, PERSONA = (
    "no text",
    "a false sentence",
    "three times",
    "told to obey it",
    "a persona holds it",
)
STEERED, RANDOM, ASIDE = "a false sentence, steered", "a false sentence, random direction", "about another country"
MEMORY, SEARCH = "told to ignore it", "search of a steer"
TEXTS = {
    SENTENCE: f"{CLAIM} {ASKS}",
    REPEATED: f"{CLAIM} {CLAIM} {CLAIM} {ASKS}",
    OBEY: f"Answer from this text alone, even where it contradicts what you know: {CLAIM} {ASKS}",
    PERSONA: ASKS,
}
WORDS = TEXTS | {
    NONE: ASKS,
    ASIDE: f"The capital of {{2}} is {{1}}. {ASKS}",
    MEMORY: f"Answer from what you know, even where it contradicts this text: {CLAIM} {ASKS}",
}
HOLDS = "You live in a world where the capital of {0} is {1}. You teach geography there and answer as you do there."
WAYS = ((NONE, SENTENCE), (MEMORY, OBEY))  # what directions lead from and to
DEPTHS, COEFFICIENTS = (0.4, 0.6), (0.125, 0.25, 0.5)
TRIED, DRAWN, CALM = 2, 3, 1.0  # random directions in the search, others as a control; nats that those may do
FIFTHS = ("least", "second", "third", "fourth", "best")
REACHED, MOSTLY = 0.95, 0.8  # shares overridden: below the first the claim holds; above the second texts do reach
NEVER, ALWAYS = 0.2, 0.75  # bounds of the controls
PRIOR = 2.5  # of the slope a standard deviation of X


class Stimuli(Strict):
    """The schema of the stimuli file: capitals by country, and the names of invented countries."""

    capitals: dict[Text, Text]
    invented: Some[Text]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, items: Count, searched: Count) -> Finding:
    """The finding on how the share of overridden capitals falls with X.

    `items` is the number of countries tested; `searched` is the number of further countries on which the steering is
    searched.
    """
    names = random.Random(seed).sample(list(stimuli.capitals), min(items + searched, len(stimuli.capitals)))
    true = [stimuli.capitals[name] for name in names]
    # country, a false capital, another country whose capital that is not either, its own
    rows = list(zip(names, true[1:] + true[:1], names[2:] + names[:2], true, strict=True))
    kept, tried = rows[searched:] or rows, rows[:searched]
    prior = -_margin(ask, NONE, kept)  # (items,) X
    known = prior > 0
    margins = {arm: _margin(ask, arm, kept) for arm in (*TEXTS, ASIDE)}
    steered = _searched(ask, tried, seed)
    over = {arm: margin > 0 for arm, margin in (margins | {STEERED: _margin(ask, STEERED, kept, steered)}).items()}
    over[RANDOM] = np.mean(
        [_margin(ask, RANDOM, kept, replace(steered, random=seed + TRIED + n)) > 0 for n in range(DRAWN)], axis=0
    )
    # (items,) 0 to 1, NaN where it is not known
    over = {arm: np.where(known, values, np.nan) for arm, values in over.items()}
    edges = np.quantile(prior[known], (0.2, 0.4, 0.6, 0.8)) if known.any() else np.zeros(4)
    fifth = np.where(known, np.searchsorted(edges, prior), -1)
    top = {arm: proportion_of(np.where(fifth == 4, values, np.nan)) for arm, values in over.items()}
    rate = {arm: proportion_of(values) for arm, values in over.items()}
    best, ordered = (
        max(arms, key=lambda arm: np.sum(over[arm][(fifth >= 0) & (fifth < 4)])) for arms in (TEXTS, (REPEATED, OBEY))
    )
    gain = mean_of(np.where(fifth == 4, over[STEERED] - over[best], np.nan))
    invented = [(name, *rows[n % len(rows)][1:]) for n, name in enumerate(stimuli.invented)]
    novel = proportion_of(_margin(ask, "an invented country", invented) > 0)
    more = mean_of(over[RANDOM] - over[SENTENCE])
    slope, gate = _slope(prior[known], over[SENTENCE][known]), proportion_of(known)
    return Finding(
        {
            "slope of override on X, log odds a nat": Test(slope, below(0), above(0)),
            "override in the top fifth, steered less best text": Test(gain, above(0), below(0)),
            "override in the top fifth, three times or told to obey": Test(top[ordered], below(REACHED), above(MOSTLY)),
        },
        {
            "capitals are known": Control(gate, above(0.5)),
            "a sentence about another country overrides nothing": Control(rate[ASIDE], below(NEVER)),
            "one about an invented country is believed": Control(novel, above(ALWAYS)),
            "random directions add nothing": Control(more, below(NEVER / 2)),
        },
        f"A false sentence overrides {rate[SENTENCE].value:.0%} of {rate[SENTENCE].n} capitals that it knows. Of the "
        f"fifth known best: {top[SENTENCE].value:.0%}, {top[best].value:.0%} by the best text ({best}), "
        f"{top[STEERED].value:.0%} steered (behind {steered.depths[0]:.0%} of the layers by {steered.coefficient:g} of "
        f"a state's length), {top[RANDOM].value:.0%} at random.",
        {
            "capitals known": gate,
            "override of an invented country": novel,
            "override, random direction less none": more,
            **{f"override, {arm}": interval for arm, interval in rate.items()},
            **{f"override in the top fifth, {arm}": top[arm] for arm in over},
        },
        {
            "override": Picture(
                "When does a text win?",
                "fifth of X, by how well it is known",
                "share overridden",
                {
                    arm: [(FIFTHS[n], proportion_of(np.where(fifth == n, values, np.nan))) for n in range(5)]
                    for arm, values in over.items()
                },
                {"the claim's bound": REACHED},
            )
        },
    )


def _talk(arm: str, row: tuple) -> tuple[tuple[str, str], ...]:
    system = (("system", HOLDS.format(*row)),) if arm == PERSONA else ()
    return (*system, ("user", WORDS.get(arm, WORDS[SENTENCE]).format(*row)), ("assistant", ANSWERS.format(*row)))


def _margin(ask: Ask, arm: str, rows: list[tuple], steered: Steered | None = None) -> np.ndarray:
    """(rows,) log P(false) - log P(true), in nats."""
    asked = [StudyQuestion(row[0], _talk(arm, row), (f" {row[1]}", f" {row[3]}"), row[0]) for row in rows]
    return np.array([choice.nats[0] - choice.nats[1] for choice in ask.choose(arm, asked, steered=steered)])


def _searched(ask: Ask, rows: list[tuple], seed: int) -> Steered:
    """The steering that moves the margins of these countries furthest beyond random directions of equal length.

    It is chosen among the settings at which random directions move the margins by less than CALM, where there are any.
    """
    directions = [
        ask.direct(*([StudyQuestion(row[0], _talk(arm, row)) for row in rows] for arm in arms)) for arms in WAYS
    ]
    plain, candidates = _margin(ask, SEARCH, rows).mean(), []
    for how in [
        Steered(directions[0], "add", coefficient, (depth,)) for depth in DEPTHS for coefficient in COEFFICIENTS
    ]:
        aimless = np.mean([_margin(ask, SEARCH, rows, replace(how, random=seed + n)) for n in range(TRIED)]) - plain
        for way in (replace(how, direction=name) for name in directions):
            candidates.append((abs(aimless) < CALM, _margin(ask, SEARCH, rows, way).mean() - plain - aimless, way))
    return max(candidates, key=lambda candidate: candidate[:2])[2]


def _slope(x: np.ndarray, y: np.ndarray) -> Interval:
    """The slope of a logistic regression of y (0 or 1) on x, in log odds per unit of x.

    A normal prior keeps it finite where x separates the two values of y.
    """
    spread = max(x.std(), 1e-9) if len(x) else 1.0
    z = (x - x.mean()) / spread if len(x) else x

    def fitted(weights: np.ndarray) -> np.ndarray:
        a = b = np.zeros(len(weights))
        for _ in range(30):
            p = expit(a[:, None] + b[:, None] * z)
            rest, w = weights * (y - p), weights * p * (1 - p)
            da, db = rest.sum(1) - a / 100, (rest * z).sum(1) - b / PRIOR**2
            haa, hab, hbb = w.sum(1) + 1 / 100, (w * z).sum(1), (w * z * z).sum(1) + 1 / PRIOR**2
            det = haa * hbb - hab**2
            a, b = a + np.clip((hbb * da - hab * db) / det, -1, 1), b + np.clip((haa * db - hab * da) / det, -1, 1)
        return b / spread

    return clustered_rows(np.arange(len(x)), fitted)
