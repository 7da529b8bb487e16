"""The dialogues of a run in the formats of other programs: chat messages, rows for TRL, CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.records import SEATS

if TYPE_CHECKING:
    import polars as pl

    from agents.learning.views import Sampled
    from lab.results.load import Run
    from lab.transcripts.transcript import Transcript
    from scenarios.records import Line


FORMATS = ("messages", "trl", "csv")
FORMULA, CONTROLS = "=+-@＝＋－＠", "\t\r\n"  # what a spreadsheet takes for a formula begins with
COLUMNS = ("conversation", "turn", "seat", "persona", "name", "node", "given", "text", "tokens", "logprob", "seconds")


# -- rows


def messages(transcript: Transcript, seat: str, system: str) -> dict:
    """A conversation as chat messages, with `seat` as the assistant and with this system message ("" for none)."""
    roles = _roles(seat)
    said = [{"role": roles[line.seat], "content": line.text} for line in transcript.lines]
    people = {roles[name]: (name, persona) for name, persona in transcript.cast.items()}
    return {
        "id": transcript.conversation if transcript.name is None else transcript.name,
        "messages": _opened(system) + said,
        "seats": {
            role: {"seat": name, "persona": persona.id, "name": persona.name}
            for role, (name, persona) in people.items()
        },
        "personas": {role: persona.card for role, (_, persona) in people.items()},
        "given": sorted(transcript.ready),
    }


def completions(run: Run, seat: str, judge: str | None) -> Iterator[dict | None]:
    """One row (prompt, completion) per line that the seat said in its own words.

    With a judge, each row has a `label` (true: consistent with the persona), and a line without a verdict gives None.
    Raises ValueError where the judge judged no line.
    """
    from lab.transcripts.transcript import own_turns

    verdicts = _verdicts(run, judge) if judge else {}
    for transcript, system in with_cards(run, seat):
        own = own_turns(transcript, seat)
        for place, line in enumerate(transcript.lines):
            if line.turn in own:
                said = [{"role": "assistant", "content": line.text}]
                row = {"prompt": _opened(system) + heard_messages(transcript.lines[:place], seat), "completion": said}
                verdict = verdicts.get((line.conversation, line.turn))
                yield None if judge and verdict is None else row | ({"label": not verdict} if judge else {})


def heard_messages(before: Sequence[Line], seat: str) -> list[dict]:
    """The lines as chat messages, as the seat's model read them: roles alternate, and the user begins and ends."""
    from agents.seats.base import SPEAKS_FIRST, SPEAKS_ON

    said: list[dict] = []
    for line in before:
        role = _roles(seat)[line.seat]
        if role == "assistant" and (not said or said[-1]["role"] == role):
            said.append({"role": "user", "content": SPEAKS_ON if said else SPEAKS_FIRST})
        if role == "user" and said and said[-1]["role"] == role:
            said[-1]["content"] += "\n" + line.text
        else:
            said.append({"role": role, "content": line.text})
    if not said or said[-1]["role"] == "assistant":
        said.append({"role": "user", "content": SPEAKS_ON if said else SPEAKS_FIRST})
    return said


def preferences(folder: Path, seat: str | None) -> Iterator[dict]:
    """The best and the worst line of each place in a training's stored dialogues, where their rewards differ.

    A row has `prompt`, `chosen` and `rejected`. Raises ValueError where the training stored no dialogues of that seat.
    """
    from agents.learning.views import at_places, best_and_worst
    from agents.models.loading import load_tokenizer
    from lab.store.run_store import SCENARIO
    from lab.training.collected import COLLECTED, read_views
    from scenarios.jobs.recipe import played
    from scenarios.jobs.training import load_recipe

    path, recipe = folder / COLLECTED, load_recipe(folder / SCENARIO)
    if not path.is_file():
        raise ValueError(
            f"{folder} is a training that kept no dialogues; expected one that has a {COLLECTED}, as offline methods "
            "without data leave it, or a run"
        )
    scenario, seat = played(recipe), seat or recipe.seats()[0]
    views, reading = read_views(path, recipe, scenario, seat), load_tokenizer(scenario.seats[seat].model).tokenizer
    for view in views:
        for sampled in at_places(view):
            if pair := best_and_worst(sampled):
                best, worst = pair
                prompt = reading.decode(view.ids[: best.start] + best.given)
                yield {"prompt": prompt, "chosen": _words(reading, best), "rejected": _words(reading, worst)}


