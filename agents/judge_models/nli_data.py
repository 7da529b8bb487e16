"""Pairs of sentences to train and test the embedded NLI head, generated from slots: no corpus, no download.

Every pair is a statement about oneself (the premise) and a later sentence (the hypothesis).

- Contradiction: the same slot with another value, the same value denied, or the other side of an opposite.
- Entailment: the same value in other words, or another value denied.
- Neutral: another slot, another person's ("My sister lives in ..."), the listener's, a question, a wish, a mention, or
  small talk.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from scenarios.personas import load_slots

CONTRADICTION, NEUTRAL, ENTAILMENT = range(3)
LABELS = ("contradiction", "neutral", "entailment")
FOLDER = Path(__file__).parent
SLOTS = FOLDER.parents[1] / "scenarios" / "personas" / "slots.yaml"
HELD_VALUES = 5  # every fifth value of a slot is kept from training
KINDS = (
    (CONTRADICTION, "value", 5),
    (CONTRADICTION, "denied", 3),
    (ENTAILMENT, "words", 6),
    (ENTAILMENT, "other denied", 2),
    (NEUTRAL, "slot", 4),
    (NEUTRAL, "someone", 2),
    (NEUTRAL, "asked", 1),
    (NEUTRAL, "aside", 2),
    (NEUTRAL, "talk", 2),
    (NEUTRAL, "values", 1),
)
JOINED = (", and {}", " and {}", "; {}", ". {}", ", but {}")  # another statement behind the first
BEFORE = (
    "Well, ",
    "Oh, ",
    "Honestly, ",
    "You know, ",
    "To tell you the truth, ",
    "Yes, ",
    "Hi there! ",
    "Haha, ",
    "As I said, ",
    "That's nice. ",
    "I hear you, but ",
    "Speaking of which, ",
)
AFTER = (
    ", and I love it",
    ", you know",
    ", of course",
    " these days",
    ", what about you?",
    ", believe it or not",
    ", as everybody knows",
    ", and that will never change",
    ", so I know what I am talking about",
    ", to be honest",
)
WISHES = (
    "I wish I could say that {}",
    "Imagine that {}",
    "You said that {}",
    "Some people think that {}",
    "If only it were true that {}",
)
SOMEONE = ("My sister", "My neighbour", "My best friend", "My uncle", "My boss", "A friend of mine", "Your brother")
CONTRACTED = (
    ("I am not", "I'm not"),
    ("do not", "don't"),
    ("did not", "didn't"),
    ("is not", "isn't"),
    ("I am", "I'm"),
    ("I have been", "I've been"),
    ("cannot", "can't"),
    ("are not", "aren't"),
    ("I would", "I'd"),
    ("that is", "that's"),
)
PAST = {
    "grew",
    "was",
    "were",
    "turned",
    "went",
    "spent",
    "adopted",
    "studied",
    "majored",
    "read",
    "got",
    "graduated",
    "came",
    "opened",
}
VERBS = re.compile(
    r"\b(am|is|are|was|live|work|reside|grew|come|hail|spent|went|earn|make|have|own|keep|share|adopted|call|calls|go|play|"
    r"love|like|enjoy|practise|practice|turned)\b"
)
FRAGMENT = re.compile(r"\b(for|last|I)$|^my work as")


@dataclass(frozen=True)
class Ways:
    """A slot with the wordings that the training data uses."""

    id: str
    claims: tuple[str, ...]  # one {value} each
    values: tuple[str, ...]
    asides: tuple[str, ...]


NOTHING = Ways("", (), (), ())


@dataclass(frozen=True)
class Example:
    """A pair of texts with its label."""

    premise: str
    hypothesis: str
    label: int  # place in LABELS
    slot: str
    kind: str


@dataclass(frozen=True)
class Corpus:
    """The slots, opposites and other sentences from which pairs are generated."""

    slots: tuple[Ways, ...]
    opposites: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    small_talk: tuple[str, ...]
    values: tuple[str, ...]
    touching: tuple[frozenset[str], ...]

    def apart(self, name: str) -> tuple[list[Ways], list[str]]:
        """The slots, and the keys of opposites, that are unrelated to the slot or opposite of that name."""
        near = frozenset({name}).union(*(group for group in self.touching if name in group))
        return [slot for slot in self.slots if slot.id not in near], [key for key in self.opposites if key not in near]


def corpora() -> dict[str, Corpus]:
    """The corpora by name: "train", "values" (held-out values of the same slots) and "slots" (held-out slots and
    opposites).
    """
    own = yaml.safe_load((FOLDER / "nli_slots.yaml").read_text())
    slots_of_townsfolk = {
        slot: Ways(slot, _wordings([*spec.patterns, spec.claim]), tuple(spec.values), ())
        for slot, spec in load_slots(SLOTS).items()
    }
    slots = [
        Ways(
            name,
            (*spec.get("claims", slots_of_townsfolk.get(name, NOTHING).claims), *spec.get("more", ())),
            tuple(spec.get("values") or slots_of_townsfolk[name].values),
            tuple(spec["asides"]),
        )
        for name, spec in own["slots"].items()
    ]
    opposites = {name: (tuple(one), tuple(other)) for name, (one, other) in own["opposites"].items()}
    held, rest = (
        set(own["held_out"]),
        (tuple(own["small_talk"]), tuple(own["values"]), tuple(map(frozenset, own["touching"]))),
    )
    known = [slot for slot in slots if slot.id not in held]

    def only(slot: Ways, kept: bool) -> Ways:
        values = tuple(v for place, v in enumerate(slot.values) if (place % HELD_VALUES == 0) == kept)
        return Ways(slot.id, slot.claims, values, slot.asides)

    return {
        "train": Corpus(
            tuple(only(slot, False) for slot in known), {k: v for k, v in opposites.items() if k not in held}, *rest
        ),
        "values": Corpus(tuple(only(slot, True) for slot in known if len(slot.values) > HELD_VALUES), {}, *rest),
        "slots": Corpus(
            tuple(slot for slot in slots if slot.id in held), {k: v for k, v in opposites.items() if k in held}, *rest
        ),
    }


def examples(corpus: Corpus, number: int, seed: int) -> list[Example]:
    """`number` pairs, a quarter of them from opposites where there are any; the kinds have the weights of KINDS."""
    rng = random.Random(seed)
    kinds, weights = KINDS, [weight for _, _, weight in KINDS]
    pairs = []
    while len(pairs) < number:
        if corpus.opposites and rng.random() < 0.25:
            pairs.append(_opposite(corpus, rng))
        else:
            label, kind, _ = rng.choices(kinds, weights)[0]
            if pair := _pair(corpus, kind, rng):
                near, premise, hypothesis = pair
                premise, taken = _with_more(premise, corpus, near, rng)
                if label != ENTAILMENT:  # more words would not follow
                    hypothesis, _ = _with_more(hypothesis, corpus, taken, rng)
                pairs.append(
                    Example(_said(premise, rng, plain=0.7), _said(hypothesis, rng, plain=0.4), label, near[0], kind)
                )
    return pairs


def _with_more(sentence: str, corpus: Corpus, near: tuple[str, ...], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """The sentence, sometimes with one or two statements around it from slots outside `near`, and all slots used so
    far.
    """
    for _ in range(rng.choices((0, 1, 2), (0.65, 0.25, 0.1))[0]):
        far = [slot for slot in corpus.slots if all(slot in corpus.apart(name)[0] for name in near)]
        if not far:
            break
        slot = rng.choice(far)
        other = rng.choice(slot.claims).format(value=rng.choice(slot.values))
        other = rng.choice((other, other, rng.choice(corpus.values)))
        first, second = rng.sample((sentence, other), 2)
        joint = rng.choice(JOINED)
        sentence = first + joint.format(
            second[0].upper() + second[1:]
            if joint.startswith(".") or second.startswith("I")
            else second[0].lower() + second[1:]
        )
        near = (*near, slot.id)
    return sentence, near


def _pair(corpus: Corpus, kind: str, rng: random.Random) -> tuple[tuple[str, ...], str, str] | None:
    """(the slots that the pair is about, premise, hypothesis)."""
    slot = rng.choice(corpus.slots)
    value, other = rng.sample(slot.values, 2)
    first, second = rng.sample(slot.claims, 2) if len(slot.claims) > 1 else list(slot.claims) * 2
    premise = first.format(value=value)
    if kind == "value":
        return (slot.id,), premise, (first if rng.random() < 0.4 else second).format(value=other)
    if kind == "words":
        return (slot.id,), premise, (first if rng.random() < 0.1 else second).format(value=value)
    if kind in ("denied", "other denied"):
        denial = denied(
            (first if rng.random() < 0.4 else second).format(value=value if kind == "denied" else other), rng
        )
        return ((slot.id,), premise, denial) if denial else None
    if kind == "talk":
        return (slot.id,), premise, rng.choice(rng.choice((corpus.small_talk, corpus.values)))
    if kind == "values":
        premise, hypothesis = rng.sample(corpus.values, 2)
        return ("values",), premise, hypothesis
    if kind == "aside":
        return (
            ((slot.id,), premise, rng.choice(slot.asides).format(value=rng.choice((value, other))))
            if slot.asides
            else None
        )
    said = second.format(value=rng.choice((value, other)))
    if kind == "someone":
        moved = of_someone(said, rng.choice(SOMEONE))
        return ((slot.id,), premise, moved) if moved else None
    if kind == "asked":
        return (slot.id,), premise, rng.choice(WISHES).format(said)
    return _of_another_slot(corpus, slot, value, premise, rng)


def _of_another_slot(
    corpus: Corpus,
    slot: Ways,
    value: str,
    premise: str,
    rng: random.Random,
) -> tuple[tuple[str, ...], str, str]:
    """A claim of another slot, sometimes with the same value ("I grew up in Leeds"), or a side of an opposite."""
    slots, opposites = corpus.apart(slot.id)
    if opposites and rng.random() < 0.3:
        key = rng.choice(opposites)
        return (slot.id, key), premise, rng.choice(rng.choice(corpus.opposites[key]))
    same = [slot_with_value for slot_with_value in slots if value in slot_with_value.values]
    another = rng.choice(same if same and rng.random() < 0.5 else slots)
    said = rng.choice(another.claims).format(value=value if another in same else rng.choice(another.values))
    return (slot.id, another.id), premise, (rng.random() < 0.15 and denied(said, rng)) or said


def _opposite(corpus: Corpus, rng: random.Random) -> Example:
    name, sides = rng.choice(list(corpus.opposites.items()))
    mine, theirs = rng.sample(sides, 2)
    premise, same = rng.sample(mine, 2) if len(mine) > 1 else list(mine) * 2
    label = rng.choice((CONTRADICTION, CONTRADICTION, ENTAILMENT, NEUTRAL))
    said = {
        CONTRADICTION: lambda: rng.choice(theirs),
        ENTAILMENT: lambda: same,
        NEUTRAL: lambda: _elsewhere(corpus, name, rng),
    }[label]()
    if label != NEUTRAL:
        premise, taken = _with_more(premise, corpus, (name,), rng)
        said = _with_more(said, corpus, taken, rng)[0] if label == CONTRADICTION else said
    return Example(_said(premise, rng, 0.7), _said(said, rng, 0.4), label, name, "opposite")


def _elsewhere(corpus: Corpus, name: str, rng: random.Random) -> str:
    """A sentence that is unrelated to the opposite of that name."""
    if rng.random() < 0.3 and (
        moved := of_someone(rng.choice(rng.choice(corpus.opposites[name])), rng.choice(SOMEONE))
    ):
        return moved
    slots, opposites = corpus.apart(name)
    slot, sides = rng.choice(slots), corpus.opposites[rng.choice(opposites)]
    return rng.choice(
        (
            rng.choice(slot.claims).format(value=rng.choice(slot.values)),
            rng.choice(rng.choice(sides)),
            rng.choice(corpus.small_talk),
        )
    )


def denied(sentence: str, rng: random.Random) -> str | None:
    """The negation of the sentence; None where the rules cannot form it."""
    for here, there in (("I am ", "I am not "), ("I was ", "I was not "), ("I can ", "I cannot ")):
        if sentence.startswith(here):
            return there + sentence[len(here) :]
    if match := re.match(r"I (\w+) ", sentence):
        if match[1] in PAST or re.match(r"I have (been|got|turned|made|played|one) ", sentence):
            return None
        return f"{rng.choice(('I do not', 'I do not', 'I no longer'))} {sentence[2:]}"
    if " is " in sentence and sentence.startswith(("my ", "the ", "by ")):
        return sentence.replace(" is ", " is not ", 1)
    return None


def of_someone(sentence: str, who: str) -> str | None:
    """The same claim about another person ("My sister lives in Oslo"); None where the rules cannot form it."""
    if match := re.match(r"I (\w+) ", sentence):
        verb = match[1]
        said = {
            "am": "is",
            "have": "has",
            "go": "goes",
            "do": "does",
            "cannot": "cannot",
            "can": "can",
            "never": "never",
        }.get(verb)
        said = said or (verb if verb in PAST else f"{verb}s")
        return re.sub(r"\bmy\b", "their", f"{who} {said} {sentence[len(match[0]) :]}")
    return f"{who}'s {sentence[3:]}" if sentence.startswith(("my ", "My ")) else None


def _said(sentence: str, rng: random.Random, plain: float) -> str:
    """The sentence in a spoken form: contracted or not, and unless `plain`, with words before and after it."""
    if rng.random() < 0.5:
        for full, short in CONTRACTED:
            sentence = sentence.replace(full, short)
    if rng.random() > plain:
        before = rng.choice(BEFORE) if rng.random() < 0.6 else ""
        opens = before.endswith(("! ", ". "))
        sentence = before + (sentence[0].upper() if opens else sentence[0]) + sentence[1:]
        sentence += rng.choice(AFTER) if rng.random() < 0.6 else ""
    sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence.endswith("?") else sentence + rng.choice((".", ".", ".", "!", ""))


def _wordings(patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns of a slot that are complete sentences."""
    plain = [pattern.rstrip(".") for pattern in patterns]
    return tuple(dict.fromkeys(p for p in plain if VERBS.search(p) and not FRAGMENT.search(p)))
