"""Two runs of one scenario side by side: what differs, by how much, how surely, and what could have been seen at all.

Conversations of equal number, seed and cast are pairs: the same people meet in the same order of draws, so what both runs share
cancels. Where seeds or casts differ, the runs are compared as two groups, and the text says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isnan
from pathlib import Path

import polars as pl

from lab.files import replace
from lab.headline import MEASURES, MISSING
from lab.report import escape, table
from lab.store import read_events, read_frames, read_manifest, write_frame
from scenarios.reading import parse
from scenarios.records import SEATS, derive_seed
from scenarios.schema import Measure, difference

CHANGE = "B − A [interval]"
HEADER = ("measure", "judge", "seat", "A", "B", CHANGE, "n", "detectable")
LIVES_HEADER = ("judge", "seat", "lives A, contradicted", "lives B, contradicted", "median A", "median B", "mean lines A", "mean lines B",
                CHANGE, "log-rank p")
NEEDED = ("window", "confidence", "resamples")  # of how a run was measured
PIPED_WIDTH = 160  # characters of the table where no terminal tells
NOTE = ("`n` counts {n}. `detectable`: the smallest true difference that as many of them, spread as these are, would show with 80 % "
        "power at p < .05; a smaller one that does not show is no evidence of none. Intervals ({confidence:.0%}) resample conversations; "
        "bold where one excludes 0, as about {chance} of {rows} would by chance alone.")
LIVES_NOTE = ("A life ends at a seat's first contradiction of its persona, counted in its own lines; one that never does is censored. "
              "`mean lines` is the area under the curve as far as both runs' curves are known. The log-rank test takes the runs as "
              "independent, so with paired seeds its p is too large rather than too small.")


@dataclass(frozen=True)
class Run:
    path: Path
    run_id: str
    seed: int | None
    scenario: str  # its YAML
    measure: Measure
    frames: dict[str, pl.DataFrame]
    finished: list[int]  # conversations that did not fail, by number
    cast: dict[int, tuple]  # conversation -> (seat, persona) pairs


@dataclass(frozen=True)
class Row:
    """Cells of a table; `clear` where the interval of the difference excludes 0."""

    cells: tuple[str, ...]
    clear: bool


@dataclass(frozen=True)
class Comparison:
    """`rows`: metric, judge, seat, a, b, value, low, high, n, detectable. `lives`: one row a judge and seat, `horizon` in lines."""

    a: Run
    b: Run
    paired: bool
    notes: list[str]
    changed: list[str]  # what the scenarios say differently
    rows: list[dict]
    lives: list[dict]


def write_comparison(first: str | Path, second: str | Path, out: str | Path | None = None) -> tuple[Comparison, Path]:
    """Writes comparison.md, comparison.parquet and plots/ into `out`; the comparison and the path of comparison.md.

    Raises ValueError where either is no run, was not measured, or the two have nothing in common.
    """
    from lab.plots import comparison as draw
    from lab.plots import save

    found = compare(read(first), read(second))
    folder = Path(out) if out else found.b.path / f"compare-{found.a.path.resolve().name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made ({error.strerror}); expected a folder that can be written (--out)") from None
    plots = save(draw(found.rows, {"A": found.a.frames, "B": found.b.frames}), folder / "plots")
    write_frame(folder / "comparison.parquet", pl.DataFrame(found.rows, infer_schema_length=None))
    replace(folder / "comparison.md", markdown(found, [plot.name for plot in plots]).encode("utf-8", "replace"))
    return found, folder / "comparison.md"


def read(path: str | Path) -> Run:
    """A run's folder as a side of a comparison. Raises ValueError where it is none or was never measured."""
    path = Path(path)
    manifest, frames = read_manifest(path), read_frames(path)
    if frames["metrics"].is_empty():
        raise ValueError(f"{path} holds no metrics (it {manifest.get('status')}); expected a run that was played and measured")
    scenario = (path / "scenario.yaml").read_text(encoding="utf-8")
    told = parse(scenario, str(path / "scenario.yaml")).data
    measure = Measure.model_validate({key: value for key, value in (told.get("measure") or {}).items() if key in NEEDED})
    failed = {event["conversation"] for event in read_events(path) if event["event"] == "conversation" and event["status"] == "failed"}
    seats = frames["turns"].select("conversation", "seat", "persona").unique().sort("conversation", "seat")
    cast = {c: tuple(part.select("seat", "persona").rows()) for (c,), part in seats.partition_by("conversation", as_dict=True).items()}
    return Run(path, manifest["run_id"], manifest.get("seed"), scenario, measure, frames, sorted(set(cast) - failed), cast)