def as_rows(run: Run, seat: str | None) -> Iterator[dict]:
    """One row per line (of that seat, where one is named): COLUMNS, then four columns per judge of lines.

    Those are `<judge>_contradicts`, `_p` (0 to 1), `_conflicts_with` (turns, separated by blanks) and `_unscored`.
    """
    import polars as pl

    from metrics.judges import LINES

    rows = run.judgements.filter(pl.col("metric").is_in(LINES))
    judges = sorted(rows["judge"].unique())
    by_judge = {judge: _of_judge(rows.filter(pl.col("judge") == judge)) for judge in judges}
    for transcript in run.conversations:
        for line in transcript.lines:
            if seat in (None, line.seat):
                given = {"name": transcript.cast[line.seat].name, "given": line.turn in transcript.ready}
                row = {name: given[name] if name in given else getattr(line, name) for name in COLUMNS}
                for judge in judges:
                    labels = by_judge[judge].get((line.conversation, line.turn), {})
                    row |= {
                        f"{judge}_{name}": labels.get(name)
                        for name in ("contradicts", "p", "conflicts_with", "unscored")
                    }
                yield row


def with_cards(run: Run, seat: str) -> Iterator[tuple[Transcript, str]]:
    """Each conversation with the seat's system text before its first line; of scores, that is the seat's card."""
    from lab.dialogue.loop import system_text
    from lab.results.load import RUN
    from lab.transcripts.reading import seated

    if run.kind != RUN:
        yield from ((transcript, transcript.cast[seat].card) for transcript in run.conversations)
        return
    scenario, transcripts = seated(run.path, run.turns)
    yield from (
        (transcript, system_text(transcript.cast[seat], scenario.seats[seat].instruction)) for transcript in transcripts
    )


def _roles(seat: str) -> dict[str, str]:
    """The role of each seat where `seat` is the assistant."""
    return {name: "assistant" if name == seat else "user" for name in SEATS}


def _opened(system: str) -> list[dict]:
    return [{"role": "system", "content": system}] if system else []


def _verdicts(run: Run, judge: str) -> dict[tuple[int, int], bool | None]:
    """The judge's verdict on each line against its persona, by (conversation, turn).

    Raises ValueError where it judged no line.
    """
    import polars as pl

    from scenarios.suggestions import nearest

    rows = run.judgements.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona")
    if rows.is_empty():
        raise ValueError(
            f"{run.path} has no line that was judged against its persona; expected prompt_to_line among its metrics"
        )
    if judge not in (known := sorted(rows["judge"].unique())):
        raise ValueError(f"--judge is {judge!r}, which judged no line of {run.path}{nearest(judge, known)}")
    rows = rows.filter(pl.col("judge") == judge)
    return {
        (conversation, turn): verdict
        for conversation, turn, verdict in rows.select("conversation", "turn", "verdict").iter_rows()
    }


def _of_judge(rows: pl.DataFrame) -> dict[tuple[int, int], dict]:
    """The columns of one judge, by (conversation, turn)."""
    import polars as pl

    by_turn: dict[tuple[int, int], dict] = {}
    whole = rows.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona")
    whole = whole.select("conversation", "turn", contradicts="verdict", p="p_inconsistent", unscored="unscored")
    for row in whole.iter_rows(named=True):
        by_turn[row.pop("conversation"), row.pop("turn")] = row
    pairs = rows.filter(pl.col("metric") == "line_to_line", pl.col("verdict"))
    for conversation, turn, against in (
        pairs.select("conversation", "turn", pl.col("against").cast(pl.Int64)).sort("against").iter_rows()
    ):
        row = by_turn.setdefault((conversation, turn), {})
        row["conflicts_with"] = f"{row['conflicts_with']} {against}" if row.get("conflicts_with") else str(against)
    return by_turn


def _words(reading, line: Sampled) -> str:
    """The text of the line without its stop token, since TRL adds one to every completion."""
    return reading.decode(line.ids, skip_special_tokens=True)


# -- writing


def json_lines(rows: Iterable[Mapping | None], counts: Counter) -> Iterator[bytes]:
    """The rows as JSON lines in UTF-8; None is counted in `counts` as left out. Raises ValueError without any row."""
    from lab.store.atomic_write import dumps

    for row in rows:
        counts["left out" if row is None else "rows"] += 1
        if row is not None:
            yield dumps(row) + b"\n"
    _refuse_nothing(counts)


def csv_lines(rows: Iterable[Mapping], counts: Counter) -> Iterator[bytes]:
    """The rows as CSV lines in UTF-8 with a header, counted in `counts`. Raises ValueError without any row."""
    for row in rows:
        if not counts["rows"]:
            yield _csv_line(row)
        counts["rows"] += 1
        yield _csv_line(row.values())
    _refuse_nothing(counts)


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [str(cell).lower() if isinstance(cell, bool) else defused(cell) for cell in cells]
    )
    return text.getvalue().encode()


def defused(cell: object) -> object:
    """The cell, with an apostrophe before a text that a spreadsheet would read as a formula (OWASP, CSV injection)."""
    if isinstance(cell, str) and (cell[:1] in tuple(CONTROLS) or cell.lstrip()[:1] in tuple(FORMULA)):
        return "'" + cell
    return cell


def _refuse_nothing(counts: Counter) -> None:
    if not counts["rows"]:
        why = f", and {counts['left out']} could not be scored" if counts["left out"] else ""
        raise ValueError(f"there is no line to write{why}; expected a run with lines of that seat")
