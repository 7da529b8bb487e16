"""The LLM judge in whole runs, over HTTP on loopback: a real server with the embedded engine behind it, and servers
that fail.
"""

from __future__ import annotations

import http.server
import json
import math
import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from commands import (
    LONG,
    NOBODY_TALKS,
    SECRETS,
    SERVE,
    SERVE_TIMEOUT_S,
    answering,
    free_port,
    listening,
    manifest,
    only,
)

from agents.engine.protocol import Sampling
from agents.judge_models import answer_choice
from agents.judge_models.answer_choice import CONSTRAINED, LOGPROBS, EndpointChooser, EngineChooser
from lab.run import main
from metrics.judges import Pair
from metrics.judges.llm import YES_NO, Llm
from scenarios.records import Persona

GRACE = Persona("grace", "Grace", "You live in Osaka. You are a nurse.", ())
ASKED = [
    Pair(0, turn, "user", "prompt_to_line", line, "persona", GRACE)
    for turn, line in enumerate(["I live in Lisbon.", "I am a nurse in Osaka.", "What a day!"])
]
JUDGED = (
    4  # lines of NOBODY_TALKS in 4 turns that are a speaker's own: both callers' two (the host's are the scenario's)
)


# -- a real one


def application(engine, tells: bool):
    """OpenAI's chat completions, as far as a judge uses them, by the embedded engine. `tells`: alternatives of the
    first token, else only a choice among given words.
    """
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    app, turn = FastAPI(), threading.Lock()

    @app.get("/v1/models")
    def models():
        return {"object": "list", "data": [{"id": "embedded", "object": "model", "created": 0, "owned_by": "tests"}]}

    @app.post("/v1/chat/completions")
    def complete(body: dict):
        if body.get("logprobs") and not tells:
            return JSONResponse({"error": {"message": "logprobs are not served"}}, 400)
        form, (system, user) = engine.info().format, (message["content"] for message in body["messages"])
        with turn:
            prompt = engine.encode([form.opening + system + form.after_system + user + form.before_said])[0]
            branch = engine.open([prompt])
            choice = (
                alternatives(engine, branch) if tells else chosen(engine, branch, body["structured_outputs"]["choice"])
            )
            engine.drop(branch)
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "embedded",
            "choices": [{"index": 0, "finish_reason": "length", **choice}],
        }

    return app


def chosen(engine, branch, words) -> dict:
    options = engine.encode(words)
    sums = [sum(logprobs) for logprobs in engine.score(branch, [[((), option) for option in options]])[0]]
    return {"message": {"role": "assistant", "content": words[sums.index(max(sums))]}}


def alternatives(engine, branch) -> dict:
    """The likeliest first token and the ways of beginning YES and NO, with their log-probabilities."""
    fork = engine.fork(branch)
    first = engine.generate(fork, [Sampling(seed=0, max_tokens=1, temperature=0.0)])[0].token_ids[0]
    engine.drop(fork)
    tokens = list(dict.fromkeys([first, *(ids[0] for ids in engine.encode(["YES", "Yes", "NO", "No"]))]))
    logprobs = [sums[0] for sums in engine.score(branch, [[((), [token]) for token in tokens]])[0]]
    texts = engine.decode([[token] for token in tokens])
    ranked = [{"token": text, "logprob": p, "bytes": None} for text, p in zip(texts, logprobs, strict=True)]
    return {
        "message": {"role": "assistant", "content": ranked[0]["token"]},
        "logprobs": {"content": [ranked[0] | {"top_logprobs": ranked}]},
    }


@contextmanager
def serving(engine, tells: bool):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application(engine, tells), port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.config.port}/v1"
    finally:
        server.should_exit = True
        thread.join()


def test_a_choice_made_by_a_server_is_the_one_its_engine_makes_here(embedded):
    here = Llm(EngineChooser(embedded).choose).judge(ASKED)
    with serving(embedded, tells=False) as url:
        asking = EndpointChooser(url, "embedded")
        there = Llm(asking.choose).judge(ASKED)
    assert asking.way == CONSTRAINED
    assert [row.verdict for row in there] == [row.verdict for row in here] and None not in [
        row.verdict for row in there
    ]


