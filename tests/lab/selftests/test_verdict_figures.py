"""How often verdicts are wrong: the figures of the rule, and of rules that are not corrected."""

from __future__ import annotations

import math

import pytest

from lab.selftests import verdict_figures
from lab.selftests.verdict_figures import ALL, END, ONE, rows
from metrics.studies import verdict

SIMS = 800
NOISE = 3 * math.sqrt(0.05 * 0.95 / SIMS)  # three standard errors of a share of .05


@pytest.fixture(scope="module")
def table() -> list[dict]:
    return rows(SIMS, 11)


def test_at_most_one_verdict_in_twenty_is_false_with_one_two_or_three_tests_under_every_null(table):
    assert {(row["tests"], row["null"]) for row in table} == {
        *((tests, null) for tests in (1, 2, 3) for null in (ALL, END)),
        (2, ONE),
        (3, ONE),
    }
    for row in table:
        assert row["sims"] == SIMS and 0 <= row["false_confirms"] <= 0.05 + NOISE, row
        assert 0 <= row["false_refutes"] <= 0.05 + NOISE, row


def test_a_null_on_which_nothing_ever_decides_would_show_nothing(table):
    for figures in (verdict_figures.MEANS, verdict_figures.SHARES):
        mine = [row for row in table if row["figures"] == figures]
        assert max(row["false_confirms"] for row in mine) > 0.01 and max(row["false_refutes"] for row in mine) > 0.01


def test_three_tests_that_are_not_corrected_refute_too_often(monkeypatch):
    monkeypatch.setattr(verdict, "widened", lambda interval, of: interval)
    assert max(row["false_refutes"] for row in rows(SIMS, 11) if row["tests"] == 3) > 0.05 + NOISE


def test_the_table_is_the_same_for_the_same_seed_and_needs_simulations():
    assert rows(20, 5) == rows(20, 5) != rows(20, 6)
    with pytest.raises(ValueError, match="0 simulations: expected at least 1"):
        rows(0, 5)
