"""A model's chat template, cut once into the few strings that a growing dialogue needs.

Rendering the whole history again for every line would tokenise the model's own lines again and read known tokens again.
Instead, the template is rendered once with placeholders and cut at them; a branch then only grows at its end. For
templates without a system role, the system text precedes the first user message; models without a template get a plain
transcript.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agents.models.bounded import bounded
from scenarios.messages import first_line
from scenarios.spoken import is_thought_tag

DAY = datetime(2024, 7, 26)  # for templates with the date: a dialogue must be the same text on any day
BLANKS = re.compile(r"(?: |(?<!\s)\s{2,})\Z")  # that byte-level vocabularies split or join by the word behind them
MARKS = tuple(f"placeholder-{word}" for word in ("zero", "one", "two", "three"))


@dataclass(frozen=True)
class ChatFormat:
    """The strings of a seat's view: `opening + system + after_system + before_first`, then per exchange `heard +
    before_said`, `lead` and the line, and `after_said`. `agents.models.pieces` says which of them are encoded together.
    """

    opening: str  # before the system text
    after_system: str  # between the system text and the first heard message, but for blanks at its end
    before_said: str  # between what was heard and what is said
    after_said: str  # between what was said and what is heard next
    before_first: str = ""  # the blanks before the first heard message, which may be one token with its first word
    lead: str = ""  # the blanks before the words of a line, which a model samples itself
    cue_in_history: str = ""  # what stands before a line in the history; "" where it is `before_said`
    closing: str = ""  # the beginning of after_said, up to the token that stops a line
    closers: frozenset[int] = frozenset()  # the tokens that stop a line as `closing` does
    anchor: str = ""  # the text behind which pieces are encoded
    joins: bool = False  # whether the end of a message and what follows it are one piece
    specials: tuple[str, ...] = ()  # the model's control tokens, which no text may contain

    def words(self, text: str) -> str:
        """Text from outside (another speaker, a file) without control tokens, so that it cannot imitate a turn."""
        for special in self.specials:
            text = text.replace(special, " ")
        return text

    def beginning(self, system: str) -> str:
        """The text before the first heard message."""
        return self.opening + self.words(system) + self.after_system

    def first(self, heard: str) -> str:
        """The first heard message, as it stands behind the beginning."""
        return self.before_first + self.words(heard)

    def line(self, text: str) -> str:
        """A line, as it stands behind the cue."""
        return self.lead + self.words(text)

    @staticmethod
    def plain() -> ChatFormat:
        """The format of base models: a transcript in which the partner is "Them" and the speaker "Me"."""
        return ChatFormat("", "\n\nThem:", "\nMe:", "\nThem: ", before_first=" ", lead=" ")


def from_tokenizer(tokenizer) -> ChatFormat:
    """The format of a tokenizer's template. Raises ValueError where it does not render alternating user/assistant
    turns.
    """
    if not getattr(tokenizer, "chat_template", None):
        return replace(ChatFormat.plain(), specials=_specials(tokenizer))
    system, first, said, second = MARKS
    turns = [("user", first), ("assistant", said), ("user", second)]
    with_system, merged, cued = _rendered(
        tokenizer,
        [("system", system), *turns],
        [("user", f"{system}\n\n{first}"), *turns[1:]],
        [("user", first)],
    )
    # no system role, or one whose words wander to the newest message
    text = next((result["text"] for result in (with_system, merged) if _in_order(result.get("text"))), None)
    if text is None:
        why = f" ({first_line(Exception(merged['error']))})" if "error" in merged else ""
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path} does not keep the words of a user and an assistant "
            f"message in place{why}; expected one that renders [system,] user, assistant, user"
        )
    opening, rest = text.split(system)
    between, rest = rest.split(first)
    in_history, rest = rest.split(said)
    after_said, _ = rest.split(second)
    blanks = BLANKS.search(between)
    after_system = between[: blanks.start() if blanks else None]
    before_said, lead, cue_in_history = _cues(_last_cue(cued.get("text", ""), in_history), in_history)
    return ChatFormat(
        opening,
        after_system,
        before_said,
        after_said,
        before_first=between[len(after_system) :],
        lead=lead,
        cue_in_history=cue_in_history,
        specials=_specials(tokenizer),
    )


def _cues(cue: str, in_history: str) -> tuple[str, str, str]:
    """before_said, lead and cue_in_history, from the cue and the text that stands before a line in the history."""
    rest = in_history.removeprefix(cue)
    follows = in_history.startswith(cue) and not rest.strip()
    blanks = cue[len(cue.rstrip(" ")) :]  # may be one token with the line's first word
    if follows:
        return cue.removesuffix(blanks), blanks + rest, ""
    if in_history.endswith(blanks):
        return cue.removesuffix(blanks), blanks, in_history.removesuffix(blanks)
    return cue, "", in_history


def _in_order(text: str | None) -> bool:
    """Whether the text contains every placeholder once, unchanged and in order."""
    if not text:
        return False
    places = [text.find(mark) for mark in MARKS]
    return -1 not in places and places == sorted(places) and all(text.count(mark) == 1 for mark in MARKS)


def _last_cue(text: str, in_history: str) -> str:
    """The text before a reply; some templates put more there (an empty thinking block) than they keep in the
    history.
    """
    return text.split(MARKS[1])[1] if MARKS[1] in text else in_history


def _specials(tokenizer) -> tuple[str, ...]:
    """The special tokens, longest first, so that one that contains another is removed as a whole."""
    added = [token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special]
    return tuple(
        sorted({*added, *getattr(tokenizer, "all_special_tokens", ())}, key=lambda token: (-len(token), token))
    )


def _rendered(tokenizer, *dialogues: list[tuple[str, str]]) -> list[dict[str, str]]:
    """The text of each dialogue, with a cue behind the last, or the template's reason for refusing it.

    Raises ValueError where the template takes too much time or memory: it is rendered in a process of its own.
    """
    try:
        return bounded(
            "rendered",
            template=tokenizer.get_chat_template(),
            variables={
                **tokenizer.special_tokens_map,
                "enable_thinking": False,
                "date_string": DAY.strftime("%d %b %Y"),  # Llama 3
                "tools": None,
                "documents": None,
            },
            dialogues=[
                {
                    "messages": [{"role": role, "content": content} for role, content in dialogue],
                    "add_generation_prompt": dialogue is dialogues[-1],
                }
                for dialogue in dialogues
            ],
            day=DAY.isoformat(),
        )
    except ValueError as error:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path} could not be rendered ({error}); expected one that renders "
            "a few messages at once"
        ) from None


def thought_tags(tokenizer) -> dict[int, str]:
    """The special tokens that open or close a thought, by id: decoding without special tokens would merge it with the
    words.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return {token: added.content for token, added in added if added.special and is_thought_tag(added.content)}


def decoded(tokenizer, ids: Sequence[int], tags: Mapping[int, str]) -> str:
    """The text of the ids without special tokens, but with the tags of thoughts."""
    parts, start = [], 0
    for place, token in enumerate(ids):
        if token in tags:
            parts += [tokenizer.decode(list(ids[start:place]), skip_special_tokens=True), tags[token]]
            start = place + 1
    return "".join([*parts, tokenizer.decode(list(ids[start:]), skip_special_tokens=True)])
