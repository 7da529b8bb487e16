"""An engine on a server: branches of token ids on this side, the model behind an OpenAI-compatible /v1/completions.

It needs more than the standard protocol: prompts of token ids, and answers with sampled ids and with log-probabilities
of given tokens. vLLM provides all of it; one request finds out what another server lacks. The server's prefix cache
replaces the cache of branches. vLLM does not use it for log-probabilities of given tokens, so that each scored
continuation reads its branch again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from agents.engine.prefix_tree import size
from agents.engine.protocol import Sample, Sampling, Steer, Usage, check_each_once
from agents.engine.sentences import ends_sentence, sentences_spoken
from agents.models.chat_template import decoded, thought_tags
from agents.models.info import EngineInfo
from agents.models.loading import Reading, load_tokenizer
from agents.models.pieces import piece_encoder
from agents.servers.answers import count, model_name, prompt_logprobs, sampled, tokens_computed
from agents.servers.client import NO_ANSWER, TIMEOUT_S, client, in_time
from agents.servers.spend import noted
from scenarios.messages import composed, reason

AT_ONCE = 64  # requests under way: a server batches them
PROBE = "Hello there. My name is"
AS_ASKED = {"repetition_penalty": 1.0, "min_p": 0.0}  # else vLLM takes them from the model's generation_config.json
SAME_NATS = (
    0.2  # most by which a server's two ways of telling one log-probability may differ: kernels round differently
)
PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Server:
    """What a server supports for one of its models."""

    endpoint: str
    model: str
    names: tuple[str, ...]  # of the models and LoRA adapters that it lists
    context: int  # tokens of prompt and answer together; 0 where it does not say
    reading: Reading | None
    lacks: tuple[str, ...]  # what an engine needs and this server has not; () where it can be one
    api_key_env: str | None = None


def survey(endpoint: str, model: str, api_key_env: str | None = None) -> Server:
    """What a server supports, from one request. Raises ValueError where it does not answer."""
    from openai import APIConnectionError, OpenAIError

    asked = client(endpoint, PROBE_TIMEOUT_S, 1, api_key_env)
    try:
        listed = {name: entry for entry in asked.models.list() if (name := model_name(entry.id))}
    except APIConnectionError as error:
        raise _failed(endpoint, error) from None
    except (OpenAIError, *NO_ANSWER):  # some list no models
        listed = {}
    entry = listed.get(model)
    entry = listed.get(model_name(getattr(entry, "parent", None)) or "") or entry  # a LoRA's base
    context = count(getattr(entry, "max_model_len", None)) or 0
    agrees, probe_ids = False, []
    try:
        choice = asked.completions.create(
            model=model,
            prompt=PROBE,
            max_tokens=2,
            temperature=0.5,
            seed=0,
            logprobs=0,
            extra_body={
                "top_k": 1,
                "min_tokens": 2,
                "prompt_logprobs": 0,
                "return_token_ids": True,
                "add_special_tokens": False,
                **AS_ASKED,
            },
        ).choices[0]
        lacks = [what for what, there in _probed(choice).items() if not there]
        probe_ids = list(getattr(choice, "prompt_token_ids", None) or [])
        agrees = not lacks and _agrees(asked, model, choice)
    except (OpenAIError, *NO_ANSWER) as error:
        lacks = [f"completions with token ids and log-probabilities ({reason(error)})"]
    if not lacks and not context:
        lacks = ["the length of its context (max_model_len in /v1/models)"]
    reading = None
    if not lacks:
        reading, problem = _reading([model_name(getattr(entry, "root", None)), model], probe_ids)
        if reading is None:
            lacks = [problem]
        elif not agrees:
            lacks = [
                "log-probabilities of given tokens that agree with those of sampled ones (with LoRAs: "
                "--lora-target-modules)"
            ]
    return Server(endpoint, model, tuple(listed), context, reading, tuple(lacks), api_key_env)


def _probed(choice) -> dict[str, bool]:
    """Each property that the answer to the probe should have, and whether it has it.

    The most probable token has log p = 0 where only the top 1 counts, and less over the whole vocabulary.
    """
    logprobs = (choice.logprobs and choice.logprobs.token_logprobs) or [0.0]
    given = getattr(choice, "prompt_logprobs", None) or []
    return {
        "token ids (return_token_ids)": bool(
            getattr(choice, "token_ids", None) and getattr(choice, "prompt_token_ids", None)
        ),
        "log-probabilities of given tokens (prompt_logprobs)": len(given) > 1 and all(given[1:]),
        "log-probabilities of sampled tokens over the whole vocabulary (raw_logprobs)": max(logprobs)
        <= 0
        > min(logprobs),
    }


def _agrees(asked, model: str, choice) -> bool:
    """Whether the sampled tokens have the same log-probabilities when they are given."""
    again = asked.completions.create(
        model=model,
        prompt=[*choice.prompt_token_ids, *choice.token_ids],
        max_tokens=1,
        temperature=0.0,
        extra_body={"prompt_logprobs": 0, **AS_ASKED},
    ).choices[0]
    given = prompt_logprobs(choice.token_ids, again)
    return all(abs(a - b) < SAME_NATS for a, b in zip(given, choice.logprobs.token_logprobs, strict=True))


def _reading(names: Iterable[str | None], probe_ids: Sequence[int]) -> tuple[Reading | None, str]:
    """The tokenizer of the first name that is available here and reads the probe as the server does; or the reason why
    none.
    """
    problem = ""
    for name in dict.fromkeys(name for name in names if name):
        try:
            reading = load_tokenizer(name)
        except ValueError as error:
            problem = f"a tokenizer that can be had here ({error})"
            continue
        if reading.tokenizer.encode(PROBE, add_special_tokens=False) == list(probe_ids):
            return reading, ""
        problem = f"the tokenizer of {name} (it reads {PROBE!r} otherwise)"
    return None, problem


class ServedEngine:
    """An `agents.engine.protocol.Engine` on a server that lacks nothing; an adapter is the name of a LoRA on the
    server.

    Sampled tokens depend on the seed alone where the server supports seeds. One token of the context is kept free,
    since a server samples a token even when it scores. `timeout_s` is the time limit of each answer in seconds,
    including retries, `at_once` the most requests under way. It gives no states and cannot be steered (ValueError).
    """

    def __init__(self, server: Server, timeout_s: float = TIMEOUT_S, at_once: int = AT_ONCE) -> None:
        if server.lacks or server.reading is None:
            raise ValueError(lacking(server))
        self.server, self.timeout_s, self.at_once = server, timeout_s, at_once
        self.tokenizer, self._stop_ids = server.reading.tokenizer, server.reading.stop_ids
        self._thought_tags = thought_tags(self.tokenizer)
        self._encode = piece_encoder(self.tokenizer, server.reading.format)
        self.client = client(server.endpoint, timeout_s, api_key_env=server.api_key_env)
        parts = urlsplit(str(self.client.base_url))
        self._info = EngineInfo(
            server.model,
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            "served",
            server.context - 1,
            0,
            server.reading.format,
        )
        self._ids: dict[int, list[int]] = {}
        self._model: dict[int, str] = {}  # branch -> the name that its requests go to
        self._names = itertools.count()
        self._usage = Usage()

    def info(self) -> EngineInfo:
        return self._info

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [composed(decoded(self.tokenizer, row, self._thought_tags)) for row in ids]

    def usage(self) -> Usage:
        return self._usage.plus(Usage())

    def open(
        self, prompts: Sequence[Sequence[int]], adapter: str | None = None, steer: Steer | None = None
    ) -> list[int]:
        if steer is not None:
            self.states([], [])
        if adapter is not None and adapter not in self.server.names:
            raise ValueError(
                f"endpoint {self.server.endpoint} serves no adapter {adapter!r}; expected the name of a LoRA among "
                f"{', '.join(sorted(self.server.names)[:5])}"
            )
        if any(not prompt for prompt in prompts):
            raise ValueError("a branch was opened with an empty prompt; expected at least one token")
        self._fits((len(prompt), 0) for prompt in prompts)
        self._usage.tokens_new += sum(len(prompt) for prompt in prompts)
        return [self._keep(prompt, adapter or self.server.model) for prompt in prompts]

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        self._fits((len(self._ids[branch]), len(new)) for branch, new in zip(branches, ids, strict=True))
        for branch, new in zip(branches, ids, strict=True):
            self._ids[branch].extend(new)
            self._usage.tokens_new += len(new)

    def states(self, prompts: Sequence[Sequence[int]], starts: Sequence[int], adapter: str | None = None):
        raise ValueError(
            f"endpoint {self.server.endpoint} shows none of its model's states and cannot be steered; expected a "
            "model here"
        )

    def fork(self, branches: Sequence[int]) -> list[int]:
        return [self._keep(self._ids[branch], self._model[branch]) for branch in branches]

    def drop(self, branches: Sequence[int]) -> None:
        for branch in branches:
            self._ids.pop(branch, None)
            self._model.pop(branch, None)

    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]:
        check_each_once(branches)
        self._fits(
            (len(self._ids[branch]), min(settings.max_tokens, 1))
            for branch, settings in zip(branches, sampling, strict=True)
        )
        wanted = [i for i, settings in enumerate(sampling) if settings.max_tokens > 0]
        answers = self._ask("generate", [(self._line(branches[i], sampling[i]), sampled) for i in wanted])
        samples = [Sample((), (), "length")] * len(branches)
        for i, answer in zip(wanted, answers, strict=True):
            samples[i] = self._sample(answer, sampling[i])
        for branch, sample in zip(branches, samples, strict=True):
            self._ids[branch].extend(sample.token_ids)
            self._usage.tokens_new += len(sample.token_ids)
            self._usage.generated += len(sample.token_ids)
        return samples

    def score(self, branches: Sequence[int], continuations) -> list[list[list[float]]]:
        self._fits(
            (len(self._ids[branch]), len(given) + len(target))
            for branch, parts in zip(branches, continuations, strict=True)
            for given, target in parts
        )
        flat = [
            (branch, given, target)
            for branch, parts in zip(branches, continuations, strict=True)
            for given, target in parts
        ]
        answers = self._ask(
            "score",
            [
                (self._scored(branch, [*given, *target]), partial(prompt_logprobs, target))
                for branch, given, target in flat
                if target
            ],
        )
        if failed := next((answer for answer in answers if isinstance(answer, ValueError)), None):
            raise failed
        read = iter(answers)
        logprobs = iter([next(read) if target else [] for _, _, target in flat])
        self._usage.tokens_new += sum(size(parts) for parts in continuations)
        return [[next(logprobs) for _ in parts] for parts in continuations]

    # -- requests

    def _line(self, branch: int, sampling: Sampling) -> dict:
        ids = self._ids[branch]
        most = min(sampling.max_tokens, self._info.context - len(ids))
        return {
            "model": self._model[branch],
            "prompt": ids,
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "logprobs": 0,
            "extra_body": {
                "top_k": sampling.top_k,
                "min_tokens": min(sampling.min_tokens, most),
                "return_token_ids": True,
                "stop_token_ids": sorted(self._stop_ids),
                **AS_ASKED,
            },
        }

    def _scored(self, branch: int, ids: list[int]) -> dict:
        return {
            "model": self._model[branch],
            "prompt": [*self._ids[branch], *ids],
            "max_tokens": 1,
            "temperature": 0.0,
            "extra_body": {"prompt_logprobs": 0, **AS_ASKED},
        }

    def _ask(self, phase: str, requests: Sequence[tuple[dict, Callable]]) -> list:
        """For each request, the value that its reader takes from the answer; a ValueError as value where there is no
        answer.

        The client's retries are used up by then.
        """
        from openai import OpenAIError

        def send(request: tuple[dict, Callable]) -> tuple:
            asked, read = request
            try:
                answer = noted(self.server.endpoint, asked["model"], self.client.completions.create(**asked))
                return read(answer.choices[0]), tokens_computed(answer.usage)
            except (OpenAIError, *NO_ANSWER) as error:
                return _failed(self.server.endpoint, error), 0

        start = time.perf_counter()
        answers = in_time(
            send,
            requests,
            self.at_once,
            self.timeout_s,
            lambda why: (_failed(self.server.endpoint, TimeoutError(why)), 0),
        )
        self._usage.seconds[phase] += time.perf_counter() - start
        self._usage.tokens_computed += sum(computed for _, computed in answers)
        return [result for result, _ in answers]

    # -- answers

    def _sample(self, answer: Sample | ValueError, sampling: Sampling) -> Sample:
        return (
            Sample((), (), "length", trouble=str(answer))
            if isinstance(answer, ValueError)
            else self._cut(answer, sampling.sentences, sampling.thinking)
        )

    def _cut(self, sample: Sample, sentences: int | None, thinking: bool) -> Sample:
        """The sample up to the token that ends sentence number `sentences`, since a server counts tokens only."""
        if sentences is None:
            return sample
        ended = 0
        for place, token in enumerate(sample.token_ids, start=1):
            ended += ends_sentence(self.tokenizer.decode([token]))
            if ended >= sentences and token not in self._stop_ids:
                [text] = self.decode([sample.token_ids[:place]])
                ended = sentences_spoken(text, thinking, ended)
            if ended >= sentences and token not in self._stop_ids:
                return Sample(sample.token_ids[:place], sample.logprobs[:place], "sentences")
        return sample

    def _keep(self, ids: Sequence[int], model: str) -> int:
        name = next(self._names)
        self._ids[name], self._model[name] = list(ids), model
        return name

    def _fits(self, lengths: Iterable[tuple[int, int]]) -> None:
        for length, more in lengths:
            if length + more > self._info.context:
                raise ValueError(
                    f"a branch of {length} tokens cannot take {more} more: {self._info.model} at "
                    f"{self.server.endpoint} reads at most {self._info.context}; expected fewer turns or shorter lines"
                )


def lacking(server: Server) -> str:
    """The error message for a server that lacks something."""
    return f"endpoint {server.endpoint} lacks {', and '.join(server.lacks)}; expected a server such as vLLM"


def _failed(endpoint: str, error: Exception) -> ValueError:
    return ValueError(f"endpoint {endpoint} failed ({reason(error)}); expected it to answer")
