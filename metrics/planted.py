"""Drift planted on purpose: clean dialogues by template, with known faults put into known lines of one seat.

A clean dialogue is question and answer: each line states a fact of its speaker or talks small, and most end with a question. A fault
takes the place of some of the user's later lines (those of the second half). A dose is the share of them that is replaced; a
smaller dose's lines are among a larger one's, so that doses differ in nothing but how much was planted.

contradicted_fact: claims another value of a fact; persona_swap: states facts of the partner (odd dialogues) or of nobody present (even
ones); role_flip: speaks as a helper program; style_decay: one bland sentence, always the same; parroting: sentences of the card.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from metrics.judges import Pair
from metrics.planted_words import CLAIMS, FLAT, OPENERS, ROLE_FLIPS, SMALL_TALK
from scenarios.records import ASSISTANT, USER, Fact, Line, Persona, derive_seed

CLEAN = "clean"
KINDS = ("contradicted_fact", "persona_swap", "role_flip", "style_decay", "parroting")
DOSES = (0.0, 0.1, 0.2, 0.4)
SEAT = USER  # the seat that drifts
ASKS = 0.7  # share of lines that end with a question
PERSONAL = 0.6  # share of those that ask about a fact
TURNS = {"conversation": pl.Int64, "persona": pl.String, "turn": pl.Int64, "seat": pl.String, "node": pl.String, "text": pl.String,
         "tokens": pl.Int64}


@dataclass(frozen=True)
class Dialogue:
    """A transcript and what was planted in it."""

    number: int
    cast: dict[str, Persona]
    lines: tuple[Line, ...]
    topics: tuple[str, ...]  # what each line answers: a slot's id, a question of small talk, "" for nothing
    planted: frozenset[int] = frozenset()  # turns

    def own(self) -> list[Line]:
        return [line for line in self.lines if line.seat == SEAT]


def clean(personas: Sequence[Persona], conversations: int, turns: int, seed: int) -> list[Dialogue]:
    """Dialogues in which nobody drifts. ValueError with fewer than three personas with facts (two to talk, one to swap with)."""
    told = [persona for persona in personas if persona.facts]
    if len(told) < 3:
        raise ValueError(f"{len(told)} personas with facts: expected at least 3")
    found = []
    for number in range(conversations):
        rng = random.Random(derive_seed(seed, "clean", number))
        user, assistant = rng.sample(told, 2)
        found.append(_dialogue(number, {USER: user, ASSISTANT: assistant}, turns, rng))
    return found


def plant(dialogue: Dialogue, kind: str, dose: float, personas: Sequence[Persona], seed: int) -> Dialogue:
    """The dialogue with that share of the user's later lines replaced by faults of the kind. ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"drift {kind!r}: expected one of {', '.join(KINDS)}")
    rng = random.Random(derive_seed(seed, "plant", dialogue.number))  # the same turns whatever the kind
    later = [line.turn for line in dialogue.own() if 2 * line.turn >= len(dialogue.lines)]
    turns = frozenset(rng.sample(later, len(later))[: round(dose * len(later))])
    partner = dialogue.cast[ASSISTANT if SEAT == USER else USER]
    other = partner if dialogue.number % 2 else _stranger(dialogue, personas, random.Random(derive_seed(seed, "other", dialogue.number)))
    lines = tuple(_said(line, _fault(dialogue, line, kind, other, seed)) if line.turn in turns else line for line in dialogue.lines)
    return replace(dialogue, lines=lines, planted=turns)


def turns_frame(dialogues: Sequence[Dialogue]) -> pl.DataFrame:
    """The lines as a frame of turns."""
    rows = [{name: getattr(line, name) for name in TURNS} for dialogue in dialogues for line in dialogue.lines]
    return pl.DataFrame(rows, schema=TURNS)


def pairs(dialogue: Dialogue, window: int | None = None) -> Iterator[Pair]:
    """What judges are asked about the drifting seat: each line against the persona, and against at most `window` own lines before."""
    partner = dialogue.cast[ASSISTANT if SEAT == USER else USER]
    persona, own = dialogue.cast[SEAT], dialogue.own()
    for place, line in enumerate(own):
        company = {"partner": partner, "heard": dialogue.lines[line.turn - 1].text if line.turn else ""}
        yield Pair(dialogue.number, line.turn, SEAT, "prompt_to_line", line.text, "persona", persona, **company)
        for earlier in own[0 if window is None else max(0, place - window) : place]:
            yield Pair(dialogue.number, line.turn, SEAT, "line_to_line", line.text, str(earlier.turn), persona, earlier.text, **company)


