"""A conversation as it was said, and its pairs for judges."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from metrics.judges import Pair, is_blank, pair_retrieval
from scenarios.records import PARTNER, SEATS, Line, Persona
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    import polars as pl

NODE = "transcript"  # where a line was said that no scenario led to
# (turn, "persona" or an earlier turn in digits) -> contradicts; None: not decided
Labels = Mapping[tuple[int, str], "bool | None"]


@dataclass(frozen=True)
class Transcript:
    """One conversation as it was said."""

    conversation: int
    name: str | None  # what its file calls it
    cast: Mapping[str, Persona]  # by seat; a persona without a card is unknown
    lines: tuple[Line, ...]
    ready: frozenset[int] = frozenset()  # turns whose words the scenario gave: not judged
    labels: Labels = field(default_factory=dict)
    strays: int = 0  # conflicts that the labels name with what is no earlier line of the same speaker
    omitted: Mapping[str, int] = field(default_factory=dict)  # what of the record is no line, by kind

    def numbered(self, conversation: int) -> Transcript:
        """The transcript with another conversation number, in its lines too."""
        if conversation == self.conversation:
            return self
        lines = tuple(replace(line, conversation=conversation) for line in self.lines)
        return replace(self, conversation=conversation, lines=lines)


@dataclass(frozen=True)
class Source:
    """The content of one path."""

    path: str
    form: str  # what it is and who sits where, for people
    transcripts: tuple[Transcript, ...]
    digest: str  # SHA-256 of what was read, in hex
    left_out: tuple[str, ...] = ()  # a sentence for each conversation that could not be read
    scenario: Scenario | None = None  # a run's
    notes: tuple[str, ...] = ()
    asked: str | None = None  # the form that was named, where it was not recognised by the keys
    records: bytes | None = None  # what was read, as JSON lines, where it was no file


def own_turns(transcript: Transcript, seat: str) -> set[int]:
    """The turns of the seat whose words the scenario did not give, without blank lines."""
    return {
        line.turn
        for line in transcript.lines
        if line.seat == seat and line.turn not in transcript.ready and not is_blank(line.text)
    }


def numbered(sources: Sequence[Source]) -> list[Transcript]:
    """All conversations, renumbered such that the numbers of each source follow those of the one before."""
    transcripts: list[Transcript] = []
    for source in sources:
        first = 1 + max((transcript.conversation for transcript in transcripts), default=-1)
        transcripts += [transcript.numbered(first + transcript.conversation) for transcript in source.transcripts]
    return transcripts


def transcript_pairs(
    transcript: Transcript, wanted: Collection[str], embed: pair_retrieval.Embed | None = None
) -> Iterator[Pair]:
    """The pairs of the metrics in `wanted`, in the order in which a run judges them.

    Each line is paired with its speaker's persona (`prompt_to_line`) and with earlier lines of its seat
    (`line_to_line`): with all of them, or, with `embed`, with those that retrieval selects.
    """
    said = transcript.lines
    spoken = [line for line in said if line.turn not in transcript.ready]
    earlier = _earlier(transcript, spoken, embed) if "line_to_line" in wanted else {}
    for line in spoken:
        persona = transcript.cast[line.seat]
        company = {
            "partner": transcript.cast[PARTNER[line.seat]],
            "heard": next(
                (other.text for other in reversed(said) if other.turn < line.turn and other.seat != line.seat), ""
            ),
        }
        where = (line.conversation, line.turn, line.seat)
        if "prompt_to_line" in wanted:
            yield Pair(*where, "prompt_to_line", line.text, "persona", persona, **company)
        for other in earlier.get(line.turn, ()):
            yield Pair(*where, "line_to_line", line.text, str(other.turn), persona, other.text, **company)


def _earlier(
    transcript: Transcript, spoken: Sequence[Line], embed: pair_retrieval.Embed | None
) -> dict[int, list[Line]]:
    """The earlier lines of the same seat with which each line is paired, by its turn."""
    if embed is None:
        return {
            line.turn: [other for other in spoken[:place] if other.seat == line.seat]
            for place, line in enumerate(spoken)
        }
    by_turn: dict[int, list[Line]] = {}
    for seat in SEATS:
        own = [line for line in spoken if line.seat == seat]
        for later, before in pair_retrieval.candidates([line.text for line in own], embed, transcript.cast[seat]):
            by_turn.setdefault(own[later].turn, []).append(own[before])
    return by_turn


def lines_of(turns: pl.DataFrame) -> Iterator[tuple[int, tuple[Line, ...]]]:
    """(conversation, lines in turn order) for each conversation of a turns frame."""
    rows = turns.drop("run_id").sort("conversation", "turn").iter_rows(named=True)
    for number, group in groupby(rows, key=lambda row: row["conversation"]):
        yield (
            number,
            tuple(
                Line(**row | {"token_ids": tuple(row["token_ids"] or ()), "cut": row.get("cut") or ""}) for row in group
            ),
        )
