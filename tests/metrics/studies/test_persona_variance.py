"""What the persona variance study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, REFUTES

CARDS = stimuli("persona_variance").personas
PEOPLE = {"personas": 10, "items": 12, "wordings": 2, "seeds": 3}


def chooser(persona=0.0, names=0.0, scrambled=0.0, obeys=True, place=0.0) -> Planted:
    """Log odds of the first option: by the item, and so much by the persona's text, by its name alone, by its words in
    disorder, and by whether it stands first.
    """

    def nats(question: StudyQuestion, option: str) -> float:
        (name, asks), system = question.item.split(": ", 1), question.messages[0][1]
        if option != question.options[0]:
            return 0.0
        if "you say: " in system:
            return obeys * (8.0 if f"you say: {option}".lower() in system.lower() else -8.0)
        text = CARDS[name] in system
        disorder = not text and len(system.split()) > 12
        first, second = (heard(question).rfind(choice.lower()) for choice in question.options)
        return (
            0.5 * noise(asks)
            + 0.1 * noise(heard(question))
            + (place if first < second else -place)
            + noise(name, asks) * (persona * text + names + scrambled * disorder)
        )

    return Planted(nats, lambda question: question.options[question.seed % 2] if question.seed % 3 else "Well")


def ratio_of(finding) -> float:
    return next(iter(finding.tests.values())).interval.value


def test_personas_who_answer_alike_confirm_that_runs_differ_more():
    finding = studied("persona_variance", chooser(), **PEOPLE)
    assert verdict_word(finding) == CONFIRMS and ratio_of(finding) == pytest.approx(1000), (
        "no variance between personas: the ratio's bound"
    )
    assert finding.measures["variance, run, at 0.7"].value == pytest.approx(0.25, abs=0.02), "p (1 - p), p near a half"
    words = finding.measures["sampled words that are an answer, at 0.7"].value
    assert 0.4 < words < 0.9 and finding.measures["variance, sampled runs, at 0.7"].value > 0.1


def test_personas_who_know_their_minds_refute_it_the_more_the_lower_the_temperature():
    finding = studied("persona_variance", chooser(persona=8.0), **PEOPLE)
    assert verdict_word(finding) == REFUTES and ratio_of(finding) < 0.4
    assert (
        finding.measures["R at 0.3, persona text"].value
        < ratio_of(finding)
        < finding.measures["R at 1.0, persona text"].value
    )


def test_a_liking_for_what_stands_first_hides_no_difference_between_personas():
    finding = studied("persona_variance", chooser(persona=8.0, place=3.0), **PEOPLE)
    assert verdict_word(finding) == REFUTES and finding.measures["variance, persona×item, at 0.7"].low > 0.02
    assert finding.measures["variance, wording, at 0.7"].low > 0


def test_names_that_move_answers_scrambled_texts_that_do_and_deaf_personas_fail_the_instrument():
    def of(**planted) -> list[str]:
        return failed(studied("persona_variance", chooser(**planted), **PEOPLE | {"items": 24}))

    assert of(names=8.0) == ["names alone do not", "scrambled texts do so less than texts"]
    assert of(persona=2.0, scrambled=20.0) == ["scrambled texts do so less than texts"]
    assert of(obeys=False) == ["personas who are told what to answer differ"]


def test_sixty_items_have_two_answers_of_which_neither_begins_the_other():
    items = stimuli("persona_variance").items
    assert len({item.asks for item in items}) == len(items) == 60 and len(CARDS) == 12
    assert not any(answer.startswith(other) for item in items for answer, other in ((item.a, item.b), (item.b, item.a)))
