"""The contradiction graph and its counts, from a planted contradiction and from hand-written rows."""

from __future__ import annotations

import math

import networkx
import polars as pl
import pytest
from metric_frames import HOW, JUDGED, judgements_frame, only_row
from scipy import stats
from test_ledger import GRACE

from metrics.contradictions import PER_CONVERSATION, contradiction_rows, graph, shape
from metrics.judges import Pair
from metrics.judges.ledger import Ledger
from metrics.stats.shares import share_of_counts

# Grace's, at turns 0 2 4 6 8
SAID = [
    "Hi, I'm Grace.",
    "I live in Osaka.",
    "Nice weather.",
    "I live in Lisbon.",
    "I'm a librarian.",
]


def planted():
    """Frames of a conversation in which turn 6 contradicts Grace's home and her line at turn 2, judged by the
    ledger.
    """
    own = [(2 * place, text) for place, text in enumerate(SAID)]
    pairs = [Pair(0, turn, "user", "prompt_to_line", text, "persona", GRACE) for turn, text in own]
    pairs += [
        Pair(0, turn, "user", "line_to_line", text, str(was), GRACE, before)
        for turn, text in own
        for was, before in own
        if was < turn
    ]
    judged = Ledger().judge(pairs)
    rows = [{"run_id": "r", **{key: getattr(row, key) for key in JUDGED if key != "run_id"}} for row in judged]
    turns = pl.DataFrame(
        [
            {"conversation": 0, "turn": turn, "seat": "user", "persona": "grace", "node": "talk", "text": text}
            for turn, text in own
        ]
    )
    spans = {(j.conversation, j.turn, j.metric, j.judge, j.against): j.span for j in judged if j.span}
    return turns, pl.DataFrame(rows, schema=JUDGED), spans


def test_planted_contradiction_is_found_with_both_turns_and_its_words():
    drawn = graph(*planted())
    assert isinstance(drawn, networkx.MultiDiGraph)
    edges = {(source, target): data for source, target, data in drawn.edges(data=True)}
    assert set(edges) == {(("line", 0, 6), ("fact", 0, "user", "home")), (("line", 0, 6), ("line", 0, 2))}
    between = edges[("line", 0, 6), ("line", 0, 2)]
    assert (between["turn"], between["against_turn"], between["quote"]) == (6, 2, "I live in Lisbon")
    fact = edges[("line", 0, 6), ("fact", 0, "user", "home")]
    assert (fact["against_turn"], fact["span"], fact["verdict"], fact["p"], fact["judge"]) == (
        None,
        (0, 16),
        True,
        1.0,
        "ledger",
    )
    assert (
        drawn.nodes["line", 0, 6]["text"] == "I live in Lisbon."
        and drawn.nodes["fact", 0, "user", "home"]["persona"] == "grace"
    )


def test_dialogue_without_the_planted_line_has_an_empty_graph():
    turns, judged, spans = planted()
    clean = judged.filter(pl.col("turn") != 6, pl.col("against") != "6")
    assert graph(turns, clean, spans).number_of_nodes() == 0


def test_graph_without_spans_has_the_same_edges():
    turns, judged, spans = planted()
    assert set(graph(turns, judged).edges()) == set(graph(turns, judged, spans).edges())
    assert all(data["quote"] is None for *_, data in graph(turns, judged).edges(data=True))


def test_judge_that_names_no_fact_points_at_the_persona():
    turns, _, _ = planted()
    drawn = graph(turns, judgements_frame([(0, 6, "prompt_to_line", "persona", True, "likelihood")]))
    assert list(drawn.edges()) == [(("line", 0, 6), ("fact", 0, "user", "persona"))]


def test_judgement_of_a_line_that_nobody_said_is_refused():
    turns, _, _ = planted()
    with pytest.raises(ValueError, match="turn 40"):
        graph(turns, judgements_frame([(0, 40, "prompt_to_line", "persona", True)]))


def test_counts_of_the_planted_conversation():
    metrics = contradiction_rows(planted()[1], **HOW)
    # five lines scored
    assert (only_row(metrics, "contradicting_lines")["value"], only_row(metrics, "contradicting_lines")["n"]) == (
        1.0,
        5,
    )
    # Grace speaks of her name, home and job; her home is contradicted
    assert (only_row(metrics, "contradicted_facts")["value"], only_row(metrics, "contradicted_facts")["n"]) == (1.0, 3)


def test_counts_by_hand_over_two_conversations():
    rows = [
        (0, 0, "prompt_to_line", "persona", True),
        (0, 0, "prompt_to_line", "home", True),
        (0, 0, "prompt_to_line", "job", True),
        (0, 2, "prompt_to_line", "persona", True),
        (0, 2, "prompt_to_line", "home", True),
        (0, 4, "prompt_to_line", "persona", None),  # unscored: no line of n
        (1, 0, "prompt_to_line", "persona", False),
        (1, 0, "prompt_to_line", "pet", False),
    ]
    metrics = contradiction_rows(judgements_frame(rows), **HOW)
    assert [only_row(metrics, "contradicting_lines", "conversation", conversation=c)["value"] for c in (0, 1)] == [
        2.0,
        0.0,
    ]
    run = only_row(metrics, "contradicting_lines")
    share = share_of_counts([2, 0], [2, 1])
    assert (run["value"], run["n"]) == (2.0, 3)
    assert (run["low"], run["high"]) == pytest.approx((3 * share.low, 3 * share.high)), "of three lines"
    facts = only_row(metrics, "contradicted_facts")
    assert (facts["value"], facts["n"]) == (2.0, 3)


