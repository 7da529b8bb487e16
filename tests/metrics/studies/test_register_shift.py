"""What the register shift study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from respondents import Planted, failed, noise, stimuli, studied, verdict_word

from metrics.stats.intervals import crossed_interval
from metrics.studies.protocol import StudyQuestion
from metrics.studies.register_shift import _by_register, _share, features
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
    assert all(move.low > 0 and move.value > 0.5 for move in moves.values())


def test_a_voice_that_no_prompt_moves_or_that_any_request_does_fails_the_instrument():
    assert failed(studied("register_shift", voice(system=0.0), **SPOKEN))[0] == "a system prompt shifts the register"
    finding = studied("register_shift", voice(request=2.0, anything=2.0), **SPOKEN)
    assert verdict_word(finding) == FAILED and failed(finding) == ["a request of another kind does not"]


def test_features_of_an_answer_by_hand():
    # 9 words in two sentences: one contraction, one hedge, three marks
    assert features("It's so, perhaps!!! We shall see about it.").tolist() == pytest.approx([1 / 8, 4, 1 / 8, 1.5])
    assert all(map(math.isnan, features("...")))


def test_registers_are_asked_about_equally_often_and_count_as_units():
    ask = voice(request=2.0, mirrored=0.1)
    pairs = {}
    ask.choose = lambda arm, questions, choose=ask.choose: (
        [pairs.setdefault(q.cluster, set()).add(q.item.removeprefix(f"{q.cluster} ")) for q in questions]
        and choose(arm, questions)
    )
    finding = studied("register_shift", ask, questions=16, registers=2, sampled=1)
    times = Counter(name for pair in pairs.values() for name in pair)
    assert set(times.values()) == {4} and len(times) == 8 and len({frozenset(pair) for pair in pairs.values()}) == 8
    assert all(test.interval.n == 8 for test in finding.tests.values())


def test_a_table_by_register_holds_each_cell_once():
    table = _by_register(np.array([[0, 2], [2, 5]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert np.array_equal(table, [[1, np.nan], [2, 3], [np.nan, 4]], equal_nan=True)


def test_the_share_of_shifts_has_fiellers_interval():
    # two registers by three questions, all asked; mean(part - s whole) has the interval 0 at both ends
    which = np.tile([0, 1], (3, 1))
    part, whole = np.array([[1.0, 2], [1.5, 2], [1, 2.5]]), np.array([[9.0, 10], [9.5, 11], [10, 10]])
    share = _share(which, part, whole)
    assert share.value == pytest.approx(part.sum() / whole.sum()) and share.n == 2
    for end in (share.low, share.high):
        rest = crossed_interval(_by_register(which, part - end * whole), np.mean)
        assert min(abs(rest.low), abs(rest.high)) == pytest.approx(0, abs=1e-9)
    nothing = _share(which, part, np.array([[-3.0, 3], [2, -1], [0, 1]]))
    assert nothing.low == -math.inf and nothing.high == math.inf, "any share is possible of a whole that may be 0"
    assert math.isnan(_share(which, part, -whole).value)
