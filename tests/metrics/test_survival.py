"""Time to the first contradiction on hand-written lives."""

from __future__ import annotations

import math

import polars as pl
import pytest
from metric_frames import HOW, judgements_frame, lines, only_row, turns_frame

from metrics.survival import CURVE_SCHEMA, subjects, survival_curves, survival_rows

# own lines (user at turns 0 2 4 6 8, assistant between): first contradiction at own line 1, 3, 3, 5, and one censored
# at 2
LIVES = [
    [True, False, True],
    [False, False, True, True],
    [False, False, True],
    [False, False, False, False, True],
    [False, False],
]


def frames(lives):
    said = [(c, t, "user") for c, life in enumerate(lives) for t in range(0, 2 * len(life), 2)]
    said += [(c, t + 1, "assistant") for c, t, _ in said]
    return turns_frame(said), judgements_frame([row for c, life in enumerate(lives) for row in lines(life, c)])


def test_median_is_that_of_the_kaplan_meier_curve_in_own_lines():
    # at risk 5, 3, 1 at lines 1, 3, 5: S = 4/5, 4/15, 0: at most one half from own line 3 on
    row = only_row(survival_rows(*frames(LIVES), **HOW), "time_to_first_contradiction", seat="user")
    assert row["value"] == 3.0 and row["n"] == 5


def test_half_life_is_ln_2_over_events_per_line_at_risk_by_hand():
    # events 4; lines at risk 1 + 3 + 3 + 5 + 2 = 14: ln 2 * 14 / 4
    row = only_row(survival_rows(*frames(LIVES), **HOW), "half_life", seat="user")
    assert row["value"] == pytest.approx(math.log(2) * 14 / 4) and row["n"] == 14
    assert row["low"] < row["value"] < row["high"]


def test_curve_starts_at_one_and_steps_as_computed_by_hand():
    steps = survival_curves(*frames(LIVES))
    assert dict(steps.schema) == CURVE_SCHEMA and set(steps["seat"]) == {"user"}
    assert steps["lines"].to_list() == [0, 1, 2, 3, 5]
    assert steps["survival"].to_list() == pytest.approx([1, 4 / 5, 4 / 5, 4 / 15, 0])
    assert steps["at_risk"].to_list() == [5, 5, 4, 3, 1]


def test_contradiction_in_the_very_first_own_line_is_time_1_for_the_seat_that_speaks_second():
    turns = turns_frame([(0, 0, "user"), (0, 1, "assistant")])
    judged = judgements_frame([(0, 1, "prompt_to_line", "persona", True, "ledger", "assistant")])
    assert only_row(survival_rows(turns, judged, **HOW), "time_to_first_contradiction")["value"] == 1.0


def test_nobody_contradicting_leaves_the_median_nan_and_the_half_life_infinite():
    metrics = survival_rows(*frames([[False] * 4, [False] * 4]), **HOW)
    median, half = only_row(metrics, "time_to_first_contradiction"), only_row(metrics, "half_life")
    assert math.isnan(median["value"]) and median["n"] == 2
    assert math.isinf(half["value"]) and math.isnan(half["low"]) and half["n"] == 8


def test_unscored_line_is_no_event_and_a_seat_ends_at_its_last_scored_line():
    turns, judged = frames([[False, None, None], [None, True], [None]])
    lives = subjects(turns, judged).to_dicts()
    assert lives == [
        {"conversation": 0, "lines": 1, "censored": True, "at_risk": 1},
        {"conversation": 1, "lines": 2, "censored": False, "at_risk": 1},  # own line 2, one scored line
    ]


def test_empty_frames_give_an_empty_curve():
    assert survival_curves(turns_frame([]), judgements_frame([])).is_empty()
    assert isinstance(survival_curves(turns_frame([]), judgements_frame([])), pl.DataFrame)
