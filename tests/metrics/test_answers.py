"""Answers in the speaker's own words."""

from __future__ import annotations

import pytest

from metrics.judges.answer_words import is_right, match_judgement
from scenarios.personas import load_personas

GRACE = next(persona for persona in load_personas("scenarios/personas/townsfolk.yaml") if persona.id == "grace")


@pytest.mark.parametrize(
    ("fact", "answer"),
    [
        ("instrument", "I play the cello."),
        ("instrument", "The cello."),
        ("instrument", "Cello, of course, and not the flute."),
        ("age", "I'm 34."),
        ("age", "Thirty-four years old."),
        ("home", "Osaka"),
        ("name", "Grace!"),
        ("name", "My name is Grace, nice to meet you."),
        ("job", "Carpenter."),
        ("job", "I am a carpenter."),
        ("pet", "A tortoise is all I have."),
    ],
)
def test_answer_that_names_the_value_is_right(fact, answer):
    assert is_right(answer, GRACE.fact(fact))


@pytest.mark.parametrize(
    ("fact", "answer"),
    [
        ("instrument", "I play the flute."),
        ("instrument", "I love music."),
        ("instrument", "The cello or the flute."),
        ("instrument", "I don't play the cello."),
        ("age", "I'm 43."),
        ("home", "Somewhere nice."),
        ("name", "My name is Emily."),
        ("pet", "I'd rather not say."),
    ],
)
def test_answer_that_names_another_value_or_two_or_none_or_denies_it_is_not_right(fact, answer):
    assert not is_right(answer, GRACE.fact(fact))


def test_empty_answer_is_unscored_with_its_reason():
    scored = match_judgement(0, 3, "user", GRACE.fact("pet"), " … ")
    assert (scored.unscored, scored.verdict, scored.p_inconsistent) == ("empty answer", None, None)
    assert (
        match_judgement(0, 3, "user", GRACE.fact("pet"), None, "the endpoint failed").unscored == "the endpoint failed"
    )


def test_an_answer_in_a_script_that_the_slot_is_not_is_unscored():
    scored = match_judgement(0, 3, "user", GRACE.fact("pet"), "我有一只狗。")
    assert (scored.verdict, scored.p_inconsistent, scored.answer) == (None, None, "我有一只狗。")
    assert scored.unscored == "most letters are Cjk, and the persona's patterns Latin"
    assert match_judgement(0, 3, "user", GRACE.fact("age"), "34.").verdict is False, "numbers are of every script"


def test_judgement_tells_the_answer():
    scored = match_judgement(1, 5, "assistant", GRACE.fact("pet"), "A parrot.")
    assert (scored.verdict, scored.answer, scored.metric, scored.judge, scored.against) == (
        True,
        "A parrot.",
        "qa",
        "answer_match",
        "pet",
    )
