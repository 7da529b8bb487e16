"""The combined judge over two judges whose p is given."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import pytest

from metrics.judges import Pair, judgement
from metrics.judges.combined import INTERCEPT, LIKELIHOOD, MOST, NLI, Combined, p_inconsistent
from scenarios.records import Persona

ADA = Persona("ada", "Ada", "You keep goats.", ())


@dataclass(frozen=True)
class Says:
    """A judge that gives every line its p by the line's first word, None: unscored. Nli gives facts a row too."""

    name: str
    p: dict

    def judge(self, pairs):
        for pair in pairs:
            p = self.p[pair.line.split()[0]]
            if p is None:
                yield judgement(pair, self.name, unscored=f"{self.name} is silent")
                continue
            shown = {"span": (0, 1), "claim": "I keep goats."} if p > 0.5 else {}
            yield judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5, **shown)
            if self.name == "nli" and pair.metric == "prompt_to_line":
                yield judgement(pair, self.name, against="pet", p_inconsistent=p, verdict=p > 0.5)


JUDGE = Combined(
    Says("nli", {"high": 0.9, "low": 0.1, "mute": 0.9, "deaf": None}),
    Says("likelihood", {"high": 0.7, "low": 0.02, "mute": None, "deaf": 0.5}),
)


def pair(line, metric="prompt_to_line"):
    against, other = ("persona", None) if metric == "prompt_to_line" else ("0", "I keep goats.")
    return Pair(3, 2, "user", metric, line, against, ADA, other)


def test_p_rises_with_both_and_the_weights_are_those_of_the_formula():
    logits = INTERCEPT + NLI * 1.0 + LIKELIHOOD * -1.0
    assert p_inconsistent(1 / (1 + exp(-1)), 1 / (1 + exp(1))) == pytest.approx(1 / (1 + exp(-logits)))
    assert p_inconsistent(0.9, 0.5) > p_inconsistent(0.5, 0.5) < p_inconsistent(0.5, 0.9)
    assert p_inconsistent(1.0, 0.5) == pytest.approx(1 / (1 + exp(-(INTERCEPT + NLI * MOST))))


def test_one_judgement_a_pair_in_order_and_the_reason_of_a_contradiction_is_that_of_nli():
    rows = JUDGE.judge([pair("low talk"), pair("high talk", "line_to_line"), pair("high talk")])
    assert [(row.metric, row.judge, row.verdict) for row in rows] == [
        ("prompt_to_line", "combined", False),
        ("line_to_line", "combined", True),
        ("prompt_to_line", "combined", True),
    ]
    assert (rows[2].span, rows[2].claim, rows[0].span, rows[0].claim) == ((0, 1), "I keep goats.", None, None)
    assert rows[1].p_inconsistent == 0.9  # by nli alone


@pytest.mark.parametrize("line", ["mute talk", "deaf talk"])
def test_what_one_judge_cannot_score_is_unscored_with_its_reason(line):
    (row,) = JUDGE.judge([pair(line)])
    assert (row.p_inconsistent, row.verdict, row.span, row.claim) == (None, None, None, None)
    assert row.unscored in ("nli is silent", "likelihood is silent")
