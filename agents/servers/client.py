"""Requests to OpenAI-compatible servers, with time limits, retries of errors that may pass, and several at once."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from agents.servers.answers import model_name
from scenarios.endpoints import OPENAI, PROVIDERS, expected_key, key_of, url_of
from scenarios.messages import reason

RETRIES = 8  # of the client, after 0.5 to 8 s with jitter, or as long as the server's Retry-After says
TIMEOUT_S = 120.0  # for an answer in all: tries and the waits between them
MOST_BYTES = 32 * 2**20  # of a response; 1/64 of that where it is compressed
CHECK_TIMEOUT_S = 5.0
UNLISTED = ("anthropic",)  # it lists its models for another kind of key header only
AT_ONCE = 16  # requests under way
# what the client raises on a page that is no API's answer
NO_ANSWER = (
    AttributeError,
    LookupError,
    ArithmeticError,
    TypeError,
    ValueError,
    RecursionError,  # JSON nested without end
)
_here = threading.local()  # .asked: what the thread asks for
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Asked:
    """A request in progress: its deadline, and the server's last error response."""

    until: float  # by time.monotonic()
    refused: str = ""


def client(endpoint: str, timeout_s: float = TIMEOUT_S, retries: int = RETRIES, api_key_env: str | None = None):
    """An openai client for a provider's name or a base URL, with the key of `scenarios.endpoints.key_of`.

    Raises ValueError where a key is missing.
    """
    from openai import DefaultHttpxClient, OpenAI

    server = OpenAI(
        base_url=url_of(endpoint),
        api_key=key_of(endpoint, api_key_env) or "none",
        timeout=timeout_s,
        max_retries=retries,
        http_client=DefaultHttpxClient(event_hooks={"request": [_hurry], "response": [_note, _bounded]}),
    )
    if endpoint != OPENAI:  # the client sends those of the environment to every server
        server.organization = server.project = None
    return server


def _bounded(response) -> None:
    """Lets at most MOST_BYTES of the response's body be read; more raise ValueError."""
    parts_of, most = response.iter_raw, MOST_BYTES // (64 if "content-encoding" in response.headers else 1)

    def bounded(*arguments, **options):
        size = 0
        for part in parts_of(*arguments, **options):
            size += len(part)
            if size > most:
                raise ValueError(f"the response has more than {most:,} bytes")
            yield part

    response.iter_raw = bounded


def _hurry(request) -> None:
    """Limits a try to the time left. Raises TimeoutError, and sends nothing, where no time is left."""
    if asked := getattr(_here, "asked", None):
        left = asked.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("given up")
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            name: left if limit is None else min(limit, left) for name, limit in limits.items()
        }


def _note(response) -> None:
    if (asked := getattr(_here, "asked", None)) and response.status_code >= 400:
        asked.refused = f"; it was refused with {response.status_code} {response.reason_phrase}".rstrip()


def in_time(
    ask: Callable[[Item], Answer], items: Sequence[Item], at_once: int, limit_s: float, late: Callable[[str], Answer]
) -> list[Answer]:
    """The answer to each item, with `at_once` requests at a time; `late(reason)` where no answer came within `limit_s`
    seconds.

    Late requests are not awaited, since a server may send an answer byte by byte without end. An error of `ask` is
    raised.
    """
    done: SimpleQueue = SimpleQueue()
    waiting, under_way, answers = deque(enumerate(items)), {}, {}

    def answer_item(place: int, item: Item, asked: Asked) -> None:
        _here.asked = asked
        try:
            done.put((place, ask(item), None))
        except Exception as error:  # raised where the answers are waited for
            done.put((place, None, error))

    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            place, item = waiting.popleft()
            under_way[place] = Asked(time.monotonic() + limit_s)
            threading.Thread(target=answer_item, args=(place, item, under_way[place]), daemon=True).start()
        first = min(under_way, key=lambda place: under_way[place].until)
        try:
            place, answer, error = done.get(timeout=max(0.0, under_way[first].until - time.monotonic()))
        except Empty:
            place, answer, error = first, late(f"no answer within {limit_s:g} s{under_way[first].refused}"), None
        if under_way.pop(place, None) is None:
            continue  # it was late
        if error is not None:
            raise error
        answers[place] = answer
    return [answers[place] for place in range(len(items))]


def failure(endpoint: str, api_key_env: str | None, error: Exception) -> str:
    """Why a server gave no answer, in one sentence; where it refused access, with the key that was expected."""
    refused = getattr(error, "status_code", None) == 401
    return reason(error) + (f"; {expected_key(endpoint, api_key_env)}" if refused else "")


def check(endpoint: str, model: str, api_key_env: str | None = None) -> None:
    """Raises ValueError where a server does not answer, refuses access, or does not have the model, or a key is
    missing.
    """
    from openai import APIStatusError, OpenAIError

    server = client(endpoint, CHECK_TIMEOUT_S, 0, api_key_env)
    if endpoint in UNLISTED:
        return
    try:
        served = [name for entry in server.models.list() if (name := model_name(entry.id))]
    except APIStatusError as error:
        if error.status_code in (401, 403):
            raise ValueError(
                f"endpoint {endpoint} refuses us ({reason(error)}); {expected_key(endpoint, api_key_env)}"
            ) from None
        if error.status_code == 404 and endpoint not in PROVIDERS and not endpoint.rstrip("/").endswith("/v1"):
            raise ValueError(
                f"endpoint {endpoint} has no models to list; did you mean {endpoint.rstrip('/')}/v1?"
            ) from None
        return  # it is there, and some servers list no models
    except (OpenAIError, *NO_ANSWER) as error:
        raise ValueError(
            f"endpoint {endpoint} does not answer ({reason(error)}); expected an OpenAI-compatible server, "
            "such as http://127.0.0.1:8000/v1"
        ) from None
    if served and model not in served and not os.path.isdir(model):
        raise ValueError(
            f"endpoint {endpoint} does not serve model {model!r}; it serves {', '.join(sorted(served)[:5])}"
        )
