"""`python -m lab.sweep`: a small sweep one after the other and on Ray; failures, a killed sweep, and several nodes one
of which goes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import polars as pl
import pytest
import sweeps
from browsing import awaited, find
from commands import ROOT, SECRETS, TIMEOUT_S, assert_same_play, inside, listening_sockets, manifest, only
from commands import events as run_events
from event_streams import faults
from polars.testing import assert_frame_equal

from lab import report as lab_report
from lab import watch as lab_watch
from lab.results.load import load_run
from lab.store.run_store import open_for_resume
from lab.sweep import main
from lab.sweeps.ray_tune import LOST

ALONE = ("--address", "none", "--display", "plain")
LONG = {"turns": 60}
SLOW_S = 1200


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
    sweep, printed = alone
    assert {path.name for path in sweep.iterdir()} == {
        ".lock",
        "manifest.json",
        "sweep.yaml",
        "events.jsonl",
        "log.txt",
        "trials.parquet",
        "report.html",
        "report.md",
        "plots",
        "trials",
    }
    loaded = load_run(sweep)
    assert (
        loaded.kind == "sweep"
        and loaded.trials["status"].to_list() == ["finished"] * 4
        and manifest(sweep)["trials"] == {"finished": 4}
    )
    for row in loaded.trials.iter_rows(named=True):
        run = load_run(sweep / row["run"])
        assert run.kind == "run" and run.path.name == row["trial"] and run.turns.height == 120 == row["lines"]
        [line] = run.metrics.filter(pl.col("level") == "run", metric="prompt_to_line", seat="user").iter_rows(
            named=True
        )
        assert [row[f"prompt_to_line.ledger.user{end}"] for end in ("", ".low", ".high", ".n")] == [
            line[key] for key in ("value", "low", "high", "n")
        ]
    assert "[4/4]" in printed and "Results" in printed


def test_events_of_a_sweep_and_of_its_trials_are_as_the_page_says(alone):
    sweep, _ = alone
    assert {"phase", "sweep", "trial", "ended"} == {event["event"] for event in run_events(sweep)}
    assert faults(run_events(sweep)) == []
    assert [faults(run_events(log.parent)) for log in sorted(sweep.glob("trials/*/events.jsonl"))] == [[]] * 4


def test_the_best_and_the_values_are_told_in_order(alone):
    trials = pl.read_parquet(alone[0] / "trials.parquet")
    assert trials["seats.user.script"].to_list() == [json.dumps(sweeps.BAKER)] * 2 + [json.dumps(sweeps.NURSE)] * 2
    assert trials["seed"].to_list() == [1, 2, 1, 2] and trials.columns[-3:] == list(sweeps.APART)


def test_the_report_has_a_curve_for_each_axis_and_no_words_as_markup(alone, tmp_path):
    sweep = alone[0]
    text, page = (sweep / "report.md").read_text(), (sweep / "report.html").read_text()
    assert "## Along seats.user.script" in text and "## Along seed" in text
    assert page.count("<svg") == 2 and all(
        f'href="trials/{name}/report.html"' in page for name in sweeps.trials(sweep)["trial"]
    )
    assert inside(lab_report.main, sweep).returncode == 0  # of files alone, the same again
    assert (sweep / "report.md").read_text().split("| finished | 20")[0] == text.split("| finished | 20")[0]


def test_its_page_leads_to_the_dialogues_of_each_trial(alone, browser):
    browser.get((alone[0] / "report.html").resolve().as_uri())
    links = find(browser, 'a[href^="trials/"]')
    assert len(links) == 4 and len(find(browser, "svg")) == 2
    assert "Along seats.user.script" in [title.text for title in find(browser, "h2")]
    links[2].click()  # the first of the nurse's
    awaited(browser, '[data-key="0-1"] p', "I am a nurse.")
    find(browser, "#list button")[1].click()
    awaited(browser, '[data-key="0-3"] p', "I live in Rome.")
    assert browser.current_url.endswith("#c1")


def test_a_sweep_is_watched_from_its_events(alone):
    done = inside(lab_watch.main, alone[0], "--display", "plain")
    assert done.returncode == 0 and "[4/4]" in done.stdout and "== finished" in done.stdout


def test_no_secret_of_the_environment_reaches_the_folder(alone):
    held = b"".join(path.read_bytes() for path in alone[0].rglob("*") if path.is_file())
    assert not [name for name, value in SECRETS.items() if value.encode() in held]


def test_a_trial_that_always_fails_is_a_row_with_its_reason_and_the_others_finish(tmp_path, tiny_name):
    """4,000 turns are more than the small model reads."""
    base = {
        "seats.assistant.script": None,
        "seats.assistant.model": tiny_name,
        "seats.assistant.max_tokens": 2,
        "conversations": 1,
        "seats.assistant.instruction": "",
        "seats.user.script": sweeps.BAKER,
        "device": "cpu",
    }
    file = sweeps.written(tmp_path, axes={"turns": [4000, 2]}, overrides=base, retries=1)
    done, sweep = swept(file, *ALONE, runs=tmp_path / "runs")
    assert done.returncode == 1, done.stderr
    failed, finished = sweeps.trials(sweep).iter_rows(named=True)
    assert (
        failed["status"] == "failed" and "expected" in failed["reason"] and failed["prompt_to_line.ledger.user"] is None
    )
    assert finished["status"] == "finished" and finished["lines"] == 2
    assert [event["status"] for event in sweeps.events(sweep, trial=failed["trial"])] == [
        "running",
        "again",
        "running",
        "failed",
    ]
    assert failed["reason"] in done.stdout and "1 failed" in (sweep / "report.md").read_text()
    again = inside(main, "--resume", sweep, *ALONE)
    # not played again, the failed one is
    assert again.returncode == 1 and len(sweeps.events(sweep, trial=finished["trial"])) == 2


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A sweep on Ray whose driver got SIGKILL while its second trial played: its folder, and where its processes
    listened. It imports Ray Tune, and with it Ray, before it starts a private Ray.
    """
    folder = tmp_path_factory.mktemp("killed")
    file = sweeps.written(folder, overrides=LONG, at_once=1)
    process = sweeps.start(file, "--runs", folder / "runs", "--display", "none")
    sweep = _until(process, folder / "runs", lambda at: sweeps.events(at, status="finished") and _lines(at, 1))
    os.kill(process.pid, signal.SIGSTOP)
    open_to = listening_sockets(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return sweep, open_to


def test_nothing_that_a_sweep_starts_listens_to_other_machines(killed):
    _, open_to = killed
    assert len(open_to) >= 5 and {address for _, address, _ in open_to} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, (
        open_to
    )


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_plays_nothing_twice(alone, killed):
    sweep, _ = killed
    [first, *_] = sweeps.events(sweep, status="finished")
    kept = _stamps(sweep, first["trial"])
    done = inside(main, "--resume", sweep, "--json")
    assert done.returncode == 0, done.stderr
    # running, finished
    assert _stamps(sweep, first["trial"]) == kept and len(sweeps.events(sweep, trial=first["trial"])) == 2
    _whole(sweep)
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(alone[0]))
    printed = json.loads(done.stdout)
    assert printed["sweep"] == str(sweep) and [row["status"] for row in printed["trials"]] == ["finished"] * 4


