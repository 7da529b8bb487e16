"""The tables of an evaluation after a training, by arm and measure, compared with the base model."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from lab.reports.headline import bound, interval_text
from metrics.catalogue import EVALUATED, MEASURES
from metrics.entry import MISSING, estimate_text, share_format

# -- what an evaluation came to


@dataclass(frozen=True)
class EvaluationTable:
    """A table of evaluation.parquet; the cells are (text, whether it is a tripwire out of bounds)."""

    title: str
    header: tuple[str, ...]
    rows: list[list[tuple[str, bool]]]


def evaluation_tables(evaluation: pl.DataFrame) -> list[EvaluationTable]:
    """The tables for held-out personas and paraphrases, by scenario and seat.

    The first has the consistencies of each arm that were not rewarded, with the relative reduction; the second its
    tripwires.
    """
    tables = []
    for scenario, seat, part in held_out_groups(evaluation):
        rows = part.filter(pl.col("metric").is_in(list(EVALUATED)), pl.col("n") > 0, ~pl.col("rewarded"))
        cells = [
            [
                (EVALUATED[row["metric"]], False),
                (row["judge"], False),
                (row["arm"], False),
                (interval_text(row, share_format), False),
                (relative_reduction(row), False),
            ]
            for row in rows.sort("metric", "judge", maintain_order=True).iter_rows(named=True)
        ]
        tables.append(
            EvaluationTable(
                f"{scenario}, {seat}: held-out personas, paraphrased questions, other judges",
                ("measure", "judge", "arm", "consistency", "relative reduction of inconsistency"),
                cells,
            )
        )
        arms = list(dict.fromkeys(part["arm"]))
        wired = {
            name: {row["arm"]: row for row in part.filter(metric=name).iter_rows(named=True)}
            for name in MEASURES
            if MEASURES[name].group == "tripwires"
        }
        loud = {(arm, name) for arm, wires in tripped(part).items() for name, _, _ in wires}
        cells = [
            [
                (MEASURES[name].label + bound(name), False),
                *(
                    (interval_text(rows[arm], MEASURES[name].number), (arm, name) in loud)
                    if arm in rows
                    else (MISSING, False)
                    for arm in arms
                ),
            ]
            for name, rows in wired.items()
            if rows
        ]
        if cells:
            tables.append(EvaluationTable(f"{scenario}, {seat}: tripwires", ("wire", *arms), cells))
    return tables


def held_out_groups(evaluation: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame]]:
    """(scenario, seat, rows of evaluation.parquet with held-out personas)."""
    if evaluation.is_empty():
        return []
    parts = evaluation.filter(pl.col("held_out")).partition_by("scenario", "seat", as_dict=True, maintain_order=True)
    return [(scenario, seat, part) for (scenario, seat), part in parts.items()]


def arms_of(rows: pl.DataFrame) -> tuple[str, str]:
    """The names of the base model's arm and the trained one's, which come first among the rows of an evaluation; "" for
    one that is not there.
    """
    base, trained, *_ = [*rows["arm"].unique(maintain_order=True), "", ""]
    return base, trained


def tripped(part: pl.DataFrame) -> dict[str, list]:
    """The tripwires of each arm that are out of bounds relative to the first arm, which is the base model.

    The values are those of `metrics.tripwires.fired`.
    """
    from metrics.tripwires import fired

    values = {
        arm: dict(rows.select("metric", "value").iter_rows())
        for (arm,), rows in part.partition_by("arm", as_dict=True, maintain_order=True).items()
    }
    before, *_ = values
    return {arm: fired(wires, values[before] if arm != before else None) for arm, wires in values.items()}


def relative_reduction(row: dict) -> str:
    """The relative reduction of the base model's inconsistency: `77% [72%, 81%]`; "" where it is not defined."""
    text = estimate_text(row["reduction"], row["reduction_low"], row["reduction_high"], "{:.0%}".format)
    return "" if text == MISSING else text
