"""Keys and connections of endpoints, against a server on loopback."""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import contextmanager

import pytest
from commands import LONG, inside, listening, only

from agents.engine.protocol import Sampling
from agents.judge_models.answer_choice import EndpointChooser
from agents.seats.base import Cue, Trouble
from agents.seats.chat import EndpointSeat
from agents.servers import client
from lab.run import main
from metrics.judges.llm import YES_NO
from scenarios.scenario import load_scenario

KEY = "k-5d0a91-of-mine"


class Locked(http.server.BaseHTTPRequestHandler):
    """A server that answers those who have the key, a little late."""

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.inside += 1
            self.server.most = max(self.server.most, self.server.inside)
        time.sleep(0.02)
        with self.server.lock:
            self.server.inside -= 1
        choice = {"index": 0, "message": {"role": "assistant", "content": "YES"}, "finish_reason": "stop"}
        self.answer({"choices": [choice]} if self.path.endswith("/chat/completions") else {})

    def answer(self, body):
        with self.server.lock:
            self.server.seen.add((self.headers["authorization"], self.headers["openai-organization"]))
        known = self.headers["authorization"] == f"Bearer {KEY}"
        data = json.dumps(body if known else {"error": {"message": "who are you?"}}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def locked():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Locked)
    server.seen, server.lock, server.inside, server.most = set(), threading.Lock(), 0, 0
    with listening(server):
        yield server, f"http://127.0.0.1:{server.server_port}/v1"


def test_a_named_key_goes_to_its_server_and_no_other_one(monkeypatch):
    monkeypatch.setenv("MY_PAT", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    with locked() as (server, url):
        client.check(url, "m", "MY_PAT")
        seat = EndpointSeat(url, "m", Sampling(0), api_key_env="MY_PAT")
        seat.open({0: "You are Ann."})
        assert seat.speak({0: Cue("", 1)})[0].text == "YES"
        assert EndpointChooser(url, "m", api_key_env="MY_PAT").choose([("s", "u")], [YES_NO])[0][0] == 0.0
        assert server.seen == {(f"Bearer {KEY}", None)}


def test_a_refused_key_is_answered_with_where_one_is_expected(monkeypatch):
    monkeypatch.setattr(client, "expected_key", lambda endpoint, variable: "expected api_key_env")
    with locked() as (_, url):
        with pytest.raises(ValueError, match=r"refuses us \(.*who are you.*\); expected api_key_env$"):
            client.check(url, "m")
        seat = EndpointSeat(url, "m", Sampling(0))
        seat.open({0: "You are Ann."})
        answer = seat.speak({0: Cue("", 1)})[0]
        assert isinstance(answer, Trouble) and answer.reason.endswith("; expected api_key_env")
        assert EndpointChooser(url, "m").choose([("s", "u")], [YES_NO])[0].endswith("; expected api_key_env")


def test_no_more_requests_are_under_way_than_the_scenario_allows(monkeypatch):
    monkeypatch.setenv("MY_PAT", KEY)
    with locked() as (server, url):
        seat = EndpointSeat(url, "m", Sampling(0), api_key_env="MY_PAT", at_once=2)
        seat.open(dict.fromkeys(range(8), "You are Ann."))
        seat.speak({c: Cue("", c) for c in range(8)})
        assert server.most == 2


def test_a_run_uses_the_named_key_and_keeps_it_nowhere(monkeypatch, tmp_path):
    with locked() as (_, url):
        options = [f"seats.user.endpoint={url}", "seats.user.model=m", 'seats.assistant.script=["Hello."]']
        options += ["conversations=1", "turns=2", "measure.judge=ledger", "measure.metrics=[prompt_to_line]"]
        options += ["seats.user.api_key_env=MY_PAT", "seats.user.max_connections=1", "measure.validate=false"]
        where = ["--address", "none", "--display", "plain", "--runs", tmp_path]
        refused = inside(main, LONG, *options, *where)
        assert refused.returncode == 2 and list(tmp_path.iterdir()) == []
        assert len(refused.stderr.strip().splitlines()) == 1
        assert "api_key_env is MY_PAT, which is not set" in refused.stderr
        done = inside(main, LONG, *options, *where, MY_PAT=KEY)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    for file in only(tmp_path).rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file
    assert "api_key_env: MY_PAT" in (only(tmp_path) / "scenario.yaml").read_text()


def test_no_more_of_a_response_is_read_than_a_limit(monkeypatch):
    monkeypatch.setenv("MY_PAT", KEY)
    monkeypatch.setattr(client, "MOST_BYTES", 40)
    with locked() as (_, url), pytest.raises(ValueError, match="does not answer"):
        client.check(url, "m", "MY_PAT")
    monkeypatch.setattr(client, "MOST_BYTES", 4000)
    with locked() as (_, url):
        client.check(url, "m", "MY_PAT")


def test_how_a_server_is_accessed_is_no_part_of_what_is_played():
    plain, accessed = (
        load_scenario(LONG, ["seats.user.endpoint=vllm", "measure.llm.endpoint=openrouter", *more])
        for more in ([], ["seats.user.api_key_env=A", "seats.user.max_connections=3", "measure.llm.api_key_env=B"])
    )
    assert plain.digest() == accessed.digest() and "api_key_env" not in plain.resolved_yaml()
