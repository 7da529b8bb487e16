"""`python -m lab.score` on conversations made up here, and on a run of our own."""

from __future__ import annotations

import csv
import json
import math

import polars as pl
import pytest
from commands import LONG, NOBODY_TALKS, inside, judgements, manifest, only, turns
from polars.testing import assert_frame_equal

from lab import run as lab_run
from lab.dialogue import judges
from lab.score import main
from lab.transcripts.judging import judge_all
from lab.transcripts.labels import Powered
from lab.transcripts.reading import read_transcripts
from lab.transcripts.scoring import read_task
from metrics.judges import judgement
from metrics.judges.entry import JudgeEntry
from metrics.stats.intervals import Interval

GRACE, LEO = "You are Grace. You are a carpenter.", "You are Leo. You are shy."


def labelled(number):
    """Four lines, two of them Grace's; the last contradicts her, says the label, in even conversations."""
    said = [
        "I am Grace, a carpenter.",
        "Hello, Grace.",
        "I am a nurse and my name is Leo." if number % 2 == 0 else "I like wood.",
        "Oh.",
    ]
    return {
        "id": f"talk-{number}",
        "personas": {"P1": GRACE, "P2": LEO},
        "lines": [
            {
                "speaker": f"P{1 + turn % 2}",
                "text": text,
                "contradicts_persona": turn == 2 and number % 2 == 0,
                "conflicts_with": [0] if turn == 2 and number % 2 == 0 else [],
            }
            for turn, text in enumerate(said)
        ],
    }


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(json.dumps(labelled(number)) for number in range(4)))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ours without a model."""
    runs = tmp_path_factory.mktemp("runs")
    done = inside(
        lab_run.main,
        LONG,
        *NOBODY_TALKS,
        "turns=8",
        "measure.metrics=[prompt_to_line,line_to_line]",
        "--display",
        "none",
        "--runs",
        runs,
    )
    assert done.returncode == 0, done.stderr
    return only(runs)


class Spotter:
    """Finds that a line contradicts where it speaks of a nurse; does not read pairs of lines."""

    name = "ledger"

    def judge(self, pairs):
        return [
            judgement(pair, self.name, p_inconsistent=float("nurse" in pair.line), verdict="nurse" in pair.line)
            if pair.metric == "prompt_to_line"
            else judgement(pair, self.name, unscored="a pair of lines")
            for pair in pairs
        ]


@pytest.fixture
def spotter(monkeypatch):
    """In the ledger's place, which needs facts."""
    monkeypatch.setitem(judges.JUDGES, "ledger", JudgeEntry("ledger", lambda _: Spotter()))


def score(*arguments):
    return main([str(argument) for argument in arguments])


