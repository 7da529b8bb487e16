"""Answers of servers with values of any type: what is read is of the right type, or refused with TypeError or
ValueError.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from odd_inputs import fuzzed, replaced, result, spoilt
from openai._models import construct_type
from openai.types import Completion
from openai.types.chat import ChatCompletion

from agents.engine.protocol import Sampling
from agents.judge_models.answer_choice import LOGPROBS, WORDS, EndpointChooser, _read, has_thought
from agents.seats.base import Cue, Trouble, Utterance
from agents.seats.chat import EndpointSeat
from agents.servers.answers import (
    chat_answer,
    count,
    model_name,
    prompt_logprobs,
    sampled,
    tokens_computed,
    well_formed,
)
from metrics.judges.llm import YES_NO, softmax
from scenarios.scripts import count_words

TOKEN = {"token": "YES", "logprob": -0.1, "bytes": None}
CHAT = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "YES", "reasoning_content": None},
            "logprobs": {"content": [{**TOKEN, "top_logprobs": [TOKEN, {**TOKEN, "token": "NO"}]}]},
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
SAMPLED = {
    "id": "x",
    "object": "text_completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": "a",
            "finish_reason": "stop",
            "token_ids": [1, 2],
            "logprobs": {"token_logprobs": [-0.1, -0.2]},
            "prompt_logprobs": [None, {"7": {"logprob": -0.5}}],
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}


@fuzzed(spoilt(CHAT))
def test_a_chat_answer_is_read_as_what_can_be_stored_or_refused(body):
    answer = result(lambda: chat_answer(construct_type(type_=ChatCompletion, value=body)), TypeError)
    if answer is None:
        return
    answer.text.encode()
    assert answer.tokens is None or (type(answer.tokens) is int and 0 <= answer.tokens <= 10**9)
    assert answer.finish_reason is None or answer.finish_reason.isprintable()
    assert isinstance(has_thought(answer), bool)
    for way in (LOGPROBS, WORDS):
        shares = _read(answer, YES_NO, way)
        if isinstance(shares, list):
            p = softmax(shares)
            assert isinstance(p, str) or sum(p) == pytest.approx(1)
        else:
            (shares or "").encode()


@fuzzed(spoilt(SAMPLED))
def test_a_sampled_answer_is_read_as_token_ids_and_nats_or_refused(body):
    answer = construct_type(type_=Completion, value=body)
    usage = tokens_computed(getattr(answer, "usage", None))
    assert type(usage) is int and 0 <= usage <= 2 * 10**9
    choices = getattr(answer, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    for read in (lambda: sampled(choice).logprobs, lambda: prompt_logprobs([7], choice)):
        nats = result(read, TypeError) or ()
        assert all(type(p) is float and -math.inf < p <= 0 for p in nats)


def odd_server(body) -> SimpleNamespace:
    """A client whose every answer is that JSON."""
    create = lambda **_: construct_type(type_=ChatCompletion, value=body)  # noqa: E731
    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


@pytest.mark.parametrize(
    ("path", "odd", "why"),
    [
        (("choices",), {}, "choices is of type dict"),
        (("choices",), [], "choices is of type list; expected a list with an answer"),
        (("choices",), "no", "choices is of type str"),
        (("choices", 0), 7, "message is None"),
        (("choices", 0, "message"), ["no"], "message is of type list"),
        (("choices", 0, "message", "content"), 10**400, "content is of type int"),
        ((), "no JSON", "choices is None"),
    ],
)
def test_an_answer_of_the_wrong_type_is_trouble_for_one_line_and_a_reason_for_one_judgement(path, odd, why):
    seat, chooser = EndpointSeat("vllm", "m", Sampling(0)), EndpointChooser("vllm", "m")
    seat.client = chooser.client = odd_server(replaced(CHAT, path, odd))
    said = seat._answer(([{"role": "user", "content": "Hi."}], Cue("", 1)))
    assert isinstance(said, Trouble) and why in said.reason
    assert why in chooser._choose((("s", "u"), YES_NO))


@pytest.mark.parametrize("odd", ["many", 1e30, math.nan, -3, None])
def test_a_count_of_tokens_that_is_none_is_the_number_of_words(odd):
    seat = EndpointSeat("vllm", "m", Sampling(0))
    body = replaced(CHAT, ("choices", 0, "message", "content"), "I am well.\ud83d")
    seat.client = odd_server(replaced(body, ("usage", "completion_tokens"), odd))
    said = seat._answer(([{"role": "user", "content": "Hi."}], Cue("", 1)))
    assert isinstance(said, Utterance) and said.text == "I am well.\ufffd" and said.tokens == count_words(said.text)


def test_answers_as_they_should_be_are_read():
    answer = chat_answer(construct_type(type_=ChatCompletion, value=CHAT))
    assert (answer.text, answer.thought, answer.finish_reason, answer.tokens) == ("YES", False, "stop", 2)
    assert answer.alternatives == (("YES", -0.1), ("NO", -0.1))
    answer = construct_type(type_=Completion, value=SAMPLED)
    assert sampled(answer.choices[0]).token_ids == (1, 2) and tokens_computed(answer.usage) == 5 - 1 + 2 - 1
    assert prompt_logprobs([7], answer.choices[0]) == [-0.5] and prompt_logprobs([], answer.choices[0]) == []


@pytest.mark.parametrize(
    ("value", "tokens"),
    [(0, 0), (7, 7), (7.0, 7), *((odd, None) for odd in ("7", 1e30, 10**400, math.nan, -1, True, None, [7], 7.5))],
)
def test_a_count_is_a_whole_number_within_bounds(value, tokens):
    assert count(value) == tokens


def test_lone_surrogates_are_replaced_and_names_are_printable_text():
    assert well_formed("a\ud83d b") == "a\ufffd b" and well_formed("\ud83d\ude00é") == "\U0001f600é"
    assert [model_name(name) for name in ("m", "", 7, None, ["m"], "a\x1b[31m")] == ["m", None, None, None, None, None]