def test_suspects_are_counted_apart_and_are_no_contradictions():
    rows = judgements_frame([(0, 0, "prompt_to_line", "persona", False), (0, 0, "prompt_to_line", "home", False)])
    suspected = rows.with_columns(pl.lit(0.5).alias("p_inconsistent"))
    for frame, suspects in ((rows, 0.0), (suspected, 1.0)):
        metrics = contradiction_rows(frame, **HOW)
        assert only_row(metrics, "suspects")["value"] == suspects and only_row(metrics, "suspects")["n"] == 1
        assert only_row(metrics, "contradicting_lines")["value"] == 0.0


def test_judge_that_names_no_fact_counts_lines_and_cannot_count_facts():
    rows = [
        (0, 0, "prompt_to_line", "persona", True, "likelihood"),
        (0, 2, "prompt_to_line", "persona", False, "likelihood"),
    ]
    metrics = contradiction_rows(judgements_frame(rows), **HOW)
    assert only_row(metrics, "contradicting_lines")["value"] == 1.0
    facts = only_row(metrics, "contradicted_facts")
    assert math.isnan(facts["value"]) and facts["n"] == 0


def test_line_that_contradicts_three_earlier_ones_and_no_fact_counts_once():
    rows = [(0, turn, "prompt_to_line", "persona", False) for turn in (0, 2, 4, 6)]
    rows += [(0, 6, "line_to_line", str(turn), True) for turn in (0, 2, 4)]
    row = only_row(contradiction_rows(judgements_frame(rows), **HOW), "contradicting_lines")
    assert (row["value"], row["n"]) == (1.0, 4)


def test_components_hold_lines_and_facts_that_hang_together_by_hand():
    # turns 2 and 4 deny the home, turn 6 the job; turn 6 also contradicts turn 0: {2, 4, home} and {6, job, 0}
    said = pl.DataFrame(
        [
            {"conversation": 0, "turn": turn, "seat": "user", "persona": "grace", "node": "talk", "text": "x"}
            for turn in range(0, 8, 2)
        ]
    )
    rows = [(0, turn, "prompt_to_line", "persona", turn > 0) for turn in range(0, 8, 2)]
    rows += [
        (0, 2, "prompt_to_line", "home", True),
        (0, 4, "prompt_to_line", "home", True),
        (0, 6, "prompt_to_line", "job", True),
        (0, 6, "prompt_to_line", "pet", False),
        (0, 6, "line_to_line", "0", True),
        (0, 4, "line_to_line", "0", False),
    ]
    metrics = shape(said, judgements_frame(rows), **HOW)
    values = {name: (only_row(metrics, name)["value"], only_row(metrics, name)["n"]) for name in PER_CONVERSATION[2:5]}
    assert values == {
        "contradiction_components": (2.0, 4),
        "most_contradicted_fact": (2.0, 1),  # of one conversation
        "longest_contradiction": (6.0, 1),
    }


def test_shape_of_a_run_sums_components_and_takes_the_mean_of_the_maxima_of_conversations():
    said = pl.DataFrame(
        [
            {"conversation": c, "turn": turn, "seat": "user", "persona": who, "node": "talk", "text": "x"}
            for c, who in enumerate(["grace", "grace", "hiro"])
            for turn in (0, 2, 4)
        ]
    )
    rows = [(c, turn, "prompt_to_line", "persona", turn == 4) for c in range(3) for turn in (0, 2, 4)]
    rows += [(c, turn, "prompt_to_line", "home", True) for c in range(3) for turn in (2, 4) if c or turn == 4]
    rows += [(2, 0, "prompt_to_line", "pet", False)]
    rows += [(0, 4, "line_to_line", "2", True), (1, 4, "line_to_line", "0", True), (2, 4, "line_to_line", "0", False)]
    metrics = shape(said, judgements_frame(rows), **HOW)
    assert only_row(metrics, "contradiction_components")["value"] == 3.0
    # lines against the home: 1, 2, 2; longest: 2, 4, 0 turns
    most, longest = (only_row(metrics, name) for name in ("most_contradicted_fact", "longest_contradiction"))
    assert (most["value"], most["n"]) == (pytest.approx(5 / 3), 3)
    assert (longest["value"], longest["n"]) == (2.0, 3)
    interval = stats.ttest_1samp([1, 2, 2], 0).confidence_interval(0.95)
    assert (most["low"], most["high"]) == pytest.approx(tuple(interval))
    assert longest["low"] < 2 < longest["high"]
    assert [only_row(metrics, "longest_contradiction", "conversation", conversation=c)["value"] for c in range(3)] == [
        2.0,
        4.0,
        0.0,
    ]


def test_clean_dialogue_has_no_component_and_what_was_not_judged_is_nan():
    turns, judged, _ = planted()
    clean = judged.filter(pl.col("turn") != 6, pl.col("against") != "6")
    metrics = shape(turns, clean, **HOW)
    assert [only_row(metrics, name)["value"] for name in PER_CONVERSATION[2:5]] == [0.0, 0.0, 0.0]
    bare = shape(turns, judgements_frame([(0, 0, "prompt_to_line", "persona", True, "likelihood")]), **HOW)
    assert only_row(bare, "contradiction_components")["value"] == 1.0
    assert all(
        math.isnan(only_row(bare, name)["value"]) and only_row(bare, name)["n"] == 0 for name in PER_CONVERSATION[3:5]
    )
    empty = shape(turns, judged.clear(), **HOW)
    assert set(empty["n"]) == {0} and empty["value"].is_nan().all()
