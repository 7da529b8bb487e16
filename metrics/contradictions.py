"""Which line contradicts what: a graph for people and plots, and its counts.

contradictions: (line, fact) pairs in which the line contradicts the persona's fact; a judge that names no fact counts
one a contradicting line. Per conversation and run, n = lines scored. contradicted_facts: distinct facts of
(conversation, seat) that some line contradicts, n = distinct facts that some line speaks of (NaN where none: the judge
cannot tell, or nobody spoke of any). Both are counts, 0 upwards, fewer is better; run intervals resample conversations.
Line-to-line contradictions are edges of the graph and are not counted here: one odd line contradicts as many lines as
came before it.

Of the graph, per conversation and run, fewer is better, 0 where nothing contradicts: contradiction_components: groups
of lines and facts that hang together by contradictions (weakly connected components); over the run their sum, n = lines
scored. Many contradictions in few components are one thing denied again and again. most_contradicted_fact:
contradictions of the fact that has most of them; over the run all conversations of one persona count together; n =
distinct facts spoken of, as above. longest_contradiction: turns between the two lines of the contradiction that spans
most; over the run the largest; n = pairs of lines scored (NaN where none). A largest value has an interval that never
reaches beyond it: read its low end only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import networkx
import numpy as np
import polars as pl

from metrics import NAN, metrics_frame, stacked
from metrics.reductions import Resampling, for_group, groups, interval_row, labelled
from metrics.stats.bootstrap import clustered_statistic

Key = tuple[int, int, str, str, str]  # conversation, turn, metric, judge, against
COMPONENTS, MOST, LONGEST = "contradiction_components", "most_contradicted_fact", "longest_contradiction"
PER_CONVERSATION = (
    "contradictions",
    "contradicted_facts",
    COMPONENTS,
    MOST,
    LONGEST,
)  # whose runs are no means of conversations


def graph(
    turns: pl.DataFrame, judgements: pl.DataFrame, spans: Mapping[Key, tuple[int, int]] | None = None
) -> networkx.MultiDiGraph:
    """Contradictions as edges from the line that contradicts to the fact or the earlier line that it contradicts.

    Nodes ("line", conversation, turn) carry seat, persona, node, text; ("fact", conversation, seat, id) carry seat,
    persona. A judge that names no fact points at the fact "persona". Edges carry metric, judge, p, verdict (True),
    turn, against_turn (None for a fact), span and quote (None where no span is known). Only what is part of a
    contradiction is in the graph.
    """
    network, spans = networkx.MultiDiGraph(), spans or {}
    rows = turns.select("conversation", "turn", "seat", "persona", "node", "text").to_dicts()
    said = {(line["conversation"], line["turn"]): line for line in rows}
    for judgement in contradicting(judgements).to_dicts():
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
            turn=turn,
            against_turn=earlier["turn"] if earlier else None,
            span=span,
            quote=line["text"][slice(*span)] if span else None,
        )
    return network


def contradicting(judgements: pl.DataFrame) -> pl.DataFrame:
    """Rows of lines (not of questions) that contradict, each contradiction once: against "persona" only where no fact
    is named.
    """
    rows = judgements.filter(pl.col("verdict"), pl.col("metric").is_in(["prompt_to_line", "line_to_line"]))
    named = (pl.col("metric") == "prompt_to_line") & (pl.col("against") != "persona")
    detailed = named.any().over("conversation", "turn", "seat", "judge")
    return rows.filter((pl.col("metric") == "line_to_line") | named | ~detailed)


def contradiction_rows(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Rows of both counts by conversation and run, for each judge and seat."""
    how: Resampling = {"confidence": confidence, "resamples": resamples, "seed": seed}
    parts = []
    rows = judgements.filter(pl.col("metric") == "prompt_to_line")
    for judge, seat, part in groups(rows):
        scored = part.filter(pl.col("verdict").is_not_null())
        lines = scored.filter(pl.col("against") == "persona").group_by("conversation").agg(n=pl.len().cast(pl.Int64))
        counted = contradicting(scored).group_by("conversation").agg(value=pl.len().cast(pl.Float64))
        counts = lines.join(counted, on="conversation", how="left").with_columns(pl.col("value").fill_null(0.0))
        facts = (
            scored.filter(pl.col("against") != "persona")
            .group_by("conversation", "against")
            .agg(pl.col("verdict").any())
        )
        by_fact = facts.group_by("conversation").agg(
            value=pl.col("verdict").sum().cast(pl.Float64), n=pl.len().cast(pl.Int64)
        )
        spoken = (
            lines.select("conversation")
            .join(by_fact, on="conversation", how="left")
            .with_columns(pl.col("value").fill_null(NAN), pl.col("n").fill_null(0))
        )
        parts += [
            _counts(counts, "contradictions", judge, seat, how),
            _counts(spoken, "contradicted_facts", judge, seat, how),
        ]
    return stacked(parts)


