"""A cascade: a first judge for all pairs, and a second judge for those about which the first is uncertain.

A pair goes to the second judge where the first judge's p_inconsistent lies strictly between `low` and `high`, or where
the first judge left it unscored. low = 0 and high = 1 forward every pair that is not certain; low = high forwards only
unscored pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metrics.judges import LINES, Judge, Pair, rows_by_pair
from scenarios.records import Judgement


@dataclass(frozen=True)
class Cascade:
    """A judge that consists of two judges; `by` of a judgement names the one that decided.

    A pair that the second judge cannot score is unscored, even where the first judge gave it an uncertain score.
    """

    first: Judge
    second: Judge
    low: float = 0.1
    high: float = 0.9
    name: str = "cascade"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"a cascade from {self.low} to {self.high}: expected 0 <= low <= high <= 1")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose pairs can be scored: those of the second judge, which gets what the first cannot score."""
        return getattr(self.second, "metrics", LINES)  # what the first one does not score is asked of the second one

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One judgement per pair, in the order of the pairs, under the cascade's name."""
        rows = _whole(pairs, self.first)
        doubtful = [
            place
            for place, row in enumerate(rows)
            if row.unscored is not None or row.p_inconsistent is None or self.low < row.p_inconsistent < self.high
        ]
        sent = [pairs[place] for place in doubtful]
        answers = _whole(sent, self.second) if sent else []
        spoken = dict(zip(doubtful, answers, strict=True))
        return [
            replace(spoken.get(place, row), judge=self.name, by=(self.second if place in spoken else self.first).name)
            for place, row in enumerate(rows)
        ]


def _whole(pairs: Sequence[Pair], judge: Judge) -> list[Judgement]:
    """The judge's judgement of each pair, without those of single facts."""
    return [rows[0] for rows in rows_by_pair(pairs, judge.judge(pairs))]