def compare(a: Run, b: Run) -> Comparison:
    """Every measure that both runs have for a judge and seat. Raises ValueError where there is none."""
    paired, notes, sides = pairing(a, b)
    rows = _rows(a, b, paired, sides)
    if not rows:
        raise ValueError(f"{a.path} and {b.path} have no measure of the same judge and seat in common; expected runs of one scenario")
    lives = _lives(a, b, paired, sides)
    return Comparison(a, b, paired, notes, difference(a.scenario, b.scenario), rows, lives)


def pairing(a: Run, b: Run) -> tuple[bool, list[str], tuple[list[int], list[int]]]:
    """Whether conversations are pairs, what to tell of it, and the conversations of both sides (the same ones if paired)."""
    common = sorted(set(a.finished) & set(b.finished))
    recast = [c for c in common if a.cast[c] != b.cast[c]]
    if a.seed is None or a.seed != b.seed:
        why = f"their seeds differ ({a.seed} and {b.seed})"
    elif recast:
        why = f"their casts differ (conversation {recast[0]}{f' and {len(recast) - 1} more' if recast[1:] else ''})"
    elif not common:
        why = "they have no conversation of one number in common"
    else:
        left = len(set(a.cast) | set(b.cast)) - len(common)
        told = f"{len(common)} pairs of conversations of equal number, seed and cast"
        return True, [f"{told}; {left} without a partner left out." if left else f"{told}."], (common, common)
    told = f"Not paired, since {why}: {len(a.finished)} conversations of A are compared with {len(b.finished)} of B as two groups."
    return False, [told], (a.finished, b.finished)


def _rows(a: Run, b: Run, paired: bool, sides: tuple[list[int], list[int]]) -> list[dict]:
    from metrics import comparison
    from metrics.sums import of_run

    ours, theirs = (of_run(*(run.frames[name] for name in ("turns", "judgements", "metrics")), window=run.measure.window)
                    for run in (a, b))
    order, rows = {name: place for place, name in enumerate(MEASURES)}, []
    for key in sorted(set(ours) & set(theirs), key=lambda key: (order.get(key[0], len(order)), key[0], key[1] or "", SEATS.index(key[2]))):
        left, right = ([c for c in side if c in one.by_conversation] for side, one in zip(sides, (ours[key], theirs[key]), strict=True))
        if paired:
            left = right = [c for c in left if c in set(right)]
        if left and right:
            change = comparison.paired if paired else comparison.unpaired
            found = change(ours[key].rows(left), theirs[key].rows(right), ours[key].statistic, **_how(b, *key))
            rows.append(dict(zip(("metric", "judge", "seat"), key, strict=True)) | asdict(found))
    return rows


def _how(b: Run, *names: object) -> dict:
    return {"confidence": b.measure.confidence, "resamples": b.measure.resamples, "seed": derive_seed(b.seed, "comparison", *names)}


def _lives(a: Run, b: Run, paired: bool, sides: tuple[list[int], list[int]]) -> list[dict]:
    """Time to first contradiction of both runs: lives, events, medians, restricted means and their difference, log-rank."""
    from metrics import comparison
    from metrics.reductions import groups, of_metric
    from metrics.statistics import kaplan_meier
    from metrics.survival import subjects

    found = []
    for frames in (a.frames, b.frames):
        of_lines = groups(of_metric(frames["judgements"], "prompt_to_line"))
        found.append({(judge, seat): subjects(frames["turns"], part) for judge, seat, part in of_lines})
    rows = []
    for judge, seat in sorted(set(found[0]) & set(found[1]), key=lambda key: (key[0] or "", SEATS.index(key[1]))):
        lives = [one[judge, seat].filter(pl.col("conversation").is_in(side)) for one, side in zip(found, sides, strict=True)]
        if paired:
            both = set(lives[0]["conversation"]) & set(lives[1]["conversation"])
            lives = [part.filter(pl.col("conversation").is_in(both)) for part in lives]
        if any(part.is_empty() for part in lives):
            continue
        arrays = [(part["lines"].to_numpy(), part["censored"].to_numpy()) for part in lives]
        horizon = comparison.horizon(*arrays)
        change = comparison.paired if paired else comparison.unpaired
        mean = change(*(comparison.life_sums(*side, horizon) for side in arrays), comparison.restricted_mean,
                      **_how(b, "lives", judge, seat))
        medians = [kaplan_meier(*side, confidence=b.measure.confidence).median() for side in arrays]
        z, p = comparison.logrank(*arrays)
        rows.append({"judge": judge, "seat": seat, "lives": [len(part) for part in lives],
                     "events": [int((~part["censored"]).sum()) for part in lives], "medians": medians, "horizon": horizon, "mean": mean,
                     "z": z, "p": p})
    return rows


