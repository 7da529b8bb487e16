"""One small dialogue, judged by the ledger: the number of contradicting lines is the same wherever it is shown."""

from __future__ import annotations

import io
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from browsing import find, opened
from event_streams import ended, judged, line, phase, replay, started
from rich.console import Console

from lab.live.run_monitor import PlainMonitor, run_summary
from lab.live.run_screen import render
from lab.progress.story import story
from lab.reports.conflict_text import counts
from lab.reports.run_markdown import run_markdown
from lab.reports.run_page import runs_page
from lab.reports.sides import Side
from lab.reports.transcript_reader import packed, people
from lab.store.frames import judgements_frame, turns_frame
from metrics.conflicts import Conflict, conflicts_of_lines
from metrics.judges.ledger import Ledger
from metrics.judges.pairs import pairs_of_line
from metrics.measure import measure_run
from scenarios.personas import find_persona
from scenarios.records import Line

TOWN = Path(__file__).parents[3] / "scenarios" / "personas" / "townsfolk.yaml"
CONFIDENCE = 0.95
SAID = {  # Grace's, who lives in Osaka; the host says "Oh." in between
    1: "I live in Osaka.",
    3: "Yes, I live in Osaka.",
    5: "I live in Osaka, as I said.",
    7: "I live in Lisbon.",  # contradicts the home and three earlier lines
    9: "I live in Osaka.",  # returns
    11: "I'm a nurse.",  # contradicts the job
    13: "Good bye.",
}
TOLD = "2 contradicting lines (user 2); 2 facts contradicted; 1 line returns to the persona"


def events() -> list[dict]:
    cast = {"user": find_persona("grace", [TOWN]), "assistant": find_persona("tomas", [TOWN])}
    recorded, own = [started(0, 1, 14), phase("playing", 1)], []
    for turn in range(14):
        text = SAID.get(turn, "Oh.")
        recorded.append(line(0, turn, text))
        rows = []
        if turn in SAID:
            spoken = Line(0, turn, "user", "grace", "talk", text, 3)
            pairs = list(pairs_of_line(spoken, own, cast, ("prompt_to_line", "line_to_line"), own))
            rows = [asdict(row) for row in Ledger().judge(pairs)]
            own.append(spoken)
        recorded.append(judged(0, turn, *rows))
    return recorded


@pytest.fixture(scope="module")
def run() -> Side:
    recorded = events()
    turns, judgements = turns_frame("run-1", recorded), judgements_frame("run-1", recorded)
    metrics = ["prompt_to_line", "line_to_line", "contradictions"]
    measured = measure_run(turns, judgements, metrics=metrics, window=5, confidence=CONFIDENCE)
    frames = {"turns": turns, "judgements": judgements, "metrics": measured}
    manifest = {"run_id": "run-1", "scenario": "small", "status": "finished"}
    return Side("", manifest, story(recorded), frames, people([find_persona("grace", [TOWN])]), CONFIDENCE)


def value(run: Side, metric: str) -> float:
    (row,) = run.frames["metrics"].filter(metric=metric, level="run", seat="user").rows(named=True)
    return row["value"]


def test_frames_table_report_transcripts_and_live_views_count_the_same_lines(run):
    assert (value(run, "contradicting_lines"), value(run, "contradicted_facts")) == (2.0, 2.0)
    assert value(run, "prompt_to_line") == pytest.approx(1 - 2 / 7), "the return is no contradicting line"

    console = Console(file=io.StringIO(), width=120)
    console.print(run_summary(run.frames))
    table = console.file.getvalue()
    assert re.search(r"contradicting lines +ledger +2 n=7", table) and re.search(
        r"facts contradicted +ledger +2", table
    )

    page, text = runs_page([run]), run_markdown(run.frames, run.manifest, spans=run.story.spans())
    assert f"<p>{TOLD}.</p>" in page and "all 2</summary>" in page and f"- {TOLD}" in text.replace("\\", "")

    (entry,) = packed(run.story.talks).index
    assert entry["bad"] == {"user": 2, "assistant": 0}

    state = replay(events())
    assert state.contradicting_lines == 2 and [mark.turn for mark in state.contradictions] == [7, 11]
    console = Console(file=io.StringIO(), width=140)
    console.print(render(state, 140, 40))
    shown = console.file.getvalue()
    assert "· 2 contradicting lines" in shown and "latest contradicting lines · 2 so far" in shown and "· ✗ 2 " in shown


def test_repeats_fold_and_a_return_has_its_own_sign_in_every_view(run):
    conflicts = conflicts_of_lines(run.frames["judgements"])
    assert conflicts == {
        (0, 7): Conflict(("home",), (1, 3, 5), ("ledger",), returns=False),
        (0, 9): Conflict((), (7,), ("ledger",), returns=True),
        (0, 11): Conflict(("job",), (), ("ledger",), returns=False),
    }
    assert {(c, turn): conflict for c, turn, conflict in run.story.conflicts()} == conflicts
    assert "fact home and 3 earlier lines" in runs_page([run])
    assert "| fact home and 3 earlier lines | ledger |" in run_markdown(run.frames, run.manifest)

    console = Console(file=io.StringIO(), width=200)
    with PlainMonitor(console) as monitor:
        for event in [*events(), ended(60)]:
            monitor.show(event)
    said = [text for text in console.file.getvalue().splitlines() if text.startswith("  ")]
    assert said == [
        "  ✗ #0 t7 user grace contradicts fact home and 3 earlier lines (ledger): “I live in Lisbon”",
        "  ↩ #0 t9 user grace returns to the persona, conflicts with t7 “I live in Lisbon.” (ledger): "
        "“I live in Osaka”",
        "  ✗ #0 t11 user grace contradicts fact job (ledger): “I'm a nurse”",
    ]
    assert "[14/14] lines · 2 contradicting lines" in console.file.getvalue()


def test_counts_by_judge_are_told_where_there_are_several():
    both = Conflict(("job",), (), ("ledger", "nli"), returns=False)
    one = Conflict(("persona",), (), ("nli",), returns=False)
    assert counts([(0, "user", both), (0, "assistant", one), (1, "user", both)]) == (
        "3 contradicting lines (assistant 1, user 2); by judge: ledger 2, nli 3; 2 facts contradicted"
    )


def test_transcript_has_a_red_sign_for_each_contradicting_line_and_one_for_the_return(browser, run, tmp_path):
    (tmp_path / "report.html").write_text(runs_page([run]))
    opened(browser, tmp_path / "report.html")
    assert [sign.text for sign in find(browser, ".who .bad, .who .good")] == ["✗", "↩", "✗"]
    assert [link.text for link in find(browser, ".mark-link")] == [
        "contradicts home (ledger)",
        "conflicts with 3 earlier lines (ledger)",
        "returns to the persona, conflicts with own line t7 (ledger)",
        "contradicts job (ledger)",
    ]
    assert [words.text for words in find(browser, "#talk mark")] == ["I live in Lisbon", "I'm a nurse"]
    find(browser, ".mark-link")[1].click()
    assert {box.get_attribute("data-key") for box in find(browser, ".lit")} == {"0-1", "0-3", "0-5", "0-7"}
    assert "✗2" in find(browser, "#list button")[0].text
