"""Lines planted for a run's own personas, what judges make of them, and the correction that follows."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from metrics.judges import Pair, judgement
from metrics.judges.ledger import Ledger, contradicts_fact, slots_of
from metrics.judges.text.claims import claims
from metrics.stats.intervals import Interval
from metrics.validation import rewording
from metrics.validation.correction import corrected, corrected_drift
from metrics.validation.judge_validation import validities
from metrics.validation.persona_plants import CLEAN, CONTRADICTIONS, EACH, PERSONAS, pairs_of, plants
from metrics.validation.validity import FALSE_ALARMS, Validity
from scenarios.personas import load_personas
from scenarios.records import Persona

PEOPLE = load_personas(Path(__file__).parents[2] / "scenarios/personas/townsfolk.yaml")
CAST = [{"user": PEOPLE[n], "assistant": PEOPLE[n + 1]} for n in range(0, 20, 2)]
ADA = Persona(
    "ada", "Ada", "Ada lives in Bristol and works as a nurse. She never eats meat. She speaks in short words.", ()
)
BO = Persona("bo", "Bo", "I am 34 years old. I live in Oslo. My favorite color is blue. I have three brothers.", ())
TEXTS = [{"user": ADA, "assistant": BO}]
HOW = {"confidence": 0.95}
LINES = ("prompt_to_line", "line_to_line")


@dataclass(frozen=True)
class Rule:
    """A judge that gives each pair the probability that the rule says; None is unscored."""

    rule: object
    name: str = "rule"

    def judge(self, pairs):
        scored = [(pair, self.rule(pair)) for pair in pairs]
        return [
            judgement(pair, self.name, unscored="no idea")
            if p is None
            else judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5)
            for pair, p in scored
        ]


def result(rule, planted=None, metric="prompt_to_line") -> Validity:
    planted = plants(CAST, 1)[0] if planted is None else planted
    [validity] = validities([Rule(rule)], planted, [metric], **HOW)
    return validity


def knowing(planted):
    """The rule of a judge that knows what was planted."""
    wrong = {plant.text for plant in planted if plant.contradicts}
    return lambda pair: float(pair.line in wrong)


def test_as_many_contradictions_as_clean_lines_are_planted_in_at_most_twelve_personas_and_in_all_kinds():
    planted, omitted = plants(CAST, 1)
    assert [sum(plant.contradicts is side for plant in planted) for side in (True, False)] == [EACH, EACH]
    assert {plant.kind for plant in planted} == {*CONTRADICTIONS, *CLEAN} and omitted == []
    counts = [sum(plant.persona == persona for plant in planted) for persona in {plant.persona for plant in planted}]
    assert len(counts) == PERSONAS and max(counts) - min(counts) <= 2
    assert all(plant.heard for plant in planted) and len({plant.text for plant in planted}) > 50


def test_the_same_seed_plants_the_same_and_another_seed_something_else():
    assert plants(CAST, 1) == plants(CAST, 1) != plants(CAST, 2)


def test_what_is_planted_in_a_persona_with_facts_claims_what_its_kind_says():
    """Judged by the ledger's reading of the claims, where it sees one."""
    seen = dict.fromkeys((*CONTRADICTIONS, *CLEAN), 0)
    for seed in range(4):
        for plant in plants(CAST, seed)[0]:
            known = claims(plant.text, slots_of(plant.persona))
            seen[plant.kind] += bool(known)
            wrong = any(contradicts_fact(claim, plant.persona.fact(claim.slot)) for claim in known)
            assert not wrong or plant.contradicts, plant.text
            if plant.kind in ("other_persona", "other_value") and known:
                assert wrong, plant.text
    assert min(seen[kind] for kind in ("other_persona", "denial", "other_value", "paraphrase")) > 5


