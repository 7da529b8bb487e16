"""Who is resampled: conversations, or the people in them.

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


def units_text(turns: pl.DataFrame) -> str:
    """A sentence that says what the intervals are computed over, for each seat."""
    parts = []
    for seat in SEATS:
        people, conversations = counts(turns, seat)
        if not conversations:
            continue
        if PEOPLE <= people < conversations:
            parts.append(f"{seat}: {people} people in {conversations} conversations, people are the units")
        elif people < conversations:
            parts.append(f"{seat}: {conversations} conversations of these {people} people are the units")
        else:
            parts.append(f"{seat}: {conversations} conversations, each of another person, are the units")
    return "; ".join(parts)
