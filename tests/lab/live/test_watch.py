"""`python -m lab.watch`: real logs, a real pseudo-terminal, and a real run that is killed and resumed while it is
watched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from commands import LONG, NOBODY_TALKS, ROOT, environment, inside, lab, manifest, only, start, wait_for_lines
from event_streams import a_run, append, at, ended, judged, line, phase, replay, row, started
from rich.console import Console
from terminals import Pty, terminal, within

from lab import run as lab_run
from lab.live.dialogue_panels import rows
from lab.live.run_screen import render_one, rows_in_sight
from lab.live.terminal import named
from lab.watch import main
from scenarios.jobs.training import load_recipe

# -- one dialogue in full


def text_of(view, width: int, height: int) -> str:
    with (console := Console(width=width, height=height)).capture() as out:
        console.print(view)
    return out.get()


def test_a_followed_dialogue_is_shown_whole_with_what_it_contradicts():
    state = replay(
        [
            started(0, 2, 6),
            line(0, 1, "I hate boats."),
            line(0, 3, "I love boats.", node="harbour"),
            judged(0, 3, row(0, 3, True, "job"), row(0, 3, True, "1", "line_to_line", "nli", span=(2, 6))),
        ],
        "runs/one",
    )
    view = text_of(render_one(state, 0, 100, 30), 100, 30)
    assert (
        "#0 grace ⇄ radio_host" in view
        and "  1 talk  grace I hate boats." in view
        and "  3 harbour  ✗ grace I love boats." in view
    )
    assert "contradicts fact job and t1 “I hate boats.” (ledger, nli)" in view and "harbour · 2/6 · ✗ 1" in view
    assert len(view.splitlines()) == 30 and max(map(len, view.splitlines())) == 100


def test_a_dialogue_longer_than_the_screen_shows_its_end_or_what_it_was_moved_to():
    state = replay([started(0, 1, 60), *(line(0, turn, f"Word {turn}.") for turn in range(60))])
    assert len(rows(state, 0, 80)) == 60 and rows_in_sight(80, 27) == 20
    view = text_of(render_one(state, 0, 80, 27), 80, 27)
    assert "Word 59." in view and "Word 40." in view and "Word 39." not in view and "rows 41–60 of 60" in view
    view = text_of(render_one(state, 0, 80, 27, top=0), 80, 27)
    assert "Word 0." in view and "Word 19." in view and "Word 20." not in view and "rows 1–20 of 60" in view
    assert "rows 41–60 of 60" in text_of(render_one(state, 0, 80, 27, top=500), 80, 27)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 3), (56, 14), (80, 24), (200, 60)])
def test_one_dialogue_never_overruns_the_screen_nor_draws_on_it(width, height):
    state = replay([started(0, 1, 9), *(line(0, turn, "[bold]no[/bold] \x1b[2J " * 9) for turn in range(9))])
    view = text_of(render_one(state, 0, width, height), width, height)
    assert len(view.splitlines()) <= height and "\x1b" not in view
    assert height < 14 or "[bold]no[/bold]  [2J" in view


# -- keys


def test_keys_are_told_from_what_a_terminal_sends():
    assert list(named("n\x1b[A\x1bOB\x1b[6~7\r\x1b")) == ["n", "up", "down", "page down", "7", "enter", "escape"]
    assert list(named("\x1b[1;5C\x1b[200~é\x00\x7f")) == ["é", "backspace"]  # a sequence of no key here is none


def watch(script, *arguments: object, width: int = 150, height: int = 45, **env: str) -> tuple[int, str, Pty]:
    with terminal(width, height) as screen:
        code, errors = within(screen, main, *arguments, script=script, **env)
        assert screen.given_back() or "--display" in map(str, arguments)
        return code, errors, screen


def test_pages_and_dialogues_are_gone_through_by_keys(folder):
    def script(screen: Pty) -> None:
        screen.wait("✓ small · finished", "48/48 lines · 100%", "of 12 dialogues, page", "the run has ended", "? keys")
        for keys, page in (("n", "1/2"), ("\x1b[C", "2/2"), ("p", "1/2"), ("\x1b[B", "2/2"), ("\x1b[D", "1/2")):
            if page not in screen.shown() or keys != "n":
                screen.press(keys)
            screen.wait(f"page {page}")
        screen.press("11")
        screen.wait("dialogue 11▏")
        screen.press("\r")
        screen.wait(
            "─ #11 sam ⇄ radio_host",
            "This is line 3 of 11.",
            "contradicts fact job",
            "finished · 4/4 · ✗ 1",
            without="─ #10 ",
        )
        screen.press("n")
        screen.wait("─ #0 grace", "This is line 3 of 0.")
        screen.press("\x1b[D")
        screen.wait("─ #11 sam")
        screen.press("\x1b")
        screen.wait("page 1/2", "─ #0 ", "─ #1 ")
        screen.press("123\x7f\r")
        screen.wait("there is no dialogue 12, they go to 11")
        screen.press("?")
        screen.wait("next page of dialogues", "faster, slower", "leave; the run is not stopped")
        screen.press("?")
        screen.wait("page 1/2")
        screen.press("q")

    code, errors, _ = watch(script, folder(*a_run(12)), "--speed", "max", height=40)
    assert (code, errors) == (0, "")


def test_a_followed_dialogue_is_scrolled_and_followed_again_from_its_end_on(folder):
    path = folder(*a_run(1, 60, whole=False))

    def script(screen: Pty) -> None:
        screen.wait("60/60 lines")
        screen.press("0\r")
        # 60 lines, every fourth contradicts something; 30 - 7 rows are in sight
        screen.wait("line 59 of 0", "rows 53–75 of 75")
        screen.press("\x1b[A")
        screen.wait("rows 52–74 of 75")
        screen.press("\x1b[5~")
        screen.wait("rows 29–51 of 75")
        append(path / "events.jsonl", line(0, 60, "One more."))
        screen.wait("rows 29–51 of 76")  # what is read stays where it is
        screen.press("\x1b[H")
        screen.wait("rows 1–23 of 76", "line 0 of 0")
        screen.press("\x1b[F")
        screen.wait("rows 54–76 of 76", "One more.")
        append(path / "events.jsonl", line(0, 61, "And another."))
        screen.wait("And another.")
        screen.resize(40, 12)
        screen.wait("small · playing", "#0 grace", "And another.")
        screen.press("q")

    assert watch(script, path, height=30)[:2] == (0, "")


def test_a_pause_holds_the_view_and_not_the_run(folder):
    path = folder(*a_run(2, 4, whole=False)[:9])

    def script(screen: Pty) -> None:
        screen.wait("3/8 lines", "following")
        screen.press(" ")
        held = re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "", screen.wait("paused, space resumes"))
        append(path / "events.jsonl", line(0, 3, "Meanwhile."), line(1, 0, "Later."))
        time.sleep(0.6)
        assert re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "", screen.shown()) == held
        screen.press(" ")
        screen.wait("5/8 lines", "Meanwhile.", "Later.")
        screen.press("q")

    assert watch(script, path)[:2] == (0, "")


def test_a_replay_is_made_faster_and_slower_and_keeps_its_last_screen(folder):
    def script(screen: Pty) -> None:
        screen.wait("replay ×0.5", " · loading", "0/0 lines")
        screen.press("++-")
        screen.wait("replay ×1,", " · loading")
        screen.press("e")
        screen.wait("8/8 lines · 100%", "✓ small · finished", "the run has ended")
        assert "left" not in screen.shown()
        time.sleep(0.3)
        screen.press(" ")  # a key that means something does not leave
        screen.wait("paused")
        screen.press(" ")
        screen.wait("the run has ended")
        screen.press("x")  # and any other does

    code, errors, _ = watch(script, folder(*a_run()), "--speed", "0.5")
    assert (code, errors) == (0, "")


def test_a_replay_shows_time_left_by_the_clock_of_the_log(folder):
    """Two of eight lines were said from second 9 to 11, and the third comes at second 2000 only. Until then the six
    that are left take (t - 9) / 2 * 6 s at second t, 5973 at most: by the clock on the wall, months later, it would be
    thousands of hours.
    """
    events = a_run()
    third = next(place for place, event in enumerate(events) if event["event"] == "line" and event["turn"] == 2)
    events[third:] = [event | {"time": at(2000)} for event in events[third:]]

    def left(screen: Pty) -> int:
        minutes, seconds = re.search(r"· (\d+):(\d\d) left", screen.wait("2/8 lines", " left")).groups()
        return int(minutes) * 60 + int(seconds)

    def script(screen: Pty) -> None:
        first = left(screen)
        while left(screen) == first:  # fifty seconds of the log pass in one
            time.sleep(0.05)
        assert first < left(screen) <= 5973
        screen.press("q")

    assert watch(script, folder(*events), "--speed", "50")[:2] == (0, "")


# -- a run in progress


def test_a_run_that_has_not_begun_to_write_is_waited_for_and_its_end_is_told(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / ".lock").touch()

    def script(screen: Pty) -> None:
        screen.wait("has no events yet")
        (path / "scenario.yaml").write_text("name: small\n")
        append(path / "events.jsonl", *a_run(whole=False)[:5])
        screen.wait("1/8 lines", "This is line 0 of 0.", "following")
        append(path / "events.jsonl", ended(30, "failed", "no room"))
        screen.wait("✗ small · failed · no room", "the run has ended")
        append(path / "events.jsonl", phase("loading", 100), started(101, resumed=True), phase("playing", 102))
        screen.wait("small · playing", "following", without="has ended")
        screen.press("q")

    assert watch(script, path)[:2] == (0, "")


@pytest.mark.slow
def test_a_real_run_killed_and_resumed_while_it_is_watched_is_seen_to_its_end(tmp_path):
    process = start(
        LONG, *NOBODY_TALKS, "turns=300", "measure.metrics=[prompt_to_line]", "--display", "none", "--runs", tmp_path
    )
    path = wait_for_lines(process, tmp_path, 1)
    os.killpg(process.pid, signal.SIGSTOP)
    resumed = []

    def script(screen: Pty) -> None:
        screen.wait("long_dialogue · playing", "/600 lines", "following", without="100%")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with (path / "events.jsonl").open("a") as file:
            file.write('{"event": "line", "time": "2026-01-01T00:00:')
        resumed.append(lab("--resume", path, "--display", "none"))
        screen.wait("600/600 lines · 100%", "✓ long_dialogue · finished", "the run has ended")
        screen.press("q")

    assert watch(script, path)[:2] == (0, "")
    assert resumed[0].returncode == 0, resumed[0].stderr
    assert (manifest(path)["status"], len(manifest(path)["resumed"])) == ("finished", 1)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """A real run's folder, and what it printed in plain lines."""
    runs = tmp_path_factory.mktemp("scripted")
    done = inside(
        lab_run.main,
        LONG,
        *NOBODY_TALKS,
        "turns=6",
        "measure.metrics=[prompt_to_line]",
        "--display",
        "plain",
        "--runs",
        runs,
    )
    assert done.returncode == 0, done.stderr
    return only(runs), done.stdout


