"""What `python -m lab.run` refuses: exit code 2 and one sentence that says what, where and what was expected."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
from commands import LONG, NOBODY_TALKS, ROOT, assert_same_play, events, inside, lab, manifest, only, turns

from lab.run import main

SMALL = """name: small
seed: 7
conversations: 1
turns: 6
personas: {personas}
seats:
  assistant: {{persona: grace}}
  user: {{persona: leon}}
graph:
  start: hello
  nodes:
    hello: {{}}
    chat: {{}}
  edges:
    - {{from: hello, to: chat}}
    - {{from: chat, to: hello}}
"""


@pytest.fixture
def small(tmp_path):
    """Writes a scenario with a piece of its text replaced."""

    def write(old: str = "", new: str = "") -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(SMALL.format(personas=ROOT / "scenarios/personas/townsfolk.yaml").replace(old, new, 1))
        return path

    return write


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    runs = tmp_path_factory.mktemp("played")
    assert inside(main, LONG, *NOBODY_TALKS, "turns=6", "--display", "none", "--runs", runs).returncode == 0
    return only(runs)


def refusal(*arguments: object, **how) -> str:
    """The sentence on stderr, without the command's name. `how`: of a process of its own; none: in this one."""
    done = lab(*arguments, **how) if how else inside(main, *arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("lab.run: ") and done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), (
        done.stderr
    )
    return done.stderr.removeprefix("lab.run: ").strip()


@pytest.mark.parametrize(
    ("old", "new", "where", "expected"),
    [
        ("start: hello", "start: [hello", "line", "not valid YAML"),
        ("turns: 6", "turnz: 6", "line 4", "did you mean 'turns'?"),
        ("turns: 6", "turns: many", "line 4", "turns is 'many'; expected a whole number"),
        ("    - {from: hello, to: chat}\n", "", "graph.nodes.chat", "cannot be reached from the start, 'hello'"),
        ("    - {from: chat, to: hello}\n", "", "graph.nodes.chat", "expected an edge out, or 'end: true'"),
        ("townsfolk.yaml", "nobody.yaml", "line 5", "expected the path of a persona file"),
    ],
)
def test_mistake_in_the_scenario_is_refused(small, tmp_path, old, new, where, expected):
    error = refusal(small(old, new), "--runs", tmp_path / "runs")
    assert "small.yaml" in error and where in error and expected in error
    assert not (tmp_path / "runs").exists(), "refused before anything is made or loaded"


@pytest.mark.parametrize(
    ("arguments", "what", "expected"),
    [
        (["scenarios/nothere.yaml"], "scenarios/nothere.yaml: does not exist", "expected a YAML file"),
        ([], "no scenario was named", "expected a YAML file"),
        ([LONG, "seats.user.temprature=1"], "seats.user.temprature", "did you mean 'temperature'?"),
        (
            [LONG, "seats.user.model=nobody/nothing"],
            "model 'nobody/nothing' is neither installed",
            "expected `embedded`, a path, or a hub id",
        ),
        (
            [LONG, "seats.user.model=./nothing.gguf"],
            "there is no nothing.gguf",
            "expected a folder of safetensors or a .gguf file",
        ),
        ([LONG, "seats.user.adapter=./nothing"], "there is no nothing/adapter_config.json", "expected a PEFT folder"),
        (
            [LONG, "seats.user.endpoint=http://127.0.0.1:9/v1"],
            "endpoint http://127.0.0.1:9/v1 does not answer",
            "expected an OpenAI-compatible",
        ),
        ([LONG, "--limit", "0"], "--limit is 0", "expected 1 or more"),
        ([LONG, "--address", "127.0.0.1:9"], "no Ray cluster answers at '127.0.0.1:9'", "expected host:port"),
        (
            [LONG, "--address", "ray://127.0.0.1:9"],
            "no Ray cluster answers at 'ray://127.0.0.1:9'",
            "expected host:port",
        ),
        ([LONG, "--address", "somewhere"], "'somewhere' is no address of a Ray cluster", "expected host:port"),
    ],
)
def test_what_cannot_be_had_is_refused_before_a_run_is_made(tmp_path, arguments, what, expected):
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)} if "model" in str(arguments) else {}
    error = refusal(*arguments, "--runs", tmp_path / "runs", **offline)
    assert what in error and expected in error
    assert not (tmp_path / "runs").exists()


def test_runs_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    error = refusal(LONG, "--runs", tmp_path / "file" / "runs")
    assert f"cannot write a new run in {tmp_path}/file/runs: Not a directory" in error


def test_dialogue_longer_than_the_model_reads_is_refused(tmp_path):
    error = refusal(LONG, "turns=2000", "--address", "none", "--display", "none", "--runs", tmp_path)
    assert (
        "2000 turns may take" in error and "reads at most 8192; expected fewer turns or a smaller max_tokens" in error
    )
    assert events(only(tmp_path), "line") == []


def test_adapter_of_another_model_is_refused(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    other = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    get_peft_model(other, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).save_pretrained(tmp_path / "adapter")
    error = refusal(
        LONG,
        f"seats.user.adapter={tmp_path / 'adapter'}",
        "--address",
        "none",
        "--display",
        "none",
        "--runs",
        tmp_path / "runs",
    )
    assert f"adapter '{tmp_path}/adapter' does not fit 'embedded'" in error
    assert manifest(only(tmp_path / "runs"))["status"] == "failed"


@pytest.mark.usefixtures("unreported")
def test_full_disk_keeps_every_finished_line(tmp_path):
    """A limit on the size of a file stands in for a full disk. With room again the run goes on as if nothing had
    been. The process is shown no git repository: git, under the same limit, would leave a lock in the one here.
    """

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))

    talk = [LONG, *NOBODY_TALKS, "turns=16", "--display", "none"]
    error = refusal(*talk, "--runs", tmp_path / "full", preexec_fn=small_disk, GIT_DIR=f"{tmp_path}/none")
    path = only(tmp_path / "full")
    kept = len(events(path, "line"))
    assert error.startswith(f"cannot write events.jsonl in {path}: File too large")
    assert f"the {kept} finished lines are kept: make room and continue with --resume {path}" in error
    assert 0 < kept < 32 and manifest(path)["status"] == "failed"

    assert inside(main, "--resume", path, "--display", "none").returncode == 0
    assert inside(main, *talk, "--runs", tmp_path / "roomy").returncode == 0
    assert_same_play(path, only(tmp_path / "roomy"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "is no run: there is no such folder"),
        (lambda path: path.mkdir(), "is no run: it has no manifest.json"),
    ],
)
def test_resume_of_what_is_no_run_is_refused(tmp_path, make, expected):
    make(tmp_path / "nothing")
    assert refusal("--resume", tmp_path / "nothing").startswith(f"{tmp_path}/nothing {expected}")


@pytest.mark.parametrize("arguments", [[LONG, *NOBODY_TALKS, "turns=8"], ["turns=8"]])
def test_resume_with_a_changed_scenario_shows_the_difference(played, arguments):
    error = refusal("--resume", played, *arguments)
    assert (
        error
        == f"{played} was played from another scenario (turns: 6 -> 8); expected the same one, or a new run without "
        "--resume"
    )
    assert (manifest(played)["status"], turns(played).height) == ("finished", 12)


def test_resume_that_is_refused_leaves_the_run_finished(played):
    refusal("--resume", played, "--address", "somewhere")
    assert (manifest(played)["status"], manifest(played)["resumed"]) == ("finished", [])
