"""Which of a dialogue's lines count as contradictions where an edge waits for one."""

from __future__ import annotations

from lab.dialogue.ongoing import OngoingDialogue
from scenarios.records import Judgement, Line


def says(dialogue: OngoingDialogue, turn: int, *rows: tuple[str, str, bool]) -> bool:
    """Whether the next line contradicts, after rows (metric, against, verdict) of the judge and of another one."""
    dialogue.lines.append(Line(0, turn, "user", "ada", "chat", "Well.", 1))
    judged = [
        Judgement(0, turn, "user", metric, "judge", against, p_inconsistent=float(wrong), verdict=wrong)
        for metric, against, wrong in rows
    ]
    another = Judgement(0, turn, "user", "prompt_to_line", "another", "persona", p_inconsistent=1.0, verdict=True)
    return dialogue.contradicts([*judged, another], "judge")


def test_a_line_that_only_returns_to_the_persona_is_no_contradiction():
    dialogue = OngoingDialogue(0, {}, "chat")
    assert says(dialogue, 1, ("prompt_to_line", "persona", True))
    assert not says(dialogue, 3, ("prompt_to_line", "persona", False), ("line_to_line", "1", True))
    assert not says(dialogue, 5, ("prompt_to_line", "persona", False))


def test_lines_that_disagree_contradict_where_neither_breaks_the_persona():
    dialogue = OngoingDialogue(0, {}, "chat")
    assert not says(dialogue, 1, ("prompt_to_line", "persona", False))
    assert says(dialogue, 3, ("prompt_to_line", "persona", False), ("line_to_line", "1", True))
