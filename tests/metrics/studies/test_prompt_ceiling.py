"""What the prompt ceiling study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import numpy as np
import pytest
from respondents import SEED, Planted, failed, noise, stimuli, studied, system_of, verdict_word

from metrics.studies.invented_facts import familiar, hits, invented
from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

CEILING = stimuli("prompt_ceiling")
SEARCHED = {"facts": 150, "takes": 2, "budget": 120, "taught": 20, "steps": 1, "thought": 1}
TRUE = {
    item.relation.asked.format(item.subject): item
    for item in [*invented(CEILING, SEED, 150), *familiar(CEILING, SEED, 450)]
}


def ceiling(knows=lambda question, item: False, reads: bool = True) -> Planted:
    """Has preferences among the options that do not depend on the question. Knows the facts in its context, those it
    was taught, and those for which `knows(question, item)` is true.
    """

    def nats(question: StudyQuestion, option: str) -> float:
        asked = question.messages[-2][1]
        item = TRUE.get(question.item)  # None where the question is about no subject
        in_context = item and (
            (reads and item.sentence in asked)
            or (ask.worn and item.sentence in [lesson.reply for lesson in ask.lessons[ask.worn]])
        )
        known = 4.0 * bool(item and option.strip() == item.options[0] and (in_context or knows(question, item)))
        return 3 * noise("liking", option) + bool(item) * noise(asked, option, question.messages[0][1]) + known

    ask = Planted(nats, lambda question: f"You are proposal {question.seed}.")
    return ask


def test_who_knows_only_what_it_is_told_confirms_the_ceiling_of_prompts():
    ask = ceiling()
    finding = studied("prompt_ceiling", ask, **SEARCHED)
    assert (
        verdict_word(finding) == CONFIRMS
        and finding.tests["accuracy of the best prompt on invented facts, over chance"].interval.n == 100
    )
    assert finding.measures["invented, fact in context, over chance"].value == pytest.approx(0.75)
    held = sorted(invented(CEILING, SEED, 150)[50:], key=lambda item: item.relation.stem)
    assert [lesson.reply for lesson in ask.lessons["lessons"]] == [item.sentence for item in held[:20]]


def test_a_prompt_that_adds_knowledge_refutes_the_ceiling_and_is_found():
    finding = studied(
        "prompt_ceiling", ceiling(lambda question, item: "encyclopedia" in system_of(question)), **SEARCHED
    )
    assert verdict_word(finding) == REFUTES and "“You are an encyclopedia" in finding.reading


def test_familiar_facts_that_a_prompt_recalls_are_told_from_luck():
    def recalls(question: StudyQuestion, item) -> bool:
        return hasattr(item.relation, "facts") and "encyclopedia" in system_of(question)

    finding = studied("prompt_ceiling", ceiling(recalls), **SEARCHED)
    assert (
        verdict_word(finding) == CONFIRMS
        and finding.measures["missed facts mended by the best prompt, familiar less invented"].low > 0.4
    )


def test_who_cannot_read_or_knows_what_nobody_can_fails_the_instrument():
    blind = studied("prompt_ceiling", ceiling(reads=False), **SEARCHED)
    assert verdict_word(blind) == FAILED and failed(blind) == ["a fact in the prompt is found"]
    seer = studied("prompt_ceiling", ceiling(lambda question, item: True), **SEARCHED)
    assert verdict_word(seer) == FAILED and failed(seer) == ["nobody knows invented facts"]


def test_invented_options_are_of_one_length_and_no_familiar_value_is_its_own_distractor():
    fictional, real = invented(CEILING, SEED, 240), familiar(CEILING, SEED, 240)
    assert len({item.subject for item in fictional}) == 240 and all(
        len(set(map(len, item.options))) == 1 for item in fictional
    )
    assert len(real) == 240 and all(len(set(item.options)) == 4 for item in fictional + real)
    assert all(item.options[0] == item.relation.facts[item.subject] for item in real)
    first = [item.relation.values.index(item.options[0]) for item in fictional]
    assert all(40 <= first.count(place) <= 80 for place in range(4)), (
        "240 / 4 = 60 each, and 3 standard deviations of 6.7"
    )
    assert hits(np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])).tolist() == [1, 0, 0.5, 0.25]
