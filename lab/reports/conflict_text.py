"""Conflicts of lines in words, for reports and live views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from metrics.conflicts import PERSONA, Conflict

NO_CONFLICT = "The judges report no contradiction."


def against(conflict: Conflict, said: Callable[[int], str] = lambda turn: "") -> str:
    """What the line conflicts with: `fact name and 5 earlier lines`, `persona`, `t4 “…”`.

    `said` gives the words of the speaker's line at a turn, "" where they are not to be shown.
    """
    parts = []
    if conflict.facts == (PERSONA,):
        parts.append(PERSONA)
    elif conflict.facts:
        parts.append(f"fact{'s' * (len(conflict.facts) > 1)} {', '.join(conflict.facts)}")
    if len(conflict.lines) == 1:
        words = said(conflict.lines[0])
        parts.append(f"t{conflict.lines[0]}" + (f" “{words}”" if words else ""))
    elif conflict.lines:
        parts.append(f"{len(conflict.lines)} earlier lines")
    return " and ".join(parts)


def sentence(conflict: Conflict, said: Callable[[int], str] = lambda turn: "") -> str:
    """`contradicts fact name and 5 earlier lines`, or `returns to the persona, conflicts with t4`."""
    verb = "returns to the persona, conflicts with" if conflict.returns else "contradicts"
    return f"{verb} {against(conflict, said)}"


def counts(conflicts: Iterable[tuple[int, str, Conflict]]) -> str:
    """The numbers over (conversation, seat, conflict): `3 contradicting lines (user 3); 1 fact contradicted; 2 lines
    return to the persona`. Where several judges have a say, also lines by judge.
    """
    known = list(conflicts)
    at_fault = [(c, seat, conflict) for c, seat, conflict in known if not conflict.returns]
    returns = len(known) - len(at_fault)
    seats, judges = (
        Counter(seat for _, seat, _ in at_fault),
        Counter(judge for *_, conflict in at_fault for judge in conflict.judges),
    )
    facts = {(c, seat, fact) for c, seat, conflict in at_fault for fact in conflict.facts if fact != PERSONA}
    by = ", ".join(f"{name} {number}" for name, number in sorted(seats.items()))
    by_judge = ", ".join(f"{name} {number}" for name, number in sorted(judges.items()))
    parts = [contradicting_lines_text(len(at_fault)) + (f" ({by})" if by else "")]
    parts += [f"by judge: {by_judge}"] if len(judges) > 1 else []
    parts += [f"{_number(len(facts), 'fact')} contradicted"] if facts else []
    parts += [f"{_number(returns, 'line')} return{'s' * (returns == 1)} to the persona"] if returns else []
    return "; ".join(parts)


def contradicting_lines_text(count: int) -> str:
    """`1 contradicting line`, `2 contradicting lines`."""
    return _number(count, "contradicting line")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
