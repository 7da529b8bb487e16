"""Reductions of hand-written judgements: one user in each of two conversations, lines at turns 0, 2, 4, ..."""

from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest
from metric_frames import HOW, JUDGED, judgements_frame, lines, only_row, turns_frame
from scipy import stats

from metrics import METRICS_SCHEMA, NAN
from metrics.contradictions import PER_CONVERSATION
from metrics.drift import drift_rows
from metrics.entry import MISSING, estimate_text, share_format
from metrics.measure import METRICS, measure_run
from metrics.reductions import consistency_rows

ALL = {"metrics": list(METRICS), "window": 5, **HOW}


def test_prompt_to_line_is_one_minus_contradicting_lines_by_turn_conversation_and_run():
    # conversation 0: T F F, conversation 1: F F F -> run 5/6, turn 0 1/2, conversation 0 2/3
    metrics = consistency_rows(
        judgements_frame([*lines([True, False, False]), *lines([False] * 3, 1)]), "prompt_to_line", **HOW
    )
    assert (only_row(metrics, "prompt_to_line")["value"], only_row(metrics, "prompt_to_line")["n"]) == (
        pytest.approx(5 / 6),
        6,
    )
    assert [row["value"] for row in metrics.filter(pl.col("level") == "turn").sort("turn").to_dicts()] == [
        0.5,
        1.0,
        1.0,
    ]
    first = only_row(metrics, "prompt_to_line", "conversation", conversation=0)
    assert first["value"] == pytest.approx(2 / 3) and first["n"] == 3 and math.isnan(first["low"])
    # one of two lines, each of another conversation: Wilson's interval
    bounds = stats.binomtest(1, 2).proportion_ci(method="wilson")
    at_first = only_row(metrics, "prompt_to_line", "turn", turn=0)
    assert (at_first["low"], at_first["high"]) == pytest.approx((bounds.low, bounds.high))


def test_no_contradiction_at_all_is_no_certainty_in_any_share():
    judged = judgements_frame(
        [
            row
            for c in (0, 1)
            for row in [*lines([False] * 6, c), (c, 2, "line_to_line", "0", False), (c, 2, "qa", "job", False)]
        ]
    )
    turns = turns_frame([(c, 2 * place, "user") for c in (0, 1) for place in range(6)])
    metrics = measure_run(turns, judged, **{**ALL, "metrics": ["prompt_to_line", "line_to_line", "qa", "drift"]})
    for name in ("prompt_to_line", "line_to_line", "qa"):
        kept, missing = only_row(metrics, name), only_row(metrics, f"unscored_{name}")
        assert kept["low"] < kept["value"] == kept["high"] == 1.0, name
        assert missing["low"] == missing["value"] == 0.0 < missing["high"], name
    drift = only_row(metrics, "local_drift")
    assert drift["low"] == drift["value"] == 0.0 < drift["high"]


def test_unscored_lines_are_in_no_mean_and_counted_apart():
    # T, unscored, F, unscored -> 1/2 over 2 scored; unscored share 2/4
    judged = judgements_frame(lines([True, None, False, None]))
    metrics = measure_run(
        turns_frame([(0, t, "user") for t in (0, 2, 4, 6)]), judged, **{**ALL, "metrics": ["prompt_to_line"]}
    )
    assert (only_row(metrics, "prompt_to_line")["value"], only_row(metrics, "prompt_to_line")["n"]) == (0.5, 2)
    assert (
        only_row(metrics, "unscored_prompt_to_line")["value"],
        only_row(metrics, "unscored_prompt_to_line")["n"],
    ) == (
        0.5,
        4,
    )
    nobody = only_row(metrics, "prompt_to_line", "turn", turn=2)
    assert math.isnan(nobody["value"]) and nobody["n"] == 0


def test_rows_by_fact_are_detail_and_not_counted_as_lines():
    rows = [*lines([True, False]), (0, 0, "prompt_to_line", "home", True), (0, 0, "prompt_to_line", "job", True)]
    assert only_row(consistency_rows(judgements_frame(rows), "prompt_to_line", **HOW), "prompt_to_line")["n"] == 2


def test_line_to_line_counts_pairs_at_the_later_line():
    pairs = [(0, 2, "line_to_line", "0", False), (0, 4, "line_to_line", "0", True), (0, 4, "line_to_line", "2", False)]
    metrics = consistency_rows(judgements_frame(pairs), "line_to_line", **HOW)
    assert only_row(metrics, "line_to_line")["value"] == pytest.approx(2 / 3)
    assert only_row(metrics, "line_to_line", "turn", turn=4)["value"] == 0.5


