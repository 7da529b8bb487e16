"""Time to the first contradiction on hand-written lives."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from metric_frames import HOW, judgements_frame, lines, only_row

from metrics.survival import CURVE_SCHEMA, half_life, subjects, survival_curves, survival_rows

CONFIDENCE = HOW["confidence"]
# lines of the user at turns 0 2 4 6 8: first contradiction at line 1, 3, 3, 5, and one censored at 2
LIVES = [
    [True, False, True],
    [False, False, True, True],
    [False, False, True],
    [False, False, False, False, True],
    [False, False],
]


def judged(lives):
    return judgements_frame([row for c, life in enumerate(lives) for row in lines(life, c)])


def half_life_of(lives):
    return half_life(subjects(judged(lives)), confidence=CONFIDENCE)


def test_median_is_that_of_the_kaplan_meier_curve_in_scored_lines():
    # at risk 5, 3, 1 at lines 1, 3, 5: S = 4/5, 4/15, 0: at most one half from line 3 on
    row = only_row(survival_rows(judged(LIVES), confidence=CONFIDENCE), "time_to_first_contradiction", seat="user")
    assert row["value"] == 3.0 and row["n"] == 5


def test_half_life_is_where_half_of_the_speakers_would_have_contradicted_by_hand():
    # events 4; lines at risk 1 + 3 + 3 + 5 + 2 = 14: h = 2/7, and (5/7)^2.06 = 1/2
    row = only_row(survival_rows(judged(LIVES), confidence=CONFIDENCE), "half_life", seat="user")
    assert (5 / 7) ** row["value"] == pytest.approx(0.5) and row["n"] == 14
    assert row["low"] < row["value"] < row["high"]


def test_half_life_is_the_median_of_a_constant_risk_per_line():
    # a risk of 1/2 halves the speakers with each line; ln 2 / h would be 1.39
    assert half_life_of([[True], [False, True], [False, False, True], [False, True]]).value == pytest.approx(1.0)
    rng = np.random.default_rng(2)
    lines = rng.geometric(0.2, size=4000)  # half are past line 3.1
    lives = pl.DataFrame({"lines": lines, "censored": np.zeros(4000, bool)})
    assert half_life(lives, confidence=CONFIDENCE).value == pytest.approx(math.log(0.5) / math.log(0.8), rel=0.05)
    assert np.median(lines) == 4, "the first whole line after it"


def test_half_life_interval_covers_the_truth_at_six_speakers():
    """A risk of .1 in each of up to 20 lines: half-life 6.58."""
    rng, truth, covered = np.random.default_rng(3), math.log(0.5) / math.log(0.9), 0
    for _ in range(300):
        first = rng.geometric(0.1, size=6)
        lives = pl.DataFrame({"lines": np.minimum(first, 20), "censored": first > 20})
        interval = half_life(lives, confidence=CONFIDENCE)
        covered += interval.low <= truth <= interval.high
    assert covered / 300 >= 0.93


def test_curve_starts_at_one_and_steps_as_computed_by_hand():
    steps = survival_curves(judged(LIVES))
    assert dict(steps.schema) == CURVE_SCHEMA and set(steps["seat"]) == {"user"}
    assert steps["lines"].to_list() == [0, 1, 2, 3, 5]
    assert steps["survival"].to_list() == pytest.approx([1, 4 / 5, 4 / 5, 4 / 15, 0])
    assert steps["at_risk"].to_list() == [5, 5, 4, 3, 1]


def test_contradiction_in_the_very_first_line_is_time_1_for_the_seat_that_speaks_second():
    rows = judgements_frame([(0, 1, "prompt_to_line", "persona", True, "ledger", "assistant")])
    assert only_row(survival_rows(rows, confidence=CONFIDENCE), "time_to_first_contradiction")["value"] == 1.0


def test_nobody_contradicting_leaves_the_median_nan_and_the_half_life_infinite_with_a_lower_bound():
    metrics = survival_rows(judged([[False] * 4, [False] * 4]), confidence=CONFIDENCE)
    median, half = only_row(metrics, "time_to_first_contradiction"), only_row(metrics, "half_life")
    assert math.isnan(median["value"]) and median["n"] == 2
    assert half["value"] == half["high"] == math.inf and 0 < half["low"] < 8 and half["n"] == 8


def test_everybody_contradicting_at_once_one_speaker_and_none_have_a_half_life_without_a_crash():
    at_once, alone, none = half_life_of([[True], [True]]), half_life_of([[False, True]]), half_life_of([])
    assert (at_once.value, at_once.low, at_once.n) == (0.0, 0.0, 2) and 0 < at_once.high < math.inf
    assert (alone.value, alone.n) == (pytest.approx(1.0), 2) and math.isnan(alone.low) and math.isnan(alone.high)
    assert math.isnan(none.value) and math.isnan(none.low) and none.n == 0


def test_unscored_line_is_no_time_and_no_event_in_either_measure():
    rows = judged([[False, None, None], [None, True], [None], [False, None, False, True]])
    assert subjects(rows).to_dicts() == [
        {"conversation": 0, "lines": 1, "censored": True},
        {"conversation": 1, "lines": 1, "censored": False},  # the first line that was scored
        {"conversation": 3, "lines": 3, "censored": False},
    ]
    metrics = survival_rows(rows, confidence=CONFIDENCE)
    assert only_row(metrics, "half_life")["n"] == 1 + 1 + 3
    assert subjects(rows.reverse()).equals(subjects(rows)), "the order of rows is that of turns"


def test_empty_frames_give_an_empty_curve():
    assert survival_curves(judgements_frame([])).is_empty()
    assert isinstance(survival_curves(judgements_frame([])), pl.DataFrame)
