"""Persona variance: do two runs of one persona differ as much as two personas do?

Each persona answers each item, a forced choice of two, in several wordings. A run draws one of the two complete answers
at temperature T: p of the first is softmax(nats / T), and the variance over runs is exactly p (1 - p), so that no seeds
are needed. Sampling token by token at T is the same draw only for T = 1; answers sampled in that way are compared with
it. For personas crossed with items and wordings, R = σ²run / (σ²persona + σ²persona×item).

Controls: personas that are instructed what to answer differ by more than runs do; names alone move answers by less than
half of what texts do, or less than runs; texts with scrambled words less than texts, or than runs. The
interval is a jackknife over personas and items of log R.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from metrics.stats.intervals import Interval, crossed_components, crossed_interval
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Picture,
    StudyQuestion,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
)
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

TEXT, NAME, SCRAMBLED, TOLD = ARMS = "persona text", "name only", "scrambled text", "told what to answer"
CARDS = {
    TEXT: "You are {name}. {text} You answer as {name} would.",
    NAME: "You are {name}. You answer as {name} would.",
    SCRAMBLED: "You are {name}. {scrambled} You answer as {name} would.",
    TOLD: 'You are {name}. Asked "{asks}", you say: {answer}. You answer as {name} would.',
}
TEMPERATURES, USUAL = (0.3, 0.7, 1.0), 0.7
MOST = 1e3  # R is kept between this and its inverse, where one of the variances is naught
FEW = 4  # personas, and items, in which words are sampled


class ForcedChoice(Strict):
    """A question with two answers."""

    asks: Text
    a: Text
    b: Text


class Stimuli(Strict):
    """The schema of the stimuli file."""

    wordings: Some[str]
    personas: dict[str, Text]
    items: Some[ForcedChoice]


def study(
    ask: Ask, stimuli: Stimuli, seed: int, *, personas: Count, items: Count, wordings: Count, seeds: Count
) -> Finding:
    """The finding on R; controls use half of the items.

    `seeds` is the number of sampled answers to each question for which answers are sampled.
    """
    rng = random.Random(seed)
    names = rng.sample(list(stimuli.personas), min(personas, len(stimuli.personas)))
    chosen = rng.sample(stimuli.items, min(items, len(stimuli.items)))
    half, worded = chosen[: max(len(chosen) // 2, 2)], stimuli.wordings[:wordings]
    asked = {
        arm: [
            _question(arm, name, stimuli.personas[name], item, words, seed)
            for name in names
            for item in (chosen if arm == TEXT else half)
            for words in worded
        ]
        for arm in ARMS
    }
    # (personas, items, wordings)
    odds = {
        arm: np.array([choice.nats[0] - choice.nats[1] for choice in ask.choose(arm, asked[arm])]).reshape(
            len(names), -1, len(worded)
        )
        for arm in ARMS
    }
    ratios = {arm: {t: _interval(_p(values, t)) for t in TEMPERATURES} for arm, values in odds.items()}
    r, p = ratios[TEXT][USUAL], _p(odds[TEXT], USUAL)
    parts = {"persona": (0,), "item": (1,), "wording": (2,), "persona×item": (0, 1), "item×wording": (1, 2)}
    return Finding(
        {f"run variance over persona variance, R at {USUAL}": Test(r, above(1), below(1))},
        {
            "personas who are told what to answer differ": Control(ratios[TOLD][USUAL], below(1), "R"),
            "names alone do not": Control(
                _excess(_p(odds[NAME], USUAL), p, 0.5), below(0), "variance over half of texts' or that of runs"
            ),
            "scrambled texts do so less than texts": Control(
                _excess(_p(odds[SCRAMBLED], USUAL), p, 1.0), below(0), "variance over texts' or that of runs"
            ),
        },
        f"At temperature {USUAL} the variance between runs is {r.value:.2g} times that between personas.",
        {
            **{f"R at {t}, {arm}": ratios[arm][t] for arm in ARMS for t in TEMPERATURES if (arm, t) != (TEXT, USUAL)},
            **{
                f"variance, {name}, at {USUAL}": crossed_interval(
                    p, lambda values, part=part: crossed_components(values)[part]
                )
                for name, part in parts.items()
            },
            f"variance, run, at {USUAL}": crossed_interval(p, _run),
            **_sampled(ask, asked[TEXT], odds[TEXT], seeds, seed),
        },
        {
            "ratio": Picture(
                "Runs against personas",
                "temperature",
                "log10 of σ²run / (σ²persona + σ²persona×item)",
                {arm: [(t, _rescaled(np.log10, ratio)) for t, ratio in ratios[arm].items()] for arm in ARMS},
                {"as much": 0.0},
            )
        },
    )


def _question(arm: str, name: str, text: str, item: ForcedChoice, wording: str, seed: int) -> StudyQuestion:
    words = text.split()
    answer = (item.a, item.b)[derive_seed(seed, name, item.asks) % 2]
    scrambled = " ".join(random.Random(derive_seed(seed, name)).sample(words, len(words)))
    card = CARDS[arm].format(name=name, text=text, scrambled=scrambled, asks=item.asks, answer=answer)
    return StudyQuestion(
        f"{name}: {item.asks}",
        (("system", card), ("user", wording.format(asks=item.asks, a=item.a, b=item.b))),
        tuple(option[0].upper() + option[1:] for option in (item.a, item.b)),
        name,
    )


def _p(odds: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of the first answer at a temperature, from its log odds in nats."""
    return 1 / (1 + np.exp(-np.clip(odds / temperature, -500, 500)))


