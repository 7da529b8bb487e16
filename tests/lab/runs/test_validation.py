"""A run's judges are validated once, before its first line, and what is not valid is shown as that."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import polars as pl
import pytest
from commands import LONG, NOBODY_TALKS, ROOT
from event_streams import faults
from rich.console import Console

from lab.dialogue.validation import validation_events
from lab.live.run_monitor import SilentMonitor, conclude, run_summary
from lab.reports.comparison import compare_runs, read_measured
from lab.reports.comparison_tables import comparison_markdown, differences, notes
from lab.reports.html import Cell
from lab.reports.run_markdown import run_markdown
from lab.reports.run_page import runs_page
from lab.reports.sides import read_run, side
from lab.reports.validity_text import NOT_VALID, SOURCES, is_valid, validity_sentences
from lab.runs.runner import new_store, perform_run
from lab.store.event_log import read_events
from lab.store.run_store import open_for_resume, read_frames, read_manifest
from metrics.catalogue import ENTRIES, MEASURES
from metrics.judges import JUDGED, LINES, judgement
from metrics.judges.ledger import Ledger
from metrics.validation.validity import Validity
from scenarios.personas import cast
from scenarios.scenario import load_scenario

QUICK = [*NOBODY_TALKS, "turns=4", "measure.metrics=[prompt_to_line, line_to_line, drift]"]
BLIND = Validity("ledger", "prompt_to_line", False, None, 30, 30, 0, *(0.5, 0.4, 0.6), *(0, 0, 0.1), *(0, 0, 0.1), 0, 0)


def played(path, *overrides):
    """The folder of a run whose speakers read from scripts."""
    with new_store(path, load_scenario(ROOT / LONG, [*QUICK, *overrides])) as store:
        perform_run(load_scenario(ROOT / LONG, [*QUICK, *overrides]), store, SilentMonitor(), address="none")
        return store.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return played(tmp_path_factory.mktemp("runs"))


def test_the_result_is_an_event_before_the_first_line_and_stands_in_the_manifest(run):
    events = read_events(run)
    kinds = [event["event"] for event in events]
    assert kinds.count("validated") == 1 and kinds.index("validated") < kinds.index("line")
    event = events[kinds.index("validated")]
    assert faults([event]) == []
    manifest = read_manifest(run)
    assert manifest["validation"] == {"rows": event["rows"], "omitted": event["omitted"]}
    assert [(row["judge"], row["metric"], row["valid"]) for row in event["rows"]] == [
        ("ledger", "prompt_to_line", True),
        ("ledger", "line_to_line", True),
    ]
    assert "validating" in manifest["seconds"] and "validate: true" in (run / "scenario.yaml").read_text()


def test_a_sentence_stands_beside_the_figures_of_the_table_and_of_both_reports(run):
    sentence = validity_sentences(read_manifest(run))[0]
    assert sentence.startswith("ledger: finds ") and "of clean lines (n=" in sentence
    page = (run / "report.html").read_text()
    assert "Validity of the judges" in page and sentence in page
    assert sentence.replace("[", "\\[").replace("]", "\\]") in (run / "report.md").read_text()


def test_observed_and_corrected_consistency_stand_beside_each_other(run):
    rows = {
        row["metric"]: row
        for row in pl.read_parquet(run / "metrics.parquet").filter(seat="user", level="run").to_dicts()
    }
    observed, corrected = rows["prompt_to_line"], rows["corrected_prompt_to_line"]
    assert corrected["value"] <= observed["value"] and corrected["low"] < corrected["high"]
    assert "prompt-to-line, corrected" in (run / "report.md").read_text()


def test_a_resumed_run_is_not_validated_again(run):
    with open_for_resume(run) as store:
        scenario = load_scenario(run / "scenario.yaml")
        perform_run(scenario, store, SilentMonitor(), address="none")
    assert sum(event["event"] == "validated" for event in read_events(run)) == 1
    assert read_manifest(run)["validation"]["rows"]


def test_validation_can_be_switched_off_and_does_not_decide_the_dialogues(run, tmp_path):
    other = played(tmp_path, "measure.validate=false")
    assert "validation" not in read_manifest(other) and "Validity" not in (other / "report.html").read_text()
    assert (
        read_frames(other)["turns"]
        .drop("run_id", "seconds")
        .equals(read_frames(run)["turns"].drop("run_id", "seconds"))
    )
    assert read_manifest(other)["digest"] == read_manifest(run)["digest"]


def test_personas_without_facts_are_judged_unscored_and_that_is_said(tmp_path):
    people = [
        "seats.user.persona={name: Ada, card: Ada lives in Oslo.}",
        "seats.assistant.persona=unknown",
        "measure.judge=ledger",
    ]
    where = played(tmp_path, *people)
    assert validity_sentences(read_manifest(where)) == [
        "ledger: scores no planted contradiction or no clean line here: the persona has no facts",
        "ledger, line-to-line: scores no planted contradiction or no clean line here: the persona has no facts",
        f"nothing planted: {cast(load_scenario(where / 'scenario.yaml'))[0]['assistant'].name}: "
        "nothing is known of the persona",
    ]


def blind(run) -> dict:
    return read_manifest(run) | {"validation": {"rows": [BLIND.plain()], "omitted": []}}


def consistent(frames) -> dict[str, pl.DataFrame]:
    """The frames of a run in which nothing contradicts."""
    whole = pl.col("metric") == "prompt_to_line"
    return frames | {"metrics": frames["metrics"].with_columns(value=pl.when(whole).then(1.0).otherwise("value"))}


def test_what_is_not_valid_here_is_grey_and_never_1(run):
    frames = consistent(read_frames(run))
    console = Console(record=True, width=160, file=io.StringIO(), force_terminal=True, color_system="standard")
    conclude(console, run_summary(frames, blind(run)), "runs/x", validity_sentences(blind(run)))
    printed = console.export_text(styles=True)
    [row] = [line for line in printed.splitlines() if "prompt-to-line consistency" in line]
    assert row.count(NOT_VALID) == 1 and "1.00 [" not in row and "\x1b[90m" in row
    drift = next(line for line in printed.splitlines() if "global drift per turn" in line)
    assert NOT_VALID in drift and "▲" not in drift
    assert NOT_VALID not in next(line for line in printed.splitlines() if "line-to-line consistency" in line)
    assert f"AUROC 0.50 [0.40, 0.60]: {NOT_VALID}" in printed


def test_every_figure_made_of_judgements_of_lines_says_of_which():
    assert set(SOURCES) <= set(MEASURES) and {metric for of in SOURCES.values() for metric in of} <= set(JUDGED)
    of_lines = {entry.name for entry in ENTRIES if set(entry.needs) & set(LINES)}
    made_of_lines = {name for entry in ENTRIES if of_lines & {entry.name, entry.part_of} for name in entry.figures}
    assert made_of_lines <= {*LINES, *SOURCES}
    blind_everywhere = {(metric, "ledger") for metric in LINES}
    shown_as_valid = {name for name in made_of_lines if is_valid(name, "ledger", blind_everywhere)}
    assert shown_as_valid == {"judged_pairs", "qa_drift_slope", "qa_drift_thirds"}


def test_reports_grey_what_is_not_valid_here(run):
    shown = side(run)
    frames = consistent(shown.frames)
    text = run_markdown(frames, blind(run))
    row = next(line for line in text.splitlines() if line.startswith("| prompt-to-line consistency"))
    assert row.count(f"{NOT_VALID}</small>") == 1 and "1.00 [" not in row
    object.__setattr__(shown, "manifest", blind(run))
    assert '<td class="faint">' in runs_page([shown]) and Cell("x").faint is False


def test_a_comparison_greys_what_is_not_valid_in_either_run(run, monkeypatch):
    import lab.reports.comparison as comparison_module

    good = read_measured(run)
    monkeypatch.setattr(comparison_module, "read_run", lambda path: (blind(run), *read_run(path)[1:]))
    bad = read_measured(run)
    assert good.invalid == set() and bad.invalid == {("prompt_to_line", "ledger")}
    same = compare_runs(good, bad)
    text = comparison_markdown(same)
    [unseen] = [note for note in notes(same) if NOT_VALID in note]
    assert "prompt-to-line consistency (ledger" in unseen and "1.000" not in unseen and unseen in text
    assert "prompt-to-line consistency" not in next(
        note for note in notes(same) if note.startswith("Equal in both runs in")
    )
    for row in same.rows:
        row.update(value=-0.5, low=-0.6, high=-0.4, a=1.0, b=0.5, detectable=0.1)
    by_label = {row.cells[0]: row for row in differences(same)}
    blinded = by_label["prompt-to-line consistency"]
    assert not blinded.valid and not blinded.clear and blinded.cells[3] == "–" and NOT_VALID in blinded.cells[5]
    assert f"{NOT_VALID}</small>" in comparison_markdown(same) and "8 of 10" in " ".join(notes(same))
    assert "prompt-to-line" not in next(note for note in notes(same) if "8 of 10" in note)
    assert by_label["line-to-line consistency"].clear and by_label["line-to-line consistency"].cells[3] == "1.000"


@dataclass(frozen=True)
class Blind:
    name: str = "blind"

    def judge(self, pairs):
        return [judgement(pair, self.name, p_inconsistent=0.0, verdict=False) for pair in pairs]


def test_a_judge_that_sees_nothing_is_said_to_be_not_valid_and_one_event_holds_all_judges():
    scenario = load_scenario(ROOT / LONG, ["measure.metrics=[prompt_to_line]"])
    phase, event = validation_events(scenario.measure, [Ledger(), Blind()], cast(scenario), 1)
    assert (phase["phase"], phase["detail"]) == ("validating", "ledger, blind")
    assert [row["valid"] for row in event["rows"]] == [True, False]
    assert list(validation_events(scenario.measure, [Blind()], cast(scenario), 1, [event])) == []


def test_nothing_is_validated_where_no_line_is_judged():
    scenario = load_scenario(ROOT / LONG, ["measure.metrics=[qa]"])
    assert list(validation_events(scenario.measure, [Ledger()], cast(scenario), 1)) == []


def test_the_event_is_json(run):
    assert json.loads(json.dumps(read_manifest(run)["validation"]))