def test_questions_are_the_share_answered_right_by_turn():
    asked = [
        (0, t, "qa", fact, wrong, "multiple_choice")
        for t, fact, wrong in ((3, "home", False), (3, "job", False), (7, "home", True), (7, "job", False))
    ]
    metrics = consistency_rows(judgements_frame(asked), "qa", **HOW)
    assert only_row(metrics, "qa", judge="multiple_choice")["value"] == 0.75
    assert only_row(metrics, "qa", "turn", turn=7)["value"] == 0.5


def test_judges_and_seats_are_kept_apart():
    rows = [
        (0, 0, "prompt_to_line", "persona", True),
        (0, 0, "prompt_to_line", "persona", False, "likelihood"),
        (0, 1, "prompt_to_line", "persona", None, "ledger", "assistant"),
    ]
    metrics = consistency_rows(judgements_frame(rows), "prompt_to_line", **HOW).filter(pl.col("level") == "run")
    assert [tuple(row) for row in metrics.select("judge", "seat", "n").rows()] == [
        ("ledger", "assistant", 0),
        ("ledger", "user", 1),
        ("likelihood", "user", 1),
    ]
    assert only_row(metrics, "prompt_to_line", judge="ledger", seat="user")["value"] == 0.0


def test_global_drift_slope_and_thirds_by_hand():
    # turns 0 2 4, inconsistency 0 0 1: slope = (1/2 per own line) / 2 turns = 1/4 per turn; thirds of 6 turns: turns 0,
    # 1 and 4, 5: 1 - 0
    turns = turns_frame([(c, t, "user") for c in (0, 1) for t in range(0, 6, 2)] + [(0, 5, "assistant")])
    metrics = drift_rows(
        turns, judgements_frame([*lines([False, False, True]), *lines([False, False, True], 1)]), window=5, **HOW
    )
    slope, thirds = (
        only_row(metrics, "global_drift_slope", seat="user"),
        only_row(metrics, "global_drift_thirds", seat="user"),
    )
    assert slope["value"] == pytest.approx(0.25) and slope["n"] == 6
    assert thirds["value"] == 1.0 and thirds["n"] == 4
    # both conversations agree, but two hits in six rows tell little: q = 4 / 10, sum of squares 2 * 8, t of one degree
    half = 12.7062 * math.sqrt(0.4 * 0.6 / 16)
    assert (slope["low"], slope["high"]) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-4)
    p = only_row(metrics, "p_global_drift_slope", seat="user")
    assert p["value"] == pytest.approx(2 * stats.t.sf(0.25 / math.sqrt(0.4 * 0.6 / 16), 1)) and p["n"] == 2


def test_questions_drift_is_measured_on_wrong_answers():
    # turn 0: 0 of 2 wrong, turn 8: 1 of 2: slope (1/2) / 8
    asked = [
        (0, t, "qa", fact, wrong, "multiple_choice")
        for t, fact, wrong in ((0, "a", False), (0, "b", False), (8, "a", True), (8, "b", False))
    ]
    metrics = drift_rows(turns_frame([(0, t, "user") for t in range(9)]), judgements_frame(asked), window=5, **HOW)
    assert only_row(metrics, "qa_drift_slope", judge="multiple_choice")["value"] == pytest.approx(1 / 16)
    assert only_row(metrics, "qa_drift_thirds", judge="multiple_choice")["value"] == 0.5


def test_local_drift_sees_only_the_window_of_own_lines():
    # own lines at 0 2 4 6; line 6 contradicts only line 0, three own lines back
    turns = turns_frame([(0, t, seat) for t in range(0, 8, 2) for t, seat in ((t, "user"), (t + 1, "assistant"))])
    pairs = [
        (0, later, "line_to_line", str(earlier), (later, earlier) == (6, 0))
        for later in (2, 4, 6)
        for earlier in range(0, later, 2)
    ]
    judged = judgements_frame(pairs)
    near, far = drift_rows(turns, judged, window=2, **HOW), drift_rows(turns, judged, window=3, **HOW)
    assert (only_row(near, "local_drift")["value"], only_row(near, "local_drift")["n"]) == (0.0, 5)
    assert (only_row(far, "local_drift")["value"], only_row(far, "local_drift")["n"]) == (pytest.approx(1 / 6), 6)
    assert only_row(far, "local_drift", "turn", turn=6)["value"] == pytest.approx(1 / 3)
    assert only_row(far, "local_drift_slope")["value"] > 0 == only_row(near, "local_drift_slope")["value"]
    with pytest.raises(ValueError, match="window 0"):
        drift_rows(turns, judged, window=0, **HOW)


