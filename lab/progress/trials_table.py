"""trials.parquet: the results of a sweep's trials as a frame, by pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lab.store.stored_frames import read_stored

if TYPE_CHECKING:
    from lab.progress.sweep import SweepProgress


FILE = "trials.parquet"
ENDS = {"": pl.Float64, ".low": pl.Float64, ".high": pl.Float64, ".n": pl.Int64}  # columns of a measure
FIRST = {
    "status": pl.String,
    "reason": pl.String,
    "run": pl.String,
    "lines": pl.Int64,
    "failed_conversations": pl.Int64,
    "steps": pl.Int64,
}
LAST = {  # which differ from one sweep of a file to the next
    "attempts": pl.Int64,
    "seconds": pl.Float64,
    "node": pl.String,
}
KINDS = FIRST | LAST


def trials_frame(progress: SweepProgress) -> pl.DataFrame:
    """One row per trial, in the order of the sweep.

    - `trial`, and the values of the axes under their keys (lists and mappings as JSON).
    - `status`: finished, stopped, failed, running, waiting, or again (to be repeated); `reason`.
    - `run`: its folder, relative to the sweep's; `lines`, `failed_conversations`, `steps` (of a training).
    - METRIC.JUDGE.SEAT with .low, .high and .n; of studies finding.assistant, and the verdict.
    - `attempts`, `seconds` and `node`, which differ between two sweeps of the same file.
    """
    trials = progress.trials
    axes = list(next(iter(trials.values())).values) if trials else []
    names = dict.fromkeys(_name(row) for seen in trials.values() for row in seen.metrics)
    columns: dict[str, pl.Series] = {"trial": pl.Series(list(trials), dtype=pl.String)}
    columns |= {axis: _axis([seen.values[axis] for seen in trials.values()]) for axis in axes}
    rows = [
        {
            "status": seen.status,
            "reason": seen.reason,
            "run": f"trials/{trial}",
            "lines": seen.counts.get("lines"),
            "failed_conversations": seen.counts.get("failed"),
            "steps": seen.counts.get("steps") or seen.step or None,
            "attempts": seen.attempts,
            "seconds": seen.seconds,
            "node": seen.node,
        }
        for trial, seen in trials.items()
    ]
    fixed = {key: pl.Series([row[key] for row in rows], dtype=KINDS[key]) for key in (*FIRST, *LAST)}
    measured = [{_name(row): row for row in seen.metrics} for seen in trials.values()]
    measures = {
        f"{name}{end}": pl.Series(
            [by_name.get(name, {}).get(end.removeprefix(".") or "value") for by_name in measured], dtype=kind
        )
        for name in names
        for end, kind in ENDS.items()
    }
    if any(seen.verdict for seen in trials.values()):
        measures["verdict"] = pl.Series([seen.verdict for seen in trials.values()], dtype=pl.String)
    return pl.DataFrame(columns | {key: fixed[key] for key in FIRST} | measures | {key: fixed[key] for key in LAST})


def read_trials(file: Path) -> pl.DataFrame:
    """The frame of a stored trials.parquet. Raises ValueError as `lab.store.stored_frames.read_stored` does."""
    table = read_stored(file, {"trial": pl.String, **KINDS})
    if table.columns[0] != "trial":
        raise ValueError(f"{file} begins with the column {table.columns[0]}; expected trial")
    ends = {name + end: kind for name in measures(table) for end, kind in ENDS.items()}
    for name in axes_of(table):
        if not (table[name].dtype.is_numeric() or table[name].dtype in (pl.String, pl.Boolean)):
            raise ValueError(f"{file}, column {name}: holds {table[name].dtype}; expected numbers, text or booleans")
    for name, kind in ends.items():
        if name not in table.columns or table[name].dtype != kind:
            raise ValueError(f"{file}, column {name}: expected {pl.Series(dtype=kind).dtype}")
    return table


def measures(table: pl.DataFrame) -> list[str]:
    """The names of the measures in trials.parquet, METRIC.JUDGE.SEAT."""
    return [
        name.removesuffix(".n")
        for name in table.columns
        if name.endswith(".n") and f"{name.removesuffix('.n')}.low" in table.columns
    ]


def axes_of(table: pl.DataFrame) -> list[str]:
    """The keys of the axes in trials.parquet."""
    columns = table.columns
    return columns[1 : columns.index("status")]


def is_of_seeds(axis: str) -> bool:
    """Whether the axis repeats a trial with other seeds."""
    return axis.rpartition(".")[2] == "seed"


def _name(row: Mapping) -> str:
    return ".".join(filter(None, (row["metric"], row["judge"], row["seat"])))


def _axis(values: Sequence[Any]) -> pl.Series:
    """The values unchanged where all are numbers, all texts or all booleans; otherwise each as JSON."""
    for kinds, kind in (((bool,), pl.Boolean), ((int,), pl.Int64), ((int, float), pl.Float64), ((str,), pl.String)):
        if all(isinstance(value, kinds) and (kind is pl.Boolean or not isinstance(value, bool)) for value in values):
            return pl.Series(values, dtype=kind, strict=False)
    return pl.Series([json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values], dtype=pl.String)
