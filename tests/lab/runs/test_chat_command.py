"""`python -m lab.chat`: a person in a seat, through pipes and through a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator

import pytest
from commands import LONG, ROOT, TIMEOUT_S, environment, events, inside, judgements, manifest, only, turns
from rich.text import Text

from agents.seats.base import Cue, Left, Trouble
from agents.seats.scripted import HumanSeat
from lab import chat as command
from lab import report, run
from lab.live.chat_screen import LONGEST, judgement_texts, qa_answer_texts, so_far, spoken_line
from lab.live.dialogue_panels import MARK
from lab.progress.run import State
from lab.transcripts.reading import read_transcripts
from scenarios.personas import STRANGER, find_persona
from scenarios.scenario import load_scenario

# the radio host lives in Bristol
STELLA = [
    'seats.assistant.script=["I live in Paris.","I live in Bristol. I am a radio host."]',
    "measure.judge=ledger",
]
TOWN = ROOT / "scenarios/personas/townsfolk.yaml"


def talk(typed: str | bytes, *arguments: object) -> subprocess.CompletedProcess:
    """The command in this process, with that on its standard input."""
    with tempfile.TemporaryFile() as file:
        file.write(typed.encode() if isinstance(typed, str) else typed)
        file.seek(0)
        kept = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            return inside(command.main, *arguments)
        finally:
            os.dup2(kept, 0)
            os.close(kept)


@pytest.fixture(scope="module")
def chatted(tmp_path_factory):
    """Grace, who lives in Osaka, talks with the radio host; her folder, and what was shown."""
    runs = tmp_path_factory.mktemp("chatted")
    done = talk(
        "Hello there!\n/card\n\n   \nI live in Oslo.\n/what\n/quit\nNot said.\n",
        "--me",
        "grace",
        *STELLA,
        "--runs",
        runs,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return only(runs), done.stdout


# -- through a pipe


def test_a_chat_is_a_run_like_any_other(chatted):
    path, _ = chatted
    said = turns(path)
    assert said["text"].to_list() == [
        "Hello there!",
        "I live in Paris.",
        "I live in Oslo.",
        "I live in Bristol. I am a radio host.",
    ]
    assert (
        said["seat"].to_list() == ["user", "assistant"] * 2 and said["persona"].to_list() == ["grace", "radio_host"] * 2
    )
    record = manifest(path)
    assert (record["status"], record["counts"]["lines"], record["counts"]["finished"]) == ("finished", 4, 1)
    assert record["models"]["user"] == "human" and load_scenario(path / "scenario.yaml").digest() == record["digest"]
    assert (path / "metrics.parquet").is_file() and "4 lines in 1 conversations" in (path / "report.md").read_text()
    assert inside(report.main, path).returncode == 0 and len(read_transcripts(path).transcripts[0].lines) == 4


def test_what_the_ledger_finds_stands_below_each_line(chatted):
    path, shown = chatted
    rows = judgements(path).filter(judgements(path)["verdict"]).select("turn", "metric", "against").rows()
    assert sorted(rows) == [
        (1, "prompt_to_line", "home"),
        (1, "prompt_to_line", "persona"),
        (2, "prompt_to_line", "home"),
        (2, "prompt_to_line", "persona"),
        (3, "line_to_line", "1"),
    ]
    below = {
        line: shown.partition(line)[2].splitlines()[1:5]
        for line in (
            "you> Hello there!",
            "Stella> I live in Paris.",
            "you> I live in Oslo.",
            "Stella> I live in Bristol.",
        )
    }
    assert below["you> Hello there!"][0] == "  no claims · so far consistent with the card 1.00 (n=1)"
    assert below["Stella> I live in Paris."][0] == "  ✗ home “I live in Paris”, contradicts the card: Bristol"
    assert below["you> I live in Oslo."][0] == "  ✗ home “I live in Oslo”, contradicts the card: Osaka"
    # of Stella's lines one of two contradicts her card, and the one pair of them contradicts itself
    assert below["Stella> I live in Bristol."] == [
        "  ✓ home “I live in Bristol”, as on the card",
        "  ✓ job “I am a radio host”, as on the card",
        "  ↩ returns to the card, conflicts with turn 1, “I live in Paris.”",
        "  so far consistent with the card 0.50 (n=2), with earlier lines 0.00 (n=1)",
    ]


def test_commands_and_empty_lines_are_not_said(chatted):
    _, shown = chatted
    card = find_persona("radio_host", [TOWN]).card
    assert shown.count(card) == 1 and "Your own card: Your name is Grace." in shown and "Not said." not in shown
    assert shown.count("/card shows the card of Stella, /quit ends the chat.") == 2, (
        "at the start, and at a command that is none"
    )


def test_somebody_unknown_is_scored_by_nobody_and_told_so_once(tmp_path):
    # and the end of the input is the end of the chat
    done = talk("I live in Oslo.\nReally.\n", *STELLA, "--runs", tmp_path)
    assert done.returncode == 0 and done.stdout.count("not scored by ledger: the persona has no facts") == 1
    path = only(tmp_path)
    of_user = judgements(path).filter(judgements(path)["seat"] == "user")
    assert of_user["verdict"].null_count() == of_user.height > 0 and turns(path)["persona"].to_list()[::2] == [
        "unknown",
        "unknown",
    ]
    assert manifest(path)["status"] == "finished"


def test_what_was_typed_is_text_and_never_drives_the_terminal(tmp_path):
    done = talk(
        b"\x1b[2J\x1b]0;title\x07[bold]Hi[/bold] \xff\n" + b"x" * (LONGEST + 1) + b"\n", *STELLA, "--runs", tmp_path
    )
    assert (
        done.returncode == 0 and "\x1b" not in done.stdout and "you> [2J ]0;title [bold]Hi[/bold] \ufffd" in done.stdout
    )
    assert f"That has {LONGEST + 1:,} characters; expected at most {LONGEST:,}." in done.stdout
    assert turns(only(tmp_path))["text"].to_list() == ["[2J ]0;title [bold]Hi[/bold] \ufffd", "I live in Paris."]


def test_a_person_may_sit_in_the_other_seat_along_a_scenario(tmp_path):
    """The host's greeting is the scenario's; the host is directed to chat, and the caller is a script."""
    done = talk(
        "Tell me more.\n",
        "--seat",
        "assistant",
        "--scenario",
        LONG,
        "--persona",
        "mateo",
        "--me",
        "radio_host",
        'seats.user.script=["I am Mateo."]',
        "graph.nodes.question.says=null",
        'graph.nodes.question.instruct={assistant: "Ask about their {fact.slot}."}',
        "measure.judge=ledger",
        "--runs",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    said = turns(only(tmp_path))
    assert said["seat"].to_list() == ["assistant", "user", "assistant", "user"] and said["persona"].to_list()[:2] == [
        "radio_host",
        "mateo",
    ]
    assert said["text"].to_list() == [
        "Welcome to the show! Who am I talking to?",
        "I am Mateo.",
        "Tell me more.",
        "I am Mateo.",
    ]
    assert "you> Welcome to the show!" in done.stdout and "[Ask about their " in done.stdout, (
        "what a seat is told, the person is told"
    )


def test_a_chat_in_which_nothing_was_said_ends_too(tmp_path):
    done = talk("/quit\n", *STELLA, "--runs", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert manifest(only(tmp_path))["status"] == "finished" and "0 lines" in (only(tmp_path) / "report.md").read_text()


@pytest.mark.slow
def test_an_ended_chat_can_be_gone_on_with(tmp_path):
    assert talk("Hello there!\n", *STELLA, "--runs", tmp_path).returncode == 0
    path = only(tmp_path)
    done = talk("And you?\n", "--resume", path)
    assert done.returncode == 0 and "you> Hello there!\nStella> I live in Paris.\n" in done.stdout
    assert turns(path)["text"].to_list() == [
        "Hello there!",
        "I live in Paris.",
        "And you?",
        "I live in Bristol. I am a radio host.",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--persona", "nobody"], "seats.assistant.persona is 'nobody', which is no persona"),
        (["--persona", "radio_hots"], "did you mean 'radio_host'?"),
        (["--personas", "none.yaml"], "expected the path of a persona file"),
        (["--scenario", "none.yaml"], "none.yaml: does not exist"),
        (
            ["--scenario", "scenarios/long_dialogue.yaml"],
            "speak of facts of the user, of whom nothing is known; expected a persona",
        ),
        (["conversations=2"], "conversations is 2; expected 1, since a chat is one conversation"),
        (["seats.user.model=embedded"], "seats.user.model is 'embedded'; expected 'human'"),
        (["seats.assistant.model=human"], "expected 'human', for you, there and nowhere else"),
        (["--model", "./no/such/model"], "no/such/model"),
        (["--resume", "nowhere"], "nowhere is no run"),
        (["--resume", "nowhere", "--me", "grace"], "--me beside --resume; expected nothing"),
        (["--address", "nowhere"], "'nowhere' is no address"),
    ],
)
def test_what_cannot_be_chatted_with_is_refused_in_one_sentence(tmp_path, arguments, reason):
    done = talk("Hi.\n", *arguments, "--runs", tmp_path / "runs")
    assert (
        done.returncode == 2
        and done.stderr.startswith("lab.chat: ")
        and done.stderr.count("\n") == 1
        and reason in done.stderr
    )
    assert not (tmp_path / "runs").exists()


def test_a_run_has_nobody_to_type(chatted, tmp_path):
    done = inside(run.main, "scenarios/chat.yaml", "seats.user.model=human", "--runs", tmp_path / "runs")
    assert (
        done.returncode == 2
        and "seats.user.model is 'human', whose words somebody types; expected a model here" in done.stderr
    )
    assert inside(run.main, "--resume", chatted[0]).returncode == 2


# -- through a terminal


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = pty.openpty()
        # whose Ctrl-C is a signal to it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.chat", *map(str, arguments)],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="dumb", COLUMNS="120"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.shown = ""

    def until(self, words: str, times: int = 1) -> str:
        """What is shown, once it holds the words so often."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.shown.count(words) < times:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.shown
            try:
                more = os.read(self._ours, 1 << 16)
            except OSError:  # the other end is closed
                more = b""
            assert more, self.shown
            self.shown += more.decode("utf-8", "replace").replace("\r\n", "\n")
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ended(self) -> tuple[int, str]:
        """The exit code, and all that was shown."""
        with contextlib.suppress(AssertionError):  # until the other end is closed
            self.until("\0")
        return self.process.wait(TIMEOUT_S), self.shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[type]:
    opened = []

    def start(*arguments: object) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for screen in opened:
        screen.close()