def markdown(found: Comparison, plots: Sequence[str] = ()) -> str:
    """The comparison as Markdown."""
    head = f"# {escape(found.a.run_id)} (A) and {escape(found.b.run_id)} (B)"
    changed = "\n".join(f"- {escape(line)}" for line in found.changed) or "- nothing: the scenarios are the same"
    parts = [head, " ".join(found.notes), "## What was changed\n\n" + changed,
             "## Differences\n\n" + _table(HEADER, differences(found)), _note(found)]
    if found.lives:
        parts += ["## First contradiction\n\n" + _table(LIVES_HEADER, lives(found)), LIVES_NOTE]
    parts += [f"![{Path(plot).stem}](plots/{plot})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Row]) -> str:
    place = header.index(CHANGE)
    cells = [[escape(cell) for cell in row.cells] for row in rows]
    return table(header, [[*some[:place], f"**{some[place]}**", *some[place + 1:]] if row.clear else some
                          for some, row in zip(cells, rows, strict=True)])


def tell(found: Comparison, path: Path) -> None:
    """The same on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(f"A {found.a.run_id}\nB {found.b.run_id}\n{' '.join(found.notes)}")
    for line in found.changed:
        console.print(f"  {line}")
    for header, rows in ((HEADER, differences(found)), (LIVES_HEADER, lives(found))):
        shown = Table(*header, box=None, header_style="dim", pad_edge=False)
        for row in rows:
            shown.add_row(*(Text(cell, "bold" if row.clear and name == CHANGE else "")
                            for name, cell in zip(header, row.cells, strict=True)))
        if rows:
            console.print(shown, "")
    console.print(_note(found).replace("`", ""), style="dim")
    console.print(str(path), soft_wrap=True)


def differences(found: Comparison) -> list[Row]:
    """Rows under HEADER."""
    from metrics.contradictions import PER_CONVERSATION

    rows = []
    for row in found.rows:
        digits = 4 if row["metric"].endswith("_slope") else 3
        label = MEASURES[row["metric"]].label if row["metric"] in MEASURES else row["metric"].replace("_", " ")
        label += ", a conversation" if row["metric"] in PER_CONVERSATION else ""
        cells = (label, row["judge"] or MISSING, row["seat"], _number(row["a"], digits), _number(row["b"], digits),
                 _change(row["value"], row["low"], row["high"], digits), str(row["n"]), _number(row["detectable"], digits))
        rows.append(Row(cells, row["low"] > 0 or row["high"] < 0))
    return rows


def lives(found: Comparison) -> list[Row]:
    """Rows under LIVES_HEADER."""
    rows = []
    for row in found.lives:
        mean = row["mean"]
        cells = (row["judge"] or MISSING, row["seat"], *(f"{n}, {events}" for n, events in zip(row["lives"], row["events"], strict=True)),
                 *(_number(median.value, 0) if isfinite(median.value) else "not reached" for median in row["medians"]),
                 _number(mean.a, 2), _number(mean.b, 2), _change(mean.value, mean.low, mean.high, 2), _number(row["p"], 3))
        rows.append(Row(cells, mean.low > 0 or mean.high < 0))
    return rows


def _note(found: Comparison) -> str:
    n = "pairs of conversations with something scored on both sides" if found.paired else "the conversations of both runs"
    confidence, rows = found.b.measure.confidence, len(found.rows)
    return NOTE.format(n=n, confidence=confidence, chance=max(1, round(rows * (1 - confidence))), rows=rows)


def _number(value: float, digits: int, sign: str = "") -> str:
    return MISSING if isnan(value) else f"{value:{sign}.{digits}f}"


def _change(value: float, low: float, high: float, digits: int) -> str:
    """`+0.120 [+0.010, +0.230]`, or the value alone where there is no interval."""
    interval = "" if isnan(low) or isnan(high) else f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return _number(value, digits, "+") + interval
