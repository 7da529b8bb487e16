"""Which line contradicts what: a graph for readers and plots, and counts of it.

All measures are at least 0, and fewer is better. They are given by conversation and over the run: counts as the sum
over conversations, the two maxima as the mean of the conversations' maxima. (The maximum over a run grows with the
number of conversations, and no interval of it means anything.)

- `contradicting_lines`: lines that contradict their persona or an earlier line of their speaker, each counted once; a
  line that returns to the persona is none of them (see `metrics.conflicts`). n = scored lines.
- `contradicted_facts`: distinct facts of (conversation, seat) that some line contradicts. n = distinct facts that some
  line mentions (NaN where there are none: no line mentions a fact, or the judge names none).
- `suspects`: pairs (line, fact) that the judge leaves open, with p_inconsistent of at least 1/2 and verdict False: the
  ledger's values that no slot lists. They are in no other measure. n = scored lines.
- `contradiction_components`: groups of lines and facts that contradictions connect (weakly connected components of the
  graph); over the run, their sum. n = scored lines. Many contradictions in few components repeat one contradiction.
- `most_contradicted_fact`: number of lines that contradict the fact that most lines of the conversation contradict.
  n = distinct facts that some line mentions, as above; over the run, conversations with such a fact.
- `longest_contradiction`: turns between the two lines of the longest contradiction of the conversation, returns
  included. n = scored pairs of lines (NaN where there are none); over the run, conversations with such a pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import networkx
import numpy as np
import polars as pl

from metrics import NAN, metrics_frame, stacked
from metrics.conflicts import DOUBT, PERSONA, marks_of_lines
from metrics.judges import LINES
from metrics.reductions import groups, interval_row, labelled
from metrics.stats.intervals import Interval, clustered_mean
from metrics.stats.shares import share_of_counts

Key = tuple[int, int, str, str, str]  # conversation, turn, metric, judge, against
LINES_AT_FAULT = "contradicting_lines"
COMPONENTS, MOST, LONGEST = "contradiction_components", "most_contradicted_fact", "longest_contradiction"
# whose runs are no means of conversations
PER_CONVERSATION = (
    LINES_AT_FAULT,
    "contradicted_facts",
    COMPONENTS,
    MOST,
    LONGEST,
    "suspects",
)


def graph(
    turns: pl.DataFrame, judgements: pl.DataFrame, spans: Mapping[Key, tuple[int, int]] | None = None
) -> networkx.MultiDiGraph:
    """A directed graph with one edge per contradiction, from the line that contradicts to the fact or line
    contradicted.

    Nodes are ("line", conversation, turn) with seat, persona, node and text, and ("fact", conversation, seat, id) with
    seat and persona. Where a judge names no fact, the edge ends at the fact "persona". Edges carry metric, judge, p (0
    to 1), verdict (True), returns (whether the line returns to its persona by it), turn, against_turn (None for a
    fact), span and quote (None where no span is known). Lines and facts that are part of no contradiction are not in
    the graph. Raises ValueError where a judgement's line is not in `turns`.
    """
    network, spans = networkx.MultiDiGraph(), spans or {}
    found = contradicting(judgements)
    pairs = found.filter(metric="line_to_line").select("conversation", turn=pl.col("against").cast(pl.Int64))
    places = pl.concat([found.select("conversation", "turn"), pairs], how="vertical_relaxed").cast(
        {name: turns.schema[name] for name in ("conversation", "turn")}
    )
    lines = turns.select("conversation", "turn", "seat", "persona", "node", "text")
    said = {
        (line["conversation"], line["turn"]): line
        for line in lines.join(places, on=["conversation", "turn"], how="semi").iter_rows(named=True)
    }
    for judgement in found.iter_rows(named=True):
        conversation, turn, metric, against = (judgement[key] for key in ("conversation", "turn", "metric", "against"))
        line = said.get((conversation, turn))
        if line is None:
            raise ValueError(
                f"judgement of conversation {conversation}, turn {turn}: expected a line of that turn among the turns"
            )
        source, earlier = (
            _line(network, line),
            said.get((conversation, int(against))) if metric == "line_to_line" else None,
        )
        target = _line(network, earlier) if earlier else _fact(network, line, against)
        span = spans.get((conversation, turn, metric, judgement["judge"], against))
        network.add_edge(
            source,
            target,
            metric=metric,
            judge=judgement["judge"],
            p=judgement["p_inconsistent"],
            verdict=True,
            returns=judgement["returns"],
            turn=turn,
            against_turn=earlier["turn"] if earlier else None,
            span=span,
            quote=line["text"][slice(*span)] if span else None,
        )
    return network


def contradicting(judgements: pl.DataFrame) -> pl.DataFrame:
    """The rows of lines (not of answers) with verdict True, where each contradiction occurs once, with a column
    `returns`: whether the line returns to its persona by it.

    A row against "persona" is kept only where the judge names no fact for that line.
    """
    rows = [{**row, "returns": returns} for marks in marks_of_lines(judgements).values() for row, returns in marks]
    return pl.DataFrame(rows, schema={**judgements.schema, "returns": pl.Boolean})


def contradiction_rows(judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Rows of the lines and facts that are counted, by conversation and over the run, for each judge and seat."""
    parts = []
    rows = judgements.filter(pl.col("metric").is_in(LINES))
    for judge, seat, part in groups(rows):
        scored = part.filter(pl.col("verdict").is_not_null())
        lines = _scored_lines(scored)
        at_fault = contradicting(scored).filter(~pl.col("returns")).unique(["conversation", "turn"])
        about_facts = scored.filter(pl.col("metric") == "prompt_to_line", pl.col("against") != PERSONA)
        left_open = about_facts.filter(~pl.col("verdict"), pl.col("p_inconsistent") >= DOUBT)
        facts = about_facts.group_by("conversation", "against").agg(pl.col("verdict").any())
        by_fact = facts.group_by("conversation").agg(
            value=pl.col("verdict").sum().cast(pl.Float64), n=pl.len().cast(pl.Int64)
        )
        spoken = (
            lines.select("conversation")
            .join(by_fact, on="conversation", how="left")
            .with_columns(pl.col("value").fill_null(NAN), pl.col("n").fill_null(0))
        )
        parts += [
            _counts(_rows_in(lines, at_fault), LINES_AT_FAULT, judge, seat, confidence),
            _counts(spoken, "contradicted_facts", judge, seat, confidence),
            _counts(_rows_in(lines, left_open), "suspects", judge, seat, confidence),
        ]
    return stacked(parts)


