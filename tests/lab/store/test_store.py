from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from event_streams import a_run, at, faults, judged, line, phase, row, started, usage

from lab.store import event_log, frames, run_store
from lab.store.atomic_write import StoreError
from lab.store.frames import JUDGEMENTS, METRICS, TURNS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path):
    with run_store.create(tmp_path, "small", "name: small\n", 7, "d1gest") as opened:
        yield opened


def python(code: str, *arguments: object, **how) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True, **how
    )


def test_a_new_run_is_a_whole_run_before_its_first_event(run):
    assert (run.path / "scenario.yaml").read_text() == "name: small\n"
    manifest = run_store.read_manifest(run.path)
    assert (manifest["run_id"], manifest["status"], manifest["seed"], manifest["digest"]) == (
        run.path.name,
        "running",
        7,
        "d1gest",
    )
    assert set(manifest["versions"]) == {"python", "torch", "transformers", "ray", "polars"}
    assert manifest["finished"] is None and manifest["started"].endswith("+00:00")
    assert event_log.read_events(run.path) == []


def test_runs_made_in_the_same_second_get_folders_of_their_own(tmp_path):
    paths = set()
    for _ in range(20):
        with run_store.create(tmp_path, "../a b/ü", "", 1, "d") as opened:
            paths.add(opened.path)
    assert len(paths) == 20
    assert all(path.parent == tmp_path for path in paths), "a name cannot lead out of the runs folder"


def test_versions_are_read_without_importing_what_they_are_of():
    code = (
        "import sys; from lab.store import run_store; run_store._versions(); "
        "print([m for m in ('torch', 'ray', 'transformers') if m in sys.modules])"
    )
    assert python(code).communicate()[0].strip() == "[]"


def test_no_environment_variable_reaches_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with run_store.create(tmp_path, "small", "", 7, "d") as opened:
        opened.finish("finished")
        assert "sk-very-secret" not in (opened.path / "manifest.json").read_text()


def test_events_come_back_as_written(run):
    text = "“Grüße”\n\x1b[31m\u2028 and a tab\t"
    run.append(line(0, 0, text))
    added = run.append({"event": "phase", "phase": "playing", "detail": ""})
    assert "time" in added
    assert [event.get("text", event["event"]) for event in event_log.read_events(run.path)] == [text, "phase"]
    assert frames.turns_frame("r", event_log.read_events(run.path))["text"].to_list()[0].startswith("“Grüße”\n")


def test_a_number_that_is_not_finite_is_null_in_the_file(run):
    run.append(line(0, 0) | {"logprob": float("-inf")})
    (written,) = (run.path / "events.jsonl").read_text().splitlines()
    assert json.loads(written, parse_constant=pytest.fail)["logprob"] is None


