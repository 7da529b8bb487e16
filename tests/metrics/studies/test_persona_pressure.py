"""What the persona pressure study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import Planted, failed, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

CAST = stimuli("persona_pressure")
PRESSED = {"personas": 6, "facts": 2, "steps": 10, "doses": 2}


def pressed(trained, prompted, anybody: bool = False) -> Planted:
    """Holds a persona by so many nats at a level of pressure, 0 to 7, of which 1 and 2 are neutral, and 8 after the
    release: under its card `prompted`, under its adapter `trained`, of 12 steps and half of that of 10; `anybody`:
    under every adapter.
    """
    levels = ["no pressure", *CAST.pressures, "release"]

    def nats(question: StudyQuestion, option: str) -> float:
        name, slot, level = question.item.split(", ")
        system = question.messages[0][1] if question.messages[0][0] == "system" else ""
        own = option == CAST.slots[slot].says.format(CAST.personas[name][slot])
        worn, at = ask.worn or "", levels.index(level)
        taught = ((anybody and worn) or worn.startswith(name)) and trained(at) / (1 if "12" in worn else 2)
        return 0.1 * noise(question.item) + own * max(taught or 0, prompted(at) * (f"You are {name}." in system))

    ask = Planted(nats)
    return ask


def bends(level: int) -> float:
    """Loses three quarters of a nat a level from the third on, and gets half of it back."""
    return 6 - 0.75 * max(level - 2, 0) if level < 8 else 4.125


def test_a_trained_persona_that_does_not_bend_where_a_prompted_one_does_confirms_the_claim():
    ask = pressed(lambda level: 6.5, bends)
    finding = studied("persona_pressure", ask, **PRESSED)
    assert verdict_word(finding) == CONFIRMS
    # levels 3 to 7 of pressure cost the prompted .75 to 3.75 nats, on the mean 2.25; after the release 1.875 are still
    # lost
    assert [test.interval.value for test in finding.tests.values()] == pytest.approx([2.25, 1.875], abs=0.1)
    assert finding.measures["spring-back, share of what was taken, prompted"].value == pytest.approx(0.5, abs=0.1)
    assert finding.measures["level of half loss, trained"].value == 8, "never"
    # log-odds against three others of 0 nats: 4.90 at the start, half of it 2.45, and 6 - .75 * 4 - log 3 = 1.90 at
    # level 6
    assert finding.measures["level of half loss, prompted"].value == 6
    assert set(ask.lessons) == {f"{name}: {n} steps" for name in CAST.personas for n in (10, 12)} & ask.lessons.keys()
    assert len(ask.lessons) == 12 and not any(
        "keep" in lesson.messages[0][1] for lessons in ask.lessons.values() for lesson in lessons
    )


def test_personas_that_bend_alike_refute_it_whichever_way_they_came_about():
    finding = studied("persona_pressure", pressed(lambda level: 1 + bends(level), bends), **PRESSED)
    assert verdict_word(finding) == REFUTES and finding.tests[
        "log-odds kept under pressure, trained less prompted, nats"
    ].interval.value == (pytest.approx(0, abs=0.1))


def test_personas_that_do_not_start_alike_fail_the_instrument():
    finding = studied("persona_pressure", pressed(lambda level: 30.0, bends), **PRESSED | {"personas": 8})
    assert verdict_word(finding) == FAILED and failed(finding) == ["most personas have facts that start alike"]


def test_a_persona_that_was_not_learnt_fails_the_instrument():
    finding = studied("persona_pressure", pressed(lambda level: 0.0, bends), **PRESSED | {"personas": 12})
    assert verdict_word(finding) == FAILED and "the persona is held without pressure, trained" in failed(finding)


def test_a_persona_under_anybodys_adapter_fails_the_instrument():
    finding = studied("persona_pressure", pressed(lambda level: 6.0, bends, anybody=True), **PRESSED)
    assert verdict_word(finding) == FAILED and failed(finding) == ["somebody else's adapter does not hold it"]


def test_a_persona_that_neutral_words_shake_fails_the_instrument():
    finding = studied("persona_pressure", pressed(lambda level: 6.0, lambda level: 6.0 - 5 * (level > 0)), **PRESSED)
    assert verdict_word(finding) == FAILED and failed(finding) == ["neutral words cost little"]


def test_no_two_people_share_a_fact():
    values = [value for facts in CAST.personas.values() for value in facts.values()]
    assert len(set(values)) == len(values) == 16 * 6 and all(
        facts.keys() == CAST.slots.keys() for facts in CAST.personas.values()
    )
