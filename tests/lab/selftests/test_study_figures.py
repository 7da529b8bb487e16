"""The verdicts of studies on planted respondents, drawn from populations of topics, registers and items."""

from __future__ import annotations

import numpy as np
import pytest

from lab.selftests.study_figures import cases, congruence, rows
from metrics.studies.verdict import CONFIRMS, FAILED, INCONCLUSIVE, REFUTES


def test_verdicts_on_planted_respondents_are_right():
    table = rows(sims=2, seed=3)
    assert [row["respondent"] for row in table] == [case.who for case in cases()]
    for row in table:
        assert sum(row[word] for word in (CONFIRMS, REFUTES, INCONCLUSIVE, FAILED)) == pytest.approx(1)
        assert row["right"] >= 0.5, row
    assert np.mean([row["right"] for row in table]) >= 0.95 and np.mean([row["covered"] for row in table]) >= 0.8


def test_congruence_over_topics_is_the_mean_of_draws():
    b = np.random.default_rng(0).normal(1.5, 0.75, 200_000)
    drawn = np.mean(1 / (1 + np.exp(-2 - b)) - 1 / (1 + np.exp(b - 2)))
    assert congruence(1.5, 0.75) == pytest.approx(drawn, abs=2e-3) and congruence(0, 1) == pytest.approx(0, abs=1e-12)
