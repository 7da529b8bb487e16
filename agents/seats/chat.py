"""A seat on an OpenAI-compatible server that knows text only (llama.cpp, `transformers serve`, hosted APIs).

For a server that knows token ids as well, see `agents.servers.engine`. Chat completions carry no token ids and no
log-probabilities of given text, so that lines come back without ids, and multiple-choice questions are unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agents.engine.protocol import Sampling
from agents.engine.sentences import first_sentences
from agents.seats.base import INSTRUCTION, SPEAKS_FIRST, SPEAKS_ON, Cue, Question, Trouble, Utterance
from agents.servers.answers import chat_answer
from agents.servers.client import AT_ONCE, NO_ANSWER, TIMEOUT_S, client, failure, in_time
from agents.servers.parameters import chat
from scenarios.messages import composed
from scenarios.records import derive_seed
from scenarios.scripts import count_words
from scenarios.spoken import spoken_words

CHARACTERS = 100  # of a token, at most: an answer with more of them is no answer of max_tokens


class EndpointSeat:
    """A seat whose lines come from a server.

    `unasked` is the reason why it cannot be asked questions; `timeout_s` is the time limit of a line in seconds,
    including retries; `api_key_env` names the variable of the key; `at_once` is the most requests under way.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        sampling: Sampling,
        unasked: str = "chat completions give no log-probabilities of given words",
        timeout_s: float = TIMEOUT_S,
        api_key_env: str | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self.endpoint, self.model, self.sampling = endpoint, model, sampling
        self.unasked, self.timeout_s, self.at_once = unasked, timeout_s, at_once
        self.api_key_env, self.client = api_key_env, client(endpoint, timeout_s, api_key_env=api_key_env)
        self._messages: dict[int, list[dict[str, str]]] = {}

    def open(self, systems: Mapping[int, str]) -> None:
        self._messages.update({c: [{"role": "system", "content": system}] for c, system in systems.items()})

    def hear(self, heard: Mapping[int, str]) -> None:
        for c, text in heard.items():
            self._add(c, "user", text)

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]:
        views = [_with_cue(self._messages[c], cue) for c, cue in cues.items()]
        said = dict(zip(cues, self._complete(views, list(cues.values())), strict=True))
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

    def answer(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        asked = [(c, question.text) for c, questions_of in questions.items() for question in questions_of]
        views = [_with(self._messages[c], "user", text) for c, text in asked]
        answers = self._complete(views, [replace(cues[c], seed=derive_seed(cues[c].seed, text)) for c, text in asked])
        replies: dict[int, list[str] | Trouble] = {c: [] for c in questions}
        for (c, _), answer in zip(asked, answers, strict=True):
            replied = replies[c]
            if isinstance(answer, Trouble):
                replies[c] = answer
            elif not isinstance(replied, Trouble):
                replied.append(answer.text)
        return replies

    def close(self, conversations: Sequence[int]) -> None:
        for c in conversations:
            self._messages.pop(c, None)

    def _complete(self, views: Sequence[list[dict[str, str]]], cues: Sequence[Cue]) -> list[Utterance | Trouble]:
        return in_time(
            self._answer,
            list(zip(views, cues, strict=True)),
            self.at_once,
            self.timeout_s,
            lambda why: Trouble(f"the endpoint failed: {why}"),
        )

    def _answer(self, asked: tuple[list[dict[str, str]], Cue]) -> Utterance | Trouble:
        from openai import APIError

        (messages, cue), sampling = asked, self.sampling
        try:
            answer = chat(self.client, self.endpoint, self.model, messages, _parameters(sampling, cue.seed))
            read = chat_answer(answer)
        except (APIError, *NO_ANSWER) as error:
            return Trouble(f"the endpoint failed: {failure(self.endpoint, self.api_key_env, error)}")
        if len(read.text) > CHARACTERS * sampling.max_tokens:
            return Trouble(
                f"the endpoint failed: its answer has {len(read.text):,} characters; expected {sampling.max_tokens} "
                "tokens at most"
            )
        words = spoken_words(composed(read.text), cue.speaker)
        thought = read.thought or words.thought
        if not words.text.strip() and (thought or read.finish_reason not in ("stop", None)):
            return Trouble(_no_words(read.finish_reason, thought, sampling.max_tokens))
        text = first_sentences(words.text.strip(), sampling.sentences)
        tokens = count_words(text) if read.tokens is None else read.tokens
        return Utterance(text, tokens, cut=words.cut if text == words.text.strip() else "")

    def _take_the_word(self, conversation: int, cue: Cue) -> None:
        self._messages[conversation] = _with_cue(self._messages[conversation], cue)

    def _add(self, conversation: int, role: str, text: str) -> None:
        self._messages[conversation] = _with(self._messages[conversation], role, text)


def _parameters(sampling: Sampling, seed: int) -> dict[str, int | float]:
    """The parameters of a request, without those that change nothing."""
    return {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": seed % 2**31,
        **({"top_p": sampling.top_p} if sampling.top_p < 1 else {}),
        **({"top_k": sampling.top_k} if sampling.top_k else {}),
    }


def _no_words(finish_reason: str | None, thought: bool, max_tokens: int) -> str:
    """Why an answer without words is none."""
    why = f"finish_reason {finish_reason}"
    if thought and finish_reason == "length":
        why += f", all of max_tokens ({max_tokens}) went into reasoning; expected more max_tokens"
    elif thought:
        why += ", the answer holds reasoning alone"
    return f"no words: {why}"


def _with(messages: list[dict[str, str]], role: str, text: str) -> list[dict[str, str]]:
    """The messages with one more; equal roles in a row are merged, since many servers require alternating roles."""
    if messages[-1]["role"] == role:
        return [*messages[:-1], {"role": role, "content": f"{messages[-1]['content']}\n{text}"}]
    return [*messages, {"role": role, "content": text}]


def _with_cue(messages: list[dict[str, str]], cue: Cue) -> list[dict[str, str]]:
    """The messages, ending with what was heard and then the instruction."""
    silence = {"system": SPEAKS_FIRST, "assistant": SPEAKS_ON}.get(messages[-1]["role"])
    instruction = INSTRUCTION.format(instruction=cue.instruction) if cue.instruction else ""
    if silence:
        return [*messages, {"role": "user", "content": silence + instruction}]
    return [*messages[:-1], {"role": "user", "content": messages[-1]["content"] + instruction}]
