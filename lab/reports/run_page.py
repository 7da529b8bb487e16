"""report.html: one page that needs no network, for a run, a training, or several runs.

`runs_page` is a pure function of `Side`s. Jinja2 escapes every text; transcripts are part of the page as data, which
its script shows as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.reports import fork_comparison, validity_text
from lab.reports.conflict_text import NO_CONFLICT, against, counts
from lab.reports.evaluation_table import evaluation_tables
from lab.reports.headline import CELLS, HeadlineRow, caution, headline
from lab.reports.html import Cell, Section, Table, TableRow, sheet
from lab.reports.sides import Side, manifest_rows, token_rows
from lab.reports.transcript_reader import as_script, packed
from metrics.by_node import coverage, drift_by_node
from metrics.catalogue import TITLES
from metrics.entry import MISSING, estimate_text, share_format
from scenarios.records import SEATS

if TYPE_CHECKING:
    from lab.reports.comparison import Comparison


LISTED = 50  # contradicting lines in the table
QUOTED = 140  # characters of a line there


def runs_page(
    sides: Sequence[Side], comparisons: Sequence[Comparison] = (), fork: fork_comparison.ForkComparison | None = None
) -> str:
    """The whole page, as HTML.

    `comparisons` compare the first side with each other side; `fork` compares the branches of a fork with the original.
    """
    from markupsafe import Markup

    title = " · ".join(dict.fromkeys(str(side.manifest.get("scenario") or side.manifest["run_id"]) for side in sides))
    sections = [section for section in (_fork(fork), *_sections(sides, comparisons)) if section]
    return sheet(title, sections, [_run_summary(side) for side in sides], _reader(sides, Markup))


def _run_summary(side: Side) -> dict:
    """The head of a run on the page: its mark, id and status, and `summary`, a list of phrases."""
    manifest = side.manifest
    counts = manifest.get("counts", {})
    parts = [str(manifest["reason"])] if manifest.get("reason") else []
    if side.story.steps:
        parts.append(f"{len(side.story.steps)} steps" + (f", {manifest['stopped']}" if manifest.get("stopped") else ""))
    if counts.get("lines"):
        parts.append(
            f"{counts['lines']} lines in {counts.get('conversations') or 0} conversations"
            + (f", {counts['failed']} failed" if counts.get("failed") else "")
        )
    return {"mark": side.mark, "id": manifest["run_id"], "status": manifest.get("status"), "summary": parts}


def _sections(sides: Sequence[Side], comparisons: Sequence[Comparison]) -> Iterable[Section | None]:
    played = [side for side in sides if not side.frames["turns"].is_empty()]
    yield _results(played)
    yield from (_validation(side) for side in played if side.manifest.get("validation"))
    for side in sides:
        yield _finding(side)
    for comparison in comparisons:
        yield _comparison(
            comparison, next(side.mark for side in sides if side.manifest["run_id"] == comparison.b.run_id)
        )
    for side in sides:
        yield _training(side)
    yield _drift(played)
    for side in played:
        yield _contradictions(side)
        yield _graph(side)
        yield _agreement(side)
    for side in sides:
        yield _run_information(side)


def _named(side: Side, title: str) -> dict:
    """The id and title of a section that exists once per side."""
    return {"id": title.split(" ")[0].lower() + side.mark, "title": title + (f", {side.mark}" if side.mark else "")}


def _row(*cells: object, apart: bool = False) -> TableRow:
    return TableRow([cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells], apart)


def _figures(drawn: Mapping[str, object]) -> list[dict[str, str]]:
    from lab.reports.plot_kit import svg

    return [{"svg": svg(figure), "caption": caption} for caption, figure in drawn.items() if figure is not None]


# -- the results


def _results(sides: Sequence[Side]) -> Section | None:
    if not sides:
        return None
    by_label: dict[tuple[str, str, str], dict[str, HeadlineRow]] = {}
    for side in sides:
        for row in headline(side.frames["metrics"], side.frames["judgements"], side.manifest):
            by_label.setdefault((row.group, row.label, row.judge), {})[side.mark] = row
    columns = [(seat, side.mark) for seat in SEATS for side in sides]
    rows, before = [], None
    for (group, label, judge), by_mark in by_label.items():
        cells = [_cell(by_mark.get(mark), seat) for seat, mark in columns]
        rows.append(_row(label, judge, *cells, apart=before is not None and group != before))
        before = group
    header = ["measure", "judge", *(f"{seat} {mark}".strip() for seat, mark in columns)]
    return Section(
        "results",
        "Results",
        [Table(header, rows)] if rows else [],
        texts=[] if rows else ["No metrics were computed."],
        notes=[CELLS, *dict.fromkeys(caution(side.frames["turns"]) for side in sides)] if rows else [],
    )


def _cell(row: HeadlineRow | None, seat: str) -> Cell:
    if row is None or seat not in row.cells:
        return Cell(MISSING)
    return Cell(row.cells[seat] + (" ▲" if seat in row.worse else ""), seat in row.worse, faint=not row.valid)


def _validation(side: Side) -> Section:
    rows = [
        TableRow([Cell(text, faint=validity_text.NOT_VALID in row) for text in row])
        for row in validity_text.validity_rows(side.manifest)
    ]
    texts, table = validity_text.validity_sentences(side.manifest), Table(validity_text.HEADER, rows)
    return Section(**_named(side, validity_text.TITLE), tables=[table], texts=texts, notes=[validity_text.NOTE])


def _fork(comparison: fork_comparison.ForkComparison | None) -> Section | None:
    if comparison is None:
        return None
    tables = [
        Table(header, [_row(*row) for row in rows], title)
        for title, header, rows in (
            ("", fork_comparison.HEADER, fork_comparison.fork_rows(comparison)),
            ("Where the texts diverge", fork_comparison.PARTINGS, fork_comparison.partings(comparison)),
        )
    ]
    return Section("fork", "Fork", tables, texts=[fork_comparison.heading(comparison)], notes=[fork_comparison.NOTE])


def _comparison(comparison: Comparison, mark: str) -> Section:
    from lab.reports.comparison_tables import HEADER, LIVES_HEADER, differences, lives, notes

    def lettered(header: Sequence[str]) -> list[str]:
        return [name.replace("B", mark) for name in header]

    tables = [
        Table(
            lettered(header),
            [
                TableRow(
                    [
                        Cell(text, row.clear and name == HEADER[5], faint=not row.valid)
                        for name, text in zip(header, row.cells, strict=True)
                    ]
                )
                for row in rows
            ],
            title,
        )
        for title, header, rows in (
            ("", HEADER, differences(comparison)),
            ("First contradiction", LIVES_HEADER, lives(comparison)),
        )
        if rows
    ]
    changed = "; ".join(comparison.changed) or "nothing: the scenarios are the same"
    return Section(
        f"against-{mark}",
        f"A against {mark}",
        tables,
        texts=[" ".join(comparison.notes), f"Changed: {changed}."],
        notes=notes(comparison),
    )


def _drift(sides: Sequence[Side]) -> Section | None:
    from lab.reports import plots

    if len(sides) > 1:
        by_mark = {side.mark: side.frames for side in sides}
        drawn = {
            "consistency by turn of every run": plots.plot_drift_of_runs(by_mark),
            "first contradictions of every run": plots.plot_survival_of_runs(by_mark),
        }
    elif sides:
        frames = sides[0].frames
        drawn = {
            "consistency by turn": plots.plot_consistency(frames["metrics"]),
            "share of speakers not contradicted so far": plots.plot_survival(frames["judgements"]),
            "activation drift by turn": plots.plot_activation(frames["metrics"]),
        }
    else:
        drawn = {}
    figures = _figures(drawn)
    return Section("drift", "Drift", figures=figures) if figures else None


def _contradictions(side: Side) -> Section | None:
    from lab.reports.graph_plots import contradiction_graph

    talks = side.story.talks
    known = [(c, turn, talks[c].lines[turn], conflict) for c, turn, conflict in side.story.conflicts()]
    # of facts first
    at_fault = sorted((each for each in known if not each[3].returns), key=lambda each: not each[3].facts)
    rows = [
        _row(
            Cell(f"#{c} t{turn}", link=f"#c{c}t{turn}{side.mark}"),
            f"{line['s']} {talks[c].cast.get(line['s'], '')}",
            against(conflict),
            ", ".join(conflict.judges),
            line["x"][:QUOTED] + "…" * (len(line["x"]) > QUOTED),
        )
        for c, turn, line, conflict in at_fault[:LISTED]
    ]
    heading = (
        f"the first {LISTED} of {len(at_fault)}, contradicted facts before contradicted lines"
        if len(at_fault) > LISTED
        else f"all {len(at_fault)}"
    )
    tables = [Table(["line", "speaker", "contradicts", "judge", "words"], rows, heading, folded=True)] if rows else []
    figures = _figures(
        {
            "contradictions by conversation and turn": contradiction_graph(
                side.frames["turns"], side.frames["judgements"]
            )
        }
    )
    return Section(
        **_named(side, "Contradictions"),
        tables=tables,
        figures=figures,
        texts=[f"{counts((c, line['s'], conflict) for c, _, line, conflict in known)}." if rows else NO_CONFLICT],
    )


def _graph(side: Side) -> Section | None:
    from lab.reports.graph_plots import scenario_graph

    turns, judgements = side.frames["turns"], side.frames["judgements"]
    nodes, edges = side.story.opening.get("nodes", ()), side.story.opening.get("edges", ())
    if not nodes:
        return None
    at, taken = coverage(turns, nodes, edges)
    reached = (
        f"{sum(map(bool, at.values()))} of {len(at)} nodes reached, {sum(map(bool, taken.values()))} of "
        f"{len(taken)} edges taken."
    )
    drift = [
        _row(row["node"], row["seat"], row["judge"], f"{row['inconsistency']:.2f}", row["n"])
        for row in drift_by_node(turns, judgements).iter_rows(named=True)
    ]
    walked = [_row(f"{source} → {target}", times) for (source, target), times in taken.items()]
    return Section(
        **_named(side, "Graph: drift by node"),
        figures=_figures({"the scenario graph as walked": scenario_graph(turns, judgements, nodes, edges)}),
        tables=[Table(["node", "seat", "judge", "inconsistency", "n"], drift, "drift by node", folded=True)]
        * bool(drift)
        + [Table(["edge", "times"], walked, "edges", folded=True)] * bool(walked),
        texts=[reached],
    )


def _agreement(side: Side) -> Section | None:
    from metrics.validation.agreement import agreement

    rows = [
        _row(
            TITLES[row["metric"]],
            f"{row['first']} and {row['second']}",
            f"{row['agreed']:.2f}",
            estimate_text(row["kappa"], row["low"], row["high"], share_format),
            row["n"],
        )
        for row in agreement(side.frames["judgements"], confidence=side.confidence).iter_rows(named=True)
    ]
    note = "κ is Cohen's: 1 for full agreement, 0 for agreement by chance, – where all verdicts are equal."
    header = ["measure", "judges", "same verdict", "κ [interval]", "n"]
    return (
        Section(**_named(side, "Agreement of the judges"), tables=[Table(header, rows)], notes=[note]) if rows else None
    )


def _number(value: float) -> str:
    return MISSING if value != value else f"{value:.2f}"


# -- a training
#
#


def _training(side: Side) -> Section | None:
    from lab.reports import plots

    if "steps" not in side.frames:
        return None
    evaluation, steps = side.frames["evaluation"], side.frames["steps"]
    tables = [
        Table(table.header, [_row(*(Cell(text, loud) for text, loud in row)) for row in table.rows], table.title)
        for table in evaluation_tables(evaluation)
    ]
    last = side.story.steps[max(side.story.steps)].get("samples", {}) if side.story.steps else {}
    talks = [
        Table(
            ["seat", "line"],
            [_row(seat, text) for seat, text in last[name]["lines"]],
            f"the {name} dialogue of the last step, reward {last[name]['reward']:.2f}",
            folded=True,
        )
        for name in ("best", "worst")
        if name in last
    ]
    drawn = plots.training_plots(steps, evaluation) | plots.wire_plots(steps)
    return Section(
        **_named(side, "Training"),
        tables=tables + talks,
        figures=_figures({Path(name).stem: figure for name, figure in drawn.items()}),
        texts=[] if len(evaluation) else ["There is no evaluation yet."],
    )


def _finding(side: Side) -> Section | None:
    if side.finding is None:
        return None
    from lab.reports.finding_report import finding_plots, finding_sentences, finding_tables

    drawn = {Path(name).stem.replace("_", " "): figure for name, figure in finding_plots(side.finding).items()}
    return Section(
        **_named(side, "Finding"),
        texts=finding_sentences(side.finding),
        figures=_figures(drawn),
        tables=[
            Table(part.header, [_row(*row) for row in part.rows], part.title) for part in finding_tables(side.finding)
        ],
    )


# -- run information, and the transcripts


def _run_information(side: Side) -> Section:
    from lab.reports.plots import plot_phases

    manifest = side.manifest
    rows = [*manifest_rows(manifest), *token_rows(manifest)]
    spent = manifest.get("seconds", {})
    times = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in spent.items())
    return Section(
        **_named(side, "Run information"),
        tables=[Table(["item", "value"], [_row(*row) for row in rows])],
        figures=_figures({f"time by phase: {times}": plot_phases(spent)}),
    )


def _reader(sides: Sequence[Side], markup) -> dict | None:
    spoken = [side for side in sides if any(talk.lines for talk in side.story.talks.values())]
    if not spoken:
        return None
    runs = [packed(side.story.talks) for side in spoken]
    index = {
        "runs": [
            {"mark": side.mark, "id": side.manifest["run_id"], "index": run.index}
            for side, run in zip(spoken, runs, strict=True)
        ],
        "people": {who: person for side in spoken for who, person in side.people.items()},
    }
    return {
        "index": markup(as_script(index)),
        "packets": [
            {"id": f"packet-{place}-{number}", "data": data}
            for place, run in enumerate(runs)
            for number, data in enumerate(run.packets)
        ],
    }