def test_plain_lines_are_those_that_the_run_printed(scripted):
    path, printed = scripted
    done = inside(main, path)
    first, *rest = printed.splitlines()
    assert first == f"watch it from another terminal: python -m lab.watch {path}"
    shown = done.stdout.splitlines()
    assert (
        (done.returncode, done.stderr) == (0, "")
        and shown == rest[: len(shown)]
        and shown[-1].startswith("== finished · [12/12] lines")
    )
    assert "\x1b" not in done.stdout


def test_nothing_of_the_run_is_touched(scripted):
    path, _ = scripted

    def snapshot() -> dict:
        files = [path, *path.rglob("*")]
        return {
            file: (file.stat().st_mtime_ns, file.stat().st_ino, file.is_file() and file.read_bytes()) for file in files
        }

    def script(screen: Pty) -> None:
        screen.wait("finished")
        screen.press("q")

    before = snapshot()
    assert watch(script, path, "--speed", "max")[0] == 0 and inside(main, path).returncode == 0
    assert snapshot() == before and len(before) > 5


SHORT = [LONG, *NOBODY_TALKS, "turns=2", "measure.metrics=[prompt_to_line]"]


@pytest.mark.parametrize("display", [["--json"], ["--display", "none"]])
def test_a_run_that_shows_nothing_tells_no_command_either(tmp_path, display):
    done = inside(lab_run.main, *SHORT, "--runs", tmp_path, *display)
    assert done.returncode == 0 and "lab.watch" not in done.stdout + done.stderr


