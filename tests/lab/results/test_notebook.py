"""`from lab import load_run`: folders of every kind, as frames, records and figures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from commands import LONG, NOBODY_TALKS, ROOT, inside, manifest, only
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from lab import run as lab_run
from lab.reports.write import write_comparison
from lab.results.load import load_run
from lab.score import main as score
from lab.store.frames import EVALUATION, METRICS
from lab.store.run_store import create, write_frame

TRAINING = "method: grpo\nscenario: x.yaml\n"
STEPS = pl.DataFrame({"step": [0, 1], "seat": ["user"] * 2, "reward": [0.1, 0.4], "kl": [0.0, 0.01]})
CHATS = [
    {
        "id": "a",
        "messages": [{"role": "user", "content": "I am Mia."}, {"role": "assistant", "content": "I sail."}],
        "personas": {"user": "You are Mia.", "assistant": "You are Leo."},
    }
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = inside(
        lab_run.main,
        LONG,
        *NOBODY_TALKS,
        "turns=6",
        "measure.metrics=[prompt_to_line,line_to_line,drift]",
        "--display",
        "none",
        "--runs",
        runs,
    )
    assert done.returncode == 0, done.stderr
    return only(runs)


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def training(tmp_path):
    """A training's folder before its first step."""
    with create(tmp_path, "quick", TRAINING, 7, "abc") as store:
        return store.path


