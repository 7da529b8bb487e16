"""Figures of several arms that play the same personas: consistency, relative reduction of inconsistency, slope over
turns.

All figures are of the user's seat. The units of intervals are personas, each with all its lines in all arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import polars as pl

from metrics.entry import MISSING, estimate_text
from metrics.reductions import of_metric
from metrics.stats.intervals import Interval, clustered_slope, clustered_statistic, complement, ratio
from metrics.stats.shares import clustered_share
from metrics.studies.protocol import Control, PlayedRun, Trained, above, below
from metrics.tripwires import TRIPWIRES, Bound, fired
from scenarios.records import USER

LINES, ANSWERS = ("prompt_to_line", "ledger"), ("qa", "answer_reader")  # metric, judge
WORDS = ("qa", "answer_match")  # the same answers, by their words
# of a table: metrics of the run
FIRST, SHOWN = (
    "time_to_first_contradiction",
    ("distinct_2", "relevance", "perplexity_nats", "length"),
)
EMPTY = "empty answer"  # why a judge of answers could not score one
EVADES, LIES = "evades", "lies"  # scripts that a study's controls play
FOUND_OUT = 0.5  # least share of a liar's lines that are bad, and of answers that are read aright
NOTHING = 0.25  # of the inconsistency: removed by what should remove nothing, at most
# changes of a training whose study examines all arms alike, itself
NOT_EXAMINED = {
    "evaluation.conversations": 1,
    "evaluation.turns": 2,
    "evaluation.as_learnt": False,
    "evaluation.scenario": None,
    "tripwires": "log",
}
NOISY = {"relevance"}  # its bound is the reference's own value, which chance breaks every other time


def scored_rows(played: PlayedRun, metric: str, judge: str) -> pl.DataFrame:
    """One row per scored line or answer: conversation, persona, turn, against, and bad (1.0: contradicts; 0.0: does
    not).

    An empty answer counts as wrong. Answers after the first line are left out, since the seat has heard nothing by
    then.
    """
    rows = of_metric(played.judgements, metric).filter(
        pl.col("judge") == judge, pl.col("seat") == USER, pl.col("turn") > 0
    )
    rows = rows.with_columns(
        bad=pl.when(pl.col("unscored") == EMPTY).then(True).otherwise(pl.col("verdict")).cast(pl.Float64)
    )
    who = played.turns.filter(pl.col("seat") == USER).group_by("conversation").agg(persona=pl.col("persona").first())
    return (
        rows.drop_nulls("bad").join(who, on="conversation").select("conversation", "persona", "turn", "against", "bad")
    )


def unscored_share(played: PlayedRun, what: tuple[str, str]) -> Interval:
    """Share of lines or answers, 0 to 1, that the judge could not score."""
    rows = of_metric(played.judgements, what[0]).filter(
        pl.col("judge") == what[1], pl.col("seat") == USER, pl.col("turn") > 0
    )
    return without_interval(1 - len(scored_rows(played, *what)) / len(rows) if len(rows) else np.nan, len(rows))


def arm_consistency(played: PlayedRun, what: tuple[str, str]) -> Interval:
    """Consistency of an arm, 0 to 1: the share of scored lines or answers that do not contradict."""
    rows = scored_rows(played, *what)
    return clustered_share(1 - rows["bad"].to_numpy(), rows["persona"].to_numpy())


def by_turn(played: PlayedRun, what: tuple[str, str]) -> list[tuple[int, Interval]]:
    """(turn, inconsistency, 0 to 1) for each turn, in order."""
    parts = sorted(scored_rows(played, *what).partition_by("turn", as_dict=True).items())
    return [(turn, clustered_share(rows["bad"].to_numpy(), rows["persona"].to_numpy())) for (turn,), rows in parts]


def arm_drift(played: PlayedRun, what: tuple[str, str]) -> Interval:
    """Slope of inconsistency over turns, per turn."""
    rows = scored_rows(played, *what)
    turns, bad, people, conversations = (rows[name].to_numpy() for name in ("turn", "bad", "persona", "conversation"))
    return clustered_slope(turns, bad, people, centred=conversations)


def controls(before: PlayedRun, acted: Mapping[str, PlayedRun], nothing: Interval) -> dict[str, Control]:
    """The controls of a study that plays the scripts `acted`; `nothing` is the relative reduction under other seeds.

    A scripted speaker cannot be asked. Whether the answer reader works is therefore decided on the answers of the
    untrained speaker, each of which either names the fact's value or does not.
    """
    caught, people = broken_bounds(acted[EVADES], before), before.turns.filter(seat=USER)["persona"].n_unique()
    keys = ["conversation", "turn", "against"]
    both = scored_rows(before, *ANSWERS).join(scored_rows(before, *WORDS).select(*keys, wrong="bad"), on=keys)
    named, unnamed = (both.filter(pl.col("wrong") == wrong) for wrong in (0.0, 1.0))
    return {
        "other seeds remove nothing": Control(nothing, below(NOTHING)),
        "the reader accepts answers that name the value": Control(_share_bad(named, 0.0), above(FOUND_OUT)),
        "the reader rejects answers that do not": Control(_share_bad(unnamed), above(FOUND_OUT)),
        "an evasive policy does not win": Control(
            certain(len(caught), people), above(0), f"tripwires out of bounds: {', '.join(caught) or 'none'}"
        ),
        "a liar is found out": Control(_share_bad(scored_rows(acted[LIES], *LINES)), above(FOUND_OUT)),
    }


def _share_bad(rows: pl.DataFrame, bad: float = 1.0) -> Interval:
    """The share of `scored_rows` that are bad (or, with 0, are not); n counts persons."""
    share = clustered_share((rows["bad"] == bad).to_numpy(), rows["persona"].to_numpy())
    return replace(share, n=rows["persona"].n_unique())


def removed(
    before: PlayedRun, after: Sequence[PlayedRun], what: tuple[str, str], weights: Sequence[float] = ()
) -> Interval:
    """The relative reduction, at most 1: 1 - inconsistency / inconsistency before, summed over arms.

    `weights` are those of the arms (without: the mean). NaN where there was no inconsistency before, or there are no
    arms. n counts personas; runs with other seeds may draw others.
    """
    if not after:
        return Interval(np.nan, np.nan, np.nan, 0)
    sums = [_by_person(run, what) for run in (before, *after)]
    who = sorted(set().union(*sums))
    rows = np.array([[number for run in sums for number in run.get(person, (0, 0))] for person in who]).reshape(
        len(who), 2 * len(sums)
    )
    parts = np.array(weights or [1 / len(after)] * len(after))

    def left(totals: np.ndarray) -> np.ndarray:
        shares = ratio(totals[:, ::2], totals[:, 1::2])
        was = np.where(shares[:, :1] > 0, shares[:, :1], np.nan)
        return ratio(shares[:, 1:], was) @ parts[:, None]

    if weights:  # contrasts of arms, which may be of either sign
        return clustered_statistic(rows, lambda totals: parts.sum() - left(totals), n=len(who))
    return complement(clustered_statistic(rows, left, n=len(who), within=(0.0, np.inf)))


def over_run(played: PlayedRun, metric: str, judge: str | None = None) -> Interval:
    """The metric of the user's seat over the run, from the run's own metrics; NaN with n = 0 where it has none."""
    rows = played.metrics.filter(
        pl.col("metric") == metric,
        pl.col("seat") == USER,
        pl.col("level") == "run",
        pl.col("judge").is_null() if judge is None else pl.col("judge") == judge,
    )
    intervals = rows.select("value", "low", "high", "n").rows()
    return Interval(*intervals[0]) if intervals else Interval(np.nan, np.nan, np.nan, 0)


def broken_bounds(played: PlayedRun, reference: PlayedRun | None = None) -> list[str]:
    """The tripwires out of bounds relative to a reference, each as "name value".

    Those within noise are left out, and those that are out of bounds by at least as much in the reference.
    """
    values = [
        {name: interval.value for name in TRIPWIRES if (interval := over_run(run, name)).n}
        for run in (played, reference)
        if run
    ]
    before = {name: value for name, value, _ in fired(values[-1])} if reference else {}

    def no_worse(name: str, value: float, bound: Bound) -> bool:
        return name in before and (value <= before[name] if np.isfinite(bound.most) else value >= before[name])

    return [
        f"{name} {value:.2f}"
        for name, value, bound in fired(*values)
        if name not in NOISY and not no_worse(name, value, bound)
    ]


def best_of(played: Mapping[str, PlayedRun], names: Sequence[str], bare: str) -> str | None:
    """The arm with the most correct answers among those without a tripwire out of bounds; None where there is none."""
    right = {
        name: arm_consistency(played[name], ANSWERS).value
        for name in names
        if not broken_bounds(played[name], played[bare])
    }
    return max(right, key=lambda name: -1.0 if np.isnan(right[name]) else right[name], default=None)


def arm_figures(
    played: PlayedRun,
    gone: Mapping[tuple[str, str], Interval | None],
    tripped: int,
    trained: Trained | None,
    tried: Sequence[PlayedRun],
) -> dict[str, Interval]:
    """The figures of one arm, by column of the table.

    `gone` holds the relative reductions, by (metric, judge). The cost of the arm is that of `trained`, its training, or
    else that of `tried`, the runs of its search.
    """
    out = {
        "right answers": arm_consistency(played, ANSWERS),
        "consistent lines": arm_consistency(played, LINES),
    }
    out |= {
        f"{said} removed": share
        for said, what in (("wrong answers", ANSWERS), ("bad lines", LINES))
        if (share := gone[what]) is not None
    }
    out |= {
        "drift of lines per turn": arm_drift(played, LINES),
        "first bad line, median": over_run(played, FIRST, LINES[1]),
    }
    out |= {wire: over_run(played, wire) for wire in SHOWN} | {"tripwires out of bounds": without_interval(tripped)}
    columns = [trained.training["tokens_learnt"]] if trained else [run.turns["tokens"] for run in tried]
    tokens = sum(cast(int, column.sum() or 0) for column in columns)
    return out | {
        "tokens learnt or tried": without_interval(tokens),
        "seconds before": without_interval(trained.seconds if trained else seconds(tried)),
        "trained parameters": without_interval(trained.parameters if trained else 0),
    }


def seconds(played: Sequence[PlayedRun]) -> float:
    """The seconds that generating the lines of these runs took, summed."""
    return float(sum(run.turns["seconds"].sum() or 0.0 for run in played))


def certain(value: float, n: int) -> Interval:
    """An interval of width 0 at the value."""
    return Interval(float(value), float(value), float(value), n)


def share_text(interval: Interval) -> str:
    """`12% [3%, 20%]`, or "an unknown share" where the value is not finite."""
    text = estimate_text(interval.value, interval.low, interval.high, "{:.0%}".format)
    return "an unknown share" if text == MISSING else text


def without_interval(value: float, n: int = 0) -> Interval:
    """A value whose interval is not known (NaN)."""
    return Interval(float(value), np.nan, np.nan, n)


def _by_person(played: PlayedRun, what: tuple[str, str]) -> Mapping[str, tuple[float, int]]:
    rows = scored_rows(played, *what).group_by("persona").agg(total=pl.col("bad").sum(), count=pl.len())
    return {who: (total, count) for who, total, count in rows.iter_rows()}
