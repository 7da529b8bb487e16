"""A respondent to independent questions: the likelihood of given answers, or an answer in free text.

A common beginning of prompts is read once: the prompts are sorted, a branch is opened for each run of prompts with a
common beginning, and it is forked for the rest of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import numpy as np

from agents.engine.protocol import Engine, Sampling, Steer
from agents.models.chat_template import ChatFormat
from scenarios.spoken import opens_thought, without_thoughts

NOBODY = "You are a helpful assistant."  # the system text where a talk has none
LEAST = 24  # tokens that are worth a fork
Talk = Sequence[tuple[str, str]]  # role ("system", "user", "assistant") and words


class Respondent:
    """A model that answers questions; `adapter` is used where a call names no other."""

    def __init__(self, engine: Engine, adapter: str | None = None) -> None:
        self.engine, self.adapter = engine, adapter

    def choose(
        self,
        talks: Sequence[Talk],
        options: Sequence[Sequence[str]],
        worn: str | None = None,
        steer: Steer | None = None,
    ) -> list[tuple[list[float], list[int]]]:
        """For each talk, the log-probability of each option in nats (summed over its tokens), and its number of
        tokens.
        """
        form = self.engine.info().format
        gaps = [gap(form, talk) for talk in talks]
        flat = self.engine.encode(
            [space + form.words(option) for space, row in zip(gaps, options, strict=True) for option in row]
        )
        rest = iter(flat)
        ids = [[next(rest) for _ in row] for row in options]
        results: list = [None] * len(talks)
        with self._branches(talks, worn, steer) as (places, branches):
            scores = self.engine.score(branches, [[((), option) for option in ids[place]] for place in places])
            for place, by_option in zip(places, scores, strict=True):
                results[place] = [sum(logprobs) for logprobs in by_option], [len(option) for option in ids[place]]
        return results

    def say(
        self, talks: Sequence[Talk], sampling: Sequence[Sampling], worn: str | None = None, steer: Steer | None = None
    ) -> list[str]:
        """The sampled continuation of the assistant's turn in each talk. Raises ValueError where a server gave no
        answer.
        """
        replies: list = [None] * len(talks)
        with self._branches(talks, worn, steer) as (places, branches):
            samples = self.engine.generate(branches, [sampling[place] for place in places])
            if trouble := next((sample.trouble for sample in samples if sample.trouble), None):
                raise ValueError(trouble)
            for place, text in zip(places, self.engine.decode([sample.token_ids for sample in samples]), strict=True):
                replies[place] = without_thoughts(text, opens_thought(self.engine.info().format.before_said)).strip()
        return replies

    def states(self, talks: Sequence[Talk], replies: Sequence[str]) -> np.ndarray:
        """The mean hidden state of each reply's tokens after every layer, (talks, layers, width).

        For an empty reply it is the state before it. Raises ValueError where a server does not provide states.
        """
        form = self.engine.info().format
        prompts = self.engine.encode([text_of(form, talk) for talk in talks])
        said = self.engine.encode(
            [reply and gap(form, talk) + form.words(reply) for talk, reply in zip(talks, replies, strict=True)]
        )
        starts = [len(prompt) - (not reply) for prompt, reply in zip(prompts, said, strict=True)]
        return self.engine.states(
            [prompt + reply for prompt, reply in zip(prompts, said, strict=True)], starts, self.adapter
        )

    @contextmanager
    def _branches(
        self, talks: Sequence[Talk], worn: str | None, steer: Steer | None
    ) -> Iterator[tuple[list[int], list[int]]]:
        """The indices of the talks, grouped by common beginnings, and a branch for each; the branches are dropped
        afterwards.
        """
        form, adapter = self.engine.info().format, worn or self.adapter
        prompts = self.engine.encode([text_of(form, talk) for talk in talks])
        groups = together(prompts)
        heads = self.engine.open([prompts[places[0]][:length] for length, places in groups], adapter, steer)
        shared = [head for head, (_, places) in zip(heads, groups, strict=True) if len(places) > 1]
        self.engine.score(shared, [[] for _ in shared])  # reads them, so that their forks need not
        branches, order = [], []
        for head, (length, places) in zip(heads, groups, strict=True):
            mine = [*self.engine.fork([head] * (len(places) - 1)), head]
            self.engine.extend(mine, [prompts[place][length:] for place in places])
            branches, order = branches + mine, order + places
        try:
            yield order, branches
        finally:
            self.engine.drop(branches)


def text_of(form: ChatFormat, talk: Talk) -> str:
    """The talk as the assistant reads it, up to its answer. Raises ValueError where the speakers do not alternate."""
    system, said = (talk[0][1], talk[1:]) if talk and talk[0][0] == "system" else (NOBODY, talk)
    if not said or any(role != ("user", "assistant")[place % 2] for place, (role, _) in enumerate(said)):
        raise ValueError(
            f"a talk of {', '.join(role for role, _ in talk) or 'nobody'}; expected a system text or none, then user "
            "and assistant in turn"
        )
    text = form.beginning(system) + form.before_first
    for place, (role, words) in enumerate(said):
        before = (form.cue_in_history or form.before_said) + form.lead if role == "assistant" else form.after_said
        text += before * (place > 0) + form.words(words)
    return text + (form.before_said if said[-1][0] == "user" else "")


def gap(form: ChatFormat, talk: Talk) -> str:
    """The text between the prompt and the continuation of the assistant's turn."""
    return form.lead if talk[-1][0] == "user" else ""


def together(prompts: Sequence[list[int]]) -> list[tuple[int, list[int]]]:
    """(number of shared tokens, indices) of groups of prompts with a common beginning.

    A prompt that shares too few tokens is a group of its own, with all of its tokens.
    """
    groups: list[tuple[int, list[int]]] = []
    for place in sorted(range(len(prompts)), key=lambda place: prompts[place]):
        if groups:
            length, places = groups[-1]
            head = prompts[places[0]][:length]
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(head, prompts[place], strict=False)))
            if same >= LEAST and 2 * same >= length:
                groups[-1] = same, [*places, place]
                continue
        groups.append((len(prompts[place]), [place]))
    return groups
