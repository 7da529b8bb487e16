"""What of an answer is spoken: its words without thoughts, up to where it goes on as another speaker.

Models here, models on servers, stored conversations and judges that are language models all ask this module. A thought
stands between tags (`<think>…</think>`, `[THINK]…[/THINK]`, and the like), before a closing tag whose opening stood in
the prompt, behind an opening tag that nothing closes, or in a channel other than `final` (`<|channel|>analysis…`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scenarios.turn_marks import next_turn

_NAMES = (
    r"(?:think|thinking|thought|thoughts|reasoning|scratchpad|inner_thoughts?|inner_monologue|seed:think|antthinking)"
)
_TAG = re.compile(
    rf"<(?P<closes>/?){_NAMES}>|\[(?P<closes_bracket>/?)THINK(?:ING)?\]|◁(?P<closes_arrow>/?)think▷|"
    r"<\|(?:START_THINKING|begin_of_thought)\|>|(?P<ends><\|(?:END_THINKING|end_of_thought)\|>)",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s{0,4}(?P<channel>\w{1,20})[^<]{0,200}<\|message\|>")
_FRAME = re.compile(
    r"<\|(?:START_RESPONSE|END_RESPONSE|begin_of_solution|end_of_solution|start|end|return|message)\|>(?:assistant)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Speaker:
    """Who speaks, as far as it is known: the seat ("user" or "assistant"), the speaker's name and the partner's."""

    seat: str = ""
    name: str = ""
    partner: str = ""


@dataclass(frozen=True)
class Words:
    """The spoken words of an answer; what was cut away behind the other's mark, mark included; whether there was a
    thought.
    """

    text: str
    cut: str = ""
    thought: bool = False


def spoken_words(answer: str, speaker: Speaker | None = None, thinking: bool = False) -> Words:
    """The spoken part of an answer. With `thinking`, the prompt ended inside a thought; without a speaker, nothing
    is cut.

    An answer that begins with the other's mark is left whole, since nothing would remain of it.
    """
    words = without_thoughts(answer, thinking)
    thought = thinking or words is not answer
    if speaker is None or (":" not in words and "：" not in words and ">" not in words):
        return Words(words, thought=thought)
    start = next_turn(words, speaker.seat, speaker.name, speaker.partner)
    return Words(words, "", thought) if start is None else Words(words[:start].rstrip(), words[start:].strip(), thought)


def without_thoughts(answer: str, thinking: bool = False) -> str:
    """The answer without its thoughts; the same object where it holds none. With `thinking`, it begins inside one."""
    parts, start, inside, tags = [], 0, thinking, False
    for tag in _TAG.finditer(answer):
        closes = _closes(tag)
        if closes and not inside:
            parts.clear()  # the prompt opened the thought
        elif not inside:
            parts.append(answer[start : tag.start()])
        start, inside, tags = tag.end(), not closes, True
    if not inside:
        parts.append(answer[start:])
    words = "".join(parts).strip() if tags or thinking else answer
    return _final(words) if "<|" in words else words


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside a thought."""
    tags = list(_TAG.finditer(prompt))
    return bool(tags) and not _closes(tags[-1])


def is_thought_tag(token: str) -> bool:
    """Whether a token's text is a tag that opens or closes a thought."""
    return _TAG.fullmatch(token.strip()) is not None


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag["closes"] or tag["closes_bracket"] or tag["closes_arrow"] or tag["ends"])


def _final(words: str) -> str:
    """The words of the channel `final`, or of a text without channels; without the frame that stands around them."""
    channels = list(_CHANNEL.finditer(words))
    if channels:
        ends = [mark.start() for mark in channels[1:]] + [len(words)]
        before = [words[: channels[0].start()]]
        words = "".join(
            before + [words[m.end() : end] for m, end in zip(channels, ends, strict=True) if m["channel"] == "final"]
        )
    shown = _FRAME.sub("", words)
    return shown.strip() if channels or shown != words else words
