"""Finding one's way: the list of commands, examples in every help, and the nearest word where one is mistyped."""

from __future__ import annotations

import ast
import importlib
import re
import sys

import pytest
from commands import LONG, ROOT, inside

from lab.__main__ import main
from lab.commands import Parser, commands

TRAINING = "scenarios/training/quick.yaml"
COMMANDS = commands()


def refusal(name: str, *arguments: object) -> str:
    """The one sentence with which the command refuses."""
    command = importlib.import_module(f"lab.{name}").main

    def refused(given):
        try:
            return command(given)
        except SystemExit as stop:
            return stop.code

    refused.__module__ = name
    done = inside(refused, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"lab.{name}: ") and done.stderr.count("\n") == 1, (
        done.stderr
    )
    return done.stderr


def test_list_holds_every_module_that_is_a_command(capsys):
    guarded = {
        path.stem
        for path in (ROOT / "lab").glob("*.py")
        if "__main__" in path.read_text() and "Parser(" in path.read_text()
    }
    assert guarded and set(COMMANDS) == guarded
    assert {"run", "train", "score", "report", "selftest", "attribute", "bench", "export"} <= set(COMMANDS)
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name, description in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(description)}$", listed, re.MULTILINE), name
    assert main(["--help"]) == 0 and capsys.readouterr().out == listed


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_list_says_and_shows_two_examples(name, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"lab.{name}").main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and COMMANDS[name] and COMMANDS[name] in " ".join(shown.split())
    assert len(re.findall(rf"^  python -m lab\.{name}\b", shown, re.MULTILINE)) >= 2


@pytest.mark.parametrize("path", sorted((ROOT / "lab").glob("*.py")), ids=lambda path: path.stem)
def test_every_command_line_is_read_by_the_parser_that_knows_the_nearest_word(path):
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert "argparse.ArgumentParser" not in called


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # this process has imported it already
def test_a_command_runs_under_either_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path)])
    assert stop.value.code == 2 and capsys.readouterr().err.startswith(
        f"lab.report: {tmp_path} is no run: it has no manifest.json, "
    )


def test_a_mistyped_command_names_the_nearest(capsys):
    assert main(["reprot"]) == 2
    assert capsys.readouterr().err == "lab: 'reprot' is no command; did you mean 'report'?\n"
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err == f"lab: 'xyzzy' is no command; expected one of {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("run", [LONG, "--dispaly", "none"], "--dispaly is no option; did you mean '--display'?"),
        ("run", [LONG, "--display", "riich"], "argument --display: is 'riich'; did you mean 'rich'?"),
        ("run", [LONG, "--display", "x"], "argument --display: is 'x'; expected one of auto, rich, plain, none"),
        ("train", [TRAINING, "--resme=x"], "--resme is no option; did you mean '--resume'?"),
        ("score", ["x.jsonl", "--dtype", "bfloat61"], "argument --dtype: is 'bfloat61'; did you mean 'bfloat16'?"),
        ("selftest", ["--judge", "legder"], "argument --judge: is 'legder'; did you mean 'ledger'?"),
        ("selftest", ["--size", "somke"], "argument --size: is 'somke'; did you mean 'smoke'?"),
        ("bench", ["--quik"], "--quik is no option; did you mean '--quick'?"),
        (
            "attribute",
            ["runs/x"],
            "the following arguments are required: --turn; python -m lab.attribute --help shows examples",
        ),
        ("report", ["a", "b", "--otu", "c"], "--otu is no option; did you mean '--out'?"),
        ("export", ["runs/x", "--format", "mesages"], "argument --format: is 'mesages'; did you mean 'messages'?"),
    ],
)
def test_a_mistyped_option_or_choice_names_the_nearest(name, arguments, expected):
    assert refusal(name, *arguments) == f"lab.{name}: {expected}\n"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "run",
            ["scenarios/long_dialog.yaml"],
            "scenarios/long_dialog.yaml: does not exist; did you mean 'scenarios/long_dialogue.yaml'?",
        ),
        ("run", ["scenario/theraphy.yaml"], "did you mean 'scenarios/therapy.yaml'?"),
        ("run", ["nowhere/at_all.yaml"], "nowhere/at_all.yaml: does not exist; expected a YAML file"),
        (
            "run",
            [LONG, "personas=scenarios/personas/townfolk.yaml"],
            "did you mean 'scenarios/personas/townsfolk.yaml'?",
        ),
        ("train", ["scenarios/training/quik.yaml"], "did you mean 'scenarios/training/quick.yaml'?"),
        (
            "train",
            [TRAINING, "scenario=scenarios/training/interveiw.yaml"],
            "did you mean 'scenarios/training/interview.yaml'?",
        ),
        ("score", ["scenarios/README"], "does not exist; expected `messages`"),
        ("score", ["pyproject.tml"], "pyproject.tml does not exist; expected `messages`"),
        (
            "score",
            ["constraint.txt"],
            "constraint.txt does not exist; did you mean 'constraints.txt'?",
        ),
    ],
)
def test_a_mistyped_file_names_the_nearest_of_its_kind_in_the_folder(name, arguments, expected):
    assert expected in refusal(name, *arguments)


