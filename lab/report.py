"""A run for people: report.html, report.md and plots/*.png, made of its frames, manifest and events alone. Sweeps: `lab.sweep_report`.

`markdown` is a pure function (`lab.page.page`, too); every word that a model or a user wrote is escaped in it.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from agents.errors import first_line
from lab import forking
from lab.commands import Parser, obeyed
from lab.files import replace
from lab.headline import MISSING, coverage, drift_by_node, evaluated, headline
from lab.reader import Story, people, story
from lab.store import SWEEP, read_frames, read_manifest, refuse_links, stream_events
from scenarios.reading import parse
from scenarios.records import SEATS, Persona

if TYPE_CHECKING:
    from lab.page import Side

EXAMPLES = 20  # contradictions quoted
QUOTE = 160  # characters of a line quoted around the words that contradict
COMMANDS = """examples:
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b runs/20260102T120000Z-long_dialogue-3c4d
  python -m lab.report RUN_A RUN_B RUN_C --out side-by-side
"""
KEPT = "All other figures of this report count the kept lines of every branch too."
NOTE = ("Each cell is `value [low, high] n`; intervals resample conversations. ▲ marks a drift whose interval lies above 0, or a tripwire "
        "past its bound; ⚠ a consistency whose speaker trips a wire, and so may have bought it by saying little, or the same, or its card.")


def write_report(run_dir: str | Path) -> Path:
    """Writes report.html, report.md and plots/ into the run's folder; the path of report.html. Raises ValueError where that is no run."""
    from lab import plots, study_report
    from lab.page import page

    path = Path(run_dir)
    if (path / SWEEP).is_file():
        from lab import sweep_report

        refuse_links(path)
        return sweep_report.write(path)
    found = side(path)
    refuse_links(path)
    fork, frames, opening = forking.written(path), found.frames, found.story.opening
    if found.finding:
        drawn = plots.save(study_report.figures(found.finding), path / "plots")
        parts = [title(found.manifest), *study_report.markdown(found.finding, [plot.name for plot in drawn]), _how(found.manifest)]
        text = "\n\n".join(parts) + "\n"
    elif "steps" in frames:
        drawn = plots.save(plots.training(frames["steps"], frames["evaluation"]) | plots.wires(frames["steps"]), path / "plots")
        text = training_markdown(found.manifest, frames["evaluation"], [plot.name for plot in drawn])
    else:
        drawn = plots.draw(frames, path / "plots")
        text = markdown(frames, found.manifest, spans=found.story.spans(), nodes=opening.get("nodes", ()), edges=opening.get("edges", ()),
                        plots=[plot.name for plot in drawn], fork=fork)
    replace(path / "report.md", text.encode("utf-8", "replace"))
    replace(path / "report.html", page([found], fork=fork).encode("utf-8", "replace"))
    return path / "report.html"


def side(path: Path, mark: str = "") -> Side:
    """A run, or a training, as a page shows it. Raises ValueError where it is none, or is damaged."""
    from lab.page import Side
    from lab.study_report import finding_of

    manifest, told, frames = read_run(path)
    try:
        if (path / "training.parquet").is_file():
            evaluation = path / "evaluation.parquet"
            frames |= {"steps": pl.read_parquet(path / "training.parquet"),
                       "evaluation": pl.read_parquet(evaluation) if evaluation.is_file() else pl.DataFrame()}
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} holds a damaged training.parquet or evaluation.parquet ({first_line(error)}); expected them as they were "
                         "written") from None
    scenario = parse((path / "scenario.yaml").read_text(encoding="utf-8"), str(path / "scenario.yaml")).data
    how = {"confidence": 0.95, "resamples": 1000} | {key: value for key, value in _measure(scenario).items() if key in ("confidence", "resamples")}
    return Side(mark, manifest, told, frames, people(_cast(scenario, told)), how | {"seed": manifest.get("seed") or 0},
                finding_of(path))


def _measure(scenario: object) -> Mapping:
    """What a stored scenario, or what lab.score stored, says of measuring; nothing where it says nothing."""
    told = scenario.get("scored", scenario) if isinstance(scenario, dict) else {}
    found = told.get("measure") if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _cast(scenario: object, told: Story) -> list[Persona]:
    """Who spoke, as far as the persona files that the scenario names still tell."""
    from scenarios.personas import find_persona
    from scenarios.reading import ScenarioError

    files = scenario.get("personas") if isinstance(scenario, dict) else None
    found = []
    for who in sorted({who for talk in told.talks.values() for who in talk.cast.values()}) if isinstance(files, list) else ():
        with contextlib.suppress(ScenarioError):
            found.append(find_persona(who, files))
    return found


def read_run(path: Path) -> tuple[dict, Story, dict[str, pl.DataFrame]]:
    """A run's manifest, what its events told, and its frames. Raises ValueError where it is none, or is damaged."""
    manifest, told = read_manifest(path), story(stream_events(path))
    try:
        return manifest, told, read_frames(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} holds a damaged metrics.parquet ({first_line(error)}); expected it as it was written, or none") from None


