from __future__ import annotations

import io
import math
import sys
import time
import timeit

import polars as pl
import pytest
from event_streams import START, judged, line, phase, replay, row, started, usage
from rich.console import Console

from lab.live.braille_chart import Curve, draw_chart
from lab.live.run_monitor import LiveMonitor, PlainMonitor, SilentMonitor, choose_monitor, conclude, run_summary
from lab.live.run_screen import elsewhere, render
from lab.progress.run import (
    apply,
    consistency_by_turn,
    expected_lines,
    overall,
    seconds_left,
    tokens_per_second,
)
from lab.store.frames import JUDGEMENTS, METRICS

NOW = START.timestamp()
TEXT = "I work as a nurse in Osaka."


def shown(state, width=120, height=36, **how) -> str:
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(render(state, width, height, **how))
    return console.export_text()


def drawn(state, height: int = 36, **environment) -> str:
    """What the terminal is sent, escape sequences included; below a height of 24 there is no list of contradictions."""
    console = Console(
        width=120, height=height, file=io.StringIO(), force_terminal=True, color_system="256", _environ=environment
    )
    console.print(render(state, 120, height))
    return console.file.getvalue()


def a_run(text: str = TEXT, conversations: int = 2) -> list[dict]:
    """Two turns of each dialogue, the user of the first contradicting its job."""
    events = [started(0, conversations=conversations), phase("loading", 0), phase("playing", 10, "2 side by side")]
    for number in range(conversations):
        events += [
            line(number, 0, "Welcome! Who am I talking to?", seconds=14, node="greet"),
            line(number, 1, text, seconds=18),
            judged(number, 0, row(number, 0, False), seconds=18),
        ]
    events.append(judged(0, 1, row(0, 1, True), row(0, 1, True, "job", span=(0, 17)), seconds=20))
    return events


def test_a_run_in_full_view_shows_header_dialogues_curves_and_contradictions():
    view = shown(replay([*a_run(), usage(100, 18), usage(160, 20, 5_000, 6_000)], "runs/run-1"))
    for part in (
        "small · playing · 2 side by side",
        "4/8 lines · 50%",
        "30 generated tokens/s",
        "6.0k tokens through the model / 5.0k read (1.20×)",
        "1 contradicting line",
        "#0 grace ⇄ radio_host",
        "#1 hiro ⇄ radio_host",
        "✗ grace I work as a nurse in Osaka.",
        "talk · 2/4",
        "prompt-to-line · ledger",
        "line-to-line",
        "Q&A",
        "user 0.00",
        "assistant 1.00",
        "#0 t1",
        "≠ fact job",
        "runs/run-1",
        "embedded · cpu float32",
    ):
        assert part in view, part


@pytest.mark.parametrize(
    ("width", "height"), [(w, h) for w in (1, 2, 20, 56, 80, 120, 200) for h in (1, 3, 5, 14, 24, 36, 60)]
)
def test_every_size_is_filled_but_never_overrun(width, height):
    for state in (replay([]), replay([started()]), replay(a_run(conversations=9))):
        lines = shown(state, width, height).splitlines()
        assert len(lines) <= height
        if width >= 56 and height >= 14:
            assert len(lines) == height and max(map(len, lines)) == width


def test_markup_and_escape_sequences_of_a_transcript_are_text():
    nasty = "[bold red]no[/bold red] [/] \x1b[2J\x1b]0;title\x07 \u202egnp.exe\nnext :boom: \ud800"
    state = replay(a_run(nasty))
    view = shown(state, 200, 36)
    assert "[bold red]no[/bold red] [/]  [2J ]0;title" in view and ":boom:" in view
    sent = drawn(state)
    assert "\x1b[2J" not in sent and "\x1b]0;" not in sent and "\x07" not in sent and "\u202e" not in sent
    sent.encode("utf-8")


def test_the_words_that_contradict_are_marked_with_and_without_colour():
    state = replay(a_run())
    for height, times in ((36, 2), (22, 1)):  # in the dialogue and in the list, in the dialogue alone
        assert drawn(state, height).count("\x1b[1;7;31mI work as a nurse\x1b[0m") == times
        assert drawn(state, height, NO_COLOR="1").count("\x1b[1;7mI work as a nurse\x1b[0m") == times


