"""What the offline RL study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import pytest
from respondents import Planted, failed, noise, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

RANKED = {"taught": 6, "asked": 20, "steps": 4, "batch": 2}
PUNISHED = dict.fromkeys(("unlikelihood", "gold", "varmi", "dpo", "kto"), 0.1)


def ranker(rates: dict[str | None, float]) -> Planted:
    """Puts a line that contradicts first in such a share of places, by what it wears."""

    def nats(question: StudyQuestion, option: str) -> float:
        wrong = (noise(question.messages) + 1) / 2 < rates.get(ask.worn, 0.5)
        return -float(option != question.options[wrong * (len(question.options) > 1)])

    ask = Planted(nats)
    return ask


def test_one_who_learns_from_punishment_alone_confirms_that_good_lines_do_not_do():
    ask = ranker(PUNISHED | {"taught what is asked": 0.0})
    finding = studied("offline_rl", ask, **RANKED)
    assert verdict_word(finding) == CONFIRMS and finding.tests["change of contradict@1, sft"].interval.value == 0
    assert finding.tests["change of contradict@1, contrastive methods"].interval.value == pytest.approx(
        0.1 - 0.5, abs=0.1
    )
    good, bad = ([lesson for lesson in ask.lessons["sft"] if (lesson.reward > 0) == way] for way in (True, False))
    assert len(good) == len(bad) == 36 and {lesson.reply for lesson in good}.isdisjoint(
        lesson.reply for lesson in bad if lesson in good
    )
    rewards = [[lesson.reward for lesson in ask.lessons[arm]] for arm in ("sft", "shuffled labels")]
    assert sorted(rewards[0]) == sorted(rewards[1]) and rewards[0] != rewards[1]
    assert [lesson.reply for lesson in ask.lessons["shuffled labels"]] == [
        lesson.reply for lesson in ask.lessons["sft"]
    ]


def test_what_is_asked_was_taught_to_nobody_but_the_control():
    ask = ranker(PUNISHED)
    studied("offline_rl", ask, **RANKED)
    talks = {arm: {lesson.messages[-1] for lesson in lessons} for arm, lessons in ask.lessons.items()}
    cards = {arm: {lesson.messages[0] for lesson in lessons} for arm, lessons in ask.lessons.items()}
    assert not talks["dpo"] & talks["taught what is asked"] and not cards["dpo"] & cards["taught what is asked"]


def test_one_who_learns_as_much_from_good_lines_alone_refutes_it():
    finding = studied("offline_rl", ranker(PUNISHED | {"sft": 0.1, "taught what is asked": 0.0}), **RANKED)
    assert verdict_word(finding) == REFUTES and finding.tests[
        "contradict@1, contrastive methods less sft"
    ].interval.value == pytest.approx(0, abs=0.01)


def test_one_who_learns_nothing_from_punishment_refutes_it():
    assert verdict_word(studied("offline_rl", ranker({"taught what is asked": 0.0}), **RANKED)) == REFUTES


@pytest.mark.parametrize(
    ("rates", "control"),
    [
        (
            dict.fromkeys((None, "sft", "shuffled labels", *PUNISHED), 0.0) | {"taught what is asked": -1.0},
            "the untaught model contradicts",
        ),
        (PUNISHED | {"shuffled labels": 0.1, "taught what is asked": 0.0}, "shuffled labels teach nothing"),
        (PUNISHED, "who is taught what is asked contradicts less"),
    ],
)
def test_offline_learning_that_cannot_be_told_from_its_controls_fails_the_instrument(rates, control):
    finding = studied("offline_rl", ranker(rates), **RANKED)
    assert verdict_word(finding) == FAILED and control in failed(finding)
