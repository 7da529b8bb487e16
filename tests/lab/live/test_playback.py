"""A log that is read while it is written, and when its events are due."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path

import pytest
from event_streams import START, a_run, append, ended, line, phase
from rich.console import Console

from lab.live.replay import AT_ONCE, Playback
from lab.live.run_monitor import PlainMonitor
from lab.store.run_store import create, open_for_resume
from lab.store.tail import Log

NOW = START.timestamp()


def log_of(path: Path) -> Log:
    return Log(path / "events.jsonl")


def taken(playback: Playback) -> list[dict]:
    return list(iter(playback.next, None))


# -- the log


def test_a_line_that_is_being_written_is_taken_when_it_is_whole(folder):
    path = folder(*a_run()[:3])
    log, text = log_of(path), json.dumps(line(0, 0, "naïve ☂")).encode()
    assert [log.next()["event"] for _ in range(3)] == ["phase", "started", "phase"] and log.next() is None
    for part in (text[:20], text[20:60], text[60:]):
        with log.path.open("ab") as file:
            file.write(part)
        assert log.next() is None
    with log.path.open("ab") as file:
        file.write(b"\n")
    assert log.next()["event"] == "line" and log.next() is None and log.line == 4


@pytest.mark.parametrize(
    "torn", ['{"event": "line", "time": "2026', '{"no": "event"}\n', "\0" * 50], ids=["half", "no event", "no text"]
)
def test_a_torn_line_that_a_resume_cuts_away_is_never_taken(tmp_path, torn):
    with create(tmp_path, "small", "name: small", 7, "") as store:
        path = store.path
        store.append(line(0, 0))
    log = log_of(path)
    with log.path.open("a") as file:
        file.write(torn)
    assert log.next()["turn"] == 0 and log.next() is None
    with open_for_resume(path) as store:  # the lock is free while the log is read
        store.append(
            line(0, 1, "A line that is longer than what was cut away, so that the file is longer than it was.")
        )
    assert log.next()["turn"] == 1 and log.next() is None


def test_a_damaged_line_before_the_last_is_named(folder):
    path = folder(line(0, 0))
    with (path / "events.jsonl").open("a") as file:
        file.write("{nothing}\n")
    log = log_of(path)
    assert log.next() and log.next() is None  # the last line may be cut away yet
    append(log.path, line(0, 1))
    with pytest.raises(ValueError, match=r"events\.jsonl, line 2: not an event"):
        log.next()


def test_a_log_that_is_shorter_than_what_was_read_is_read_from_its_start(folder):
    path = folder(line(0, 0), line(0, 1))
    log = log_of(path)
    assert log.next() and log.next() and log.next() is None
    log.path.write_text(json.dumps(line(1, 0)) + "\n")
    assert (log.next()["conversation"], log.line, log.begun_again) == (1, 1, 1)
    log.path.unlink()
    with pytest.raises(ValueError, match="has gone while it was read"):
        log.next()


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path):
    log = Log(tmp_path / "events.jsonl")
    assert log.next() is None
    append(log.path, line(0, 0))
    assert log.next()["turn"] == 0


def test_events_longer_than_one_reading_come_whole(folder, monkeypatch):
    monkeypatch.setattr("lab.store.tail.CHUNK", 100)
    events = json.loads(json.dumps(a_run()))
    assert len(json.dumps(events[1])) > 400 and taken(Playback(log_of(folder(*events)), AT_ONCE)) == events


# -- when an event is due


def test_a_replay_gives_events_by_the_clock_of_the_log(folder):
    playback = Playback(log_of(folder(phase("loading", 0), line(0, 0, seconds=10), line(0, 1, seconds=40))), speed=10)
    assert [event["event"] for event in taken(playback)] == ["phase"] and playback.clock == NOW
    playback.advance(0.9)
    assert taken(playback) == [] and playback.clock == pytest.approx(NOW + 9)  # ten times as fast: second 9 of 10
    playback.advance(0.1)
    assert [event["turn"] for event in taken(playback)] == [0] and not playback.caught_up
    playback.speed = 100
    playback.advance(0.3)
    assert [event["turn"] for event in taken(playback)] == [1] and playback.caught_up and not playback.over


def test_a_replay_that_is_sent_to_its_end_gives_the_rest_and_the_logs_own_time(folder):
    playback = Playback(log_of(folder(phase("loading", 0), line(0, 0, seconds=10), line(0, 1, seconds=40))), speed=1)
    playback.next()
    playback.speed = AT_ONCE
    playback.advance(0.0), playback.advance(1.0)
    assert playback.clock == NOW and len(taken(playback)) == 2 and playback.clock == NOW + 40


def test_silence_between_two_sittings_is_left_out_of_a_replay(folder):
    day = 86400
    path = folder(phase("loading", 0), ended(0, "interrupted"), phase("loading", day), line(0, 0, seconds=day + 4))
    playback = Playback(log_of(path), speed=1)
    assert [event["event"] for event in taken(playback)] == ["phase", "ended", "phase"] and not playback.over
    playback.advance(4)
    assert [event["event"] for event in taken(playback)] == ["line"]


def test_once_a_replay_has_caught_up_what_is_new_comes_at_once(folder):
    path = folder(phase("loading", 0), line(0, 0, seconds=0))
    playback = Playback(log_of(path), speed=1)
    assert len(taken(playback)) == 2
    append(path / "events.jsonl", line(0, 1, seconds=3600), ended(3700))
    assert len(taken(playback)) == 2 and playback.over


def test_four_times_the_dialogues_take_four_times_as_long(tmp_path):
    """So do 2,000 dialogues of 40 lines: no step of a replay looks at all there is. Eight times would be half-way to
    quadratic.
    """

    def seconds(conversations: int) -> float:
        path = tmp_path / f"{conversations}.jsonl"
        if not path.exists():
            append(path, *a_run(conversations, 10))
        gc.collect()
        began = time.thread_time()
        with open(os.devnull, "w") as nowhere:
            monitor = PlainMonitor(Console(file=nowhere))
            for event in taken(Playback(Log(path), AT_ONCE)):
                monitor.show(event)
        assert monitor.state.lines == conversations * 10
        return time.thread_time() - began

    seconds(10)
    few, many = (min(seconds(conversations) for _ in range(3)) for conversations in (200, 800))
    assert many < 8 * few
