"""What may go wrong around a run: servers that fail in every way, a disk that is full. Nothing is lost, and nothing is
done twice.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import sweeps
from commands import LONG, NOBODY_TALKS, assert_same_play, events, inside, listening, manifest, only

from agents.engine.protocol import Sampling
from agents.judge_models.answer_choice import EndpointChooser
from agents.seats.base import Cue, Trouble, Utterance
from agents.seats.chat import EndpointSeat
from agents.servers.client import in_time
from lab.run import main
from lab.sweep import main as sweep_main
from metrics.judges.llm import YES_NO
from scenarios import personas as people
from scenarios.scenario import load_scenario

LIMIT_S = 1.5
LATE = "no answer within"


@pytest.fixture(autouse=True)
def drawn_only_where_the_report_is_meant(request):
    if "report.html" not in request.node.name:
        request.getfixturevalue("unreported")


# -- a server that does anything


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send(
            json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "tests"}]})
        )

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "messages" not in asked:  # does it know token ids?
            return self.send("{}", 404)
        with self.server.lock:
            self.server.asked.append((time.monotonic(), asked))
        return self.server.answer(self, asked)

    def send(self, text: str, status: int = 200, **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, answer: Callable[[Handler, dict], None], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer, self.asked, self.lock, self.over = answer, [], threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_):
        """Who asked has gone."""


def serving(answer: Callable[[Handler, dict], None], port: int = 0) -> AbstractContextManager[Server]:
    return listening(Server(answer, port))


def said(text: str) -> str:
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }
    )


GOOD = said("I am a baker.")


def good(handler: Handler, asked: dict) -> None:
    handler.send(GOOD)


def stalls(handler: Handler, asked: dict) -> None:
    handler.server.over.wait(30)


def drips(handler: Handler, asked: dict) -> None:
    """A byte now and then, each well within any time limit of its own."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    while not handler.server.over.wait(0.1):
        handler.wfile.write(b" ")


def half(handler: Handler, asked: dict) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:40].encode())
    handler.close_connection = True


def hangs_up(handler: Handler, asked: dict) -> None:
    handler.close_connection = True


def busy(handler: Handler, asked: dict) -> None:
    handler.send('{"error": {"message": "slow down"}}', 429)


# -- seats on such a server


def talk(runs: Path, url: str, *more: str):
    """Three dialogues in which a server speaks for the user at turns 1 and 3."""
    return inside(
        main,
        LONG,
        "conversations=3",
        "turns=4",
        'seats.assistant.script=["Who are you?"]',
        f"seats.user.endpoint={url}",
        "seats.user.model=m",
        f"seats.user.timeout_s={LIMIT_S}",
        "measure.judge=ledger",
        "measure.metrics=[prompt_to_line]",
        "--runs",
        runs,
        "--display",
        "none",
        *more,
    )


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (said("." * 100_000 + "x"), 200),
        (json.dumps({"error": {"message": "?key" * 25_000}}), 400),
        (json.dumps({"error": {"message": "://" * 33_000}}), 400),
    ],
)
def test_an_answer_that_takes_long_to_read_comes_back_in_time(text, status):
    """Dots may end a sentence; what looks like an address may hold a key."""
    with serving(lambda handler, asked: handler.send(text, status)) as server:
        seats = [
            EndpointSeat(server.url, "m", Sampling(seed=0, max_tokens=most, sentences=2), timeout_s=LIMIT_S)
            for most in (48, 4096)
        ]
        began = time.monotonic()
        for seat in seats:
            seat.open({0: "You are Grace."})
        short, long = (seat.speak({0: Cue("", 1)})[0] for seat in seats)
        assert time.monotonic() - began < 2 * LIMIT_S
    assert isinstance(short, Trouble) and len(short.reason) < 300 and LATE not in short.reason
    if status == 200:
        assert short.reason == "the endpoint failed: its answer has 100,001 characters; expected 48 tokens at most"
        assert isinstance(long, Utterance) and len(long.text) == 100_001
    else:
        assert isinstance(long, Trouble) and LATE not in long.reason


def lines(run: Path) -> Counter:
    return Counter((event["conversation"], event["turn"]) for event in events(run, "line"))


