"""What the personality conditioning study concludes from respondents whose answers are known: it finds what was
planted, and nothing that was not.
"""

from __future__ import annotations

import math

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, system_of, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, INCONCLUSIVE, REFUTES

TRAITS = stimuli("personality_conditioning").traits
KEYED = {f"I {words}": (trait, end) for trait in TRAITS for end in ("high", "low") for words in getattr(trait, end)}
LIKERT = stimuli("personality_conditioning").words
ASKED = {"traits": 5, "paraphrases": 1}


def actor(described: float, role: float, reads: bool = True, bicycle: float = 0.0) -> Planted:
    """Goes from a default of its own towards the described extreme: the share `described` of the way under a
    description, and the share `role` under a role."""

    def level(trait, system: str) -> float:
        default = 3 + noise(trait.name)
        for end, extreme in (("high", 5), ("low", 1)):
            meant = getattr(trait.description, end) in system and "opposite" not in system
            if meant or (
                "opposite" in system and getattr(trait.description, "low" if end == "high" else "high") in system
            ):
                return default + (role if getattr(trait.role, end) in system else described) * (extreme - default)
        return default + bicycle * (5 - default) * ("bicycle" in system)

    def nats(question: StudyQuestion, option: str) -> float:
        system, words = system_of(question), heard(question)
        if option.strip() not in LIKERT:
            trait = next(trait for trait in TRAITS if any(situation.asked == words for situation in trait.situations))
            high = any(situation.high == option for situation in trait.situations)
            return (level(trait, system) - 3) * (1 if high else -1)
        trait, end = KEYED[question.item.partition(": ")[2]]
        true = level(trait, system) if end == "high" else 6 - level(trait, system)
        if reads and system.endswith("true of you."):
            true = 1 if "never" in system else 5
        # between two words: both, so that their mean is it
        return math.log(max(1 - abs(1 + LIKERT.index(option.strip()) - true), 1e-9))

    return Planted(nats)


def test_who_goes_less_than_half_of_the_way_and_further_with_a_role_confirms_that_personality_is_kept():
    finding = studied("personality_conditioning", actor(0.3, 0.45), **ASKED)
    assert verdict_word(finding) == CONFIRMS and finding.tests[
        "median flexibility, share of the way to the extreme"
    ].interval.value == pytest.approx(0.3)
    assert finding.tests["rise of it with a role"].interval.value == pytest.approx(0.15)
    assert finding.measures["median flexibility, told by its opposite"].value == pytest.approx(0.3)
    assert finding.measures["p of the high choice, told high less told low, target"].value == pytest.approx(
        0.5, abs=0.1
    )


def test_who_becomes_what_it_is_told_to_be_refutes_it():
    finding = studied("personality_conditioning", actor(0.9, 0.95), **ASKED)
    assert verdict_word(finding) == REFUTES and finding.measures["targets past the middle"].value == 1


def test_a_role_that_adds_nothing_leaves_it_open():
    assert verdict_word(studied("personality_conditioning", actor(0.3, 0.3), **ASKED)) == INCONCLUSIVE


def test_a_liking_for_a_word_is_no_personality():
    finding = studied(
        "personality_conditioning", Planted(lambda question, option: 3.0 * (option == " always")), **ASKED
    )
    assert verdict_word(finding) == FAILED and failed(finding) == ["answers in the prompt move it"]
    assert finding.tests["median flexibility, share of the way to the extreme"].interval.value == pytest.approx(0)


def test_who_is_another_for_a_bicycle_fails_the_instrument():
    finding = studied("personality_conditioning", actor(0.3, 0.45, bicycle=0.5), **ASKED)
    assert verdict_word(finding) == FAILED and failed(finding) == ["a bicycle does not"]


def test_there_are_50_statements_and_10_situations():
    assert len(KEYED) == 50 and all(
        len(trait.high + trait.low) == 10 and len(trait.situations) == 2 for trait in TRAITS
    )
