"""The best of many prompts on a development split: candidates by rules and from a model, and successive halving.

Halving differs from the textbook (Karnin, Koren and Somekh, ICML 2013) in one way: a candidate keeps its scores of
earlier rounds, so that all survivors are compared on the same, growing set of items. The score of the winner on these
items is biased upwards; its quality has to be measured once, on held-out items.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.studies.protocol import Ask, StudyQuestion
from scenarios.records import derive_seed
from scenarios.scripts import SENTENCE_MARKS, WIDE_SENTENCE_MARKS, count_words

LEAST, MOST = 3, 60  # words of a proposal that is kept


@dataclass(frozen=True)
class Round:
    """A round of the search: the indices of the remaining candidates, their mean scores, and the number of items behind
    each.
    """

    places: tuple[int, ...]
    means: tuple[float, ...]
    items: int


@dataclass(frozen=True)
class Searched:
    """The best candidate, and the rounds of the search."""

    best: str
    rounds: tuple[Round, ...]


def search(
    candidates: Sequence[str], score: Callable[[Sequence[str], Sequence[int]], np.ndarray], items: int, *, budget: int
) -> Searched:
    """The best candidate by successive halving.

    `score(candidates, indices of items)` returns (candidates, items), higher is better; NaN counts as worst. `budget`
    is the number of scores in all, spread evenly over ceil(log2 candidates) rounds. After each round the better half
    remains; of equals, the earlier candidate. Each round scores at least one more item while any is left. Raises
    ValueError without candidates or items.
    """
    if not candidates or items < 1:
        raise ValueError(f"{len(candidates)} candidates and {items} items: expected at least one of each")
    left, seen, rounds = list(range(len(candidates))), np.zeros((len(candidates), 0)), []
    planned = max(1, math.ceil(math.log2(len(candidates))))
    while not rounds or len(left) > 1:
        more = min(items - seen.shape[1], max(1, budget // (planned * len(left))))
        if more:
            new = np.asarray(
                score([candidates[place] for place in left], range(seen.shape[1], seen.shape[1] + more)), float
            )
            seen = np.hstack([seen, np.nan_to_num(new, nan=-np.inf)])
        means = seen.mean(1)
        rounds.append(Round(tuple(left), tuple(means.tolist()), seen.shape[1]))
        keep = 1 if seen.shape[1] == items else math.ceil(len(left) / 2)  # nothing more can be learnt
        best = sorted(np.argsort(-means, kind="stable")[:keep])
        left, seen = [left[place] for place in best], seen[best]
    return Searched(candidates[left[0]], tuple(rounds))


def combined(*parts: Sequence[str]) -> list[str]:
    """Every combination of one text of each part, in order, joined by blanks; an empty text leaves its part out."""
    return [" ".join(filter(None, texts)) for texts in itertools.product(*parts)]


def proposed(ask: Ask, arm: str, request: str, takes: int, seed: int, *, max_tokens: int = 40) -> list[str]:
    """The different prompts that the model proposes: the first line of each sample, without an incomplete last
    sentence.
    """
    asked = [
        StudyQuestion(f"take {take}", (("user", request),), (), "", derive_seed(seed, arm, take))
        for take in range(takes)
    ]
    said = [text.strip().partition("\n")[0].strip(' "') for text in ask.say(arm, asked, max_tokens=max_tokens)]
    marks = SENTENCE_MARKS + WIDE_SENTENCE_MARKS
    whole = [text[: cut + 1] if (cut := max(map(text.rfind, marks))) > 0 else text for text in said]
    return list(dict.fromkeys(text for text in whole if LEAST <= count_words(text) <= MOST))


def cross_chosen(left: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """The prompt with the least loss by `left` (items,), and an estimate by item of the loss of the best prompt.

    For each item, the estimate takes the prompt with the least loss on the other half of the items (even and odd ones):
    the minimum over prompts on the same items would be too low by chance.
    """
    count = len(next(iter(left.values())))
    half = np.arange(count) % 2

    def least(places: np.ndarray) -> str:
        return min(left, key=lambda name: left[name][places].mean() if places.any() else 0.0)

    return least(half >= 0), np.where(half == 0, left[least(half == 1)], left[least(half == 0)])
