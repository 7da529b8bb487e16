"""A seat on an OpenAI-compatible server that knows words only (llama.cpp, `transformers serve`, hosted APIs); for one that
knows token ids too, see `agents.served`.

Chat completions carry words, not token ids, and no log-probabilities of words that were not sampled: so lines come back
without ids, and a seat here cannot be asked by forced choice. What it cannot do is unscored, never guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from agents.errors import reason
from agents.protocol import Sampling
from agents.seats import DIRECTION, SPEAKS_FIRST, SPEAKS_ON, Cue, Question, Trouble, Utterance
from agents.sentences import first_sentences
from scenarios.records import derive_seed

OPENAI = "openai"  # in a scenario: the server named by OPENAI_BASE_URL, or OpenAI's own
RETRIES = 4  # of the client, with exponential backoff and jitter
TIMEOUT_S = 120.0
CHECK_TIMEOUT_S = 5.0
AT_ONCE = 16  # requests under way
NO_ANSWER = (AttributeError, IndexError, TypeError, ValueError, RecursionError)  # what the client raises on a page that is no API's answer


def client(endpoint: str, timeout_s: float = TIMEOUT_S, retries: int = RETRIES):
    """An openai client for a base URL. The key is OPENAI_API_KEY; a server that wants none ignores it."""
    from openai import OpenAI

    url = None if endpoint == OPENAI else endpoint
    return OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY") or "none", timeout=timeout_s, max_retries=retries)


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
    """A seat whose words come from a server. `unasked`: why it cannot be asked questions."""

    def __init__(self, endpoint: str, model: str, sampling: Sampling,
                 unasked: str = "chat completions give no log-probabilities of given words") -> None:
        self.model, self.sampling, self.unasked = model, sampling, unasked
        self.client = client(endpoint)
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
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._answer, views, seeds))

    def _answer(self, messages: list[dict[str, str]], seed: int) -> Utterance | Trouble:
        from openai import APIError

        sampling = self.sampling
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
