"""report.md of a run or a training: figures, examples of contradictions, drift by node, and information on the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from lab.reports import fork_comparison, validity_text
from lab.reports.conflict_text import NO_CONFLICT, against, counts
from lab.reports.evaluation_table import evaluation_tables
from lab.reports.headline import CELLS, HeadlineRow, caution, headline
from lab.reports.markdown import QUOTE, escape, quote, table, title
from lab.reports.sides import manifest_rows, token_rows
from metrics.by_node import coverage, drift_by_node
from metrics.conflicts import conflicts_of_lines
from metrics.entry import MISSING
from scenarios.records import SEATS

EXAMPLES = 20  # contradicting lines quoted
KEPT = "All other figures of this report also count the lines that every branch kept from the original."


def run_markdown(
    frames: Mapping[str, pl.DataFrame],
    manifest: Mapping,
    *,
    spans: Mapping | None = None,
    nodes: Sequence[str] = (),
    edges: Sequence[Sequence[str]] = (),
    plots: Sequence[str] = (),
    fork: fork_comparison.ForkComparison | None = None,
) -> str:
    """The report of a run, as Markdown.

    - `frames`: turns, judgements and metrics.
    - `spans`: as in `lab.progress.story.Story.spans`.
    - `nodes`, `edges`: those that the scenario declares.
    - `plots`: file names in plots/.
    - `fork`: the comparison of a fork with its original.
    """
    turns, judgements = frames["turns"], frames["judgements"]
    parts = [
        title(manifest, _said(manifest)),
        _fork(fork),
        _results(frames, manifest, plots),
        _validation(manifest),
        _contradictions(turns, judgements, spans or {}),
        _by_node(turns, judgements),
        _coverage(turns, nodes, edges),
        run_information(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def training_markdown(manifest: Mapping, evaluation: pl.DataFrame, plots: Sequence[str] = ()) -> str:
    """The report of a training, as Markdown.

    `evaluation` is evaluation.parquet, or a frame without columns before the first evaluation.
    """
    tables = [
        f"### {escape(evaluated_table.title)}\n\n"
        + table(
            evaluated_table.header,
            [[f"**{escape(text)}**" if loud else escape(text) for text, loud in row] for row in evaluated_table.rows],
        )
        for evaluated_table in evaluation_tables(evaluation)
    ]
    shown = tables or ["There is no evaluation yet."]
    images = "\n\n".join(f"![{Path(plot).stem}](plots/{plot})" for plot in plots)
    stopped = [f"**{escape(manifest['stopped'])}**"] if manifest.get("stopped") else []
    return (
        "\n\n".join(
            part
            for part in (title(manifest, *stopped), "## Results", *shown, images, run_information(manifest))
            if part
        )
        + "\n"
    )


def _said(manifest: Mapping) -> str:
    counts = manifest.get("counts", {})
    return f"{counts.get('lines', 0)} lines in {counts.get('conversations') or 0} conversations" + (
        f", {counts['failed']} failed" if counts.get("failed") else ""
    )


def _fork(fork: fork_comparison.ForkComparison | None) -> str:
    if fork is None:
        return ""
    rows = [[*map(escape, row[:3]), *row[3:]] for row in fork_comparison.fork_rows(fork)]
    parting = [
        [escape(branch), escape(turn), *(quote(text, None) for text in texts)]
        for branch, turn, *texts in fork_comparison.partings(fork)
    ]
    return "\n\n".join(
        (
            "## Fork",
            escape(fork_comparison.heading(fork)),
            table(fork_comparison.HEADER, rows),
            f"{fork_comparison.NOTE} {KEPT}",
            table(fork_comparison.PARTINGS, parting),
        )
    )


def _validation(manifest: Mapping) -> str:
    sentences = validity_text.validity_sentences(manifest)
    if not sentences:
        return ""
    rows = [[escape(text) for text in row] for row in validity_text.validity_rows(manifest)]
    items = "\n".join(f"- {escape(sentence)}" for sentence in sentences)
    parts = [f"## {validity_text.TITLE}", items, table(validity_text.HEADER, rows) if rows else "", validity_text.NOTE]
    return "\n\n".join(part for part in parts if part)


def _results(frames: Mapping[str, pl.DataFrame], manifest: Mapping, plots: Sequence[str]) -> str:
    rows = headline(frames["metrics"], frames["judgements"], manifest)
    if not rows:
        return "## Results\n\nNo metrics were computed."
    cells = [
        [
            escape(row.label),
            escape(row.judge),
            *(_result(row, seat) for seat in SEATS),
        ]
        for row in rows
    ]
    images = "\n\n".join(f"![{Path(plot).stem.replace('_', ' ')}](plots/{plot})" for plot in plots)
    return "\n\n".join(
        part
        for part in (
            "## Results",
            table(["measure", "judge", *SEATS], cells),
            f"{CELLS} {escape(caution(frames['turns']))}".strip(),
            images,
        )
        if part
    )


def _result(row: HeadlineRow, seat: str) -> str:
    """A cell of the results; grey where the judge is not valid here, as far as Markdown's readers show <small>."""
    text = row.cells.get(seat, MISSING) + (" ▲" if seat in row.worse else "")
    return text if row.valid else f"<small>{text}</small>"