def test_a_run_on_the_full_screen_tells_the_command_in_its_footer(tmp_path):
    with terminal(250) as screen:
        code, errors = within(screen, lab_run.main, *SHORT, "--runs", tmp_path, script=lambda screen: None)
        assert (code, errors) == (0, "")
        assert f"watch it from another terminal: python -m lab.watch {only(tmp_path)} " in screen.sent


# -- lines in a terminal


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured(folder, env, coloured):
    path = folder(*a_run())
    _, _, screen = watch(lambda screen: None, path, "--display", "plain", **env)
    assert "== finished · [8/8] lines" in screen.sent and ("\x1b[" in screen.sent) == coloured

    def script(screen: Pty) -> None:
        screen.wait("finished")
        screen.press("q")

    _, _, screen = watch(script, path, "--speed", "max", **env)
    assert ("\x1b[36m" in screen.sent or "36m" in screen.sent) == coloured


def test_a_terminal_that_cannot_draw_gets_lines(folder):
    _, _, screen = watch(lambda screen: None, folder(*a_run()), "--display", "auto", TERM="dumb")
    assert "\x1b" not in screen.sent and "#0 t1 user grace @talk: This is line 1 of 0." in screen.sent


# -- a training


def a_step(number: int, reward: float, seconds: float) -> dict:
    return {
        "event": "step",
        "time": at(seconds),
        "step": number,
        "seat": "user",
        "reward": reward,
        "kl": 0.01,
        "seconds_play": 20.0,
        "seconds_learn": 10.0,
        "samples": {"best": {"reward": reward, "lines": [["user", f"I learnt {number}."]]}},
    }


