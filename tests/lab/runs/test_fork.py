"""Going on from a stored line in several branches: what stays as it was, what is new, and how both are compared."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path

import corpora
import polars as pl
import pytest
from commands import LONG, assert_same_play, events, inside, judgements, manifest, only, turns

from agents.engine.local import LocalEngine
from lab import fork as command
from lab import report, run, score
from lab.dialogue.wiring import set_up_on
from lab.reports.fork_comparison import compare_branches, fork_rows
from lab.runs import runner
from lab.runs.fork import forked
from lab.store.event_log import read_events
from lab.store.events import LineOrigin
from lab.store.frames import judgements_frame, turns_frame
from lab.store.resume import stored
from lab.transcripts.reading import read_transcripts
from scenarios.scenario import Scenario, load_scenario
from scenarios.schema import Fork
from scenarios.yaml_files import parse_yaml

EXACT = [
    "dtype=float32",
    "conversations=2",
    "turns=7",
    "seats.user.max_tokens=8",
    "seats.assistant.max_tokens=8",
    "measure.qa_every=4",
    "measure.judge=ledger",
    "measure.metrics=[prompt_to_line,line_to_line,qa]",
]
TALK = [
    'seats.user.script=["What weather!"]',
    'seats.assistant.script=["Really?"]',
    "seats.user.persona=grace",
    "conversations=3",
    "turns=9",
    "measure.judge=ledger",
    "measure.metrics=[prompt_to_line,line_to_line]",
]
DENIES = 'seats.user.script=["I live in Krakow.", "I live | in <b>Osaka</b>."]'  # Grace lives in Osaka
QUIET = ("--address", "none", "--display", "none")


def fork(*arguments: object) -> subprocess.CompletedProcess:
    return inside(command.main, *arguments)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Two dialogues of the embedded model in float32."""
    runs = tmp_path_factory.mktemp("spoken")
    done = inside(run.main, LONG, *EXACT, "--runs", runs, *QUIET)
    assert done.returncode == 0, done.stderr
    return only(runs)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    runs = tmp_path_factory.mktemp("scripted")
    done = inside(run.main, LONG, *TALK, "--runs", runs, *QUIET)
    assert done.returncode == 0, done.stderr
    return only(runs)


@pytest.fixture(scope="module")
def denied(scripted, tmp_path_factory):
    """Three branches of its conversation 1 from turn 5 on, two lines longer, in which the user says other things."""
    runs = tmp_path_factory.mktemp("denied")
    done = fork(scripted, "--conversation", 1, "--turn", 5, "--samples", 3, DENIES, "turns=11", "--runs", runs, *QUIET)
    assert done.returncode == 0, done.stderr
    return only(runs), done.stdout


# -- what stays as it was


@pytest.mark.slow
def test_the_first_branch_of_an_unchanged_fork_says_what_the_original_said(spoken, tmp_path):
    done = fork(spoken, "--conversation", 1, "--turn", 3, "--samples", 3, "--runs", tmp_path, *QUIET)
    assert done.returncode == 0, done.stderr
    path = only(tmp_path)
    lines = {
        c: part
        for (c,), part in turns(path)
        .drop("logprob")
        .partition_by("conversation", as_dict=True, include_key=False)
        .items()
    }
    was = turns(spoken).filter(pl.col("conversation") == 1).drop("conversation", "logprob")
    assert lines[0].equals(was), "lines, nodes and token ids"
    assert lines[1]["text"].to_list() != lines[2]["text"].to_list() != was["text"].to_list(), (
        "the others sample for themselves"
    )
    for branch in lines.values():
        assert branch.head(3).equals(was.head(3)) and branch["node"][3] == was["node"][3]
    comparison = json.loads((path / "fork.json").read_text())
    assert comparison["partings"][0]["turn"] is None and "#0      never" in done.stdout
    assert all(parting["turn"] >= 3 for parting in comparison["partings"][1:])
    assert (
        judgements(path).filter(pl.col("conversation") == 0)["verdict"].to_list()
        == judgements(spoken).filter(pl.col("conversation") == 1)["verdict"].to_list()
    )


