"""The units of intervals: conversations, or the people in them.

The lines of a conversation resemble each other, and so do the conversations of one person. Where personas are dealt
again, intervals over conversations hold for these people and are too narrow for others like them. So the unit of a
seat is the person where some person sits in it more than once and there are at least PEOPLE of them; otherwise it is
the conversation, and what is said is said of these people.
"""

from __future__ import annotations

import polars as pl

from scenarios.records import SEATS

PEOPLE = 6  # of fewer, intervals over people say nothing


def with_units(frame: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
    """The frame (conversation, seat, …) with a column `unit`: a number for each person, or each conversation, of the
    seat; without it where the units of both seats are conversations, or `turns` has no column persona.
    """
    people = [seat for seat in SEATS if "persona" in turns.columns and seats_by_people(turns, seat)]
    if not people:
        return frame
    who = turns.filter(pl.col("seat").is_in(people)).group_by("conversation", "seat").agg(pl.col("persona").first())
    who = who.with_columns(unit=pl.col("persona").rank("dense").cast(pl.Int64)).select("conversation", "seat", "unit")
    joined = frame.join(who, on=["conversation", "seat"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("unit").fill_null(pl.col("conversation")))


def seats_by_people(turns: pl.DataFrame, seat: str) -> bool:
    """Whether the unit of that seat is the person."""
    people, conversations = counts(turns, seat)
    return PEOPLE <= people < conversations


def counts(turns: pl.DataFrame, seat: str) -> tuple[int, int]:
    """(people, conversations) in which that seat speaks."""
    own = turns.filter(pl.col("seat") == seat)
    return own["persona"].n_unique(), own["conversation"].n_unique()


def fewest(turns: pl.DataFrame) -> int:
    """The smaller number of units of the seats that speak; 0 without turns."""
    return min((_units(turns, seat) for seat in SEATS if counts(turns, seat)[1]), default=0)


def units_text(turns: pl.DataFrame) -> str:
    """A sentence that says what the units of intervals are; "" without turns."""
    texts = {seat: _text(turns, seat) for seat in SEATS if counts(turns, seat)[1]}
    if len(set(texts.values())) == 1:
        return f"The units of all intervals are {next(iter(texts.values()))}."
    whose = " and ".join(f"{text} for the {seat}" for seat, text in texts.items())
    return f"The units of intervals are {whose}." if texts else ""


def _units(turns: pl.DataFrame, seat: str) -> int:
    return counts(turns, seat)[0 if seats_by_people(turns, seat) else 1]


def _text(turns: pl.DataFrame, seat: str) -> str:
    people, conversations = counts(turns, seat)
    said = f"{conversations} conversation{'s' * (conversations != 1)}"
    if seats_by_people(turns, seat):
        return f"{people} people, who sit in {said}"
    return said if people == conversations else f"{said} of {people} p{'eople' if people > 1 else 'erson'} alone"