@pytest.mark.parametrize(
    ("fault", "why"),
    [(stalls, ""), (drips, ""), (half, ""), (hangs_up, ""), (busy, "; it was refused with 429 Too Many Requests")],
)
def test_dialogue_whose_server_fails_is_told_and_the_others_go_on_and_it_can_be_taken_up_again(fault, why, tmp_path):
    unlucky = people.cast(load_scenario(LONG, ["conversations=3"]))[1]["user"].card
    down = threading.Event()
    down.set()

    def answer(handler: Handler, asked: dict) -> None:
        (fault if down.is_set() and unlucky in asked["messages"][0]["content"] else good)(handler, asked)

    with serving(answer) as server:
        began = time.monotonic()
        done = talk(tmp_path, server.url)
        seconds, run = time.monotonic() - began, only(tmp_path)
        assert done.returncode == 0 and seconds < 10 * LIMIT_S, done.stderr
        assert [(event["conversation"], event["status"], event["reason"]) for event in events(run, "conversation")] == [
            (1, "failed", f"the endpoint failed: no answer within {LIMIT_S} s{why}"),
            (0, "finished", None),
            (2, "finished", None),
        ]
        assert lines(run) == Counter([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)])
        assert manifest(run)["counts"] | {"judgements": 0} == {
            "conversations": 3,
            "finished": 2,
            "failed": 1,
            "lines": 9,
            "recovered": 0,
            "judgements": 0,
            "unscored": 0,
        }
        before, asked = events(run, "line"), len(server.asked)
        down.clear()
        assert inside(main, "--resume", run, "--display", "none").returncode == 0
        assert len(server.asked) == asked + 2, "the lines that were missing, and no other"
    assert events(run, "line")[:9] == before and lines(run) == Counter((c, turn) for c in range(3) for turn in range(4))
    assert manifest(run)["counts"]["failed"] == 0


def test_a_dialogue_that_failed_in_a_trial_is_taken_up_again_with_the_sweep(tmp_path):
    unlucky = people.cast(load_scenario(sweeps.CHITCHAT, ["conversations=2", "seed=1"]))[1]["user"].card
    down = threading.Event()
    down.set()

    def answer(handler: Handler, asked: dict) -> None:
        (hangs_up if down.is_set() and unlucky in asked["messages"][0]["content"] else good)(handler, asked)

    with serving(answer) as server:
        user = {"seats.user.endpoint": server.url, "seats.user.model": "m", "seats.user.timeout_s": LIMIT_S}
        file = sweeps.written(tmp_path, axes={"seed": [1, 2]}, overrides=user)
        assert (
            inside(sweep_main, file, "--runs", tmp_path / "runs", "--address", "none", "--display", "none").returncode
            == 0
        )
        sweep = only(tmp_path / "runs")
        first, second = sweeps.trials(sweep).iter_rows(named=True)
        assert (first["failed_conversations"], second["failed_conversations"]) == (1, 0) and first[
            "lines"
        ] < 12 == second["lines"]
        down.clear()
        assert inside(sweep_main, "--resume", sweep, "--address", "none", "--display", "none").returncode == 0
    first, second = sweeps.trials(sweep).iter_rows(named=True)
    assert (first["failed_conversations"], first["lines"], second["lines"]) == (0, 12, 12)
    assert len(sweeps.events(sweep, trial=second["trial"])) == 2, "begun and finished once"
    assert lines(sweep / "trials" / first["trial"]) == Counter((c, turn) for c in range(2) for turn in range(6))


