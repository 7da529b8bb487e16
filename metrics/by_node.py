"""Inconsistency and coverage by node of the scenario graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import polars as pl


def drift_by_node(turns: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """Columns node, seat, judge, inconsistency (share of scored lines at the node that contradict the persona, 0 to 1),
    n; sorted by node and seat.
    """
    rows = judgements.filter(
        pl.col("metric") == "prompt_to_line", pl.col("against") == "persona", pl.col("verdict").is_not_null()
    )
    rows = rows.join(turns.select("conversation", "turn", "node"), on=["conversation", "turn"])
    return (
        rows.group_by("node", "seat", "judge")
        .agg(inconsistency=pl.col("verdict").mean(), n=pl.len().cast(pl.Int64))
        .sort("node", "seat", "judge")
    )


def coverage(
    turns: pl.DataFrame, nodes: Iterable[str], edges: Iterable[Sequence[str]]
) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """The number of lines at each declared node, and how often each declared edge was taken; 0 for those never
    reached.
    """
    visits = Counter(turns["node"].to_list())
    walks = turns.sort("conversation", "turn").group_by("conversation", maintain_order=True).agg("node")["node"]
    steps = Counter(step for walk in walks.to_list() for step in pairwise(walk))
    declared = dict.fromkeys((edge[0], edge[1]) for edge in edges)
    return Counter({node: visits[node] for node in nodes}), Counter({edge: steps[edge] for edge in declared})
