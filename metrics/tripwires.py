"""Tripwires: inexpensive measures of what a speaker may trade for consistency (silence, agreement, repetition,
recitation).

Each tripwire is a mean over lines (over windows of words for distinct-1 and distinct-2), by turn, by conversation and
over the run, for each seat. No judge is involved.

- `distinct_1`, `distinct_2`: different words (pairs of neighbouring words) / all, 0 to 1, in windows of `WINDOW` words
  of a seat's lines in one conversation, so that the length of lines does not matter. A window counts at the line in
  which it ends; an incomplete last window is left out. Li et al., arXiv 1510.03055, use whole texts instead of windows.
- `repetition`: share, 0 to 1, of a line's n-grams of `RUN` words that the seat has said before in the conversation.
- `parroting`: share, 0 to 1, of a line's words that lie in a run of at least `COPIED` words of the speaker's card. "I"
  and "you" count as the same word, so that copying in either person is found; a fact stated in one short sentence does
  not count.
- `wrong_person`: share, 0 to 1, of lines that speak to or of the speaker as someone else: "You are Grace", "Grace is
  ...", a sentence of the card in the second person.
- `helper_voice`: share, 0 to 1, of lines in the style of an assistant: "As an AI language model", "How can I help you".
- `speaks_for_other`: share, 0 to 1, of lines that go on with the other's turn, behind its mark: "Fine.\\nAssistant: I
  ..." (`scenarios.turn_marks`), whether the mark stands in the text or what stood behind it was cut away (`cut`).
- `evasion`: share, 0 to 1, of lines that hold only function words, agreement, courtesy, and words of the line before.
- `length`: words per line. In a script without blanks between words, every letter counts as a word, here and above.
  Bounds were set for English.
- `relevance` (needs `embed`): cosine of a line with the partner's line that it answers, -1 to 1.
- `perplexity_nats` (needs `logprobs`): mean negative log-likelihood per token, in nats, under a reference model that
  reads the speaker's card: the natural logarithm of the perplexity.

Blank lines count in `evasion` (as evading) and in `length` (as 0), and in no other tripwire. Lines of more than
`LONGEST` characters count in `length` and `speaks_for_other` alone. `wrong_person`,
`helper_voice`, `evasion` and `relevance` read English: lines and cards in another script are left out of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import isfinite, log

import numpy as np
import polars as pl

from metrics import stacked
from metrics.judges.likelihood import LogProbs
from metrics.judges.text.word_lists import EMPTY_WORDS, HELPER, of_oneself
from metrics.reductions import by_level
from metrics.units import with_units
from scenarios.records import PARTNER, SEATS
from scenarios.scripts import not_english, words_of
from scenarios.turn_marks import spoken_for_another

LONGEST = 100_000  # characters of a line
WINDOW = 20  # words: in a short dialogue a seat says some 40
RUN = 4  # words
COPIED = 7  # words: one more than a fact in a sentence shares with a card
TEXT = (
    "distinct_1",
    "distinct_2",
    "repetition",
    "parroting",
    "wrong_person",
    "helper_voice",
    "speaks_for_other",
    "evasion",
    "length",
)
TRIPWIRES = (*TEXT, "relevance", "perplexity_nats")
SHARES = ("wrong_person", "helper_voice", "speaks_for_other", "evasion")  # of lines
MOST_PARROTING, MOST_WRONG_PERSON, MOST_HELPER_VOICE = 0.10, 0.05, 0.05
MOST_SPEAKS_FOR_OTHER = 0.05
MOST_EVASION, MOST_REPETITION = 0.25, 0.30
LEAST_LENGTH, LEAST_DISTINCT_2, LEAST_RELEVANCE = 3.0, 0.80, 0.10
OF_REFERENCE_DISTINCT_2 = 0.9  # of the reference's
OF_REFERENCE_PERPLEXITY = 1.25  # times the reference's
Key = tuple[int, str]  # conversation, seat
_NAME = re.compile(  # the speaker's name in a card
    r"(?:\b(?:[Yy]our name is|[Mm]y name is|You are|I am|I['’]m|Meet|Name:)\s+|^\s*(?=[A-Z]\w+(?:\s[A-Z]\w+)* "
    r"is\b))([A-Z][\w’-]+)"
)
Values = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Bound:
    """The allowed range of a tripwire's value over a run: `least` to `most`.

    Where a reference was measured with value r, the range is relative: at least `share` * r, or at most r + `over`.
    """

    least: float = -np.inf
    most: float = np.inf
    share: float | None = None
    over: float | None = None

    def beside(self, reference: float | None) -> Bound:
        """The bound relative to a reference's value; this bound where there is none, or where it has no relative
        part.
        """
        if reference is None or not isfinite(reference):
            return self
        if self.share is not None:
            return Bound(least=self.share * reference)
        return Bound(most=reference + self.over) if self.over is not None else self

    def broken(self, value: float | None) -> bool:
        """Whether the value lies outside the bound; False for None and for a value that is not finite."""
        return value is not None and isfinite(value) and not self.least <= value <= self.most

    def __str__(self) -> str:
        return f"≥ {self.least:.2f}" if isfinite(self.least) else f"≤ {self.most:.2f}" if isfinite(self.most) else ""


BOUNDS = {
    "distinct_2": Bound(least=LEAST_DISTINCT_2, share=OF_REFERENCE_DISTINCT_2),
    "repetition": Bound(most=MOST_REPETITION),
    "parroting": Bound(most=MOST_PARROTING),
    "wrong_person": Bound(most=MOST_WRONG_PERSON),
    "helper_voice": Bound(most=MOST_HELPER_VOICE),
    "speaks_for_other": Bound(most=MOST_SPEAKS_FOR_OTHER),
    "evasion": Bound(most=MOST_EVASION),
    "length": Bound(least=LEAST_LENGTH),
    "relevance": Bound(least=LEAST_RELEVANCE, share=1.0),
    "perplexity_nats": Bound(over=log(OF_REFERENCE_PERPLEXITY)),
}


def tripwires(
    turns: pl.DataFrame,
    cards: Mapping[Key, str] | None = None,
    *,
    counted: pl.DataFrame | None = None,
    embed: Callable[[Sequence[str]], np.ndarray] | None = None,
    logprobs: LogProbs | None = None,
    confidence: float,
) -> pl.DataFrame:
    """Rows (`metrics.METRICS_SCHEMA`) of every tripwire that can be computed from the arguments; their judge is null.

    `cards` maps (conversation, seat) to a persona's card; a speaker without a card is left out of each mean that needs
    it. `counted` (columns conversation and turn) names the lines that the speakers wrote themselves; None counts all
    lines. Without `embed` there is no relevance, without `logprobs` no perplexity. Empty input gives NaN with n = 0.
    """
    lines = _with_line_heard(turns)
    if counted is not None:
        lines = lines.join(counted.select("conversation", "turn").unique(), on=["conversation", "turn"], how="semi")
    lines = lines.sort("conversation", "seat", "turn")
    cards = cards or {}
    parts = [
        _of_text(lines, cards),
        *([_relevance(lines, embed)] if embed else []),
        *([_perplexity(lines, cards, logprobs)] if logprobs else []),
    ]
    values = pl.concat(parts).join(
        lines.with_row_index("row").select(pl.col("row").cast(pl.Int64), "conversation", "seat", "turn"), on="row"
    )
    names = [*TEXT, *(["relevance"] if embed else []), *(["perplexity_nats"] if logprobs else [])]
    values = with_units(values, turns)
    by_group = values.partition_by("name", "seat", as_dict=True)
    none = values.clear()
    seats = sorted(turns["seat"].unique()) or SEATS
    return stacked(
        by_level(by_group.get((name, seat), none), name, None, seat, confidence=confidence, share=name in SHARES)
        for name in names
        for seat in seats
    )


def fired(values: Mapping[str, float], reference: Mapping[str, float] | None = None) -> list[tuple[str, float, Bound]]:
    """(tripwire, value, bound) for every tripwire whose value over a run lies outside its bound.

    With `reference` (values by tripwire), the bounds are relative to it where they have a relative part.
    """
    bounds = {name: bound.beside((reference or {}).get(name)) for name, bound in BOUNDS.items() if name in values}
    return [(name, values[name], bound) for name, bound in bounds.items() if bound.broken(values[name])]


@lru_cache(maxsize=1 << 12)
def folded_words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, with straight apostrophes."""
    return tuple(words_of(text.lower().replace("’", "'")))


