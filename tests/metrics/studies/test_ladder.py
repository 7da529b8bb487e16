"""What the ladder study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import CALM, EVASIVE, failed, speaker, stimuli, studied, verdict_word

from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

CLIMBED = {
    "interventions": ["bare card", "better card", "reminder", "steering", "sft", "online rl"],
    "steps": 2,
    "dialogues": 2,
    "searched": 9,
    "developed": 12,
    "examined": 12,
    "turns": 12,
}


@pytest.mark.parametrize(
    ("rates", "wires", "control"),
    [
        ({"grpo": 0.1, "other seeds": 0.1}, {}, "other seeds remove nothing"),
        ({"grpo": 0.1}, {"evades": CALM}, "an evasive policy does not win"),
    ],
)
def test_dialogues_that_cannot_be_told_from_their_controls_fail_the_instrument(rates, wires, control):
    finding = studied("ladder", speaker(rates, wires), **CLIMBED)
    assert verdict_word(finding) == FAILED and failed(finding) == [control]


def test_the_ladder_tells_words_from_training():
    ask = speaker({"reminder": 0.4, "sft": 0.2, "online rl": 0.1})
    finding = studied("ladder", ask, **CLIMBED)
    assert verdict_word(finding) == CONFIRMS
    assert [test.interval.value for test in finding.tests.values()] == pytest.approx([0.8 - 0.2, 0.2], abs=0.1), (
        "the best of each"
    )
    table = finding.tables["The ladder"]
    assert (
        list(table) == CLIMBED["interventions"]
        and table["sft"]["trained parameters"].value == 1234
        and table["sft"]["tokens learnt or tried"].value == 42
    )
    # three coefficients in a dialogue each, then the better two in two more each: five runs; planted ones have 72 lines
    # of .1 s
    tries = [arm for arm in ask.changes if arm.startswith("steering, tried")]
    assert table["steering"]["seconds before"].value == pytest.approx(len(tries) * 72 * 0.1) and len(tries) == 5
    assert table["reminder"]["seconds before"].value == 0
    assert verdict_word(studied("ladder", speaker({"better card": 0.0, "reminder": 0.1}), **CLIMBED)) == REFUTES


def test_one_text_that_does_as_much_as_any_training_refutes_the_ladder_though_the_others_do_nothing():
    assert (
        verdict_word(studied("ladder", speaker({"better card": 0.1, "sft": 0.3, "online rl": 0.3}), **CLIMBED))
        == REFUTES
    )


def test_interventions_that_evade_are_not_chosen_and_chosen_is_on_other_people():
    rates, wires = {"sft": 0.2, "online rl": 0.0}, {"online rl": EVASIVE}
    ask = speaker(rates, wires)
    finding = studied("ladder", ask, **CLIMBED)
    assert finding.tests[
        "share of wrong answers removed by the best training less by the best text"
    ].interval.value == pytest.approx(0.6, abs=0.1)
    assert "training (sft)" in finding.reading and "online rl: evasion" in finding.reading
    for name in CLIMBED["interventions"]:
        assert set(ask.changes[f"{name}, development"]["persona_pool"]) == set(stimuli("ladder").development)
        assert set(ask.changes[name]["persona_pool"]) == set(stimuli("ladder").held_out)
    assert not set(stimuli("ladder").development) & set(stimuli("ladder").held_out)


def test_the_wording_that_helps_most_on_other_people_is_the_better_card():
    ask = speaker({})
    tried = iter((0.5, 0.1, 0.3, 0.1, 0.3))
    plays, ask.plays = (
        ask.plays,
        lambda arm: speaker({arm: next(tried)}).plays(arm) if arm.startswith("steering, tried") else plays(arm),
    )
    studied("ladder", ask, **CLIMBED)
    assert (
        ask.changes["steering"]["seats.user.steer"]
        == stimuli("ladder").interventions["steering"].search[1]["seats.user.steer"]
    )
