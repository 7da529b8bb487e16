"""What the motivated reasoning study concludes from respondents whose answers are known: it finds what was planted,
and nothing that was not.
"""

from __future__ import annotations

import re

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, system_of, verdict_word

from metrics.studies.motivated_reasoning import _table
from metrics.studies.protocol import StudyQuestion
from metrics.studies.verdict import CONFIRMS, FAILED, REFUTES

EVIDENCE = stimuli("motivated_reasoning")
SIZES = {"topics": 8, "tables": 1, "thought": 1}


def reader(bend, skill: float = 2.0, obeys: bool = True) -> Planted:
    """Prefers what the ratios say by `skill` nats, and what a persona likes by `bend(words, persona, whether the topic
    polarizes)`.
    """

    def nats(question: StudyQuestion, option: str) -> float:
        system, words = system_of(question), heard(question)
        topic = next(topic for topic in EVIDENCE.polarizing + EVIDENCE.neutral if topic.asked in words)
        (first, a), (_, b), (_, c), (_, d) = re.findall(rf"({'|'.join(topic.outcomes)}) in (\d+)", words)
        a, b, c, d = map(int, (a, b, c, d))
        true = (a / (a + b) > c / (c + d)) == (option.strip() == first)
        persona = next(
            (n for pair in (EVIDENCE.identities, EVIDENCE.nonsense) for n, card in enumerate(pair) if card in system),
            None,
        )
        liked = persona is not None and topic.outcomes[persona] == option.strip()
        ordered = obeys and system.endswith(f" {option.strip()}.")
        return (
            skill * true
            + bend(words, system, topic in EVIDENCE.polarizing) * liked
            + 8.0 * ordered
            + noise(topic.what, option)
        )

    return Planted(nats)


def partisan(words: str, system: str, polarizes: bool) -> float:
    return 1.5 * (polarizes and ("Democrat" in system or "Republican" in system))


def test_who_reads_what_it_likes_to_read_confirms_motivated_reasoning():
    finding = studied("motivated_reasoning", reader(partisan), **SIZES)
    assert verdict_word(finding) == CONFIRMS and finding.measures["right where the truth is liked"].value > 0.9
    assert finding.measures["congruence, invented groups"].value == pytest.approx(0), (
        "a liking for an outcome that all have cancels out"
    )


def test_who_reads_the_ratios_refutes_it():
    finding = studied("motivated_reasoning", reader(lambda *of: 0.0), **SIZES)
    assert verdict_word(finding) == REFUTES and finding.tests[
        "congruence, polarizing less neutral topics"
    ].interval.value == pytest.approx(0)


def test_who_is_unbent_by_an_incentive_refutes_that_debiasing_fails():
    finding = studied("motivated_reasoning", reader(lambda *of: partisan(*of) * ("dollars" not in of[0])), **SIZES)
    assert verdict_word(finding) == REFUTES and finding.measures[
        "congruence, accuracy incentive"
    ].value == pytest.approx(0)


def test_who_reads_what_it_likes_on_any_topic_is_not_motivated_by_politics():
    finding = studied(
        "motivated_reasoning", reader(lambda words, system, polarizes: partisan(words, system, True)), **SIZES
    )
    assert verdict_word(finding) == REFUTES and finding.tests["congruence, neutral topics"].interval.value > 0.1


@pytest.mark.parametrize(
    ("ask", "control"),
    [
        (reader(partisan, skill=0.0), "easy tables are read above chance"),
        (reader(lambda words, system, polarizes: 1.5 * bool(system)), "invented groups differ in nothing"),
        (reader(partisan, obeys=False), "who is told what to conclude concludes it"),
    ],
)
def test_readers_that_fail_the_instrument(ask, control):
    finding = studied("motivated_reasoning", ask, **SIZES)
    assert verdict_word(finding) == FAILED and failed(finding) == [control]


def test_hard_tables_mislead_and_easy_ones_do_not():
    for n in range(80):
        a, b, c, d = _table(n, easy=False)
        assert a > max(b, c, d) and a / (a + b) < c / (c + d) - 0.05, "the largest count, and the smaller share"
        a, b, c, d = _table(n, easy=True)
        assert a > b and c < d and a / (a + b) > c / (c + d) + 0.5


def test_a_topic_with_all_its_tables_is_one_unit():
    few, many = (
        studied("motivated_reasoning", reader(partisan), topics=6, tables=tables, thought=1) for tables in (1, 3)
    )
    for finding in (few, many):  # of both kinds; neutral; polarizing
        assert [test.interval.n for test in finding.tests.values()] == [12, 6, 6]


def test_topics_are_many_and_differ():
    for topics in (EVIDENCE.polarizing, EVIDENCE.neutral):
        assert len({topic.treated for topic in topics}) == len(topics) == 16
        assert all(topic.outcomes[0] != topic.outcomes[1] and topic.treated != topic.control for topic in topics)


def test_the_halves_that_choose_the_best_debiasing_have_all_orders():
    ask = reader(partisan)
    asked = []
    ask.choose = lambda arm, questions, choose=ask.choose: (
        [asked.append((arm, q)) for q in questions] and choose(arm, questions)
    )
    studied("motivated_reasoning", ask, **SIZES)
    orders = [re.search(r"order (\d)", q.item)[1] for arm, q in asked if arm == "no debiasing"][::4]  # one per topic
    assert sorted(orders[::2]) == sorted(orders[1::2]) == ["0", "1", "2", "3"]
