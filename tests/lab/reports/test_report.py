from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from event_streams import judged, line, phase, row, started, usage

from lab.progress.story import story
from lab.report import main
from lab.reports.markdown import escape, quote
from lab.reports.run_markdown import run_markdown
from lab.reports.write import write_report
from lab.store import run_store
from lab.store.frames import JUDGEMENTS, METRICS, judgements_frame, turns_frame
from metrics.by_node import coverage, drift_by_node
from metrics.measure import METRICS as ALL
from metrics.measure import measure_run

ROOT = Path(__file__).parents[3]
EVENTS = [
    started(),
    phase("playing", 0),
    line(0, 0, "Welcome!", node="greet"),
    line(0, 1, "I am a nurse."),
    line(0, 2, "Oh."),
    line(0, 3, "I am a <b>cook</b>."),
    line(1, 0, "Welcome!", node="greet"),
    line(1, 1, "I am a | *cook*."),
    line(1, 2, "Oh."),
    line(1, 3, "Bye."),
    judged(0, 0, row(0, 0, False)),
    judged(0, 1, row(0, 1, False)),
    judged(0, 2, row(0, 2, False)),
    judged(0, 3, row(0, 3, True), row(0, 3, True, "job", span=(7, 18)), row(0, 3, True, "1", "line_to_line")),
    judged(1, 0, row(1, 0, False)),
    judged(1, 1, row(1, 1, True), row(1, 1, True, "job")),
    judged(1, 2, row(1, 2, None)),
    judged(1, 3, row(1, 3, False), row(1, 3, False, "1", "line_to_line")),
    usage(100, 10, 200, 260),
    phase("measuring", 20),
]
MANIFEST = {
    "run_id": "run-1",
    "scenario": "small",
    "status": "finished",
    "seed": 7,
    "digest": "abc",
    "device": "cpu",
    "dtype": "float32",
    "models": {"user": "base:my_adapter"},
    "versions": {"torch": "2.13.0", "ray": None},
    "counts": {"lines": 8, "conversations": 2, "failed": 0},
    "seconds": {"playing": 20.0},
    "tokens": {"generated": 1000, "tokens_new": 1200},
}


def frames() -> dict[str, pl.DataFrame]:
    turns, judgements = turns_frame("run-1", EVENTS), judgements_frame("run-1", EVENTS)
    metrics = measure_run(turns, judgements, metrics=ALL, window=5, confidence=0.95)
    return {"turns": turns, "judgements": judgements, "metrics": metrics}


def report(**how) -> str:
    return run_markdown(
        frames(),
        MANIFEST,
        spans=story(EVENTS).spans(),
        nodes=["greet", "talk", "never"],
        edges=[["greet", "talk"], ["talk", "never"]],
        **how,
    )


def test_the_report_holds_results_graph_nodes_coverage_and_how_it_was_made():
    text = report(plots=["survival.png"])
    # user lines of the persona judge: 0/1 ok, 0/3 bad, 1/1 bad, 1/3 ok -> 2 of 4
    assert "| prompt-to-line consistency | ledger | 0.50 [" in text
    assert "| unscored, prompt-to-line | ledger | 0 of 4 | 1 of 4 |" in text
    # edges: line 0/3 -> fact job, line 0/3 -> line 0/1, line 1/1 -> fact job; one component a conversation; the job of
    # one persona in two conversations is two facts contradicted
    assert "- 2 contradicting lines (user 2); 2 facts contradicted" in text
    assert "- 2 groups of contradictions, the largest of 3 lines and facts" in text
    assert "- most contradicted: job of grace (user), 1 line" in text
    assert "2 of 3 nodes reached, 1 of 2 edges taken." in text
    assert "![survival](plots/survival.png)" in text
    for part in (
        "| seed | 7 |",
        "| torch | 2.13.0 |",
        "| ray | not installed |",
        "| playing, seconds | 20.0 |",
        "| model, user | base:my\\_adapter |",
        "| tokens, generated | 1,000 |",
        "| generated tokens per second of playing | 50 |",
    ):
        assert part in text, part


def test_a_transcript_cannot_write_markdown_or_html():
    text = report()
    assert "<b>&lt;b&gt;cook&lt;/b&gt;</b>." in text, "its own <b> is text, ours marks the span"
    assert "I am a \\| \\*cook\\*." in text
    assert (
        escape("[x](http://e.org) `c` <script>\n# head\x1b[1m")
        == "\\[x\\](http<!-- -->://e.org) \\`c\\` &lt;script&gt; # head \\[1m"
    )
    assert all(row.count("|") - row.count("\\|") == 6 for row in text.splitlines() if row.startswith("| \\#"))


def test_a_long_line_is_cut_around_the_words_that_contradict():
    text = "a" * 500 + " NURSE " + "b" * 500
    cut = quote(text, (501, 506))
    assert "<b>NURSE</b>" in cut and cut.startswith("… ") and cut.endswith(" …") and len(cut) < 200
    assert quote("short", None) == "short"


def test_drift_by_node_counts_scored_lines_only():
    by_node = drift_by_node(frames()["turns"], frames()["judgements"])
    assert by_node.rows() == [
        ("greet", "assistant", "ledger", 0.0, 2),
        ("talk", "assistant", "ledger", 0.0, 1),  # of two lines, one unscored
        ("talk", "user", "ledger", 0.5, 4),
    ]


def test_coverage_counts_lines_at_nodes_and_steps_along_edges():
    nodes, edges = coverage(frames()["turns"], ["greet", "talk", "never"], [["greet", "talk"], ["talk", "never"]])
    assert nodes == {"greet": 2, "talk": 6, "never": 0}
    assert edges == {("greet", "talk"): 2, ("talk", "never"): 0}


def test_a_run_without_a_line_still_has_a_report():
    empty = {
        "turns": turns_frame("r", []),
        "judgements": pl.DataFrame(schema=JUDGEMENTS),
        "metrics": pl.DataFrame(schema=METRICS),
    }
    text = run_markdown(empty, {"run_id": "r", "status": "failed", "reason": "no *space*"})
    assert "No metrics were computed." in text and "no \\*space\\*" in text


@pytest.fixture
def run(tmp_path) -> Path:
    with run_store.create(tmp_path, "small", "name: small\n", 7, "abc") as opened:
        for event in EVENTS:
            opened.append(event)
        opened.finish("finished", metrics=frames()["metrics"])
    return opened.path


def test_the_report_and_its_plots_are_written_into_the_run(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    text = (run / "report.md").read_text()
    plots = sorted(plot.name for plot in (run / "plots").iterdir())
    assert plots == ["consistency.png", "contradictions_by_node.png", "survival.png"]
    assert all(
        (run / "plots" / name).read_bytes().startswith(b"\x89PNG") and f"(plots/{name})" in text for name in plots
    )
    assert "2 of 3 nodes reached" in text, "nodes are those of the started event"


def test_a_run_killed_before_its_frames_were_written_is_reported_from_its_events(run):
    for name in ("turns", "judgements", "metrics"):
        (run / f"{name}.parquet").unlink()
    write_report(run)
    assert "2 contradicting lines (user 2)" in (run / "report.md").read_text()


def test_what_is_no_run_is_refused_in_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is no run: it has no manifest.json" in capsys.readouterr().err


def test_help_imports_neither_matplotlib_nor_torch_nor_ray():
    code = (
        "import sys, lab.report\ntry: lab.report.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('matplotlib', 'torch', 'ray', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