@pytest.mark.usefixtures("unreported")
def test_a_trial_that_was_cut_off_goes_on_from_its_last_line(alone, tmp_path):
    """A copy of a sweep, cut to what there was of it when its second trial had said 30 lines and one more in part."""
    sweep = tmp_path / "cut"
    shutil.copytree(alone[0], sweep)
    second = sweeps.events(sweep, status="running")[1]
    log = (sweep / "events.jsonl").read_bytes()
    (sweep / "events.jsonl").write_bytes(
        log[: log.index(b"\n", log.index(second["trial"].encode(), log.index(b'"finished"'))) + 1]
    )
    run = sweep / "trials" / second["trial"]
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    said = [place for place, line in enumerate(lines) if b'"event": "line"' in line]
    (run / "events.jsonl").write_bytes(b"".join(lines[: said[30]]) + lines[said[30]][:40])
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "running"}))
    for other in sweeps.trials(sweep)["trial"][2:]:
        shutil.rmtree(sweep / "trials" / other)
    kept = _stamps(sweep, sweeps.trials(sweep)["trial"][0])
    assert inside(main, "--resume", sweep, *ALONE).returncode == 0
    assert len(manifest(run)["resumed"]) == 1 and (run / "events.jsonl").read_bytes().startswith(
        b"".join(lines[: said[30]])
    )
    assert _stamps(sweep, sweeps.trials(sweep)["trial"][0]) == kept
    _whole(sweep)
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(alone[0]))


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True], ids=["small", "temperature.yaml"])
def test_a_node_that_goes_while_trials_play_on_it_changes_nothing_in_the_table(
    published, tmp_path, tiny_name, monkeypatch
):
    """Three nodes on this machine, of which one is killed; the same file in one process tells what is to come out. Two
    minutes, and a quarter of an hour for the published file on the embedded model, whose node goes half-way.
    """
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")
    file, lines, already = ROOT / "scenarios/sweeps/temperature.yaml", 4 * 8, 4
    if not published:
        lines, already = 120, 0
        file = sweeps.written(
            tmp_path,
            overrides={"seats.user.model": tiny_name, "turns": 60, "device": "cpu", "seats.user.max_tokens": 12},
            axes={"seats.user.temperature": [0.2, 1.0], "seed": [1, 2]},
        )
    done, expected = swept(file, *ALONE, runs=tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
        process = sweeps.start(file, "--runs", tmp_path / "runs", "--display", "none", "--address", cluster.address)
        sweep = _until(process, tmp_path / "runs", lambda at: _at_work(at, workers, lines, already), seconds=SLOW_S)
        lost, gone = _at_work(sweep, workers, lines, already)
        cluster.remove_node(gone, allow_graceful=False)
        printed = process.communicate(timeout=SLOW_S)
        assert process.returncode == 0, printed
    finally:
        cluster.shutdown()
    assert sweeps.events(sweep, status="again", reason=LOST, trial=lost)
    assert not published or sweeps.events(sweep, event="nodes", nodes=2), (
        "Ray counts nodes some ten seconds late; the small sweep may be over"
    )
    assert len(manifest(sweep / "trials" / lost)["resumed"]) == 1
    _whole(sweep, lines)
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(expected))
    for trial in sweeps.trials(sweep)["trial"]:
        assert_same_play(sweep / "trials" / trial, expected / "trials" / trial)