@pytest.fixture
def training(tmp_path):
    """A training that was killed after its fifth step and resumed from the checkpoint after the third. The files that
    its recipe names no longer exist.
    """
    recipe = load_recipe("scenarios/training/quick.yaml", ["max_steps=10", "method=kto"])
    gone = recipe.model_copy(update={"scenario": str(tmp_path / "gone.yaml"), "data": [str(tmp_path / "gone")]})
    path = tmp_path / "20260101T120000Z-quick-1a2b"
    path.mkdir()
    (path / "scenario.yaml").write_text(gone.resolved_yaml())
    opening = {"event": "started", "time": at(5), "name": "quick", "method": "kto", "steps": 10}
    append(
        path / "events.jsonl",
        phase("loading", 0),
        opening | {"first": 0},
        phase("training", 6, "kto"),
        {
            "event": "collected",
            "time": at(7),
            "batch": 0,
            "batches": 1,
            "seat": "user",
            "reward": 0.1,
            "seconds_play": 7.0,
        },
        *(a_step(number, number / 10, 10 + number) for number in range(5)),
        {"event": "checkpoint", "time": at(14), "step": 3},
        phase("loading", 100),
        opening | {"first": 3, "time": at(101)},
        phase("training", 102, "kto"),
        a_step(3, 0.9, 110),
    )
    return path