def evades(said: Iterable[str], heard: Iterable[str]) -> bool:
    """Whether a line adds nothing: all its words are function words, agreement, courtesy, or words of the line
    before.
    """
    return not (set(said) - EMPTY_WORDS - set(heard))


def line_wires(text: str, card: str, heard: str = "") -> dict[str, float]:
    """The values of tripwires that can be computed from one line, by tripwire; those that do not apply are left out.

    They are as in the module's docstring, for a single line.
    """
    return dict(_Speaker(card).line(text, heard))


def _with_line_heard(turns: pl.DataFrame) -> pl.DataFrame:
    """conversation, turn, seat, text, `cut` and `heard`: the last line before it of the other seat, null at the
    start.
    """
    cut = pl.col("cut").fill_null("") if "cut" in turns.columns else pl.lit("").alias("cut")
    ordered = turns.select("conversation", "turn", "seat", "text", cut).sort("conversation", "turn")
    last = [
        pl.when(pl.col("seat") == seat).then(pl.col("text")).forward_fill().over("conversation").alias(f"_{seat}")
        for seat in SEATS
    ]
    user, assistant = (pl.col(f"_{seat}") for seat in SEATS)
    return ordered.with_columns(last).select(
        "conversation",
        "turn",
        "seat",
        "text",
        "cut",
        heard=pl.when(pl.col("seat") == SEATS[0]).then(assistant).otherwise(user),
    )


