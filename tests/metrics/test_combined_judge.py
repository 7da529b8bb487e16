"""The combined judge over judges whose p is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import pytest

from metrics.judges import Pair, judgement
from metrics.judges.combined import INTERCEPT, LIKELIHOOD, MOST, NLI, SURE, Combined, p_inconsistent
from scenarios.records import Fact, Persona, Slot

ADA = Persona("ada", "Ada", "You keep goats.", ())


@dataclass(frozen=True)
class Says:
    """A judge that gives every line its p by the line's first word, None: unscored. `facts` get a row too, with the p
    of the second word where that is given.
    """

    name: str
    p: dict
    facts: tuple[str, ...] = ()

    def judge(self, pairs):
        for pair in pairs:
            p = self.p[pair.line.split()[0]]
            if p is None:
                yield judgement(pair, self.name, unscored=f"{self.name} is silent")
                continue
            shown = {"span": (0, 1), "claim": "I keep goats."} if p > 0.5 else {}
            yield judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5, **shown)
            for fact in self.facts if pair.metric == "prompt_to_line" else ():
                q = self.p.get(f"{fact} {pair.line}", 0.0)
                named = {"span": (0, 1), "claim": "I keep goats." if q == p else "another"} if q > 0.5 else {}
                yield judgement(pair, self.name, against=fact, p_inconsistent=q, verdict=q > 0.5, **named)


class Whole(Says):
    """The same, whose accused sentence is the whole line."""

    def judge(self, pairs):
        return [replace(row, span=(0, len(pair.line))) for pair, row in zip(pairs, super().judge(pairs), strict=True)]


def alike(texts):
    """All texts speak of the same thing, but for those with "elsewhere" in them."""
    return np.array([[0.0, 1.0] if "elsewhere" in text else [1.0, 0.0] for text in texts])


JUDGE = Combined(
    Says("nli", {"high": 0.9, "low": 0.1, "mute": 0.9, "deaf": None}),
    Says("likelihood", {"high": 0.7, "low": 0.02, "mute": None, "deaf": 0.5}),
    Says("ledger", {"high": 0.0, "low": 1.0, "mute": None, "deaf": 0.5}),
    alike,
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


HOME = Slot("home", "I live in {value}.", "You live in {value}.", ("Where?",), ("I live in {value}",), ("Osaka",))
GRACE = Persona("grace", "Grace", "You live in Osaka.", (Fact(HOME, "Osaka", ()),))


def test_of_a_persona_with_facts_the_ledger_accuses_or_nli_where_it_is_surer():
    rows = JUDGE.judge([replace(pair(f"{word} talk"), persona=GRACE) for word in ("high", "low", "mute", "deaf")])
    assert [row.judge for row in rows] == ["combined"] * 4
    by_nli = 1 / (1 + exp(-(log(0.9 / 0.1) - SURE)))
    assert rows[0].p_inconsistent == pytest.approx(by_nli)
    assert (rows[1].p_inconsistent, rows[1].verdict) == (1.0, True)
    assert (rows[2].p_inconsistent, rows[2].unscored) == (None, "ledger is silent")
    assert rows[3].p_inconsistent == 0.5  # nli cannot: a suspect of the ledger


FACTS = Combined(
    Says("nli", {"a": 0.9, "b": 0.9, "c": 0.9, "d": 0.6, "pet a": 0.8, "home a": 0.9, "home d": 0.6}, ("pet", "home")),
    JUDGE.likelihood,
    Says(
        "ledger", {"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.5, "home a": 0.5, "job b": 1.0, "job d": 0.5}, ("home", "job")
    ),
    alike,
)


def test_nli_accuses_alone_only_where_sentence_and_claim_speak_of_the_same_thing():
    nli = Says("nli", {"elsewhere": 0.9})
    judge = Combined(replace(nli), JUDGE.likelihood, Says("ledger", {"elsewhere": 0.0, "high": 0.0}), alike)
    line = replace(pair("elsewhere"), persona=GRACE)  # its first letter alone is the accused sentence
    (near,) = judge.judge([line])
    assert near.verdict is True
    far = Combined(Whole("nli", {"elsewhere": 0.9}), JUDGE.likelihood, judge.ledger, alike)
    (row,) = far.judge([line])
    assert (row.p_inconsistent, row.verdict, row.claim) == (0.5, False, None)
    of_other = Combined(
        Whole("nli", {"Your": 0.9, "My": 0.9}), JUDGE.likelihood, Says("ledger", {"Your": 0.0, "My": 0.0}), alike
    )
    rows = of_other.judge([replace(pair(f"{whose} home is in Kyoto."), persona=GRACE) for whose in ("Your", "My")])
    assert [row.verdict for row in rows] == [False, True]


def test_pairs_of_lines_of_a_persona_with_facts_are_the_ledgers():
    rows = JUDGE.judge([replace(pair(f"{word} talk", "line_to_line"), persona=GRACE) for word in ("high", "low")])
    assert [(row.p_inconsistent, row.verdict) for row in rows] == [(0.0, False), (1.0, True)]


def test_single_facts_are_judged_by_the_ledger_and_the_one_that_nli_accuses_alone_is_named():
    rows = FACTS.judge([replace(pair(word), persona=GRACE) for word in "abcd"])
    of_line = [rows[at : at + 3] for at in range(0, 12, 3)]
    assert [[(row.against, row.verdict) for row in line] for line in of_line] == [
        # the fact of nli's maximum, in place of the ledger's suspect of it; "pet" is no maximum
        [("persona", True), ("home", True), ("job", False)],
        [("persona", True), ("home", False), ("job", True)],  # what the ledger finds is the ledger's alone
        [("persona", True), ("home", False), ("job", False)],  # a sentence of the card, and no fact
        [("persona", False), ("home", False), ("job", False)],  # nli is not sure enough
    ]
    (whole, home, _), (suspect,) = of_line[0], of_line[3][2:]
    assert home == replace(whole, against="home") and home.claim == "I keep goats."
    assert (suspect.p_inconsistent, suspect.judge) == (0.5, "combined")


def test_a_judge_that_loses_a_pair_is_an_error():
    class Silent(Says):
        def judge(self, pairs):
            return []

    with pytest.raises(ValueError, match="answered 0 of 1 pairs"):
        Combined(Silent("nli", {}), JUDGE.likelihood, JUDGE.ledger, alike).judge([pair("low talk")])