def test_no_rows_give_nan_and_n_0_for_every_metric_and_seat():
    metrics = measure_run(turns_frame([]), judgements_frame([]), **ALL)
    assert set(metrics["seat"]) == {"user", "assistant"} and metrics["n"].sum() == 0 and metrics["value"].is_nan().all()
    for name in (
        "prompt_to_line",
        "unscored_prompt_to_line",
        "line_to_line",
        "qa",
        "local_drift",
        "local_drift_slope",
        "global_drift_slope",
        "global_drift_thirds",
        "qa_drift_slope",
        "qa_drift_thirds",
        "time_to_first_contradiction",
        "half_life",
        "contradicting_lines",
        "contradicted_facts",
    ):
        assert len(metrics.filter(pl.col("metric") == name, pl.col("level") == "run")) == 2, name


def test_measure_gives_the_promised_columns_and_only_what_was_asked_for():
    turns, judged = turns_frame([(0, 0, "user")]), judgements_frame(lines([True]))
    metrics = measure_run(turns, judged, **{**ALL, "metrics": ["contradictions"]})
    assert dict(metrics.schema) == METRICS_SCHEMA and set(metrics["metric"]) == set(PER_CONVERSATION)
    with pytest.raises(ValueError, match="'tone'"):
        measure_run(turns, judged, **{**ALL, "metrics": ["tone"]})


def many(conversations, length, seed=0):
    """Both frames of a run at random: half the lines each seat's, questions every eight turns."""
    rng = np.random.default_rng(seed)
    turns = pl.DataFrame(
        {"conversation": np.repeat(np.arange(conversations), length), "turn": np.tile(np.arange(length), conversations)}
    )
    turns = turns.with_columns(
        seat=pl.when(pl.col("turn") % 2 == 0).then(pl.lit("user")).otherwise(pl.lit("assistant")),
        run_id=pl.lit("r"),
        persona=pl.lit("grace"),
        node=pl.lit("talk"),
        text=pl.lit("hello"),
    )
    key = ["run_id", "conversation", "turn", "seat"]
    each = turns.select(key).with_columns(
        metric=pl.lit("prompt_to_line"), judge=pl.lit("ledger"), against=pl.lit("persona")
    )
    earlier = turns.select("conversation", "seat", against_turn="turn")
    pairs = turns.select(key).join(earlier, on=["conversation", "seat"]).filter(pl.col("turn") > pl.col("against_turn"))
    pairs = pairs.select(
        *key, metric=pl.lit("line_to_line"), judge=pl.lit("ledger"), against=pl.col("against_turn").cast(pl.String)
    )
    asked = turns.select(key).filter(pl.col("turn") % 8 == 0)
    asked = asked.with_columns(metric=pl.lit("qa"), judge=pl.lit("multiple_choice"), against=pl.lit("home"))
    rows = pl.concat([each, pairs, asked])
    verdict = pl.Series(rng.random(len(rows)) < 0.1)
    return turns, rows.with_columns(
        p_inconsistent=verdict.cast(pl.Float64), verdict=verdict, unscored=pl.lit(None, pl.String)
    ).select(list(JUDGED))


def test_the_rows_are_the_same_in_any_order_of_the_input():
    turns, judged = many(6, 20)
    first = measure_run(turns, judged, **ALL)
    again = measure_run(
        turns.sample(fraction=1, shuffle=True, seed=1), judged.sample(fraction=1, shuffle=True, seed=2), **ALL
    )
    numbers = ["value", "low", "high"]
    assert first.drop(numbers).equals(again.drop(numbers))
    assert np.allclose(first.select(numbers), again.select(numbers), equal_nan=True)


def test_usual_run_is_measured_within_seconds():
    turns, judged = many(8, 40)
    start = time.perf_counter()
    measure_run(turns, judged, **ALL)
    assert time.perf_counter() - start < 10


def test_an_estimate_is_written_with_the_bounds_that_are_there():
    assert estimate_text(0.5, 0.25, 0.75, share_format) == "0.50 [0.25, 0.75]"
    assert estimate_text(0.5, 0.25, NAN, share_format) == "0.50 [0.25, –]"
    assert estimate_text(0.5, None, NAN, share_format) == "0.50"
    assert estimate_text(None, 0.0, 1.0, share_format) == estimate_text(NAN, 0.0, 1.0, share_format) == MISSING
