"""Killed at random moments and resumed: runs and trainings end as if they had been left alone. Twenty moments, or one's
own scenario: `python -m lab.selftest --kill 20 [FILE]`.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Sequence

import polars as pl
import pytest
from commands import NOBODY_TALKS, ROOT, events, inside
from corpora import SCENARIO
from safetensors.numpy import load_file, save_file

from lab.selftest import main
from lab.selftests import kill_and_resume
from lab.selftests.kill_and_resume import kills
from lab.store.atomic_write import dumps
from lab.store.run_store import read_frames, write_frame

LONG = str(ROOT / "scenarios/long_dialogue.yaml")


def work(command: str, arguments: Sequence[str]) -> None:
    """In a process of its own: the command, its output nowhere, and its report left out, since drawing it takes
    longest.
    """
    import torch

    from lab.reports import write

    os.setsid()
    torch.set_num_threads(1)
    write.write_report = lambda path: path
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os._exit(importlib.import_module(f"lab.{command}").main(list(arguments)))


class Forked:
    """A process that began as a copy of one which had everything loaded, in place of seconds of imports."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "lab.run",
            "lab.train",
            "lab.training.loop",
            "lab.training.evaluation",
            "lab.report",
            "agents.engine.local",
            "agents.learning.learner",
            "transformers.models.llama.modeling_llama",
            "peft",
            "agents.judge_models.embedder",
            "matplotlib.figure",
            "jinja2",
        ]
    )

    def __init__(self, command: str, arguments: Sequence[str]) -> None:
        self._process = self.context.Process(target=work, args=(command, arguments), daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode


@pytest.fixture(scope="module")
def scenario(tmp_path_factory, tiny_name):
    """Two dialogues in which a small model speaks in both seats: greedily for the user, sampled for the assistant."""
    path = tmp_path_factory.mktemp("scenario") / "small.yaml"
    path.write_text(
        SCENARIO.replace("MODEL", tiny_name)
        .replace("max_tokens: 8", "max_tokens: 24, temperature: 0")
        .replace("metrics: [prompt_to_line]", "qa_every: 3, metrics: [prompt_to_line, line_to_line, qa]")
    )
    return [str(path), "conversations=3", "concurrency=2", "turns=12"]


@pytest.fixture(scope="module")
def training(tiny_name):
    return [
        "scenarios/training/quick.yaml",
        f"overrides={{turns: 2, seats.user.model: {tiny_name}, seats.user.max_tokens: 8, "
        "seats.assistant.script: [Well.]}",
        "reward={qa: 0.0, relevance: 1.0, probes: 0}",
        "tuning={learning_rate: 0.01, lora_dropout: 0.1}",
        "save_steps=1",
        "max_steps=3",
        "evaluation.conversations=1",
        "evaluation.judge=ledger",
        "evaluation.as_learnt=false",
        "tripwires=log",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["scenario", "training"])
def test_killed_at_any_of_three_moments_and_resumed_it_ends_as_if_left_alone(what, request):
    file, *overrides = request.getfixturevalue(what)
    outcomes = list(kills(file, overrides, 3, seed=1, begin=Forked))
    assert [kill.apart for kill in outcomes] == [""] * 3, outcomes
    assert len({kill.there for kill in outcomes}) > 1 and any(kill.after not in ("", "0 lines") for kill in outcomes), (
        outcomes
    )


# -- the comparison would tell


@pytest.fixture
def pair(tmp_path):
    """A run, and a copy of it that something is done to."""
    from lab.run import main as run

    assert inside(run, LONG, *NOBODY_TALKS, "turns=4", "--display", "none", "--runs", tmp_path / "runs").returncode == 0
    [path] = (tmp_path / "runs").iterdir()
    return shutil.copytree(path, tmp_path / "copy"), path


def test_a_line_that_is_lost_changed_or_told_twice_is_found(pair):
    run, other = pair
    assert kill_and_resume._apart(run, other) == ""
    whole, log = read_frames(other)["turns"], (run / "events.jsonl").read_bytes()
    write_frame(run / "turns.parquet", whole[:-1])
    assert "turns: DataFrames are different" in kill_and_resume._apart(run, other)
    write_frame(run / "turns.parquet", whole.with_columns(text=pl.lit("I was never a baker.")))
    assert "turns: DataFrames are different" in kill_and_resume._apart(
        run, other
    ) and 'column "text"' in kill_and_resume._apart(run, other)
    write_frame(run / "turns.parquet", whole.with_columns(pl.col("seconds") + 1, run_id=pl.lit("elsewhere")))
    assert kill_and_resume._apart(run, other) == "", "what no two runs share"
    again = next(event for event in events(run, "line") if event["turn"] == 2)
    (run / "events.jsonl").write_bytes(log + dumps(again) + b"\n")
    assert (
        kill_and_resume._apart(run, other)
        == f"line of conversation {again['conversation']}, turn 2 is in the log 2 times"
    )


def test_weights_that_differ_are_found(pair):
    run, other = pair
    for folder, value in ((run, 1.0), (other, 1.0)):
        (folder / "adapter").mkdir()
        save_file({"a": pl.Series([value, 2.0]).to_numpy()}, folder / "adapter" / "adapter_model.safetensors")
    assert kill_and_resume._apart(run, other) == ""
    moved = {name: value + 1e-4 for name, value in load_file(run / "adapter" / "adapter_model.safetensors").items()}
    save_file(moved, run / "adapter" / "adapter_model.safetensors")
    assert kill_and_resume._apart(run, other) == "adapter_model.safetensors: weights differ by up to 1.0e-04"


def test_the_command_tells_each_kill_and_what_came_of_it(monkeypatch, capsys):
    calls = []

    def kills(*asked):
        calls.append(asked)
        yield kill_and_resume.Kill(1.5, "4 lines, in playing", "2 lines", "")
        yield kill_and_resume.Kill(0.2, "nothing yet", "", "turns: DataFrames are different")

    monkeypatch.setattr(kill_and_resume, "kills", kills)
    terminate = signal.getsignal(signal.SIGTERM)
    assert main(["--kill", "2", "turns=4", "--seed", "3"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == "1 killed after 1.50 s 4 lines, in playing then 2 lines same".split()
    assert printed[1].endswith("DIFFERENT: turns: DataFrames are different") and printed[2].startswith(
        "2 kills: FAILED, 1 gave other results than the uninterrupted run"
    )
    [(file, overrides, times, seed, address)] = calls
    assert (file, overrides[-1], times, seed, address) == (kill_and_resume.FILE, "turns=4", 2, 3, "none")
    for wrong, expected in (
        (["--kill", "0"], "expected 1 or more"),
        (["scenario.yaml"], "'scenario.yaml' is for --judges or --kill N"),
    ):
        assert main(wrong) == 2 and expected in capsys.readouterr().err
    signal.signal(signal.SIGTERM, terminate)


def test_what_cannot_be_carried_out_is_told_in_one_sentence(tmp_path):
    with pytest.raises(
        ValueError, match="ended with exit code 2 and left no folder; expected a file that runs to its end"
    ):
        list(kills(LONG, [*NOBODY_TALKS, "turns=0"], 1, seed=1, begin=Forked))
    (tmp_path / "x.yaml").write_text(json.dumps({"name": "x"}))
    with pytest.raises(ValueError, match="left no folder"):
        list(kills(str(tmp_path / "x.yaml"), [], 1, seed=1, begin=Forked))
