"""The results of the self-test, as text."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from lab.selftests.judge_figures import JudgeFigures
from lab.selftests.planted_drift import BARS, BLIND, FACTS, MUST_PASS, UNMEASURED, Result
from metrics.entry import estimate_text, share_format
from metrics.stats.intervals import Interval
from metrics.validation.planted import DOSES
from metrics.validation.validity import FALSE_ALARMS

HEAD = ("judge", "drift", "claimed", "AUROC", "precision", "recall", "lag, turns", "missed", "false alarms")


def text(result: Result) -> str:
    """The tables (judges, recall by wording, required bars, retrieval, measures and tripwires by dose) and the
    verdict.
    """
    parts = [
        (
            "Judges: planted lines at the largest dose against all other lines; lag after the first planted line, over "
            "all doses",
            _judges(result),
        ),
        ("Recall of planted facts by their wording", _wordings(result)),
        (f"Required on {FACTS}: {_bars()}", _passed(result)),
        ("Share of pairs of lines that retrieval keeps, and of planted contradictions among them", _retrieved(result)),
        ("Measures by dose, for judges that claim to detect the drift", _responses(result, of_judges=True)),
        ("Tripwires by dose, for the drift that they should detect", _responses(result, of_judges=False)),
    ]
    return "\n\n".join(
        [*(f"{title}\n{columns(rows)}" for title, rows in parts if len(rows) > 1), selftest_verdict(result)]
    )


def figure_rows(figures: Sequence[JudgeFigures]) -> list[Sequence[str]]:
    """A heading and a row per judge, of its figures on the same lines."""
    head = {
        "auroc": "AUROC",
        "mirrored": "mirrored",
        "recall_at": f"recall at {FALSE_ALARMS:.0%} accused",
        "precision": "precision",
        "recall": "recall",
        "accused": "accused",
        "kappa": "Cohen's κ",
        "ece": "ECE",
    }
    rows: list[Sequence[str]] = [("judge", *head.values(), "n", "unscored", "lines/s")]
    for figure in figures:
        cells = [figure.statistics[name] for name in head]
        rows.append(
            (
                figure.judge,
                *(estimate_text(cell.value, cell.low, cell.high, share_format) for cell in cells),
                *(str(figure.n), str(figure.unscored), f"{figure.lines_per_s:.0f}"),
            )
        )
    return rows


def selftest_verdict(result: Result) -> str:
    """Sentences that say whether the self-test passed, and otherwise what failed."""
    broken = [
        f"{row.judge} on {row.kind}: does not rank planted lines above the other lines"
        for row in result.detections
        if row.failed
    ]
    broken += [
        f"{row.judge or 'tripwire'}, {row.metric} on {row.kind}: {row.verdict}"
        for row in result.responses
        if row.failed
    ]
    broken += [
        f"{FACTS}: none of {', '.join(sorted(MUST_PASS & result.below().keys()))} meets all requirements"
    ] * result.barred
    return (
        "PASSED: all judges, measures and tripwires detect the drift that they claim to detect."
        if not broken
        else "\n".join(["FAILED:", *(f"  {line}" for line in broken)])
    )


def interval_cell(interval: Interval) -> str:
    """`value [low, high] n=…`"""
    return f"{estimate_text(interval.value, interval.low, interval.high, share_format)} n={interval.n}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines of text, with each column as wide as its widest cell."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _judges(result: Result) -> list[Sequence[str]]:
    return [
        HEAD,
        *(
            [
                row.judge,
                row.kind,
                "yes" if row.claims else "no",
                interval_cell(row.auroc),
                interval_cell(row.precision),
                interval_cell(row.recall),
                interval_cell(row.lag),
                str(row.missed),
                interval_cell(result.false_alarms[row.judge]),
            ]
            for row in result.detections
        ),
    ]


def _wordings(result: Result) -> list[Sequence[str]]:
    return [
        ("judge", "wording", "recall"),
        *(
            (row.judge, wording, interval_cell(recall))
            for row in result.detections
            for wording, recall in row.by_wording.items()
        ),
    ]


def _bars() -> str:
    return ", ".join(
        f"{name} ≥ {least:g}" if isfinite(least) else f"{name} ≤ {most:g}" for name, (least, most) in BARS.items()
    )


def _passed(result: Result) -> list[Sequence[str]]:
    return [
        ("judge", *BARS, ""),
        *(
            (judge, *("missed" if name in missed else "met" for name in BARS), "fails" if missed else "passes")
            for judge, missed in result.below().items()
        ),
    ]


def _retrieved(result: Result) -> list[Sequence[str]]:
    return [
        ("drift", "share of pairs", "recall"),
        *((row.kind, interval_cell(row.pairs), interval_cell(row.recall)) for row in result.retrievals),
    ]


def _responses(result: Result, of_judges: bool) -> list[Sequence[str]]:
    rows = [row for row in result.responses if bool(row.judge) == of_judges and row.verdict not in (BLIND, UNMEASURED)]
    return [
        (*(["judge"] if of_judges else []), "drift", "measure", *(f"dose {dose:g}" for dose in DOSES), "verdict"),
        *(
            (
                *([row.judge] if of_judges else []),
                row.kind,
                row.metric,
                *(f"{value:.3g}" for value in row.values),
                row.verdict,
            )
            for row in rows
        ),
    ]
