"""Planted drift: clean dialogues from templates, with known faults in known lines of one seat.

A clean dialogue consists of questions and answers: each line states a fact of its speaker or is small talk, and most
lines end with a question. Faults replace a share of the user's lines in the second half: the dose. The lines replaced
at a smaller dose are among those replaced at a larger one, so that doses differ only in the amount planted.

- contradicted_fact: claims another value of a fact, in a plain or a colloquial wording.
- implied_fact: says what fits only another value ("There were 50 candles on my last birthday cake").
- persona_swap: states facts of the partner (odd dialogues) or of a person who is absent (even ones), in any wording.
- role_flip: speaks as an assistant program.
- style_decay: one bland sentence, always the same.
- parroting: sentences of the card.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import polars as pl

from metrics.judges import Pair
from metrics.validation.planted_words import CLAIMS, FLAT, IMPLIED, OPENERS, PLAIN, ROLE_FLIPS, SMALL_TALK, SPOKEN
from scenarios.records import ASSISTANT, USER, Fact, Line, Persona, derive_seed

KINDS = ("contradicted_fact", "implied_fact", "persona_swap", "role_flip", "style_decay", "parroting")
WORDINGS = {"contradicted_fact": (PLAIN, SPOKEN), "implied_fact": (IMPLIED,)}  # of a fact; drawn evenly
ANY = (PLAIN, SPOKEN, IMPLIED)
DOSES = (0.0, 0.1, 0.2, 0.4)
SEAT = USER  # the seat that drifts
ASKS = 0.7  # share of lines that end with a question
PERSONAL = 0.6  # share of those that ask about a fact
TURNS = {
    "conversation": pl.Int64,
    "persona": pl.String,
    "turn": pl.Int64,
    "seat": pl.String,
    "node": pl.String,
    "text": pl.String,
    "tokens": pl.Int64,
}


class StatedValue(NamedTuple):
    """A statement about the speaker: its slot, its value, and the kind of wording."""

    slot: str
    value: str
    wording: str


Said = tuple[str, tuple[StatedValue, ...]]  # a line's words, and what they say of the speaker


@dataclass(frozen=True)
class PlantedDialogue:
    """A transcript, with what each line states and the turns with planted faults."""

    number: int
    cast: dict[str, Persona]
    lines: tuple[Line, ...]
    topics: tuple[str, ...]  # what each line answers: a slot's id, a question of small talk, "" for nothing
    stated: tuple[tuple[StatedValue, ...], ...]  # what each line says of its speaker
    planted: frozenset[int] = frozenset()  # turns

    def own(self) -> list[Line]:
        """The lines of the seat in which faults are planted."""
        return [line for line in self.lines if line.seat == SEAT]


def clean_dialogues(personas: Sequence[Persona], conversations: int, turns: int, seed: int) -> list[PlantedDialogue]:
    """Dialogues without faults.

    Raises ValueError with fewer than three personas with facts (two speakers, one for persona_swap).
    """
    known = [persona for persona in personas if persona.facts]
    if len(known) < 3:
        raise ValueError(f"{len(known)} personas with facts: expected at least 3")
    dialogues = []
    for number in range(conversations):
        rng = random.Random(derive_seed(seed, "clean", number))
        user, assistant = rng.sample(known, 2)
        dialogues.append(_dialogue(number, {USER: user, ASSISTANT: assistant}, turns, rng))
    return dialogues


def plant(dialogue: PlantedDialogue, kind: str, dose: float, personas: Sequence[Persona], seed: int) -> PlantedDialogue:
    """The dialogue with a share `dose`, 0 to 1, of the user's lines in its second half replaced by faults of the kind.

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"drift {kind!r}: expected one of {', '.join(KINDS)}")
    rng = random.Random(derive_seed(seed, "plant", dialogue.number))  # the same turns whatever the kind
    later = [line.turn for line in dialogue.own() if 2 * line.turn >= len(dialogue.lines)]
    turns = rng.sample(later, len(later))[: round(dose * len(later))]
    partner = dialogue.cast[ASSISTANT if SEAT == USER else USER]
    other = (
        partner
        if dialogue.number % 2
        else _stranger(dialogue, personas, random.Random(derive_seed(seed, "other", dialogue.number)))
    )
    faults = {turn: _fault(dialogue, dialogue.lines[turn], kind, other, seed) for turn in turns}
    lines = tuple(_said(line, faults[line.turn][0]) if line.turn in faults else line for line in dialogue.lines)
    stated = tuple(faults[turn][1] if turn in faults else stated for turn, stated in enumerate(dialogue.stated))
    return replace(dialogue, lines=lines, stated=stated, planted=frozenset(turns))