def test_a_training_is_shown_by_its_own_view_though_the_files_it_names_are_gone(training):
    def script(screen: Pty) -> None:
        # six of 30 s
        screen.wait(
            "step 4/10", "kto on the user's seat", "3:00 left in training", "I learnt 3.", "following", "? keys"
        )
        assert re.search(r"reward +0\.9 +0 +▁", screen.shown()), "the two steps behind the checkpoint are forgotten"
        append(
            training / "events.jsonl", {"event": "stopped", "time": at(120), "step": 4, "reason": "parroting is 0.90"}
        )
        screen.wait("stopped after step 4: parroting is 0.90")
        append(training / "events.jsonl", phase("evaluating", 130, "grpo"), ended(150))
        screen.wait("finished", "the run has ended", "0:50")  # this sitting began at second 100
        screen.press("?")
        screen.wait("faster, slower", without="next page of dialogues")
        screen.press("qq")

    assert watch(script, training)[:2] == (0, "")


def test_a_trainings_plain_lines_are_a_line_a_step(training):
    append(training / "events.jsonl", ended(150))
    done = inside(main, training)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:4] == [
        "loading",
        "training kto",
        "played by the untouched user 1/1  reward 0.1  7 s",
        "step 1/10  reward 0  KL, nats per token 0.01  30 s",
    ]
    assert done.stdout.splitlines()[-1] == "finished"


# -- what ends it


def test_terminated_it_gives_the_terminal_back(folder):
    def script(screen: Pty) -> None:
        screen.wait("1/8 lines")
        assert not screen.given_back()
        os.kill(os.getpid(), signal.SIGTERM)

    assert watch(script, folder(*a_run()[:5]))[:2] == (130, "")


def test_a_log_that_is_damaged_while_it_is_watched_is_told_after_the_terminal_was_given_back(folder):
    path = folder(*a_run()[:5])

    def script(screen: Pty) -> None:
        screen.wait("1/8 lines")
        append(
            path / "events.jsonl",
            {"event": "line", "time": at(20), "conversation": 0, "turn": 1, "seat": "user", "text": "Nobody."},
        )

    code, errors, _ = watch(script, path)
    assert code == 2 and errors.startswith(f"lab.watch: {path / 'events.jsonl'}, line 6: has no persona; expected it")
    assert errors.count("\n") == 1


def test_ctrl_c_in_its_own_terminal_gives_that_back(folder):
    with terminal() as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.watch", str(folder(*a_run()[:5]))],
            cwd=ROOT,
            stdin=screen.theirs,
            stdout=screen.theirs,
            stderr=screen.theirs,
            env=environment(TERM="xterm-256color"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        screen.wait("1/8 lines", "following")
        assert not screen.given_back()
        screen.press("\x03")
        assert process.wait(30) == 130
        screen.settled()
        assert screen.given_back() and "Traceback" not in screen.sent


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast", ""])
def test_a_speed_that_is_none_is_refused(scripted, speed):
    done = inside(main, scripted[0], f"--speed={speed}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"lab.watch: --speed is {speed!r}; expected a number above 0, or max\n"


def refused(path: Path) -> str:
    done = inside(main, path)
    assert (
        (done.returncode, done.stdout) == (2, "")
        and done.stderr.startswith("lab.watch: ")
        and done.stderr.count("\n") == 1
    )
    return done.stderr


def test_what_is_no_run_is_refused(tmp_path, folder):
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("Dear Grace,")
    assert f"{tmp_path / 'other'} is no run: it has no events.jsonl; expected" in refused(tmp_path / "other")


def test_a_log_with_a_damaged_line_or_time_is_refused_with_its_line(folder):
    path = folder(phase("loading", 0))
    with (path / "events.jsonl").open("a") as file:
        file.write('{"event"\n')
    append(path / "events.jsonl", ended(1))
    done = inside(main, path)
    assert (done.returncode, done.stdout) == (2, "== loading\n") and "events.jsonl, line 2: not an event" in done.stderr
    (path / "events.jsonl").write_text(json.dumps(phase("loading", 0) | {"time": "noon"}) + "\n")
    assert "line 1: time is 'noon'; expected a time like 2026-01-01T12:00:00.000+00:00" in refused(path)


def test_a_trainings_damaged_recipe_is_refused(training):
    (training / "scenario.yaml").write_text(
        (training / "scenario.yaml").read_text().replace("max_steps: 10", "max_steps: none")
    )
    assert "scenario.yaml, line" in refused(training)