def test_a_writer_killed_at_any_moment_loses_at_most_the_line_in_flight(tmp_path):
    code = """
import sys
sys.path.insert(0, "tests/helpers")
from event_streams import a_run, at, faults, judged, line, phase, row, started, usage
from lab.store import run_store
run = run_store.create(sys.argv[1], "small", "", 7, "d")
for turn in range(10**9):
    run.append(line(0, turn, "x" * 5000))
    print(turn, flush=True)
"""
    writer = python(code, tmp_path)
    said = [writer.stdout.readline() for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    said += writer.communicate()[0].splitlines()
    last_printed = int([word for word in said if word.strip()][-1])
    (path,) = tmp_path.iterdir()
    with run_store.open_for_resume(path) as again:
        turns = [event["turn"] for event in again.earlier]
        assert turns == list(range(len(turns))) and len(turns) > last_printed
        assert again.append(line(0, len(turns)))["turn"] == len(turns)
    assert [event["turn"] for event in event_log.read_events(path)] == list(range(len(turns) + 1))


@pytest.mark.parametrize(
    "tail",
    [
        b'{"event": "line", "turn',
        b'{"event": "phase", "phase": "playing"}',
        b"\0\0\0\0",
        b"\0\0\0\n",
        b'{"no": "event"}\n',
        b"[1]\n",
        b"\xff\xfe\n",
    ],
)
def test_a_damaged_or_cut_off_last_line_is_cut_away(run, tail):
    run.append(phase("playing", 0))
    run.close()
    whole = (run.path / "events.jsonl").read_bytes()
    (run.path / "events.jsonl").write_bytes(whole + tail)
    assert len(event_log.read_events(run.path)) == 1
    assert (run.path / "events.jsonl").read_bytes() == whole + tail, "reading changes nothing"
    with run_store.open_for_resume(run.path) as again:
        again.append(phase("measuring", 5))
    assert [event["phase"] for event in event_log.read_events(run.path)] == ["playing", "measuring"]


def test_a_damaged_line_in_the_middle_is_refused_by_its_number(run):
    for turn in range(4):
        run.append(line(0, turn))
    run.close()
    lines = (run.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:20] + b"\n"
    (run.path / "events.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"events.jsonl, line 3"):
        run_store.open_for_resume(run.path)
    lines[2] = b""
    (run.path / "events.jsonl").write_bytes(b"".join(lines))
    run_store.open_for_resume(run.path).close()  # the refusal let go of the run


@pytest.mark.parametrize("missing", ["manifest.json", "scenario.yaml", "events.jsonl"])
def test_a_folder_that_is_no_run_is_refused_by_what_it_lacks(run, missing):
    run.close()
    (run.path / missing).unlink()
    with pytest.raises(ValueError, match=f"no run: it has no {missing}"):
        run_store.open_for_resume(run.path)


def test_a_folder_that_is_not_there_or_holds_other_things_is_left_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        run_store.open_for_resume(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no manifest.json"):
        run_store.open_for_resume(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_holds_is_refused_until_it_lets_go(tmp_path):
    code = """
import sys
from lab.store import run_store
run = run_store.create(sys.argv[1], "small", "", 7, "d")
print(run.path, flush=True)
sys.stdin.read()
"""
    holder = python(code, tmp_path, stdin=subprocess.PIPE)
    path = holder.stdout.readline().strip()
    with pytest.raises(ValueError, match="another process"):
        run_store.open_for_resume(path)
    holder.kill()
    holder.communicate()
    run_store.open_for_resume(path).close()


def test_a_closed_run_takes_no_more_events(run):
    run.finish("interrupted")
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.append(phase("playing", 0))


def test_frames_have_the_contract_s_columns_even_when_empty():
    assert frames.turns_frame("r", []).schema == pl.Schema(TURNS)
    assert frames.judgements_frame("r", []).schema == pl.Schema(JUDGEMENTS)
    assert list(TURNS) == "run_id conversation persona turn seat node text tokens token_ids logprob seconds".split()
    assert (
        list(JUDGEMENTS)
        == ("run_id conversation turn seat metric judge against p_inconsistent verdict unscored").split()
    )
    assert list(METRICS) == "run_id metric judge seat level conversation turn value low high n".split()


def test_the_last_telling_of_a_turn_counts_wherever_it_stands():
    events = [
        line(1, 0),
        line(0, 1, "old"),
        judged(0, 1, row(0, 1, True), row(0, 1, True, "job")),
        judged(0, 1, row(0, 1, None, "job", "qa"), by="qa"),
        line(0, 0),
        line(0, 1, "new"),
        judged(0, 1, row(0, 1, False)),
    ]
    turns = frames.turns_frame("r", events)
    assert turns.select("conversation", "turn", "text").rows() == [
        (0, 0, "Hello there."),
        (0, 1, "new"),
        (1, 0, "Hello there."),
    ]
    assert turns["token_ids"].to_list()[0] == [5, 6, 2]
    judgements = frames.judgements_frame("r", events)
    assert judgements.select("metric", "against", "p_inconsistent", "verdict", "unscored").rows() == [
        ("prompt_to_line", "persona", 0.0, False, None),
        ("qa", "job", None, None, "no claim found"),
    ]


def test_a_resumed_run_s_frames_hold_both_sittings(run):
    run.append(line(0, 0))
    run.close()
    with run_store.open_for_resume(run.path) as again:
        again.append(line(0, 1))
        metrics = pl.DataFrame(
            [
                {
                    "metric": "qa",
                    "judge": "multiple_choice",
                    "seat": "user",
                    "level": "run",
                    "conversation": None,
                    "turn": None,
                    "value": 0.5,
                    "low": None,
                    "high": None,
                    "n": 2,
                }
            ]
        )
        again.finish("finished", metrics=metrics)
    assert pl.read_parquet(run.path / "turns.parquet")["turn"].to_list() == [0, 1]
    written = pl.read_parquet(run.path / "metrics.parquet")
    assert written.schema == pl.Schema(METRICS) and written["run_id"].to_list() == [run.run_id]
    manifest = run_store.read_manifest(run.path)
    assert manifest["status"] == "finished" and len(manifest["resumed"]) == 1
    assert manifest["counts"]["lines"] == 2


def test_a_frame_with_other_columns_is_refused(run):
    with pytest.raises(ValueError, match="unknown columns \\['extra'\\]"):
        run.write_frames(metrics=pl.DataFrame(schema=METRICS | {"extra": pl.Int64}))


def test_a_run_ends_in_one_of_three_ways(run):
    with pytest.raises(ValueError, match="'done'; expected one of finished, failed, interrupted"):
        run.finish("done")


def test_the_manifest_counts_and_times_what_the_events_tell(run):
    # loading 0-3 s, playing 3-10 s, stopped; 90 s nobody ran; resumed at 100 s, playing 101-106 s
    for event in [
        started(0),
        phase("loading", 0),
        phase("playing", 3),
        line(0, 0, seconds=5),
        usage(30, 6, 40, 50),
        line(1, 0, seconds=10),
        started(100, resumed=True),
        phase("playing", 101),
        line(1, 0, seconds=103),
        judged(1, 0, row(1, 0, None), row(1, 0, True, "job"), seconds=103),
        usage(10, 104, 12, 20),
        {"event": "conversation", "time": at(105), "conversation": 0, "status": "failed", "reason": "x"},
        {"event": "ended", "time": at(106), "status": "interrupted", "reason": None},
    ]:
        run.append(event)
    run.finish("interrupted", "stopped by hand")
    manifest = run_store.read_manifest(run.path)
    assert manifest["seconds"] == {"loading": 3.0, "playing": 7.0 + 5.0}
    assert manifest["counts"] == {
        "conversations": 2,
        "finished": 0,
        "failed": 1,
        "lines": 2,
        "recovered": 0,
        "judgements": 2,
        "unscored": 1,
    }
    # the second sitting counted from zero again: 30 + 10, 40 + 12, 50 + 20
    assert manifest["tokens"] == {"generated": 40, "tokens_new": 52, "tokens_computed": 70}
    assert (manifest["device"], manifest["models"]["user"], manifest["reason"]) == (
        "cpu",
        "embedded",
        "stopped by hand",
    )


@pytest.mark.parametrize("loading_first", [True, False])
def test_time_nobody_ran_belongs_to_no_phase_in_whichever_order_a_sitting_begins(run, loading_first):
    def sitting(begin: float) -> list[dict]:  # loads 3 s, plays 5 s, is killed
        loading, opening = phase("loading", begin), started(begin + 3 if loading_first else begin)
        return [
            *([loading, opening] if loading_first else [opening, loading]),
            phase("playing", begin + 3),
            line(0, 0, seconds=begin + 8),
        ]

    for event in sitting(0) + sitting(1000) + sitting(2000):
        run.append(event)
    run.finish("finished")
    assert run_store.read_manifest(run.path)["seconds"] == {"loading": 9.0, "playing": 15.0}


def test_frames_are_flushed_as_the_run_goes_but_not_with_every_line(run):
    run.append(line(0, 0))
    assert not run.maybe_flush(seconds=60)
    assert not (run.path / "turns.parquet").exists()
    time.sleep(0.01)
    assert run.maybe_flush(seconds=0.01)
    assert pl.read_parquet(run.path / "turns.parquet").height == 1
    assert run_store.read_manifest(run.path)["counts"]["lines"] == 1


FULL_DISK = """
import resource, sys
sys.path.insert(0, "tests/helpers")
from event_streams import a_run, at, faults, judged, line, phase, row, started, usage
from lab.store import run_store
run = run_store.open_for_resume(sys.argv[1])
if sys.argv[2] == "events":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    for turn in range(1000):
        run.append(line(0, turn, "x" * 700))
        if sys.argv[2] == "frames" and turn == 9:
            run.write_frames()
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
            run.write_frames()
except run_store.StoreError as error:
    print(turn)
    print(error)
"""


@pytest.mark.parametrize(("what", "file"), [("events", "events.jsonl"), ("frames", "turns.parquet")])
def test_a_disk_that_is_full_costs_no_finished_line(run, what, file):
    run.close()
    turn, message = python(FULL_DISK, run.path, what).communicate()[0].splitlines()
    kept = event_log.read_events(run.path)
    assert (run.path / "events.jsonl").read_bytes().endswith(b"}\n"), "no half line is left"
    assert len(kept) == (int(turn) if what == "events" else 10)
    assert message.startswith(f"cannot write {file} in {run.path}: File too large (")
    assert "MB free" in message and f"the {len(kept)} finished lines are kept" in message
    assert f"--resume {run.path}" in message
    if what == "frames":
        assert pl.read_parquet(run.path / "turns.parquet").height == 10, "what was there before stays whole"
    assert not list(run.path.glob(".*.tmp"))
    run_store.open_for_resume(run.path).close()


def test_a_place_where_nothing_can_be_written_is_named_before_the_run_begins(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="no line was finished yet"):
        run_store.create(tmp_path / "file", "small", "", 7, "d")


@pytest.mark.parametrize("file", [run_store.SWEEP, run_store.SCENARIO])
def test_a_full_disk_tells_a_sweep_or_a_training_that_what_was_done_is_kept_and_how_to_go_on(
    file, tmp_path, monkeypatch
):
    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with run_store.create(tmp_path, "small", "", 7, "d", file=file) as opened:
        opened.append({"event": "trial", "trial": "a"} if file == run_store.SWEEP else {"event": "step", "step": 0})
        monkeypatch.setattr(run_store, "write_all", full)
        with pytest.raises(
            StoreError, match=f"what was done is kept: make room and continue with --resume {opened.path}$"
        ):
            opened.append({"event": "phase", "phase": "reporting"})


def test_a_frame_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "turns.parquet"
    run_store.write_frame(path, pl.DataFrame({"a": [1]}))

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match="No space left on device"):
        run_store.write_frame(path, pl.DataFrame({"a": [2]}))
    assert pl.read_parquet(path)["a"].to_list() == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["turns.parquet"]


def test_the_lock_is_the_folder_s_own(run):
    with open(run.path / ".lock", "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- the page of the log


def test_events_of_a_made_up_run_are_as_the_page_says():
    written = json.loads(json.dumps([*a_run(), usage(3, 20.0), line_of_another_run()]))
    assert faults(written) == []


def line_of_another_run() -> dict:
    return line(0, 1) | {"activation": 0.5, "origin": {"instruction": "", "fact": None, "ready": True}}


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        ({"event": "walk", "conversation": 0}, "walk has no node"),
        (line(0, 1) | {"tokens": "3"}, "line.tokens is '3', expected <class 'int'>"),
        (phase("playing", 0.0) | {"loud": True}, "phase has loud, which the page does not know"),
        (judged(0, 1, row(0, 1, True) | {"span": [0, "x"]}), "judged.rows[0].span[1] is 'x', expected <class 'int'>"),
        ({"event": "dance"}, "dance is no kind"),
    ],
)
def test_what_the_page_does_not_say_is_found(event, fault):
    assert faults([event]) == [fault]


def test_an_event_of_a_kind_that_nobody_knows_is_read():
    assert event_log.event_of(b'{"event": "from a later version"}') == {"event": "from a later version"}
