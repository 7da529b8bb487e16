"""Chat messages as they are stored elsewhere: who says what, what is a card, and what is no line.

A line is what a user or an assistant said in words. Tool calls and their results, thoughts, pictures, and system
messages after the first line are left out and counted. A role is one person: names tell more than roles.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from lab.persona_files.records import name_in
from scenarios.records import ASSISTANT, SEATS, USER

SYSTEM, TOOL = "system", "tool"
ROLES = {
    **dict.fromkeys((USER, "human", "prompter", "customer"), USER),
    **dict.fromkeys((ASSISTANT, "gpt", "chatgpt", "bot", "chatbot", "ai", "model", "agent", "character"), ASSISTANT),
    **dict.fromkeys((SYSTEM, "developer"), SYSTEM),
    **dict.fromkeys((TOOL, "tool_response", "tool_result", "function", "function_response", "ipython"), TOOL),
    **dict.fromkeys(("observation", "environment", "tool_call", "function_call"), TOOL),
}
CALLS = ("tool_call", "function_call")  # roles of messages that are calls and no results
UNSAID = "no part of what was said"
LATER = "system message after the first line"
WHY = {  # what is left out -> its plural, and why
    "tool call": ("tool calls", UNSAID),
    "tool result": ("tool results", UNSAID),
    "thought": ("thoughts", UNSAID),
    "part without text": ("parts without text", "no words"),
    "message without words": ("messages without words", "no lines"),
    LATER: ("system messages after the first line", "not part of the card"),
    "system message": ("system messages", "nobody's card, since both speakers have one role"),
    "stop mark": ("stop marks", UNSAID),
    "stage direction": ("stage directions", UNSAID),
    "name before a line": ("names before lines", UNSAID),
}
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
PART_OF = {
    **dict.fromkeys(("reasoning", "thinking", "redacted_thinking"), "thought"),
    **dict.fromkeys(("tool_use", "tool_call", "function_call"), "tool call"),
    **dict.fromkeys(("tool_result", "function_call_output"), "tool result"),
}
STOPS = re.compile(r"###(?:STOP|TRANSFER|OUT-OF-SCOPE)###")  # by which simulated users end a dialogue
# up to four words and a colon, perhaps in bold type or brackets; each repetition is bounded
MARK = re.compile(
    r"\s{0,9}(?:\*\*|\[)?([^\W\d_][\w.'’-]{0,29}(?: [\w.'’-]{1,30}){0,3})\]?(?:\*\*)? ?[:：](?!//)\*{0,2}"
)
LONGEST_MARK = 160  # characters, more than the pattern can take
MOST_NAMED = 5  # speakers that a sentence names


class Message(BaseModel):
    """A message with the keys of OpenAI's, or with those of ShareGPT; other keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)
    role: str = Field(validation_alias=AliasChoices("role", "from"))
    content: str | list[str | dict[str, Any]] | None = Field(None, validation_alias=AliasChoices("content", "value"))
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    tool_messages: list[Any] | None = None  # several results, of tau2-bench


@dataclass(frozen=True)
class Said:
    """A line: user or assistant, the speaker's name where it is known, and the words."""

    role: str
    name: str | None
    text: str


@dataclass(frozen=True)
class Talk:
    """The lines of a conversation, the card that stood before them, and how much was left out, by kind (see WHY)."""

    card: str
    said: tuple[Said, ...]
    omitted: Mapping[str, int]

    def name_of(self, role: str) -> str | None:
        """The name of the role's speaker; None where it is not known."""
        return next((line.name for line in self.said if line.role == role and line.name), None)


def omissions(omitted: Mapping[str, int]) -> str:
    """What was left out and why, as one phrase; "" for nothing."""
    return "; ".join(
        f"1 {kind} is {WHY[kind][1]}" if number == 1 else f"{number} {WHY[kind][0]} are {WHY[kind][1]}"
        for kind, number in omitted.items()
        if number
    )


def talk_of(messages: Sequence[Message], card: str = "", directions: Collection[str] = ()) -> Talk:
    """The conversation of the messages.

    `card` stands before the system messages; `directions` are texts of users that nobody said. Raises ValueError where
    there is no line, where a role is not known, and where more than two people speak.
    """
    omitted: Counter[str] = Counter()
    cards, said = [card] if card else [], []
    for place, message in enumerate(messages):
        role = _role(message.role, place)
        if role == TOOL:
            calls = message.role.strip().lower() in CALLS
            omitted["tool call" if calls else "tool result"] += len(message.tool_messages or ()) or 1
        elif role == SYSTEM and said:
            omitted[LATER] += 1
        else:
            text = _words(message, omitted)
            if text is None:
                continue
            if role == SYSTEM:
                cards += [text] * (text not in cards)
            elif text.strip() in directions:
                omitted["stage direction"] += 1
            else:
                said.append(Said(role, _name(message.name), text))
    if not said:
        raise ValueError("messages: holds no line of user or assistant; expected at least one")
    said, one_role = _by_person(_named_by_marks(said))
    if one_role and cards:
        omitted["system message"] += len(cards)
        cards = []
    whole = "\n".join(cards)
    names = {role: {line.name for line in said if line.role == role and line.name} for role in SEATS}
    texts, marks = without_marks([(line.role, line.text) for line in said], names, {ASSISTANT: whole})
    omitted["name before a line"] += marks
    lines = [replace(line, text=text) for line, text in zip(said, texts, strict=True)] if marks else said
    return Talk(whole, tuple(lines), {kind: number for kind, number in omitted.items() if number})


