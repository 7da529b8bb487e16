"""Prompt search by hand arithmetic: who goes on, on how many items, at what cost, and that luck on few items is not
kept for ever.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from respondents import Planted

from metrics.studies.prompt_search import combined, cross_chosen, proposed, search


def scorer(table: dict[str, list[float]]):
    """Scores from a table, and what was asked for."""
    asked = []

    def score(candidates, items):
        asked.append((list(candidates), list(items)))
        return np.array([[table[candidate][item] for item in items] for candidate in candidates])

    return score, asked


def test_half_go_on_each_round_and_are_scored_on_new_items_only():
    table = {"a": [0, 0, 0, 0, 0, 0], "b": [1, 0, 1, 1, 1, 1], "c": [0, 1, 0, 0, 0, 0], "d": [0, 0, 0, 0, 0, 0]}
    score, asked = scorer(table)
    outcome = search(list(table), score, 6, budget=16)
    # 2 rounds of 8 scores: 4 candidates x 2 items, then 2 x 4; b and c have 1/2 each after the first, 5/6 and 1/6 after
    # the second
    assert asked == [(["a", "b", "c", "d"], [0, 1]), (["b", "c"], [2, 3, 4, 5])]
    assert outcome.best == "b" and [stage.items for stage in outcome.rounds] == [2, 6]
    assert outcome.rounds[0].means == (0, 0.5, 0.5, 0) and outcome.rounds[1].means == pytest.approx((5 / 6, 1 / 6))


def test_the_budget_is_not_exceeded_where_it_allows_an_item_a_round():
    table = {str(n): [n / 10] * 100 for n in range(11)}
    score, asked = scorer(table)
    # ceil(log2 11) = 4 rounds of 25: 11 x 2, 6 x 4, 3 x 8, 2 x 12
    assert search(list(table), score, 100, budget=100).best == "10"
    assert [(len(candidates), len(items)) for candidates, items in asked] == [(11, 2), (6, 4), (3, 8), (2, 12)]
    assert sum(len(candidates) * len(items) for candidates, items in asked) <= 100


def test_where_items_are_used_up_the_best_is_taken_at_once():
    table = {"a": [0, 1], "b": [1, 1], "c": [0, 0], "d": [1, 0]}
    score, asked = scorer(table)
    assert search(list(table), score, 2, budget=1000).best == "b" and len(asked) == 1


def test_the_earlier_of_two_alike_is_kept_and_nan_is_worst():
    score, _ = scorer({"a": [math.nan], "b": [0.5], "c": [0.5]})
    assert search(["a", "b", "c"], score, 1, budget=9).best == "b"
    assert search(["c", "b"], score, 1, budget=9).best == "c"


def test_one_candidate_is_scored_and_none_is_refused():
    score, asked = scorer({"a": [0.25, 0.75]})
    assert search(["a"], score, 2, budget=2).rounds[0].means == (0.5,) and len(asked) == 1
    with pytest.raises(ValueError, match="0 candidates and 2 items: expected at least one of each"):
        search([], score, 2, budget=2)


def test_of_noise_alone_the_winner_is_no_better_on_other_items():
    rng = np.random.default_rng(0)
    noise = rng.random((64, 400))  # mean 1/2
    outcome = search(
        [str(n) for n in range(64)],
        lambda candidates, items: noise[np.ix_([int(candidate) for candidate in candidates], list(items))],
        40,
        budget=600,
    )
    assert max(outcome.rounds[0].means) > 0.8, "luck on few items"
    assert noise[int(outcome.best), 40:].mean() == pytest.approx(0.5, abs=0.05)


def test_rules_give_every_combination():
    assert combined(["", "You know."], ["Think.", "Guess."]) == [
        "Think.",
        "Guess.",
        "You know. Think.",
        "You know. Guess.",
    ]


def test_proposals_are_first_lines_whole_sentences_and_told_apart():
    said = [
        '"Answer from what you know. Do not gue',
        "Answer from what you know.\nSecond line",
        "Hm.",
        "Name the town and then its",
    ]
    ask = Planted(lambda question, option: 0.0, lambda question: said[int(question.item.split()[1])])
    assert proposed(ask, "p", "Propose!", 4, 1) == ["Answer from what you know.", "Name the town and then its"]


def test_what_a_prompt_leaves_is_told_of_items_that_it_was_not_chosen_on():
    left = {"a": np.array([0.0, 0.9, 0.1, 0.9]), "b": np.array([0.8, 0.1, 0.8, 0.3])}
    best, held_out = cross_chosen(left)  # on even items a leaves .05 and b .8, on odd ones .9 and .2
    assert best == "a" and held_out.tolist() == [0.8, 0.9, 0.8, 0.9]