def shape(turns: pl.DataFrame, judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Rows of the three measures of the graph by conversation and over the run, for each judge and seat."""
    parts = []
    rows = judgements.filter(pl.col("metric").is_in(LINES))
    for judge, seat, part in groups(rows):
        scored = part.filter(pl.col("verdict").is_not_null())
        facts = scored.filter(pl.col("metric") == "prompt_to_line", pl.col("against") != PERSONA)
        pairs = scored.filter(pl.col("metric") == "line_to_line")
        network = graph(turns, scored)
        parts += [
            _counts(_components(network, _scored_lines(scored)), COMPONENTS, judge, seat, confidence),
            _maxima(_by_fact(network, facts), MOST, judge, seat, confidence),
            _maxima(_by_span(pairs), LONGEST, judge, seat, confidence),
        ]
    return stacked(parts)


def _scored_lines(scored: pl.DataFrame) -> pl.DataFrame:
    """Columns conversation and n, the number of lines with a verdict on the whole persona or on a pair."""
    whole = (pl.col("metric") == "line_to_line") | (pl.col("against") == PERSONA)
    lines = scored.filter(whole).unique(["conversation", "turn"])
    return lines.group_by("conversation").agg(n=pl.len().cast(pl.Int64))


def _rows_in(lines: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The conversations of `lines` with their n, and as value the number of `rows` in each, 0 where there is none."""
    counted = rows.group_by("conversation").agg(value=pl.len().cast(pl.Float64))
    return lines.join(counted, on="conversation", how="left").with_columns(pl.col("value").fill_null(0.0))


def _components(network: networkx.MultiDiGraph, sizes: pl.DataFrame) -> pl.DataFrame:
    """Columns conversation, value (components, none of which spans two conversations) and n (scored lines)."""
    counted = Counter(next(iter(part))[1] for part in networkx.weakly_connected_components(network))
    return sizes.with_columns(value=pl.Series([counted[c] for c in sizes["conversation"]], dtype=pl.Float64))


def _by_fact(network: networkx.MultiDiGraph, facts: pl.DataFrame) -> pl.DataFrame:
    """Columns conversation, against and value, the contradictions of each fact that some line mentions."""
    times = Counter((target[1], target[3]) for _, target in network.edges() if target[0] == "fact")
    spoken = facts.select("conversation", "against").unique()
    return spoken.with_columns(value=pl.Series([times[key] for key in spoken.iter_rows()], dtype=pl.Float64))


def _by_span(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs of lines with the column value, the turns between two lines that disagree, else 0."""
    span = pl.when(pl.col("verdict")).then(pl.col("turn") - pl.col("against").cast(pl.Int64)).otherwise(0)
    return pairs.with_columns(value=span.cast(pl.Float64))


def _maxima(parts: pl.DataFrame, name: str, judge: str | None, seat: str, confidence: float) -> pl.DataFrame:
    """The rows of the largest value of each conversation, and of the mean of these over the run.

    `parts` has the columns conversation and value.
    """
    each = (
        parts.group_by("conversation").agg(value=pl.col("value").max(), n=pl.len().cast(pl.Int64)).sort("conversation")
    )
    mean = clustered_mean(each["value"].to_numpy(), each["conversation"].to_numpy(), confidence=confidence)
    mean = replace(mean, low=float(np.maximum(0.0, mean.low)))
    return stacked(
        [
            labelled(each, name, judge, seat, "conversation"),
            metrics_frame([interval_row(mean, name, judge, seat, "run")]),
        ]
    )


def _counts(counts: pl.DataFrame, name: str, judge: str | None, seat: str, confidence: float) -> pl.DataFrame:
    """The rows of a frame (conversation, value, n) and of the sum over the run; conversations with n = 0 add
    nothing.
    """
    counts = counts.sort("conversation")
    known = counts.filter(pl.col("n") > 0)
    total = _total(known["value"].to_numpy().astype(float), known["n"].to_numpy().astype(float), confidence)
    return stacked(
        [
            labelled(counts, name, judge, seat, "conversation"),
            metrics_frame([interval_row(total, name, judge, seat, "run")]),
        ]
    )


def _total(values: np.ndarray, rows: np.ndarray, confidence: float) -> Interval:
    """The sum of the values, at least 0; n counts the rows. Its interval is that of the share of the rows, where no
    conversation has more values than rows, and otherwise that of the mean over conversations.
    """
    if (values <= rows).all():
        interval, scale = share_of_counts(values, rows, confidence=confidence), rows.sum()
    else:
        interval, scale = clustered_mean(values, np.arange(len(values)), confidence=confidence), len(values)
    low, high = float(np.maximum(0.0, interval.low * scale)), interval.high * scale
    return Interval(float(values.sum()) if len(values) else NAN, low, high, int(rows.sum()))


def _line(network: networkx.MultiDiGraph, line: dict) -> tuple:
    node = ("line", line["conversation"], line["turn"])
    network.add_node(node, kind="line", **{key: line[key] for key in ("turn", "seat", "persona", "node", "text")})
    return node


def _fact(network: networkx.MultiDiGraph, line: dict, fact_id: str) -> tuple:
    node = ("fact", line["conversation"], line["seat"], fact_id)
    network.add_node(node, kind="fact", fact=fact_id, seat=line["seat"], persona=line["persona"])
    return node