def test_alternatives_told_by_a_server_are_read_as_its_engines_first_token(embedded):
    system, user = "You answer.", "Is the sky blue?"
    form = embedded.info().format
    branch = embedded.open(embedded.encode([form.opening + system + form.after_system + user + form.before_said]))
    said = alternatives(embedded, branch)["logprobs"]["content"][0]
    embedded.drop(branch)
    with serving(embedded, tells=True) as url:
        asking = EndpointChooser(url, "embedded")
        logprobs, refused = asking.choose([(system, user)] * 2, [(said["token"], "NO"), ("left", "right")])
    least = min(alternative["logprob"] for alternative in said["top_logprobs"])
    no = [
        math.exp(alternative["logprob"]) for alternative in said["top_logprobs"] if alternative["token"] in ("NO", "No")
    ]
    assert (
        asking.way == LOGPROBS
        and logprobs == pytest.approx([said["logprob"], math.log(sum(no))], abs=1e-3)
        and least < logprobs[1]
    )
    assert refused == f"answered {said['token']!r}, which is none of the options"


# -- whole runs


def verdict(p_yes: float) -> dict:
    top = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in (("YES", p_yes), ("NO", 1 - p_yes))]
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "length",
                "message": {"role": "assistant", "content": "NO"},
                "logprobs": {"content": [top[0] | {"top_logprobs": top}]},
            }
        ],
    }


