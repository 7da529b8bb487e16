"""Runs and trainings as arms of a study: the ladder on a small random model, from the command line to its table, killed
and resumed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import corpora
import polars as pl
import pytest
from commands import events, inside, manifest, only
from event_streams import faults
from polars.testing import assert_frame_equal

from lab.live.study_screen import study_progress_text
from lab.progress.study import StudyProgress
from lab.report import main as report
from lab.run import main
from lab.studies.arms import FOLDER, parameters

STUDY = """
study: ladder
name: small ladder
claim: c
source: s
seed: 7
dtype: float32
device: cpu
size: smoke
stimuli: interventions.yaml
seats: {assistant: {model: MODEL}}
sizes:
  smoke: &size
    {interventions: [bare card, better card, online rl], steps: 2, dialogues: 2, searched: 1, developed: 1,
     examined: 2, turns: 4}
  default: *size
  full: *size
"""
INTERVENTIONS = """
scenario: small.yaml
held_out: [grace, tomas]
development: [leon]
exam: {measure.metrics: [prompt_to_line, drift, tripwires]}
interventions:
  bare card: {}
  better card: {search: [{seats.user.instruction: Be brief.}]}
  online rl: {train: learn.yaml, changes: {tuning.r: 2}}
scripts: {evades: [Yes.], lies: [I am 90 years old.]}
"""
LEARN = """
name: learn
seed: 3
scenario: small.yaml
method: grpo
num_generations: 2
save_steps: 1
reward: {qa: 0.0, relevance: 1.0, probes: 0}
tuning: {learning_rate: 0.01}
evaluation: {judge: ledger}
"""
# lines, or steps and exams
ARMS = {
    "bare card, development": 4,
    "bare card": 8,
    "better card, tried 1": 4,
    "better card, development": 4,
    "better card": 8,
    "online rl, training": 4,
    "online rl, development": 4,
    "online rl": 8,
    "evades": 8,
    "lies": 8,
    "other seeds": 8,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_name):
    at = tmp_path_factory.mktemp("ladder")
    for name, text in {
        "small.yaml": corpora.SCENARIO,
        "study.yaml": STUDY,
        "interventions.yaml": INTERVENTIONS,
        "learn.yaml": LEARN,
    }.items():
        (at / name).write_text(text.replace("MODEL", tiny_name))
    return at / "study.yaml"


@pytest.fixture(scope="module")
def climbed(small):
    done = inside(main, small, "--address", "none", "--display", "plain", "--runs", small.parent / "runs")
    assert done.returncode == 0, done.stderr
    return only(small.parent / "runs"), done.stdout


def arms(run: Path) -> dict[str, Path]:
    """Folder by the arm's words."""
    return {folder.name.rpartition("-")[0]: folder for folder in (run / FOLDER).iterdir()}


@pytest.mark.slow
def test_events_of_a_study_of_runs_and_trainings_are_as_the_page_says(climbed):
    run, _ = climbed
    assert {"arm", "answer"} & {event["event"] for event in events(run)}
    assert faults(events(run)) == []
    assert not [fault for arm in arms(run).values() for fault in faults(events(arm))]


@pytest.mark.slow
def test_every_arm_is_an_ordinary_run_or_training(climbed):
    run, printed = climbed
    kept = arms(run)
    assert kept.keys() == {arm.replace(", ", "-").replace(" ", "-") for arm in ARMS}
    assert {manifest(folder)["status"] for folder in kept.values()} == {"finished"} and (
        kept["online-rl"] / "report.html"
    ).is_file()
    assert (kept["online-rl-training"] / "adapter/adapter_config.json").is_file() and len(
        pl.read_parquet(kept["online-rl-training"] / "training.parquet")
    ) == 2
    assert str(kept["online-rl-training"] / "adapter") in (kept["online-rl"] / "scenario.yaml").read_text()
    assert "The ladder" in printed and inside(report, kept["bare-card"], kept["online-rl"]).returncode == 0


