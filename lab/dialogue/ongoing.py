"""One conversation in progress, as the loop knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from metrics.conflicts import Denials, contradictions, denied
from metrics.judges import pair_retrieval
from scenarios.records import SEATS, Fact, Judgement, Line, Persona


@dataclass
class OngoingDialogue:
    """One conversation in progress."""

    number: int
    cast: dict[str, Persona]
    node: str
    lines: list[Line] = field(default_factory=list)
    visit: int = 0  # lines said at the node in this visit
    facts_asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEATS, 0))  # of that seat, so far
    fact: dict[str, Fact | None] = field(default_factory=lambda: dict.fromkeys(SEATS))  # the last of them
    ready: set[int] = field(default_factory=set)  # turns whose words the scenario gave: no speaker's own, so not judged
    memory: dict[str, pair_retrieval.Memory] = field(
        default_factory=lambda: {seat: pair_retrieval.Memory() for seat in SEATS}
    )
    remembered: int = 0  # lines in `memory`, where pairs are retrieved
    near: list[int] = field(default_factory=list)  # indices of own earlier lines with which the last line is judged
    denials: dict[str, Denials] = field(default_factory=lambda: {seat: {} for seat in SEATS})  # of that seat's lines
    failed: bool = False
    left: bool = False  # a speaker has left: the dialogue ends with its lines so far

    @property
    def over(self) -> bool:
        return self.failed or self.left

    def contradicts(self, judged: Sequence[Judgement], judge: str) -> bool:
        """Whether that judge finds a contradiction in the last line, apart from returns to the persona (see
        `metrics.conflicts`). `judged` are its judgements by all judges. To be called for each line in turn.
        """
        line = self.lines[-1]
        marks = contradictions([asdict(row) for row in judged if row.judge == judge], self.denials[line.seat])
        self.denials[line.seat][line.turn] = denied(marks)
        return any(not returns for _, returns in marks)
