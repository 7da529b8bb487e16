"""Lines planted for the personas of one run: contradictions of their statements, and lines that contradict nothing.

What a judge makes of them says what it can see in these very personas, before it is believed on the run's own lines.
Contradictions:

- other_persona: what another persona of the run says on the same topic, where the values differ, said as one's own.
- denial: an own statement, denied.
- other_value: an own statement with another number, name, place or job.
- behaviour: a line that does the opposite of what the card demands (curt, asking, polite, "never …").

Lines that contradict nothing: `paraphrase` (an own statement in other words), `other_denied` (what another persona
says, denied by one for whom it is not so), `small_talk`, and `mention` (another's value that the speaker does not
claim: "My cousin lives in Lisbon."). Denials are in both lists, so that a judge gains nothing by their sound.

Topics are the slots of facts, or else those of `metrics.validation.rewording`. Rules make all of it (English only); a
statement to which none applies is left out, and a persona without any is named with the reason.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from metrics.judges import LINES, Pair
from metrics.judges.text.statements import statements
from metrics.validation import rewording
from metrics.validation.planted import opened
from metrics.validation.planted_words import (
    ASKING,
    BEHAVIOURS,
    CLAIMS,
    MENTIONS,
    OPENERS,
    PLAIN,
    QUOTING,
    SMALL_TALK,
    SPOKEN,
    VALUES,
)
from scenarios.records import USER, Fact, Persona, derive_seed

CONTRADICTIONS = ("other_persona", "denial", "other_value", "behaviour")
CLEAN = ("paraphrase", "other_denied", "small_talk", "mention")
EACH = 30  # most contradictions, and most clean lines
PERSONAS = 12  # most personas
STATEMENTS = 40  # most statements of a persona
AMONG_TALK = 0.3  # share of lines with a sentence of small talk beside the planted one
NOTHING_KNOWN = "nothing is known of the persona"
NO_RULE = "no rule finds a statement that could be contradicted"


@dataclass(frozen=True)
class Plant:
    """A planted line, `contradicts` its speaker's persona or not; `before` is an own earlier line on the same topic."""

    persona: Persona
    partner: Persona | None
    kind: str
    text: str
    heard: str
    before: str | None

    @property
    def contradicts(self) -> bool:
        """Whether the line contradicts its speaker's persona, and `before` where there is one."""
        return self.kind in CONTRADICTIONS


class Own(NamedTuple):
    """A statement of a persona about itself: topic ("" for none), value ("" for none), words, and its fact."""

    topic: str
    value: str
    text: str
    fact: Fact | None


class Said(NamedTuple):
    """Words that contradict or repeat an own statement (None: no particular one), and what they answer."""

    text: str
    own: Own | None
    heard: str = ""


def plants(cast: Iterable[Mapping[str, Persona]], seed: int) -> tuple[list[Plant], list[str]]:
    """Planted lines for the personas of a run's cast, spread evenly over personas and kinds, and a sentence for each
    persona for which none could be planted.

    There are at most EACH contradictions and as many clean lines, of at most PERSONAS personas, all drawn by `seed`.
    """
    everyone = sorted(_speakers(cast).values(), key=lambda pair: derive_seed(seed, *_key(pair[0])))[:PERSONAS]
    own = [_own_statements(persona, seed) for persona, _ in everyone]
    omitted, contradictions, clean = [], [], []
    for place, (persona, partner) in enumerate(everyone):
        rng = random.Random(derive_seed(seed, *_key(persona), "lines"))
        others = [statement for other, theirs in enumerate(own) if other != place for statement in theirs]
        wrong = _contradictions(persona, own[place], others, rng)
        if not any(wrong.values()):
            omitted.append(f"{persona.name}: {NO_RULE if persona.card.strip() else NOTHING_KNOWN}")
            continue
        right = _clean(own[place], others, wrong, rng)
        for lines, said in ((contradictions, wrong), (clean, right)):
            kinds = [*said][place % len(said) :] + [*said][: place % len(said)]  # each first for some persona
            lines.append(_woven(persona, partner, {kind: said[kind] for kind in kinds}, own[place], rng))
    return [*_in_turn(contradictions)[:EACH], *_in_turn(clean)[:EACH]], omitted