def test_a_text_without_facts_is_denied_and_changed_by_its_own_words():
    planted, omitted = plants(TEXTS, 1)
    texts = {
        kind: " ".join(plant.text for plant in planted if plant.kind == kind) for kind in (*CONTRADICTIONS, *CLEAN)
    }
    assert "not live in Oslo" in texts["denial"] and "often eat meat" in texts["denial"]
    assert any(
        f"{n} brothers" in texts["other_value"]
        for n in ("two", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
    assert "live in Bristol" in texts["other_persona"] or "live in Oslo" in texts["other_persona"]
    assert texts["behaviour"].count(",") > 5, "who is to be short rambles"
    assert omitted == []


def test_another_personas_statement_is_planted_only_where_its_value_differs():
    twin = replace(BO, id="twin", name="Twin")
    assert not any(plant.kind == "other_persona" for plant in plants([{"user": BO, "assistant": twin}], 1)[0])


def test_a_persona_of_whom_nothing_can_be_contradicted_is_named_and_the_others_are_planted():
    unknown, mute = Persona("x", "X", "", ()), Persona("y", "Y", "Why not?", ())
    planted, omitted = plants([{"user": BO, "assistant": unknown}, {"user": mute}], 1)
    assert {plant.persona.id for plant in planted} == {"bo"}
    assert sorted(omitted) == [
        "X: nothing is known of the persona",
        "Y: no rule finds a statement that could be contradicted",
    ]
    assert plants([], 1) == ([], [])


def test_two_personas_of_one_id_are_both_planted():
    planted, _ = plants([{"user": BO, "assistant": replace(ADA, id="bo")}], 1)
    assert {plant.persona.name for plant in planted} == {"Ada", "Bo"}


@pytest.mark.parametrize(
    ("statement", "denial"),
    [
        ("I have a dog.", "I do not have a dog."),
        ("I have two cats.", "I do not have any cats."),
        ("I have lived in Rome.", "I have never lived in Rome."),
        ("I like small talk.", ("I cannot stand small talk.", "I hate small talk.")),
        ("I cannot stand the cold.", "I love the cold."),
        ("I do not like fish.", "I like fish very much."),
        ("I never hurry anyone.", "I often hurry someone."),
        ("I am a nurse.", ("I am not a nurse.", "I have never been a nurse.")),
        ("My home is in Oslo.", "My home is not in Oslo."),
        ("I grew up in Leeds.", "I did not grow up in Leeds."),
        ("I went home.", None),
        ("Nobody knows.", None),
    ],
)
def test_denials(statement, denial):
    assert {rewording.denied(statement, random.Random(seed)) for seed in range(9)} == (
        set(denial) if isinstance(denial, tuple) else {denial}
    )


def test_a_clause_is_the_first_of_its_sentence_in_full_forms():
    assert rewording.clause("I'm a nurse who can't swim, and more.") == "I am a nurse."
    assert (
        rewording.clause("The sea is wide.") is rewording.clause("I am.") is rewording.clause("Am I a nurse?") is None
    )


def test_a_line_is_paired_with_its_persona_and_with_an_own_statement_on_the_same_topic():
    planted = plants(CAST, 1)[0]
    with_persona, with_line = (pairs_of(planted, metric) for metric in LINES)
    assert [pair.conversation for pair in with_persona] == list(range(2 * EACH))
    assert {pair.conversation for pair in with_line} == {
        place for place, plant in enumerate(planted) if plant.kind != "behaviour"
    }
    ledger = {row.conversation: row.verdict for row in Ledger().judge(with_line)}
    assert sum(ledger[place] for place, plant in enumerate(planted) if plant.contradicts and place in ledger) > 10
    assert not any(ledger[place] for place, plant in enumerate(planted) if not plant.contradicts)


def test_a_judge_that_knows_is_valid_and_yet_not_certain():
    planted = plants(CAST, 1)[0]
    validity = result(knowing(planted), planted)
    assert validity.valid and (validity.auroc, validity.recall, validity.false_alarms) == (1, 1, 0)
    assert validity.recall_low < 0.95 and validity.false_alarms_high > 0.05 and 0.8 < validity.auroc_low < 0.95
    assert (validity.contradictions, validity.clean, validity.unscored) == (EACH, EACH, 0)


@pytest.mark.parametrize("rule", [lambda pair: 0.0, lambda pair: 1.0, lambda pair: float(len(pair.line) % 2)])
def test_a_judge_that_does_not_look_is_not_valid(rule):
    assert result(rule).valid is False


def test_few_planted_lines_make_no_judge_valid():
    planted = plants(CAST, 1)[0]
    few = planted[:3] + planted[-3:]
    assert result(knowing(planted), few).valid is False, "3 of 3 is Wilson's [.44, 1]"


def test_what_a_judge_leaves_unscored_is_counted_and_in_no_share():
    planted = plants(CAST, 1)[0]
    rule = knowing(planted)
    validity = result(lambda pair: None if pair.conversation % 2 else rule(pair), planted)
    assert validity.unscored == 30 and validity.contradictions + validity.clean == 30 and validity.recall == 1
    nothing = result(lambda pair: None)
    assert (nothing.valid, nothing.reason, nothing.unscored) == (None, "no idea", 60) and math.isnan(nothing.recall)


def test_a_judge_that_cannot_read_the_persona_has_scored_nothing_for_that_reason():
    def refuse(pair: Pair):
        raise ValueError("longer than the context")

    assert result(refuse).reason == "longer than the context"
    assert result(lambda pair: 1.0, []).reason == "nothing could be planted in these personas"


def test_a_judge_is_asked_for_the_metrics_of_the_run_that_it_scores():
    judge = Rule(lambda pair: 0.0)
    planted = plants(CAST, 1)[0]
    assert [each.metric for each in validities([judge], planted, {"line_to_line", "qa"}, **HOW)] == ["line_to_line"]
    object.__setattr__(judge, "metrics", ("qa",))
    assert validities([judge], planted, LINES, **HOW) == []


def test_the_threshold_lets_one_clean_line_in_thirty_through():
    planted = plants(CAST, 1)[0]
    rule = knowing(planted)
    clean = [plant.text for plant in planted if not plant.contradicts]
    grades = {text: n / 100 for n, text in enumerate(clean)}  # 0 to .29: .28 is the second highest
    validity = result(lambda pair: 0.4 if rule(pair) else grades[pair.line], planted)
    assert validity.threshold == 0.28 and 1 / 30 <= FALSE_ALARMS < 2 / 30
    assert (validity.recall, validity.recall_at_threshold) == (0, 1), "the judge's own verdict is at .5"


def test_a_result_survives_json():
    validity = result(lambda pair: None)
    nulls = {key: None if value != value else value for key, value in validity.plain().items()}
    assert str(Validity.of_plain(nulls | {"new": 1})) == str(validity)


GOOD = Validity("j", "prompt_to_line", True, None, 50, 50, 0, *(0.9, 0.8, 1), *(0.8, 0.7, 0.9), *(0.1, 0.05, 0.2))


def test_consistency_is_corrected_for_misses_and_false_alarms():
    """q = .24: (.24 - .1) / (.8 - .1) = .2 contradict. Below: √(.04² + (.8 · .05)² + (.2 · .1)²) / .7 = .0857; above:
    √(.03² + (.8 · .1)² + (.2 · .1)²) / .7 = .1253.
    """
    estimate = corrected(Interval(0.76, 0.72, 0.79, 100), GOOD)
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.8, 0.7143, 0.9254), abs=1e-4)


