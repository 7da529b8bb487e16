"""A server that refuses a parameter is asked again without it: error responses as servers write them, and a server on
loopback.
"""

from __future__ import annotations

import http.server
import json
from contextlib import contextmanager

import pytest
from commands import LONG, events, inside, listening, manifest, only

from agents.engine.protocol import Sampling
from agents.judge_models.answer_choice import WORDS, EndpointChooser
from agents.seats.base import Cue, Trouble, Utterance
from agents.seats.chat import EndpointSeat
from agents.servers.parameters import named_parameters, refusal_notice, refused_parameters
from lab.dialogue.notices import judge_notices, run_notices
from lab.run import main
from metrics.judges.llm import YES_NO
from scenarios.scenario import load_scenario
from scenarios.schema import LlmConfig, Measure

SENT = ("temperature", "max_tokens", "seed", "top_p", "top_k", "logprobs", "top_logprobs", "guided_choice")


def error(message: str, **more) -> str:
    return json.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("response", "named"),
    [
        (  # OpenAI
            error(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
            ["max_tokens"],
        ),
        (
            error(
                "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) value is "
                "supported.",
                param="temperature",
            ),
            ["temperature"],
        ),
        (error("Unrecognized request argument supplied: top_k", param=None), ["top_k"]),
        (error("This model does not support the 'logprobs' parameter.", param=None), ["logprobs"]),
        (error("You are not allowed to request logprobs from this model", param=None), ["logprobs"]),
        # Anthropic, and the same through LiteLLM and OpenRouter
        (error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."), ["top_p"]),
        (error("`temperature` is deprecated for this model."), ["temperature"]),
        (
            error(
                'litellm.BadRequestError: AnthropicException - b\'{"type":"error","error":{"message":"`temperature` is '
                "deprecated for this model.\"}}'. Received Model Group=claude",
                param=None,
            ),
            ["temperature"],
        ),
        (
            error("Provider returned error", metadata={"raw": error("Unsupported parameter", param="seed")}),
            ["seed"],
        ),
        # LiteLLM itself, vLLM, Mistral, FastAPI, transformers serve
        (error("litellm.UnsupportedParamsError: ollama does not support parameters: ['logprobs']"), ["logprobs"]),
        (
            json.dumps({"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs'}]"}),
            ["top_k"],
        ),
        (
            json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no", "input": 5}]}),
            ["seed"],
        ),
        (json.dumps({"detail": "Unexpected keys in the request: {'top_k'}"}), ["top_k"]),
        (
            json.dumps(
                {
                    "detail": [
                        {
                            "loc": ["body"],
                            "msg": "Value error, top_logprobs needs logprobs",
                            "input": {"temperature": 0, "seed": 0},
                        }
                    ]
                }
            ),
            ["logprobs", "top_logprobs"],
        ),
        # Gemini, xAI
        (
            json.dumps([{"error": {"message": 'Unknown name "seed": Cannot find field.\nUnknown name "top_k": no.'}}]),
            ["seed", "top_k"],
        ),
        (error("Argument not supported on this model: topK"), ["top_k"]),
        # no parameter is refused
        (
            error(
                "'max_tokens' or 'max_completion_tokens' is too large: 48. This model's maximum context length is 40.",
                param="max_tokens",
            ),
            [],
        ),
        (error("Could not finish the message because max_tokens or model output limit was reached."), []),
        (error("The model is not loaded."), []),
        ("x" * 10_000 + error("no", param="seed"), []),
        ("", []),
    ],
)
def test_a_refused_parameter_is_named_in_the_forms_of_many_servers(response, named):
    assert named_parameters(response, SENT) == named


class Strict(http.server.BaseHTTPRequestHandler):
    """A server that knows the parameters of `server.known` only, and answers the others with 400."""

    def do_GET(self):
        self.send(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/chat/completions"):
            return self.send(404, {"error": {"message": "no such route"}})
        self.server.asked.append(asked)
        for name in asked.keys() - {"model", "messages", *self.server.known}:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            message = f"Unsupported parameter: '{name}' is not supported.{hint}"
            return self.send(400, {"error": {"message": message, "param": name}})
        message = {"role": "assistant", "content": "NO"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self.send(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})

    def send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def strict(*known: str):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strict)
    server.known, server.asked = known, []
    with listening(server):
        yield server, f"http://127.0.0.1:{server.server_port}/v1"


def said(url: str, sampling: Sampling) -> Utterance | Trouble:
    seat = EndpointSeat(url, "m", sampling)
    seat.open({0: "You are Ann."})
    return seat.speak({0: Cue("", 1)})[0]


def test_what_a_server_refuses_is_left_out_or_renamed_and_remembered_for_its_other_seats():
    with strict("max_completion_tokens", "top_k") as (server, url):
        assert said(url, Sampling(0, max_tokens=7)).text == "NO"
        first = server.asked.pop()
        assert first.keys() == {"model", "messages", "max_completion_tokens", "top_k"}
        assert (first["max_completion_tokens"], first["top_k"]) == (7, 50)
        server.asked.clear()
        assert said(url, Sampling(1, max_tokens=7, top_k=0)).text == "NO"
        assert [asked.keys() for asked in server.asked] == [{"model", "messages", "max_completion_tokens"}]
    assert set(refused_parameters(url, "m")) == {"max_tokens", "temperature", "seed"}
    assert refused_parameters(url, "other") == () and refusal_notice(url, "other") == ""
    notice = refusal_notice(url, "m")
    assert f"m at {url} refuses" in notice and "max_completion_tokens is sent in place of max_tokens" in notice
    assert "temperature, seed are left out" in notice or "seed, temperature are left out" in notice


def test_a_seat_sends_no_top_p_of_1_and_no_top_k_of_0():
    with strict("temperature", "max_tokens", "seed", "top_p") as (server, url):
        said(url, Sampling(0, top_k=0))
        said(url, Sampling(0, top_k=0, top_p=0.5))
        assert [asked.get("top_p") for asked in server.asked] == [None, 0.5]
        assert all("top_k" not in asked for asked in server.asked) and refusal_notice(url, "m") == ""


def test_what_a_server_refuses_for_no_named_reason_is_trouble_and_remembered_by_nobody():
    with strict() as (_, url):
        answer = said(url, Sampling(0))
        assert isinstance(answer, Trouble) and "max_completion_tokens" in answer.reason
        assert refused_parameters(url, "m") == (), "no request was answered"


def test_a_judge_leaves_out_what_a_server_refuses_and_goes_on_where_log_probabilities_are_refused():
    with strict("max_completion_tokens") as (server, url):
        chooser = EndpointChooser(url, "m")
        assert chooser.choose([("s", "u"), ("s", "v")], [YES_NO, YES_NO])[0][1] == 0.0 and chooser.way == WORDS
        server.asked.clear()
        chooser.choose([("s", "w")], [YES_NO])
        assert [asked.keys() for asked in server.asked] == [{"model", "messages", "max_completion_tokens"}]
        llm = Measure(judge=["llm"], llm=LlmConfig(endpoint=url, model="m"))
        notices = judge_notices(llm)
        assert [event["event"] for event in notices.after([{"event": "usage"}])] == ["usage", "notice"]
        assert list(notices.new()) == [], "each is told once"


def test_a_run_tells_once_what_its_server_refuses(tmp_path):
    with strict("max_completion_tokens") as (_, url):
        options = [f"seats.user.endpoint={url}", "seats.user.model=m", 'seats.assistant.script=["Hello."]']
        done = inside(
            main,
            LONG,
            *options,
            "conversations=2",
            "turns=4",
            "measure.judge=ledger",
            "measure.metrics=[prompt_to_line]",
            "--address",
            "none",
            "--display",
            "plain",
            "--runs",
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
        notices = [event["detail"] for event in events(only(tmp_path), "notice")]
        assert notices == [refusal_notice(url, "m")] == manifest(only(tmp_path))["notices"]
        assert f"notice: {notices[0]}" in done.stdout and done.stdout.count("is sent in place of") == 2
        report = (only(tmp_path) / "report.md").read_text()
        assert "is sent in place of" in report
        assert run_notices(load_scenario(LONG)).served == ()