def test_server_that_goes_away_and_refuses_connections_costs_no_line_that_was_said(tmp_path):
    heard = []

    def answer(handler: Handler, asked: dict) -> None:
        heard.append(asked)
        if len(heard) <= 3:
            good(handler, asked)
        if len(heard) == 3:
            threading.Thread(target=lambda: (handler.server.shutdown(), handler.server.server_close())).start()
        handler.close_connection = True

    server = Server(answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    done = talk(tmp_path, server.url)
    run = only(tmp_path)
    assert done.returncode == 2 and "every conversation failed" in done.stderr and done.stderr.count("\n") == 1
    assert lines(run) == Counter((c, turn) for c in range(3) for turn in range(3))
    with serving(good, server.server_port) as again:
        assert inside(main, "--resume", run, "--display", "none").returncode == 0
        assert len(again.asked) == 3
    assert (
        lines(run) == Counter((c, turn) for c in range(3) for turn in range(4))
        and manifest(run)["status"] == "finished"
    )


def test_a_busy_server_is_asked_again_after_a_growing_pause_or_when_it_says():
    """Pauses: 0.5 s less up to a quarter; then the second that it asked for; then, at the third try, 2 s less up to a
    quarter.
    """
    replies = iter([{}, {"retry_after": "1"}, {}, None])

    def answer(handler: Handler, asked: dict) -> None:
        headers = next(replies)
        good(handler, asked) if headers is None else handler.send('{"error": {"message": "slow down"}}', 429, **headers)

    with serving(answer) as server:
        seat = EndpointSeat(server.url, "m", Sampling(seed=0), timeout_s=30)
        seat.open({0: "You are Grace."})
        assert seat.speak({0: Cue("", 1)})[0] == Utterance("I am a baker.", 4)
        times = [at for at, _ in server.asked]
    pauses = [later - before for before, later in pairwise(times)]
    assert 0.37 < pauses[0] < 0.9 <= 1.0 <= pauses[1] < 1.4 < 1.5 <= pauses[2] < 2.4, pauses


def test_what_is_late_is_given_up_and_nobody_waits_for_it():
    over, begun = threading.Event(), []

    def ask(item: int) -> int:
        begun.append(item)
        return item if item % 2 else over.wait(10) or item

    began = time.monotonic()
    answers = in_time(ask, range(6), 2, 0.3, lambda why: why)
    assert time.monotonic() - began < 2 and sorted(begun) == list(range(6))
    assert answers == ["no answer within 0.3 s", 1, "no answer within 0.3 s", 3, "no answer within 0.3 s", 5]
    over.set()
    with pytest.raises(KeyError):  # what nobody foresaw is not swallowed
        in_time({}.__getitem__, [1], 2, 1.0, lambda why: why)


# -- judges on such a server


@pytest.mark.parametrize("fault", [stalls, drips])
def test_a_judgement_takes_no_longer_than_it_may(fault):
    with serving(fault) as server:
        began = time.monotonic()
        choices = EndpointChooser(server.url, "m", timeout_s=0.5).choose(
            [("s", f"line {n}") for n in range(40)], [YES_NO] * 40
        )
        assert time.monotonic() - began < 3, "16 at once, and then the server is left alone"
    assert choices[:16] == ["the endpoint failed: no answer within 0.5 s"] * 16
    assert all(why.startswith("not asked, since the endpoint failed") for why in choices[32:])


def test_how_long_a_judgement_may_take_is_a_key_of_the_scenario_and_does_not_decide_what_is_said(tmp_path):
    with serving(stalls) as server:
        began = time.monotonic()
        done = inside(
            main,
            LONG,
            *NOBODY_TALKS,
            "turns=4",
            "measure.metrics=[prompt_to_line]",
            "measure.judge=llm",
            "measure.validate=false",
            "measure.llm.model=m",
            f"measure.llm.endpoint={server.url}",
            "measure.llm.timeout_s=0.5",
            "--display",
            "none",
            "--runs",
            tmp_path,
        )
        assert done.returncode == 0 and time.monotonic() - began < 15
        assert {row["unscored"] for event in events(only(tmp_path), "judged") for row in event["rows"]} == {
            "the endpoint failed: no answer within 0.5 s"
        }
    waits = [
        load_scenario(LONG, [f"{key}.timeout_s=9"]).digest() for key in ("seats.user", "seats.assistant", "measure.llm")
    ]
    assert waits == [load_scenario(LONG).digest()] * 3


# -- a full disk


@contextmanager
def full(monkeypatch, name: str, lines: int = 5) -> Iterator[None]:
    """Once so many lines are there, the disk has no room for a file of that name: what is written of it goes to
    /dev/full.
    """
    really = os.open

    def opened(path, *how, **more):
        path = Path(os.fspath(path))
        log = path.parent / "events.jsonl"
        if path.name == f".{name}.tmp" and log.is_file() and log.read_bytes().count(b'"event": "line"') >= lines:
            return really("/dev/full", os.O_WRONLY)
        return really(path, *how, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opened)
        yield


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    runs = tmp_path_factory.mktemp("roomy")
    assert inside(main, LONG, *NOBODY_TALKS, "turns=6", "--display", "none", "--runs", runs).returncode == 0
    return only(runs)


@pytest.mark.parametrize("name", ["turns.parquet", "manifest.json", "report.html"])
def test_a_disk_that_is_full_when_results_are_written_costs_none(name, roomy, tmp_path, monkeypatch):
    with full(monkeypatch, name):
        done = inside(main, LONG, *NOBODY_TALKS, "turns=6", "--display", "none", "--runs", tmp_path)
    run = only(tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"lab.run: cannot write {name} in {run}: No space left on device (")
    assert f"--resume {run}" in done.stderr and not list(run.glob(".*.tmp"))
    assert lines(run) == Counter((c, turn) for c in range(2) for turn in range(6))
    assert inside(main, "--resume", run, "--display", "none").returncode == 0
    assert_same_play(run, roomy)
    assert lines(run) == lines(roomy) and manifest(run)["status"] == "finished"


def test_trouble_is_told_without_the_key_that_a_server_repeats(monkeypatch, tmp_path):
    def repeats(handler: Handler, asked: dict) -> None:
        handler.send(json.dumps({"error": {"message": f"no such key: {handler.headers['authorization']}"}}), 401)

    with serving(repeats) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-4f1c9a")
        seat = EndpointSeat(server.url, "m", Sampling(seed=0))
        seat.open({0: "You are Grace."})
        [trouble] = seat.speak({0: Cue("", 1)}).values()
    assert isinstance(trouble, Trouble) and "no such key: Bearer [OPENAI_API_KEY]" in trouble.reason
