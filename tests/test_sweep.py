"""`python -m lab.sweep`: a small sweep one after the other and on Ray; failures, a killed sweep, and several nodes one of which goes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import learners
import polars as pl
import pytest
import sweeps
import tiny
from commands import ROOT, SECRETS, TIMEOUT_S, inside, manifest, only
from commands import events as run_events
from polars.testing import assert_frame_equal

from lab import load_run
from lab import report as lab_report
from lab import watch as lab_watch
from lab.store import open_for_resume
from lab.sweep import main

ALONE = ("--address", "none", "--display", "plain")
LONG = {"turns": 60}


def swept(file: Path, *arguments: object, runs: Path):
    """The command in this process; its folder too."""
    done = inside(main, file, "--runs", runs, *arguments)
    return done, only(runs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A sweep of four trials, one after the other in this process: its folder, and what it printed."""
    at = tmp_path_factory.mktemp("alone")
    done, sweep = swept(sweeps.written(at, overrides=LONG), *ALONE, runs=at / "runs")
    assert done.returncode == 0, done.stderr
    return sweep, done.stdout


def test_a_sweep_leaves_its_contract_and_a_run_for_each_trial(alone):
    sweep, told = alone
    assert {path.name for path in sweep.iterdir()} == {
        ".lock", "manifest.json", "sweep.yaml", "events.jsonl", "log.txt", "trials.parquet", "report.html", "report.md", "plots", "trials"}
    found = load_run(sweep)
    assert found.kind == "sweep" and found.trials["status"].to_list() == ["finished"] * 4 and manifest(sweep)["trials"] == {"finished": 4}
    for row in found.trials.iter_rows(named=True):
        run = load_run(sweep / row["run"])
        assert run.kind == "run" and run.path.name == row["trial"] and run.turns.height == 120 == row["lines"]
        [line] = run.metrics.filter(pl.col("level") == "run", metric="prompt_to_line", seat="user").iter_rows(named=True)
        assert [row[f"prompt_to_line.ledger.user{end}"] for end in ("", ".low", ".high", ".n")] == [line[key] for key in ("value", "low", "high", "n")]
    assert "[4/4]" in told and "what came out" in told


def test_the_best_and_the_values_are_told_in_order(alone):
    found = pl.read_parquet(alone[0] / "trials.parquet")
    assert found["seats.user.script"].to_list() == [json.dumps(sweeps.BAKER)] * 2 + [json.dumps(sweeps.NURSE)] * 2
    assert found["seed"].to_list() == [1, 2, 1, 2] and found.columns[-3:] == list(sweeps.APART)


def test_the_report_has_a_curve_for_each_axis_and_no_words_as_markup(alone, tmp_path):
    sweep = alone[0]
    text, page = (sweep / "report.md").read_text(), (sweep / "report.html").read_text()
    assert "## Along seats.user.script" in text and "## Along seed" in text
    assert page.count("<svg") == 2 and all(f'href="trials/{name}/report.html"' in page for name in sweeps.trials(sweep)["trial"])
    before = text
    assert inside(lab_report.main, sweep).returncode == 0 and (sweep / "report.md").read_text() == before


def test_a_sweep_is_watched_from_its_events(alone):
    done = inside(lab_watch.main, alone[0], "--display", "plain")
    assert done.returncode == 0 and "[4/4]" in done.stdout and "== finished" in done.stdout


def test_no_secret_of_the_environment_reaches_the_folder(alone):
    held = b"".join(path.read_bytes() for path in alone[0].rglob("*") if path.is_file())
    assert not [name for name, value in SECRETS.items() if value.encode() in held]


def test_the_same_file_on_ray_gives_the_same_trials(alone, tmp_path):
    done, sweep = swept(sweeps.written(tmp_path, overrides=LONG), "--json", runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(alone[0]))
    told = json.loads(done.stdout)
    assert told["sweep"] == str(sweep) and [row["status"] for row in told["trials"]] == ["finished"] * 4