def test_a_span_still_fits_after_control_characters_were_cleaned():
    state = replay(a_run("Oh\x1b\x07\nI work as a nurse."))
    apply(state, judged(0, 1, row(0, 1, True, "job", span=(5, 22))))
    assert "7;31mI work as a nurse.\x1b" not in drawn(state) and "7;31mI work as a nurse\x1b" in drawn(state)


def test_a_contradicted_earlier_line_is_quoted_beside_its_turn():
    state = replay(
        [
            started(),
            line(0, 1, "I hate boats."),
            line(0, 3, "I love boats."),
            judged(0, 3, row(0, 3, True, "1", "line_to_line", span=(2, 6))),
        ]
    )
    view = shown(state, 160, 36)
    assert "≠ t1 “I hate boats.”" in view and "I love boats." in view


def test_dialogues_that_do_not_fit_turn_by_pages_with_a_note():
    state = replay(a_run(conversations=9))
    pages = [shown(state, page=page) for page in range(2)]
    assert "6 of 9 dialogues, page 1/2" in pages[0] and "6 of 9 dialogues, page 2/2" in pages[1]
    seen = {number for number in range(9) for page in pages if f"─ #{number} " in page}
    assert seen == set(range(9))
    assert shown(state, now=NOW + 24) != shown(state, now=NOW + 32), "the page turns by itself"


def test_curves_are_means_by_turn_of_each_seat():
    events = [
        judged(0, 1, row(0, 1, True)),
        judged(1, 1, row(1, 1, False)),  # turn 1: 1/2
        judged(0, 3, row(0, 3, False)),
        judged(1, 3, row(1, 3, None)),  # turn 3: 1/1, one unscored
        judged(0, 0, row(0, 0, True)),
    ]
    state = replay([started(), *events])
    assert consistency_by_turn(state, "prompt_to_line", "user") == [(1, 0.5), (3, 1.0)]
    assert consistency_by_turn(state, "prompt_to_line", "user", smooth=2) == [(1, 0.5), (3, 2 / 3)]  # pooled: 2 of 3
    assert consistency_by_turn(state, "prompt_to_line", "assistant") == [(0, 0.0)]
    assert overall(state, "prompt_to_line", "user") == (2 / 3, 3)
    assert state.unscored == 1


def test_only_the_first_judge_s_whole_line_rows_make_the_curve():
    state = replay(
        [started(), judged(0, 1, row(0, 1, False), row(0, 1, True, "job"), row(0, 1, True, judge="likelihood"))]
    )
    assert consistency_by_turn(state, "prompt_to_line", "user") == [(1, 1.0)]
    assert state.contradicting_lines == 1, "one line, by two judges"


def test_a_turn_judged_again_replaces_what_was_judged_before():
    state = replay([started(), line(0, 1), judged(0, 1, row(0, 1, True, span=(0, 2)), row(0, 1, None, "job"))])
    assert (state.contradicting_lines, state.unscored) == (1, 1)
    apply(state, line(0, 1))
    apply(state, judged(0, 1, row(0, 1, False)))
    assert (state.contradicting_lines, state.unscored, list(state.contradictions), state.lines) == (0, 0, [], 1)
    assert overall(state, "prompt_to_line", "user") == (1.0, 1)


def test_a_wrong_answer_moves_its_curve_but_contradicts_no_line():
    state = replay(
        [
            started(),
            judged(
                0,
                3,
                row(0, 3, True, "job", "qa", "multiple_choice", seat="assistant"),
                row(0, 3, False, "home", "qa", "multiple_choice", seat="assistant"),
                by="qa",
            ),
        ]
    )
    assert consistency_by_turn(state, "qa", "assistant") == [(3, 0.5)]
    assert state.contradicting_lines == 0 and not state.contradictions


