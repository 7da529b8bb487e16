"""Tokens that servers say they read and wrote, counted for the process by endpoint and model."""

from __future__ import annotations

import threading
from dataclasses import astuple, dataclass, replace
from typing import TypeVar

from agents.servers.answers import count

Answer = TypeVar("Answer")
_lock = threading.Lock()


@dataclass(frozen=True)
class Spent:
    """The answers of a server for one model."""

    answers: int = 0
    uncounted: int = 0  # of them, that do not say how many tokens they took
    input_tokens: int = 0  # of the others: read, cached ones among them
    output_tokens: int = 0  # written, thoughts among them

    def __sub__(self, before: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


_spent: dict[tuple[str, str], Spent] = {}


def noted(endpoint: str, model: str, answer: Answer) -> Answer:
    """The answer, once its `usage` is counted."""
    usage = getattr(answer, "usage", None)
    read, written = (count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
    with _lock:
        before = _spent.get((endpoint, model), Spent())
        if read is None or written is None:
            after = replace(before, answers=before.answers + 1, uncounted=before.uncounted + 1)
        else:
            read, written = before.input_tokens + read, before.output_tokens + written
            after = replace(before, answers=before.answers + 1, input_tokens=read, output_tokens=written)
        _spent[endpoint, model] = after
    return answer


def spent(endpoint: str, model: str) -> Spent:
    """What was counted in this process so far."""
    with _lock:
        return _spent.get((endpoint, model), Spent())