@pytest.mark.slow
def test_halving_stops_trainings_early_and_evaluates_the_others(tmp_path, recipe):
    """The small model with lines of up to 8, 5 and 2 tokens, one training after the other on Ray: the first has nobody
    to beat at its first step, the others say less than the median of those before them. A minute.
    """
    recipe()
    file = tmp_path / "rates.yaml"
    file.write_text(
        json.dumps(
            {
                "name": "rates",
                "seed": 5,
                "training": str(tmp_path / "recipe.yaml"),
                "at_once": 1,
                "overrides": {
                    "method": "grpo",
                    "max_steps": 2,
                    "tripwires": "log",
                    "conversations": 2,
                    "evaluation.conversations": 2,
                },
                "axes": {"overrides.seats.user.max_tokens": [8, 5, 2]},
                "scheduler": {"kind": "asha", "metric": "length", "grace_period": 1, "reduction_factor": 2},
            }
        )
    )
    done, sweep = swept(file, "--display", "plain", runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    trials = pl.read_parquet(sweep / "trials.parquet")
    assert trials["status"].to_list() == ["finished", "stopped", "stopped"] and trials["steps"].to_list() == [2, 1, 1]
    for row in trials.iter_rows(named=True):
        run = load_run(sweep / row["run"])
        assert run.kind == "training" and run.training.height == row["steps"]
        assert run.manifest["status"] == ("interrupted" if row["status"] == "stopped" else "finished")
        assert run.evaluation.is_empty() == (row["status"] == "stopped")
        assert row["status"] == "finished" or (
            "stopped early" in row["reason"] and row["reason"] == run.manifest["reason"]
        )


@pytest.mark.usefixtures("unreported")
def test_a_trial_that_finished_when_nobody_heard_of_it_is_not_played_again(alone, tmp_path):
    """A copy of a sweep whose log ends when the first trial had begun."""
    sweep = tmp_path / "unheard"
    shutil.copytree(alone[0], sweep)
    log = (sweep / "events.jsonl").read_bytes()
    (sweep / "events.jsonl").write_bytes(log[: log.index(b"\n", log.index(b'"running"')) + 1])
    kept = {trial: _stamps(sweep, trial) for trial in sweeps.trials(alone[0])["trial"]}
    assert inside(main, "--resume", sweep, *ALONE).returncode == 0
    assert len(sweeps.events(sweep, status="running")) == 1 and {trial: _stamps(sweep, trial) for trial in kept} == kept
    assert_frame_equal(sweeps.trials(sweep), sweeps.trials(alone[0]))


@pytest.mark.usefixtures("unreported")
def test_a_trial_that_was_stopped_is_marked_as_such_by_a_later_sitting_too(alone, tmp_path):
    """Of two that were stopped, the folder of one still says that it runs, and that of the other is not here."""
    sweep = tmp_path / "stopped"
    shutil.copytree(alone[0], sweep)
    first, second, *_ = sweeps.trials(sweep)["trial"]
    with (sweep / "events.jsonl").open("a") as log:
        for trial in (first, second):
            stop_event = {
                "event": "trial",
                "time": "2026-01-01T00:00:00+00:00",
                "trial": trial,
                "status": "stopped",
                "reason": "early",
            }
            log.write(json.dumps(stop_event) + "\n")
    run = sweep / "trials" / first
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "running"}))
    shutil.rmtree(sweep / "trials" / second)
    assert inside(main, "--resume", sweep, *ALONE).returncode == 0
    assert (manifest(run)["status"], manifest(run)["reason"]) == ("interrupted", "early")
    assert sweeps.trials(sweep)["status"].to_list() == ["stopped"] * 2 + ["finished"] * 2


