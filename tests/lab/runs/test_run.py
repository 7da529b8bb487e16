"""`python -m lab.run` end to end on the embedded model. Runs are shared between tests: each takes seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from commands import (
    LONG,
    NOBODY_TALKS,
    ROOT,
    SECRETS,
    assert_same_play,
    descendants,
    events,
    inside,
    judgements,
    lab,
    listening_sockets,
    manifest,
    only,
    start,
    turns,
    wait_for_lines,
)
from event_streams import faults

from lab.run import main

SMALL = [
    "conversations=2",
    "turns=6",
    "seats.assistant.max_tokens=12",
    "seats.user.max_tokens=12",
    "measure.judge=ledger",
]
EXACT = [
    *SMALL,
    "dtype=float32",
    "seats.assistant.max_tokens=8",
    "seats.user.max_tokens=8",
    "measure.qa_every=4",
    "measure.metrics=[prompt_to_line,line_to_line,qa]",
]


def here(*arguments: object) -> subprocess.CompletedProcess:
    return inside(main, *arguments)


@dataclass(frozen=True)
class Played:
    path: Path
    stdout: str
    stderr: str


def play(runs: Path, *arguments: object, run=lab) -> Played:
    done = run(*arguments, "--runs", runs)
    assert done.returncode == 0, done.stderr
    return Played(only(runs), done.stdout, done.stderr)


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory):
    return play(tmp_path_factory.mktemp("ray"), LONG, *SMALL, "dtype=float32", "--display", "plain")


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory):
    return play(
        tmp_path_factory.mktemp("none"),
        LONG,
        *SMALL,
        "dtype=float32",
        "--display",
        "plain",
        "--address",
        "none",
        run=here,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """In float32, from start to end."""
    return play(
        tmp_path_factory.mktemp("undisturbed"), LONG, *EXACT, "--address", "none", "--display", "none", run=here
    ).path


@pytest.fixture(scope="module")
def killed_and_resumed(undisturbed, tmp_path_factory):
    """The undisturbed run's saved scenario, stopped and killed after 5 of 12 lines, its last event torn, and resumed;
    with the refusal that a second resume got meanwhile.
    """
    runs = tmp_path_factory.mktemp("killed")
    process = start(undisturbed / "scenario.yaml", "--address", "none", "--runs", runs)
    path = wait_for_lines(process, runs, 5)
    os.killpg(process.pid, signal.SIGSTOP)
    second = here("--resume", path, "--address", "none")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    left = len(events(path, "line"))
    with (path / "events.jsonl").open("a") as file:
        file.write('{"event": "line", "time": "2026-01-01T00:00:')
    done = here("--resume", path, "--address", "none", "--display", "plain")
    return path, left, second, done


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A run on Ray whose engine is killed after 5 of 12 lines, and which Ctrl-C stops three lines later at the
    earliest: its folder, exit code, what it printed, and where its processes listened. Ctrl-C reaches every process of
    the terminal's group.
    """
    runs = tmp_path_factory.mktemp("troubled")
    process = start(LONG, *EXACT, "--display", "plain", "--runs", runs)
    path = wait_for_lines(process, runs, 5)
    (engine,) = [pid for pid, line in descendants(process.pid).items() if "EngineHost" in line]
    open_to = listening_sockets(process.pid)
    os.kill(engine, signal.SIGKILL)
    wait_for_lines(process, runs, 8)  # the questions that follow take a while
    os.killpg(process.pid, signal.SIGINT)
    printed, complaint = process.communicate(timeout=60)
    return path, process.returncode, printed, complaint, open_to


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return play(tmp_path_factory.mktemp("scripted"), LONG, *NOBODY_TALKS, "turns=6", "--display", "plain").path


# -- a run


def test_run_on_ray_equals_run_in_process(on_ray, without_ray):
    """On one device and with the same batches, bit for bit."""
    there, here = turns(on_ray.path), turns(without_ray.path)
    assert there.height == 12
    assert there["text"].to_list() == here["text"].to_list()
    assert there["token_ids"].to_list() == here["token_ids"].to_list()