def _contradictions(turns: pl.DataFrame, judgements: pl.DataFrame, spans: Mapping) -> str:
    known = conflicts_of_lines(judgements)
    said = {(line["conversation"], line["turn"]): line for line in turns.iter_rows(named=True)}
    at_fault = [place for place, conflict in known.items() if not conflict.returns]
    if not at_fault:
        return f"## Contradictions\n\n{NO_CONFLICT}"
    at_fault.sort(key=lambda place: not known[place].facts)  # of facts first
    first_spans: dict[tuple[int, int], tuple[int, int]] = {}
    for (c, turn, *_), span in spans.items():
        first_spans.setdefault((c, turn), span)
    rows = [
        [
            f"\\#{c} t{turn}",
            f"{escape(said[c, turn]['seat'])} {escape(said[c, turn]['persona'])}",
            escape(against(known[c, turn], lambda earlier, c=c: said[c, earlier]["text"][:QUOTE])),
            escape(", ".join(known[c, turn].judges)),
            quote(said[c, turn]["text"], first_spans.get((c, turn))),
        ]
        for c, turn in at_fault[:EXAMPLES]
    ]
    shown = (
        f"The first {EXAMPLES} of {len(at_fault)}, contradicted facts before contradicted lines:"
        if len(at_fault) > EXAMPLES
        else "All of them:"
    )
    totals = counts((place[0], said[place]["seat"], conflict) for place, conflict in known.items())
    return "\n\n".join(
        [
            "## Contradictions",
            "\n".join([f"- {escape(totals)}", *_graph_items(turns, judgements)]),
            shown,
            table(["line", "speaker", "contradicts", "judge", "words"], rows),
        ]
    )


def _graph_items(turns: pl.DataFrame, judgements: pl.DataFrame) -> Iterator[str]:
    import networkx

    from metrics.contradictions import graph

    conflict_graph = graph(turns, judgements)
    components = [len(part) for part in networkx.weakly_connected_components(conflict_graph)]
    if len(components) == 1:
        yield f"- 1 group of contradictions, of {components[0]} lines and facts"
    else:
        yield f"- {len(components)} groups of contradictions, the largest of {max(components)} lines and facts"
    pairs = {(source, target) for source, target in conflict_graph.edges() if target[0] == "fact"}
    facts = Counter(
        tuple(conflict_graph.nodes[target][key] for key in ("seat", "persona", "fact")) for _, target in pairs
    )
    if facts:
        (seat, persona, fact), times = min(facts.items(), key=lambda item: (-item[1], item[0]))
        lines = f"{times} line{'s' * (times != 1)}"
        yield f"- most contradicted: {escape(fact)} of {escape(persona)} ({escape(seat)}), {lines}"
    lived = [
        (edge["turn"] - edge["against_turn"], source)
        for source, _, edge in conflict_graph.edges(data=True)
        if edge["against_turn"] is not None
    ]
    if lived:
        span, (_, c, turn) = max(lived, key=lambda life: (life[0], [-number for number in life[1][1:]]))
        yield f"- longest-lived: \\#{c} t{turn} conflicts with the same speaker's line of {span} turns before"


def _by_node(turns: pl.DataFrame, judgements: pl.DataFrame) -> str:
    rows = drift_by_node(turns, judgements)
    if rows.is_empty():
        return ""
    cells = [
        [escape(row["node"]), escape(row["seat"]), escape(row["judge"]), f"{row['inconsistency']:.2f}", row["n"]]
        for row in rows.iter_rows(named=True)
    ]
    return "## Drift by node\n\nShare of the lines said at a node that contradict the speaker's persona.\n\n" + table(
        ["node", "seat", "judge", "inconsistency", "n"], cells
    )


def _coverage(turns: pl.DataFrame, nodes: Sequence[str], edges: Sequence[Sequence[str]]) -> str:
    if not nodes:
        return ""
    at, taken = coverage(turns, nodes, edges)
    reached, walked = sum(count > 0 for count in at.values()), sum(count > 0 for count in taken.values())
    rows = [[escape(node), count] for node, count in at.items()]
    rows += [[f"{escape(source)} → {escape(target)}", count] for (source, target), count in taken.items()]
    return f"## Coverage\n\n{reached} of {len(at)} nodes reached, {walked} of {len(taken)} edges taken.\n\n" + table(
        ["node or edge", "times"], rows
    )


def run_information(manifest: Mapping) -> str:
    """The section with seed, devices, versions, times and tokens."""
    tokens, seconds = manifest.get("tokens", {}), manifest.get("seconds", {})
    rows = [
        *manifest_rows(manifest),
        *([f"{phase}, seconds", f"{spent:.1f}"] for phase, spent in seconds.items()),
        *token_rows(manifest),
    ]
    playing, generated = seconds.get("playing", 0.0), tokens.get("generated", 0)
    if playing > 0 and generated:
        rows.append(["generated tokens per second of playing", f"{generated / playing:.0f}"])
    return "## Run information\n\n" + table(["item", "value"], [[escape(key), escape(value)] for key, value in rows])
