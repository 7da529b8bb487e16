"""`python -m lab.train` end to end: the quick file on the embedded model, and a small model killed, taken up again and
refused.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import learners
import polars as pl
import pytest
import tiny
from commands import ROOT, TIMEOUT_S, environment, events, inside, only
from event_streams import faults
from safetensors.torch import load_file

from lab import report as lab_report
from lab import run as lab_run
from lab.train import main

QUICK = "scenarios/training/quick.yaml"
FRAME = {"arm", "metric", "judge", "seat", "held_out", "value", "low", "high", "n", "reduction"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lab.train", *map(str, arguments)]


def train(*arguments: object) -> subprocess.CompletedProcess:
    """In a process of its own, as its users run it."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S
    )


def here(*arguments: object) -> tuple[int, str]:
    """The command in this process, which has everything loaded: exit code and what it said on stderr."""
    done = inside(main, *arguments)
    return done.returncode, done.stderr


# -- the embedded model, on Ray


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick file's run: its folder, what it printed and how long it took."""
    runs = tmp_path_factory.mktemp("runs")
    began = time.monotonic()
    done = train(QUICK, "--runs", runs, "--display", "plain")
    assert done.returncode == 0, done.stderr
    return only(runs), done.stdout, time.monotonic() - began


@pytest.mark.slow
def test_quick_file_goes_through_the_whole_loop_in_a_few_minutes(quick):
    run, printed, seconds = quick
    steps = pl.read_parquet(run / "training.parquet")
    assert steps["step"].to_list() == [0, 1, 2] and steps["grad_norm"].is_not_null().any()
    assert {"reward", "reward_qa", "kl", "ratio", "entropy", "length", "wire_parroting"} <= set(steps.columns)
    assert (steps["tokens_learnt"] < steps["tokens"]).any()  # lines whose rewards differ
    # nothing had been learnt yet
    assert abs(steps["ratio"][0] - 1) < 0.05 and steps["kl"][0] == pytest.approx(0, abs=1e-6)
    assert "step 3/3" in printed and "relative" in printed and "reduction of" in printed
    # the row is whole in 80 columns
    assert re.search(r"Q&A +multiple_choice +grpo +\d\.\d\d \[\d\.\d\d, \d\.\d\d\] n=\d+", printed)
    assert {path.name for path in (run / "plots").iterdir()} == {"training.png", "evaluation.png", "wires.png"}
    report = (run / "report.html").read_text()
    assert (
        "<h2>Training</h2>" in report
        and "interview, user: tripwires" in report
        and "relative reduction of inconsistency" in (run / "report.md").read_text()
    )
    assert seconds < 900  # about a minute on two quiet cores, two on one


@pytest.mark.slow
def test_events_of_a_training_and_of_the_runs_of_its_evaluation_are_as_the_page_says(quick):
    run, *_ = quick
    assert {"started", "phase", "step", "checkpoint", "ended"} <= {event["event"] for event in events(run)}
    assert faults(events(run)) == []
    assert [faults(events(log.parent)) for log in sorted(run.glob("evaluation/*/events.jsonl"))] == [[]] * 4


@pytest.mark.slow
def test_evaluation_has_both_arms_on_both_sets_of_personas_with_intervals(quick):
    evaluation = pl.read_parquet(quick[0] / "evaluation.parquet")
    assert (
        set(evaluation.columns) >= FRAME
        and set(evaluation["arm"]) == {"base", "grpo"}
        and set(evaluation["held_out"]) == {True, False}
    )
    asked = evaluation.filter(pl.col("metric") == "qa")
    assert set(asked["judge"]) == {"answer_match", "multiple_choice", "answer_reader"} and (asked["n"] > 0).all()
    assert (asked["low"] <= asked["value"]).all() and (asked["value"] <= asked["high"]).all()
    assert asked.filter(pl.col("arm") == "base")["reduction"].is_null().all()
    assert {"parroting", "distinct_2", "relevance", "perplexity_nats"} <= set(evaluation["metric"])


@pytest.mark.slow
def test_dialogues_of_the_evaluation_are_runs_that_can_be_compared(quick, capsys):
    kept = quick[0] / "evaluation"
    names = ["0-base-held-out", "1-base-as-learnt", "2-grpo-held-out", "3-grpo-as-learnt"]
    assert sorted(path.name for path in kept.iterdir()) == names
    evaluation = pl.read_parquet(quick[0] / "evaluation.parquet").filter(
        arm="grpo", held_out=True, metric="prompt_to_line"
    )
    own = pl.read_parquet(kept / names[2] / "metrics.parquet").filter(level="run", seat="user", metric="prompt_to_line")
    assert (
        evaluation["value"].to_list() == own["value"].to_list()
        and evaluation["n"].to_list() == own["n"].to_list() != []
    )
    assert lab_report.main([str(kept / names[0]), str(kept / names[2])]) == 0
    assert "pairs of conversations of equal number, seed and cast" in capsys.readouterr().out


