"""A dialogue of a run as a panel of text, with contradicting words marked, and the list of contradicting lines.

Generated text is shown as rich Text, never as markup, and without control characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.progress.run import DialogueState, LineMark, State
from lab.reports.conflict_text import against, sentence
from scenarios.messages import clean
from scenarios.records import SEATS

COLOURS = {"user": "cyan", "assistant": "magenta"}
ENDED = {"finished": ("✓", "green"), "failed": ("✗", "red"), "interrupted": ("■", "yellow")}
MARK = "bold red reverse"  # words that contradict
BAD, RETURN = "✗ ", "↩ "  # before a contradicting line, and before one that returns to its persona
NO_CONSOLE = Console(quiet=True)  # Text.wrap asks for one and does not look at it


def rows(state: State, number: int, width: int) -> list[Text]:
    """A whole dialogue as rows of `width` characters: each line with its turn and node, and below it what it
    conflicts with.
    """
    dialogue = state.dialogues[number]
    texts = []
    for turn in sorted(dialogue.lines):
        texts.append(
            Text.assemble(
                (f"{turn:>3} ", "bold"), (f"{clean(dialogue.lines[turn]['node'])}  ", "dim"), line_text(dialogue, turn)
            )
        )
        if mark := dialogue.marks.get(turn):
            words = f"      {conflict_sentence(state, mark)}"
            texts.append(
                Text(words, style="green" if mark.conflict.returns else "red").append(_judges(mark), style="dim")
            )
    if dialogue.reason:
        texts.append(Text(clean(dialogue.reason), style="red" if dialogue.status == "failed" else "dim"))
    return [row for text in texts for row in text.wrap(NO_CONSOLE, max(1, width - 4))]


def cut(text: Text, width: int) -> Text:
    """The text, cut to the width."""
    text.truncate(max(1, width), overflow="ellipsis")
    text.no_wrap = True
    return text


@dataclass(frozen=True)
class Tail:
    """A renderable of the last `height` lines of the texts, wrapped to the width of the screen."""

    texts: Sequence[Text]
    height: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines: list[Text] = []
        for text in reversed(self.texts):
            wrapped = list(text.wrap(console, options.max_width))
            room = self.height - len(lines)
            if len(wrapped) > room:
                for line in wrapped:
                    line.stylize_before("dim")  # its beginning is not in sight
            lines[:0] = wrapped[max(0, len(wrapped) - room) :]
            if len(lines) >= self.height:
                break
        yield from lines


def line_text(dialogue: DialogueState, turn: int) -> Text:
    """A line with its speaker's name and its contradicting words marked.

    ✗ stands before a contradicting line, ↩ before one that returns to its persona.
    """
    line, mark = dialogue.lines[turn], dialogue.marks.get(turn)
    text = Text("")
    if mark:
        text.append(*(RETURN, "green") if mark.conflict.returns else (BAD, "bold red"))
    text.append(clean(line["persona"]), style=f"bold {COLOURS.get(line['seat'], '')}").append(" ")
    start = len(text)
    text.append(clean(line["text"]))
    for span in mark.spans if mark and not mark.conflict.returns else ():
        text.stylize(MARK, start + span[0], start + span[1])
    return text


def dialogue_panel(state: State, number: int, width: int, height: int) -> Panel:
    """The panel of a dialogue with its last lines, `width` by `height` characters."""
    dialogue = state.dialogues[number]
    texts = [line_text(dialogue, turn) for turn in sorted(dialogue.lines)[-height:]]
    if dialogue.reason:
        texts.append(Text(clean(dialogue.reason), style="red" if dialogue.status == "failed" else "dim"))
    return framed(Tail(texts, height - 2), dialogue, number, about_dialogue(state, dialogue), width, height)


def title_of(dialogue: DialogueState, number: int) -> Text:
    """The title of a dialogue's panel: its number and personas."""
    title = Text(f"#{number} ", style="bold")
    for index, seat in enumerate(seat for seat in SEATS if seat in dialogue.cast):
        title.append(" ⇄ " if index else "").append(clean(dialogue.cast[seat]), style=COLOURS[seat])
    return title


