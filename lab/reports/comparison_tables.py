"""A comparison of two runs for people: the same tables and notes as Markdown and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING

from lab.reports.headline import FEW
from lab.reports.markdown import escape, table
from lab.reports.validity_text import NOT_VALID, marked, overstates
from metrics import UNSCORED
from metrics.catalogue import metric_figures, unscored_label
from metrics.entry import MISSING, estimate_text, share_format

if TYPE_CHECKING:
    from lab.reports.comparison import Comparison


CHANGE = "B − A [interval]"
HEADER = ("measure", "judge", "seat", "A", "B", CHANGE, "n", "detectable")
LIVES_HEADER = (
    "judge",
    "seat",
    "dialogues A, events",
    "dialogues B, events",
    "median A",
    "median B",
    "mean lines A",
    "mean lines B",
    CHANGE,
    "log-rank p",
)
PIPED_WIDTH = 160  # characters of the table if the output is no terminal
NOTE = (
    "`n` counts {n}. Intervals ({confidence:.0%}) are over conversations, by Student's t. A difference is bold where "
    "its interval excludes 0; by chance alone, one in {chance} would. `detectable` is the smallest true difference "
    "that a comparison with as many conversations and the same spread would detect with 80% power at p < .05."
)
TOO_FEW = "With so few conversations only large differences are seen."
POWER = (
    "In plain words: 8 of 10 such comparisons would detect a true difference of {detectable} in {what}. Most would "
    "miss a smaller difference, so a result without a difference does not show that there is none."
)
POWERLESS = (
    "In plain words: with so few conversations, no true difference in {what} would be detected in 8 of 10 such "
    "comparisons, not even the largest that is possible. A result without a difference says nothing."
)
NONE = "none"  # in place of a detectable difference that no share can have
SAME, NO_VALUE = "Equal in both runs in every conversation", "Without a value in one of the runs"
UNSEEN = f"Equal in both runs, but by judges that are {NOT_VALID}"
LIVES_NOTE = (
    "The event is a seat's first contradiction of its persona, with time counted in that seat's scored lines; a "
    "dialogue without a contradiction is censored. `mean lines` is the area under the curve up to the last line that "
    "both runs' curves cover. The log-rank test assumes independent runs, so its p is too large with paired seeds."
)


@dataclass(frozen=True)
class ComparisonRow:
    """The cells of a row; `clear` says whether the interval of the difference excludes 0, `valid` whether the judge was
    valid in the personas of both runs. Where it was not, no difference is clear.
    """

    cells: tuple[str, ...]
    clear: bool
    valid: bool = True


def comparison_markdown(comparison: Comparison, plots: Sequence[str] = ()) -> str:
    """The comparison as Markdown."""
    head = f"# {escape(comparison.a.run_id)} (A) and {escape(comparison.b.run_id)} (B)"
    changed = "\n".join(f"- {escape(line)}" for line in comparison.changed) or "- nothing: the scenarios are equal"
    parts = [
        head,
        " ".join(comparison.notes),
        "## What was changed\n\n" + changed,
        "## Differences\n\n"
        + (_table(HEADER, differences(comparison)) if differences(comparison) else "Nothing differs."),
        *notes(comparison),
    ]
    if comparison.lives:
        parts += ["## First contradiction\n\n" + _table(LIVES_HEADER, lives(comparison)), LIVES_NOTE]
    parts += [f"![{Path(plot).stem}](plots/{plot})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    return table(
        header, [[_cell(cell, row, name) for name, cell in zip(header, row.cells, strict=True)] for row in rows]
    )


def _cell(cell: str, row: ComparisonRow, column: str) -> str:
    """A cell in Markdown; grey where the judge is not valid, as far as Markdown's readers show <small>."""
    if not row.valid:
        return f"<small>{escape(cell)}</small>"
    return f"**{escape(cell)}**" if row.clear and column == CHANGE else escape(cell)


def print_comparison(comparison: Comparison) -> None:
    """Prints the comparison in the terminal."""
    from rich.table import Table
    from rich.text import Text

    from lab.store.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(f"A {comparison.a.run_id}\nB {comparison.b.run_id}\n{' '.join(comparison.notes)}")
    for line in comparison.changed:
        console.print(f"  {line}")
    for header, rows in ((HEADER, differences(comparison)), (LIVES_HEADER, lives(comparison))):
        shown = Table(*header, box=None, header_style="dim", pad_edge=False)
        for row in rows:
            shown.add_row(
                *(
                    Text(cell, "dim" if not row.valid else "bold" if row.clear and name == CHANGE else "")
                    for name, cell in zip(header, row.cells, strict=True)
                )
            )
        if rows:
            console.print(shown, "")
    for note in notes(comparison):
        console.print(note.replace("`", ""), style="dim")


