"""The Python face: what a script and a notebook get from `import lab`, and how it speaks meanwhile."""

from __future__ import annotations

import io
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import polars as pl
import pytest
from commands import NOBODY_TALKS, ROOT, environment, inside, only
from polars.testing import assert_frame_equal

import lab
from lab.run import main as run_command
from lab.score import main as score_command
from scenarios.jobs.training import load_recipe

SCRIPTED = {
    "seats.user.script": ["I am a baker.", "I live in Paris."],
    "seats.assistant.script": ["Who are you?", "Really?"],
    "conversations": 2,
    "turns": 6,
    "measure.metrics": ["prompt_to_line", "line_to_line"],
    "measure.judge": "ledger",
}
CHAT = [
    {"role": "system", "content": "You are Leo."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "I sail."},
]
SCRIPT = f"""
import lab
run = lab.play("long_dialogue", {SCRIPTED!r}, runs="runs", progress="plain")
print("OUT", run.kind, run.turns.height)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lab.play("long_dialogue", SCRIPTED, runs=tmp_path_factory.mktemp("runs"), progress="none")


def test_import_loads_nothing_that_takes_long_and_names_all_there_is():
    code = "import lab, sys; print(sorted({'polars', 'torch', 'ray', 'pydantic'} & set(sys.modules)), dir(lab))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("[] ") and all(repr(name) in done.stdout for name in lab.__all__)
    assert all(callable(getattr(lab, name)) for name in lab.__all__)
    assert not {f"{name}.py" for name in lab.__all__} & set(os.listdir(ROOT / "lab")), "an import would replace them"
    with pytest.raises(AttributeError, match="'lab' has no attribute 'fitt'"):
        lab.fitt  # noqa: B018


def test_play_gives_the_run_that_the_command_writes(run, tmp_path):
    assert run.kind == "run" and run.manifest["status"] == "finished" and (run.path / "report.html").is_file()
    done = inside(
        run_command,
        "scenarios/long_dialogue.yaml",
        *NOBODY_TALKS,
        "turns=6",
        "measure.metrics=[prompt_to_line,line_to_line]",
        *("--display", "none", "--runs", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    theirs = lab.load_run(only(tmp_path))
    for name in ("turns", "judgements", "metrics"):
        ours, other = (getattr(played, name).drop("run_id", "seconds", strict=False) for played in (run, theirs))
        assert ours.height > 0
        assert_frame_equal(ours, other)


def test_scenarios_are_files_built_in_names_and_loaded_ones_with_overrides():
    by_name = lab.load_scenario("long_dialogue", SCRIPTED)
    by_path = lab.load_scenario(ROOT / "scenarios" / "long_dialogue.yaml", ["turns=6", "conversations=2"])
    assert by_name.turns == by_path.turns == 6 and by_path.seats.user.script is None
    again = lab.load_scenario(by_name, {"turns": 4})
    assert again.turns == 4 and again.seats == by_name.seats and by_name.turns == 6


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: lab.play("long_dialog"), "'long_dialog' is no file and no scenario that comes with the lab; did you"),
        (lambda: lab.play("long_dialogue", {"seats.usr.model": "x"}), "seats.usr is no key of the file; did you mean"),
        (lambda: lab.play("long_dialogue", "turns=3"), "overrides are 'turns=3'; expected a mapping by dotted key"),
        (lambda: lab.play("long_dialogue", progress="rch"), "progress is 'rch'; did you mean 'rich'?"),
        (lambda: lab.fit("quik"), "'quik' is no file and no training that comes with the lab; did you mean 'quick'?"),
        (lambda: lab.judge([]), "there are no transcripts; expected paths of files or run folders, or lists of"),
        (lambda: lab.judge([CHAT, "chats.jsonl"]), "chats.jsonl is mixed with lists of messages; expected only paths"),
        (lambda: lab.judge(CHAT, judge="oracle"), "--judge is 'oracle'; expected"),
        (lambda: lab.judge(CHAT, metrics="promt_to_line"), "--metrics is 'promt_to_line'; expected"),
        (lambda: lab.judge([{"role": "usr", "content": "Hi."}]), "messages, line 1: messages.0.role"),
        (lambda: lab.compare("nowhere", "nowhere"), "nowhere is no run: there is no such folder"),
        (lambda: lab.play(3), "scenario is 3; expected the path of a YAML file, the name of a scenario that comes"),
        (lambda: lab.load_scenario(None), "scenario is empty; expected the path of a YAML file"),
        (lambda: lab.play("long_dialogue", 3), "overrides are 3; expected a mapping by dotted key"),
        (lambda: lab.play("long_dialogue", [3]), "an override is 3; expected text"),
        (lambda: lab.play("long_dialogue", {3: 1}), "an override is 3; expected text"),
        (lambda: lab.play("long_dialogue", runs=3), "runs is 3; expected the path of a folder"),
        (lambda: lab.play("long_dialogue", address=3), "address is 3; expected the address of a Ray cluster"),
        (lambda: lab.fit({}), "training is a mapping with 0 keys; expected the path of a YAML file"),
        (lambda: lab.judge(3), "transcripts is 3; expected paths of files or run folders, or lists of messages"),
        (lambda: lab.judge([3]), "a transcript is 3; expected paths of files or run folders, or lists of messages"),
        (lambda: lab.judge([[3]]), "messages, line 1: messages.0"),
        (lambda: lab.judge(CHAT, judge=3), "judge is 3; expected a name, or a list of names"),
        (lambda: lab.judge(CHAT, metrics=[3]), "metrics is 3; expected a name, or a list of names"),
        (lambda: lab.judge(CHAT, labels=3), "labels is 3; expected the path of a file, or None"),
        (lambda: lab.judge(CHAT, device=3), "device is 3; expected auto, cpu"),
        (lambda: lab.judge(CHAT, dtype="bfloat61"), "dtype is 'bfloat61'; did you mean 'bfloat16'?"),
        (lambda: lab.compare(3, 4), "a is 3; expected the path of a folder"),
        (lambda: lab.compare("a", "b", out=3), "out is 3; expected the path of a folder, or None"),
        (lambda: lab.load_run(3), "path is 3; expected the path of a folder"),
        (lambda: lab.read_personas(3), "path is 3; expected the path of a file"),
        (lambda: lab.read_personas("a.csv", limit="1"), "limit is '1'; expected a whole number"),
        (lambda: lab.read_personas("a.csv", limit=True), "limit is True; expected a whole number"),
        (lambda: lab.read_personas("a.csv", limit=2.0), "limit is 2.0; expected a whole number"),
        (lambda: lab.read_personas("a.csv", column=3), "column is 3; expected the name of a column"),
        (lambda: lab.read_personas("a.csv", form=3), "the form is 3; expected one of"),
    ],
)
def test_what_is_wrong_is_one_sentence(call, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        call()
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert not os.listdir(tmp_path), "nothing was begun"


def test_a_run_that_fails_is_an_error_and_its_folder_stays(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("the disk is full; expected room")

    monkeypatch.setattr("lab.reports.write.write_report", fail)
    with pytest.raises(ValueError, match=r"^the disk is full; expected room$"):
        lab.play("long_dialogue", SCRIPTED, runs=tmp_path, progress="none")
    assert lab.load_run(only(tmp_path)).manifest["status"] == "failed"


def test_a_stopped_run_is_an_interrupt_and_the_callers_streams_are_back(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.reports.write.write_report", stop)
    streams = sys.stdout, sys.stderr
    with pytest.raises(KeyboardInterrupt, match="interrupted"):
        lab.play("long_dialogue", SCRIPTED, runs=tmp_path, progress="none")
    assert (sys.stdout, sys.stderr) == streams
    assert lab.load_run(only(tmp_path)).manifest["status"] == "interrupted"


def test_judge_reads_paths_runs_and_messages_and_scores_as_the_command_does(run, tmp_path):
    scores = lab.judge(run, judge="ledger", runs=tmp_path / "a", progress="none")
    assert scores.kind == "scores" and set(scores.judgements["judge"]) == {"ledger"}
    done = inside(score_command, run.path, "--judge", "ledger", "--runs", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert_frame_equal(scores.metrics.drop("run_id"), lab.load_run(only(tmp_path / "b")).metrics.drop("run_id"))
    shared = {"judge": ["ledger"], "runs": tmp_path / "c", "progress": "none"}
    single, pair = lab.judge(CHAT, **shared), lab.judge([CHAT, {"messages": CHAT, "id": "b"}], **shared)
    assert lab.judge({"messages": CHAT}, **shared).turns["text"].to_list() == ["Hi.", "I sail."]
    assert single.turns["text"].to_list() == ["Hi.", "I sail."] and pair.turns["conversation"].n_unique() == 2
    assert pair.conversations[1].name == "b" and pair.conversations[1].cast["assistant"].card == "You are Leo."


def test_compare_gives_a_frame_and_writes_the_page_where_that_is_asked_for(run, tmp_path):
    other = lab.play("long_dialogue", SCRIPTED, runs=tmp_path, progress="none")
    difference = lab.compare(run, other.path)
    assert {"metric", "judge", "seat", "a", "b", "value", "low", "high", "n", "detectable"} <= set(difference.columns)
    assert difference.height > 0 and (difference["value"] == 0).all(), "the same scripts, the same seed"
    assert not list(other.path.glob("compare-*"))
    lab.compare(run, other, out=tmp_path / "page")
    assert (tmp_path / "page" / "report.html").is_file()


def small_training(model: str) -> dict[str, object]:
    """Overrides of the quick training that make it take seconds."""
    return {
        "overrides": {
            "turns": 2,
            "seats.user.model": model,
            "seats.user.max_tokens": 8,
            "seats.assistant.script": ["Well."],
        },
        "reward": {"qa": 0.0, "relevance": 1.0, "probes": 0},
        "evaluation.conversations": 1,
        "evaluation.judge": "ledger",
        "tripwires": "log",  # random words trip some
        "max_steps": 1,
        "dtype": "float32",
    }


def test_fit_trains_and_evaluates_a_small_model(tmp_path, tiny_name):
    fitted = lab.fit("quick", small_training(tiny_name), runs=tmp_path, address="none", progress="none")
    assert fitted.kind == "training" and fitted.training["step"].to_list() == [0]
    assert isinstance(fitted.evaluation, pl.DataFrame) and set(fitted.evaluation["metric"]) >= {"prompt_to_line"}
    assert fitted.evaluation["arm"].n_unique() == 2, "before and after"
    assert (fitted.path / "adapter" / "adapter_config.json").is_file() and fitted.manifest["stopped"] == ""
    with pytest.raises(ValueError, match="beside a loaded recipe; expected a file with it"):
        lab.fit(load_recipe(fitted.path / "scenario.yaml"), {"max_steps": 2}, runs=tmp_path)


def test_a_plain_script_sees_lines_of_progress_and_what_it_prints_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=environment(PYTHONPATH=ROOT)
    )
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    assert last == "OUT run 12" and any("I am a baker." in line for line in shown)
    assert (only(tmp_path / "runs") / "log.txt").is_file()


def test_a_notebooks_stdout_gets_the_lines_and_file_descriptors_stay(tmp_path, monkeypatch):
    """A notebook puts a stream of its own in place of sys.stdout."""
    monkeypatch.chdir(tmp_path)
    Path("cell.py").write_text(SCRIPT)
    before = [os.fstat(number).st_ino for number in (1, 2)]
    inodes = []
    monkeypatch.setattr(
        "lab.reports.write.write_report", lambda path: inodes.append([os.fstat(n).st_ino for n in (1, 2)])
    )
    cell = io.StringIO()
    with redirect_stdout(cell):
        runpy.run_path("cell.py")
        assert sys.stdout is cell
    *shown, last = cell.getvalue().splitlines()
    assert last == "OUT run 12" and any("I am a baker." in line for line in shown)
    assert inodes == [before] and [os.fstat(number).st_ino for number in (1, 2)] == before
    silent = io.StringIO()
    with redirect_stdout(silent):
        lab.play("long_dialogue", SCRIPTED, runs=Path("silent"), progress="none")
        lab.judge(CHAT, judge="ledger", runs="silent", progress="none")
    assert silent.getvalue() == ""


def test_the_page_on_python_is_true(tmp_path, tiny_name, monkeypatch):
    """Its blocks run in order, with scripted seats and a small model in place of the embedded one."""
    page = (ROOT / "docs" / "python.md").read_text()
    play, fit = lab.play, lab.fit
    monkeypatch.setattr(lab, "play", lambda name, changes: play(name, {**changes, **SCRIPTED}))
    monkeypatch.setattr(
        lab, "fit", lambda name, changes, **how: fit(name, {**changes, **small_training(tiny_name)}, **how)
    )
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)))
    names = runpy.run_path("page.py")
    assert names["difference"].height and names["scores"].judgements.height and names["again"].turns.height == 12
    assert names["fitted"].evaluation.height and names["worn"].seats.user.adapter.endswith("adapter")
    assert page.count("\n") <= 80 and all(f"lab.{name}(" in page for name in lab.__all__ if name != "Run")


def test_every_command_says_its_version(capsys):
    from lab.__main__ import main
    from lab.commands import Parser, version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dialogue-lab {version()}\n" and version().count(".") == 2
    with pytest.raises(SystemExit) as stop:
        Parser(prog="python -m lab.x").parse_args(["--version"])
    assert stop.value.code in (0, None) and capsys.readouterr().out == f"dialogue-lab {version()}\n"