def test_questions_asked_after_a_turn_leave_its_contradictions_marked():
    state = replay(a_run())
    apply(state, judged(0, 1, row(0, 1, False, "job", "qa", "multiple_choice"), by="qa"))
    assert state.contradicting_lines == 1 and len(state.contradictions) == 1 and "✗ grace" in shown(state)


def test_nothing_scored_is_nan_and_draws_nothing():
    state = replay([started(), judged(0, 1, row(0, 1, None))])
    value, n = overall(state, "prompt_to_line", "user")
    assert math.isnan(value) and n == 0
    assert "user –" in shown(state) and "1 unscored" in shown(state)
    assert draw_chart([Curve([(0, float("nan"))], "red", "u")], 10, 20, 6).plain.count("u") == 1  # the u of "turn"


def test_a_curve_at_one_is_at_the_top_and_a_curve_at_zero_at_the_bottom():
    rows = draw_chart(
        [Curve([(0, 1.0), (9, 1.0)], "cyan", "u"), Curve([(0, 0.0), (9, 0.0)], "red", "a")], 9, 27, 5
    ).plain.split("\n")
    assert rows[0].startswith("1.0┤⠉") and rows[0].endswith("u ")  # the top row of dots
    assert rows[3].startswith("0.0┤⣀") and rows[3].endswith(" a")  # the bottom row of dots
    assert all("⠉" not in middle and "⣀" not in middle for middle in rows[1:3])


def test_a_gap_in_a_curve_is_not_bridged():
    whole = draw_chart([Curve([(0, 1.0), (5, 1.0), (9, 1.0)], "", "u")], 9, 26, 3).plain
    gap = draw_chart([Curve([(0, 1.0), (5, float("nan")), (9, 1.0)], "", "u")], 9, 26, 3).plain
    assert whole.count("⠉") == 20 and gap.count("⠉") == 0 and "⠁" in gap and "⠈" in gap


def test_time_left_is_what_the_rest_takes_at_this_sitting_s_pace():
    state = replay(a_run())  # playing since 10 s, 4 of 8 lines at 20 s
    assert seconds_left(state, NOW + 20) == pytest.approx(10 / 4 * 4)
    apply(state, started(100, resumed=True))
    assert seconds_left(state, NOW + 100) is None
    apply(state, phase("playing", 100))
    apply(state, line(0, 2, seconds=103))
    assert seconds_left(state, NOW + 103) == pytest.approx(3 / 1 * 3), "lines of the first sitting are no pace"


def test_lines_that_an_ended_conversation_will_not_say_are_not_waited_for():
    state = replay(a_run())  # 2 conversations of 4 turns, two lines each
    apply(
        state,
        {
            "event": "conversation",
            "time": START.isoformat(),
            "conversation": 1,
            "status": "failed",
            "reason": "out of [memory]",
        },
    )
    assert expected_lines(state) == 4 + 2
    assert "failed · 2/4" in shown(state) and "out of [memory]" in shown(state)


def test_the_lines_expected_cost_no_more_to_tell_of_a_hundred_times_the_dialogues():
    """They are told with every line, so that a run would otherwise take time with the square of its dialogues."""

    def seconds(conversations: int) -> float:
        events = [started(conversations=conversations), *(line(number, 0) for number in range(conversations))]
        ends = [
            {"event": "conversation", "conversation": number, "status": "finished"}
            for number in range(0, conversations, 2)
        ]
        state = replay([*events, *ends])
        assert expected_lines(state) == len(ends) + len(ends) * 4
        return min(timeit.repeat(lambda: expected_lines(state), number=100, repeat=5))

    assert seconds(5000) < 10 * seconds(50)


def test_tokens_a_second_are_those_of_the_last_half_minute():
    state = replay([started(), usage(0, 0), usage(1000, 10), usage(1100, 60), usage(1200, 100)])
    assert tokens_per_second(state) == pytest.approx((1200 - 1100) / (100 - 60))
    assert tokens_per_second(replay([started(), usage(5, 1)])) is None


def test_the_spinner_turns_with_the_clock_and_stops_at_the_end():
    state = replay(a_run())
    assert len({shown(state, now=NOW + 20 + step / 8)[3] for step in range(10)}) == 10
    apply(state, {"event": "ended", "time": START.isoformat(), "status": "failed", "reason": "no space"})
    assert "✗ small · failed · no space" in shown(state)