def about_dialogue(state: State, dialogue: DialogueState) -> Text:
    """The dialogue's current node and its numbers of lines and of contradicting lines."""
    contradictions = sum(not mark.conflict.returns for mark in dialogue.marks.values())
    about = Text.assemble(
        (dialogue.status if dialogue.over else clean(dialogue.node), "italic"),
        f" · {len(dialogue.lines)}/{state.turns}",
    )
    return about.append(f" · ✗ {contradictions}", style="bold red") if contradictions else about


def framed(
    content: RenderableType, dialogue: DialogueState, number: int, about: Text, width: int, height: int
) -> Panel:
    """The content in the panel of a dialogue, `width` by `height` characters."""
    border = {"failed": "red", "finished": "green"}.get(dialogue.status, "bright_black")
    return Panel(
        content,
        title=cut(title_of(dialogue, number), width - 6),
        title_align="left",
        subtitle=cut(about, width - 6),
        subtitle_align="right",
        width=width,
        height=height,
        border_style=border,
        box=box.ROUNDED,
    )


def conflict_sentence(state: State, mark: LineMark) -> str:
    """What the line contradicts, or that it returns to its persona, with the words of a single earlier line."""
    return clean(sentence(mark.conflict, _said(state, mark)))


def _said(state: State, mark: LineMark) -> Callable[[int], str]:
    lines = state.dialogues[mark.conversation].lines
    return lambda turn: lines[turn]["text"] if turn in lines else ""


def _judges(mark: LineMark) -> str:
    return f" ({clean(', '.join(mark.conflict.judges))})"


def marked_words(state: State, mark: LineMark, width: int) -> Text:
    """The contradicting line, cut to `width` characters around its first contradicting words, which are marked."""
    line = state.dialogues[mark.conversation].lines.get(mark.turn)
    if line is None:
        return Text("")
    text = Text(clean(line["text"]))
    if mark.spans:
        start, end = mark.spans[0]
        text.stylize(MARK, start, end)
        first = max(0, start - max(0, width - (end - start)) // 2) if end > width - 1 else 0
        if first:
            text = Text.assemble("…", text[first:])
    return cut(text, width)


def contradictions_panel(state: State, width: int, height: int) -> Panel:
    """The panel of the latest contradicting lines, `width` by `height` characters."""
    latest = list(state.contradictions)[::-1][: height - 2]
    table = Table.grid(padding=(0, 1))
    room = width - 4 - 10 - 20 - 3
    sides = (room * 2 // 5, room - room * 2 // 5)
    for wide in (10, 20, *sides):
        table.add_column(width=wide, no_wrap=True, overflow="ellipsis")
    for mark in latest:
        dialogue = state.dialogues[mark.conversation]
        who = Text(f"{mark.seat} {clean(dialogue.cast.get(mark.seat, ''))}", style=COLOURS.get(mark.seat, ""))
        first = set(mark.conflict.judges) <= set(state.judges.values())
        judge = "" if first else f"{clean(', '.join(mark.conflict.judges))}: "
        table.add_row(
            Text(f"#{mark.conversation} t{mark.turn}", style="bold"),
            who,
            Text.assemble(("≠ ", "red"), judge, clean(against(mark.conflict, _said(state, mark)))),
            marked_words(state, mark, sides[1]),
        )
    content = table if latest else Text("none so far", style="dim")
    title = Text.assemble(("latest contradicting lines", "bold"), f" · {state.contradicting_lines} so far")
    return Panel(
        content,
        title=title,
        title_align="left",
        width=width,
        height=height,
        border_style="red" if latest else "bright_black",
        box=box.ROUNDED,
    )
