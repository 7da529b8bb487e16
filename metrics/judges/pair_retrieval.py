"""Retrieval of pairs: which earlier lines of a speaker to judge a new line against, the nearest in meaning instead of
all.

A line is split into its sentences in the first person, or into all its sentences where none is in the first person.
Questions are left out; a line of questions alone is paired with the line before, and so is one that is longer than
judges read. Of the sentences of a line the first `PIECES` count. The nearness of two such pieces is

    COSINE cos(u, v) + sum over topics of t(u) t(v)        (where the persona has no facts: cos(u, v))

- u and v are embeddings with names and numbers blanked out, so that the subject counts and not the value.
- The topics are the facts of the speaker's persona. t(u) is the softmax, with NO_TOPIC for "none of them", of SHARPNESS
  times the cosine of the unblanked embedding with the nearest of a fact's question and claims (its own value and the
  distractors).
- Pieces with the same names and numbers, or with exactly the same words, agree (unless one denies) and are left out.

The nearness of two lines is that of their nearest pieces. The nearest lines are chosen, none below `NEAR`.

Every line is judged against at least one earlier line: the nearest, or the line before where none is near. The share
that a line does not use remains for later ones: there are never more than `share` of all pairs so far, except for that
one per line. A share of a fifth is kept from ten lines of a seat on.

A pair that is not chosen is not judged: it has no row, counts neither as consistent nor as unscored, and is missing
from every mean over pairs. Since the chosen pairs are those most likely to contradict, such a mean is no estimate of
the mean over all pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from metrics.judges import READ, too_long
from scenarios.records import Persona
from scenarios.scripts import SENTENCE_MARKS, WIDE_SENTENCE_MARKS

Embed = Callable[[Sequence[str]], np.ndarray]  # N texts -> (N, d), rows of unit length
SHARE = 0.2  # of all pairs
PIECES = 100  # of a line
# what the likeness of meaning weighs beside that of topic: enough to tell pieces of one topic, or of none, apart
COSINE = 0.15
NEAR, NEAR_WITHOUT_TOPICS = 0.175, 0.2
SHARPNESS, NO_TOPIC = 12.0, 0.2  # of cosines
AGREES = -3.0  # added to the nearness of pieces that agree
_MARKS = SENTENCE_MARKS + WIDE_SENTENCE_MARKS
_SENTENCE = re.compile(rf"[^{_MARKS}\n]+[{_MARKS}]*")
_OF_ONESELF = re.compile(r"\b(?:i|my|me|mine|we|our|us|myself)\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|never|no|cannot)\b|n['’]t\b", re.IGNORECASE)
_VALUE = re.compile(r"\d+|(?<=[\w,;:] )(?!I\b)[A-Z][\w'’-]*(?: [A-Z][\w'’-]*)*")  # numbers, and names within a sentence


@dataclass(frozen=True)
class Pieces:
    """The pieces of a line that may contradict something, or be contradicted."""

    texts: tuple[str, ...]  # folded
    values: tuple[frozenset[str], ...]  # names and numbers of each, with "not" where it denies them
    vectors: np.ndarray  # (len(texts), d + topics): the dot product of two is their nearness
    near: float  # how near is near enough
    states: bool = True  # whether the line states anything


@dataclass
class Memory:
    """The lines of one speaker so far, and the number of pairs chosen among them."""

    share: float = SHARE

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share}: expected a number above 0 and at most 1")
        self.lines: list[Pieces] = []
        self.chosen = 0

    def add(self, line: Pieces) -> list[int]:
        """Indices, ascending, of the earlier lines against which the new line is judged.

        There is at least one where there is an earlier line.
        """
        count = len(self.lines)
        most = max(1, int(self.share * count * (count + 1) / 2 + 1e-9) - self.chosen)
        places = self._choose(line, most) if count else set()
        self.lines.append(line)
        self.chosen += len(places)
        return sorted(places)

    def _choose(self, line: Pieces, most: int) -> set[int]:
        if self.share == 1:
            return set(range(len(self.lines)))
        nearness = self._nearness(line) if line.states else np.full(len(self.lines), -np.inf)
        order = np.lexsort((-np.arange(len(nearness)), -nearness))  # the later of two equals first
        near = {int(place) for place in order[:most] if nearness[place] >= line.near}
        return near or {len(self.lines) - 1}

    def _nearness(self, line: Pieces) -> np.ndarray:
        """(earlier lines,) nearness of the nearest two pieces."""
        return np.array(
            [
                (line.vectors @ other.vectors.T + AGREES * _agreement(line, other)).max() if other.states else -np.inf
                for other in self.lines
            ]
        )


def candidates(
    lines: Sequence[str], embed: Embed, persona: Persona | None = None, share: float = SHARE
) -> list[tuple[int, int]]:
    """(later, earlier) indices of the lines of one seat that are to be judged, in that order.

    Raises ValueError unless 0 < share <= 1.
    """
    memory = Memory(share)
    return [
        (later, earlier)
        for later, line in enumerate(pieces(lines, embed, [persona] * len(lines)))
        for earlier in memory.add(line)
    ]


def pieces(lines: Sequence[str], embed: Embed, personas: Sequence[Persona | None] | None = None) -> list[Pieces]:
    """The pieces of each line; `personas` are the speakers of the lines. All texts are embedded in one call."""
    stated = [_statements(line) for line in lines]
    sentences = [statements or [line[:READ].strip() or "-"] for statements, line in zip(stated, lines, strict=True)]
    topics = [_topics(persona) if persona else () for persona in personas or [None] * len(lines)]
    texts = [text for of_line in sentences for piece in of_line for text in (piece, _blank(piece))]
    texts = list(
        dict.fromkeys([*texts, *(text for facts in dict.fromkeys(topics) for forms in facts for text in forms)])
    )
    vectors = dict(zip(texts, np.asarray(embed(texts)), strict=True)) if texts else {}
    return [
        Pieces(
            tuple(text.casefold() for text in of_line),
            tuple(map(_values, of_line)),
            _vectors(of_line, about, vectors),
            NEAR if about else NEAR_WITHOUT_TOPICS,
            bool(own),
        )
        for of_line, about, own in zip(sentences, topics, stated, strict=True)
    ]


Topics = tuple[tuple[str, ...], ...]  # by fact, its question and claims


@lru_cache(maxsize=4096)
def _topics(persona: Persona) -> Topics:
    return tuple((fact.question, *fact.options) for fact in persona.facts)


def _vectors(texts: Sequence[str], topics: Topics, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    """(texts, d + topics): rows whose dot product is the nearness of two texts."""
    blanked = np.stack([vectors[_blank(text)] for text in texts])
    if not topics:
        return blanked
    whole = np.stack([vectors[text] for text in texts])
    near = np.stack([(whole @ np.stack([vectors[form] for form in forms]).T).max(1) for forms in topics], 1)
    weights = np.exp(SHARPNESS * near)
    return np.hstack([COSINE**0.5 * blanked, weights / (weights.sum(1, keepdims=True) + np.exp(SHARPNESS * NO_TOPIC))])


def _statements(line: str) -> list[str]:
    if too_long(line):
        return []
    stated = [sentence for text in _SENTENCE.findall(line) if (sentence := text.strip()) and not sentence.endswith("?")]
    return ([sentence for sentence in stated if _OF_ONESELF.search(sentence)] or stated)[:PIECES]


def _values(text: str) -> frozenset[str]:
    values = frozenset(_VALUE.findall(text))
    return values | {"not"} if values and _DENIAL.search(text) else values


def _blank(text: str) -> str:
    return _VALUE.sub(lambda match: "5" if match[0].isdigit() else "X", text)


def _agreement(line: Pieces, other: Pieces) -> np.ndarray:
    """(pieces, pieces): whether two pieces have the same words, or the same names and numbers."""
    return np.array(
        [
            [
                text == known or (bool(values) and values == others)
                for known, others in zip(other.texts, other.values, strict=True)
            ]
            for text, values in zip(line.texts, line.values, strict=True)
        ]
    )