@pytest.mark.slow
def test_adapter_is_an_ordinary_folder_that_a_run_wears(quick, tmp_path):
    folder = quick[0] / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "embedded"
    assert (
        not (folder / "learner.safetensors").exists()
        and (quick[0] / "checkpoints" / "step-000003" / "learner.safetensors").exists()
    )
    done = inside(
        lab_run.main,
        "scenarios/chitchat.yaml",
        f"seats.user.adapter={folder}",
        "conversations=1",
        "turns=2",
        "measure.judge=ledger",
        "measure.metrics=[tripwires]",
        "--runs",
        tmp_path,
        "--address",
        "none",
        "--display",
        "none",
    )
    assert done.returncode == 0, done.stderr


# -- a small model, in this process alone


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Arguments of a training that takes seconds. Relevance is rewarded, since random words answer nothing right."""
    name = learners.saved(tiny.llama(max_position_embeddings=2048), tmp_path_factory.mktemp("tiny") / "llama")
    return [
        QUICK,
        f"overrides={{turns: 2, seats.user.model: {name}, seats.user.max_tokens: 8, seats.assistant.script: [Well.]}}",
        "reward={qa: 0.0, relevance: 1.0, probes: 0}",
        "tuning={learning_rate: 0.01, lora_dropout: 0.1}",
        "dtype=float32",
        "save_steps=1",
        "evaluation.conversations=1",
        "evaluation.judge=ledger",
        "tripwires=log",
        "--address",
        "none",
        "--display",
        "none",
    ]


def adapter(run: Path) -> dict:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def apart(ours: dict, other: dict) -> float:
    """The largest difference of any weight."""
    assert ours.keys() == other.keys()
    return max(float((ours[name] - other[name]).abs().max()) for name in ours)


@pytest.fixture(scope="module")
def unbroken(small, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    code, errors = here(*small, "max_steps=4", "--runs", runs)
    assert code == 0, errors
    return only(runs)


def test_killed_at_a_step_and_resumed_gives_the_adapter_of_a_training_never_killed(small, unbroken, tmp_path):
    process = subprocess.Popen(
        command(*small, "max_steps=4", "--runs", tmp_path),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT_S
    while (
        not list(tmp_path.glob("*/checkpoints/step-000002")) and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = only(tmp_path)
    assert not (run / "adapter").exists()
    code, errors = here("--resume", run, "--address", "none", "--display", "none")
    assert code == 0, errors
    assert apart(adapter(run), adapter(unbroken)) < 1e-6  # sums over memory that lies elsewhere may round differently
    assert pl.read_parquet(run / "training.parquet")["step"].to_list() == [0, 1, 2, 3]
    rewards = [pl.read_parquet(folder / "training.parquet")["reward"].to_list() for folder in (run, unbroken)]
    assert rewards[0] == rewards[1] and len(set(rewards[0])) > 1


def test_a_training_that_is_being_written_cannot_be_resumed(unbroken, tmp_path):
    from lab.store.run_store import open_for_resume

    run = shutil.copytree(unbroken, tmp_path / "run")
    with open_for_resume(run):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert here("--resume", run, "--address", "none") == (
            2,
            f"lab.train: {run} is being written by another process; wait for it, or stop it first\n",
        )
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_training_that_goes_on_shows_and_keeps_the_steps_before(unbroken, tmp_path, monkeypatch):
    from lab.live import training_screen

    run, shown = tmp_path / "run", []
    shutil.copytree(unbroken, run)
    for name in ("step-000003", "step-000004"):
        shutil.rmtree(run / "checkpoints" / name)
    choose = training_screen.training_display
    monkeypatch.setattr(
        training_screen, "training_display", lambda *arguments: shown.append(arguments) or choose(*arguments)
    )
    code, errors = here("--resume", run, "--address", "none")
    assert code == 0, errors
    [(*_, earlier)] = shown
    assert [step["step"] for step in earlier] == [0, 1]  # what came after the checkpoint is done again
    assert [step["step"] for step in events(run, "step")] == [0, 1, 2, 3, 2, 3]
    assert pl.read_parquet(run / "training.parquet")["reward"].to_list() == [
        step["reward"] for step in events(unbroken, "step")
    ]


@pytest.mark.slow
def test_both_seats_learn_in_turn(small, tmp_path):
    name = small[1].partition("seats.user.model: ")[2].partition(",")[0]
    both = (
        f"overrides={{turns: 2, seats.user.model: {name}, seats.user.max_tokens: 8, seats.assistant.model: {name}, "
        "seats.assistant.persona: sample, graph.nodes.greet.says: null}"
    )
    code, errors = here(*small[:1], *small[2:], both, "seat=both", "max_steps=2", "--runs", tmp_path)
    assert code == 0, errors
    run = only(tmp_path)
    assert [event["seat"] for event in events(run, "step")] == ["user", "assistant"]
    assert {path.name for path in (run / "adapter").iterdir()} == {"user", "assistant"}
    assert set(pl.read_parquet(run / "evaluation.parquet")["seat"]) == {"user", "assistant"}


@pytest.mark.slow
def test_playing_may_overlap_learning_and_the_first_step_is_the_same(small, unbroken, tmp_path):
    code, errors = here(*small, "max_steps=4", "save_steps=4", "async_rollouts=true", "--runs", tmp_path)
    assert code == 0, errors
    own, other = (pl.read_parquet(folder / "training.parquet") for folder in (only(tmp_path), unbroken))
    assert own["reward"][0] == other["reward"][0] and own["ratio_max"][0] == pytest.approx(1, abs=1e-3)
    assert own["ratio_max"][2] > 1 + 1e-3  # said by weights that were a step old


@pytest.mark.parametrize(
    "method", ["sft", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ppo", "dpo", "kto"))]
)
def test_other_methods_go_through_the_same_command(small, method, tmp_path):
    rewards = [] if method in ("ppo", "dpo") else ["reward={qa: 1.0, relevance: 0.0, probes: 1}"]
    code, errors = here(*small, f"method={method}", "max_steps=2", *rewards, "--runs", tmp_path)
    if method == "sft":  # nothing that random words say is right
        assert code == 2 and "lab.train: data: sft learns from good lines" in errors, errors
        return
    assert code == 0, errors
    assert set(pl.read_parquet(only(tmp_path) / "evaluation.parquet")["arm"]) == {"base", method}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("reward={qa: 1.0, probes: 1, penalty: 0.0}", "equal"),
        ("held_out.personas=1.0", "at least one of each"),
        ("scenario=nowhere.yaml", "nowhere.yaml"),
        ("tuning.learning_rate=1.0e+30", "step"),
        ("method=magic", "grpo"),
        ("report_to=wandb", "wandb"),
        ("workers=2", "Ray"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2_and_equal_rewards_are_told(
    small, override, expected, tmp_path
):
    code, errors = here(*small, override, "max_steps=3", "--runs", tmp_path)
    sentence = errors.strip() if code else (only(tmp_path) / "events.jsonl").read_text()
    assert expected in sentence and "Traceback" not in errors
    assert code == (0 if expected == "equal" else 2)


@pytest.mark.slow
def test_all_weights_may_be_trained_and_are_saved_as_a_model(small, tmp_path):
    code, errors = here(*small, "tuning={full: true, learning_rate: 0.003}", "max_steps=2", "--runs", tmp_path / "runs")
    assert code == 0, errors
    run = only(tmp_path / "runs")
    step = pl.read_parquet(run / "training.parquet")
    # the engine follows
    assert step["kl"][0] == pytest.approx(0, abs=1e-6) and step["kl"][1] > 1e-6 and abs(step["ratio"][1] - 1) < 1e-3
    done = inside(
        lab_run.main,
        "scenarios/chitchat.yaml",
        f"seats.user.model={run / 'adapter'}",
        "seats.user.max_tokens=8",
        "seats.assistant.script=[Hello.]",
        "conversations=1",
        "turns=2",
        "measure.judge=ledger",
        "measure.metrics=[tripwires]",
        "--runs",
        tmp_path,
        "--address",
        "none",
        "--display",
        "none",
    )
    assert done.returncode == 0, done.stderr


def test_training_may_go_on_from_an_adapter_but_not_from_one_of_another_base(small, unbroken, tmp_path):
    start = f"tuning={{learning_rate: 0.01, adapter: {unbroken / 'adapter'}}}"
    code, errors = here(*small, start, "max_steps=1", "--runs", tmp_path / "runs")
    assert code == 0, errors
    # it starts away from the untouched model
    assert pl.read_parquet(only(tmp_path / "runs") / "training.parquet")["kl"][0] > 1e-6
    other = learners.saved(tiny.llama(max_position_embeddings=2048, hidden_size=64), tmp_path / "other")
    at = [
        argument.replace(str(Path(small[1].partition("seats.user.model: ")[2].partition(",")[0])), other)
        for argument in small
    ]
    code, errors = here(*at, f"tuning={{adapter: {unbroken / 'adapter'}}}", "--runs", tmp_path / "refused")
    assert code == 2 and "does not fit" in errors and "Traceback" not in errors