def _said(line: Line, text: str) -> Line:
    return replace(line, text=text, tokens=len(text.split()))


def _dialogue(number: int, cast: dict[str, Persona], turns: int, rng: random.Random) -> Dialogue:
    decks = {seat: _Deck(persona, rng) for seat, persona in cast.items()}
    lines, topics, asked = [], [], ""
    for turn in range(turns):
        seat = ASSISTANT if turn % 2 == 0 else USER
        persona, partner = cast[seat], cast[USER if seat == ASSISTANT else ASSISTANT]
        topics.append(asked)
        text, asked = decks[seat].answer(asked), ""
        if rng.random() < ASKS:
            asked = rng.choice(partner.facts).id if rng.random() < PERSONAL else rng.choice(SMALL_TALK)[0]
            text += f" {_question(asked, partner)}"
        lines.append(Line(number, turn, seat, persona.id, "talk", text, len(text.split())))
    return Dialogue(number, cast, tuple(lines), tuple(topics))


class _Deck:
    """What a speaker can still say of each topic, shuffled, none twice before all were said."""

    def __init__(self, persona: Persona, rng: random.Random) -> None:
        self._rng, self._left = rng, {}
        self._all = {fact.id: _claims(fact, fact.value) for fact in persona.facts} | dict(SMALL_TALK)

    def answer(self, topic: str) -> str:
        topic = topic or self._rng.choice(list(self._all))
        if not self._left.get(topic):
            self._left[topic] = self._rng.sample(self._all[topic], len(self._all[topic]))
        return _opened(self._rng.choice(OPENERS), self._left[topic].pop())


def _opened(opener: str, text: str) -> str:
    """The text behind an opener, its capital gone where the sentence goes on."""
    goes_on = opener.endswith((", ", ": ")) and not text.startswith("I ")
    return opener + (text[0].lower() + text[1:] if goes_on else text)


def _claims(fact: Fact, value: str) -> tuple[str, ...]:
    return tuple(claim.replace("{value}", value) for claim in CLAIMS.get(fact.id, (fact.slot.claim,)))


def _question(topic: str, partner: Persona) -> str:
    return next((fact.question for fact in partner.facts if fact.id == topic), topic)


def _fault(dialogue: Dialogue, line: Line, kind: str, other: Persona, seed: int) -> str:
    """What the speaker says in place of the line."""
    rng = random.Random(derive_seed(seed, kind, dialogue.number, line.turn))
    if kind == "role_flip":
        return rng.choice(ROLE_FLIPS)
    if kind == "style_decay":
        return random.Random(derive_seed(seed, kind, dialogue.number)).choice(FLAT)
    persona = dialogue.cast[SEAT]
    if kind == "parroting":
        return _recital(persona.card, rng)
    topic = dialogue.topics[line.turn]
    fact = next((fact for fact in persona.facts if fact.id == topic), None) or rng.choice(persona.facts)
    if kind == "persona_swap":
        theirs = [one for one in other.facts if (one.id, one.value) not in {(mine.id, mine.value) for mine in persona.facts}]
        same = next((one for one in theirs if one.id == fact.id), None) or rng.choice(theirs)
        more = rng.choice(theirs)
        told = dict.fromkeys((rng.choice(_claims(same, same.value)), rng.choice(_claims(more, more.value))))
        return _opened(rng.choice(OPENERS), " ".join(told))
    wrong = rng.choice(_claims(fact, rng.choice(fact.distractors)))
    asked = re.search(r"[^.!?]+\?$", line.text)
    return _opened(rng.choice(OPENERS), wrong) + (f" {asked[0].strip()}" if asked else "")


def _recital(card: str, rng: random.Random) -> str:
    """Three sentences of the card as they stand."""
    sentences = re.findall(r"[^.!?]+[.!?]", card) or [card]
    start = rng.randrange(max(1, len(sentences) - 2))
    return "".join(sentences[start : start + 3]).strip()


def _stranger(dialogue: Dialogue, personas: Sequence[Persona], rng: random.Random) -> Persona:
    """Someone not in the dialogue who shares the fewest values with the drifting speaker."""
    mine = {(fact.id, fact.value) for fact in dialogue.cast[SEAT].facts}
    present = {persona.id for persona in dialogue.cast.values()}
    others = [persona for persona in personas if persona.facts and persona.id not in present]
    return min(rng.sample(others, len(others)), key=lambda other: sum((fact.id, fact.value) in mine for fact in other.facts))
