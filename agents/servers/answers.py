"""What is read from the answers of servers."""

from __future__ import annotations

from collections.abc import Sequence

from agents.engine.protocol import Sample


def sampled(choice) -> Sample:
    """The sample of an answer. Raises TypeError or ValueError where the answer is incomplete."""
    pairs = list(zip(choice.token_ids, choice.logprobs.token_logprobs, strict=True))
    return Sample(
        tuple(token for token, _ in pairs),
        tuple(float(p) for _, p in pairs),
        "stop" if choice.finish_reason == "stop" else "length",
    )


def prompt_logprobs(target: Sequence[int], choice) -> list[float]:
    """log p of the last tokens of a prompt; each position holds {token id: {logprob, ...}} of its token."""
    return [
        float(place[str(token)]["logprob"])
        for place, token in zip(choice.prompt_logprobs[-len(target) :], target, strict=True)
    ]


def tokens_computed(usage) -> int:
    """The tokens that went through the model: the prompt's without cached ones, and all sampled ones but the last.

    Cached ones are known where the server reports them (vLLM: --enable-prompt-tokens-details).
    """
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    return usage.prompt_tokens - (cached or 0) + usage.completion_tokens - 1
