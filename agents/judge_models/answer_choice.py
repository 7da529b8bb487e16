"""A choice among a few answers: by an engine's likelihoods, or by what a server returns.

`choose(prompts, options)` takes prompts (system text, user text) and returns, for each prompt, one log-probability in
nats per option, up to a common offset, or the reason why there is none. An answer that is none of the options gives
such a reason.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Sequence

from agents.engine.protocol import Engine, Sampling
from agents.servers.answers import ChatAnswer, chat_answer
from agents.servers.client import AT_ONCE, NO_ANSWER, RETRIES, TIMEOUT_S, client, failure, in_time
from agents.servers.parameters import NeededParameter, chat
from scenarios.messages import reason
from scenarios.spoken import opens_thought, without_thoughts

Prompt = tuple[str, str]
SYSTEMS_AT_ONCE = 16  # system texts kept open at a time
TOP = 20  # the most alternatives that servers return for a token
ENOUGH = 0.5  # of the first token's probability that the options must hold, else the model meant to say something else
GIVE_UP = 16  # failures in a row after which a server is given up for a while
PAUSE_S = 60.0  # that while
MOST_TOKENS = 12  # of an answer in words
LOGPROBS, CONSTRAINED, WORDS, THINKING = range(4)  # how a server is asked, best first
# of the usual templates
_CONTROL = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_LETTER = re.compile(r"[^\W_]")
CUT_OFF = "cut off within a thought"
OUT_OF_ROOM = "output limit was reached"  # OpenAI's words where a thought took all tokens
ROOM_TO_THINK = 2048  # tokens of an answer of a model that thinks first


class EngineChooser:
    """The log-probability of each option as the complete answer; a system text is read once for all its prompts.

    Where the chat template opens a thought before the answer, the model thinks first, for at most `room` tokens, and
    its answer is read after.
    """

    def __init__(self, engine: Engine, adapter: str | None = None, room: int = ROOM_TO_THINK) -> None:
        self.engine, self.adapter, self.room = engine, adapter, room
        self._thinks = opens_thought(engine.info().format.before_said)

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[float] | str]:
        """For each prompt, one log-probability in nats per option, or the reason why there is none."""
        info = self.engine.info()
        form, place_of = (
            info.format,
            {
                word: place
                for place, word in enumerate(
                    dict.fromkeys(word for words_of_prompt in options for word in words_of_prompt)
                )
            },
        )
        words = self.engine.encode([form.lead + word for word in place_of])
        users = self.engine.encode([form.first(user) + form.before_said for _, user in prompts])
        answers = [[words[place_of[word]] for word in words_of_prompt] for words_of_prompt in options]
        systems = list(dict.fromkeys(system for system, _ in prompts))
        heads = dict(
            zip(
                systems,
                self.engine.encode([form.beginning(system) for system in systems]),
                strict=True,
            )
        )
        results: list[list[float] | str] = [""] * len(prompts)
        by_system: dict[str, list[int]] = {}
        for place, ((system, _), given) in enumerate(zip(prompts, users, strict=True)):
            length = len(heads[system]) + len(given) + (1 if self._thinks else max(map(len, answers[place])))
            if length > info.context:
                results[place] = (
                    f"the prompt of {length} tokens does not fit: {info.model} reads at most {info.context}"
                )
            else:
                by_system.setdefault(system, []).append(place)
        for start in range(0, len(by_system), SYSTEMS_AT_ONCE):
            words_of_prompt = dict(list(by_system.items())[start : start + SYSTEMS_AT_ONCE])
            branches = self.engine.open([heads[system] for system in words_of_prompt], self.adapter)
            if self._thinks:
                own = [
                    (branch, place)
                    for branch, of in zip(branches, words_of_prompt.values(), strict=True)
                    for place in of
                ]
                for place, text in self._thought_through([(branch, users[place], place) for branch, place in own]):
                    results[place] = spoken(text, options[place], thinking=True)
                self.engine.drop(branches)
                continue
            scores = self.engine.score(
                branches,
                [
                    [(users[place], answer) for place in places for answer in answers[place]]
                    for places in words_of_prompt.values()
                ],
            )
            self.engine.drop(branches)
            for places, by_option in zip(words_of_prompt.values(), scores, strict=True):
                sums = iter([sum(logprobs) for logprobs in by_option])
                for place in places:
                    results[place] = [next(sums) for _ in answers[place]]
        return results

    def _thought_through(self, asked: Sequence[tuple[int, list[int], int]]) -> list[tuple[int, str]]:
        """(place, answer with its thought) for each (branch, ids of the question, place), greedily sampled."""
        forks = self.engine.fork([branch for branch, _, _ in asked])
        self.engine.extend(forks, [ids for _, ids, _ in asked])
        samples = self.engine.generate(forks, [Sampling(seed=0, max_tokens=self.room, temperature=0.0)] * len(forks))
        self.engine.drop(forks)
        texts = self.engine.decode([sample.token_ids for sample in samples])
        return [
            (place, sample.trouble or text) for (_, _, place), sample, text in zip(asked, samples, texts, strict=True)
        ]


class EndpointChooser:
    """The choice of an OpenAI-compatible server.

    It uses the alternatives of the first token where the server returns them; else an answer constrained to the options
    (vLLM); else a free answer, which has to be one of the options. Where the server refuses one way, the next is tried,
    and the way that works is kept. A server whose model thinks first is asked for words, with room for the thought.

    The client retries timeouts, 429 and 5xx for up to `timeout_s` seconds in all. A request that fails gives a reason,
    and the others continue. After `GIVE_UP` failures in a row the server is not asked for `pause_s` seconds; then one
    question tests it once.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        pause_s: float = PAUSE_S,
        api_key_env: str | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self.endpoint, self.model, self.api_key_env = endpoint, model, api_key_env
        self.client, self.at_once, self.way = client(endpoint, timeout_s, retries, api_key_env), at_once, LOGPROBS
        self.timeout_s, self.pause_s = timeout_s, pause_s
        self._lock, self._failures, self._again, self._why = threading.Lock(), 0, 0.0, ""

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[float] | str]:
        """For each prompt, one log-probability in nats per option, or the reason why there is none."""
        asked = list(zip(prompts, options, strict=True))
        return in_time(self._choose, asked, self.at_once, self.timeout_s, self._failed)

    def _choose(self, asked: tuple[Prompt, Sequence[str]]) -> list[float] | str:
        from openai import APIError, BadRequestError, UnprocessableEntityError

        prompt, options = asked
        with self._lock:
            if given_up := self._failures >= GIVE_UP:
                if time.monotonic() < self._again:
                    return f"not asked, since the endpoint failed {self._failures} times in a row: {self._why}"
                self._again = time.monotonic() + self.pause_s  # this question tries it, the others wait
        server = self.client.with_options(max_retries=0) if given_up else self.client
        refused, way = "", self.way
        while way <= THINKING:
            try:
                answer = chat_answer(self._answer(server, prompt, options, way))
                shares = _read(answer, options, way)
            except (BadRequestError, UnprocessableEntityError, NeededParameter) as error:
                refused = reason(error)
                out_of_room = way == WORDS and OUT_OF_ROOM in refused
                way += 1 if way < WORDS or out_of_room else 2
                continue
            except (APIError, *NO_ANSWER) as error:
                return self._failed(failure(self.endpoint, self.api_key_env, error))
            if shares is CUT_OFF:
                way = THINKING
            elif shares is None:
                way += 1
            else:
                with self._lock:
                    self.way, self._failures = (
                        max(self.way, way if way < THINKING or has_thought(answer) else LOGPROBS),
                        0,
                    )
                return shares
        return f"the endpoint failed: {refused}"

    def _failed(self, why: str) -> str:
        with self._lock:
            self._failures, self._again, self._why = self._failures + 1, time.monotonic() + self.pause_s, why
        return f"the endpoint failed: {why}"

    def _answer(self, server, prompt: Prompt, options: Sequence[str], way: int):
        system, user = (_CONTROL.sub(" ", text) for text in prompt)
        by_way = {
            LOGPROBS: {"logprobs": True, "top_logprobs": TOP},
            CONSTRAINED: {"structured_outputs": {"choice": list(options)}, "guided_choice": list(options)},
        }.get(way, {})
        room = {LOGPROBS: 1, THINKING: ROOM_TO_THINK}.get(way, MOST_TOKENS)
        return chat(
            server,
            self.endpoint,
            self.model,
            [{"role": "system", "content": system}, {"role": "user", "content": user}],
            {"temperature": 0, "seed": 0, "max_tokens": room, **by_way},
            by_way,
        )


