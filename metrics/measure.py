"""All metric rows of a run from its frames, by the entries of the metrics asked for (`metrics.catalogue`).

"line_to_line" includes the share of pairs that were judged, "drift" the survival rows. For prompt_to_line, line_to_line
and qa there is one more row per judge and seat, "unscored_<metric>": the share of rows that could not be scored.
The units of all intervals are those of `metrics.units`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from metrics import BESIDE, METRICS_SCHEMA, stacked
from metrics.catalogue import ENTRIES, MEASURES, METRICS, metric_entry
from metrics.entry import MetricContext, MetricEntry
from metrics.units import with_units
from scenarios import plugins
from scenarios.suggestions import nearest


def measure_run(
    turns: pl.DataFrame,
    judgements: pl.DataFrame,
    *,
    metrics: Sequence[str],
    window: int,
    confidence: float,
    cards: Mapping[tuple[int, str], str] | None = None,
    embed: Callable | None = None,
    logprobs: Callable | None = None,
    activations: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The metric rows (`metrics.METRICS_SCHEMA`): the lab's in the order of `metrics.catalogue.ENTRIES`, then those of
    installed packages in the order of `metrics`. Equal input gives equal rows.

    `activations` (conversation, turn, seat, value) are used by "activation"; `cards` (by conversation and seat),
    `embed` and `logprobs` by the tripwires. Rows whose input is missing are left out or NaN. Raises ValueError for an
    unknown metric, and for a package's metric that does not return metric rows.
    """
    judgements = with_units(judgements, turns)
    activations = None if activations is None else with_units(activations, turns)
    context = MetricContext(turns, judgements, window, {"confidence": confidence}, cards, embed, logprobs, activations)
    return stacked(_rows(entry, context) for entry in list(_entries(metrics)))


def _entries(metrics: Sequence[str]) -> Iterator[MetricEntry]:
    known = plugins.names(plugins.METRICS) if set(metrics) - METRICS.keys() else list(METRICS)
    for name in metrics:
        if name not in known:
            raise ValueError(f"metric {name!r} is unknown{nearest(name, known)}")
    yield from (entry for entry in ENTRIES if (entry.part_of or entry.name) in metrics)
    yield from (metric_entry(name) for name in metrics if name not in METRICS)


def _rows(entry: MetricEntry, context: MetricContext) -> pl.DataFrame:
    rows = entry.rows(context)
    if entry in ENTRIES:
        return rows
    if not isinstance(rows, pl.DataFrame) or dict(rows.schema) != METRICS_SCHEMA:
        got = dict(rows.schema) if isinstance(rows, pl.DataFrame) else f"{rows!r:.80}"
        raise ValueError(f"the metric {entry.name!r} gave {got}; expected a frame of metrics.METRICS_SCHEMA")
    if taken := sorted(name for name in set(rows["metric"]) if name in MEASURES or name.startswith(BESIDE)):
        raise ValueError(f"the metric {entry.name!r} gave rows of {taken[0]!r}, which is the lab's; expected others")
    return rows
