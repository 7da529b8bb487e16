"""Which seat causes a difference: a stored run played again from one turn on, with other settings in either seat, both
or neither.

Every arm begins with the same stored lines and draws from the same seeds, so that arms differ by their settings alone.
What is attributed is inconsistency (the share of lines from that turn on which contradict their speaker's persona): the
effect of a seat is what its new settings add, averaged over the other seat's settings; the interaction is what both add
together and neither alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lab.store.event_log import read_events
from lab.store.run_store import read_manifest
from scenarios import personas as people
from scenarios.records import SEATS, derive_seed
from scenarios.scenario import Scenario, load_scenario

ARMS = ("AA", "AB", "BA", "BB")  # the user's settings, then the assistant's: A as stored, B as overridden
EVERYONE = "both"


def scenarios(run: str | Path, overrides: Sequence[str]) -> dict[str, Scenario]:
    """The scenario of each arm. Raises ValueError where an override is of no seat, or there is none."""
    stored = Path(run) / "scenario.yaml"
    read_manifest(run)
    for override in overrides:
        if not override.startswith(tuple(f"seats.{seat}." for seat in SEATS)):
            raise ValueError(
                f"override {override!r} is of no seat; expected seats.user.KEY=VALUE or seats.assistant.KEY=VALUE"
            )
    if not overrides:
        raise ValueError("nothing was changed; expected settings of a seat, such as seats.user.temperature=1.2")
    found = {}
    for arm in ARMS:
        changed = {seat for seat, setting in zip(SEATS, arm, strict=True) if setting == "B"}
        found[arm] = load_scenario(stored, [override for override in overrides if override.split(".")[1] in changed])
    return found


def beginning(run: str | Path, turn: int, scenario: Scenario) -> list[dict]:
    """The stored events before that turn that an arm of this scenario starts from.

    Judgements are kept too, unless someone else sits in a seat, whom the lines are then judged against. Raises
    ValueError where no conversation got as far, or the turn is none of the scenario's.
    """
    recast = people.cast(scenario) != people.cast(load_scenario(Path(run) / "scenario.yaml"))
    kept = before(read_events(run), turn, scenario, recast)
    if not reached(kept, turn):
        raise ValueError(f"{run} has no conversation of {turn} lines; expected a turn that it has reached")
    return kept


def before(events: Sequence[dict], turn: int, scenario: Scenario, recast: bool) -> list[dict]:
    """Lines before that turn, and judgements of them unless someone else sits in a seat. Raises ValueError where the
    turn is none of the scenario's.
    """
    if not 1 <= turn < scenario.turns:
        raise ValueError(
            f"turn {turn}: expected 1 to {scenario.turns - 1}, a line of the scenario that has one before it"
        )
    kinds = ("line",) if recast else ("line", "judged")
    return [event for event in events if event["event"] in kinds and event["turn"] < turn]


def reached(events: Sequence[dict], turn: int) -> set[int]:
    """Conversations with every line before that turn."""
    said = {(event["conversation"], event["turn"]) for event in events if event["event"] == "line"}
    return {c for c, _ in said if all((c, earlier) in said for earlier in range(turn))}


def attribute(
    run: str | Path, judgements: Mapping[str, pl.DataFrame], turn: int, *, confidence: float, resamples: int, seed: int
) -> list[dict]:
    """Rows {judge, lines ("both", "user" or "assistant": whose lines are scored), effect ("user", "assistant",
    "interaction"), value, low, high, n (conversations), inconsistency by arm, scored (lines) by arm}; positive: the new
    settings bring more of it. `judgements` by arm.
    """
    from metrics.conversation_sums import mean
    from metrics.reductions import of_metric
    from metrics.stats.differences import factorial

    whole = reached(read_events(run), turn)
    scored = {
        arm: of_metric(rows, "prompt_to_line").filter(
            pl.col("turn") >= turn, pl.col("verdict").is_not_null(), pl.col("conversation").is_in(whole)
        )
        for arm, rows in judgements.items()
    }
    names = dict(zip(("first", "second", "interaction"), (*SEATS, "interaction"), strict=True))
    rows = []
    for judge in sorted(set.intersection(*(set(part["judge"]) for part in scored.values()))):
        for lines in (EVERYONE, *SEATS):
            sums = _sums(
                {
                    arm: part.filter(pl.col("judge") == judge, (pl.lit(lines) == EVERYONE) | (pl.col("seat") == lines))
                    for arm, part in scored.items()
                }
            )
            found = factorial(
                sums,
                mean,
                confidence=confidence,
                resamples=resamples,
                seed=derive_seed(seed, "attribution", judge, lines),
            )
            by_arm = {arm: float(mean(part.sum(0, keepdims=True))[0, 0]) for arm, part in sums.items()}
            scored_lines = {arm: int(part[:, 1].sum()) for arm, part in sums.items()}
            rows += [
                {
                    "judge": judge,
                    "lines": lines,
                    "effect": names[name],
                    "value": effect.value,
                    "low": effect.low,
                    "high": effect.high,
                    "n": effect.n,
                    "inconsistency": by_arm,
                    "scored": scored_lines,
                }
                for name, effect in found.items()
            ]
    return rows


def _sums(scored: Mapping[str, pl.DataFrame]) -> dict:
    """Arm -> contradicting and scored lines (C, 2) of the conversations that every arm has scored, in one order."""
    counts = {
        arm: {
            c: (float(bad), float(n))
            for c, bad, n in part.group_by("conversation").agg(bad=pl.col("verdict").sum(), n=pl.len()).iter_rows()
        }
        for arm, part in scored.items()
    }
    common = sorted(set.intersection(*(set(by_conversation) for by_conversation in counts.values())))
    return {
        arm: np.array([by_conversation[c] for c in common]).reshape(len(common), 2)
        for arm, by_conversation in counts.items()
    }