def pairs_of(planted: Sequence[Plant], metric: str) -> list[Pair]:
    """The pair of each planted line for that metric, with the line's place in `planted` as its conversation.

    Line to line, those without an earlier line are left out.
    """
    pairs = []
    for place, plant in enumerate(planted):
        company = {"partner": plant.partner, "heard": plant.heard}
        if metric == LINES[0]:
            pairs.append(Pair(place, 2, USER, metric, plant.text, "persona", plant.persona, **company))
        elif plant.before is not None:
            pairs.append(Pair(place, 2, USER, metric, plant.text, "0", plant.persona, plant.before, **company))
    return pairs


def _speakers(cast: Iterable[Mapping[str, Persona]]) -> dict[tuple[str, ...], tuple[Persona, Persona | None]]:
    """Each persona of the cast with the first one that it talks with, None where it talks with nobody."""
    speakers: dict[tuple[str, ...], tuple[Persona, Persona | None]] = {}
    for seats in cast:
        for seat, persona in seats.items():
            speakers.setdefault(
                _key(persona), (persona, next((seats[other] for other in seats if other != seat), None))
            )
    return speakers


def _key(persona: Persona) -> tuple[str, ...]:
    return "validate", persona.id, persona.card


def _own_statements(persona: Persona, seed: int) -> list[Own]:
    rng = random.Random(derive_seed(seed, *_key(persona), "statements"))
    if persona.facts:
        known = [
            Own(fact.id, fact.value, _claim(fact.id, fact.value, fact, PLAIN, rng), fact) for fact in persona.facts
        ]
        return rng.sample(known, len(known))[:STATEMENTS]
    known = []
    for text in _clauses(persona):
        about = rewording.topic(text)
        known.append(Own(about.name if about else "", about.value if about else "", text, None))
    return rng.sample(known, len(known))[:STATEMENTS]


def _clauses(persona: Persona) -> list[str]:
    """The clauses of the card in the first person."""
    sentences = (text for _, text in statements(replace(persona, facts=())))
    return [text for text in map(rewording.clause, sentences) if text]


def _claim(topic: str, value: str, fact: Fact | None, wording: str, rng: random.Random) -> str:
    ways = CLAIMS.get(topic, {}).get(wording, ()) or ((fact.slot.claim,) if fact else ())
    return rng.choice(ways).replace("{value}", value)


def _contradictions(
    persona: Persona, own: Sequence[Own], others: Sequence[Own], rng: random.Random
) -> dict[str, list[Said]]:
    """What contradicts the persona, by kind."""
    wrong: dict[str, list[Said]] = {kind: [] for kind in CONTRADICTIONS}
    for statement in own:
        fact, question = statement.fact, statement.fact.question if statement.fact else ""
        theirs = [other for other in others if _excludes(other, statement)]
        if theirs:
            other = rng.choice(theirs)
            text = _claim(fact.id, other.value, fact, SPOKEN, rng) if fact else other.text
            wrong["other_persona"].append(Said(text, statement, question))
        if text := rewording.denied(rewording.clause(statement.text) or "", rng):
            wrong["denial"].append(Said(text, statement, question))
        if fact and fact.distractors:
            text = _claim(fact.id, rng.choice(fact.distractors), fact, PLAIN, rng)
            wrong["other_value"].append(Said(text, statement, question))
        elif not fact and (text := rewording.with_another_value(statement.text, rng)):
            wrong["other_value"].append(Said(text, statement, question))
    wrong["behaviour"] = [Said(text, None) for text in _undone(persona, rng)]
    return wrong


def _excludes(other: Own, own: Own) -> bool:
    """Whether another persona's statement is on the same topic as an own one, with a value that excludes the own."""
    if own.fact:  # whose own values are told apart by its slot
        return other.fact is not None and other.topic == own.topic and other.value in own.fact.distractors
    return bool(own.topic) and other.topic == own.topic and rewording.differs(other.value, own.value)