def differences(comparison: Comparison) -> list[ComparisonRow]:
    """The rows, under HEADER, of the measures that differ in at least one conversation; `notes` lists the others."""
    rows = []
    for row in (row for row in comparison.rows if _differs(row)):
        digits = _digits(row)
        cells = (
            _label(row),
            row["judge"] or MISSING,
            row["seat"],
            _side(row, "a", digits),
            _side(row, "b", digits),
            marked(_change(row["value"], row["low"], row["high"], digits), row["valid"]),
            str(row["n"]),
            NONE if _beyond_detection(row) else _number(row["detectable"], digits),
        )
        rows.append(ComparisonRow(cells, row["valid"] and (row["low"] > 0 or row["high"] < 0), row["valid"]))
    return rows


def _side(row: dict, side: str, digits: int) -> str:
    """The value of one run. A consistency by a judge that is not valid is not shown as 1.000."""
    return MISSING if overstates(row["metric"], row[side], row["valid"]) else _number(row[side], digits)


def _beyond_detection(row: dict) -> bool:
    """Whether the measure is a share, 0 to 1, and only a difference of more than 1 would be detected."""
    figure = metric_figures([row["metric"]]).get(row["metric"])
    is_share = row["metric"].startswith(UNSCORED) or (figure is not None and figure.number is share_format)
    return is_share and row["detectable"] > 1


def _differs(row: dict) -> bool:
    return not isnan(row["value"]) and not _same(row)


def _same(row: dict) -> bool:
    return row["value"] == row["low"] == row["high"] == 0


def _label(row: dict) -> str:
    from metrics.contradictions import PER_CONVERSATION

    figure = metric_figures([row["metric"]]).get(row["metric"])
    name = row["metric"]
    if name.startswith(UNSCORED):
        label = unscored_label(name.removeprefix(UNSCORED))
    else:
        label = figure.label if figure else name.replace("_", " ")
    return label + (", a conversation" if row["metric"] in PER_CONVERSATION else "")


def _digits(row: dict) -> int:
    return 4 if row["metric"].endswith("_slope") else 3


def lives(comparison: Comparison) -> list[ComparisonRow]:
    """The rows, under LIVES_HEADER, on the first contradiction."""
    rows = []
    for row in comparison.lives:
        mean = row["mean"]
        cells = (
            row["judge"] or MISSING,
            row["seat"],
            *(f"{n}, {events}" for n, events in zip(row["lives"], row["events"], strict=True)),
            *(_number(median.value, 0) if isfinite(median.value) else "not reached" for median in row["medians"]),
            _number(mean.a, 2),
            _number(mean.b, 2),
            marked(_change(mean.value, mean.low, mean.high, 2), row["valid"]),
            _number(row["p"], 3),
        )
        rows.append(ComparisonRow(cells, row["valid"] and (mean.low > 0 or mean.high < 0), row["valid"]))
    return rows


def notes(comparison: Comparison) -> list[str]:
    """Sentences on what n counts, on the detectable difference, and on the measures that are not in the table."""
    shown, confidence, sentences = (
        [row for row in comparison.rows if _differs(row)],
        comparison.b.measure.confidence,
        [],
    )
    if shown:
        n = (
            "pairs of conversations with something scored on both sides"
            if comparison.paired
            else "the conversations of both runs"
        )
        sentences.append(NOTE.format(n=n, confidence=confidence, chance=round(1 / (1 - confidence))))
        if min(row["n"] if comparison.paired else row["n"] // 2 for row in shown) < FEW:
            sentences.append(TOO_FEW)
        powered = [row for row in shown if row["valid"] and not isnan(row["detectable"])][:1]
        sentences += [
            POWERLESS.format(what=_name(row))
            if _beyond_detection(row)
            else POWER.format(detectable=_number(row["detectable"], _digits(row)), what=_name(row))
            for row in powered
        ]
    same = [row for row in comparison.rows if _same(row) and not (row["metric"].startswith(UNSCORED) and row["a"] == 0)]
    same, unseen = [row for row in same if row["valid"]], [row for row in same if not row["valid"]]
    without = [row for row in comparison.rows if isnan(row["value"])]
    return sentences + [
        f"{why}: {_seats(listed)}." for why, listed in ((SAME, same), (UNSEEN, unseen), (NO_VALUE, without)) if listed
    ]


def _name(row: dict, *more: str) -> str:
    """`prompt-to-line consistency (ledger, user)`."""
    return f"{_label(row)} ({', '.join(filter(None, (row['judge'], *(more or (row['seat'],)))))})"


def _seats(rows: Iterable[dict]) -> str:
    """`line-to-line consistency (ledger, user n 4, assistant n 2) 1.000`, and so on: the seats of a measure with one
    value together.
    """
    by_measure: dict[tuple, list[dict]] = {}
    for row in rows:
        by_measure.setdefault((row["metric"], row["judge"], _number(row["a"], 3)), []).append(row)
    return "; ".join(
        _name(same[0], *(f"{row['seat']} n {row['n']}" for row in same))
        + ("" if value == MISSING or not same[0]["valid"] else f" {value}")
        for (_, _, value), same in by_measure.items()
    )


def _number(value: float, digits: int) -> str:
    return MISSING if isnan(value) else f"{value:.{digits}f}"


def _change(value: float, low: float, high: float, digits: int) -> str:
    """`+0.120 [+0.010, +0.230]`, or the value alone where there is no interval."""
    return estimate_text(value, low, high, f"{{:+.{digits}f}}".format)
