"""The response of measures to the axes of a sweep, and the interactions of axes, from its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from lab.progress.trials_table import FILE, axes_of, is_of_seeds, measures, read_trials
from lab.reports.training_conditions import Condition, TrainingResult, conditions
from lab.reports.validity_text import is_valid, not_valid, validities_of
from lab.store.frames import METRICS
from lab.store.run_store import SWEEP, read_manifest
from lab.store.stored_frames import read_stored
from metrics.catalogue import metric_figures
from metrics.contradictions import PER_CONVERSATION
from metrics.stats.effects import coded, interaction, response
from metrics.stats.intervals import Interval
from scenarios.jobs.sweep import Sweep
from scenarios.yaml_files import read_yaml, validate

# not finite in good trials: a mean of the others would be of bad ones alone
LEFT_OUT = (
    "judged_pairs",  # no measure of what was said
    "time_to_first_contradiction",
    "half_life",
)
BINS = 5  # of an axis with more numbers than MOST_LEVELS
MOST_LEVELS = 8


@dataclass(frozen=True)
class ResponseCurve:
    """One measure along one axis.

    `levels` are labels, `places` their numbers (None where the values are no numbers), `estimates` one per level, and
    `valid` says at each level whether the judge was valid in the personas of all its trials.
    """

    axis: str
    measure: tuple[str, str | None, str]  # metric, judge, seat
    levels: Sequence[str]
    places: Sequence[float] | None
    estimates: Sequence[Interval]
    valid: Sequence[bool]


@dataclass(frozen=True)
class AxisInteraction:
    """The interaction of two axes in one measure, with its interval (`metrics.stats.effects.interaction`); `valid` says
    whether the judge was valid in the personas of all trials.
    """

    axes: tuple[str, str]
    measure: tuple[str, str | None, str]
    effect: Interval
    valid: bool


@dataclass(frozen=True)
class Results:
    """The content of a sweep's folder, with the response curves and interactions of its trials, and what its trainings
    came to.
    """

    manifest: Mapping
    sweep: Sweep
    trials: pl.DataFrame
    curves: Sequence[ResponseCurve]
    interactions: Sequence[AxisInteraction]
    conditions: Sequence[Condition] = ()
    trained: Sequence[TrainingResult] = ()


def read_results(path: Path) -> Results:
    """The results of a sweep. Raises ValueError where the folder is no sweep, or no trial has ended."""
    manifest = read_manifest(path)
    sweep = validate(read_yaml(path / SWEEP), Sweep)
    if not (path / FILE).is_file():
        raise ValueError(f"{path} has no {FILE} yet; expected a sweep with at least one finished trial")
    trials = read_trials(path / FILE)
    if missing := [axis for axis in sweep.axis_names() if axis not in axes_of(trials)]:
        raise ValueError(f"{path / FILE} has no column {missing[0]}; expected one for each axis of {path / SWEEP}")
    place = place_of(sweep, path)
    rows = measured_rows(trials, place)
    interactions = axis_interactions(rows, sweep)
    return Results(manifest, sweep, trials, curves(rows, sweep), interactions, *conditions(trials, place))


def place_of(sweep: Sweep, path: Path) -> Path:
    """The folder to which the trials' folders are relative.

    Where the sweep's storage is no local path, it is a folder that does not exist.
    """
    if not sweep.storage:
        return path
    parts = urlsplit(sweep.storage)
    return (Path(parts.path) if parts.scheme in ("", "file") else Path("/nonexistent")) / path.resolve().name


def measured_rows(trials: pl.DataFrame, place: Path) -> pl.DataFrame:
    """One row per measure and conversation of each finished trial.

    Columns: the axes (prefixed by AXIS), metric, judge, seat, cluster, value, weight, and valid: whether the judge was
    valid in the personas of the trial. A measure without values by conversation has one row per trial.
    """
    parts, axes = [], axes_of(trials)
    for row in trials.filter(pl.col("status") == "finished").iter_rows(named=True):
        levels = [pl.lit(row[axis]).alias(AXIS + axis) for axis in axes]
        run = place / row["run"]
        manifest = read_manifest(run) if (run / "metrics.parquet").is_file() else {}
        invalid = not_valid(validities_of(manifest))
        fine, known = _by_conversation(run, manifest, invalid)
        if fine is not None:
            parts.append(fine.with_columns(*levels))
        run_level = []
        for name in measures(trials):
            metric, *judge, seat = name.split(".")
            measure, value = (metric, judge[0] if judge else None, seat), row[name]
            if measure not in known and value is not None and isfinite(value):
                valid = is_valid(metric, measure[1] or "", invalid)
                run_level.append(dict(zip(SCHEMA, (*measure, row["trial"], value, 1.0, valid), strict=True)))
        if run_level:
            parts.append(pl.DataFrame(run_level, schema=SCHEMA).with_columns(*levels))
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=SCHEMA)


AXIS = "axis "  # before an axis among the columns, since one may be called seat
SCHEMA = {
    "metric": pl.String,
    "judge": pl.String,
    "seat": pl.String,
    "cluster": pl.String,
    "value": pl.Float64,
    "weight": pl.Float64,
    "valid": pl.Boolean,
}


def _by_conversation(run: Path, manifest: Mapping, invalid: set[tuple[str, str]]) -> tuple[pl.DataFrame | None, set]:
    """The values of a trial by conversation, and the set of measures that have such values; None and an empty set where
    it has no manifest, since it was not measured.
    """
    if not manifest:
        return None, set()
    rows = read_stored(run / "metrics.parquet", METRICS)
    rows = rows.filter(
        pl.col("level") == "conversation",
        pl.col("n") > 0,
        pl.col("value").is_finite(),
    )
    rows = rows.filter(pl.col("metric").is_in(list(metric_figures(rows["metric"].unique()))))
    weight = pl.when(pl.col("metric").is_in(list(PER_CONVERSATION))).then(1.0).otherwise(pl.col("n").cast(pl.Float64))
    values = rows.select(
        "metric",
        "judge",
        "seat",
        cluster=pl.format("{}/{}", pl.lit(str(manifest.get("seed"))), "conversation"),
        value="value",
        weight=weight,
        valid=pl.Series(
            [
                is_valid(metric, judge or "", invalid)
                for metric, judge in zip(rows["metric"], rows["judge"], strict=True)
            ],
            dtype=pl.Boolean,
        ),
    )
    return values, set(values.select("metric", "judge", "seat").unique().iter_rows())


def curves(rows: pl.DataFrame, sweep: Sweep) -> list[ResponseCurve]:
    """One response curve per axis and measure."""
    along = []
    for axis in sweep.axis_names():
        for measure, part in _measured(rows):
            levels, places, at = _levels(part[AXIS + axis].to_list())
            by_level = response(part["value"], part["weight"], part["cluster"], at)
            seen = [bool(part["valid"].filter(pl.Series(at) == place).all()) for place in range(len(levels))]
            estimates = [by_level[place] for place in range(len(levels))]
            along.append(ResponseCurve(axis, measure, levels, places, estimates, seen))
    return along


def axis_interactions(rows: pl.DataFrame, sweep: Sweep) -> list[AxisInteraction]:
    """The interaction of each pair of axes in every measure, without axes of seeds."""
    kept_pairs = []
    for a, b in combinations([axis for axis in sweep.axis_names() if not is_of_seeds(axis)], 2):
        for measure, part in _measured(rows):
            codes = [coded(part[AXIS + axis].to_list(), sweep.is_logarithmic(axis)) for axis in (a, b)]
            kept = part.with_columns(u=pl.Series(codes[0], dtype=pl.Float64), v=pl.Series(codes[1], dtype=pl.Float64))
            kept = kept.drop_nulls(["u", "v"])
            effect = interaction(*(kept[name] for name in ("value", "weight", "cluster", "u", "v")))
            if effect.value == effect.value:
                kept_pairs.append(AxisInteraction((a, b), measure, effect, bool(kept["valid"].all())))
    return kept_pairs


def _measured(rows: pl.DataFrame):
    """(measure, rows) in the order of the headline."""
    order = {name: place for place, name in enumerate(metric_figures(rows["metric"].unique() if rows.height else ()))}
    parts = rows.partition_by("metric", "judge", "seat", as_dict=True, maintain_order=True) if rows.height else {}
    return sorted(
        ((key, part) for key, part in parts.items() if key[0] in order and key[0] not in LEFT_OUT),
        key=lambda item: (order[item[0][0]], str(item[0])),
    )


def _levels(values: Sequence[Any]) -> tuple[list[str], list[float] | None, list[int]]:
    """(labels of levels, their numbers or None, the level of each value); many numbers are grouped into BINS levels."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    distinct = sorted(set(values)) if numbers else list(dict.fromkeys(values))
    if not numbers or len(distinct) <= MOST_LEVELS:
        return (
            [str(value) for value in distinct],
            [float(value) for value in distinct] if numbers else None,
            [distinct.index(v) for v in values],
        )
    size = -(-len(distinct) // BINS)
    groups = [distinct[start : start + size] for start in range(0, len(distinct), size)]
    of = {value: place for place, group in enumerate(groups) for value in group}
    return (
        [f"{group[0]:.3g} to {group[-1]:.3g}" for group in groups],
        [sum(group) / len(group) for group in groups],
        [of[v] for v in values],
    )


def by_axis(measured: Sequence[ResponseCurve]) -> dict[str, list[ResponseCurve]]:
    """The curves by axis."""
    out: dict[str, list[ResponseCurve]] = {}
    for curve in measured:
        out.setdefault(curve.axis, []).append(curve)
    return out