def _undone(persona: Persona, rng: random.Random) -> Iterator[str]:
    """Lines that do the opposite of what the card demands."""
    sentences = [
        text for text in re.split(r"(?<=[.!?])\s+|\n", persona.card) if not re.search(r"\bnot\b|n['’]t\b", text)
    ]
    for pattern, opposites in BEHAVIOURS:
        if any(re.search(pattern, sentence, re.IGNORECASE) for sentence in sentences):
            yield rng.choice(opposites)
    for text in _clauses(persona) if persona.facts else ():  # without facts, denials say the same
        if text.startswith("I never") and (opposite := rewording.denied(text, rng)):
            yield opposite


def _clean(
    own: Sequence[Own], others: Sequence[Own], wrong: Mapping[str, Sequence[Said]], rng: random.Random
) -> dict[str, list[Said]]:
    """What contradicts nothing, by kind; `wrong` is what may be mentioned without being claimed."""
    clean: dict[str, list[Said]] = {kind: [] for kind in CLEAN}
    for statement in own:
        fact = statement.fact
        if fact:
            ways = [_claim(fact.id, fact.value, fact, wording, rng) for wording in (SPOKEN, PLAIN)]
        else:
            ways = list(rewording.paraphrases(statement.text))
        question = fact.question if fact else ""
        clean["paraphrase"] += [Said(text, statement, question) for text in rng.sample(ways, 1)]
        theirs = [other.text for other in others if _excludes(other, statement)]
        if theirs and (text := rewording.denied(rewording.clause(rng.choice(theirs)) or "", rng)):
            clean["other_denied"].append(Said(text, statement, question))
    talk = [Said(answer, None, question) for question, answers in SMALL_TALK for answer in answers]
    talk += [Said(question, None, rng.choice(ASKING)) for question, _ in SMALL_TALK]
    clean["small_talk"] = rng.sample(talk, EACH)
    for said in [*wrong["other_persona"], *wrong["other_value"]] or wrong["denial"]:
        clean["mention"].append(Said(_mention(said, rng), said.own, said.heard))
    return clean


def _mention(said: Said, rng: random.Random) -> str:
    """Words that speak of another value, or of a contradiction, without claiming it."""
    fact, topic = (said.own.fact, said.own.topic) if said.own else (None, "")
    values = fact.distractors if fact else VALUES.get(topic, ())
    if topic in MENTIONS and values and rng.random() < 0.5:
        return MENTIONS[topic].replace("{value}", rng.choice(values))
    claim = said.text.rstrip(".!")
    reported = claim if re.match(r"I\b", claim) else claim[0].lower() + claim[1:]
    return rng.choice(QUOTING).replace("{claim}", reported).replace("{quoted}", claim)


def _woven(
    persona: Persona,
    partner: Persona | None,
    by_kind: Mapping[str, Sequence[Said]],
    own: Sequence[Own],
    rng: random.Random,
) -> list[Plant]:
    """The words as lines of a chat, one of each kind after the other, each text once."""
    lines: dict[str, Plant] = {}
    shuffled = [[(kind, said) for said in rng.sample(each, len(each))] for kind, each in by_kind.items()]
    for kind, said in _in_turn(shuffled):
        said_before = said.own or (rng.choice(own) if own and kind != "behaviour" else None)
        text = said.text
        if kind not in ("behaviour", "small_talk"):
            text = opened(rng.choice(OPENERS), text)
            if rng.random() < AMONG_TALK:
                text += f" {rng.choice(SMALL_TALK)[0]}"
        before = None if said_before is None else opened(rng.choice(OPENERS), said_before.text)
        lines.setdefault(said.text, Plant(persona, partner, kind, text, said.heard or rng.choice(ASKING), before))
    return list(lines.values())


def _in_turn(lists: Sequence[Sequence]) -> list:
    """The first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [each[place] for place in range(longest) for each in lists if place < len(each)]