@pytest.mark.slow
def test_all_interventions_play_the_same_strangers_and_train_with_others(climbed):
    kept = arms(climbed[0])
    casts = {
        name: pl.read_parquet(kept[name] / "turns.parquet").select("conversation", "turn", "seat", "persona", "node")
        for name in ("bare-card", "better-card", "online-rl", "evades")
    }
    assert len({str(cast.to_dicts()) for cast in casts.values()}) == 1
    assert set(casts["online-rl"].filter(seat="user")["persona"]) <= {"grace", "tomas"}
    assert set(pl.read_parquet(kept["better-card-development"] / "turns.parquet").filter(seat="user")["persona"]) == {
        "leon"
    }


@pytest.mark.slow
def test_the_table_tells_what_each_intervention_cost(climbed):
    table = json.loads((climbed[0] / "finding.json").read_text())["tables"]["The ladder"]
    steps = pl.read_parquet(arms(climbed[0])["online-rl-training"] / "training.parquet")
    assert list(table) == ["bare card", "better card", "online rl"]
    assert table["online rl"]["tokens learnt or tried"]["value"] == steps["tokens_learnt"].sum()
    assert (
        table["online rl"]["trained parameters"]["value"]
        == parameters(arms(climbed[0])["online-rl-training"] / "adapter")
        > 0
    )
    assert table["bare card"]["seconds before"]["value"] == 0 < table["better card"]["seconds before"]["value"]
    assert "| trained parameters | 0 | 0 | " in (climbed[0] / "report.md").read_text()


@pytest.mark.slow
def test_the_view_counts_lines_steps_and_exams(climbed):
    course = StudyProgress()
    for event in events(climbed[0]):
        course.fold(event)
    assert (
        course.arms() == {arm: (count, count) for arm, count in ARMS.items()}
        and study_progress_text(course) == "[68/68]"
    )
    assert {
        event["detail"].split()[0] for event in events(climbed[0], "arm") if event["arm"] == "online rl, training"
    } == {"step", "evaluating:"}


@pytest.mark.slow
def test_a_killed_study_plays_what_is_left_of_its_arms(climbed):
    """In the same place, since what a intervention wears is named by its path: three arms are as a process leaves them
    that is killed. Slow, since they are played and trained anew.
    """
    run, _ = climbed
    before = {
        name: pl.read_parquet(folder / "turns.parquet")
        for name, folder in arms(run).items()
        if (folder / "metrics.parquet").is_file()
    }
    finding = json.loads((run / "finding.json").read_text())
    kept = arms(run)
    for name in ("better-card", "online-rl-training"):
        lines = (kept[name] / "events.jsonl").read_text().splitlines(keepends=True)
        cut = (
            next(n for n, line in enumerate(lines) if '"event": "line"' in line or '"event": "checkpoint"' in line) + 1
        )
        (kept[name] / "events.jsonl").write_text("".join(lines[:cut]) + '{"event"')
        (kept[name] / "manifest.json").write_text(json.dumps(manifest(kept[name]) | {"status": "running"}))
    shutil.rmtree(kept["online-rl-training"] / "checkpoints/step-000002")
    (kept["lies"] / "manifest.json").unlink()  # killed while the folder was made
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "running"}))
    done = inside(main, "--resume", run, "--address", "none", "--display", "none")
    assert done.returncode == 0, done.stderr
    assert arms(run) == kept and manifest(kept["better-card"])["resumed"] and not manifest(kept["bare-card"])["resumed"]
    for name, turns in before.items():
        assert_frame_equal(
            pl.read_parquet(kept[name] / "turns.parquet").drop("seconds"), turns.drop("seconds"), abs_tol=1e-3
        )
    again = json.loads((run / "finding.json").read_text())
    assert again["controls"] == finding["controls"] and again["verdict"] == finding["verdict"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("seats.assistant.adapter=/somewhere", "what wears an adapter does not learn here; expected a model by itself"),
        ("seats.assistant.endpoint=http://127.0.0.1:9", "http://127.0.0.1:9 does not learn here"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(change, reason):
    done = inside(main, "scenarios/studies/simulator_rl.yaml", "size=smoke", change, "--address", "none", "--dry-run")
    assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1


def test_a_dry_run_tells_lines_and_steps(small):
    done = inside(main, small, "--dry-run")
    assert (
        done.returncode == 0
        and "  online rl, training: 4 lines or steps" in done.stdout
        and "  bare card: 8 lines" in done.stdout
    )
