"""What the card distance study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import Planted, failed, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, REFUTES

TALK = stimuli("card_distance")
FAR = {"personas": 8, "slots": 2, "exchanges": 16}


def holder(kept, whatever=False) -> Planted:
    """Leans to the value of its card by 4 nats times `kept(exchanges since the card)`. With `whatever` it leans to the
    right value by 4 nats as soon as there is any card.
    """

    def nats(question: StudyQuestion, option: str) -> float:
        slot = TALK.slots[question.item.split(", ")[1]] if ", " in question.item else None
        heard_of = [
            place
            for place, (role, words) in enumerate(question.messages)
            if slot
            and any(slot.card.format(value) in words for value in slot.values if slot.says.format(value) == option)
        ]
        has_card = len(question.messages[0][1]) > 60
        since = (len(question.messages) - 2 - heard_of[-1]) // 2 if heard_of else None
        lean = (
            4.0 * (has_card and option == question.options[0]) if whatever else 4.0 * kept(since) if heard_of else 0.0
        )
        return noise(question.item, option) + 0.1 * noise(len(question.messages), option) + lean

    return Planted(nats)


def test_a_card_that_fades_and_comes_back_when_told_again_confirms_distance():
    ask = holder(lambda since: 0.9**since)
    finding = studied("card_distance", ask, **FAR)
    lost = next(iter(finding.tests.values())).interval
    assert verdict_word(finding) == CONFIRMS and lost.value == pytest.approx(1 - 0.9**16, abs=0.03)
    assert finding.measures["hold, card only 4 of 16 ago, nats"].value == pytest.approx(4 * 0.9**4, abs=0.2)
    assert finding.measures["change of hold per 1000 tokens, nats"].value < 0
    assert [x for x, _ in finding.pictures["hold"].curves["card at the start"]] == [0, 2, 4, 8, 16, 32], (
        "a planted token a line"
    )
    assert ask.arms["card 16 ago"] == 16 and ask.arms["length of the filler"] == 1


def test_a_card_that_holds_however_far_refutes_it():
    finding = studied("card_distance", holder(lambda since: 1.0), **FAR)
    assert verdict_word(finding) == REFUTES and next(iter(finding.tests.values())).interval.value == pytest.approx(
        0, abs=0.03
    )


def test_a_card_that_nobody_reads_or_that_anybody_could_have_told_fails_the_instrument():
    assert failed(studied("card_distance", holder(lambda since: 0.0), **FAR))[0] == "right after it a card holds"
    assert failed(studied("card_distance", holder(None, whatever=True), **FAR)) == ["another's card does not"]


def test_no_talk_of_other_things_names_what_a_card_tells():
    values = [value for slot in TALK.slots.values() for value in slot.values]
    assert len(TALK.filler) == 32 and not [
        line for pair in TALK.filler for line in pair for value in values if f" {value}" in line
    ]
