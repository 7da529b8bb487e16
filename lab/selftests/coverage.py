"""Statistics tested by simulation: `python -m lab.selftest --coverage`.

- How often 95% intervals contain the truth, by figure, kind of lines and number of conversations.
- How often a run's table shows a drift (▲), without any drift and with one that is planted.
- How often the verdict on a claim is wrong, and how often three studies judge planted respondents rightly.

Lines of a conversation are 0s and 1s. Each conversation has a probability of its own, expit(logit(rate) + u) with u
normal; a sticky line repeats the one before with probability STAY. Both seats are drawn alike and apart. Figures are
computed as for a run: from rows by `metrics.stats`, and for tables from frames by `metrics.drift`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from scipy.special import expit, logit

from lab.store.output import say
from metrics import METRICS_SCHEMA
from metrics.catalogue import MEASURES
from metrics.drift import drift_rows
from metrics.stats.differences import paired
from metrics.stats.intervals import Interval, clustered_mean, clustered_slope, ratio
from metrics.stats.shares import clustered_share
from scenarios.records import SEATS, derive_seed

CONVERSATIONS = (6, 12, 24, 50)
LINES = 20  # of a seat
STAY = 0.5
WORDS = 0.25  # standard deviation of the log of words a line, between conversations
DRIFT = 0.01  # a line, planted in tables
WINDOW = 3  # own lines, of local drift
EVERY = 4  # lines from one round of questions to the next
QUESTIONS = 4  # of a round
CLAIMED = 0.95


@dataclass(frozen=True)
class Kind:
    """A kind of lines: the rate of 1s in the middle conversation, the standard deviation of u, whether lines stick, and
    the trend of the probability a line.
    """

    name: str
    rate: float
    spread: float
    sticky: bool
    trend: float = 0.0


KINDS = (
    Kind("rare, independent", 0.03, 0.0, False),
    Kind("rare, sticky, unlike conversations", 0.03, 1.0, True),
    Kind("common, independent", 0.3, 0.0, False),
    Kind("common, sticky, unlike conversations", 0.3, 1.0, True),
    Kind("common, sticky, with a trend", 0.3, 0.5, True, 0.004),
)


def draw(kind: Kind, conversations: int, lines: int, rng: np.random.Generator, u: np.ndarray | None = None):
    """Lines (conversations, lines) of 0.0 and 1.0; `u` (conversations,) is drawn where it is not given."""
    u = rng.normal(0, kind.spread, conversations) if u is None else u
    p = np.clip(expit(logit(kind.rate) + u)[:, None] + kind.trend * _places(lines), 0, 1)
    y = (rng.random((conversations, lines)) < p).astype(float)
    if kind.sticky:
        stays = rng.random((conversations, lines)) < STAY
        for t in range(1, lines):
            y[:, t] = np.where(stays[:, t], y[:, t - 1], y[:, t])
    return y


@cache
def expected(kind: Kind, lines: int) -> np.ndarray:
    """The probability of a 1 at each line, (lines,), over all conversations."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(99)
    p = np.clip(expit(logit(kind.rate) + kind.spread * nodes)[:, None] + kind.trend * _places(lines), 0, 1)
    mean = weights @ p / weights.sum()
    for t in range(1, lines if kind.sticky else 0):
        mean[t] = STAY * mean[t - 1] + (1 - STAY) * mean[t]
    return mean


def _places(lines: int) -> np.ndarray:
    return np.arange(lines) - (lines - 1) / 2


