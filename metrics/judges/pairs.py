"""The pairs (line, what it may contradict) of a new line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from metrics.judges import Pair
from scenarios.records import PARTNER, Line, Persona


def pairs_of_line(
    line: Line, before: Sequence[Line], cast: Mapping[str, Persona], metrics: Collection[str], earlier: Sequence[Line]
) -> Iterator[Pair]:
    """The pairs of a line for these metrics: with its speaker's persona, and with each of the speaker's `earlier`
    lines.

    `before` are all lines before it, of both seats.
    """
    persona = cast[line.seat]
    company = {
        "partner": cast[PARTNER[line.seat]],
        "heard": next((said.text for said in reversed(before) if said.seat != line.seat), ""),
    }
    if "prompt_to_line" in metrics:
        yield Pair(line.conversation, line.turn, line.seat, "prompt_to_line", line.text, "persona", persona, **company)
    for said in earlier if "line_to_line" in metrics else ():
        yield Pair(
            line.conversation,
            line.turn,
            line.seat,
            "line_to_line",
            line.text,
            str(said.turn),
            persona,
            said.text,
            **company,
        )