def planted_contradictions(dialogue: PlantedDialogue) -> set[tuple[int, int]]:
    """(later turn, earlier turn) of lines of the drifting seat that state different values of a slot, independent of
    judges.
    """
    said = [
        (line.turn, {(statement.slot, statement.value) for statement in dialogue.stated[line.turn]})
        for line in dialogue.own()
    ]
    return {
        (later, earlier)
        for (earlier, before), (later, after) in combinations(said, 2)
        if any(slot == known and value != other for slot, value in after for known, other in before)
    }


def planted_turns(dialogues: Sequence[PlantedDialogue]) -> pl.DataFrame:
    """The lines of all dialogues as a frame with the columns of TURNS."""
    rows = [{name: getattr(line, name) for name in TURNS} for dialogue in dialogues for line in dialogue.lines]
    return pl.DataFrame(rows, schema=TURNS)


def planted_pairs(dialogue: PlantedDialogue, window: int | None = None) -> Iterator[Pair]:
    """The pairs that judges score for the drifting seat: each line with the persona, and with its earlier own lines.

    With `window`, only the last `window` earlier lines are used.
    """
    partner = dialogue.cast[ASSISTANT if SEAT == USER else USER]
    persona, own = dialogue.cast[SEAT], dialogue.own()
    for place, line in enumerate(own):
        company = {"partner": partner, "heard": dialogue.lines[line.turn - 1].text if line.turn else ""}
        yield Pair(dialogue.number, line.turn, SEAT, "prompt_to_line", line.text, "persona", persona, **company)
        for earlier in own[0 if window is None else max(0, place - window) : place]:
            yield Pair(
                dialogue.number,
                line.turn,
                SEAT,
                "line_to_line",
                line.text,
                str(earlier.turn),
                persona,
                earlier.text,
                **company,
            )


def _said(line: Line, text: str) -> Line:
    return replace(line, text=text, tokens=len(text.split()))


def _dialogue(number: int, cast: dict[str, Persona], turns: int, rng: random.Random) -> PlantedDialogue:
    decks = {seat: _Deck(persona, rng) for seat, persona in cast.items()}
    lines, topics, stated, asked = [], [], [], ""
    for turn in range(turns):
        seat = ASSISTANT if turn % 2 == 0 else USER
        persona, partner = cast[seat], cast[USER if seat == ASSISTANT else ASSISTANT]
        topics.append(asked)
        text, says = decks[seat].answer(asked)
        stated.append(says)
        asked = ""
        if rng.random() < ASKS:
            asked = rng.choice(partner.facts).id if rng.random() < PERSONAL else rng.choice(SMALL_TALK)[0]
            text += f" {_question(asked, partner)}"
        lines.append(Line(number, turn, seat, persona.id, "talk", text, len(text.split())))
    return PlantedDialogue(number, cast, tuple(lines), tuple(topics), tuple(stated))