@pytest.mark.parametrize("kind", ["without_ray", "scripted"])
def test_events_of_a_run_are_as_the_page_says(kind, request):
    played = request.getfixturevalue(kind)
    log = events(getattr(played, "path", played))
    assert {"phase", "started", "line", "judged", "walk", "usage", "conversation", "ended", "validated"} == {
        e["event"] for e in log
    }
    assert faults(log) == []


def test_frames_have_the_columns_and_types_users_rely_on(on_ray):
    assert dict(pl.read_parquet(on_ray.path / "turns.parquet").schema) == {
        "run_id": pl.String,
        "conversation": pl.Int64,
        "persona": pl.String,
        "turn": pl.Int64,
        "seat": pl.String,
        "node": pl.String,
        "text": pl.String,
        "tokens": pl.Int64,
        "token_ids": pl.List(pl.Int64),
        "logprob": pl.Float64,
        "seconds": pl.Float64,
    }
    assert dict(pl.read_parquet(on_ray.path / "judgements.parquet").schema) == {
        "run_id": pl.String,
        "conversation": pl.Int64,
        "turn": pl.Int64,
        "seat": pl.String,
        "metric": pl.String,
        "judge": pl.String,
        "against": pl.String,
        "p_inconsistent": pl.Float64,
        "verdict": pl.Boolean,
        "unscored": pl.String,
    }
    assert dict(pl.read_parquet(on_ray.path / "metrics.parquet").schema) == {
        "run_id": pl.String,
        "metric": pl.String,
        "judge": pl.String,
        "seat": pl.String,
        "level": pl.String,
        "conversation": pl.Int64,
        "turn": pl.Int64,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n": pl.Int64,
    }


def test_turns_hold_what_was_sampled(on_ray):
    sampled = turns(on_ray.path).filter(pl.col("logprob").is_not_null())
    assert sampled.height > 0 and (sampled["logprob"] < 0).all()
    assert (sampled["token_ids"].list.len() == sampled["tokens"]).all() and (sampled["tokens"] <= 32).all()


def test_manifest_tells_a_finished_run(on_ray):
    record = manifest(on_ray.path)
    assert (record["status"], record["reason"], record["run_id"], record["seed"]) == (
        "finished",
        None,
        on_ray.path.name,
        7,
    )
    assert record["counts"] == {
        "conversations": 2,
        "finished": 2,
        "failed": 0,
        "lines": 12,
        "recovered": 0,
        "unscored": 0,
        "judgements": judgements(on_ray.path).height,
    }
    assert record["models"] == {"assistant": "embedded", "user": "embedded"} and record["device"] and record["dtype"]


def test_every_phase_takes_its_time(on_ray):
    """Drawing the plots is part of the run: `reporting` is told before the run ends, and not over at once."""
    seconds = manifest(on_ray.path)["seconds"]
    assert list(seconds) == ["loading", "validating", "playing", "measuring", "reporting"]
    assert seconds["loading"] > 0.5 and seconds["playing"] > 0.5 and seconds["reporting"] > 0.05
    assert [event["phase"] for event in events(on_ray.path, "phase")] == list(seconds)
    assert events(on_ray.path)[-1]["event"] == "ended"


def test_no_token_is_read_twice(on_ray):
    tokens = manifest(on_ray.path)["tokens"]
    assert tokens["generated"] > 0
    assert 0 < tokens["tokens_computed"] / tokens["tokens_new"] <= 1.1


def test_no_secret_is_stored(on_ray):
    stored = {path: path.read_bytes() for path in on_ray.path.rglob("*") if path.is_file()}
    assert len(stored) > 6
    assert not [path for path, data in stored.items() for secret in SECRETS.values() if secret.encode() in data]


def test_report_and_plots_are_made(on_ray):
    report = (on_ray.path / "report.md").read_text()
    assert on_ray.path.name in report and "**finished**" in report
    plots = list((on_ray.path / "plots").glob("*.png"))
    assert plots and all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)


