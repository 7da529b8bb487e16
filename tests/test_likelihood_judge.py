"""The likelihood judge over a made-up speaker whose log-probabilities are written down here."""

from __future__ import annotations

import math

import pytest

from metrics.judges import Pair
from metrics.judges.likelihood import INTERCEPT, NEUTRAL_CARD, OVER_NONE, OVER_OTHERS, OWN, TYPICAL, Likelihood, p_inconsistent
from scenarios.records import Persona

GRACE, LEON, AMINA = (Persona(name.lower(), name, f"You are {name}.", ()) for name in ("Grace", "Leon", "Amina"))


class Speaker:
    """Says a line that names the card's person at -1 nats a token, any other at -3; remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, texts):
        self.calls.append(list(zip(prompts, texts, strict=True)))
        return [
            [-1.0 if prompt.removeprefix("You are ").rstrip(".") in text else -3.0] * len(text.split())
            for prompt, text in self.calls[-1]
        ]


def pair(line, turn=0, metric="prompt_to_line", conversation=0):
    return Pair(conversation, turn, "user", metric, line, "persona" if metric == "prompt_to_line" else "0", GRACE, "before")


def test_p_is_the_documented_logistic_of_three_terms():
    # own -1, none -3, others (-3 - 2) / 2 = -2.5: INTERCEPT + OWN * 2 + OVER_NONE * 2 + OVER_OTHERS * 1.5
    score = INTERCEPT + OWN * (-1.0 - TYPICAL) + OVER_NONE * 2.0 + OVER_OTHERS * 1.5
    assert p_inconsistent(-1.0, -3.0, [-3.0, -2.0]) == pytest.approx(1 / (1 + math.exp(-score)))


def test_likelier_under_the_own_card_is_less_inconsistent_and_likelier_under_anothers_is_more():
    assert p_inconsistent(-1.0, -3.0, [-3.0]) < p_inconsistent(-2.0, -3.0, [-3.0]) < 0.5 < p_inconsistent(-3.0, -3.0, [-1.0])
    assert p_inconsistent(-3.0, -3.0, [-3.0]) < 0.5  # a line that no card moves
    assert 0.0 <= p_inconsistent(-1e6, 0.0, [0.0]) <= 1.0  # no overflow


def test_line_of_the_own_persona_is_consistent_and_anothers_line_contradicts():
    mine, another = Likelihood(Speaker(), (LEON,)).judge([pair("Grace here, hello"), pair("Leon here, hello", 2)])
    assert (mine.verdict, another.verdict) == (False, True)
    assert mine.p_inconsistent < 0.5 < another.p_inconsistent
    assert (mine.judge, mine.against, mine.turn, another.turn) == ("likelihood", "persona", 0, 2)


def test_all_pairs_are_scored_in_one_call_and_each_card_and_line_once():
    speaker = Speaker()
    Likelihood(speaker, (LEON,)).judge([pair("Hello there"), pair("Hello there", 2), pair("Good day", 4)])
    assert len(speaker.calls) == 1
    assert sorted(speaker.calls[0]) == sorted(
        (card, line) for card in (GRACE.card, NEUTRAL_CARD, LEON.card) for line in ("Hello there", "Good day")
    )


def test_own_card_is_never_drawn_as_another_and_number_limits_the_draw():
    for number, cards in ((0, 2), (1, 3), (2, 4), (9, 4)):
        speaker = Speaker()
        Likelihood(speaker, (GRACE, LEON, AMINA), number=number).judge([pair("Hello there")])
        asked = [card for card, _ in speaker.calls[0]]
        assert len(asked) == len(set(asked)) == cards


def test_draw_is_the_same_for_a_whole_conversation_and_follows_the_seed():
    def drawn(seed, conversation):
        speaker = Speaker()
        Likelihood(speaker, (LEON, AMINA), seed=seed).judge([pair("One", 0, conversation=conversation), pair("Two", 2, conversation=conversation)])
        return {card for card, _ in speaker.calls[0]} - {GRACE.card, NEUTRAL_CARD}

    draws = [drawn(seed, conversation) for seed in range(4) for conversation in range(4)]
    assert all(len(draw) == 1 for draw in draws) and len(set.union(*draws)) == 2
    assert drawn(3, 1) == drawn(3, 1)


def test_without_another_persona_the_last_term_is_left_out():
    (row,) = Likelihood(Speaker(), (GRACE,)).judge([pair("Grace here")])
    assert row.p_inconsistent == pytest.approx(p_inconsistent(-1.0, -3.0))


def test_pairs_of_lines_and_blank_lines_are_unscored_and_nothing_is_asked_for_them():
    speaker = Speaker()
    rows = Likelihood(speaker, (LEON,)).judge([pair("Hello", 2, "line_to_line"), pair(" \n")])
    assert [row.unscored for row in rows] == ["scores lines against personas only", "empty line"]
    assert all(row.verdict is None and row.p_inconsistent is None for row in rows) and speaker.calls == []


@pytest.mark.parametrize("tokens", [[], [-1.0, -math.inf], [math.nan]])
def test_line_without_finite_tokens_is_unscored(tokens):
    (row,) = Likelihood(lambda prompts, texts: [tokens for _ in texts]).judge([pair("Hello")])
    assert row.verdict is None and row.unscored == "no finite log-probability"


def test_wrong_number_of_answers_is_refused():
    with pytest.raises(ValueError, match="1 lists .* each of 2"):
        Likelihood(lambda prompts, texts: [[-1.0]]).judge([pair("Hello")])