def _run(p: np.ndarray) -> float:
    """σ²run of p, the variance over runs."""
    return float((p * (1 - p)).mean())


def _moved(p: np.ndarray) -> float:
    """σ²persona + σ²persona×item of p (personas, items, wordings); unbiased, and therefore possibly below 0."""
    components = crossed_components(p)
    return components[0,] + components[0, 1]


def _excess(p: np.ndarray, texts: np.ndarray, part: float) -> Interval:
    """How much more p varies between personas than that part of the variance under texts, or than runs where they vary
    more. Both are (personas, items, wordings); of `texts`, the items of p, which come first.
    """
    both = np.stack([p, texts[:, : p.shape[1]]], -1)
    return crossed_interval(both, lambda v: _moved(v[..., 0]) - max(part * _moved(v[..., 1]), _run(v[..., 1])))


def _interval(p: np.ndarray) -> Interval:
    """R of p (personas, items, wordings), with its jackknife interval."""

    def log_ratio(values: np.ndarray) -> float:
        run, moved = _run(values), _moved(values)
        return float(np.log(np.clip(run / moved if moved > 0 else MOST if moved <= 0 else np.nan, 1 / MOST, MOST)))

    return _rescaled(np.exp, crossed_interval(p, log_ratio))


def _rescaled(scale: Callable, interval: Interval) -> Interval:
    low, high = float(scale(interval.low)), float(scale(interval.high))
    return Interval(float(scale(interval.value)), low, high, interval.n)


def _sampled(ask: Ask, asked: list[StudyQuestion], odds: np.ndarray, seeds: int, seed: int) -> dict[str, Interval]:
    """The variance of runs in sampled answers that begin with an option, and the variance by likelihood for the same
    questions.
    """
    cells = np.arange(odds.size).reshape(odds.shape)[:FEW, :FEW].ravel()
    figures = {}
    for t in TEMPERATURES:
        takes = [
            replace(asked[cell], item=f"{asked[cell].item} {take}", seed=derive_seed(seed, cell, take))
            for cell in cells
            for take in range(seeds)
        ]
        said = ask.say(f"sampled at {t}", takes, max_tokens=8, temperature=t)
        first = np.array(
            [_first(take_question, text) for take_question, text in zip(takes, said, strict=True)]
        ).reshape(len(cells), seeds)
        known, p = np.isfinite(first).sum(1), _p(odds.ravel()[cells], t)
        share = np.nansum(first, 1) / np.maximum(known, 1)
        sampled = share * (1 - share) * known / np.maximum(known - 1, 1)  # unbiased
        figures |= {
            f"sampled words that are an answer, at {t}": proportion_of(np.isfinite(first)),
            f"variance, sampled runs, at {t}": mean_of(np.where(known > 1, sampled, np.nan)),
            f"variance, the same by likelihood, at {t}": mean_of(np.where(known > 1, p * (1 - p), np.nan)),
        }
    return figures


def _first(question: StudyQuestion, text: str) -> float:
    """1 where the text begins with the first option, 0 where it begins with the second, otherwise NaN."""
    return next(
        (1.0 - place for place, option in enumerate(question.options) if text.lower().startswith(option.lower())),
        np.nan,
    )