@pytest.mark.slow
def test_three_lines_with_the_embedded_model_in_a_real_terminal(terminal, tmp_path):
    chat = terminal(
        "--persona",
        "tutor",
        "--me",
        "grace",
        "seats.assistant.max_tokens=8",
        "turns=12",
        "dtype=float32",
        "measure.judge=ledger",
        "measure.metrics=[prompt_to_line,line_to_line,qa]",
        "--runs",
        tmp_path,
    )
    lines = ["Hello, who are you?", "I live in Oslo.", "Goodbye!"]
    for number, line in enumerate(lines, start=1):
        chat.until("you> ", number)
        chat.type(line + "\n")
    chat.until("you> ", 4)
    chat.type("\x04")  # Ctrl-D
    code, shown = chat.ended()
    assert code == 0, shown
    path = only(tmp_path)
    said = turns(path)
    assert said["text"].to_list()[::2] == lines and said["seat"].to_list() == ["user", "assistant"] * 3
    assert all(said["token_ids"].list.len().to_list()[1::2]), "the tutor's lines were sampled"
    assert [shown.count(f"Edmund> {text}") > 0 for text in said["text"].to_list()[1::2]] == [True] * 3
    assert "✗ home “I live in Oslo”, contradicts the card: Osaka" in shown and "facts right (multiple_choice)" in shown
    assert shown.count("I live in Oslo.") == 1, "what was typed is on the terminal already"
    assert manifest(path)["status"] == "finished" and "Results" in shown and "Loading weights" not in shown