@pytest.mark.parametrize(
    ("display", "said"), [(["--display", "plain"], True), (["--display", "none"], False), (["--json"], False)]
)
def test_an_interrupted_sweep_says_how_to_go_on_where_somebody_reads_it(display, said, tmp_path, monkeypatch):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.sweeps.runner._here", stopped)
    done, sweep = swept(sweeps.written(tmp_path), "--address", "none", *display, runs=tmp_path / "runs")
    assert done.returncode == 130 and manifest(sweep)["status"] == "interrupted"
    sentence = f"Interrupted. Every finished trial is kept: python -m lab.sweep --resume {sweep}\n"
    assert done.stdout.endswith(sentence) if said else done.stdout == ""


@pytest.mark.usefixtures("unreported")
def test_a_sweep_whose_trials_nobody_played_is_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.sweeps.runner._here", lambda *given: None)
    done, sweep = swept(sweeps.written(tmp_path), *ALONE, runs=tmp_path / "runs")
    assert done.returncode == 1 and sweeps.trials(sweep)["status"].to_list() == ["waiting"] * 4


@pytest.mark.slow
def test_a_study_is_swept_too_and_a_trial_is_what_it_comes_to(tmp_path, tiny_name):
    file = tmp_path / "games.yaml"
    file.write_text(
        json.dumps(
            {
                "name": "games",
                "seed": 5,
                "study": str(ROOT / "scenarios/studies/twenty_questions.yaml"),
                "overrides": {"size": "smoke", "seats.assistant.model": tiny_name, "device": "cpu"},
                "axes": {"seed": [1, 2]},
                "best": {"metric": "finding", "seat": "assistant"},
            }
        )
    )
    done, sweep = swept(file, *ALONE, runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    for row in pl.read_parquet(sweep / "trials.parquet").iter_rows(named=True):
        run = load_run(sweep / row["run"])
        assert run.kind == "study" and row["status"] == "finished" and row["verdict"] == run.finding["verdict"]
        assert [row[f"finding.assistant{end}"] for end in ("", ".low", ".high", ".n")] == [
            run.finding[key] for key in ("value", "low", "high", "n")
        ]
    assert "the statistic of a study" in (sweep / "report.md").read_text()
    assert inside(main, "--resume", sweep, *ALONE).returncode == 0 and len(sweeps.events(sweep, status="running")) == 2


def test_two_processes_do_not_go_on_with_one_sweep(alone):
    with open_for_resume(alone[0]):
        done = inside(main, "--resume", alone[0], *ALONE)
    assert done.returncode == 2 and "another process" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no sweep was named"),
        (["scenarios/sweeps/smok.yaml"], "did you mean 'scenarios/sweeps/smoke.yaml'"),
        (["scenarios/sweeps/learning_rate.yaml", "--address", "none"], "expected a sweep without a scheduler"),
        (
            ["scenarios/sweeps/learning_rate.yaml", "samples=1", "scheduler.metric=lenght"],
            "no step of grpo reports; did you mean 'length'?",
        ),
        (
            ["scenarios/sweeps/learning_rate.yaml", "samples=1", "overrides.method=sft"],
            "is 'reward', which no step of sft reports; expected one of loss",
        ),
        (["scenarios/sweeps/smoke.yaml", "best.metric=prompt_line"], "did you mean 'prompt_to_line'?"),
        (["scenarios/sweeps/smoke.yaml", "axes.seats.user.model=[./nothing]"], "cannot be played"),
        (["--resume", "scenarios"], "is no run"),
        (["scenarios/sweeps/smoke.yaml", "--address", "here"], "is no address"),
        (
            ["scenarios/sweeps/smoke.yaml", "--address", "ray://127.0.0.1:9"],
            "is Ray Client's, from where a sweep cannot be led; expected host:port",
        ),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is_written(arguments, said, tmp_path):
    done = inside(main, *arguments, "--runs", tmp_path / "runs")
    assert (
        done.returncode == 2
        and said in done.stderr
        and done.stderr.count("\n") == 1
        and not (tmp_path / "runs").exists()
    )


def _stamps(sweep: Path, trial: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (sweep / "trials" / trial).rglob("*")}


def _whole(sweep: Path, lines: int = 120) -> None:
    """Every line of every trial was said, and none was said twice."""
    for trial in sweeps.trials(sweep)["trial"]:
        said = [(line["conversation"], line["turn"]) for line in run_events(sweep / "trials" / trial, "line")]
        assert len(said) == lines == len(set(said))


def _at_work(sweep: Path, nodes, lines: int, already: int) -> tuple[str, object] | None:
    """A trial of so many lines of which some are said and most are not, and that one of the nodes where it is played;
    once so many trials have finished.
    """
    if len(sweeps.events(sweep, event="trial", status="finished")) < already:
        return None
    for event in sweeps.events(sweep, event="trial", status="running"):
        log = sweep / "trials" / event["trial"] / "events.jsonl"
        said = log.read_bytes().count(b'"event": "line"') if log.is_file() else 0
        for node in nodes if 4 <= said <= lines // 2 else ():
            if event["node"].endswith(node.node_id[:6]):
                return event["trial"], node
    return None


def _lines(sweep: Path, number: int) -> int:
    """Lines said in the trial that was begun as that one."""
    begun = sweeps.events(sweep, status="running")
    log = sweep / "trials" / begun[number]["trial"] / "events.jsonl" if len(begun) > number else None
    return log.read_bytes().count(b'"event": "line"') if log and log.is_file() else 0


def _until(process, runs: Path, reached, seconds: float = TIMEOUT_S) -> Path:
    """The sweep's folder, once it has got so far."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (
            runs.is_dir()
            and (folders := list(runs.iterdir()))
            and (folders[0] / "events.jsonl").is_file()
            and reached(folders[0])
        ):
            return folders[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise TimeoutError(f"{runs} did not get so far in {seconds:.0f} s")


@pytest.mark.slow
def test_the_smoke_sweep_plays_the_embedded_model_on_ray_in_minutes(tmp_path):
    began = time.monotonic()
    done = sweeps.done(ROOT / "scenarios/sweeps/smoke.yaml", "--display", "plain", "--runs", tmp_path)
    assert done.returncode == 0 and time.monotonic() - began < 600, done.stderr
    loaded = load_run(only(tmp_path))
    assert loaded.trials["status"].to_list() == ["finished"] * 4 and loaded.trials["lines"].sum() == 4 * 2 * 4
    assert loaded.trials["prompt_to_line.ledger.user"].is_between(0, 1).all()
