"""The best of many prompts, found on a development split and nowhere else: candidates by rules and by a model,
successive halving.

Halving differs from the textbook's (Karnin, Koren and Somekh, ICML 2013) in one way: a candidate keeps what it scored
in earlier rounds, so that all survivors are compared on the same, growing set of items. What was found says nothing of
how good it is: that is for held-out items, once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.studies.protocol import Ask, StudyQuestion
from scenarios.records import derive_seed

LEAST, MOST = 3, 60  # words of a proposal that is kept


@dataclass(frozen=True)
class Round:
    """`places`: who was left, in the order of the candidates; `means`: over the first `items` items; `items`: how many
    each has seen.
    """

    places: tuple[int, ...]
    means: tuple[float, ...]
    items: int


@dataclass(frozen=True)
class Searched:
    best: str
    rounds: tuple[Round, ...]


def search(
    candidates: Sequence[str], score: Callable[[Sequence[str], Sequence[int]], np.ndarray], items: int, *, budget: int
) -> Searched:
    """`score(candidates, places of items)`: (candidates, items), higher is better; NaN counts as worst. `budget`:
    scores in all, spread evenly over ceil(log2 candidates) rounds; after each the better half goes on, the earlier of
    two that are alike. At least one item a round is scored while there are any. ValueError for no candidates or no
    items.
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
    """Every choice of one text of each part, in order, joined by blanks; an empty text leaves its part out."""
    return [" ".join(filter(None, texts)) for texts in itertools.product(*parts)]


def proposed(ask: Ask, arm: str, request: str, takes: int, seed: int, *, max_tokens: int = 40) -> list[str]:
    """What the model itself proposes, each once: the first line of what it says, without a last sentence that was cut
    off.
    """
    asked = [
        StudyQuestion(f"take {take}", (("user", request),), (), "", derive_seed(seed, arm, take))
        for take in range(takes)
    ]
    said = [text.strip().partition("\n")[0].strip(' "') for text in ask.say(arm, asked, max_tokens=max_tokens)]
    whole = [text[: cut + 1] if (cut := max(map(text.rfind, ".!?"))) > 0 else text for text in said]
    return list(dict.fromkeys(text for text in whole if LEAST <= len(text.split()) <= MOST))


def cross_chosen(left: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Of several prompts the one that leaves least, by `left` (items,), and what is left by item under the one that
    leaves least on the other half of the items (even and odd ones): the least of several on the same items would be low
    by chance.
    """
    count = len(next(iter(left.values())))
    half = np.arange(count) % 2

    def least(places: np.ndarray) -> str:
        return min(left, key=lambda name: left[name][places].mean() if places.any() else 0.0)

    return least(half >= 0), np.where(half == 0, left[least(half == 1)], left[least(half == 0)])
