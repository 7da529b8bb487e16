"""Tokens that servers say they took: counted, priced, and unknown where a server does not say."""

from __future__ import annotations

import http.server
import itertools
import json
from contextlib import contextmanager
from dataclasses import asdict

import pytest
from commands import LONG, listening

import lab
from agents.engine.protocol import Sampling
from agents.seats.base import Cue
from agents.seats.chat import EndpointSeat
from agents.servers.spend import Spent, spent
from lab.dialogue.spending import run_spending
from lab.live.run_monitor import closing_notes
from lab.reports.spend_text import spend_sentences
from lab.store.frames import Totals
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError

PRICE = "{input: 0.5, output: 2}"


class Counting(http.server.BaseHTTPRequestHandler):
    """Says NO, and that it read 1000 tokens and wrote 200; every `silent`th answer does not say so."""

    def do_GET(self):
        self.answer({"object": "list", "data": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if "chat" not in self.path:
            self.answer({"error": {"message": "chat alone"}}, 404)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": "NO"}, "finish_reason": "stop"}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        if next(self.server.numbers) % self.server.silent:
            answer["usage"] = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
        self.answer(answer)

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def counting(silent: int = 10**9):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    server.numbers, server.silent = itertools.count(1), silent
    with listening(server):
        yield f"http://127.0.0.1:{server.server_port}/v1"


def speak(url: str, times: int) -> None:
    seat = EndpointSeat(url, "m", Sampling(seed=0))
    seat.open({0: "You are Ann."})
    for number in range(times):
        seat.speak({0: Cue("", number)})


def test_answers_are_counted_by_server_and_model_and_those_that_do_not_say_apart():
    with counting(silent=3) as url:
        speak(url, 4)
        assert spent(url, "m") == Spent(4, 1, 3000, 600) and spent(url, "other") == Spent()


def test_a_run_says_what_its_server_took_and_what_that_cost(tmp_path, unreported):
    with counting() as url:
        seat = {"endpoint": url, "model": "m", "price": {"input": 0.5, "output": 2}}
        overrides = {f"seats.user.{key}": value for key, value in seat.items()} | {
            "seats.assistant.script": ["Hello."],
            "conversations": 2,
            "turns": 4,
            "measure.judge": "ledger",
            "measure.metrics": ["prompt_to_line"],
        }
        run = lab.play("long_dialogue", overrides, runs=tmp_path, address="none", progress="none")
    counts = {"answers": 4, "uncounted": 0, "input_tokens": 4000, "output_tokens": 800}
    price = {"input": 0.5, "output": 2.0}
    assert run.manifest["spend"] == [{"endpoint": url, "model": "m", **counts, "price": price, "cost": 0.0036}]
    assert closing_notes(run.manifest)[-1] == f"m at {url}: 4,000 tokens in, 800 out, 4 answers, cost 0.0036"


@pytest.mark.parametrize(
    ("silent", "words"),
    [
        (10**9, "2,000 tokens in, 400 out, 2 answers, cost 0.0018"),
        (2, "tokens unknown, since 1 of 2 answers do not say how many, cost unknown"),
    ],
)
def test_a_scoring_says_what_its_judge_cost(silent, words, tmp_path):
    chat = [{"role": "system", "content": "You are Leo."}]
    chat += [{"role": role, "content": "I bake."} for role in ("user", "assistant", "user", "assistant")]
    with counting(silent) as url:
        settings = {"endpoint": url, "model": "m", "price": {"input": 0.5, "output": 2}}
        overrides = {f"measure.llm.{key}": value for key, value in settings.items()} | {"measure.validate": False}
        scores = lab.judge(
            [chat], judge="llm", metrics="prompt_to_line", overrides=overrides, runs=tmp_path, progress="none"
        )
    assert spend_sentences(scores.manifest) == [f"m at {url}: {words}"]


def event(answers: int, uncounted: int = 0, price: dict | None = None, model: str = "m") -> dict:
    counts = asdict(Spent(answers, uncounted, 1000 * answers, 100 * answers))
    time = {"time": "2026-01-01T00:00:00.000Z"}
    return {"event": "spend", **time, "endpoint": "openai", "model": model, **counts, "price": price}


def totals(*executions: list[dict]) -> list[dict]:
    out = Totals()
    for events in executions:
        for each in [{"event": "started", "name": "x", "time": "2026-01-01T00:00:00.000Z"}, *events]:
            out.add(each)
    return out.as_fields().get("spend", [])


def test_executions_are_summed_and_one_answer_that_does_not_say_makes_the_sum_unknown():
    price = {"input": 1.0, "output": 10.0}
    [row] = totals([event(1, price=price), event(3, price=price)], [event(2, price=price)])
    assert (row["answers"], row["input_tokens"], row["output_tokens"], row["cost"]) == (5, 5000, 500, 0.01)
    [row] = totals([event(3, 1, price)], [event(2, price=price)])
    assert (row["answers"], row["uncounted"], row["input_tokens"], row["cost"]) == (5, 1, None, None)
    [row] = totals([event(3, price=price)], [])
    assert row["cost"] == 0.006, "a resumed run that asks nothing more"
    assert totals([], []) == []
    rows = totals([event(3, price=price), event(3, price=price, model="n"), event(3, model="o")])
    assert spend_sentences({"spend": rows})[2:] == [
        "o at openai: 3,000 tokens in, 300 out, 3 answers",
        "all priced models: cost 0.0120",
    ]


def test_spending_is_told_as_it_changes_and_only_from_its_beginning(tmp_path):
    with counting() as url:
        speak(url, 1)
        access = [f"seats.user.endpoint={url}", "seats.user.model=m", f"seats.user.price={PRICE}"]
        spending = run_spending(load_scenario(LONG, [*access, "measure.judge=ledger"]))
        speak(url, 2)
        told = list(spending.after([{"event": "usage"}, {"event": "line"}]))
        assert [each["event"] for each in told] == ["usage", "spend", "line"]
        assert told[1]["answers"] == 2 and told[1]["price"] == {"input": 0.5, "output": 2.0}
        assert list(spending.new()) == [] and run_spending(load_scenario(LONG)).prices == {}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([f"seats.user.price={PRICE}"], "expected no price without an endpoint"),
        ([f"measure.llm.price={PRICE}"], "expected no price without an endpoint"),
        (["seats.user.endpoint=openai", "seats.user.price={input: -1, output: 1}"], "greater than or equal to 0"),
        (["seats.user.endpoint=openai", "seats.user.price={input: 1}"], "seats.user.price.output is missing"),
        (["seats.user.endpoint=openai", "seats.user.price=0.5"], "seats.user.price is 0.5; expected a mapping"),
        (
            [f"seats.{seat}.{item}" for seat in ("user", "assistant") for item in ("endpoint=openai", "model=m")]
            + [f"seats.user.price={PRICE}", "seats.assistant.price={input: 1, output: 2}"],
            "expected one price for m at openai, and there are two",
        ),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(items, expected):
    with pytest.raises(ScenarioError) as caught:
        load_scenario(LONG, items)
    assert expected in str(caught.value)


def test_a_price_decides_nothing_of_what_is_said():
    access = ["seats.user.endpoint=openai", "seats.user.model=m"]
    plain, priced = load_scenario(LONG, access), load_scenario(LONG, [*access, f"seats.user.price={PRICE}"])
    assert plain.digest() == priced.digest() and "price" not in plain.resolved_yaml()
