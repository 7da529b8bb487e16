"""A seat on an OpenAI-compatible server that knows words only (llama.cpp, `transformers serve`, hosted APIs); for one that
knows token ids too, see `agents.served`.

Chat completions carry words, not token ids, and no log-probabilities of words that were not sampled: so lines come back
without ids, and a seat here cannot be asked by forced choice. What it cannot do is unscored, never guessed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from agents.errors import reason
from agents.protocol import Sampling
from agents.seats import DIRECTION, SPEAKS_FIRST, SPEAKS_ON, Cue, Question, Trouble, Utterance
from agents.sentences import first_sentences
from scenarios.records import derive_seed

OPENAI = "openai"  # in a scenario: the server named by OPENAI_BASE_URL, or OpenAI's own
RETRIES = 8  # of the client, after 0.5 to 8 s with jitter, or as long as the server's Retry-After says
TIMEOUT_S = 120.0  # for an answer in all: tries and the waits between them
CHECK_TIMEOUT_S = 5.0
AT_ONCE = 16  # requests under way
NO_ANSWER = (AttributeError, IndexError, TypeError, ValueError, RecursionError)  # what the client raises on a page that is no API's answer
_here = threading.local()  # .asked: what the thread asks for

Item, Answer = TypeVar("Item"), TypeVar("Answer")


@dataclass
class Asked:
    """Something that is asked of a server: when it is given up, and what the server refused it with last."""

    until: float  # by time.monotonic()
    refused: str = ""


def client(endpoint: str, timeout_s: float = TIMEOUT_S, retries: int = RETRIES):
    """An openai client for a base URL. The key is OPENAI_API_KEY; a server that wants none ignores it."""
    from openai import DefaultHttpxClient, OpenAI

    url = None if endpoint == OPENAI else endpoint
    return OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY") or "none", timeout=timeout_s, max_retries=retries,
                  http_client=DefaultHttpxClient(event_hooks={"request": [_hurry], "response": [_note]}))


def _hurry(request) -> None:
    """A try takes no longer than is left for the answer; TimeoutError, and nothing is sent, where nothing is left."""
    if asked := getattr(_here, "asked", None):
        left = asked.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("given up")
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {name: left if limit is None else min(limit, left) for name, limit in limits.items()}


def _note(response) -> None:
    if (asked := getattr(_here, "asked", None)) and response.status_code >= 400:
        asked.refused = f"; it was refused with {response.status_code} {response.reason_phrase}".rstrip()


def in_time(ask: Callable[[Item], Answer], items: Sequence[Item], at_once: int, limit_s: float, late: Callable[[str], Answer]
            ) -> list[Answer]:
    """What each item is answered, so many asked at once; `late(why)` where that took longer than the limit.

    Nobody waits for what is late: its thread is left to itself, since a server may send an answer a byte at a time for ever.
    """
    done: SimpleQueue = SimpleQueue()
    waiting, under_way, found = deque(enumerate(items)), {}, {}

    def one(place: int, item: Item, asked: Asked) -> None:
        _here.asked = asked
        try:
            done.put((place, ask(item), None))
        except Exception as error:  # raised where the answers are waited for
            done.put((place, None, error))

    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            place, item = waiting.popleft()
            under_way[place] = Asked(time.monotonic() + limit_s)
            threading.Thread(target=one, args=(place, item, under_way[place]), daemon=True).start()
        first = min(under_way, key=lambda place: under_way[place].until)
        try:
            place, answer, error = done.get(timeout=max(0.0, under_way[first].until - time.monotonic()))
        except Empty:
            place, answer, error = first, late(f"no answer within {limit_s:g} s{under_way[first].refused}"), None
        if under_way.pop(place, None) is None:
            continue  # it was late
        if error is not None:
            raise error
        found[place] = answer
    return [found[place] for place in range(len(items))]


def check(endpoint: str, model: str) -> None:
    """Refuse a server that does not answer, does not let us in, or does not have the model. ValueError says which."""
    from openai import APIStatusError, OpenAIError

    try:
        served = [entry.id for entry in client(endpoint, CHECK_TIMEOUT_S, 0).models.list()]
    except APIStatusError as error:
        if error.status_code in (401, 403):
            raise ValueError(f"endpoint {endpoint} refuses us ({reason(error)}); expected a key in OPENAI_API_KEY") from None
        if error.status_code == 404 and not endpoint.rstrip("/").endswith("/v1"):
            raise ValueError(f"endpoint {endpoint} has no models to list; did you mean {endpoint.rstrip('/')}/v1?") from None
        return  # it is there, and some servers list no models
    except (OpenAIError, *NO_ANSWER) as error:
        raise ValueError(f"endpoint {endpoint} does not answer ({reason(error)}); expected an OpenAI-compatible server, "
                         "such as http://127.0.0.1:8000/v1") from None
    if served and model not in served and not os.path.isdir(model):
        raise ValueError(f"endpoint {endpoint} does not serve model {model!r}; it serves {', '.join(sorted(served)[:5])}")


class EndpointSeat:
    """A seat whose words come from a server. `unasked`: why it cannot be asked questions; `timeout_s`: for a line in all, after which
    there is none."""

    def __init__(self, endpoint: str, model: str, sampling: Sampling,
                 unasked: str = "chat completions give no log-probabilities of given words", timeout_s: float = TIMEOUT_S) -> None:
        self.model, self.sampling, self.unasked, self.timeout_s = model, sampling, unasked, timeout_s
        self.client = client(endpoint, timeout_s)
        self._messages: dict[int, list[dict[str, str]]] = {}

    def open(self, systems: Mapping[int, str]) -> None:
        self._messages.update({c: [{"role": "system", "content": system}] for c, system in systems.items()})

    def hear(self, heard: Mapping[int, str]) -> None:
        for c, text in heard.items():
            self._add(c, "user", text)

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]:
        views = [_with_cue(self._messages[c], cue) for c, cue in cues.items()]
        said = dict(zip(cues, self._complete(views, [cue.seed for cue in cues.values()]), strict=True))
        for c, utterance in said.items():
            if isinstance(utterance, Utterance):
                self._take_the_word(c, cues[c])
                self._add(c, "assistant", utterance.text)
        return said

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        for c, utterance in said.items():
            self._take_the_word(c, cues[c])
            self._add(c, "assistant", utterance.text)
        return dict(said)

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        return dict.fromkeys(questions, Trouble(self.unasked))

    def tell(self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]) -> dict[int, list[str] | Trouble]:
        asked = [(c, question.text) for c, some in questions.items() for question in some]
        views = [_with(self._messages[c], "user", text) for c, text in asked]
        answers = self._complete(views, [derive_seed(cues[c].seed, text) for c, text in asked])
        found: dict[int, list[str] | Trouble] = {c: [] for c in questions}
        for (c, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Trouble) or isinstance(found[c], Trouble):
                found[c] = answer if isinstance(answer, Trouble) else found[c]
            else:
                found[c].append(answer.text)
        return found

    def close(self, conversations: Sequence[int]) -> None:
        for c in conversations:
            self._messages.pop(c, None)

    def _complete(self, views: Sequence[list[dict[str, str]]], seeds: Sequence[int]) -> list[Utterance | Trouble]:
        return in_time(self._answer, list(zip(views, seeds, strict=True)), AT_ONCE, self.timeout_s,
                       lambda why: Trouble(f"the endpoint failed: {why}"))

    def _answer(self, asked: tuple[list[dict[str, str]], int]) -> Utterance | Trouble:
        from openai import APIError

        (messages, seed), sampling = asked, self.sampling
        try:
            answer = self.client.chat.completions.create(
                model=self.model, messages=messages, temperature=sampling.temperature,
                top_p=sampling.top_p, max_tokens=sampling.max_tokens, seed=seed % 2**31)
            said = answer.choices[0].message.content or ""
        except (APIError, *NO_ANSWER) as error:
            return Trouble(f"the endpoint failed: {reason(error)}")
        text = first_sentences(said.strip(), sampling.sentences)
        tokens = answer.usage.completion_tokens if answer.usage else len(text.split())
        return Utterance(text, tokens)

    def _take_the_word(self, conversation: int, cue: Cue) -> None:
        self._messages[conversation] = _with_cue(self._messages[conversation], cue)

    def _add(self, conversation: int, role: str, text: str) -> None:
        self._messages[conversation] = _with(self._messages[conversation], role, text)


def _with(messages: list[dict[str, str]], role: str, text: str) -> list[dict[str, str]]:
    """The messages and one more; many servers insist that roles alternate."""
    if messages[-1]["role"] == role:
        return [*messages[:-1], {"role": role, "content": f"{messages[-1]['content']}\n{text}"}]
    return [*messages, {"role": role, "content": text}]


def _with_cue(messages: list[dict[str, str]], cue: Cue) -> list[dict[str, str]]:
    """The messages, ending with what is heard, the direction at its end."""
    silence = {"system": SPEAKS_FIRST, "assistant": SPEAKS_ON}.get(messages[-1]["role"])
    direction = DIRECTION.format(direction=cue.direction) if cue.direction else ""
    if silence:
        return [*messages, {"role": "user", "content": silence + direction}]
    return [*messages[:-1], {"role": "user", "content": messages[-1]["content"] + direction}]
