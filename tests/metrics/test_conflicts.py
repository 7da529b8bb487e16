"""Which lines contradict and which return to the persona, from hand-written rows and from the ledger."""

from __future__ import annotations

import polars as pl
import pytest
from metric_frames import HOW, judgements_frame, only_row

from metrics.conflicts import Conflict, conflicts_of_lines
from metrics.contradictions import contradicting, contradiction_rows
from metrics.reductions import consistency_rows

# turn 0 is right, turn 2 contradicts the home, turn 4 is right again and so disagrees with turn 2
BACK = [
    (0, 0, "prompt_to_line", "persona", False),
    (0, 0, "prompt_to_line", "home", False),
    (0, 2, "prompt_to_line", "persona", True),
    (0, 2, "prompt_to_line", "home", True),
    (0, 2, "line_to_line", "0", True),
    (0, 4, "prompt_to_line", "persona", False),
    (0, 4, "prompt_to_line", "home", False),
    (0, 4, "line_to_line", "0", False),
    (0, 4, "line_to_line", "2", True),
]


def conflicts(rows):
    return conflicts_of_lines(judgements_frame(rows))


def without(rows, *gone):
    return [row for row in rows if row[1:4] not in gone]


def test_line_that_returns_to_the_persona_is_a_return_and_no_contradicting_line():
    assert conflicts(BACK) == {
        (0, 2): Conflict(("home",), (0,), ("ledger",), returns=False),
        (0, 4): Conflict((), (2,), ("ledger",), returns=True),
    }
    assert only_row(contradiction_rows(judgements_frame(BACK), **HOW), "contradicting_lines")["value"] == 1.0


def test_pair_disagrees_whoever_is_at_fault_and_prompt_to_line_counts_the_contradicting_line_alone():
    frame = judgements_frame(BACK)
    assert only_row(consistency_rows(frame, "prompt_to_line", **HOW), "prompt_to_line")["value"] == pytest.approx(
        1 - 1 / 3
    )
    assert only_row(consistency_rows(frame, "line_to_line", **HOW), "line_to_line")["value"] == pytest.approx(1 - 2 / 3)


def test_line_that_affirms_nothing_does_not_return():
    # the earlier line contradicts the home, and this one says nothing of it: they disagree on what no card tells
    silent = without(BACK, (4, "prompt_to_line", "home"))
    assert conflicts(silent)[0, 4] == Conflict((), (2,), ("ledger",), returns=False)
    of_the_job = [*silent, (0, 4, "prompt_to_line", "job", False)]
    assert not conflicts(of_the_job)[0, 4].returns


def test_judge_that_names_no_fact_lets_a_consistent_line_return():
    bare = without(BACK, *((turn, "prompt_to_line", "home") for turn in (0, 2, 4)))
    assert conflicts(bare) == {
        (0, 2): Conflict(("persona",), (0,), ("ledger",), returns=False),
        (0, 4): Conflict((), (2,), ("ledger",), returns=True),
    }


def test_what_was_not_scored_or_contradicts_itself_never_returns():
    for verdict in (None, True):
        rows = [*without(BACK, (4, "prompt_to_line", "persona")), (0, 4, "prompt_to_line", "persona", verdict)]
        assert not conflicts(rows)[0, 4].returns, verdict


def test_suspect_affirms_nothing():
    # turn 4 may be right or wrong about the home: p 1/2, called no contradiction
    at_turn_4 = (pl.col("turn") == 4) & (pl.col("metric") == "prompt_to_line")
    for doubted in (at_turn_4, at_turn_4 & (pl.col("against") == "home")):
        p = pl.when(doubted).then(0.5).otherwise("p_inconsistent")
        frame = judgements_frame(BACK).with_columns(p.alias("p_inconsistent"))
        assert not conflicts_of_lines(frame)[0, 4].returns


def test_another_judge_decides_for_itself():
    # nli calls turns 2 and 4 contradictory, and finds no fault in turn 2: nothing to return from
    nli = [
        (0, 2, "prompt_to_line", "persona", False, "nli"),
        (0, 4, "prompt_to_line", "persona", False, "nli"),
        (0, 4, "line_to_line", "2", True, "nli"),
    ]
    assert conflicts(BACK + nli)[0, 4] == Conflict((), (2,), ("nli",), returns=False)


def test_repeats_fold_and_only_what_the_line_is_at_fault_for_is_listed():
    # turn 6 contradicts the job and the lines 0 and 4
    rows = [
        *BACK,
        (0, 6, "prompt_to_line", "persona", True),
        (0, 6, "prompt_to_line", "job", True),
        (0, 6, "line_to_line", "4", True),
        (0, 6, "line_to_line", "0", True),
    ]
    assert conflicts(rows)[0, 6] == Conflict(("job",), (0, 4), ("ledger",), returns=False)


def test_conversations_do_not_mix_and_rows_may_come_in_any_order():
    other = [(1, *row[1:]) for row in BACK if row[1] != 2]
    mixed = judgements_frame([*reversed(BACK), *other])
    assert [place for place, conflict in conflicts_of_lines(mixed).items() if conflict.returns] == [(0, 4)]
    assert not conflicts_of_lines(mixed)[1, 4].returns, "its earlier line contradicts nothing there"


def test_contradicting_rows_say_which_of_them_return_and_keep_their_columns():
    frame = judgements_frame(BACK)
    rows = contradicting(frame)
    assert rows.columns == [*frame.columns, "returns"]
    assert rows.filter(pl.col("returns")).select("turn", "against").rows() == [(4, "2")]
    assert contradicting(frame.clear()).is_empty()
