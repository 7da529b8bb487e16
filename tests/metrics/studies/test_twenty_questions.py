"""What the twenty questions study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from respondents import Planted, failed, heard, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES
from scenarios.records import derive_seed

GAME = stimuli("twenty_questions")
WORDED = {words: attribute for attribute, wordings in GAME.attributes.items() for words in wordings}
PLAYED = {"games": 6, "depth": 4, "takes": 6}


def fitting(question: StudyQuestion) -> list[str]:
    """Objects that fit all that was answered so far."""
    pairs = pairwise(question.messages)
    answers = [(WORDED[words], reply.startswith("Yes")) for (_, words), (_, reply) in pairs if words in WORDED]
    return [name for name, has in GAME.objects.items() if all((attribute in has) == yes for attribute, yes in answers)]


def written(question: StudyQuestion) -> str | None:
    return next(
        (
            words.removeprefix("It is the ").rstrip(".")
            for role, words in question.messages
            if role == "assistant" and words.startswith("It is the ")
        ),
        None,
    )


def player(choice, scratchpad: bool = True) -> Planted:
    """Holds what `choice(objects that fit, question)` gives: some objects, all alike; reads its scratchpad, or does
    not.
    """

    def held(question: StudyQuestion) -> list[str]:
        if scratchpad and written(question):
            return [written(question)]
        guessing = "You ask questions" in question.messages[0][1]
        return fitting(question) if guessing else choice(fitting(question), question)

    def nats(question: StudyQuestion, option: str) -> float:
        names = held(question)
        if option in ("Yes.", "No."):
            asked = heard(question).removeprefix("Is it the ").rstrip("?")
            share = (asked in names) / len(names)
            return math.log(max(share if option == "Yes." else 1 - share, 1e-9))
        return 0.0 if option.strip(" .") in names else -30.0

    def words(question: StudyQuestion) -> str:
        names = held(question)
        return names[question.seed % len(names)]

    return Planted(nats, words)


def committed(names: list[str], question: StudyQuestion) -> list[str]:
    """One that fits, by the order of the game's list alone: the same after the same answers."""
    return [min(names, key=lambda name: derive_seed(question.messages[0][1], name))]


def test_a_player_who_has_chosen_refutes_superposition():
    finding = studied("twenty_questions", player(committed), **PLAYED)
    assert verdict_word(finding) == REFUTES and finding.tests[
        "entropy of the reveal, bits"
    ].interval.value == pytest.approx(0, abs=1e-3)
    assert finding.measures["two sampled reveals that differ"].value == 0
    assert finding.measures["objects said yes to"].value == pytest.approx(1, abs=1e-3)


def test_a_player_who_holds_all_that_fits_confirms_superposition():
    ask = player(lambda names, question: names)
    finding = studied("twenty_questions", ask, **PLAYED)
    assert verdict_word(finding) == CONFIRMS and finding.tests[
        "mass on objects that fit the answers"
    ].interval.value == pytest.approx(1)
    curve = dict(finding.pictures["entropy"].curves["chosen"])
    assert curve[0].value == pytest.approx(5), "32 objects before any answer"
    assert curve[4].value == pytest.approx(dict(finding.pictures["entropy"].curves["all that fit alike"])[4].value)
    assert finding.measures["two sampled reveals that differ"].value > 0.3
    assert ask.arms == {"chosen": 30, "scratchpad": 30, "guesser": 30, "sampled reveals": 36, "is it ...?": 192}


def test_a_player_who_forgets_the_answers_is_incoherent():
    finding = studied("twenty_questions", player(lambda names, question: list(GAME.objects)), **PLAYED)
    assert (
        verdict_word(finding) == REFUTES and finding.tests["mass on objects that fit the answers"].interval.value < 0.5
    )


def test_a_player_who_cannot_read_its_scratchpad_fails_the_instrument():
    finding = studied("twenty_questions", player(lambda names, question: names, scratchpad=False), **PLAYED)
    assert verdict_word(finding) == FAILED and failed(finding) == [
        "a written object is found",
        "and nothing else beside it",
    ]


def test_every_object_has_a_twin_and_no_name_begins_another():
    kinds = [sorted(has) for has in GAME.objects.values()]
    assert len(kinds) == 32 and all(kinds.count(kind) == 2 for kind in kinds)
    assert {attribute for has in GAME.objects.values() for attribute in has} == GAME.attributes.keys() and len(
        GAME.attributes
    ) == 5