def test_import_of_lab_loads_no_library_and_load_run_no_model():
    code = (
        "import sys, lab\nassert not {'polars', 'matplotlib', 'torch', 'ray', 'yaml'} & set(sys.modules)\n"
        "from lab import load_run\nassert 'polars' in sys.modules and not {'matplotlib', 'torch', 'ray'} & "
        "set(sys.modules)\n"
        "try: lab.nothing\nexcept AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("module 'lab' has no attribute 'nothing'\n", 0), done.stderr


def test_a_run_gives_the_frames_that_it_wrote_its_manifest_and_the_figures_of_its_report(run):
    loaded = load_run(run)
    assert (loaded.kind, loaded.manifest) == ("run", manifest(run))
    for name in ("turns", "judgements", "metrics"):
        assert_frame_equal(getattr(loaded, name), pl.read_parquet(run / f"{name}.parquet"))
    assert loaded.turns.height == 12 and loaded.activations.is_empty()
    assert (
        sorted(loaded.plots) == sorted(plot.stem for plot in (run / "plots").iterdir()) and "survival" in loaded.plots
    )
    assert all(isinstance(figure, Figure) for figure in loaded.plots.values())
    assert loaded.plots["survival"] is loaded.plots["survival"], "a figure may be changed and saved"


def test_conversations_are_records_with_the_personas_who_spoke(run):
    first, second = load_run(run).conversations
    assert [(line.turn, line.seat) for line in second.lines] == [
        (turn, ("assistant", "user")[turn % 2]) for turn in range(6)
    ]
    assert first.cast["assistant"].name == "Stella" and first.cast["assistant"].fact("home").value == "Bristol"
    assert all(
        line.persona == conversation.cast[line.seat].id
        for conversation in (first, second)
        for line in conversation.lines
    )
    assert first.lines[1].text == "I am a baker." and 1 not in first.ready
    assert first.lines[0].text == "Welcome to the show! Who am I talking to?" and 0 in first.ready


def test_a_running_run_is_opened_as_far_as_it_has_come(copy):
    recorded = (copy / "events.jsonl").read_bytes().splitlines(keepends=True)
    place = max(number for number, event in enumerate(recorded) if b'"event": "line"' in event)
    # the last line is being written
    (copy / "events.jsonl").write_bytes(b"".join(recorded[:place]) + recorded[place][:40])
    for name in ("turns", "judgements", "metrics"):
        (copy / f"{name}.parquet").unlink()
    (copy / "manifest.json").write_text(json.dumps(manifest(copy) | {"status": "running"}))
    loaded = load_run(copy)
    assert loaded.turns.height == 11 and [len(conversation.lines) for conversation in loaded.conversations] == [6, 5]
    assert loaded.metrics.is_empty() and loaded.metrics.columns == list(METRICS)
    assert "running, 11 lines in 2 conversations" in repr(loaded) and list(loaded.plots) == [
        "survival",
        "contradictions_by_node",
    ]


def test_a_training_gives_its_log_and_evaluation_as_far_as_they_have_come(training):
    loaded = load_run(training)
    assert (loaded.kind, loaded.plots, loaded.conversations) == ("training", {}, ())
    assert loaded.training.shape == loaded.evaluation.shape == (0, 0)
    write_frame(training / "training.parquet", STEPS)
    assert list(load_run(training).plots) == ["training"]
    row = {
        "arm": "grpo",
        "scenario": "s",
        "metric": "qa",
        "judge": "answer_reader",
        "seat": "user",
        "held_out": True,
        "rewarded": False,
        "value": 0.8,
        "low": 0.7,
        "high": 0.9,
        "n": 40,
    }
    write_frame(training / "evaluation.parquet", pl.DataFrame([row], schema=EVALUATION))
    loaded = load_run(training)
    assert_frame_equal(loaded.training, STEPS)
    assert loaded.evaluation["value"].to_list() == [0.8] and list(loaded.plots) == ["training", "evaluation"]


def test_scores_have_the_names_and_cards_of_the_transcripts_while_those_are_there(tmp_path, capsys):
    chats = tmp_path / "chats.jsonl"
    chats.write_text("\n".join(map(json.dumps, CHATS)))
    assert score([str(chats), "--judge", "ledger", "--out", str(tmp_path / "out")]) == 0
    loaded = load_run(tmp_path / "out")
    [conversation] = loaded.conversations
    assert (loaded.kind, conversation.name, conversation.cast["user"].card) == ("scores", "a", "You are Mia.")
    assert [line.text for line in conversation.lines] == ["I am Mia.", "I sail."]
    assert loaded.judgements["unscored"].to_list() == ["the persona has no facts"] * 2

    chats.write_text(chats.read_text().replace("I sail.", "I fly."))  # another chat by now
    [other] = load_run(tmp_path / "out").conversations
    assert (other.lines, other.name, other.cast["user"].card) == (conversation.lines, None, "") and other.cast[
        "user"
    ].id == conversation.cast["user"].id
    chats.unlink()
    assert load_run(tmp_path / "out").conversations[0].cast == other.cast


def test_a_comparison_is_its_rows_and_their_figure(run, tmp_path):
    write_comparison([run, run], tmp_path / "both")
    loaded = load_run(tmp_path / "both")
    assert (loaded.kind, loaded.manifest, list(loaded.plots)) == ("comparison", {}, ["differences"])
    assert set(loaded.comparison["value"].drop_nans()) == {0.0}
    assert repr(loaded).endswith(f"a comparison of two runs; comparison {loaded.comparison.height} × 11)")


def test_what_a_folder_says_of_itself_is_text_in_a_notebook(copy):
    altered = manifest(copy) | {"status": "<script>alert(1)</script>"}
    (copy / "manifest.json").write_text(json.dumps(altered))
    folder = copy.rename(copy.parent / "<b>run")
    shown = load_run(folder)._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown and "&lt;b&gt;run" in shown
    assert "<script>" not in shown and "<b>run" not in shown
    assert "<td>turns</td><td>12</td><td>run_id, conversation, persona" in shown


def test_frames_that_a_folder_does_not_have_are_named_with_those_it_has(run, training):
    with pytest.raises(
        ValueError, match=r"is a run and has no training; expected one of turns, judgements, metrics, activations$"
    ):
        _ = load_run(run).training
    with pytest.raises(ValueError, match=r"is a training and has no turns; expected one of training, evaluation$"):
        _ = load_run(training).turns


def test_what_is_none_of_these_folders_or_is_damaged_is_refused_in_one_sentence(copy):
    with pytest.raises(ValueError, match=r"rum is no run: there is no such folder; did you mean '.*run'\?$"):
        load_run(copy.parent / "rum")
    (copy / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"metrics.parquet is damaged \(.*\); expected it as it was written$"):
        load_run(copy)


def test_conversations_of_others_than_the_files_cast_are_refused_and_the_frames_are_not(copy):
    yaml = (copy / "scenario.yaml").read_text()
    assert "seed: 7\n" in yaml
    (copy / "scenario.yaml").write_text(yaml.replace("seed: 7\n", "seed: 8\n"))  # which draws other callers
    loaded = load_run(copy)
    assert loaded.turns.height == 12
    with pytest.raises(
        ValueError, match=r"was played with .* as user, but its scenario and persona files now cast .*; expected them"
    ):
        _ = loaded.conversations