def test_a_killed_chat_loses_nothing_and_goes_on(terminal, tmp_path):
    chat = terminal(*STELLA, "--runs", tmp_path)
    chat.until("you> ")
    chat.type("Hello there!\n")
    chat.until("you> ", 2)
    chat.type("Half a li")
    chat.process.send_signal(signal.SIGKILL)
    assert chat.ended()[0] == -signal.SIGKILL
    path = only(tmp_path)
    assert [event["text"] for event in events(path, "line")] == ["Hello there!", "I live in Paris."]
    assert manifest(path)["status"] == "running"
    assert talk("And you?\n/quit\n", "--resume", path).returncode == 0
    assert turns(path)["text"].to_list() == [
        "Hello there!",
        "I live in Paris.",
        "And you?",
        "I live in Bristol. I am a radio host.",
    ]


def test_ctrl_c_ends_a_chat_as_a_finished_run(terminal, tmp_path):
    chat = terminal(*STELLA, "--runs", tmp_path)
    chat.until("you> ")
    chat.type("Hello there!\n")
    chat.until("you> ", 2)
    chat.type("\x03")
    code, shown = chat.ended()
    assert code == 0 and "Results" in shown and "Traceback" not in shown
    assert (manifest(only(tmp_path))["status"], turns(only(tmp_path)).height) == ("finished", 2)