def _of_text(lines: pl.DataFrame, cards: Mapping[Key, str]) -> pl.DataFrame:
    rows, names, values = [], [], []
    speaker, key = None, None
    for row, (conversation, _, seat, text, cut, heard) in enumerate(lines.iter_rows()):
        if speaker is None or (conversation, seat) != key:
            key = (conversation, seat)
            speaker = _Speaker(cards.get(key), seat, cards.get((conversation, PARTNER[seat])))
        for name, value in speaker.line(text, heard or "", bool(cut)):
            rows.append(row)
            names.append(name)
            values.append(value)
    return _values(rows, names, values)


class _Speaker:
    """The lines of one seat so far in one conversation, with its card."""

    def __init__(self, card: str | None, seat: str = "", partners_card: str | None = None) -> None:
        self._said: set[int] = set()  # hashes of runs: plain numbers cost the garbage collector nothing
        self._window: tuple[str, ...] = ()
        self._card = _Card(card) if card and card.strip() else None
        self._who = (seat, _name(card), _name(partners_card))

    def line(self, text: str, heard: str, cut: bool = False) -> Values:
        """(tripwire, value) pairs of the next line; tripwires that do not apply to it are left out. `cut`: words for
        the other were cut off its end.
        """
        speaks = float(cut or bool(spoken_for_another(text, *self._who)))
        if len(text) > LONGEST:
            yield "length", float(len(words_of(text)))
            yield "speaks_for_other", speaks
            return
        said = folded_words(text)
        english = _is_english(text)
        if english:
            yield "evasion", float(evades(said, folded_words(heard[:LONGEST])))
        yield "length", float(len(said))
        if not said:
            return
        runs = list(map(hash, _runs(said, RUN)))
        if runs:
            yield "repetition", sum(run in self._said for run in runs) / len(runs)
            self._said.update(runs)
        if english:
            yield "helper_voice", float(HELPER.search(text) is not None)
        yield "speaks_for_other", speaks
        if self._card:
            yield "parroting", self._card.copied(said)
        if self._card and english and self._card.english:
            yield "wrong_person", float(self._card.of_someone_else(text, said))
        words = self._window + said
        whole = len(words) - len(words) % WINDOW
        self._window = words[whole:]
        for start in range(0, whole, WINDOW):
            window = words[start : start + WINDOW]
            yield "distinct_1", len(set(window)) / WINDOW
            yield "distinct_2", len(set(_runs(window, 2))) / (WINDOW - 1)


