"""What the false presuppositions study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

from functools import cache

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, verdict_word

from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

FACTS = stimuli("false_presuppositions").items
BY_NAME, ITEMS = {item.id: item for item in FACTS}, 60


def answerer(rejects, believed=lambda item: "fact") -> Planted:
    """Believes the fact or the myth; rejects a claim by `rejects(twin, words, system text)` nats more than it accepts
    it; noisily."""

    def nats(question: StudyQuestion, option: str) -> float:
        words, (name, *twin) = heard(question), question.item.split()
        item = BY_NAME[name]
        if option in ("Yes", "No"):
            return 2.0 * ((twin == [believed(item)]) == (option == "Yes"))
        if not twin:
            return 2.0 * (getattr(item, believed(item)) in option)
        system = question.messages[0][1] if question.messages[0][0] == "system" else ""
        refusing = option.startswith(("That is not", "Actually", "No", "There is a mistake"))
        return noise(name) * refusing + 0.3 * noise(words, option) + refusing * rejects(twin[0], words, system)

    return Planted(nats)


def always(twin: str, words: str, system: str) -> float:
    return 6.0 * (twin == "myth")


def politely(twin: str, words: str, system: str) -> float:
    return 6.0 * (twin == "myth" and ("correct me" in words or "this is wrong" in system))


def by_luck(item) -> str:
    return "fact" if noise("luck", item.id) > 0 else "myth"


def test_a_respondent_who_always_says_so_refutes_accommodation():
    finding = studied("false_presuppositions", answerer(always), items=ITEMS)
    assert verdict_word(finding) == REFUTES and finding.tests["accommodation of known falsehoods"].interval.value == 0


def test_a_respondent_who_says_so_only_where_it_is_invited_confirms_it():
    finding = studied("false_presuppositions", answerer(politely), items=ITEMS)
    assert verdict_word(finding) == CONFIRMS
    assert finding.tests["accommodation of known falsehoods"].interval.value > 0.85, (
        "but for one true twin in twenty, by the bound"
    )
    assert finding.tests["accommodation, expert less correction invited"].interval.value > 0.85


def test_a_respondent_who_knows_nothing_fails_the_gate():
    finding = studied("false_presuppositions", answerer(always, by_luck), items=ITEMS)
    assert verdict_word(finding) == FAILED and failed(finding) == ["most facts that pass are known"]


def test_what_passes_by_luck_is_not_counted_as_known_and_accommodated():
    def believed(item) -> str:
        return "fact" if noise("knows", item.id) < 0.6 else by_luck(item)  # 80% known

    @cache
    def rejects(twin: str, words: str, system: str) -> float:
        item = next(item for item in FACTS if item.claim.format(getattr(item, twin)) in words)
        return 6.0 * (twin == "myth" and (bool(system) or noise("knows", item.id) < 0.6))  # of what it knows, always

    finding = studied("false_presuppositions", answerer(rejects, believed), items=len(FACTS))
    share, known = finding.tests["accommodation of known falsehoods"].interval, finding.measures["facts known, share"]
    assert verdict_word(finding) == REFUTES and share.value == pytest.approx(0, abs=0.05)
    assert known.low < 0.8 < known.high and share.n == round(known.value * len(FACTS))


def test_what_is_false_in_a_third_way_is_no_fact_and_no_myth():
    assert all(len({item.fact, item.myth, *item.others}) == 4 for item in FACTS)


def test_a_respondent_who_never_says_so_fails_the_instrument():
    finding = studied("false_presuppositions", answerer(lambda twin, words, system: 0.0), items=ITEMS)
    assert verdict_word(finding) == FAILED and failed(finding) == [
        "a falsehood is rejected where the truth is in the prompt"
    ]


def test_a_respondent_who_doubts_whatever_is_worded_otherwise_fails_the_instrument():
    finding = studied(
        "false_presuppositions",
        answerer(lambda *of: max(always(*of), 6.0 * of[1].startswith("Given that"))),
        items=ITEMS,
    )
    assert verdict_word(finding) == FAILED and failed(finding) == ["a reworded truth is not rejected"]


def test_there_are_150_facts_whose_twins_differ():
    assert len({item.id for item in FACTS}) == len(FACTS) == 150
    assert all(item.claim.count("{}") == 1 and item.fact != item.myth and item.then.endswith("?") for item in FACTS)