class Small:
    """Runs of a small model, their views kept."""

    def __init__(self, at: Path, name: str, engine: LocalEngine) -> None:
        # which sends the walk to and fro
        self.at, self.name, self.engine, self.judge = (
            at,
            name,
            engine,
            corpora.Parity(),
        )
        self.original, self.seat, _ = corpora.run(at, name, engine, self.judge)

    def views(self, scenario: Scenario, begun: list[dict]) -> tuple[Path, dict[int, list[int]]]:
        """A fork played to its end: its folder, and the user's view of each branch."""
        play = set_up_on(scenario, {self.name: self.engine}, generations={"user": 1}).play
        play = replace(play, judges=[self.judge], stored=stored(begun))
        with runner.new_store(self.at / "forks", scenario) as store:
            for event in (*begun, *play.events()):
                store.append(event)
            store.finish("finished")
        return store.path, play.seats["user"].ids


@pytest.fixture(scope="module")
def small(tiny_name, tiny_engine, tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"), tiny_name, tiny_engine)


@pytest.mark.parametrize(("conversation", "turn"), [(0, 1), (2, 3), (1, 5)])
def test_the_first_branch_reads_what_the_speaker_read_then(small, conversation, turn):
    """Its card, directions, facts asked about, ready words and lines: the whole view, token by token."""
    scenario, begun, _ = forked(small.original, conversation, turn, 2, [])
    _, views = small.views(scenario, begun)
    assert views[0] == small.seat.ids[conversation] and views[1] != views[0]


def test_a_fork_of_a_fork_goes_as_the_branch_went(small):
    first, was = small.views(*forked(small.original, 2, 2, 2, [])[:2])
    scenario, begun, _ = forked(first, 1, 4, 2, [])
    assert scenario.fork.of.conversation == 2 and scenario.name == "small-fork"
    _, views = small.views(scenario, begun)
    assert views[0] == was[1] and views[1] != views[0]


def test_a_new_reminder_counts_from_the_fork_on_and_a_new_instruction_stands_above_all(small):
    views = {}
    for key, words in (("reminder", "Remember!"), ("instruction", "Be brief.")):
        scenario, begun, _ = forked(small.original, 3, 3, 1, [f"seats.user.{key}={words}"])
        path, ids = small.views(scenario, begun)
        views[key] = "".join(map(chr, ids[0]))
        if key == "reminder":
            new = turns(path).filter(pl.col("turn") >= 3, pl.col("seat") == "user").height
    last = [event["text"] for event in begun if event["event"] == "line"][-1]
    kept = "".join(map(chr, small.seat.ids[3])).partition(last)[0]
    assert views["reminder"].startswith(kept) and views["reminder"].count("Remember!") == new > 0, (
        "none before the fork"
    )
    assert "Be brief." in views["instruction"] and not views["instruction"].startswith(kept)


def test_lines_of_another_model_are_read_in_its_successors_tokens(small, tmp_path):
    other = corpora.folder(tmp_path / "other", seed=1)
    for override, kept in (
        ([f"seats.user.model={other}"], {"assistant"}),
        (["seats.user.temperature=0.5"], {"assistant", "user"}),
    ):
        _, begun, _ = forked(small.original, 0, 4, 1, override)
        lines = [event for event in begun if event["event"] == "line" and not event["origin"]["ready"]]
        assert {event["seat"] for event in lines if event["token_ids"]} == kept and len(lines) == 3


def test_what_branches_draw_by_is_the_conversations_and_their_own():
    once = Fork(run="a", conversation=4, turn=2)
    assert (once.draws(), once.samples(0), once.samples(3)) == (4, (4,), (4, "branch", 3))
    twice = Fork(run="b", conversation=3, turn=5, of=once)
    assert (twice.draws(), twice.samples(0), twice.samples(1)) == (4, (4, "branch", 3), (4, "branch", 3, "branch", 1))


def test_a_scenario_that_is_no_fork_says_nothing_of_one():
    """So that runs from before there were forks keep their digest and can be resumed."""
    assert "fork" not in load_scenario(LONG).resolved()


def test_kept_lines_and_judgements_are_stored_under_every_branch(scripted, denied):
    path, _ = denied
    was = [event for event in events(scripted, "line", "judged") if event["conversation"] == 1 and event["turn"] < 5]
    for branch in range(3):
        kept = [
            event for event in events(path, "line", "judged") if event["conversation"] == branch and event["turn"] < 5
        ]
        assert [(event["event"], event["turn"]) for event in kept] == [(event["event"], event["turn"]) for event in was]
        assert {row["conversation"] for event in kept if event["event"] == "judged" for row in event["rows"]} <= {
            branch
        }
    received = [event["origin"] for event in events(path, "line") if event["conversation"] == 0 and "origin" in event]
    assert len(received) == 5 and received[0] == LineOrigin(instruction="", fact=None, ready=True), (
        "the greeting's words are the scenario's"
    )
    assert received[2]["ready"] and received[2]["fact"] is not None, "a question about a fact"
    original = [json.loads(line) for line in (path / "original.jsonl").read_text().splitlines()]
    assert original == [event for event in events(scripted) if event.get("conversation") == 1]


def test_lines_of_someone_else_are_judged_again(scripted):
    """Tomas lives in Krakow: what Grace's lines are worth says nothing of his."""
    for override, kinds in ((DENIES, {"line", "judged"}), ("seats.user.persona=tomas", {"line"})):
        scenario, begun, _ = forked(scripted, 0, 4, 2, [override])
        assert {event["event"] for event in begun} == kinds
    assert [scenario.seats[seat].persona for seat in ("user", "assistant")] == ["tomas", "radio_host"]


def test_a_fact_that_was_asked_about_is_asked_of_whoever_sits_there_now(scripted):
    """A node that presses stays with the last fact: the new speaker's own of that slot."""
    scenario, begun, _ = forked(scripted, 1, 3, 1, ["seats.user.persona=tomas"])
    play = set_up_on(scenario, {}, stored=stored(begun)).play
    from lab.dialogue.loop import OngoingDialogue

    dialogue, received = OngoingDialogue(0, play.cast[0], "greet"), play.stored.origins[0, 2]
    upcoming = play._next(dialogue, 2)
    assert (
        upcoming.fact is play.cast[0]["user"].fact(received["fact"]) is dialogue.fact["user"]
        and dialogue.facts_asked["user"] == 1
    )


# -- a run like any other


def test_a_fork_that_was_killed_goes_on_as_though_it_had_not_been(denied, tmp_path):
    path, _ = denied
    for share in (0.55, 0.8):
        copy = tmp_path / f"killed-{share}"
        copy.mkdir()
        for name in ("manifest.json", "scenario.yaml", "original.jsonl"):
            (copy / name).write_bytes((path / name).read_bytes())
        data = (path / "events.jsonl").read_bytes()
        (copy / "events.jsonl").write_bytes(data[: int(share * len(data))])
        assert 15 <= sum(event["event"] == "line" for event in read_events(copy)) < 33
        done = inside(run.main, "--resume", copy, *QUIET)
        assert done.returncode == 0, done.stderr
        assert_same_play(copy, path)
        assert (copy / "fork.json").read_bytes() == (path / "fork.json").read_bytes()


def test_a_fork_is_reported_and_scored_like_any_run(denied, tmp_path):
    path, _ = denied
    before = (path / "report.md").read_text().partition("## Run information")[0]
    assert (
        inside(report.main, path).returncode == 0
        and "## Fork" in before
        and (path / "report.md").read_text().startswith(before)
    )
    assert manifest(path)["status"] == "finished" and manifest(path)["counts"]["lines"] == 3 * 11
    assert read_transcripts(path).transcripts[2].ready == read_transcripts(path).transcripts[0].ready >= {0, 2, 4}
    done = inside(score.main, path, "--judge", "ledger", "--out", tmp_path / "scored")
    assert done.returncode == 0 and "33 lines; a run of the lab" in done.stdout


# -- original against branches


def test_branches_are_compared_with_the_original_from_the_fork_on(denied):
    path, shown = denied
    comparison = json.loads((path / "fork.json").read_text())
    assert (comparison["conversation"], comparison["turn"], comparison["until"], comparison["branches"]) == (
        1,
        5,
        9,
        3,
    ), "the original has 9 lines"
    # turns 5 to 8 are user, assistant, user, assistant: "I live in Krakow." and "I live | in <b>Osaka</b>.", of which
    # the first denies
    of_user = {row["measure"]: row for row in comparison["rows"] if row["seat"] == "user"}
    assert [of_user["lines"][key] for key in ("original", "value", "low", "high", "n")] == [2, 2, 2, 2, 3]
    assert [of_user["contradicting_lines"][key] for key in ("original", "value", "low", "high", "n")] == [0, 1, 1, 1, 3]
    assert [of_user["share_prompt_to_line"][key] for key in ("original", "original_n", "value", "n")] == [0, 2, 0.5, 6]
    assert [parting["turn"] for parting in comparison["partings"]] == [5, 5, 5]
    assert {(parting["original"], parting["says"]) for parting in comparison["partings"]} == {
        ("What weather!", "I live in Krakow.")
    }
    assert "Conversation 1 of" in shown and "contradicting lines" in shown and "1.0 [1.0, 1.0] n=3" in shown


def test_the_report_has_a_section_on_the_fork_in_which_texts_are_text(denied):
    text = (denied[0] / "report.md").read_text()
    section = text.partition("## Fork")[2].partition("## ")[0]
    assert "| contradicting lines | ledger | user | 0 | 1.0 [1.0, 1.0] n=3 |" in section
    assert "| #0 | 5 | What weather! | I live in Krakow. |" in section.replace("\\#", "#")
    assert "<b>Osaka" not in text


def said(conversation: int, turn: int, text: str, verdict: bool | None = None) -> list[dict]:
    seat = ("assistant", "user")[turn % 2]
    row = {
        "conversation": conversation,
        "turn": turn,
        "seat": seat,
        "metric": "prompt_to_line",
        "judge": "ledger",
        "against": "persona",
        "p_inconsistent": None if verdict is None else float(verdict),
        "verdict": verdict,
        "unscored": "so" if verdict is None else None,
    }
    return [
        {
            "event": "line",
            "conversation": conversation,
            "turn": turn,
            "seat": seat,
            "persona": "grace",
            "node": "a",
            "text": text,
            "tokens": 1,
            "token_ids": [],
        },
        {"event": "judged", "conversation": conversation, "turn": turn, "by": "judges", "rows": [row]},
    ]


def frames(*streams: list[dict]) -> dict[str, pl.DataFrame]:
    flat = [event for stream in streams for event in stream]
    return {"turns": turns_frame("", flat), "judgements": judgements_frame("", flat)}


HOW = {"confidence": 0.9}


def test_shares_are_over_scored_lines_and_counts_over_branches():
    original = frames(said(7, 1, "Hi."), said(7, 2, "Hm.", False), said(7, 3, "Oh.", True), said(7, 5, "No.", False))
    branches = frames(
        said(0, 1, "Hi."),
        said(0, 3, "Oh.", True),
        said(0, 5, "Yes.", True),
        said(1, 3, "Ah."),
        said(1, 5, "No.", False),
    )
    comparison = compare_branches(original, branches, {"run": "r", "conversation": 7, "turn": 3}, [2], **HOW)
    rows = {row["measure"]: row for row in comparison.rows if row["seat"] == "user"}
    # branch 0 contradicts twice, branch 1 never: 1 a branch; of the three scored lines (1/3 is not) two contradict
    assert (
        rows["contradicting_lines"]["original"],
        rows["contradicting_lines"]["value"],
        rows["contradicting_lines"]["n"],
    ) == (
        1,
        1,
        2,
    )
    assert (rows["share_prompt_to_line"]["original"], rows["share_prompt_to_line"]["n"]) == (0.5, 3)
    assert rows["share_prompt_to_line"]["value"] == pytest.approx(2 / 3)
    # 2 and 0: standard error 1; t of one degree of freedom at 90%
    assert rows["contradicting_lines"]["high"] == pytest.approx(1 + 6.313752)
    assert [parting["turn"] for parting in comparison.partings] == [5, 3] and comparison.failed == [2]


def test_where_the_original_ends_the_branches_stand_alone():
    comparison = compare_branches(
        frames(said(0, 0, "Hi.", False)),
        frames(said(0, 0, "Hi.", False), said(0, 1, "Oh.", True)),
        {"run": "r", "conversation": 0, "turn": 1},
        **HOW,
    )
    (row,) = [row for row in comparison.rows if row["measure"] == "share_prompt_to_line"]
    assert isnan(row["original"]) and (row["original_n"], row["value"], row["n"]) == (0, 1, 1) and isnan(row["low"])
    assert ("share of lines inconsistent with the persona", "ledger", "user", "–", "1.00 n=1") in list(
        fork_rows(comparison)
    )


def test_branches_that_all_failed_leave_a_comparison_without_values():
    original, fork = (
        frames(said(0, 0, "Hi.", False), said(0, 1, "Oh.", True)),
        {"run": "r", "conversation": 0, "turn": 1},
    )
    comparison = compare_branches(original, frames(), fork, [0, 1], **HOW)
    assert (comparison.branches, comparison.partings) == (0, []) and all(
        row["n"] == 0 for row in asdict(comparison)["rows"]
    )


# -- what cannot be forked


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--conversation", 9, "--turn", 4], "has no conversation 9; expected 0 to 2"),
        (["--conversation", 0, "--turn", 0], "turn 0: expected 1 or more, a turn after the first"),
        (["--conversation", 0, "--turn", 9], "turn 9: expected 1 to 8"),
        (
            ["--conversation", 0, "--turn", 10, "turns=12"],
            "conversation 0 has no 10 lines; expected a turn that it has reached",
        ),
        (["--conversation", 0, "--turn", 4, "turns=3"], "turn 4: expected 1 to 2"),
        (["--conversation", 0, "--turn", 4, "--samples", 0], "--samples is 0; expected 1 or more"),
        (
            ["--conversation", 0, "--turn", 4, "seed=8"],
            "'seed=8': a fork cannot change seed: the kept lines were drawn by it",
        ),
        (["--conversation", 0, "--turn", 4, "personas=x.yaml"], "cannot change personas"),
        (
            ["--conversation", 0, "--turn", 4, "measure.judge=nli"],
            "cannot change measure.judge: a fork is measured as its original was",
        ),
        (["--conversation", 0, "--turn", 4, "conversations=2"], "cannot change conversations: --samples"),
        (
            ["--conversation", 0, "--turn", 4, "seats.user.persona=sample"],
            "all branches have one cast; expected a persona's id",
        ),
        (["--conversation", 0, "--turn", 4, "seats.user.persona=nobody"], "no persona"),
        (["--conversation", 0, "--turn", 4, "seats.user.modle=x"], "did you mean 'model'?"),
        (["--conversation", 0, "--turn", 4, "seats.user.script=null", "seats.user.model=human"], "python -m lab.chat"),
        (
            ["--conversation", 0, "--turn", 4, "graph={start: a, nodes: {a: {}}, edges: [{from: a, to: a}]}"],
            "turn 0 was said at 'greet'",
        ),
    ],
)
def test_what_cannot_be_forked_is_refused_in_one_sentence(scripted, tmp_path, arguments, reason):
    done = fork(scripted, *arguments, "--runs", tmp_path / "runs")
    assert (
        done.returncode == 2
        and done.stderr.startswith("lab.fork: ")
        and done.stderr.count("\n") == 1
        and reason in done.stderr
    )
    assert not (tmp_path / "runs").exists()


def test_what_is_no_run_or_no_longer_the_run_is_refused(scripted, tmp_path):
    done = fork(tmp_path, "--conversation", 0, "--turn", 2)
    assert done.returncode == 2 and "is no run: it has no manifest.json" in done.stderr
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("manifest.json", "scenario.yaml", "events.jsonl"):
        (copy / name).write_bytes((scripted / name).read_bytes())
    scenario = parse_yaml((copy / "scenario.yaml").read_text(), "").data
    (copy / "manifest.json").write_text(json.dumps(manifest(scripted) | {"digest": "of other people"}))
    done = fork(copy, "--conversation", 0, "--turn", 2)
    assert (
        done.returncode == 2
        and "was played from other persona files" in done.stderr
        and scenario["personas"][0] in done.stderr
    )
