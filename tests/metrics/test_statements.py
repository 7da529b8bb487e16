"""Cards as statements in the first person, and the sentences of a line that may claim something."""

from __future__ import annotations

import pytest

from metrics.judges.text.statements import first_person, names_of, said, statements
from scenarios.records import Fact, Persona, Slot


@pytest.mark.parametrize(
    ("card", "first"),
    [
        ("You are Grace. You live in Osaka.", "I am Grace. I live in Osaka."),
        ("You come from Leeds, where you were born.", "I come from Leeds, where I was born."),
        ("Your one and only pet is a tortoise.", "My one and only pet is a tortoise."),
        ("You're shy, and people like you. Nobody lies to you.", "I am shy, and people like me. Nobody lies to me."),
        (
            "I am a nurse. I will challenge you.",
            "I am a nurse. I will challenge you.",
        ),  # is in the first person already
        ("She lives in Oslo with her son.", "I live in Oslo with my son."),
        ("He has two dogs and teaches. He often watches them.", "I have two dogs and teaches. I often watch them."),
        ("He's a baker. He's been one for years.", "I am a baker. I have been one for years."),
        ("Her father taught her a song. It stayed with her.", "My father taught me a song. It stayed with me."),
    ],
)
def test_second_and_third_person_become_the_first(card, first):
    assert first_person(card) == first


def test_the_names_that_a_card_uses_become_the_first_person_too():
    card = (
        'Meet 49-year-old Ann "Annie" Lee, a baker in Rome. Annie\'s father was a miner. After school, Annie moved to '
        "Rome. "
        "Rome made Annie happy."
    )
    assert names_of("Person A", card) == ("Ann", "Annie", "Lee")
    persona = Persona("p", "Person A", card, ())
    assert [text for _, text in statements(persona)] == [
        "I am 49 years old, a baker in Rome.",
        "My father was a miner.",
        "After school, I moved to Rome.",
        "Rome made me happy.",
    ]


def test_a_persona_with_facts_states_their_claims_and_what_a_card_of_its_own_says():
    home = Slot("home", "I live in {value}.", "You live in {value}.", ("Where?",), ("I live in {value}",), ("Osaka",))
    card = "Your name is Grace. You live in Osaka. You hate to wait."
    assert statements(Persona("g", "Grace", card, (Fact(home, "Osaka", ()),))) == (("home", "I live in Osaka."),)
    of_its_own = "Grace lives in Osaka with her cat. She hates to wait."
    assert [text for _, text in statements(Persona("g", "Grace", of_its_own, (Fact(home, "Osaka", ()),)))] == [
        "I live in Osaka.",
        "I live in Osaka with my cat.",
        "I hate to wait.",
    ]


def test_a_card_that_was_escaped_twice_is_read():
    card = '"You are a nurse.\\n\\nYou like \\"jazz\\"."'
    assert [text for _, text in statements(Persona("p", "", card, ()))] == ["I am a nurse.", 'I like "jazz".']


@pytest.mark.parametrize("card", ["", "  \n", "..."])
def test_a_card_without_words_states_nothing(card):
    assert statements(Persona("p", "", card, ())) == ()


def test_questions_without_an_i_claim_nothing_unless_the_line_has_nothing_else():
    line = "Hello!  Where are you from? I live in Oslo, and you?"
    assert [line[start:end] for start, end in said(line)] == ["Hello!", "I live in Oslo, and you?"]
    assert [(start, end) for start, end in said("Where are you from?")] == [(0, 19)]