def test_a_trial_that_always_fails_is_a_row_with_its_reason_and_the_others_finish(tmp_path):
    """The small model's views are too long for it in 4,000 turns."""
    model = learners.saved(tiny.llama(), tmp_path / "tiny")
    base = {"seats.assistant.script": None, "seats.assistant.model": model, "seats.assistant.max_tokens": 2, "conversations": 1,
            "seats.assistant.instruction": "", "seats.user.script": sweeps.BAKER, "device": "cpu"}
    file = sweeps.written(tmp_path, axes={"turns": [4000, 1]}, overrides=base, retries=1)
    done, sweep = swept(file, *ALONE, runs=tmp_path / "runs")
    assert done.returncode == 1, done.stderr
    failed, finished = sweeps.trials(sweep).iter_rows(named=True)
    assert failed["status"] == "failed" and "expected" in failed["reason"] and failed["prompt_to_line.ledger.user"] is None
    assert finished["status"] == "finished" and finished["lines"] == 1
    assert [event["status"] for event in sweeps.events(sweep, trial=failed["trial"])] == ["running", "again", "running", "failed"]
    assert failed["reason"] in done.stdout and "1 failed" in (sweep / "report.md").read_text()
    again = inside(main, "--resume", sweep, *ALONE)
    assert again.returncode == 1 and len(sweeps.events(sweep, trial=finished["trial"])) == 2  # not played again, the failed one is


def test_a_killed_sweep_goes_on_and_plays_nothing_twice(alone, tmp_path):
    file = sweeps.written(tmp_path, overrides=LONG, at_once=1)
    process = sweeps.start(file, "--runs", tmp_path / "runs", "--display", "none")
    sweep = _until(process, tmp_path / "runs", lambda at: sweeps.events(at, status="finished") and _lines(at, 1) >= 30)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    [first, *_] = sweeps.events(sweep, status="finished")
    kept = {path: path.stat().st_mtime_ns for path in (sweep / "trials" / first["trial"]).rglob("*")}
    done = inside(main, "--resume", sweep, "--display", "none")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (sweep / "trials" / first["trial"]).rglob("*")} == kept
    assert len(sweeps.events(sweep, trial=first["trial"])) == 2  # running, finished
    for trial in sweeps.trials(sweep)["trial"]:
        said = [(line["conversation"], line["turn"]) for line in run_events(sweep / "trials" / trial, "line")]
        assert len(said) == 120 == len(set(said))  # none lost, none said twice
    assert sum(len(manifest(run)["resumed"]) for run in (sweep / "trials").iterdir()) == 1
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(alone[0]))


def test_two_processes_do_not_go_on_with_one_sweep(alone):
    with open_for_resume(alone[0]):
        done = inside(main, "--resume", alone[0], *ALONE)
    assert done.returncode == 2 and "another process" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, said", [
    ([], "no sweep was named"), (["scenarios/sweeps/smok.yaml"], "did you mean 'scenarios/sweeps/smoke.yaml'"),
    (["scenarios/sweeps/learning_rate.yaml", "--address", "none"], "expected a sweep without a scheduler"),
    (["scenarios/sweeps/smoke.yaml", "axes.seats.user.model=[./nothing]"], "cannot be played"),
    (["--resume", "scenarios"], "is no run"), (["scenarios/sweeps/smoke.yaml", "--address", "here"], "is no address")])
def test_what_cannot_be_played_is_refused_before_anything_is_written(arguments, said, tmp_path):
    done = inside(main, *arguments, "--runs", tmp_path / "runs")
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def _lines(sweep: Path, number: int) -> int:
    """Lines said in the trial that was begun as that one."""
    begun = sweeps.events(sweep, status="running")
    log = sweep / "trials" / begun[number]["trial"] / "events.jsonl" if len(begun) > number else None
    return log.read_bytes().count(b'"event": "line"') if log and log.is_file() else 0


def _until(process, runs: Path, reached) -> Path:
    """The sweep's folder, once it has got so far."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if runs.is_dir() and (found := list(runs.iterdir())) and (found[0] / "events.jsonl").is_file() and reached(found[0]):
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise TimeoutError(f"{runs} did not get so far in {TIMEOUT_S} s")