def test_run_scored_again_by_the_same_judge_gets_the_same_judgements_and_stays_as_it_is(run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert score(run, "--judge", "ledger", "--out", tmp_path / "again") == 0
    assert judgements(run).height > 0 and judgements(run)["verdict"].sum() > 0
    assert_frame_equal(judgements(tmp_path / "again"), judgements(run))
    assert_frame_equal(turns(tmp_path / "again"), turns(run))
    kept = ["prompt_to_line", "line_to_line", "unscored_prompt_to_line"]
    metrics = [
        pl.read_parquet(path / "metrics.parquet").drop("run_id").filter(pl.col("metric").is_in(kept))
        for path in (run, tmp_path / "again")
    ]
    assert_frame_equal(*metrics)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    shown = capsys.readouterr().out
    assert "prompt-to-line consistency" in shown and "contradicting lines" in shown


def test_combined_is_the_default_whatever_judged_the_run_and_limit_takes_the_first(run, tmp_path):
    assert read_task([read_transcripts(run)]).measure.judge == ["combined"]
    assert score(run, "--judge", "ledger", "--limit", 1, "--runs", tmp_path) == 0
    scored = judgements(only(tmp_path))
    assert set(scored["judge"]) == {"ledger"} and set(scored["conversation"]) == {0}
    assert (
        only(tmp_path).name.split("-", 1)[1].startswith("score-") and manifest(only(tmp_path))["status"] == "finished"
    )


def test_folder_of_scores_is_no_transcript_and_is_not_written_over(run, tmp_path, capsys):
    assert score(run, "--judge", "ledger", "--out", tmp_path / "scores") == 0
    capsys.readouterr()
    assert score(tmp_path / "scores", "--runs", tmp_path) == 2
    assert str(run) in capsys.readouterr().err
    assert score(run, "--out", tmp_path / "scores") == 2
    assert "holds something already" in capsys.readouterr().err


def test_combined_is_the_default_for_plain_personas_and_is_compared_with_the_labels(talks, tmp_path, capfd, one_thread):
    out, figures, plot = tmp_path / "out", tmp_path / "figures.json", tmp_path / "reliability.png"
    asked = [
        "--against",
        "labels",
        "--json",
        figures,
        "--plot",
        plot,
        "--out",
        out,
        "--dtype",
        "float32",
        "--device",
        "cpu",
    ]
    assert score(talks, *asked) == 0
    written = json.loads(figures.read_text())
    assert list(written) == ["combined"] and list(written["combined"]) == ["prompt_to_line", "line_to_line"]
    measured = written["combined"]["prompt_to_line"]
    assert {"auroc", "low", "high", "kappa", "ece", "precision", "recall", "n", "unscored"} <= set(measured)
    assert (
        measured["n"],
        measured["unscored"],
        measured["unlabelled"],
        measured["contradicting"],
        measured["conversations"],
    ) == (
        16,
        0,
        0,
        2,
        4,
    )
    assert 0.5 < measured["auroc"] <= 1
    # two of two found: no certainty
    assert measured["recall"] == 1 == measured["recall_high"] and measured["recall_low"] < 0.5
    # where nothing changes without any conversation there is no interval
    assert measured["low"] is None or measured["low"] < measured["auroc"] <= measured["high"]
    # two seats with one pair each in four conversations
    lines = written["combined"]["line_to_line"]
    assert (lines["n"], lines["unscored"]) == (8, 0)
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown, errors = capfd.readouterr()
    assert "AUROC" in shown and "P1 in the assistant's seat" in shown and f"reliability plot: {plot}" in shown
    assert errors.splitlines()[-1].startswith("16 of 16 lines judged in ")
    assert {name: pl.read_parquet(out / f"{name}.parquet").height for name in ("turns", "judgements")} == {
        "turns": 16,
        "judgements": 24,
    }


def test_reliability_plot_lies_with_the_results_where_no_place_is_named(talks, tmp_path, capsys, spotter):
    assert score(talks, "--judge", "ledger", "--against", "labels", "--out", tmp_path / "out") == 0
    plot = tmp_path / "out" / "plots" / "reliability.png"
    assert plot.read_bytes().startswith(b"\x89PNG") and f"reliability plot: {plot}" in capsys.readouterr().out


def test_progress_is_told_in_sentences_where_there_is_no_terminal(talks, monkeypatch):
    from io import StringIO

    from lab.transcripts import judging
    from lab.transcripts.reading import read_transcripts

    monkeypatch.setattr(judging, "LINES_AT_ONCE", 6)  # talks of four lines: two at a time
    portions = list(judging._portions(read_transcripts(talks).transcripts, lambda one: (), False))
    assert [portion.ended for portion in portions] == [[0, 1], [2, 3]]
    monkeypatch.setattr(judging, "REPORT_EVERY_S", 0.0)
    stream = StringIO()
    with judging._progress(stream, 16, "auto") as advance:
        advance(8)
        advance(8)
    assert [line.split(" in ")[0] for line in stream.getvalue().splitlines()] == [
        "8 of 16 lines judged",
        "16 of 16 lines judged",
    ]


class Mortal(Spotter):
    """Costs money, and its process dies once it was asked about so many pairs."""

    name = "llm"

    def __init__(self, asked: list, lives: float = math.inf):
        self.asked, self.lives = asked, lives

    def judge(self, pairs):
        self.asked += [(pair.conversation, pair.turn, pair.against) for pair in pairs]
        if len(self.asked) > self.lives:
            raise KeyboardInterrupt
        return super().judge(pairs)


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_scoring_goes_on_and_asks_a_costly_judge_about_no_pair_twice(torn, talks, tmp_path, monkeypatch):
    """16 pairs with the persona and 8 with earlier lines; what was asked in one go when it died is asked again."""
    server = ("measure.llm.endpoint=http://127.0.0.1:9/v1", "measure.llm.model=m", "measure.validate=false")
    arguments = (talks, "--judge", "llm", "--metrics", "prompt_to_line,line_to_line", *server, "--out")
    asked, again = [], []
    monkeypatch.setattr("lab.transcripts.judging.PAIRS_AT_ONCE", 3)
    monkeypatch.setitem(judges.JUDGES, "llm", JudgeEntry("llm", lambda _: Mortal([])))
    assert score(*arguments, tmp_path / "whole") == 0
    monkeypatch.setitem(judges.JUDGES, "llm", JudgeEntry("llm", lambda _: Mortal(asked, 12)))
    assert score(*arguments, tmp_path / "out") == 130
    if torn:  # as a kill in the middle of a write leaves it
        log = (tmp_path / "out/events.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "out/events.jsonl").write_bytes(b"".join(log[:-1]) + log[-1][:20])
    monkeypatch.setitem(judges.JUDGES, "llm", JudgeEntry("llm", lambda _: Mortal(again)))
    assert score("--resume", tmp_path / "out") == 0
    twice = set(asked) & set(again)
    assert len(asked) + len(again) == 24 + len(twice) and 0 < len(twice) < 6 and len(again) < 16
    for frame in (turns, judgements):
        assert_frame_equal(frame(tmp_path / "whole"), frame(tmp_path / "out"))
    assert manifest(tmp_path / "out")["status"] == "finished"
    done = len(again)
    assert score("--resume", tmp_path / "out") == 0 and len(again) == done, "what is finished is asked about no more"


def test_a_scoring_is_continued_as_it_was_begun(talks, run, tmp_path, capsys, spotter):
    assert score(talks, "--judge", "ledger", "--out", tmp_path / "out") == 0
    for arguments, message in (
        (["--resume", tmp_path / "out", "--judge", "nli"], "expected no 'nli' beside it"),
        (["--resume", run], "was played and not scored"),
    ):
        assert score(*arguments) == 2 and message in capsys.readouterr().err
    talks.write_text(talks.read_text().replace("nurse", "vet"))
    assert score("--resume", tmp_path / "out") == 2 and "talks.jsonl: changed since" in capsys.readouterr().err


def test_people_s_labels_correct_the_consistency(talks, tmp_path, spotter):
    labels, figures = tmp_path / "labels.csv", tmp_path / "figures.json"
    with labels.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["conversation", "turn", "seat", "contradicts"])
        rows.writerows(
            [["talk-0", 0, "assistant", "yes"], ["talk-0", 2, "", "yes"], [1, 0, "assistant", "false"], [1, 2, "", ""]]
        )
    assert (
        score(
            talks,
            "--judge",
            "ledger",
            "--labels",
            labels,
            "--against",
            "labels",
            "--json",
            figures,
            "--runs",
            tmp_path / "runs",
        )
        == 0
    )
    measured = json.loads(figures.read_text())["ledger"]["prompt_to_line"]
    # two of eight lines speak of a nurse: 6/8; labels: contradicts, contradicts, not: 1/3; both: 1/3 + 6/8 - 2/3, as
    # lambda would be 2 and is 1
    powered = measured["prediction_powered"]["assistant"]
    assert (powered["judge"]["value"], powered["judge"]["n"]) == (0.75, 8) and powered["labels"][
        "value"
    ] == pytest.approx(1 / 3)
    assert powered["both"]["value"] == pytest.approx(0.75 - 1 / 3) and powered["both"]["n"] == 3
    assert (measured["n"], measured["unlabelled"], measured["contradicting"]) == (3, 13, 2)


def test_gain_is_the_part_of_the_labels_interval_that_the_judge_saves():
    judge, alone, both = Interval(0.9, 0.88, 0.92, 400), Interval(0.8, 0.6, 1.0, 20), Interval(0.82, 0.72, 0.92, 20)
    assert Powered(judge, alone, both).gain == pytest.approx(1 - 0.2 / 0.4)
    assert math.isnan(Powered(judge, Interval(1.0, 1.0, 1.0, 3), both).gain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conversation,turn\n0,1\n", "line 2: has no contradicts"),
        ("conversation,turn,contradicts\n9,1,1\n", "line 2: conversation is '9'"),
        ("conversation,turn,contradicts\n0,7,1\n", "line 2: turn is '7'"),
        ("conversation,turn,contradicts\n0,1,maybe\n", "line 2: contradicts is 'maybe'"),
        ("conversation,turn,contradicts,seat\n0,1,1,assistant\n", "seat is 'assistant'"),
        ("", "line 1: there is no label"),
        (
            '{"conversation": 0, "turn": 1, "contradicts": true}\n{"conversation": "talk-0", "turn": 1, '
            '"contradicts": true}',
            "line 2: labels a line",
        ),
    ],
)
def test_label_file_is_refused_with_its_line(talks, tmp_path, capsys, text, message):
    (tmp_path / "labels").write_text(text)
    assert score(talks, "--labels", tmp_path / "labels", "--runs", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("lab.score: ")
        and message in error
        and error.count("\n") == 1
        and not (tmp_path / "runs").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "oracle"], "is 'oracle'; expected 'ledger'"),
        (["--metrics", "qa"], "only a speaker can be asked for"),
        (["--limit", "0"], "--limit is 0"),
        (["--plot", "p.png"], "expected --against labels"),
        (["--against", "labels", "--plot", "p.jpg"], ".png"),
        (["--json", "/none/x.json"], "expected a file in a folder that is there"),
        (["--json", "/"], "expected a file"),
        (["--labels", "/none.csv"], "/none.csv does not exist; expected CSV or JSON lines"),
        (["measure.llm.modl=x"], "did you mean 'model'"),
    ],
)
def test_mistakes_are_refused_before_work_begins(talks, tmp_path, capsys, arguments, message):
    assert score(talks, *arguments, "--runs", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_transcripts_without_labels_cannot_be_compared(tmp_path, capsys):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}))
    assert score(path, "--against", "labels", "--runs", tmp_path) == 2
    assert "no line is labelled" in capsys.readouterr().err