def test_correction_stays_within_0_and_1_and_is_no_certainty():
    estimate = corrected(Interval(1.0, 0.9, 1.0, 30), GOOD)
    assert estimate is not None and estimate.value == estimate.high == 1 and estimate.low < 0.9


def test_a_drift_is_corrected_by_what_the_judge_sees_of_it():
    """.7 of it: .007 a turn becomes .01. Half widths: √(.007² + (.01)² · (.1² + .1²)) / .7 = .0102."""
    estimate = corrected_drift(Interval(0.007, 0.0, 0.014, 100), GOOD)
    assert estimate is not None and estimate.n == 100
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.01, -0.0002, 0.0202), abs=1e-4)


@pytest.mark.parametrize(
    "validity",
    [
        replace(GOOD, valid=False),
        replace(GOOD, valid=None),
        replace(GOOD, recall=0.3, recall_low=0.15, false_alarms_high=0.25),
        replace(GOOD, recall_low=math.nan),
    ],
)
def test_there_is_no_correction_where_recall_does_not_clearly_exceed_false_alarms(validity):
    assert corrected(Interval(0.76, 0.72, 0.79, 100), validity) is None
    assert corrected(Interval(math.nan, math.nan, math.nan, 0), GOOD) is None
    assert corrected_drift(Interval(0.007, 0.0, 0.014, 100), validity) is None
    assert corrected_drift(Interval(math.nan, math.nan, math.nan, 0), GOOD) is None
