"""`python -m lab.export`: chats that lab.score reads back, rows that TRL takes, tables that a spreadsheet does not
execute.
"""

from __future__ import annotations

import csv
import io
import json

import corpora
import learners
import polars as pl
import pytest
import tiny
from commands import LONG, NOBODY_TALKS, inside, only
from polars.testing import assert_frame_equal

from lab import run as lab_run
from lab.dialogue import judges
from lab.dialogue.loop import system_text
from lab.export import main
from lab.results.formats import defused, heard_messages
from lab.results.load import load_run
from lab.score import main as score
from lab.store.run_store import create
from lab.transcripts.reading import read_transcripts
from metrics.judges import judgement
from metrics.judges.entry import JudgeEntry
from scenarios.jobs.recipe import played
from scenarios.records import Line

WORDS = [
    "user.script=['=SUM(A1)', 'I am a baker.', 'I am a ☕ baker, \"really\".']",
    "assistant.script=['Who are you?']",
]
TALK = [f"seats.{words}" for words in WORDS] + NOBODY_TALKS[2:] + ["turns=8"]


class Spotter:
    """Finds that a line contradicts where it speaks of a baker; says nothing of sums, and reads pairs of lines by their
    first words.
    """

    name = "ledger"

    def judge(self, pairs):
        return [
            judgement(pair, self.name, unscored="a sum")
            if "SUM" in pair.line
            else judgement(pair, self.name, p_inconsistent=float(bad), verdict=bad)
            for pair in pairs
            for bad in ["baker" in (pair.line if pair.metric == "prompt_to_line" else pair.other)]
        ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two conversations of eight lines: the host's first three are the scenario's words, all others come from
    scripts.
    """
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(judges.JUDGES, "ledger", JudgeEntry("ledger", lambda _: Spotter()))
        done = inside(
            lab_run.main,
            LONG,
            *TALK,
            "measure.metrics=[prompt_to_line,line_to_line]",
            "--display",
            "none",
            "--runs",
            runs,
        )
    assert done.returncode == 0, done.stderr
    return only(runs)


def export(*arguments):
    return main([str(argument) for argument in arguments])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- chats


@pytest.mark.parametrize("seat", ["assistant", "user"])
def test_exported_chats_scored_by_the_same_judge_get_the_runs_judgements(run, tmp_path, capsys, monkeypatch, seat):
    monkeypatch.setitem(judges.JUDGES, "ledger", JudgeEntry("ledger", lambda _: Spotter()))
    assert export(run, "--format", "messages", "--seat", seat, "--out", tmp_path / "chats.jsonl") == 0
    assert capsys.readouterr().err == "2 rows\n"
    assert score([str(tmp_path / "chats.jsonl"), "--judge", "ledger", "--out", str(tmp_path / "out")]) == 0
    before, after = load_run(run), load_run(tmp_path / "out")
    assert before.judgements["verdict"].sum() > 0 and before.judgements["unscored"].drop_nulls().len() > 0
    assert_frame_equal(after.judgements.drop("run_id"), before.judgements.drop("run_id"))
    said = ("conversation", "turn", "seat", "text")
    assert_frame_equal(after.turns.select(said), before.turns.select(said))
    for original, other in zip(before.conversations, after.conversations, strict=True):
        assert all(
            (original.cast[seat].name, original.cast[seat].card) == (other.cast[seat].name, other.cast[seat].card)
            for seat in original.cast
        )
        assert original.ready == other.ready


def test_the_seat_that_is_asked_for_is_the_assistant_under_what_it_was_told(run, tmp_path):
    export(run, "--format", "messages", "--seat", "user", "--out", tmp_path / "flipped.jsonl")
    export(run, "--format", "messages", "--out", tmp_path / "plain.jsonl")
    cast = load_run(run).conversations[1].cast
    flipped, plain = rows(tmp_path / "flipped.jsonl")[1], rows(tmp_path / "plain.jsonl")[1]
    assert flipped["messages"][0] == {
        "role": "system",
        "content": system_text(cast["user"], "You are a caller in a radio show."),
    }
    assert plain["messages"][0]["content"] == system_text(cast["assistant"], "")
    assert [message["role"] for message in flipped["messages"][1:]] == ["user", "assistant"] * 4
    assert [message["role"] for message in plain["messages"][1:]] == ["assistant", "user"] * 4
    assert flipped["seats"] == {
        "assistant": {"seat": "user", "persona": cast["user"].id, "name": cast["user"].name},
        "user": {"seat": "assistant", "persona": "radio_host", "name": "Stella"},
    }
    assert (
        flipped["personas"] == {"assistant": cast["user"].card, "user": cast["assistant"].card}
        and 0 in flipped["given"]
    )


def test_one_seat_for_both_roles_is_refused(run, tmp_path):
    export(run, "--format", "messages", "--out", tmp_path / "chats.jsonl")
    row = rows(tmp_path / "chats.jsonl")[0]
    row["seats"]["assistant"]["seat"] = "user"
    (tmp_path / "wrong.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="line 1: seats: gives both roles the seat of the user; expected one each"):
        read_transcripts(tmp_path / "wrong.jsonl")


def test_scores_of_chats_are_exported_under_their_cards(tmp_path, capsys):
    chat = {
        "id": "x",
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Mia."}],
        "personas": {"assistant": "You are Mia."},
    }
    (tmp_path / "chats.jsonl").write_text(json.dumps(chat))
    assert score([str(tmp_path / "chats.jsonl"), "--judge", "ledger", "--out", str(tmp_path / "out")]) == 0
    assert export(tmp_path / "out", "--format", "messages", "--out", tmp_path / "again.jsonl") == 0
    [again] = rows(tmp_path / "again.jsonl")
    assert again["id"] == "x" and again["messages"] == [
        {"role": "system", "content": "You are Mia."},
        *chat["messages"],
    ]


# -- TRL
#
#


def test_trl_takes_the_rows_as_a_conversational_kto_data_set(run, tmp_path, capsys):
    """As its trainers do before training: loaded, recognised, and put into the embedded model's template."""
    import datasets
    from trl.data_utils import apply_chat_template, is_conversational

    from agents.models.loading import load_tokenizer

    assert export(run, "--format", "trl", "--seat", "user", "--judge", "ledger", "--out", tmp_path / "kto.jsonl") == 0
    # each caller says a sum twice, which is unscored, and speaks twice of baking
    assert capsys.readouterr().err == "4 rows, 4 lines that ledger could not score left out\n"
    data_set = datasets.load_dataset(
        "json", data_files=str(tmp_path / "kto.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert data_set.column_names == ["prompt", "completion", "label"] and data_set["label"] == [False] * 4
    assert data_set.features["label"].dtype == "bool" and all(is_conversational(row) for row in data_set)
    tokenizer = load_tokenizer("embedded").tokenizer
    row = apply_chat_template(data_set[0], tokenizer)
    assert row["prompt"].endswith("<|im_start|>assistant\n") and row["completion"].startswith("I am a baker.<|im_end|>")


def test_rows_without_a_judge_have_no_label_and_leave_out_what_the_scenario_said(run, tmp_path, capsys):
    assert export(run, "--format", "trl", "--out", tmp_path / "rows.jsonl") == 0
    exported = rows(tmp_path / "rows.jsonl")
    assert [row["completion"] for row in exported] == [
        [{"role": "assistant", "content": "Who are you?"}]
    ] * 2  # of four lines each
    # system, silence, three and three lines
    assert all(set(row) == {"prompt", "completion"} and len(row["prompt"]) == 8 for row in exported)


def test_a_prompt_is_what_the_seats_model_read_with_a_users_message_between_its_own():
    said = [
        Line(0, turn, seat, "x", "n", text, 1)
        for turn, (seat, text) in enumerate(
            [("user", "Hi."), ("user", "It is me."), ("assistant", "Oh."), ("user", "Yes.")]
        )
    ]
    first, on = "(The conversation begins. You speak first.)", "(They say nothing. Go on.)"
    assert heard_messages(said, "user") == [
        {"role": "user", "content": first},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": on},
        {"role": "assistant", "content": "It is me."},
        {"role": "user", "content": "Oh."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": on},
    ]
    assert heard_messages(said, "assistant") == [
        {"role": "user", "content": "Hi.\nIt is me."},
        {"role": "assistant", "content": "Oh."},
        {"role": "user", "content": "Yes."},
    ]
    assert heard_messages([], "user") == [{"role": "user", "content": first}]


def test_lines_sampled_at_one_place_of_a_training_become_preferences(recipe, tmp_path, capsys):
    from trl.data_utils import is_conversational

    from lab.training.collected import COLLECTED, write_views

    trained = recipe("method=dpo")
    with create(tmp_path / "runs", "stored", trained.resolved_yaml(), trained.seed, trained.digest()) as store:
        pass
    write_views(store.path / COLLECTED, trained, played(trained), {"user": corpora.KEPT})
    assert export(store.path, "--format", "trl", "--out", tmp_path / "dpo.jsonl") == 0
    # each of three views: 1 over -1; 0.3 over nothing scored: left out; 0 over -0.5, answers to a question off the
    # record
    exported = rows(tmp_path / "dpo.jsonl")
    assert (
        len(exported) == 6
        and all(set(row) == {"prompt", "chosen", "rejected"} for row in exported)
        and not is_conversational(exported[0])
    )
    view = corpora.KEPT[0]
    best, worst, *_, bad, good = view.lines
    end = chr(learners.END)
    assert exported[0] == {
        "prompt": learners.text(view.ids[: best.start]),
        "chosen": learners.text(best.ids).removesuffix(end),
        "rejected": learners.text(worst.ids).removesuffix(end),
    }
    assert exported[1]["prompt"] == learners.text(view.ids[: good.start] + good.given)
    assert (exported[1]["chosen"], exported[1]["rejected"]) == tuple(
        learners.text(line.ids).removesuffix(end) for line in (good, bad)
    )
    assert tiny.VOCABULARY == 128  # a token is a character

    assert export(store.path, "--format", "trl", "--seat", "assistant") == 2
    assert "holds dialogues of the user; expected dialogues of the assistant" in capsys.readouterr().err
    (store.path / COLLECTED).unlink()
    assert export(store.path, "--format", "trl") == 2
    assert "is a training that kept no dialogues; expected one that has a collected.jsonl" in capsys.readouterr().err
    assert export(store.path, "--format", "csv") == 2
    assert "is a training, whose dialogues are token ids with rewards; expected --format trl" in capsys.readouterr().err


# -- tables


def test_a_table_holds_every_line_with_each_judges_verdict_and_no_formula(run, tmp_path):
    assert export(run, "--format", "csv", "--out", tmp_path / "lines.csv") == 0
    table = list(csv.DictReader(io.StringIO((tmp_path / "lines.csv").read_text())))
    lines = [line for conversation in load_run(run).conversations for line in conversation.lines]
    assert [(row["conversation"], row["turn"], row["seat"]) for row in table] == [
        (str(line.conversation), str(line.turn), line.seat) for line in lines
    ]
    ours = [row for row in table if row["seat"] == "user"][:3]
    assert [row["text"] for row in ours] == ["'=SUM(A1)", "I am a baker.", 'I am a ☕ baker, "really".']
    columns = ("ledger_contradicts", "ledger_p", "ledger_conflicts_with", "ledger_unscored")
    assert [[row[name] for name in columns] for row in ours] == [
        ["", "", "", "a sum"],
        ["true", "1.0", "", ""],
        ["true", "1.0", "3", ""],
    ]
    assert table[0]["given"] == "true" and table[0]["name"] == "Stella"
    assert pl.read_csv(tmp_path / "lines.csv").height == 16


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "\tplain"])
def test_text_that_begins_like_a_formula_gets_an_apostrophe(cell):
    assert defused(cell) == "'" + cell


@pytest.mark.parametrize("cell", [-1.5, -3, None, True, "", "1 - 1 = 0", "I'm", " plain"])
def test_numbers_and_other_text_stay_as_they_are(cell):
    assert defused(cell) is cell


# -- files and refusals


def test_stdout_gets_what_a_file_would(run, tmp_path):
    done = inside(main, run, "--format", "csv", "--seat", "user")
    assert (done.returncode, done.stderr) == (0, "8 rows\n")
    assert export(run, "--format", "csv", "--seat", "user", "--out", tmp_path / "lines.csv") == 0
    assert (tmp_path / "lines.csv").read_text() == done.stdout


def test_an_export_that_fails_leaves_the_file_that_was_there(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "rows.jsonl"
    out.write_text("mine")
    unjudged = [event for event in (run / "events.jsonl").read_text().splitlines() if '"judged"' not in event]
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("manifest.json", "scenario.yaml"):
        (bare / name).write_bytes((run / name).read_bytes())
    (bare / "events.jsonl").write_text("\n".join(unjudged) + "\n")
    assert export(bare, "--format", "trl", "--judge", "ledger", "--out", out) == 2
    assert (
        "has no line that was judged against its persona; expected prompt_to_line among its metrics"
        in capsys.readouterr().err
    )
    assert out.read_text() == "mine" and list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--format", "csv", "--judge", "ledger"], "--judge labels the rows of --format trl, not of csv"),
        (["--format", "trl", "--judge", "legder"], "--judge is 'legder', which judged no line of "),
        (["--format", "trl", "--judge", "legder"], "did you mean 'ledger'?"),
        (
            ["--format", "csv", "--out", "/none/x.csv"],
            "cannot write /none/x.csv (No such file or directory); expected a file in a folder",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run, capsys, arguments, reason):
    assert export(run, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("lab.export: ") and reason in error and error.count("\n") == 1


def test_a_run_in_which_nothing_was_said_is_refused(run, tmp_path, capsys):
    with create(tmp_path, "empty", (run / "scenario.yaml").read_text(), 7, "abc") as store:
        pass
    assert export(store.path, "--format", "messages") == 2
    assert "there is no line to write; expected a run with lines" in capsys.readouterr().err
