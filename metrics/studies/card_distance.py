"""Card distance: does a persona's card lose its effect with distance?

A question about a fact of the card follows a number of exchanges about other subjects. Odds: log p of the answer with
the fact's value - log Σ p of three other values, in nats. Hold: the odds with a card minus the odds in the same
dialogue without one, which cancels a preference for a value. The card stands at the start; or at the start and again
nearer to the question (a reminder); or only nearer to the question, which separates distance from length.

Controls: immediately after the card its hold is above 0, and the card of another persona has almost none. Distances are
counted in tokens of the intervening text, by the model's tokenizer. After the attention decay of Li et al., arXiv
2402.10962.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from metrics.stats.intervals import clustered_slope
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Picture,
    StudyQuestion,
    Test,
    above,
    below,
    mean_of,
    share_of,
)
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

SOMEBODY, REMEMBER, AGREED = "You are a person with a life of your own.", "Remember who you are. {}", "I will."
OWN, ANOTHERS = "own", "another's"
SPEAKERS = "user", "assistant"
LOST = 0.2  # share of the hold that makes it a loss
ROTATIONS = 4  # places in the filler where talks begin
OTHERS = 3  # values beside the true one


class CardSlot(Strict):
    """A slot with its sentence on the card, its question, the frame of an answer, and its values."""

    card: Text
    asks: Text
    says: Text
    values: Annotated[list[Text], Field(min_length=1 + OTHERS)]


class Stimuli(Strict):
    """The schema of the stimuli file; `filler` holds exchanges about other subjects, a user and an assistant line
    each.
    """

    slots: dict[str, CardSlot]
    filler: Some[Annotated[list[Text], Field(min_length=2, max_length=2)]]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, personas: Count, slots: Count, exchanges: Count) -> Finding:
    """The finding on the share of the card's hold that is lost at the greatest distance.

    `exchanges` is the number of exchanges between the card and the farthest question; `slots` is the number of slots
    that each persona is asked about, in rotation.
    """
    far = min(exchanges, len(stimuli.filler))
    people = [_person(stimuli, derive_seed(seed, "person", n)) for n in range(personas)]
    talks = [
        [
            (ROTATIONS * n // personas * len(stimuli.filler) // ROTATIONS + place) % len(stimuli.filler)
            for place in range(far)
        ]
        for n in range(personas)
    ]
    distances = [0, *(2**k for k in range(far.bit_length()) if 2**k < far), far]
    near = sorted({0, far // 4})  # where a card is told again
    odds = partial(_odds, ask, stimuli, people, talks, min(slots, len(stimuli.slots)))

    bare = {d: odds(f"no card, {d} exchanges", d) for d in distances}
    carded = {d: odds(f"card {d} ago", d, OWN) for d in distances}
    hold = {d: carded[d] - bare[d] for d in distances}
    reminded = {r: odds(f"card {far} ago, again {r} ago", far, OWN, r) - bare[far] for r in near}
    late = {r: odds(f"card only {r} of {far} ago", far, again=r) - bare[far] for r in near}
    anothers = odds("another's card", 0, ANOTHERS) - bare[0]

    tokens = _tokens(ask, stimuli)
    ago = {d: [int(tokens[talk[:d]].sum()) for talk in talks] for d in distances}  # since a card at the start
    since = {r: [int(tokens[talk[far - r :]].sum()) for talk in talks] for r in near}  # since one told later
    rows = [(tokens / 1000, value, n) for d in distances for n, tokens in enumerate(ago[d]) for value in hold[d][n]]
    first, last, gain = (mean_of(values) for values in (hold[0], hold[far], reminded[0] - hold[far]))
    lost = share_of(hold[0] - hold[far], hold[0])
    return Finding(
        {
            "share of the card's hold that is lost at the far end": Test(lost, above(LOST), below(LOST)),
            "gain by telling the card again just before, nats": Test(gain, above(0), below(0)),
        },
        {
            "right after it a card holds": Control(first, above(0), "nats"),
            "another's card does not": Control(
                mean_of(anothers - hold[0] / 4), below(0), "nats, less a quarter of the own card's hold"
            ),
        },
        f"A card's hold is {first.value:.2f} nats right after it and {last.value:.2f} after {far} exchanges "
        f"({np.mean(ago[far]):.0f} "
        f"tokens), {lost.value:.0%} less; told again just before the question it gains {gain.value:.2f} nats.",
        {
            **{f"hold, card {d} exchanges ago, nats": mean_of(hold[d]) for d in distances},
            **{f"hold, card {far} ago and again {r} ago, nats": mean_of(reminded[r]) for r in near},
            **{f"hold, card only {r} of {far} ago, nats": mean_of(late[r]) for r in near},
            "change of hold per 1000 tokens, nats": clustered_slope(*zip(*rows, strict=True)),
            "hold of another's card, nats": mean_of(anothers),
        },
        {
            "hold": Picture(
                "What a card still does",
                "tokens since the card was last told",
                "hold, nats",
                {
                    "card at the start": [(float(np.mean(ago[d])), mean_of(hold[d])) for d in distances],
                    "told again": [(float(np.mean(since[r])), mean_of(reminded[r])) for r in near],
                    "told late only": [(float(np.mean(since[r])), mean_of(late[r])) for r in near],
                },
                {"no card": 0.0},
            ),
            "answers": Picture(
                "The card's own value among four",
                "exchanges since the card",
                "probability",
                {
                    name: [(d, mean_of(1 / (1 + np.exp(-of[d])))) for d in distances]
                    for name, of in (("card", carded), ("no card", bare))
                },
                {"by luck": 1 / (1 + OTHERS)},
            ),
        },
    )


def _odds(
    ask: Ask,
    stimuli: Stimuli,
    people: list[dict[str, list[str]]],
    talks: list[list[int]],
    slots: int,
    arm: str,
    at: int,
    card: str = "",
    again: int | None = None,
) -> np.ndarray:
    """(personas, slots) odds in nats after `at` exchanges.

    `card` says whose card stands at the start (OWN, ANOTHERS, or "" for a card without facts). With `again`, the
    persona's own card is repeated that many exchanges before the question.
    """
    asked = []
    for n, values in enumerate(people):
        pairs = [stimuli.filler[place] for place in talks[n][:at]]
        if again is not None:
            pairs.insert(at - again, [REMEMBER.format(_card(stimuli, values, OWN)), AGREED])
        before = [
            ("system", _card(stimuli, values, card)),
            *(turn for pair in pairs for turn in zip(SPEAKERS, pair, strict=True)),
        ]
        for name in [list(stimuli.slots)[(n + k) % len(stimuli.slots)] for k in range(slots)]:
            asked.append(
                StudyQuestion(
                    f"person {n}, {name}",
                    (*before, ("user", stimuli.slots[name].asks)),
                    tuple(stimuli.slots[name].says.format(value) for value in values[name]),
                    str(n),
                )
            )
    nats = np.array([choice.nats for choice in ask.choose(arm, asked)])
    return (nats[:, 0] - np.logaddexp.reduce(nats[:, 1:], 1)).reshape(len(people), slots)


def _person(stimuli: Stimuli, seed: int) -> dict[str, list[str]]:
    """The values of one persona by slot: the true one first, then others."""
    rng = random.Random(seed)
    return {name: rng.sample(slot.values, 1 + OTHERS) for name, slot in stimuli.slots.items()}


def _card(stimuli: Stimuli, values: dict[str, list[str]], whose: str) -> str:
    """The text of a card: the persona's own, another persona's (another value in every slot), or one without facts."""
    facts = [slot.card.format(values[name][whose == ANOTHERS]) for name, slot in stimuli.slots.items()] if whose else []
    return " ".join([SOMEBODY, *facts])


def _tokens(ask: Ask, stimuli: Stimuli) -> np.ndarray:
    """(exchanges,) number of tokens of each exchange of the filler, by the model's tokenizer."""
    lines = tuple(line for pair in stimuli.filler for line in pair)
    (lengths,) = ask.choose("length of the filler", [StudyQuestion("filler", (("user", "Hello."),), lines)])
    return np.reshape(lengths.tokens, (-1, len(SPEAKERS))).sum(1)
