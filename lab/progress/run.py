"""The state of a run, folded from its events alone; live views show it, during the run or from its log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.store.event_log import moment
from lab.store.frames import COUNTERS
from metrics.conflicts import Conflict, Denials, contradictions, denied, folded
from scenarios.records import SEATS

RATE_WINDOW_S = 30.0  # the window over which generated tokens per second are averaged
MARKS_KEPT = 200  # of contradicting lines
SHOWN = ("time", "conversation", "turn", "seat", "persona", "node", "text")  # of a line
LONGEST = 20_000  # characters of a line that views show: more than judges read, so that spans are in them


@dataclass(frozen=True)
class LineMark:
    """A line that contradicts its persona or an earlier line of its seat, or that returns to its persona."""

    conversation: int
    turn: int
    seat: str
    conflict: Conflict
    spans: tuple[tuple[int, int], ...]  # characters of the line


@dataclass
class DialogueState:
    """One conversation: its lines, its current node, and its judgements."""

    cast: dict[str, str] = field(default_factory=dict)  # seat -> persona id
    lines: dict[int, dict] = field(default_factory=dict)  # turn -> what is shown of its line event
    node: str = ""
    status: str = "waiting"  # waiting, playing, finished, failed
    reason: str | None = None
    marks: dict[int, LineMark] = field(default_factory=dict)  # by turn, of lines that conflict with something
    denials: Denials = field(default_factory=dict)
    # (turn, by) -> what it added to the tallies, while that may change
    judged: dict[tuple[int, str], dict] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether the dialogue has finished or failed."""
        return self.status in ("finished", "failed")


@dataclass
class State:
    """The state of a run. `clock` is the time of the last event, in seconds since 1970."""

    path: str = ""
    run_id: str = ""
    name: str = ""
    conversations: int = 0
    turns: int = 0
    models: dict[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    phase: str = "starting"
    detail: str = ""
    clock: float = 0.0
    began: float | None = None  # time of this execution's `started`
    playing: float | None = None  # time at which this execution began to play
    played_before: int = 0  # lines there were already at that moment
    dialogues: dict[int, DialogueState] = field(default_factory=dict)
    judges: dict[str, str] = field(default_factory=dict)  # metric -> the first judge heard, whose curve is shown
    tallies: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)  # metric, seat, turn -> sum, n
    contradictions: deque[LineMark] = field(default_factory=lambda: deque(maxlen=MARKS_KEPT))  # the latest lines
    contradicting_lines: int = 0  # so far, by any judge
    unscored: int = 0  # judgements that could not be made
    tokens: dict[str, int] = field(default_factory=dict)
    usage: deque[tuple[float, int]] = field(default_factory=deque)  # (time, generated) of the last seconds
    lines: int = 0
    dialogues_over: int = 0
    lines_over: int = 0  # lines of those
    recovered: int = 0
    notice: str = ""  # the last one
    note: str = ""
    status: str = "running"
    reason: str | None = None


def apply(state: State, event: dict) -> State:
    """Folds an event into the state, which is changed, and returns it. An event of an unknown kind changes only the
    clock.
    """
    state.clock = max(state.clock, moment(event))
    handler = HANDLERS.get(event["event"])
    if handler is not None:
        handler(state, event)
    return state


def expected_lines(state: State) -> int:
    """The number of lines of the whole run: all turns of all conversations, without the missing lines of those that
    have ended.
    """
    return state.lines_over + max(0, state.conversations - state.dialogues_over) * state.turns


def failures(state: State) -> dict[int, str | None]:
    """The reason of each failed conversation, by number."""
    return {number: dialogue.reason for number, dialogue in state.dialogues.items() if dialogue.status == "failed"}


def seconds_left(state: State, now: float | None = None) -> float | None:
    """Seconds until the last line, at the average rate of this execution; None before a first line and after the
    end.
    """
    if state.playing is None or state.status != "running":
        return None
    spent = (state.clock if now is None else now) - state.playing
    done = state.lines - state.played_before
    left = expected_lines(state) - state.lines
    return spent / done * left if done > 0 and spent > 0 else None


def tokens_per_second(state: State) -> float | None:
    """Generated tokens per second over the last RATE_WINDOW_S seconds; None before there are two measurements."""
    if len(state.usage) < 2:
        return None
    (first, before), (last, after) = state.usage[0], state.usage[-1]
    return (after - before) / (last - first) if last > first and after >= before else None


def consistency_by_turn(state: State, metric: str, seat: str, smooth: int = 1) -> list[tuple[int, float]]:
    """(turn, consistency, 0 to 1) for each turn with scored rows, pooled with the `smooth` - 1 turns before it."""
    points = sorted(
        (turn, *tally)
        for (name, who, turn), tally in state.tallies.items()
        if name == metric and who == seat and tally[1] > 0
    )
    pooled = []
    for index, (turn, _, _) in enumerate(points):
        window = points[max(0, index + 1 - smooth) : index + 1]
        pooled.append((turn, sum(total for _, total, _ in window) / sum(n for _, _, n in window)))
    return pooled


def overall(state: State, metric: str, seat: str) -> tuple[float, int]:
    """(consistency, 0 to 1, of all scored rows so far, their number); (NaN, 0) without any."""
    tallies = [tally for (name, who, _), tally in state.tallies.items() if name == metric and who == seat]
    n = int(sum(n for _, n in tallies))
    return (sum(total for total, _ in tallies) / n if n else float("nan")), n