def test_plain_output_tells_every_line_and_has_no_escape_codes(on_ray):
    assert "\x1b" not in on_ray.stdout and "\r" not in on_ray.stdout
    for text in turns(on_ray.path)["text"]:
        assert " ".join(text.split())[:60] in on_ray.stdout
    assert on_ray.stdout.rstrip().endswith(str(on_ray.path))


@pytest.mark.parametrize("kind", ["on_ray", "without_ray"])
def test_what_libraries_print_goes_to_the_log(kind, request):
    played = request.getfixturevalue(kind)
    assert played.stderr == ""
    for noise in ("Loading weights", "EngineHost", "WARNING", "ray.", "it/s"):
        assert noise not in played.stdout
    assert "Loading weights" in (played.path / "log.txt").read_text()


def test_json_is_one_object_that_any_reader_takes(tmp_path):
    """A half-life may be infinite, which JSON has no number for."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    played = play(tmp_path, LONG, *NOBODY_TALKS, 'seats.user.script=["What weather!"]', "turns=6", "--json", run=here)
    printed = json.loads(played.stdout, parse_constant=refuse)
    table = pl.read_parquet(played.path / "metrics.parquet")
    assert (printed["run"], played.stderr) == (str(played.path), "")
    assert len(printed["metrics"]) == table.height and table["value"].is_infinite().any()


# -- a run that is stopped


@pytest.mark.slow
def test_saved_scenario_gives_the_same_lines_though_killed_and_resumed(killed_and_resumed, undisturbed):
    path, left, _, done = killed_and_resumed
    assert done.returncode == 0, done.stderr
    assert 5 <= left < 12, "it was killed half-way"
    assert_same_play(path, undisturbed)
    assert (manifest(path)["status"], len(manifest(path)["resumed"])) == ("finished", 1)
    assert manifest(path)["counts"] == manifest(undisturbed)["counts"]


@pytest.mark.slow
def test_torn_last_event_is_cut_away(killed_and_resumed):
    path, *_ = killed_and_resumed
    said = [(event["conversation"], event["turn"]) for event in events(path, "line")]
    assert (
        sorted(said) == [(c, turn) for c in range(2) for turn in range(6)]
        and "2026-01-01T00:00:" not in (path / "events.jsonl").read_text()
    )


@pytest.mark.slow
def test_run_that_is_being_written_cannot_be_resumed(killed_and_resumed):
    path, _, second, _ = killed_and_resumed
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"lab.run: {path} is being written by another process; wait for it, or stop it first\n"


def test_resume_of_a_finished_run_changes_no_result(scripted):
    before = {name: (scripted / f"{name}.parquet").read_bytes() for name in ("turns", "judgements", "metrics")}
    said = len(events(scripted, "line", "judged", "conversation"))
    assert here("--resume", scripted).returncode == 0
    assert before == {name: (scripted / f"{name}.parquet").read_bytes() for name in before}
    assert len(events(scripted, "line", "judged", "conversation")) == said
    assert manifest(scripted)["status"] == "finished"


def test_dry_run_of_a_resume_leaves_the_run_as_it_is(scripted):
    before = {path: path.read_bytes() for path in scripted.rglob("*") if path.is_file()}
    assert here("--resume", scripted, "--dry-run").returncode == 0
    assert before == {path: path.read_bytes() for path in scripted.rglob("*") if path.is_file()}


def test_run_stopped_by_ctrl_c_tells_how_to_go_on(troubled):
    path, code, printed, complaint, _ = troubled
    assert (code, complaint) == (130, "")
    assert printed.rstrip().endswith(f"python -m lab.run --resume {path}")
    stopped = [event for event in events(path, "ended") if event["status"] == "interrupted"]
    assert len(stopped) == 1


def test_run_survives_the_death_of_an_engine(troubled):
    path, _, printed, *_ = troubled
    assert len(events(path, "recovered")) == 1 and "started again" in printed


def test_nothing_that_a_run_starts_listens_to_other_machines(troubled):
    """A private Ray is half a dozen servers."""
    *_, open_to = troubled
    assert len(open_to) >= 5 and {address for _, address, _ in open_to} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, (
        open_to
    )


@pytest.mark.slow
def test_run_whose_engine_died_and_that_ctrl_c_stopped_goes_on_from_its_last_line(troubled, undisturbed):
    path, *_ = troubled
    assert manifest(path)["status"] == "interrupted" and events(path)[-1]["event"] == "ended"
    left = len(events(path, "line"))
    assert 8 <= turns(path).height == left == manifest(path)["counts"]["lines"] < 12
    assert manifest(path)["counts"]["recovered"] == 1

    assert here("--resume", path, "--address", "none", "--display", "none").returncode == 0
    assert_same_play(path, undisturbed)
    assert (manifest(path)["status"], len(manifest(path)["resumed"])) == ("finished", 1)


def test_run_ended_from_outside_is_interrupted_as_by_ctrl_c(tmp_path):
    process = start(LONG, *NOBODY_TALKS, "turns=200", "--display", "none", "--runs", tmp_path)
    path = wait_for_lines(process, tmp_path, 3)
    process.terminate()
    assert (process.communicate(timeout=60), process.returncode) == (("", ""), 130)
    assert manifest(path)["status"] == "interrupted"


def test_ray_does_not_keep_its_own_way_to_end(monkeypatch):
    """Ray puts in a handler of SIGTERM that exits at once, past everything that is still to be stored."""
    import ray

    from lab.dialogue import cluster

    monkeypatch.setattr(ray, "init", lambda **how: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: cluster.LOOPBACK)
    before = signal.getsignal(signal.SIGTERM)
    with cluster.hosting("local", 1, print):
        assert signal.getsignal(signal.SIGTERM) is before


# -- other ways to run


def test_dry_run_tells_the_plan_and_loads_no_model(tmp_path):
    code = (
        "import sys; from lab.run import main\n"
        "assert main(sys.argv[1:]) == 0; print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, LONG, *SMALL, "measure.judge=combined", "--dry-run", "--runs", tmp_path / "runs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    plan, *cast, order, loaded = done.stdout.splitlines()
    assert plan == "long_dialogue: 2 conversations of 6 lines, seed 7" and len(cast) == 2 and "is valid" in order
    assert loaded == "[]" and not (tmp_path / "runs").exists()


def test_limit_plays_the_first_conversations_as_they_would_have_been(scripted, tmp_path):
    limited = play(tmp_path, LONG, *NOBODY_TALKS, "turns=6", "--limit", "1", "--display", "none", run=here)
    assert (limited.stdout, limited.stderr) == ("", "")
    assert turns(limited.path).equals(turns(scripted).filter(pl.col("conversation") == 0))


def test_contradiction_in_a_script_is_found_where_it_was_said(tmp_path):
    """Turns 1 and 3 are the user's. Grace is a carpenter of Osaka and Leeds: Paris contradicts, Osaka does not."""
    script = 'seats.user.script=["I live in Osaka.", "I live in Paris."]'
    path = play(
        tmp_path,
        LONG,
        script,
        "seats.user.persona=grace",
        "turns=4",
        "conversations=1",
        "seats.assistant.max_tokens=6",
        "measure.judge=ledger",
        "measure.metrics=[prompt_to_line,line_to_line]",
        "--address",
        "none",
        "--display",
        "none",
        run=here,
    ).path
    contradicting = judgements(path).filter(pl.col("verdict")).select("turn", "seat", "metric", "judge", "against")
    assert sorted(contradicting.rows()) == [
        (3, "user", "line_to_line", "ledger", "1"),
        (3, "user", "prompt_to_line", "ledger", "home"),
        (3, "user", "prompt_to_line", "ledger", "persona"),
    ]
    assert turns(path).filter(pl.col("seat") == "user")["text"].to_list() == ["I live in Osaka.", "I live in Paris."]
