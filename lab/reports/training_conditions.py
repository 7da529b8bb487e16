"""What the trainings of a sweep came to, by condition: all trials that differ in their seed alone are one condition.

Interval and p of a relative reduction treat persons and seeds as crossed: both count as random
(`metrics.stats.intervals.crossed_interval`). A person whom a seed did not hold out adds nothing to that seed. With one
seed there is no interval, since nothing says how much seeds differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import polars as pl

from lab.progress.trials_table import axes_of, is_of_seeds
from lab.reports.evaluation_table import arms_of, tripped
from lab.store.frames import EVALUATED_PEOPLE, EVALUATION
from lab.store.stored_frames import read_steps, read_stored
from metrics.catalogue import EVALUATED, metric_figures
from metrics.entry import MISSING, estimate_text
from metrics.stats.differences import ALPHA, holm, inconsistency_left
from metrics.stats.intervals import Interval, crossed_interval

NOTE = (
    "A condition is all trials that differ in their seed alone. The table has the relative reduction of the base "
    "model's inconsistency, with held-out personas, paraphrased questions and judges that gave no reward. Intervals "
    "are 95%, over persons and seeds, both as random; with one seed, or where nothing varies, there is none. ▲ marks "
    "p < .05 after Holm's correction over the conditions of a measure in a scenario. Tokens are those that carried "
    "loss, a mean over trials. Tripwires are those out of bounds beside the base model, with the number of trials."
)


@dataclass(frozen=True)
class TrainingResult:
    """One measure of one condition in one scenario; `p` is after Holm, NaN where there is no interval."""

    condition: str  # values of the axes but for seeds, such as "variant=sft"
    scenario: str
    measure: tuple[str, str | None, str]  # metric, judge, seat
    before: float  # consistency, 0 to 1
    after: float
    reduction: Interval  # n counts seeds
    people: int
    p: float = nan


@dataclass(frozen=True)
class Condition:
    """The trials of one condition."""

    name: str
    seeds: int
    tokens: float  # that carried loss, a mean over trials
    seconds: float  # of playing and learning, a mean over trials
    wires: Mapping[str, Mapping[str, int]]  # by scenario: the trials in which a tripwire is out of bounds


def conditions(trials: pl.DataFrame, place: Path) -> tuple[list[Condition], list[TrainingResult]]:
    """The conditions of a sweep of trainings, and their results; empty where no trial is an evaluated training.

    `trials` is trials.parquet, and `place` the folder to which its runs are relative.
    """
    axes = [axis for axis in axes_of(trials) if not is_of_seeds(axis)]
    runs: dict[str, list[Path]] = {}
    for row in trials.filter(pl.col("status") == "finished").iter_rows(named=True):
        if (place / row["run"] / "evaluation_people.parquet").is_file():
            name = ", ".join(f"{axis}={row[axis]}" for axis in axes) or "all trials"
            runs.setdefault(name, []).append(place / row["run"])
    found = [result for name, folders in runs.items() for result in _results(name, folders)]
    return [_condition(name, folders) for name, folders in runs.items()], list(_corrected(found))


def _condition(name: str, folders: Sequence[Path]) -> Condition:
    steps = [read_steps(folder / "training.parquet") for folder in folders]
    found: set[tuple[str, str, int]] = set()
    for place, folder in enumerate(folders):
        evaluation = read_stored(folder / "evaluation.parquet", EVALUATION).filter(pl.col("held_out"))
        trained = arms_of(evaluation)[1]
        for (scenario, _), part in evaluation.partition_by("scenario", "seat", as_dict=True).items():
            found |= {(scenario, wire, place) for wire, *_ in tripped(part).get(trained, ())}
    wires: dict[str, Counter[str]] = {}
    for scenario, wire, _ in sorted(found):
        wires.setdefault(scenario, Counter())[wire] += 1
    return Condition(
        name,
        len(folders),
        _mean_total(steps, "tokens_learnt"),
        _mean_total(steps, "seconds_play") + _mean_total(steps, "seconds_learn"),
        wires,
    )


def _mean_total(steps: Sequence[pl.DataFrame], column: str) -> float:
    return float(np.mean([step[column].to_numpy().sum() for step in steps]))


def _results(name: str, folders: Sequence[Path]) -> Iterator[TrainingResult]:
    people = pl.concat(
        read_stored(folder / "evaluation_people.parquet", EVALUATED_PEOPLE)
        .filter(pl.col("held_out"), pl.col("metric").is_in(list(EVALUATED)))
        .with_columns(trial=pl.lit(place))
        for place, folder in enumerate(folders)
    )
    rewarded = read_stored(folders[0] / "evaluation.parquet", EVALUATION).filter("rewarded")
    people = people.join(rewarded, on=["metric", "judge", "seat"], how="anti", nulls_equal=True)
    base, trained = arms_of(people)
    parts = people.partition_by("scenario", "metric", "judge", "seat", as_dict=True, maintain_order=True)
    for (scenario, metric, judge, seat), part in parts.items():
        sums = _crossed(part.filter(arm=base), part.filter(arm=trained), len(folders))
        if sums.size:
            totals, reduction = sums.sum((0, 1)), crossed_interval(sums, _gone)
            if not reduction.error > 0:  # one seed, one person, or no variation at all: nothing is known of it
                reduction = replace(reduction, low=nan, high=nan)
            yield TrainingResult(
                name,
                scenario,
                (metric, judge, seat),
                totals[0] / totals[1],
                totals[2] / totals[3],
                reduction,
                sums.shape[1],
            )


def _crossed(before: pl.DataFrame, after: pl.DataFrame, trials: int) -> np.ndarray:
    """(trials, persons, 4): consistent and scored before, then after; zeros where a side has no row of a person."""
    both = before.join(after, on=["trial", "person"], suffix="_after").filter(
        pl.col("scored") > 0, pl.col("scored_after") > 0
    )
    names = both["person"].unique(maintain_order=True).to_list()
    sums = np.zeros((trials, len(names), 4))
    for row in both.iter_rows(named=True):
        cell = [row[key] for key in ("consistent", "scored", "consistent_after", "scored_after")]
        sums[row["trial"], names.index(row["person"])] = cell
    return sums[sums.any((1, 2))]


def _gone(sums: np.ndarray) -> float:
    """The relative reduction of inconsistency of (..., 4) sums; NaN where nothing was inconsistent before."""
    return 1 - float(inconsistency_left(sums.reshape(-1, 4).sum(0, keepdims=True))[0, 0])


def _corrected(found: Sequence[TrainingResult]) -> Iterator[TrainingResult]:
    """The results by scenario and measure, with p corrected over the conditions of each."""
    families: dict[tuple, list[TrainingResult]] = {}
    order = {name: place for place, name in enumerate(EVALUATED)}
    for result in sorted(
        found, key=lambda result: (result.scenario, order[result.measure[0]], result.measure[1] or "")
    ):
        families.setdefault((result.scenario, result.measure), []).append(result)
    for family in families.values():
        raw = [result.reduction.p for result in family]
        corrected = holm([1.0 if isnan(p) else p for p in raw])  # what is unknown is a test all the same
        for result, p, after_holm in zip(family, raw, corrected, strict=True):
            yield replace(result, p=nan if isnan(p) else after_holm)


def condition_rows(found: Sequence[TrainingResult]) -> tuple[list[str], list[list[str]]]:
    """The header and rows of the table of results."""
    rows = []
    for result in found:
        metric, judge, seat = result.measure
        gone, number = result.reduction, metric_figures([metric])[metric].number
        text = estimate_text(gone.value, gone.low, gone.high, "{:.0%}".format)
        rows.append(
            [
                result.scenario,
                EVALUATED[metric],
                judge or MISSING,
                seat,
                result.condition,
                f"{number(result.before)} → {number(result.after)}",
                text if text == MISSING else f"{text}{' ▲' * (result.p < ALPHA)}",
                f"{gone.n} × {result.people}",
            ]
        )
    return ["scenario", "measure", "judge", "seat", "condition", "before → after", "reduction", "seeds × persons"], rows


def cost_rows(of: Sequence[Condition]) -> tuple[list[str], list[list[str]]]:
    """The header and rows of the table of conditions: trials, tokens, time, and tripwires by scenario."""
    rows = [
        [
            condition.name,
            str(condition.seeds),
            f"{condition.tokens:,.0f}",
            f"{condition.seconds / 60:.1f}",
            "; ".join(
                f"{scenario}: {', '.join(f'{wire} {count}' for wire, count in wires.items())}"
                for scenario, wires in condition.wires.items()
                if wires
            )
            or "none",
        ]
        for condition in of
    ]
    return ["condition", "trials", "tokens learnt", "minutes of training", "tripwires"], rows