def test_lines_of_nobody_are_unscored_and_never_consistent(tmp_path, spotter):
    path = tmp_path / "chat.jsonl"
    path.write_text(
        json.dumps(
            {
                "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
                "personas": {"assistant": GRACE},
            }
        )
    )
    assert score(path, "--judge", "ledger", "--metrics", "prompt_to_line", "--out", tmp_path / "out") == 0
    rows = judgements(tmp_path / "out").select("seat", "verdict", "unscored").rows()
    assert rows == [("user", None, "the speaker's persona is unknown"), ("assistant", False, None)]


def test_conversations_of_several_transcripts_are_numbered_on(talks, tmp_path):
    assert score(talks, talks, "--judge", "ledger", "--out", tmp_path / "out") == 0
    assert sorted(set(turns(tmp_path / "out")["conversation"])) == list(range(8))
    assert len(manifest(tmp_path / "out")["scored"]["transcripts"]) == 2


def test_ledger_leaves_personas_without_facts_unscored(talks, tmp_path, capsys):
    assert (
        score(
            talks,
            "--judge",
            "ledger",
            "--against",
            "labels",
            "--json",
            tmp_path / "figures.json",
            "--out",
            tmp_path / "out",
        )
        == 0
    )
    measured = json.loads((tmp_path / "figures.json").read_text())["ledger"]["prompt_to_line"]
    assert (measured["n"], measured["unscored"], measured["auroc"]) == (0, 16, None)
    assert set(judgements(tmp_path / "out")["unscored"]) == {"the persona has no facts"}
    assert "No reliability plot" in capsys.readouterr().out


def test_conversation_that_a_judge_refuses_is_unscored_and_the_others_are_not(talks):
    from lab.transcripts.reading import read_transcripts
    from lab.transcripts.transcript import transcript_pairs

    class Strict:
        name = "strict"

        def judge(self, batch):
            if any(pair.conversation == 2 for pair in batch):
                raise ValueError("too long")
            return [judgement(pair, self.name, p_inconsistent=0.0, verdict=False) for pair in batch]

    rows = judge_all(
        [Strict()],
        [
            pair
            for transcript in read_transcripts(talks).transcripts
            for pair in transcript_pairs(transcript, {"prompt_to_line"})
        ],
    )
    assert len(rows) == 16 and {row.conversation: row.unscored for row in rows} == {
        0: None,
        1: None,
        2: "too long",
        3: None,
    }
