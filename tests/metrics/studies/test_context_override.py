"""What the context override study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import Planted, failed, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

CAPITALS = stimuli("context_override").capitals
COUNTRIES = {"items": 60, "searched": 3}


def believer(believes, copies: float = 0.0) -> Planted:
    """Knows its capitals by 1 to 9 nats, and believes what a text says of them by `believes(text, its steer)`; a city
    that stands in a text of something else it copies by so much.
    """

    def nats(question: StudyQuestion, option: str) -> float:
        country, city = question.messages[-1][1].removeprefix("The capital of ").removesuffix(" is"), option.strip()
        text = " ".join(words for role, words in question.messages if role != "assistant")
        says = f"capital of {country} is {city}" in text
        return (
            (5 + 4 * noise(country)) * (CAPITALS.get(country) == city)
            + believes(text, ask.steered) * says
            + copies * (city in text and not says)
        )

    ask = Planted(nats)
    return ask


def weakly(text: str, steered) -> float:
    return 20.0 if steered and steered.random is None else 4.5 if "alone" in text else 3.0


def test_a_reader_whom_texts_do_not_move_where_it_knows_and_steering_does_confirms_the_pull_of_priors():
    finding = studied("context_override", believer(weakly), **COUNTRIES)
    assert verdict_word(finding) == CONFIRMS
    assert finding.measures["override, a false sentence"].value == pytest.approx(0.25, abs=0.12), "X below 3 of 1 to 9"
    assert finding.measures["override, told to obey it"].value == pytest.approx(0.44, abs=0.12), "X below 4.5"
    assert finding.tests["override in the top fifth, steered less best text"].interval.value == 1


def test_a_reader_who_believes_every_text_refutes_it():
    finding = studied("context_override", believer(lambda text, steered: 20.0), items=130, searched=3)
    assert (
        verdict_word(finding) == REFUTES
        and finding.tests["override in the top fifth, three times or told to obey"].interval.value == 1
    )


def test_a_reader_whom_any_direction_moves_fails_the_instrument():
    finding = studied("context_override", believer(lambda text, steered: 20.0 if steered else 3.0), **COUNTRIES)
    assert verdict_word(finding) == FAILED and failed(finding) == ["random directions add nothing"]


def test_a_reader_who_copies_any_city_fails_the_instrument():
    finding = studied("context_override", believer(weakly, copies=20.0), **COUNTRIES)
    assert verdict_word(finding) == FAILED and failed(finding) == ["a sentence about another country overrides nothing"]


def test_a_reader_who_believes_nothing_fails_the_instrument():
    finding = studied("context_override", believer(lambda text, steered: 0.0), **COUNTRIES)
    assert verdict_word(finding) == FAILED and failed(finding) == ["one about an invented country is believed"]


def test_no_country_tells_its_capital():
    assert len(set(CAPITALS.values())) == len(CAPITALS) == 150 and not any(
        city in country for country, city in CAPITALS.items()
    )
