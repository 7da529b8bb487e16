"""Contradicting lines and returns: what a line conflicts with, defined once for frames, reports, transcripts and views.

The judgements of a line may hold several contradictions: of facts of its speaker's persona (or of the persona as a
whole, where the judge names no fact) and of earlier lines of its speaker. A contradiction of an earlier line says that
two lines disagree; which of them is at fault follows from the persona. The later line *returns* to the persona where,
by the same judge,

- the earlier line contradicts the persona and the later one was scored and does not, and
- the later line affirms a fact that the earlier one contradicts (where the judge names the facts that it contradicts).

A *contradicting line* has at least one contradiction that is no return. It counts once, however many facts and earlier
lines it contradicts. A line all of whose contradictions are returns is a *return* and no contradicting line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import polars as pl

from metrics.judges import LINES

DOUBT = 0.5  # from this p_inconsistent on a row affirms nothing, even where it is called no contradiction
PERSONA = "persona"  # what a row is against where no fact is named
Mark = tuple[Mapping, bool]  # a row with a contradiction, and whether the line returns to the persona by it
Denials = dict[int, dict[str, set[str]]]  # turn -> judge -> facts, or PERSONA, that the line contradicts


@dataclass(frozen=True)
class Conflict:
    """What one line conflicts with, by all judges, with repeats folded.

    Of a contradicting line, `facts` and `lines` hold what it contradicts; of a return, `lines` holds the lines from
    which it returns.
    """

    facts: tuple[str, ...]  # ids; (PERSONA,) where no judge names one
    lines: tuple[int, ...]  # turns of the speaker's earlier lines, ascending
    judges: tuple[str, ...]  # who say so
    returns: bool


def contradictions(rows: Iterable[Mapping], denials: Mapping[int, Mapping[str, Collection[str]]]) -> list[Mark]:
    """The contradictions of one line among all judgements of it, each once; answers to Q&A probes are left out.

    A judge's row on the whole persona is left out where the judge names a fact. `denials` are those of the speaker's
    earlier lines.
    """
    scored = [row for row in rows if row["metric"] in LINES and row["verdict"] is not None]
    of_persona = [row for row in scored if row["metric"] == "prompt_to_line"]
    named = {row["judge"] for row in of_persona if row["verdict"] and row["against"] != PERSONA}
    wrong = {row["judge"] for row in of_persona if row["verdict"]}
    clear = [row for row in of_persona if row["p_inconsistent"] is not None and row["p_inconsistent"] < DOUBT]
    right = {row["judge"] for row in clear if row["against"] == PERSONA} - wrong
    affirmed = {(row["judge"], row["against"]) for row in clear if row["against"] != PERSONA}

    def returns(row: Mapping) -> bool:
        judge = row["judge"]
        before = denials.get(int(row["against"]), {}).get(judge, ()) if row["metric"] == "line_to_line" else ()
        return judge in right and any(fact == PERSONA or (judge, fact) in affirmed for fact in before)

    return [
        (row, returns(row))
        for row in scored
        if row["verdict"]
        and not (row["metric"] == "prompt_to_line" and row["against"] == PERSONA and row["judge"] in named)
    ]


def denied(marks: Iterable[Mark]) -> dict[str, set[str]]:
    """What a line contradicts of its persona, by judge, from its contradictions."""
    facts: dict[str, set[str]] = {}
    for row, _ in marks:
        if row["metric"] == "prompt_to_line":
            facts.setdefault(row["judge"], set()).add(row["against"])
    return facts


def folded(marks: Sequence[Mark]) -> Conflict | None:
    """The conflict of a line from its contradictions; None without any."""
    if not marks:
        return None
    returning = all(returns for _, returns in marks)
    rows = [row for row, returns in marks if returns == returning]
    facts = dict.fromkeys(str(row["against"]) for row in rows if row["metric"] == "prompt_to_line")
    lines = {int(row["against"]) for row in rows if row["metric"] == "line_to_line"}
    return Conflict(
        tuple(fact for fact in facts if fact != PERSONA or len(facts) == 1),
        tuple(sorted(lines)),
        tuple(dict.fromkeys(row["judge"] for row in rows)),
        returning,
    )


def marks_of_lines(judgements: pl.DataFrame) -> dict[tuple[int, int], list[Mark]]:
    """The contradictions of each line that has any, by (conversation, turn), in that order."""
    wrong = pl.col("verdict").fill_null(value=False)
    # rows on lines that contradict nothing say nothing here
    rows = judgements.filter(pl.col("metric").is_in(LINES)).filter(wrong.any().over("conversation", "turn"))
    rows = rows.filter(wrong | (pl.col("metric") == "prompt_to_line")).sort("conversation", "turn", maintain_order=True)
    marks: dict[tuple[int, int], list[Mark]] = {}
    for number, conversation in groupby(rows.iter_rows(named=True), lambda row: row["conversation"]):
        denials: Denials = {}
        for turn, of_line in groupby(conversation, lambda row: row["turn"]):
            marks[number, turn] = contradictions(list(of_line), denials)
            denials[turn] = denied(marks[number, turn])
    return marks


def conflicts_of_lines(judgements: pl.DataFrame) -> dict[tuple[int, int], Conflict]:
    """The conflict of each line that has one, by (conversation, turn), in that order."""
    folds = {place: folded(marks) for place, marks in marks_of_lines(judgements).items()}
    return {place: conflict for place, conflict in folds.items() if conflict}