class _Card:
    def __init__(self, text: str) -> None:
        self._runs = set(_runs(_one_person(folded_words(text)), COPIED))
        self._words_of_runs = {frozenset(run) for run in self._runs}
        name = _name(text)
        sentences = [" ".join(folded_words(sentence)) for sentence in _sentences(text)]
        self._told = {sentence for sentence in sentences if re.match(r"your?\b", sentence)}
        self._name = of_oneself(name) if name else None
        self.english = _is_english(text)

    def copied(self, said: Sequence[str]) -> float:
        different = set(_one_person(set(said)))
        if not any(words <= different for words in self._words_of_runs):
            return 0.0
        runs = enumerate(_runs(_one_person(said), COPIED))
        inside = {place + step for place, run in runs if run in self._runs for step in range(COPIED)}
        return len(inside) / len(said)

    def of_someone_else(self, text: str, said: Sequence[str]) -> bool:
        if self._name and self._name.search(text):
            return True
        different = set(said)
        return any(set(sentence.split()) <= different for sentence in self._told) and any(
            " ".join(folded_words(sentence)) in self._told for sentence in _sentences(text)
        )


def _is_english(text: str) -> bool:
    """Whether a text is in the script of English, or without letters."""
    return not_english("the text", text) is None


def _name(card: str | None) -> str:
    """The name that a card gives its persona; "" where it gives none."""
    name = _NAME.search(card or "")
    return name[1] if name else ""


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+|\n+", text)


def _runs(said: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(islice(said, start, None) for start in range(length)), strict=False)


_PERSON = {
    "you": "i",
    "me": "i",
    "your": "my",
    "yours": "mine",
    "yourself": "myself",
    "are": "am",
    "were": "was",
    "you're": "i'm",
    "you've": "i've",
    "you'll": "i'll",
    "you'd": "i'd",
}


def _one_person(said: Iterable[str]) -> list[str]:
    """The words with the second person turned into the first."""
    return [_PERSON.get(word, word) for word in said]


def _relevance(lines: pl.DataFrame, embed: Callable[[Sequence[str]], np.ndarray]) -> pl.DataFrame:
    rows = [
        (row, text, heard)
        for row, (_, _, _, text, _, heard) in enumerate(lines.iter_rows())
        if heard
        and max(len(heard), len(text)) <= LONGEST
        and folded_words(heard)
        and folded_words(text)
        and _is_english(heard)
        and _is_english(text)
    ]
    texts = list(dict.fromkeys(text for _, *both in rows for text in both))
    place = {text: number for number, text in enumerate(texts)}
    vectors = np.asarray(embed(texts)) if texts else np.zeros((0, 1))
    said, answered = (vectors[[place[row[column]] for row in rows]] if rows else vectors for column in (1, 2))
    return _values([row for row, _, _ in rows], ["relevance"] * len(rows), (said * answered).sum(1).tolist())


def _perplexity(lines: pl.DataFrame, cards: Mapping[Key, str], logprobs: Callable) -> pl.DataFrame:
    rows = [
        (row, cards[conversation, seat], text)
        for row, (conversation, _, seat, text, *_) in enumerate(lines.iter_rows())
        if (conversation, seat) in cards and len(text) <= LONGEST and folded_words(text)
    ]
    scored = logprobs([card for _, card, _ in rows], [text for _, _, text in rows]) if rows else []
    means = [-float(np.mean(tokens)) if len(tokens) and np.isfinite(tokens).all() else None for tokens in scored]
    return _values([row for row, _, _ in rows], ["perplexity_nats"] * len(rows), means)


def _values(rows: Sequence[int], names: Sequence[str], values: Sequence[float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {"row": rows, "name": names, "y": values}, schema={"row": pl.Int64, "name": pl.String, "y": pl.Float64}
    )
