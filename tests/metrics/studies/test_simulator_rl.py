"""What the simulator RL study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import polars as pl
import pytest
from respondents import CALM, EVASIVE, failed, speaker, studied, verdict_word

from metrics.studies.protocol import PlayedRun
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

TRAINED = {"methods": ["sft", "kto", "grpo"], "steps": 2, "dialogues": 2, "examined": 12, "turns": 12}


def test_a_simulator_that_training_mends_confirms_and_one_that_it_does_not_refutes():
    ask = speaker({"grpo": 0.1})
    finding = studied("simulator_rl", ask, **TRAINED)
    assert verdict_word(finding) == CONFIRMS and finding.tests[
        "share of wrong answers removed by grpo"
    ].interval.value == pytest.approx(0.8, abs=0.1)
    assert ask.changes["kto, training"]["data"] == ["sft, training"] and ask.changes["grpo, training"]["data"] == []
    assert (
        ask.changes["grpo"]["worn"] == "grpo, training"
        and ask.changes["grpo"]["seed"] == ask.changes["prompt only"]["seed"]
    )
    assert set(ask.changes["grpo"]["persona_pool"]) == set(ask.changes["grpo, training"]["held_out.personas"])
    assert verdict_word(studied("simulator_rl", speaker({"grpo": 0.45, "sft": 0.0}), **TRAINED)) == REFUTES


def test_a_simulator_that_evades_does_not_win():
    finding = studied("simulator_rl", speaker({"grpo": 0.0}, {"grpo": EVASIVE}), **TRAINED)
    assert verdict_word(finding) != CONFIRMS and finding.tests["tripwires out of bounds under grpo"].interval.value == 1


@pytest.mark.parametrize(
    ("rates", "wires", "control"),
    [
        ({"grpo": 0.1, "other seeds": 0.1}, {}, "other seeds remove nothing"),
        ({"grpo": 0.1}, {"evades": CALM}, "an evasive policy does not win"),
    ],
)
def test_dialogues_that_cannot_be_told_from_their_controls_fail_the_instrument(rates, wires, control):
    finding = studied("simulator_rl", speaker(rates, wires), **TRAINED)
    assert verdict_word(finding) == FAILED and failed(finding) == [control]


def test_a_wire_that_the_bare_card_trips_as_much_is_not_held_against_training():
    wires = {"prompt only": CALM | {"wrong_person": 0.3}, "grpo": CALM | {"wrong_person": 0.06}}
    assert verdict_word(studied("simulator_rl", speaker({"grpo": 0.1}, wires), **TRAINED)) == CONFIRMS


def test_a_reader_that_calls_all_answers_wrong_fails_the_instrument():
    ask = speaker({"grpo": 0.1})
    plays = ask.plays

    def all_wrong(arm: str) -> PlayedRun:
        played, at = plays(arm), pl.col("judge") == "answer_reader"
        return PlayedRun(
            played.turns,
            played.judgements.with_columns(verdict=pl.when(at).then(True).otherwise("verdict")),
            played.metrics,
        )

    ask.plays = all_wrong
    finding = studied("simulator_rl", ask, **TRAINED)
    assert verdict_word(finding) == FAILED and "the reader accepts answers that name the value" in failed(finding)