def markdown(frames: Mapping[str, pl.DataFrame], manifest: Mapping, *, spans: Mapping | None = None,
             nodes: Sequence[str] = (), edges: Sequence[Sequence[str]] = (), plots: Sequence[str] = (),
             fork: forking.Comparison | None = None) -> str:
    """The report. `frames`: turns, judgements, metrics; `spans`: see lab.frames; `nodes` and `edges` as the scenario
    declares them, `plots` the file names under plots/; `fork`: how a fork compares with what it was forked from."""
    turns, judgements = frames["turns"], frames["judgements"]
    parts = [
        title(manifest, _said(manifest)), _fork(fork), _results(frames, plots), _contradictions(turns, judgements, spans or {}),
        _by_node(turns, judgements), _coverage(turns, nodes, edges), _how(manifest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def training_markdown(manifest: Mapping, evaluation: pl.DataFrame, plots: Sequence[str] = ()) -> str:
    """The report of a training. `evaluation`: evaluation.parquet, without columns where there is none yet."""
    tables = [f"### {escape(found.title)}\n\n" + table(found.header, [[f"**{escape(text)}**" if loud else escape(text) for text, loud in row]
                                                                     for row in found.rows]) for found in evaluated(evaluation)]
    shown = tables or ["It has not been examined."]
    images = "\n\n".join(f"![{Path(plot).stem}](plots/{plot})" for plot in plots)
    stopped = [f"**{escape(manifest['stopped'])}**"] if manifest.get("stopped") else []
    return "\n\n".join(part for part in (title(manifest, *stopped), "## What it was worth", *shown, images, _how(manifest)) if part) + "\n"


def escape(text: object) -> str:
    """The text as one line of Markdown that shows it as it is: no markup, HTML, links, table cell ends or controls."""
    return _inline(str(text)).strip()


def _inline(text: str) -> str:
    flat = re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text))
    escaped = re.sub(r"([\\`*_\[\]|~$@^])", r"\\\1", html.escape(flat, quote=False))
    return re.sub(r"(?i)\b(https?|ftp)(?=:)|\bwww(?=\.)", lambda found: found[0] + "<!-- -->", escaped)


def title(manifest: Mapping, *told: str) -> str:
    """The heading, and a sentence on how it ended; `told`: what else to say there."""
    head = f"# {escape(manifest.get('scenario') or manifest['run_id'])}"
    parts = [f"Run `{re.sub(r'[^ -_a-~]', '', manifest['run_id'])}`: **{escape(manifest.get('status'))}**",
             *([escape(manifest["reason"])] if manifest.get("reason") else []), *told]
    return f"{head}\n\n{'; '.join(parts)}."


def _said(manifest: Mapping) -> str:
    counts = manifest.get("counts", {})
    return f"{counts.get('lines', 0)} lines in {counts.get('conversations') or 0} conversations" + (
        f", {counts['failed']} failed" if counts.get("failed") else "")


def _fork(found: forking.Comparison | None) -> str:
    if found is None:
        return ""
    rows = [[*map(escape, row[:3]), *row[3:]] for row in forking.cells(found)]
    parting = [[escape(branch), escape(turn), *(quote(text, None) for text in texts)] for branch, turn, *texts in forking.partings(found)]
    return "\n\n".join(("## Fork", escape(forking.heading(found)), table(forking.HEADER, rows),
                        f"{forking.NOTE} {KEPT}", table(forking.PARTINGS, parting)))


def _results(frames: Mapping[str, pl.DataFrame], plots: Sequence[str]) -> str:
    rows = headline(frames["metrics"], frames["judgements"])
    if not rows:
        return "## Results\n\nNothing was measured."
    cells = [[escape(row.label), escape(row.judge),
              *(row.cells.get(seat, MISSING) + (" ▲" if seat in row.worse else "") for seat in SEATS)]
             for row in rows]
    images = "\n\n".join(f"![{Path(plot).stem.replace('_', ' ')}](plots/{plot})" for plot in plots)
    return "\n\n".join(part for part in ("## Results", table(["measure", "judge", *SEATS], cells), NOTE, images) if part)


def _contradictions(turns: pl.DataFrame, judgements: pl.DataFrame, spans: Mapping) -> str:
    import networkx

    from metrics.contradictions import graph

    found = graph(turns, judgements, spans)
    if not found.number_of_edges():
        return "## Contradictions\n\nNo line was found to contradict anything."
    edges = sorted(found.edges(data=True), key=lambda edge: (edge[1][0] != "fact", edge[0], str(edge[1])))
    facts = Counter((found.nodes[target]["seat"], found.nodes[target]["persona"], found.nodes[target]["fact"])
                    for _, target, _ in edges if found.nodes[target]["kind"] == "fact")
    components = [len(part) for part in networkx.weakly_connected_components(found)]
    told = [f"- {found.number_of_edges()} contradictions of {len({source for source, _, _ in edges})} lines",
            f"- {len(components)} connected components, the largest of {max(components)} lines and facts"]
    if facts:
        (seat, persona, fact), times = min(facts.items(), key=lambda item: (-item[1], item[0]))
        told.append(f"- most contradicted: {escape(fact)} of {escape(persona)} ({escape(seat)}), {times}×")
    lived = [(edge["turn"] - edge["against_turn"], source) for source, _, edge in edges if edge["against_turn"] is not None]
    if lived:
        span, (_, conversation, turn) = max(lived, key=lambda found: (found[0], [-number for number in found[1][1:]]))
        told.append(f"- longest-lived: \\#{conversation} t{turn} contradicts what the same speaker said {span} turns before")
    rows = [[f"\\#{source[1]} t{source[2]}", f"{escape(found.nodes[source]['seat'])} {escape(found.nodes[source]['persona'])}",
             _target(found, target), escape(edge["judge"]), quote(found.nodes[source]["text"], edge["span"])]
            for source, target, edge in edges[:EXAMPLES]]
    shown = f"{EXAMPLES} of {len(edges)}, facts first:" if len(edges) > EXAMPLES else "All of them:"
    return "\n\n".join(["## Contradictions", "\n".join(told), shown,
                        table(["line", "speaker", "contradicts", "judge", "words"], rows)])