def test_a_run_that_goes_on_after_its_end_is_running_again_from_loading_on():
    state = replay(
        [*a_run(), {"event": "ended", "time": START.isoformat(), "status": "interrupted", "reason": "by hand"}]
    )
    apply(state, phase("loading", 500))
    view = shown(state, now=NOW + 503)
    assert "small · loading" in view and "0:03 so far" in view and "by hand" not in view


def plain(events, **how) -> str:
    console = Console(file=io.StringIO(), width=60, **how)
    with PlainMonitor(console) as monitor:
        for event in events:
            monitor.show(event)
    return console.file.getvalue()


def test_plain_lines_say_who_said_what_where_and_what_it_contradicts():
    lines = plain([*a_run(), {"event": "ended", "time": START.isoformat(), "status": "finished", "reason": None}])
    assert lines.splitlines() == [
        "small started: 2 dialogues of 4 lines · embedded · cpu float32",
        "== loading",
        "== playing · 2 side by side",
        "[1/8] #0 t0 assistant radio_host @greet: Welcome! Who am I talking to?",
        f"[2/8] #0 t1 user grace @talk: {TEXT}",
        "[3/8] #1 t0 assistant radio_host @greet: Welcome! Who am I talking to?",
        f"[4/8] #1 t1 user hiro @talk: {TEXT}",
        "  ✗ #0 t1 user grace contradicts fact job (ledger): “I work as a nurse”",
        "== finished · [4/8] lines · 1 contradicting line · 0 unscored",
    ]


@pytest.mark.parametrize("how", [{}, {"force_terminal": True, "_environ": {"NO_COLOR": "1"}}])
def test_plain_lines_hold_no_escape_sequence_without_a_terminal_or_with_no_color(how):
    assert "\x1b" not in plain(a_run("\x1b[31mred [bold]bold[/bold]"), **how)
    assert "[bold]bold[/bold]" in plain(a_run("\x1b[31mred [bold]bold[/bold]"), **how)


def test_plain_lines_go_through_a_terminal_that_knows_only_ascii():
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=60)
    with PlainMonitor(console) as monitor:
        for event in a_run("雨 is rain."):
            monitor.show(event)
    assert b"? is rain." in raw.getvalue()


def test_a_long_run_says_now_and_then_how_far_it_is():
    lines = plain([started(), usage(0, 0), usage(100, 10), usage(200, 20), usage(400, 40), usage(500, 50)])
    assert lines.splitlines()[1:] == ["[0/8] 10 generated tokens/s"]


def test_where_it_fits_the_footer_tells_how_to_watch_the_run_from_elsewhere():
    state, command = replay(a_run(), "runs/run 1"), "python -m lab.watch 'runs/run 1'"
    assert elsewhere("runs/run 1") == (f"watch it from another terminal: {command}", command) and elsewhere("") == ()
    footers = [
        shown(state, width, where=elsewhere(state.path)).splitlines()[-1].split("  ")[0] for width in (120, 80, 60)
    ]
    assert footers == [f" watch it from another terminal: {command}", f" {command}", " runs/run 1"]


def test_plain_lines_begin_with_how_to_watch_the_run_from_elsewhere():
    for path, first in (
        ("runs/run-1", "watch it from another terminal: python -m lab.watch runs/run-1"),
        ("", "== loading"),
    ):
        console = Console(file=io.StringIO(), width=60)
        with choose_monitor("plain", console, path) as monitor:
            monitor.show(phase("loading", 0))
        assert console.file.getvalue().splitlines()[0] == first


