"""The terminal of a chat: the lines, their judgements, and the input of the person who types.

Typed or generated text is never interpreted: control characters become blanks, and markup in it has no effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.text import Text

from agents.seats.base import Cue
from lab.live.dialogue_panels import COLOURS, MARK
from lab.progress.run import State, apply, overall
from metrics.conflicts import PERSONA, Denials, contradictions
from scenarios.messages import clean
from scenarios.records import PARTNER, Persona

PROMPT = "you> "
LONGEST = 2000  # characters of a typed line
CARD, QUIT = "/card", "/quit"
HELP = f"{CARD} shows the card of {{name}}, {QUIT} ends the chat."
FINE, BAD, RETURN = "✓", "✗", "↩"
SHOWN = 60  # characters of an earlier line that is quoted
# input() is woken this often: it would sleep on a Ctrl-C that came after its prompt and before it began to wait
WAKE_S = 0.2


class Chat:
    """Shows the events of a chat, and reads the lines of the person in `seat`.

    See `lab.live.run_monitor.Monitor` and `agents.seats.scripted.HumanSeat`.
    """

    def __init__(
        self, console: Console, seat: str, cast: Mapping[str, Persona], instruction: str = "", path: str = ""
    ) -> None:
        self.state = State(path=path)
        self._console, self._seat, self._cast, self._instruction = console, seat, cast, instruction
        self._other = cast[PARTNER[seat]]
        self._terminal = os.isatty(0) and console.is_terminal
        self._piped = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - not ours to close
        self._listening = self._leaving = self._typed = False
        self._excused: set[tuple] = set()  # reasons for unscored seats that were printed already

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        with contextlib.suppress(AttributeError):
            sys.stdin.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]  # of most streams
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    # -- hearing the person

    def words(self, conversation: int, cue: Cue) -> str | None:
        """The line that the person types; None where they leave."""
        if cue.instruction:
            self._print(f"[{cue.instruction}]", "dim")
        while not self._leaving:
            typed = self._read()
            if typed is None:
                return None
            said = " ".join(clean(typed).split())
            if said == QUIT:
                return None
            if said == CARD:
                self._print(self._other.card or "This persona has no card.", "italic")
            elif said.startswith("/"):
                self._print(HELP.format(name=self._other.name), "dim")
            elif len(said) > LONGEST:
                self._print(f"That has {len(said):,} characters; expected at most {LONGEST:,}.", "yellow")
            elif said:
                self._typed = self._terminal
                return said
        return None

    def _read(self) -> str | None:
        """A typed line; None at the end of the input and at Ctrl-C."""
        self._listening = True
        if self._leaving:  # Ctrl-C came just before
            return None
        try:
            return self._from_terminal() if self._terminal else self._from_pipe()
        except (EOFError, KeyboardInterrupt):
            self._print("")
            return None
        finally:
            self._listening = False

    def _from_terminal(self) -> str:
        """Python's own input, with arrow keys and history where there is readline, on the terminal in place of the
        log.
        """
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - importing it is what it takes
        sys.stdout.flush()
        kept, before = os.dup(1), signal.signal(signal.SIGALRM, lambda *_: None)
        os.dup2(self._console.file.fileno(), 1)
        signal.setitimer(signal.ITIMER_REAL, WAKE_S, WAKE_S)
        try:
            return input(PROMPT)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.dup2(kept, 1)
            os.close(kept)

    def _from_pipe(self) -> str:
        line = self._piped.readline()
        if not line:
            raise EOFError
        return line

    def _interrupted(self, *_: object) -> None:
        """Ctrl-C ends the chat: at once where the person has the word or nothing is said yet, else after the line being
        said.
        """
        if self._listening or self._leaving or self.state.phase != "playing":
            raise KeyboardInterrupt
        self._leaving = True

    # -- showing what is said

    def show(self, event: dict) -> None:
        apply(self.state, event)
        kind = event["event"]
        if kind == "started":
            self._open(event)
        elif kind == "phase" and event["phase"] in ("loading", "measuring"):
            self._print(f"{event['phase']} …", "dim")
        elif kind == "judged" and event["by"] == "judges":
            self._said(self.state.dialogues[event["conversation"]].lines[event["turn"]], event["rows"])
        elif kind == "judged":
            for text in qa_answer_texts(event["rows"], self._cast):
                self._print(text, "dim")
        elif kind == "conversation" and event["status"] == "failed":
            self._print(event["reason"], "red")

    def _open(self, event: dict) -> None:
        model = event["models"][PARTNER[self._seat]]
        self._print(
            f"You talk with {self._other.name} ({self._other.id}, {model}). {HELP.format(name=self._other.name)}",
            "bold",
        )
        if card := " ".join(filter(None, (self._cast[self._seat].card, self._instruction))):
            self._print(f"Your own card: {card}", "italic")
        if event["resumed"] and 0 in self.state.dialogues:
            for _, line in sorted(self.state.dialogues[0].lines.items()):
                self._console.print(spoken_line(line, (), self._name(line["seat"])), soft_wrap=True)

    def _said(self, line: dict, rows: Sequence[dict]) -> None:
        """Prints the line, unless it was typed here, and its judgements."""
        dialogue = self.state.dialogues[line["conversation"]]
        if line["seat"] != self._seat or not self._typed:
            returning = [row for row, returns in contradictions(rows, dialogue.denials) if returns]
            marked = [row for row in rows if row not in returning]
            self._console.print(spoken_line(line, marked, self._name(line["seat"])), soft_wrap=True)
        self._typed = False
        texts = list(judgement_texts(rows, line, self._cast[line["seat"]], dialogue.lines, dialogue.denials))
        for text in texts:
            self._console.print(text, soft_wrap=True)
        for reason in dict.fromkeys(
            f"not scored by {row['judge']}: {row['unscored']}" for row in rows if row["unscored"]
        ):
            if (line["seat"], reason) not in self._excused:
                self._excused.add((line["seat"], reason))
                self._print(f"  {reason}", "yellow")
        if scored := so_far(self.state, line["seat"]):
            self._print(f"  {'' if texts else 'no claims · '}{scored}", "dim")

    def _name(self, seat: str) -> str:
        return "you" if seat == self._seat else self._cast[seat].name

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(clean(text), style), soft_wrap=True)


def spoken_line(line: dict, rows: Sequence[dict], name: str) -> Text:
    """The line after its speaker's name; words that claim something are underlined, those that contradict are
    marked.
    """
    text = Text.assemble((clean(name), f"bold {COLOURS[line['seat']]}"), "> ")
    start = len(text)
    text.append(clean(line["text"]))
    for row in sorted(rows, key=lambda row: bool(row["verdict"])):
        if row["span"]:
            text.stylize(MARK if row["verdict"] else "underline", start + row["span"][0], start + row["span"][1])
    return text


def judgement_texts(
    rows: Sequence[dict], line: dict, persona: Persona, lines: Mapping[int, dict], denials: Denials
) -> Iterator[Text]:
    """One text per judgement of a line: each claim about a fact with the card's value, each contradiction of the card,
    and by judge the earlier lines that it contradicts, or from which it returns to the card.

    `denials` are those of the speaker's earlier lines.
    """
    judges = {row["judge"] for row in rows}
    marks = contradictions(rows, denials)
    of_persona = [row for row, _ in marks if row["metric"] == "prompt_to_line"]
    for row in rows:
        claim = row["metric"] == "prompt_to_line" and row["against"] != PERSONA and row["verdict"] is not None
        if row not in of_persona and not claim:
            continue
        words, judge = _words(line, row), _by(row, judges)
        if row["against"] == PERSONA:
            yield Text(f"  {BAD}{words} contradicts the card{judge}", "red")
        else:
            value = clean(persona.fact(row["against"]).value)
            comparison = f"contradicts the card: {value}" if row["verdict"] else "as on the card"
            yield Text(
                f"  {BAD if row['verdict'] else FINE} {row['against']}{words}, {comparison}{judge}",
                "red" if row["verdict"] else "green",
            )
    pairs: dict[tuple[str, bool], list[dict]] = {}
    for row, returns in marks:
        if row["metric"] == "line_to_line":
            pairs.setdefault((row["judge"], returns), []).append(dict(row))
    for (_, returns), same in pairs.items():
        verb, style = (f"{RETURN} returns to the card, conflicts with", "green") if returns else ("contradicts", "red")
        sign = "" if returns else f"{BAD}{_words(line, same[0])} "
        yield Text(f"  {sign}{verb} {_earlier(same, lines)}{_by(same[0], judges)}", style)


def _words(line: dict, row: Mapping) -> str:
    return f" “{clean(line['text'][slice(*row['span'])])}”" if row["span"] else ""


def _by(row: Mapping, judges: set[str]) -> str:
    return f" ({row['judge']})" if len(judges) > 1 else ""


def _earlier(same: Sequence[Mapping], lines: Mapping[int, dict]) -> str:
    """`turn 3, “I live in Osaka.”`, or `5 earlier lines`."""
    if len(same) > 1:
        return f"{len(same)} earlier lines"
    earlier = clean(lines[int(same[0]["against"])]["text"])
    return f"turn {same[0]['against']}, “{earlier if len(earlier) <= SHOWN else earlier[: SHOWN - 1] + '…'}”"


def so_far(state: State, seat: str) -> str:
    """The seat's consistency so far, by the first judge, as text; "" where that judge has scored nothing."""
    parts = []
    for name, metric in (("with the card", "prompt_to_line"), ("with earlier lines", "line_to_line")):
        value, n = overall(state, metric, seat)
        parts += [f"{name} {value:.2f} (n={n})"] if n else []
    return f"so far consistent {', '.join(parts)}" if parts else ""


def qa_answer_texts(rows: Sequence[dict], cast: Mapping[str, Persona]) -> Iterator[str]:
    """One line per speaker and judge with scored answers: the number of facts answered correctly in Q&A probes."""
    scored = [row for row in rows if row["verdict"] is not None]
    for seat, judge in dict.fromkeys((row["seat"], row["judge"]) for row in scored):
        mine = [row for row in scored if (row["seat"], row["judge"]) == (seat, judge)]
        right = sum(not row["verdict"] for row in mine)
        yield f"  Q&A probe: {cast[seat].name} answers {right} of {len(mine)} facts right ({judge})"
