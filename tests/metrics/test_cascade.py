"""Two hand-made judges in a row."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from metrics.judges import Pair, judgement, rows_by_pair
from metrics.judges.cascade import Cascade
from scenarios.records import Fact, Persona, Slot

HOME = Slot(
    "home", "I live in {value}.", "You live in {value}.", ("Where?",), ("I live in {value}",), ("Osaka", "Lisbon")
)
GRACE = Persona("grace", "Grace", "You are Grace.", (Fact(HOME, "Osaka", ()),))


@dataclass
class Says:
    """Says p for every line, by its text; None is unscored. A row by fact follows every scored one."""

    name: str
    p: dict[str, float | None]
    asked: list[str] = field(default_factory=list)

    def judge(self, pairs):
        self.asked += [pair.line for pair in pairs]
        rows = []
        for pair in pairs:
            p = self.p[pair.line]
            if p is None:
                rows.append(judgement(pair, self.name, unscored=f"{self.name} is lost"))
            else:
                rows += [
                    judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5, **rest)
                    for rest in ({}, {"against": "home"})
                ]
        return rows


def pairs(*lines):
    return [Pair(0, turn, "user", "prompt_to_line", line, "persona", GRACE) for turn, line in enumerate(lines)]


def test_only_uncertain_and_unscored_pairs_go_to_the_second_judge():
    first = Says("first", {"a": 0.05, "b": 0.5, "c": None, "d": 0.95, "e": 0.1, "f": 0.9, "g": 0.11})
    second = Says("second", {"b": 0.8, "c": 0.2, "g": None})
    cascade = Cascade(first, second, 0.1, 0.9)
    rows = cascade.judge(pairs(*"abcdefg"))
    assert second.asked == ["b", "c", "g"]
    assert [(row.p_inconsistent, row.by) for row in rows] == [
        (0.05, "first"),
        (0.8, "second"),
        (0.2, "second"),
        (0.95, "first"),
        (0.1, "first"),
        (0.9, "first"),
        (None, "second"),
    ]
    assert {row.judge for row in rows} == {"cascade"} and {row.against for row in rows} == {"persona"}
    assert rows[6].unscored == "second is lost" and rows[6].verdict is None, "a doubtful answer is no substitute"
    assert [row.by for row in rows].count("second") == 3 and len(rows) == 7


def test_nothing_uncertain_asks_the_second_judge_nothing():
    second = Says("second", {})
    assert [
        row.by for row in Cascade(Says("first", {"a": 0.0, "b": 1.0}), second, 0.0, 1.0).judge(pairs("a", "b"))
    ] == ["first"] * 2
    assert second.asked == []
    assert Cascade(second, second).judge([]) == []


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_bounds_that_make_no_sense_are_refused(low, high):
    with pytest.raises(ValueError, match="expected 0 <= low <= high <= 1"):
        Cascade(Says("a", {}), Says("b", {}), low, high)


def test_a_judge_that_loses_a_pair_is_found_out():
    two = pairs("a", "b")
    with pytest.raises(ValueError, match="answered 1 of 2 pairs"):
        rows_by_pair(two, Says("first", {"a": 0.1}).judge(two[:1]))


def test_the_ledger_before_another_judge_keeps_one_row_a_pair():
    from metrics.judges.ledger import Ledger

    asked = pairs("Hello.", "...")
    rows = Cascade(Ledger(), Says("second", {"...": 0.4}), 0.0, 0.0).judge(asked)
    assert [(row.by, row.p_inconsistent) for row in rows] == [("ledger", 0.0), ("second", 0.4)]
