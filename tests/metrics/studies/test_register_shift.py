"""What the register shift study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import math

import pytest
from respondents import Planted, failed, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.register_shift import features
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

VOICES = stimuli("register_shift")
IN_REGISTER = {frame.split("{}")[0]: name for name, register in VOICES.registers.items() for frame in register.says}
SPOKEN = {"questions": 12, "registers": 4, "sampled": 1}


def voice(system=4.0, request=0.0, mirrored=0.0, after_going_back=0.0, anything=0.0) -> Planted:
    """Leans to the register of a system text, of a request or of the user's own talk, each by the nats given;
    `anything`: nats for a request of another kind.
    """

    def asked_for(question: StudyQuestion) -> dict[str, float]:
        said = [words for role, words in question.messages if role == "user"]
        leans = {}
        for name, register in VOICES.registers.items():
            back = any("go back" in words for words in said)
            leans[name] = (
                system * (question.messages[0][0] == "system" and register.like in question.messages[0][1])
                + (after_going_back if back else request) * any(register.like in words for words in said)
                + mirrored * (said[0] == register.talk[0])
                + anything * any("pounds" in words for words in said)
            )
        return leans

    def nats(question: StudyQuestion, option: str) -> float:
        name = next((name for frame, name in IN_REGISTER.items() if frame and option.startswith(frame)), None)
        return 0.2 * noise(question.item, option) + (asked_for(question)[name] if name else 0.0)

    def words(question: StudyQuestion) -> str:
        name = max(asked_for(question).items(), key=lambda pair: pair[1])
        return (
            VOICES.registers[name[0]].answered.format("it is so")
            if name[1] > 0
            else VOICES.plain.answered.format("it is so")
        )

    return Planted(nats, words)


def test_a_voice_that_only_a_system_prompt_moves_far_confirms_one_register():
    finding = studied("register_shift", voice(request=2.0, mirrored=0.1), **SPOKEN)
    implicit, request = (test.interval.value for test in finding.tests.values())
    assert (
        verdict_word(finding) == CONFIRMS
        and implicit == pytest.approx(0.05, abs=0.05)
        and request == pytest.approx(0.5, abs=0.05)
    )
    assert finding.measures["left after going back, share"].value == pytest.approx(0, abs=0.05)


def test_a_voice_that_is_renegotiated_refutes_it_and_what_sticks_is_hysteresis():
    finding = studied("register_shift", voice(request=4.0, mirrored=2.0, after_going_back=3.0), **SPOKEN)
    assert verdict_word(finding) == REFUTES and finding.measures["left after going back, share"].value == pytest.approx(
        0.75, abs=0.05
    )
    moves = {
        arm: finding.measures[f"move of sampled answers, {arm}"] for arm in ("explicit request", "implicit mirroring")
    }
    assert all(move.low > 0.2 for move in moves.values())


def test_a_voice_that_no_prompt_moves_or_that_any_request_does_fails_the_instrument():
    assert failed(studied("register_shift", voice(system=0.0), **SPOKEN))[0] == "a system prompt shifts the register"
    finding = studied("register_shift", voice(request=2.0, anything=2.0), **SPOKEN)
    assert verdict_word(finding) == FAILED and failed(finding) == ["a request of another kind does not"]


def test_features_of_an_answer_by_hand():
    # 9 words in two sentences: one contraction, one hedge, three marks
    assert features("It's so, perhaps!!! We shall see about it.").tolist() == pytest.approx([1 / 8, 4, 1 / 8, 1.5])
    assert all(map(math.isnan, features("...")))