def _target(found, target: tuple) -> str:
    node = found.nodes[target]
    return f"fact {escape(node['fact'])}" if node["kind"] == "fact" else f"t{target[2]}: {quote(node['text'], None)}"


def quote(text: str, span: tuple[int, int] | None) -> str:
    """The line, escaped and cut to about QUOTE characters; the characters of `span` in bold."""
    start, end = span or (0, 0)
    first = max(0, min(start - QUOTE // 3, len(text) - QUOTE))
    last = max(end, first + QUOTE)
    bold = f"<b>{_inline(text[start:end])}</b>" if end > start else ""
    shown = f"{_inline(text[first:start])}{bold}{_inline(text[max(end, first):last])}".strip()
    return ("… " if first else "") + shown + (" …" if last < len(text) else "")


def _by_node(turns: pl.DataFrame, judgements: pl.DataFrame) -> str:
    rows = drift_by_node(turns, judgements)
    if rows.is_empty():
        return ""
    cells = [[escape(row["node"]), escape(row["seat"]), escape(row["judge"]), f"{row['inconsistency']:.2f}", row["n"]]
             for row in rows.iter_rows(named=True)]
    return "## Drift by node\n\nShare of the lines said at a node that contradict the speaker's persona.\n\n" \
        + table(["node", "seat", "judge", "inconsistency", "n"], cells)


def _coverage(turns: pl.DataFrame, nodes: Sequence[str], edges: Sequence[Sequence[str]]) -> str:
    if not nodes:
        return ""
    at, taken = coverage(turns, nodes, edges)
    reached, walked = sum(count > 0 for count in at.values()), sum(count > 0 for count in taken.values())
    rows = [[escape(node), count] for node, count in at.items()]
    rows += [[f"{escape(source)} → {escape(target)}", count] for (source, target), count in taken.items()]
    return f"## Coverage\n\n{reached} of {len(at)} nodes reached, {walked} of {len(taken)} edges taken.\n\n" \
        + table(["node or edge", "times"], rows)


def _how(manifest: Mapping) -> str:
    tokens, seconds = manifest.get("tokens", {}), manifest.get("seconds", {})
    rows = [["seed", manifest.get("seed")], ["scenario digest", manifest.get("digest")],
            ["device", f"{manifest.get('device') or MISSING} {manifest.get('dtype') or ''}".strip()],
            *([f"model, {seat}", model] for seat, model in manifest.get("models", {}).items()),
            *([name, version or "not installed"] for name, version in manifest.get("versions", {}).items()),
            ["git revision", manifest.get("git_revision") or MISSING],
            ["started", manifest.get("started")], ["finished", manifest.get("finished") or MISSING],
            *([f"{phase}, seconds", f"{spent:.1f}"] for phase, spent in seconds.items()),
            *([f"tokens, {name.removeprefix('tokens_')}", f"{count:,}"] for name, count in tokens.items())]
    playing, generated = seconds.get("playing", 0.0), tokens.get("generated", 0)
    if playing > 0 and generated:
        rows.append(["generated tokens a second while playing", f"{generated / playing:.0f}"])
    return "## How it was made\n\n" + table(["what", "value"], [[escape(key), escape(value)] for key, value in rows])


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the cells are text that is safe already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def parser() -> Parser:
    out = Parser(prog="python -m lab.report", epilog=COMMANDS,
                 description="Write report.html, report.md and plots of a run, a training or a sweep; of several runs, what differs.")
    out.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, runs/<id>; further ones of the same scenario are compared with "
                     "the first, pair by pair")
    out.add_argument("--out", metavar="DIR", help="where a comparison goes (default: compare-<first run> in the last run's folder)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _report, arguments)


def _report(args: argparse.Namespace) -> int:
    if len(args.runs) == 1:
        if args.out:
            raise ValueError("--out is for a comparison; expected several runs, or none of it: a run's report goes into its own folder")
        print(write_report(args.runs[0]))
        return 0
    from lab.compare import write_comparison
    from lab.compare_tables import tell

    found, path = write_comparison(args.runs, args.out)
    for one in found:
        tell(one)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