@pytest.mark.parametrize(
    ("name", "file", "kind", "command", "wanted"),
    [
        ("run", TRAINING, "training", "train", "scenario"),
        ("run", "scenarios/sweeps/smoke.yaml", "sweep", "sweep", "scenario"),
        ("train", LONG, "scenario", "run", "training"),
        ("train", "scenarios/studies/ladder.yaml", "study", "run", "training"),
        ("sweep", TRAINING, "training", "train", "sweep"),
        ("sweep", LONG, "scenario", "run", "sweep"),
    ],
)
def test_a_file_of_another_kind_names_the_command_that_takes_it(name, file, kind, command, wanted):
    assert refusal(name, file) == (
        f"lab.{name}: {file}: is the file of a {kind}, which python -m lab.{command} takes; expected the file of a "
        f"{wanted}\n"
    )


def test_a_sweep_of_a_study_is_no_study(tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: s\nseed: 1\nstudy: ladder.yaml\naxes: {size: [smoke]}\n")
    assert "is the file of a sweep, which python -m lab.sweep takes" in refusal("run", sweep)


@pytest.mark.parametrize("name", ["report", "export", "watch", "run", "train", "sweep"])
def test_a_file_in_place_of_a_run_names_the_folder(name, tmp_path):
    (log := tmp_path / "events.jsonl").touch()
    arguments = {"report": [log], "watch": [log], "export": [log, "--format", "csv"]}
    assert refusal(name, *arguments.get(name, ["--resume", log])) == (
        f"lab.{name}: {log} is no run: it is a file; expected the folder of a run, such as "
        f"runs/20260101T120000Z-name-1a2b; did you mean '{tmp_path}'?\n"
    )


@pytest.mark.parametrize("name", ["report", "export", "attribute", "run", "train"])
def test_a_mistyped_run_names_the_nearest_in_its_folder(name, tmp_path):
    (tmp_path / "20260101T120000Z-long_dialogue-1a2b").mkdir()
    wrong = tmp_path / "20260101T120000Z-long_dialog-1a2b"
    arguments = {
        "report": [wrong],
        "export": [wrong, "--format", "csv"],
        "attribute": [wrong, "--turn", "3", "seats.user.temperature=1"],
    }
    assert refusal(name, *arguments.get(name, ["--resume", wrong])).endswith(
        f"{wrong} is no run: there is no such folder; did you mean "
        f"'{tmp_path / '20260101T120000Z-long_dialogue-1a2b'}'?\n"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("run", [LONG, "measure.judge=ledgr"], "did you mean 'ledger'?"),
        ("run", [LONG, "measure.metrics=[promt_to_line]"], "did you mean 'prompt_to_line'?"),
        ("run", [LONG, "conversatoins=2"], "conversatoins is no key of the file; did you mean 'conversations'?"),
        ("run", [LONG, "seats.usr.model=x"], "seats.usr is no key of the file; did you mean 'user'?"),
        ("run", [LONG, "graph.nodes.chatt.pressure=1"], "graph.nodes.chatt is not in the file; did you mean 'chat'?"),
        (
            "run",
            [LONG, "seats.user.persona=grce"],
            "seats.user.persona is 'grce', which is no persona; did you mean 'grace'?",
        ),
        (
            "run",
            [LONG, "dtype=floot32"],
            "dtype is 'floot32'; expected 'auto', 'bfloat16', 'float32' or 'float16'; did you mean 'float32'?",
        ),
        ("train", [TRAINING, "method=gpro"], "did you mean 'grpo'?"),
        ("train", [TRAINING, "reward.judge=likelyhood"], "did you mean 'likelihood'?"),
        (
            "train",
            [TRAINING, "tuning.learning_rat=1"],
            "tuning.learning_rat is no key of the file; did you mean 'learning_rate'?",
        ),
    ],
)
def test_a_mistyped_key_or_value_of_a_file_names_the_nearest(name, arguments, expected):
    assert expected in refusal(name, *arguments)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--judge=likelihod", "did you mean 'likelihood'?"),
        ("--metrics=line_to_lin", "did you mean 'line_to_line'?"),
        ("--judge=oracle", "expected 'ledger', 'likelihood', 'nli', 'combined', 'llm', 'cascade' or 'answer_reader'"),
    ],
)
def test_a_mistyped_judge_or_metric_of_scoring_names_the_nearest(option, expected, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "user", "content": "Hi."}]}')
    assert expected in refusal("score", chats, option)


def test_the_parser_prints_epilogs_as_they_are_written():
    assert Parser(prog="python -m lab.x", epilog="a\n  b").format_help().endswith("a\n  b\n")