def _role(given: str, place: int) -> str:
    role = ROLES.get(given.strip().strip(":").lower())
    if role is None:
        raise ValueError(f"messages.{place}.role: is {given[:40]!r}; expected user, assistant, system or tool")
    return role


def _name(given: str | None) -> str | None:
    name = (given or "").strip()
    return None if not name or name.lower() in ROLES else name


def _words(message: Message, omitted: Counter[str]) -> str | None:
    """The words of a message; None where it has none, which is counted."""
    calls = len(message.tool_calls or ()) + bool(message.function_call)
    omitted["tool call"] += calls
    content, others = message.content, 0
    if isinstance(content, list):
        texts = []
        for part in content:
            kind, text = ("text", part) if isinstance(part, str) else _part(part)
            if kind in TEXT_PARTS and isinstance(text, str):
                texts.append(text)
            else:
                omitted[PART_OF.get(kind, "part without text")] += 1
                others += 1
        content = "\n".join(texts) if texts else None
    text = message.refusal if content is None else content
    if text is None or (calls and not text.strip()):
        omitted["message without words"] += not calls and not others
        return None
    stops = len(STOPS.findall(text))
    omitted["stop mark"] += stops
    text = STOPS.sub("", text).strip() if stops else text
    return text if text or not stops else None


def _part(part: Mapping[str, Any]) -> tuple[str, object]:
    kind = str(part.get("type") or "text")
    return kind, part.get("refusal" if kind == "refusal" else "text")


# -- people


def _named_by_marks(said: Sequence[Said]) -> list[Said]:
    """The lines, with the names that stand before the lines of a role in which several people speak: each line has
    one, and each name comes back.
    """
    out = list(said)
    for role in SEATS:
        own = [place for place, line in enumerate(out) if line.role == role and line.text.strip()]
        marks = [mark_of(out[place].text) for place in own]
        counts = Counter(marks)
        if len(counts) > 1 and None not in counts and min(counts.values()) > 1:
            for place, mark in zip(own, marks, strict=True):
                out[place] = replace(out[place], name=out[place].name or mark)
    return out


def _by_person(said: Sequence[Said]) -> tuple[list[Said], bool]:
    """The lines with one role for each person, and whether names told apart two people under the same roles.

    Raises ValueError where more than two people speak.
    """
    roles: dict[str, set[str]] = {}
    for line in said:
        roles.setdefault(line.name or "", set()).add(line.role)
    nameless, names = roles.pop("", set()), list(roles)
    by_role = {role: [name for name in names if role in roles[name]] for role in SEATS}
    if all(len(own) < 2 for own in by_role.values()):
        return list(said), False
    people = [*names, *(f"the {role} without a name" for role in SEATS if role in nameless)]
    if len(people) > 2:
        listed = ", ".join(people[:MOST_NAMED]) + (", …" if len(people) > MOST_NAMED else "")
        raise ValueError(f"messages: has {len(people)} speakers ({listed}); expected two, one for each seat")
    if nameless:  # two people, of whom one has a name in some of the lines only
        return list(said), False
    first, second = names
    assistants = [name for name in names if ASSISTANT in roles[name]]
    assistant = assistants[0] if len(assistants) == 1 else second
    placed = [replace(line, role=ASSISTANT if line.name == assistant else USER) for line in said]
    return placed, len(assistants) != 1 or roles[first] == roles[second]


def _called(card: str) -> tuple[str, ...]:
    """The name that a card gives, whole and its first word."""
    name = name_in(card)
    return (name, name.split()[0]) if name else ()


def mark_of(text: str) -> str | None:
    """The name and colon with which a line begins, without the colon; None where it begins otherwise."""
    match = MARK.match(text) if _has_colon(text) else None
    return match[1] if match else None


def _has_colon(text: str) -> bool:
    """Whether a colon stands where a name before a line may end."""
    return ":" in text[:LONGEST_MARK] or "：" in text[:LONGEST_MARK]


def without_marks(
    said: Sequence[tuple[str, str]], names: Mapping[str, Collection[str]], cards: Mapping[str, str]
) -> tuple[list[str], int]:
    """The words of (speaker, text) without the speaker's name before them, and the number of names taken away.

    A mark is a name where it stands before all lines of its speaker, and comes twice, or the partner's lines have one
    too; or before any line, where it is among the speaker's `names` or the name in the speaker's card.
    """
    begun = [(speaker, text, MARK.match(text) if _has_colon(text) else None) for speaker, text in said]
    if not any(match for _, _, match in begun):
        return [text for _, text in said], 0
    every: dict[str, set[str | None]] = {}
    for speaker, text, match in begun:
        if text.strip():
            every.setdefault(speaker, set()).add(match[1] if match else None)
    called = {speaker: _called(cards.get(speaker, "")) for speaker in every}
    single = {speaker: mark for speaker, (mark, *more) in every.items() if mark and not more}
    lines = Counter(speaker for speaker, text in said if text.strip())
    both = len(set(single.values())) == 2

    def own(speaker: str, mark: str) -> bool:
        if mark in names.get(speaker, ()) or ROLES.get(mark.lower()) == speaker:
            return True
        if single.get(speaker) == mark and (both or lines[speaker] > 1):
            return True
        return mark in called[speaker]

    texts, taken = [], 0
    for speaker, text, match in begun:
        rest = text[match.end() :].strip() if match and own(speaker, match[1]) else ""
        texts.append(rest or text)
        taken += bool(rest)
    return texts, taken
