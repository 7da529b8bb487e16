"""A seat on a real OpenAI-compatible server on loopback: `transformers serve`, serving the embedded model."""

from __future__ import annotations

import http.server
import json
import os
import threading

import polars as pl
import pytest
from commands import LONG, SERVE, SERVE_TIMEOUT_S, answering, free_port, inside

from agents.engine.protocol import Sampling
from agents.engine.sentences import first_sentences
from agents.models.loading import local_folder
from agents.seats import chat
from agents.seats.base import Cue, Question, Trouble
from agents.servers import client
from lab.run import main


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(base URL, model name) of a server that answers; it is stopped afterwards."""
    model, port = local_folder("embedded"), free_port()
    folder = tmp_path_factory.mktemp("server")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder)}
    command = [SERVE, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with answering(command, f"http://127.0.0.1:{port}/health", folder / "log", environment, SERVE_TIMEOUT_S):
        yield f"http://127.0.0.1:{port}/v1", model


def test_a_run_with_one_seat_on_a_server_leaves_the_usual_frames(server, tmp_path):
    url, model = server
    done = inside(
        main,
        LONG,
        "conversations=1",
        "turns=4",
        "seats.user.max_tokens=8",
        "seats.assistant.max_tokens=8",
        "measure.judge=ledger",
        f"seats.user.endpoint={url}",
        f"seats.user.model={model}",
        "--address",
        "none",
        "--display",
        "plain",
        "--runs",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = next(tmp_path.iterdir())
    turns = pl.read_parquet(run / "turns.parquet")
    assert turns.height == 4
    served = turns.filter(pl.col("seat") == "user")
    assert all(served["text"].str.len_chars() > 0) and all(served["tokens"] > 0)
    assert served["logprob"].null_count() == served.height, "chat completions tell no log-probability of the line"
    asked = pl.read_parquet(run / "judgements.parquet").filter(pl.col("metric") == "qa")
    on_server, here = (asked.filter(pl.col("seat") == seat) for seat in ("user", "assistant"))
    assert on_server["unscored"].null_count() == 0 and on_server["verdict"].null_count() == on_server.height
    assert here["unscored"].null_count() == here.height


def test_a_seat_on_a_server_hears_and_speaks_in_alternating_roles(server):
    url, model = server
    seat = chat.EndpointSeat(url, model, Sampling(seed=0, max_tokens=8, temperature=0.7))
    seat.open({0: "You are Grace."})
    first = seat.speak({0: Cue("", 1)})[0]
    seat.hear({0: "Hello."})
    seat.hear({0: "Are you there?"})
    seat.speak({0: Cue("Answer.", 2)})
    roles = [message["role"] for message in seat._messages[0]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert seat._messages[0][3]["content"] == "Hello.\nAre you there?\n[Answer.]"
    assert seat._messages[0][2]["content"] == first.text
    assert isinstance(seat.ask({0: [Question("Who?", ("a", "b"))]})[0], Trouble)


class Broken(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status that its path names."""

    def do_GET(self):
        self.answer({"data": []} if "models" in self.path else {})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer({"error": {"message": "planted"}}, status=int(self.path.split("/")[1]))

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


def test_a_failing_request_is_trouble_for_its_conversation_only():
    broken = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=broken.serve_forever, daemon=True).start()
    seat = chat.EndpointSeat(f"http://127.0.0.1:{broken.server_port}/400", "any", Sampling(seed=0))
    seat.client = seat.client.with_options(max_retries=0)
    seat.open({0: "You are Grace.", 1: "You are Tomas."})
    said = seat.speak({0: Cue("", 1), 1: Cue("", 2)})
    broken.shutdown()
    assert {c: type(answer) for c, answer in said.items()} == {0: Trouble, 1: Trouble}
    assert "planted" in said[0].reason
    assert [len(messages) for messages in seat._messages.values()] == [1, 1], "a line that was not said is in no view"


def test_a_run_in_which_every_conversation_fails_has_failed_and_says_why(tmp_path):
    broken = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=broken.serve_forever, daemon=True).start()
    both = [f"seats.{seat}.endpoint=http://127.0.0.1:{broken.server_port}/400" for seat in ("user", "assistant")]
    done = inside(
        main, LONG, "conversations=2", "turns=4", "measure.judge=ledger", *both, "--display", "none", "--runs", tmp_path
    )
    broken.shutdown()
    assert done.returncode == 2
    assert (
        len(done.stderr.strip().splitlines()) == 1
        and "every conversation failed" in done.stderr
        and "planted" in done.stderr
    )
    run = next(tmp_path.iterdir())
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"
    assert pl.read_parquet(run / "turns.parquet")["turn"].to_list() == [0, 0], "the ready greetings are kept"


def test_a_server_that_is_not_there_is_refused_in_one_sentence():
    with pytest.raises(
        ValueError, match=r"endpoint http://127\.0\.0\.1:\d+/v1 does not answer .*expected an OpenAI-compatible server"
    ):
        client.check(f"http://127.0.0.1:{free_port()}/v1", "any")


def test_a_model_that_the_server_does_not_have_is_refused_by_name():
    class Lists(Broken):
        def do_GET(self):
            self.answer(
                {"data": [{"id": "served", "object": "model", "created": 0, "owned_by": "me"}], "object": "list"}
            )

    listing = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lists)
    threading.Thread(target=listing.serve_forever, daemon=True).start()
    with pytest.raises(ValueError, match="does not serve model 'other'; it serves served"):
        client.check(f"http://127.0.0.1:{listing.server_port}/v1", "other")
    client.check(f"http://127.0.0.1:{listing.server_port}/v1", "served")
    listing.shutdown()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:{port}/web", "did you mean http://127.0.0.1:{port}/web/v1"),
        ("http://127.0.0.1:{port}/page/v1", "does not answer"),
    ],
)
def test_an_address_that_is_no_api_is_refused_in_one_sentence(url, expected):
    class Page(Broken):
        def do_GET(self):
            if "page" in self.path:
                self.answer("<html>a page, not an API</html>")
            else:
                self.answer({}, status=404)

    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    with pytest.raises(ValueError) as refused:
        client.check(url.format(port=page.server_port), "any")
    page.shutdown()
    assert expected.format(port=page.server_port) in str(refused.value) and "\n" not in str(refused.value)


def test_a_servers_line_ends_after_so_many_sentences():
    text = 'I live here. "Really?" Yes! And so on'
    assert [first_sentences(text, n) for n in (1, 2, 3)] == [
        "I live here.",
        'I live here. "Really?"',
        'I live here. "Really?" Yes!',
    ]
    assert first_sentences(text, 4) == first_sentences(text, None) == text
    assert first_sentences("It costs 3.50 in all. Right", 1) == "It costs 3.50 in all."