class _Deck:
    """The statements that a speaker can still make on each topic, shuffled; none is repeated before all were used."""

    def __init__(self, persona: Persona, rng: random.Random) -> None:
        self._rng, self._left = rng, {}
        self._all = {
            fact.id: [claim for wording in ANY for claim in _claims(fact, fact.value, wording)]
            for fact in persona.facts
        }
        self._all |= {question: [(answer, ()) for answer in answers] for question, answers in SMALL_TALK}

    def answer(self, topic: str) -> Said:
        topic = topic or self._rng.choice(list(self._all))
        if not self._left.get(topic):
            self._left[topic] = self._rng.sample(self._all[topic], len(self._all[topic]))
        text, stated = self._left[topic].pop()
        return opened(self._rng.choice(OPENERS), text), stated


def opened(opener: str, text: str) -> str:
    """The text after an opener, in lower case where it continues the opener's sentence."""
    goes_on = opener.endswith((", ", ": ")) and not re.match(r"I\b", text)
    return opener + (text[0].lower() + text[1:] if goes_on else text)


def _claims(fact: Fact, value: str, wording: str) -> list[Said]:
    """The statements of that value; the slot's own claim where the wording has none."""
    ways = CLAIMS.get(fact.id, {}).get(wording, (fact.slot.claim,))
    return [(way.replace("{value}", value), (StatedValue(fact.id, value, wording),)) for way in ways]


def _question(topic: str, partner: Persona) -> str:
    return next((fact.question for fact in partner.facts if fact.id == topic), topic)


def _fault(dialogue: PlantedDialogue, line: Line, kind: str, other: Persona, seed: int) -> Said:
    """The faulty statement that replaces the line."""
    rng = random.Random(derive_seed(seed, kind, dialogue.number, line.turn))
    if kind == "role_flip":
        return rng.choice(ROLE_FLIPS), ()
    if kind == "style_decay":
        return random.Random(derive_seed(seed, kind, dialogue.number)).choice(FLAT), ()
    persona = dialogue.cast[SEAT]
    if kind == "parroting":
        return _recital(persona.card, rng), ()
    topic = dialogue.topics[line.turn]
    fact = next((fact for fact in persona.facts if fact.id == topic), None) or rng.choice(persona.facts)
    if kind == "persona_swap":
        text, stated = _facts_of(other, persona, fact.id, rng)
        return opened(rng.choice(OPENERS), text), stated
    text, stated = rng.choice(_claims(fact, rng.choice(fact.distractors), rng.choice(WORDINGS[kind])))
    asked = re.search(r"(?<![^.!?])[^.!?]++\?$", line.text)
    return opened(rng.choice(OPENERS), text) + (f" {asked[0].strip()}" if asked else ""), stated


def _facts_of(other: Persona, persona: Persona, topic: str, rng: random.Random) -> Said:
    """One or two facts of `other` that the persona does not share; the one asked about comes first."""
    theirs = [
        fact for fact in other.facts if (fact.id, fact.value) not in {(mine.id, mine.value) for mine in persona.facts}
    ]
    same = next((fact for fact in theirs if fact.id == topic), None) or rng.choice(theirs)
    said = [
        rng.choice(_claims(fact, fact.value, rng.choice(ANY))) for fact in dict.fromkeys((same, rng.choice(theirs)))
    ]
    return " ".join(text for text, _ in said), tuple(statement for _, statements in said for statement in statements)


def _recital(card: str, rng: random.Random) -> str:
    """Three consecutive sentences of the card."""
    sentences = re.findall(r"(?<![^.!?])[^.!?]++[.!?]", card) or [card]
    start = rng.randrange(max(1, len(sentences) - 2))
    return "".join(sentences[start : start + 3]).strip()


def _stranger(dialogue: PlantedDialogue, personas: Sequence[Persona], rng: random.Random) -> Persona:
    """The absent persona that shares the fewest values with the drifting speaker."""
    mine = {(fact.id, fact.value) for fact in dialogue.cast[SEAT].facts}
    present = {persona.id for persona in dialogue.cast.values()}
    others = [persona for persona in personas if persona.facts and persona.id not in present]
    return min(
        rng.sample(others, len(others)), key=lambda other: sum((fact.id, fact.value) in mine for fact in other.facts)
    )