def shape(
    turns: pl.DataFrame, judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int
) -> pl.DataFrame:
    """Rows of the three measures of the graph by conversation and run, for each judge and seat."""
    how: Resampling = {"confidence": confidence, "resamples": resamples, "seed": seed}
    parts = []
    rows = judgements.filter(pl.col("metric").is_in(["prompt_to_line", "line_to_line"]))
    for judge, seat, part in groups(rows):
        scored = part.filter(pl.col("verdict").is_not_null())
        whole = pl.col("against") == "persona"
        lines, facts = (scored.filter(pl.col("metric") == "prompt_to_line", which) for which in (whole, ~whole))
        pairs = scored.filter(pl.col("metric") == "line_to_line")
        network = graph(turns, scored)
        parts += [
            _counts(_components(network, lines), COMPONENTS, judge, seat, how),
            _largest(*_by_fact(network, facts, turns), MOST, judge, seat, how),
            _largest(*_by_span(pairs), LONGEST, judge, seat, how),
        ]
    return stacked(parts)


def _components(network: networkx.MultiDiGraph, lines: pl.DataFrame) -> pl.DataFrame:
    """conversation, value (components: no edge leaves a conversation), n (lines scored)."""
    counted = Counter(next(iter(part))[1] for part in networkx.weakly_connected_components(network))
    sizes = lines.group_by("conversation").agg(n=pl.len().cast(pl.Int64))
    return sizes.with_columns(value=pl.Series([counted[c] for c in sizes["conversation"]], dtype=pl.Float64))


def _by_fact(
    network: networkx.MultiDiGraph, facts: pl.DataFrame, turns: pl.DataFrame
) -> tuple[pl.DataFrame, np.ndarray]:
    """conversation, value, n; and times contradicted, a row a conversation and a column a fact of a persona."""
    times = Counter((target[1], target[3]) for _, target in network.edges() if target[0] == "fact")
    spoken = facts.join(turns.select("conversation", "turn", "persona"), on=["conversation", "turn"])
    spoken = spoken.select("conversation", "persona", "against").unique().sort("conversation", "persona", "against")
    counts = [times[key] for key in spoken.select("conversation", "against").iter_rows()]
    spoken = spoken.with_columns(value=pl.Series(counts, dtype=pl.Float64))
    by_fact = (
        spoken.pivot(["persona", "against"], index="conversation", values="value")
        .sort("conversation")
        .drop("conversation")
    )
    return _most(spoken), by_fact.fill_null(0.0).to_numpy()


def _by_span(pairs: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """conversation, value, n; and which of the values in `np.unique` a conversation's is, one-hot."""
    span = pl.when(pl.col("verdict")).then(pl.col("turn") - pl.col("against").cast(pl.Int64)).otherwise(0)
    each = _most(pairs.with_columns(value=span.cast(pl.Float64)))
    values = each["value"].to_numpy()
    return each, (values[:, None] == np.unique(values)[None]).astype(float)


def _most(parts: pl.DataFrame) -> pl.DataFrame:
    return (
        parts.group_by("conversation").agg(value=pl.col("value").max(), n=pl.len().cast(pl.Int64)).sort("conversation")
    )


def _largest(
    each: pl.DataFrame, sums: np.ndarray, name: str, judge: str | None, seat: str, how: Resampling
) -> pl.DataFrame:
    """Rows of `each`, and of the largest over the run: of summed columns, or for LONGEST of the values that occur."""
    values = np.unique(each["value"].to_numpy())

    def largest(totals: np.ndarray) -> np.ndarray:  # (R, columns) -> (R, 1)
        return (np.where(totals > 0, values, 0.0) if name == LONGEST else totals).max(1, keepdims=True)

    over_run = clustered_statistic(sums, largest, n=int(each["n"].sum()), **for_group(how, name, judge, seat))
    return stacked(
        [
            labelled(each, name, judge, seat, "conversation"),
            metrics_frame([interval_row(over_run, name, judge, seat, "run")]),
        ]
    )


def _counts(counts: pl.DataFrame, name: str, judge: str | None, seat: str, how: Resampling) -> pl.DataFrame:
    """Rows of a frame (conversation, value, n) and of its sum over the run; conversations with n = 0 add nothing to the
    sum.
    """
    counts = counts.sort("conversation")
    known = counts.filter(pl.col("n") > 0)
    total = clustered_statistic(
        known.select("value").to_numpy().astype(float),
        lambda sums: np.asarray(sums),
        n=int(known["n"].sum()),
        **for_group(how, name, judge, seat),
    )
    return stacked(
        [
            labelled(counts, name, judge, seat, "conversation"),
            metrics_frame([interval_row(total, name, judge, seat, "run")]),
        ]
    )


def _line(network: networkx.MultiDiGraph, line: dict) -> tuple:
    node = ("line", line["conversation"], line["turn"])
    network.add_node(node, kind="line", **{key: line[key] for key in ("turn", "seat", "persona", "node", "text")})
    return node


def _fact(network: networkx.MultiDiGraph, line: dict, fact_id: str) -> tuple:
    node = ("fact", line["conversation"], line["seat"], fact_id)
    network.add_node(node, kind="fact", fact=fact_id, seat=line["seat"], persona=line["persona"])
    return node