def _slope(y: np.ndarray, x: np.ndarray) -> float:
    return float(((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum())


def _figures(kind: Kind, conversations: int, rng: np.random.Generator) -> Iterator[tuple[str, Interval, float]]:
    """(figure, interval, truth) of one simulated run."""
    lines = np.arange(LINES)
    u = rng.normal(0, kind.spread, conversations)
    y, other = (draw(kind, conversations, LINES, rng, u) for _ in range(2))
    truth, at, who = expected(kind, LINES), np.tile(lines, conversations), np.repeat(np.arange(conversations), LINES)
    yield "share of lines", clustered_share(y.ravel(), who), float(truth.mean())
    yield "slope", clustered_slope(at, y.ravel(), who), _slope(truth, lines)
    outer = (3 * lines < LINES) | (3 * lines >= 2 * LINES)
    late = (3 * lines >= 2 * LINES).astype(float)[outer]
    rows = np.tile(outer, conversations)
    thirds = clustered_slope(np.tile(late, conversations), y[:, outer].ravel(), who[rows])
    yield "last − first third", thirds, _slope(truth[outer], late)
    first, second = (np.column_stack([side.sum(1), np.full(conversations, LINES)]) for side in (y, other))
    change = paired(first, second, lambda s: ratio(s[:, :1], s[:, 1:]), confidence=CLAIMED)
    yield "paired difference of shares", Interval(change.value, change.low, change.high, conversations), 0.0
    words = rng.lognormal(2.0, 0.5, (conversations, LINES)) * rng.lognormal(0, WORDS, conversations)[:, None]
    mean = float(np.exp(2.0 + 0.5**2 / 2 + WORDS**2 / 2))
    yield "mean of words", clustered_mean(words.ravel(), who), mean


def coverage_rows(sims: int, seed: int) -> list[dict]:
    """One row per figure, kind of lines and number of conversations: `covered`, the share of `sims` 95% intervals that
    contain the truth, and `width`, their mean width. An interval that is not known does not cover.
    """
    rows = []
    for kind in KINDS:
        for conversations in CONVERSATIONS:
            rng = np.random.default_rng(derive_seed(seed, "coverage", kind.name, conversations))
            covered: dict[str, list[tuple[bool, float]]] = {}
            for _ in range(sims):
                for name, interval, truth in _figures(kind, conversations, rng):
                    inside = interval.low - 1e-12 <= truth <= interval.high + 1e-12
                    covered.setdefault(name, []).append((inside, interval.high - interval.low))
            for name, found in covered.items():
                hits, widths = np.array(found).T
                about = {"figure": name, "lines": kind.name, "conversations": conversations, "sims": sims}
                rows.append(about | {"covered": float(hits.mean()), "width": float(np.nanmean(widths))})
    return rows


def table_rows(sims: int, seed: int) -> list[dict]:
    """One row per number of conversations and planted drift: `marked`, the share of `sims` tables with a ▲ on any
    drift.
    """
    rows = []
    for conversations in CONVERSATIONS[:3]:
        for trend in (0.0, DRIFT):
            rng = np.random.default_rng(derive_seed(seed, "tables", conversations, trend))
            kind = Kind("", 0.2, 0.5, True, trend)
            marked = sum(_marked(kind, conversations, rng) for _ in range(sims))
            rows.append({"conversations": conversations, "drift": trend, "marked": marked / sims, "sims": sims})
    return rows


def _marked(kind: Kind, conversations: int, rng: np.random.Generator) -> bool:
    from lab.reports.headline import headline

    turns, judgements = _frames(kind, conversations, rng)
    metrics = drift_rows(turns, judgements, window=WINDOW, confidence=CLAIMED)
    drifts = {figure.label for name, figure in MEASURES.items() if figure.drifts}
    return any(row.worse and row.label in drifts for row in headline(metrics.select(list(METRICS_SCHEMA)), judgements))


def _frames(kind: Kind, conversations: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turns and judgements of a run: both seats are judged against the persona, against their last WINDOW lines, and
    asked QUESTIONS every EVERY lines.
    """
    own, parts = np.arange(LINES), []
    for seat, turn in zip(SEATS, (2 * own, 2 * own + 1), strict=True):
        said = draw(kind, conversations, LINES, rng)
        parts.append(_judged(seat, "prompt_to_line", np.broadcast_to(turn, said.shape), "persona", said))
        for back in range(1, WINDOW + 1):
            near = draw(kind, conversations, LINES, rng)[:, back:]
            earlier = [str(number) for number in np.broadcast_to(turn[:-back], near.shape).ravel()]
            parts.append(_judged(seat, "line_to_line", np.broadcast_to(turn[back:], near.shape), earlier, near))
        for question in range(QUESTIONS):
            wrong = draw(kind, conversations, LINES, rng)[:, ::EVERY]
            parts.append(_judged(seat, "qa", np.broadcast_to(turn[::EVERY], wrong.shape), f"fact {question}", wrong))
    lines = parts[0], parts[1 + WINDOW + QUESTIONS]
    turns = pl.concat(lines).select("conversation", "turn", "seat", persona=pl.col("conversation").cast(pl.String))
    return turns, pl.concat(parts)


def _judged(seat: str, metric: str, turns: np.ndarray, against: str | list[str], bad: np.ndarray) -> pl.DataFrame:
    """Rows of judgements from arrays (conversations, rows)."""
    frame = pl.DataFrame(
        {
            "conversation": np.repeat(np.arange(len(bad)), bad.shape[1]),
            "turn": turns.ravel(),
            "verdict": bad.ravel() > 0,
        }
    )
    named = pl.lit(against) if isinstance(against, str) else pl.Series("against", against)
    return frame.with_columns(
        named.alias("against"),
        seat=pl.lit(seat),
        metric=pl.lit(metric),
        judge=pl.lit("drawn"),
        p_inconsistent=pl.col("verdict").cast(pl.Float64),
        unscored=pl.lit(None, dtype=pl.String),
    )


def measured(sims: int, seed: int) -> dict[str, list[dict]]:
    """All tables by name, from `sims` simulations of each row; of tables and studies a fifth."""
    from lab.selftests import study_figures, verdict_figures

    fewer = max(10, sims // 5)
    return {
        "coverage": coverage_rows(sims, seed),
        "tables": table_rows(fewer, seed),
        "verdicts": verdict_figures.rows(sims, seed),
        "studies": study_figures.rows(fewer, seed),
    }


def report(found: dict[str, list[dict]]) -> str:
    """The tables as text."""
    from lab.selftests.tables import columns

    wide = [("figure", "lines", *(f"{c} conversations" for c in CONVERSATIONS))]
    cells: dict[tuple[str, str], list[str]] = {}
    for row in found["coverage"]:
        cells.setdefault((row["figure"], row["lines"]), []).append(f"{row['covered']:.3f}")
    sims = found["coverage"][0]["sims"]
    marks: list[tuple[str, ...]] = [
        ("conversations", f"no drift: ▲ (at most {1 - CLAIMED:.2f})", f"drift of {DRIFT} a line: ▲")
    ]
    for c in CONVERSATIONS[:3]:
        shares = [row["marked"] for row in found["tables"] if row["conversations"] == c]
        marks.append((str(c), *(f"{share:.3f}" for share in shares)))
    parts = [
        f"Coverage of 95% intervals, {sims} simulated runs each, {LINES} lines a seat\n"
        + columns([*wide, *((*key, *shown) for key, shown in cells.items())]),
        f"Tables with a mark of drift, {found['tables'][0]['sims']} simulated runs each\n" + columns(marks),
        *(f"{title}\n{columns(_plain(found[name]))}" for name, title in TITLES.items()),
    ]
    return "\n\n".join(parts)


TITLES = {
    "verdicts": "Wrong verdicts on a claim that is neither true nor excluded (at most .05)",
    "studies": "Verdicts of three studies on planted respondents",
}


def _plain(rows: list[dict]) -> list[tuple[str, ...]]:
    return [
        tuple(rows[0]),
        *(tuple(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows),
    ]


SIMULATIONS = {"default": 1000, "smoke": 20}  # by size


def coverage_and_report(size: str, seed: int, json: str | None) -> int:
    """Prints the tables of that size, and writes them where `json` names a file. The exit code is 1 where tables
    without drift are marked, or claims wrongly decided, more often than chance allows.
    """
    from pathlib import Path

    from lab.store.atomic_write import dumps, replace

    found = measured(SIMULATIONS[size], seed)
    if json:
        replace(Path(json), dumps({"sims": SIMULATIONS[size], "seed": seed} | found, indent=2) + b"\n")
    say(report(found))
    return int(too_many(found))


def too_many(found: dict[str, list[dict]]) -> bool:
    """Whether any rate of false marks or verdicts exceeds .05 by more than three of its standard errors."""
    rates = [(row["marked"], row["sims"]) for row in found["tables"] if row["drift"] == 0]
    rates += [(row[name], row["sims"]) for row in found["verdicts"] for name in ("false_confirms", "false_refutes")]
    return any(rate > 0.05 + 3 * (0.05 * 0.95 / sims) ** 0.5 for rate, sims in rates)
