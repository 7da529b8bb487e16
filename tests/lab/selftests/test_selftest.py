"""Planted drift end to end: the ledger and the tripwires, a judge that is wrong on purpose, and the likelihood judge
with its real model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path

import pytest

from lab.selftest import main
from lab.selftests.planted_drift import (
    AS_IT_SHOULD,
    BLIND,
    SIZES,
    STILL,
    UNEVEN,
    UNMEASURED,
    WRONG,
    Detection,
    Result,
    response_verdict,
    selftest,
)
from lab.selftests.tables import text
from metrics.judges.ledger import Ledger
from metrics.stats.intervals import Interval
from metrics.validation.planted import KINDS
from scenarios.personas import load_personas

PEOPLE = load_personas(Path(__file__).parents[3] / "scenarios/personas/townsfolk.yaml")


@pytest.fixture(scope="module")
def result():
    return selftest([Ledger()], PEOPLE, SIZES["smoke"], seed=7)


@dataclass(frozen=True)
class Backwards:
    """The ledger, its verdicts of lines against the persona turned round."""

    name: str = "ledger"

    def judge(self, pairs):
        return [
            row
            if row.metric == "line_to_line" or row.against != "persona"
            else replace(row, p_inconsistent=1 - row.p_inconsistent, verdict=not row.verdict)
            for row in Ledger().judge(pairs)
        ]


def test_ledger_catches_plain_facts_at_once_and_raises_no_false_alarm(result):
    detection = next(row for row in result.detections if row.kind == "contradicted_fact")
    assert detection.precision.value >= 0.9 and detection.by_wording["plain"].value >= 0.95 and detection.lag.value <= 1
    assert detection.recall.n == 6 * 2 == sum(recall.n for recall in detection.by_wording.values()), (
        "of 6 later lines .4 are planted"
    )
    alarms = result.false_alarms["ledger"]
    assert alarms.value == 0 and alarms.n == 6 * 12


def test_bars_fail_the_run_only_where_no_judge_that_must_meets_them_all():
    def meets(judge, recall):
        perfect = Interval(1.0, 1.0, 1.0, 9)
        return Detection(
            judge,
            "contradicted_fact",
            True,
            perfect,
            perfect,
            replace(perfect, value=recall),
            replace(perfect, value=0.0),
            0,
            {},
        )

    def run(*detections):
        return Result(list(detections), [], {row.judge: Interval(0.0, 0.0, 0.0, 9) for row in detections}, [])

    assert run(meets("ledger", 0.79)).failed and not run(meets("ledger", 0.8)).failed
    assert (
        not run(meets("ledger", 0.79), meets("nli", 0.9)).failed and run(meets("ledger", 0.1), meets("nli", nan)).failed
    )
    assert not run(meets("likelihood", 0.0)).failed, "shown, and held against nobody"
    assert "none of ledger meets all requirements" in text(run(meets("ledger", 0.5)))


def test_every_measure_and_wire_moves_as_it_claims(result):
    assert [row for row in (*result.detections, *result.responses) if row.failed] == []
    claimed = [row for row in result.responses if row.verdict not in (BLIND, UNMEASURED)]
    assert {row.kind for row in claimed} == set(KINDS) - {"implied_fact"}
    assert {row.metric for row in claimed if row.judge == "ledger"} >= {
        "prompt_to_line",
        "line_to_line",
        "global_drift_slope",
        "half_life",
    }
    assert [row for row in claimed if row.judge and row.verdict != AS_IT_SHOULD] == []
    assert {row.verdict for row in claimed} <= {AS_IT_SHOULD, UNEVEN}, "windows of 50 words are few in six dialogues"


def test_no_text_wire_moves_for_drift_of_content_alone_as_it_does_for_its_own_kind(result):
    moved = {(row.kind, row.metric): row.values[-1] - row.values[0] for row in result.responses if not row.judge}
    for kind in ("contradicted_fact", "persona_swap"):
        assert moved[kind, "evasion"] <= 0 and moved[kind, "helper_voice"] == 0 and moved[kind, "wrong_person"] == 0
    assert (
        moved["style_decay", "evasion"] > 0.1 < moved["role_flip", "helper_voice"]
        and moved["parroting", "parroting"] > 0.1
    )


@pytest.mark.slow
def test_judge_that_is_wrong_way_round_fails(result):
    wrong = selftest([Backwards()], PEOPLE, SIZES["smoke"], seed=7)
    assert wrong.failed
    assert {row.metric for row in wrong.responses if row.verdict == WRONG} >= {
        "mean_p",
        "prompt_to_line",
        "global_drift_thirds",
    }
    assert "does not rank planted lines above the other lines" in text(wrong)


def test_verdict_reads_sign_then_steps():
    assert response_verdict([0, 1, 2, 3], 1) == response_verdict([3, 2, 2, 0], -1) == AS_IT_SHOULD
    assert response_verdict([0, 2, 1, 3], 1) == UNEVEN and response_verdict([0, 1.05, 1, 3], 1) == AS_IT_SHOULD, (
        "a step back of .05 of 3 is slack"
    )
    assert (
        response_verdict([0, 1, 2, -1], 1) == response_verdict([1, nan, 2, nan], 1) == WRONG
        and response_verdict([0, 0, 0, 0], 1) == STILL
    )
    assert (
        response_verdict([inf, 9, 5, 3], -1) == AS_IT_SHOULD
        and response_verdict([nan] * 4, 1) == UNMEASURED
        and response_verdict([0, 5, 1, 2], None) == BLIND
    )


@pytest.mark.slow
def test_likelihood_judge_ranks_planted_lines_above_the_others(embedded):
    from agents.judge_models.card_likelihood import Reference
    from agents.judge_models.embedder import Embedder
    from metrics.judges.likelihood import Likelihood

    judge = Likelihood(Reference(embedded).logprobs, Embedder(device="cpu").embed)
    outcome = selftest([judge], PEOPLE, replace(SIZES["smoke"], conversations=3), seed=7)
    auroc = {row.kind: row.auroc.value for row in outcome.detections}
    assert auroc["contradicted_fact"] > 0.5 and auroc["persona_swap"] > 0.7
    means = {row.kind: row.values for row in outcome.responses if row.metric == "mean_p"}
    assert means["persona_swap"][-1] > means["persona_swap"][0]


def test_command_prints_tables_writes_json_and_exits_as_it_says(one_thread, tmp_path, capsys):
    code = main(["--size", "smoke", "--judge", "ledger", "--json", str(tmp_path / "out.json"), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "contradicted_fact" in printed and "relevance" in printed and "retrieval keeps" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["detections"]) == len(KINDS) and written["false_alarms"]["ledger"]["n"] == 72
    assert written["failed"] is bool(code) and (("FAILED:" if code else "PASSED:") in printed)


def test_what_cannot_be_had_is_refused_in_one_sentence(tmp_path, capsys):
    assert main(["--personas", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("lab.selftest: ")
