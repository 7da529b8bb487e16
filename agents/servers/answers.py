"""What is read from the answers of servers, which may hold values of any type: checked here, and refused or replaced.

The client does not check the JSON of an answer against its types. Readers raise TypeError or ValueError where an answer
cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.engine.protocol import Sample

MOST_TOKENS = 10**9  # that a server may count, and the greatest token id
MOST_ALTERNATIVES = 100  # of a token; servers give 20 at most
NAME = 200  # characters of a model's name
REASON = 40  # characters of a finish_reason


@dataclass(frozen=True)
class ChatAnswer:
    """The checked answer to a chat completion."""

    text: str  # well-formed Unicode, "" for null
    thought: bool  # whether the server gave a thought beside the text
    finish_reason: str | None
    tokens: int | None  # of the answer; None where the server does not say, or not as a number
    alternatives: tuple[tuple[str, float], ...]  # (token, nats) of the first token; () where there are none


def chat_answer(answer: object) -> ChatAnswer:
    """The first choice of the answer.

    Raises TypeError where it has none, where its message or content is of another type, or where an alternative is no
    token with a log-probability.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise TypeError(f"choices is {_kind(choices)}; expected a list with an answer")
    message = getattr(choices[0], "message", None)
    if not hasattr(message, "content"):
        raise TypeError(f"message is {_kind(message)}; expected one with content")
    text, thought = _content(message)
    reason = getattr(choices[0], "finish_reason", None)
    return ChatAnswer(
        text,
        thought,
        reason[:REASON] if isinstance(reason, str) and reason.isprintable() else None,
        count(getattr(getattr(answer, "usage", None), "completion_tokens", None)),
        _alternatives(getattr(choices[0], "logprobs", None)),
    )


def _content(message) -> tuple[str, bool]:
    """The text of an answer's message, and whether the server gave a thought beside it.

    Servers put thoughts into `reasoning_content` or `reasoning`, or into parts of the content that are no text.
    """
    thought = any(getattr(message, name, None) for name in ("reasoning_content", "reasoning", "reasoning_details"))
    content = message.content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        texts = [part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str)]
        return well_formed("\n".join(texts)), thought or len(texts) < len(content)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is {_kind(content)}; expected text")
    return well_formed(content or ""), thought


def _alternatives(logprobs: object) -> tuple[tuple[str, float], ...]:
    content = getattr(logprobs, "content", None)
    top = getattr(content[0], "top_logprobs", None) if isinstance(content, list) and content else None
    if not isinstance(top, list):
        return ()
    pairs = [(getattr(one, "token", None), getattr(one, "logprob", None)) for one in top[:MOST_ALTERNATIVES]]
    read = []
    for token, logprob in pairs:
        if not isinstance(token, str):
            raise TypeError(f"a token of top_logprobs is {_kind(token)}; expected text")
        read.append((well_formed(token), _nats(logprob, "a logprob of top_logprobs")))
    return tuple(read)


def sampled(choice) -> Sample:
    """The sample of an answer with token ids. Raises TypeError or ValueError where the answer is incomplete."""
    ids, logprobs = (
        getattr(choice, "token_ids", None),
        getattr(getattr(choice, "logprobs", None), "token_logprobs", None),
    )
    if not isinstance(ids, list | tuple) or not isinstance(logprobs, list | tuple):
        raise TypeError(f"token_ids is {_kind(ids)}, token_logprobs {_kind(logprobs)}; expected two lists")
    if len(ids) != len(logprobs):
        raise ValueError(f"{len(ids)} token_ids have {len(logprobs)} token_logprobs; expected one each")
    return Sample(
        tuple(_id(token) for token in ids),
        tuple(_nats(p, "a log-probability") for p in logprobs),
        "stop" if getattr(choice, "finish_reason", None) == "stop" else "length",
    )


def prompt_logprobs(target: Sequence[int], choice) -> list[float]:
    """log p of the last tokens of a prompt; each position holds {token id: {logprob, ...}} of its token.

    Raises TypeError or ValueError where they are not all there.
    """
    given = getattr(choice, "prompt_logprobs", None)
    if not isinstance(given, list) or len(given) < len(target):
        raise TypeError(f"prompt_logprobs is {_kind(given)}; expected a list with {len(target)} positions or more")
    places = [
        place.get(str(token)) if isinstance(place, dict) else None
        for place, token in zip(given[len(given) - len(target) :], target, strict=True)
    ]
    if not all(isinstance(place, dict) for place in places):
        raise ValueError("prompt_logprobs lack a token of the prompt; expected each with its log-probability")
    return [_nats(place.get("logprob"), "a logprob of prompt_logprobs") for place in places if place is not None]


def tokens_computed(usage) -> int:
    """The tokens that went through the model: the prompt's without cached ones, and all sampled ones but the last; 0
    where the server does not say.

    Cached ones are known where the server reports them (vLLM: --enable-prompt-tokens-details).
    """
    details = getattr(usage, "prompt_tokens_details", None)
    cached = count(getattr(details, "cached_tokens", None)) or 0
    new = (count(getattr(usage, "prompt_tokens", None)) or 0) - cached
    return max(new + (count(getattr(usage, "completion_tokens", None)) or 0) - 1, 0)


def model_name(value: object) -> str | None:
    """The name of a model that a server lists; None for what is no name."""
    return value[:NAME] if isinstance(value, str) and value.isprintable() and value else None


def count(value: object) -> int | None:
    """The number of tokens, 0 to MOST_TOKENS; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def well_formed(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, and with pairs of surrogates joined."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"a token id is {_kind(value)}; expected a whole number from 0")
    return value


def _nats(value: object, what: str) -> float:
    """A log-probability: a number that is not NaN, of which more than 0 counts as 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise TypeError(f"{what} is {_kind(value)}; expected a number")
    return float(max(min(value, 0.0), -1e30))


def _kind(value: object) -> str:
    """The value in short, or its type."""
    return str(value)[:20] if value is None or isinstance(value, float) else f"of type {type(value).__name__}"