def test_the_full_screen_is_for_terminals_that_can_draw_it():
    terminal = {"force_terminal": True, "_environ": {"TERM": "xterm-256color"}}
    assert isinstance(choose_monitor("auto", Console(file=io.StringIO(), **terminal)), LiveMonitor)
    assert isinstance(choose_monitor("rich", Console(file=io.StringIO())), PlainMonitor)
    assert isinstance(choose_monitor("auto", Console(file=io.StringIO())), PlainMonitor)
    assert isinstance(
        choose_monitor("auto", Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})),
        PlainMonitor,
    )
    assert isinstance(choose_monitor("plain", Console(file=io.StringIO(), **terminal)), PlainMonitor)
    assert isinstance(choose_monitor("none"), SilentMonitor)
    with pytest.raises(ValueError, match="'html': expected one of auto, rich, plain, none"):
        choose_monitor("html")


def test_the_full_screen_gives_the_terminal_back_even_after_an_error():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"})
    with pytest.raises(KeyboardInterrupt), LiveMonitor(console, "runs/run-1") as monitor:  # noqa: PT012 - shown first
        for event in a_run():
            monitor.show(event)
        deadline = time.monotonic() + 10
        while "grace" not in console.file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
        raise KeyboardInterrupt
    sent = console.file.getvalue()
    assert sent.startswith("\x1b[?1049h"), "the other screen is entered"
    assert sent.index("grace") < sent.index("\x1b[?1049l") and "\x1b[?25h" in sent, "left, the cursor shown again"
    assert monitor.state.lines == 4


def test_the_full_screen_leaves_other_peoples_printing_alone(capsys):
    """What Ray and transformers print has to reach the log, which stdout and stderr point to while a run is on."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"})
    with LiveMonitor(console, "runs/run-1"):
        print("noise of a library")
        print("a warning", file=sys.stderr)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("noise of a library\n", "a warning\n")
    assert "noise" not in console.file.getvalue()


def metric(name: str, seat: str, value: float, low: float, high: float, n: int, judge: str | None = "ledger") -> dict:
    return {
        "run_id": "r",
        "metric": name,
        "judge": judge,
        "seat": seat,
        "level": "run",
        "conversation": None,
        "turn": None,
        "value": value,
        "low": low,
        "high": high,
        "n": n,
    }


def test_the_summary_holds_every_number_with_its_interval_and_what_was_not_scored():
    nan = float("nan")
    metrics = pl.DataFrame(
        [
            metric("global_drift_slope", "user", 0.012, 0.004, 0.02, 20),
            metric("p_global_drift_slope", "user", 0.01, nan, nan, 6),
            metric("p_global_drift_slope", "assistant", 0.04, nan, nan, 6),
            metric("global_drift_slope", "assistant", 0.01, 0.001, 0.02, 20),
            metric("prompt_to_line", "user", 0.75, 0.6, 0.9, 20),
            metric("prompt_to_line", "assistant", nan, nan, nan, 0),
            metric("time_to_first_contradiction", "user", nan, 9, nan, 4),
            metric("half_life", "user", math.inf, nan, nan, 20),
            metric("unscored_prompt_to_line", "user", 0.5, 0, 1, 2),
        ],
        schema=METRICS,
    )
    judgements = pl.DataFrame(
        [
            {"run_id": "r", **row(0, 1, None)},
            {"run_id": "r", **row(0, 3, False)},
            {"run_id": "r", **row(0, 3, None, "job")},
        ],
        schema=JUDGEMENTS,
    )
    console = Console(record=True, width=120, file=io.StringIO())
    conclude(console, run_summary({"metrics": metrics, "judgements": judgements}), "runs/[x]")
    table = console.export_text()
    assert "0.75 [0.60, 0.90] n=20" in table
    assert table.count("▲") == 2, "only a drift is worse for being above 0; .01 and .04 are below .05 after Holm too"
    assert "– n=0" in table
    assert "+0.0120 [+0.0040, +0.0200] n=20 ▲" in table
    assert "not reached n=4" in table and "∞ n=20" in table
    assert "unscored, prompt-to-line" in table and "1 of 2" in table
    assert "runs/[x]" in table
    assert table.index("prompt-to-line consistency") < table.index("global drift") < table.index("half-life")


def test_a_run_that_measured_nothing_says_so():
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(run_summary({"metrics": pl.DataFrame(schema=METRICS), "judgements": pl.DataFrame(schema=JUDGEMENTS)}))
    assert "nothing was measured" in console.export_text()