def _started(state: State, event: dict) -> None:
    for key in ("run_id", "name", "conversations", "turns", "models", "device", "dtype"):
        if event.get(key) is not None:
            setattr(state, key, event[key])
    for cast in event.get("cast", ()):
        _dialogue(state, cast["conversation"]).cast = {seat: cast[seat] for seat in SEATS if seat in cast}
    state.began, state.playing, state.status, state.reason = moment(event), None, "running", None
    state.usage.clear()
    state.note = "resumed" if event.get("resumed") else ""


def _phase(state: State, event: dict) -> None:
    state.phase, state.detail = event["phase"], event.get("detail") or ""
    state.status, state.reason = "running", None
    if state.phase == "loading":  # an execution begins, perhaps after one that ended
        state.began, state.playing = moment(event), None
    if state.phase == "playing" and state.playing is None:
        _begin_playing(state, event)


def _begin_playing(state: State, event: dict) -> None:
    state.playing, state.played_before = moment(event), state.lines


def _line(state: State, event: dict) -> None:
    if state.playing is None:
        _begin_playing(state, event)
    dialogue = _dialogue(state, event["conversation"])
    new = event["turn"] not in dialogue.lines
    state.lines += new
    state.lines_over += new and dialogue.over
    text = event["text"] if len(event["text"]) <= LONGEST else f"{event['text'][:LONGEST]}…"
    dialogue.lines[event["turn"]] = {name: event[name] for name in SHOWN} | {"text": text}
    dialogue.cast.setdefault(event["seat"], event["persona"])
    dialogue.node = event["node"]
    if dialogue.status == "waiting":
        dialogue.status = "playing"


def _judged(state: State, event: dict) -> None:
    dialogue = _dialogue(state, event["conversation"])
    key = event["turn"], event["by"]
    _add(state, dialogue.judged.pop(key, {}), -1)
    added = _tally(state, event["rows"])
    if event["by"] != "qa":
        mark = _mark(dialogue, event)
        added["contradicting_lines"] = int(mark is not None and not mark.conflict.returns)
        old = dialogue.marks.pop(event["turn"], None)
        if old in state.contradictions:
            state.contradictions.remove(old)
        if mark:
            dialogue.marks[event["turn"]] = mark
            if not mark.conflict.returns:
                state.contradictions.append(mark)
    dialogue.judged[key] = added
    _add(state, added, 1)


def _add(state: State, added: dict, sign: int) -> None:
    for key, amount in added.items():
        if key == "unscored":
            state.unscored += sign * amount
        elif key == "contradicting_lines":
            state.contradicting_lines += sign * amount
        else:
            tally = state.tallies.setdefault(key, [0.0, 0.0])
            tally[0] += sign * amount[0]
            tally[1] += sign * amount[1]


def _tally(state: State, rows: Iterable[dict]) -> dict:
    """The sums and counts that the rows add, by (metric, seat, turn) for the first judge of each metric, and unscored
    rows.
    """
    added: dict = {"unscored": 0}
    for row in rows:
        whole = row["metric"] != "prompt_to_line" or row["against"] == "persona"
        if row.get("unscored") is not None:
            added["unscored"] += 1
        elif whole and state.judges.setdefault(row["metric"], row["judge"]) == row["judge"]:
            tally = added.setdefault((row["metric"], row["seat"], row["turn"]), [0.0, 0])
            tally[0] += not row["verdict"]
            tally[1] += 1
    return added


def _mark(dialogue: DialogueState, event: dict) -> LineMark | None:
    """The mark of the line that was judged; None where it conflicts with nothing."""
    turn, rows = event["turn"], event["rows"]
    marks = contradictions(rows, dialogue.denials)
    dialogue.denials[turn] = denied(marks)
    conflict = folded(marks)
    if conflict is None:
        return None
    counted = [row for row, returns in marks if returns == conflict.returns]
    spans = dict.fromkeys(tuple(row["span"]) for row in counted if row.get("span"))
    return LineMark(event["conversation"], turn, counted[0]["seat"], conflict, tuple(spans))


def _walk(state: State, event: dict) -> None:
    _dialogue(state, event["conversation"]).node = event["node"]


def _conversation(state: State, event: dict) -> None:
    dialogue = _dialogue(state, event["conversation"])
    before = dialogue.over
    dialogue.status, dialogue.reason = event["status"], event.get("reason")
    change = dialogue.over - before
    state.dialogues_over += change
    state.lines_over += change * len(dialogue.lines)
    if dialogue.status == "finished" and len(dialogue.lines) == state.turns:
        dialogue.judged.clear()  # nothing of it is judged again


def _usage(state: State, event: dict) -> None:
    state.tokens = {name: event.get(name) or 0 for name in COUNTERS}
    state.usage.append((moment(event), state.tokens["generated"]))
    while len(state.usage) > 2 and state.usage[-1][0] - state.usage[1][0] >= RATE_WINDOW_S:
        state.usage.popleft()


def _recovered(state: State, event: dict) -> None:
    state.recovered += 1
    state.note = event.get("detail") or "an engine was started again"


def _notice(state: State, event: dict) -> None:
    state.notice = event["detail"]


def _ended(state: State, event: dict) -> None:
    state.status, state.reason = event["status"], event.get("reason")


def _dialogue(state: State, conversation: int) -> DialogueState:
    return state.dialogues.setdefault(conversation, DialogueState())


HANDLERS = {
    "started": _started,
    "phase": _phase,
    "line": _line,
    "judged": _judged,
    "walk": _walk,
    "usage": _usage,
    "conversation": _conversation,
    "recovered": _recovered,
    "notice": _notice,
    "ended": _ended,
}
