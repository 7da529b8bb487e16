"""The main figures of a run as text, with one row per metric and judge and one cell per seat, for terminal and
report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import isnan

import polars as pl

from lab.reports.validity_text import is_valid, marked, not_valid, overstates, validities_of
from metrics import P_VALUE, UNSCORED
from metrics.catalogue import CONSISTENCIES, metric_figures, unscored_label
from metrics.entry import MISSING, Figure, estimate_text
from metrics.judges import NO_FACTS
from scenarios.records import SEATS

FEW = 20  # units, below which only large drifts are seen
FEW_UNITS = (
    "They are few: a drift of .01 a line is marked in about one of six runs of 6 conversations, in half of those of "
    "12 and in nine of ten of those of 24."
)
CELLS = (
    "Each cell is value [low, high] n. ▲ marks a drift above 0 whose p, after Holm over all drifts of the table, is "
    "below .05 (of tables without drift at most one in 20 has a mark), or a tripwire past its bound. ⚠ marks a "
    "consistency whose speaker trips a wire: it may be high because the speaker says little, repeats itself or recites "
    "its card."
)


@dataclass(frozen=True)
class HeadlineRow:
    """A row of the table.

    `cells` are by seat; `worse` holds the seats that drift (p < ALPHA after Holm over all drifts of the table), or
    whose tripwire is out of bounds. `valid` is False where the judge cannot tell contradictions from other lines in the
    run's personas.
    """

    group: str
    label: str
    judge: str
    cells: dict[str, str]
    worse: frozenset[str] = frozenset()
    valid: bool = True


def headline(metrics: pl.DataFrame, judgements: pl.DataFrame, manifest: Mapping | None = None) -> list[HeadlineRow]:
    """The rows over the run in the order of the catalogue, then other metrics under their names, then counts of
    unscored rows.

    A consistency with a value ends with ⚠ where a tripwire of the speaker is out of bounds. The share of judged pairs
    is shown where it is below 1. What a judge measured that is not valid here, by the `manifest`, says so, and no such
    consistency is shown as 1.00.
    """
    over_run = metrics.filter(pl.col("level") == "run", ~pl.col("metric").str.starts_with(UNSCORED))
    run = over_run.filter(~pl.col("metric").str.starts_with(P_VALUE))
    run = run.filter((pl.col("metric") != "judged_pairs") | (pl.col("value") < 1))
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for row in run.iter_rows(named=True):
        rows.setdefault((row["metric"], row["judge"] or MISSING), {})[row["seat"]] = row
    known = metric_figures(name for name, _ in rows)
    order = {name: index for index, name in enumerate(known)}
    keys = sorted(rows, key=lambda key: (order.get(key[0], len(order)), *key))
    tripped = trips(
        {(name, seat): row["value"] for (name, _), by_seat in rows.items() for seat, row in by_seat.items()}
    )
    bad = not_valid(validities_of(manifest or {}))
    valid = {(name, judge): is_valid(name, judge, bad) for name, judge in keys}
    drifting = _drifting(
        over_run, rows, {key for key in keys if valid[key] and key[0] in known and known[key[0]].drifts}
    )
    table = [
        _row(name, known.get(name), judge, rows[name, judge], tripped, drifting, valid[name, judge])
        for name, judge in keys
    ]
    return [*_without_facts(table, keys, judgements), *unscored_rows(judgements)]


def caution(turns: pl.DataFrame) -> str:
    """What the intervals of a run are computed over, and that this is little, where it is; "" without turns."""
    from metrics.units import fewest, units_text

    return f"{units_text(turns)} {FEW_UNITS}" if 0 < fewest(turns) < FEW else units_text(turns)


def _drifting(
    over_run: pl.DataFrame, rows: Mapping[tuple[str, str], Mapping[str, dict]], keys: Set[tuple[str, str]]
) -> set[tuple[str, str, str]]:
    """The (metric, judge, seat) of these keys that drift: above 0, with a p below ALPHA after Holm over all of them."""
    from metrics.stats.differences import ALPHA, holm

    tests = {
        (name.removeprefix(P_VALUE), judge or MISSING, seat): p
        for name, judge, seat, p in over_run.select("metric", "judge", "seat", "value").iter_rows()
        if name.startswith(P_VALUE) and (name.removeprefix(P_VALUE), judge or MISSING) in keys
    }
    values = {key: rows[key[:2]][key[2]]["value"] for key in tests if key[2] in rows[key[:2]]}
    adjusted = zip(tests, holm(list(tests.values())), strict=True)
    return {key for key, p in adjusted if p < ALPHA and values.get(key, 0.0) > 0}


def _without_facts(
    table: Sequence[HeadlineRow], keys: Sequence[tuple[str, str]], judgements: pl.DataFrame
) -> Iterator[HeadlineRow]:
    """The rows, with "no facts" as the Q&A of a seat whose personas have none."""
    asked = judgements.filter(pl.col("metric") == "qa")
    bare = asked.group_by("seat").agg(bare=(pl.col("unscored") == NO_FACTS).fill_null(False).all()).filter("bare")
    for row, (name, _) in zip(table, keys, strict=True):
        yield replace(row, cells=row.cells | dict.fromkeys(bare["seat"], "no facts")) if name == "qa" else row


def trips(values: dict[tuple[str, str], float]) -> dict[str, set[str]]:
    """The tripwires out of bounds, by seat. `values` are by (metric, seat)."""
    from metrics.tripwires import fired

    return {
        seat: {name for name, _, _ in fired({name: value for (name, of), value in values.items() if of == seat})}
        for seat in SEATS
    }


def interval_text(row: dict, number: Callable[[float], str]) -> str:
    """`value [low, high] n=…`; without brackets where there is no interval, and with `–` for a missing value."""
    value = row["value"]
    if not _has_value(row):
        return (
            f"{'not reached' if row['metric'] == 'time_to_first_contradiction' and row['n'] else MISSING} n={row['n']}"
        )
    return f"{estimate_text(value, row['low'], row['high'], number)} n={row['n']}"


def unscored_rows(judgements: pl.DataFrame) -> list[HeadlineRow]:
    """The numbers of judgements that could not be scored, `k of n` by metric, judge and seat, where k is above 0."""
    whole = judgements.filter((pl.col("metric") != "prompt_to_line") | (pl.col("against") == "persona"))
    counts = whole.group_by("metric", "judge", "seat").agg(missing=pl.col("unscored").is_not_null().sum(), n=pl.len())
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for row in counts.iter_rows(named=True):
        rows.setdefault((row["metric"], row["judge"]), {})[row["seat"]] = row
    return [
        HeadlineRow(
            "unscored",
            unscored_label(name),
            judge,
            {seat: f"{row['missing']} of {row['n']}" for seat, row in by_seat.items()},
        )
        for (name, judge), by_seat in sorted(rows.items())
        if any(row["missing"] for row in by_seat.values())
    ]


def _row(
    name: str,
    figure: Figure | None,
    judge: str,
    by_seat: dict[str, dict],
    tripped: dict[str, set[str]],
    drifting: Set[tuple[str, str, str]],
    valid: bool,
) -> HeadlineRow:
    figure = figure or Figure("other", name, lambda value: f"{value:.4g}")
    worse = frozenset(seat for seat in by_seat if (name, judge, seat) in drifting)
    worse |= {seat for seat in by_seat if name in tripped.get(seat, ())}
    by_seat = {
        seat: row | {"value": None} if _has_value(row) and overstates(name, row["value"], valid) else row
        for seat, row in by_seat.items()
    }
    cells = {seat: interval_text(by_seat[seat], figure.number) for seat in SEATS if seat in by_seat}
    if name in CONSISTENCIES:
        cells |= {seat: f"{cells[seat]} ⚠" for seat, row in by_seat.items() if tripped.get(seat) and _has_value(row)}
    if not valid:
        cells, worse = {seat: marked(text, valid) for seat, text in cells.items()}, frozenset()
    return HeadlineRow(figure.group, figure.label + bound(name), judge, cells, worse, valid)


def _has_value(row: dict) -> bool:
    return row["value"] is not None and not isnan(row["value"])


def bound(name: str) -> str:
    """The bound of a tripwire as text, ` (≤ 0.10)`; "" where it has none of its own."""
    from metrics.tripwires import BOUNDS

    text = str(BOUNDS[name]) if name in BOUNDS else ""
    return f" ({text})" if text else ""