def _read(answer: ChatAnswer, options: Sequence[str], way: int) -> list[float] | str | None:
    """The shares of the options in a server's answer, or why there are none; None where it has to be asked another
    way, and CUT_OFF where it ended within a thought, or may have.
    """
    thought, words = has_thought(answer), without_thoughts(answer.text).strip()
    begun = words.casefold()
    cut_off = way != THINKING and answer.finish_reason == "length"
    cut_off = cut_off and (thought or "<think>".startswith(begun) or "[think]".startswith(begun))
    if way == LOGPROBS:
        shares = None if thought else first_token(answer, options)
        return CUT_OFF if cut_off and not isinstance(shares, list) else shares
    if cut_off:
        return CUT_OFF
    if thought and not words:
        return f"thought and gave no answer (finish_reason {answer.finish_reason})"
    return spoken(answer.text, options)


def has_thought(answer: ChatAnswer) -> bool:
    """Whether a server's answer holds a thought, in its text or beside it."""
    return answer.thought or without_thoughts(answer.text) is not answer.text


def first_token(answer: ChatAnswer, options: Sequence[str]) -> list[float] | str | None:
    """The log-probability of each option from the alternatives of the answer's first token; None without alternatives.

    A token counts for the one option that it equals or begins, ignoring case. An option without a matching alternative
    gets the smallest log-probability listed, an upper bound. Where the options hold less than `ENOUGH` probability, the
    reason is returned.
    """
    if not answer.alternatives:
        return None
    least, mass = min(logprob for _, logprob in answer.alternatives), [0.0] * len(options)
    for text, logprob in answer.alternatives:
        token = text.replace("▁", " ").replace("Ġ", " ").strip().casefold()
        meant = [place for place, option in enumerate(options) if token and option.casefold().startswith(token)]
        if len(meant) == 1:
            mass[meant[0]] += math.exp(logprob)
    if not sum(mass) >= ENOUGH:
        return _answered(answer.alternatives[0][0])
    return [math.log(share) if share else least for share in mass]


def spoken(text: str, options: Sequence[str], thinking: bool = False) -> list[float] | str:
    """0 for the option that the whole answer equals and -inf for the others; a reason where it equals none of them.

    Case, surrounding punctuation and blanks, and a model's thought before the answer are ignored; with `thinking`, the
    text begins inside one.
    """
    answer = without_thoughts(text, thinking)
    first, last = _LETTER.search(answer), _LETTER.search(answer[::-1])
    said = answer[first.start() : len(answer) - last.start()].casefold() if first and last else ""
    meant = [option.casefold() == said for option in options]
    return [0.0 if is_option else -math.inf for is_option in meant] if any(meant) else _answered(text)


def _answered(text: str) -> str:
    short = " ".join(text.split())
    return f"answered {short[:60] + ('…' if len(short) > 60 else '')!r}, which is none of the options"