class Server(http.server.ThreadingHTTPServer):
    """Lists its model, and answers the n-th question with the status and text that `answer(n, request)` gives; status 0
    never comes.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked, self.keys, self.over, self.lock = answer, 0, set(), threading.Event(), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send(
            200,
            json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "tests"}]}),
        )

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked += 1
            number = self.server.asked
            self.server.keys.add(self.headers["authorization"])
        status, text = self.server.answer(number, request)
        if not status:
            self.server.over.wait(30)
        else:
            self.send(status, text)

    def send(self, status, text):
        whole, data = text.encode(), text.removesuffix("CUT").encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(whole)))
        self.send_header("retry-after-ms", "20")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_):
        """Quiet."""


def answers(answer):
    return listening(Server(answer))


def play(monkeypatch, runs: Path, url: str, model: str = "m", timeout_s: float = 1.0) -> tuple[Path, float]:
    """A run judged by a server that is given little time; its folder, and how long it took."""
    monkeypatch.setattr(answer_choice, "EndpointChooser", partial(EndpointChooser, retries=2))
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS["OPENAI_API_KEY"])
    start = time.monotonic()
    assert (
        main(
            [
                LONG,
                *NOBODY_TALKS,
                "turns=4",
                "measure.metrics=[prompt_to_line]",
                "measure.judge=llm",
                "measure.validate=false",
                f"measure.llm.model={model}",
                f"measure.llm.endpoint={url}",
                f"measure.llm.timeout_s={timeout_s}",
                "--runs",
                str(runs),
                "--address",
                "none",
                "--display",
                "plain",
            ]
        )
        == 0
    )
    return only(runs), time.monotonic() - start


GOOD, LATER = (200, json.dumps(verdict(0.1))), (429, json.dumps({"error": {"message": "slow down"}}))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda n, request: GOOD, None, id="good"),
        pytest.param(lambda n, request: LATER if n <= 2 else GOOD, None, id="429 twice, then good"),
        pytest.param(lambda n, request: (200, "<html>It works!</html>"), "the endpoint failed", id="garbage"),
        pytest.param(
            lambda n, request: (200, json.dumps({"choices": [{"message": {"content": "Well, YES and NO."}}]})),
            "answered 'Well, YES and NO.', which is none of the options",
            id="words that are no verdict",
        ),
        pytest.param(lambda n, request: (0, ""), "no answer within 1 s", id="stalls"),
        pytest.param(lambda n, request: LATER, "RateLimitError", id="429 for ever"),
        pytest.param(
            lambda n, request: (200, GOOD[1][:40] + "CUT"), "no answer within 1 s", id="half an answer, then gone"
        ),
        pytest.param(lambda n, request: (200, "[" * 100_000), "the endpoint failed", id="nested without end"),
        pytest.param(lambda n, request: (500, "down"), "InternalServerError", id="500"),
        pytest.param(lambda n, request: (401, "{}"), "AuthenticationError", id="refuses the key"),
    ],
)
def test_a_run_ends_in_time_and_counts_what_its_judge_did_not_say(answer, reason, monkeypatch, tmp_path, capfd):
    with answers(answer) as server:
        run, seconds = play(monkeypatch, tmp_path / "runs", server.url)
        assert server.keys == {f"Bearer {SECRETS['OPENAI_API_KEY']}"}
    assert seconds < 20 and manifest(run)["status"] == "finished"
    rows = pl.read_parquet(run / "judgements.parquet")
    assert rows.height == JUDGED, "no line is lost"
    metrics = pl.read_parquet(run / "metrics.parquet").filter(
        pl.col("level") == "run", pl.col("judge") == "llm", pl.col("seat") == "user"
    )
    values = {name: (value, n) for name, value, n in metrics.select("metric", "value", "n").iter_rows()}
    shown, report = capfd.readouterr(), (run / "report.md").read_text()
    if reason is None:
        assert rows["verdict"].to_list() == [False] * JUDGED and rows["p_inconsistent"].to_list() == pytest.approx(
            [0.1] * JUDGED
        )
        assert values["prompt_to_line"] == (1.0, JUDGED)
    else:
        assert rows["verdict"].null_count() == rows["p_inconsistent"].null_count() == JUDGED
        assert all(reason in why and len(why) < 300 for why in rows["unscored"]), rows["unscored"].to_list()
        assert math.isnan(values["prompt_to_line"][0]) and values["prompt_to_line"][1] == 0, (
            "nobody said that it is consistent"
        )
        assert "| unscored, prompt-to-line | llm | 4 of 4 | – |" in report and f"{JUDGED} unscored" in shown.out
    for output in (shown.out, shown.err, (run / "log.txt").read_text()):
        assert "Traceback" not in output
    for file in run.rglob("*"):
        assert file.is_dir() or SECRETS["OPENAI_API_KEY"].encode() not in file.read_bytes(), file


def test_a_server_that_keeps_failing_is_given_up_and_tried_again_later():
    down = threading.Event()
    down.set()
    with answers(lambda n, request: (503, "down") if down.is_set() else GOOD) as server:
        asking = EndpointChooser(server.url, "m", timeout_s=5, retries=0, pause_s=0.5)
        reasons = asking.choose([("s", f"line {n}") for n in range(200)], [YES_NO] * 200)
        assert server.asked < 50, "most of them did not trouble it"
        assert sum(why.startswith("the endpoint failed: InternalServerError") for why in reasons) == server.asked
        assert sum(why.startswith("not asked, since the endpoint failed") for why in reasons) == 200 - server.asked
        assert all(isinstance(why, str) for why in reasons)
        time.sleep(0.6)
        before = server.asked
        assert isinstance(asking.choose([("s", "again")] * 3, [YES_NO] * 3)[0], str) and server.asked == before + 1, (
            "one tries, and once"
        )
        down.clear()
        time.sleep(0.6)
        assert asking.choose([("s", "at last")], [YES_NO]) == [pytest.approx([math.log(0.1), math.log(0.9)])]
        assert all(
            isinstance(logprobs, list)
            for logprobs in asking.choose([("s", f"line {n}") for n in range(9)], [YES_NO] * 9)
        )


def test_one_prompt_that_a_server_refuses_does_not_change_how_the_others_are_asked():
    refusal = 400, json.dumps({"error": {"message": "too long"}})
    with answers(lambda n, request: refusal if "long" in request["messages"][1]["content"] else GOOD) as server:
        asking = EndpointChooser(server.url, "m", retries=0)
        assert asking.choose([("s", "a long one")], [YES_NO]) == [
            "the endpoint failed: BadRequestError: Error code: 400 - too long"
        ]
        assert (
            asking.choose([("s", "fine")], [YES_NO]) == [pytest.approx([math.log(0.1), math.log(0.9)])]
            and asking.way == LOGPROBS
        )


def test_a_run_is_judged_by_a_real_server(embedded, monkeypatch, tmp_path):
    with serving(embedded, tells=False) as url:
        run, _ = play(monkeypatch, tmp_path / "runs", url, "embedded", timeout_s=60)
    rows = pl.read_parquet(run / "judgements.parquet")
    assert rows["unscored"].to_list() == [None] * JUDGED and set(rows["p_inconsistent"]) <= {0.0, 1.0}


@pytest.mark.slow
def test_a_run_is_judged_by_transformers_serve(monkeypatch, tmp_path):
    """It tells no alternatives and takes no constraint: what it says in words is read, and is a verdict only where it
    is one word.
    """
    from agents.models.loading import local_folder

    model, port = local_folder("embedded"), free_port()
    command = [SERVE, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    with answering(command, f"http://127.0.0.1:{port}/health", tmp_path / "log", environment, SERVE_TIMEOUT_S):
        run, _ = play(monkeypatch, tmp_path / "runs", f"http://127.0.0.1:{port}/v1", model, timeout_s=60)
    rows = pl.read_parquet(run / "judgements.parquet")
    assert rows.height == JUDGED
    assert all(why is None or why.startswith("answered ") for why in rows["unscored"]), rows["unscored"].to_list()