# -- parts


def test_a_person_who_has_no_more_words_has_left():
    seat = HumanSeat(lambda c, cue: {0: "Hi there.", 1: None}[c])
    said = seat.speak({0: Cue("", 1), 1: Cue("", 2)})
    assert (said[0].text, said[0].tokens, said[1]) == ("Hi there.", 2, Left())
    assert isinstance(seat.ask({0: []})[0], Trouble) and isinstance(seat.answer({0: []}, {})[0], Trouble)


def row(metric: str, against: str, verdict: bool | None, judge: str = "ledger", span: tuple | None = None) -> dict:
    return {
        "conversation": 0,
        "turn": 2,
        "seat": "user",
        "metric": metric,
        "judge": judge,
        "against": against,
        "verdict": verdict,
        "p_inconsistent": None if verdict is None else float(verdict),
        "span": span,
        "unscored": "so" if verdict is None else None,
    }


LINE = {"seat": "user", "turn": 2, "text": "I live in \x1b[31mOslo."}


def test_words_that_contradict_are_marked_and_those_that_claim_are_underlined():
    text = spoken_line(
        LINE,
        [row("prompt_to_line", "home", True, span=(0, 19)), row("prompt_to_line", "job", False, span=(0, 1))],
        "you",
    )
    assert text.plain == "you> I live in  [31mOslo." and isinstance(text, Text)
    assert {(span.start, span.end, str(span.style)) for span in text.spans} >= {(5, 24, MARK), (5, 6, "underline")}


def test_each_judge_tells_what_it_found_and_a_fact_speaks_for_the_whole_card():
    grace = find_persona("grace", [TOWN])
    rows = [
        row("prompt_to_line", "persona", True),
        row("prompt_to_line", "home", True),
        row("prompt_to_line", "persona", True, "nli"),
        row("line_to_line", "0", True, "nli"),
        row("line_to_line", "0", False),
        row("prompt_to_line", "persona", None, "llm"),
    ]
    texts = [text.plain for text in judgement_texts(rows, LINE, grace, {0: {"text": "I live \x1b in Osaka."}}, {})]
    assert texts == [
        "  ✗ home, contradicts the card: Osaka (ledger)",
        "  ✗ contradicts the card (nli)",
        "  ✗ contradicts turn 0, “I live   in Osaka.” (nli)",
    ]
    assert so_far(State(), "user") == "" and list(judgement_texts([], LINE, STRANGER, {}, {})) == []


def test_answers_off_the_record_are_counted_by_speaker():
    rows = [
        row("qa", "home", False, "multiple_choice"),
        row("qa", "job", True, "multiple_choice"),
        row("qa", "pet", None, "multiple_choice"),
    ]
    assert list(qa_answer_texts(rows, {"user": find_persona("grace", [TOWN])})) == [
        "  Q&A probe: Grace answers 1 of 2 facts right (multiple_choice)"
    ]
