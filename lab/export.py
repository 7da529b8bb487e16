"""Write what a run holds in other programs' forms: `python -m lab.export RUN --format messages|trl|csv [--out FILE]`.

messages: a conversation a line of JSON: `messages` ({role, content}; the lines of `--seat` have the role assistant, under what that seat
    was told before the first line), `seats` (by role: who sat there), `personas` (by role: their cards), `given` (turns whose words the
    scenario gave). `lab.score` and `lab.train` read it back as it was.
trl: a line a row with TRL's names. Of a run: `prompt` (what the seat had been told and had heard) and `completion`, both as messages, and
    with `--judge` `label`, true where that judge finds that the line contradicts nothing of its persona. Of a training that kept its
    dialogues: `prompt`, `chosen`, `rejected`, as text in the model's own template: best and worst of the lines sampled at one place.
csv: a line a row, and for each judge whether it contradicts the persona, with which p, which earlier turns it conflicts with, and why it is
    unscored. Text that a spreadsheet would take for a formula has an apostrophe put before it.

Directions that a node gave a seat are in none of them: a run stores what was said.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.commands import Parser, obeyed
from scenarios.records import SEATS

if TYPE_CHECKING:
    import polars as pl

    from agents.learning.views import Sampled
    from lab.notebook import Run
    from lab.transcripts import Transcript
    from scenarios.records import Line

FORMATS = ("messages", "trl", "csv")
FORMULA, CONTROLS = "=+-@＝＋－＠", "\t\r\n"  # what a spreadsheet takes for a formula begins with
COLUMNS = ("conversation", "turn", "seat", "persona", "name", "node", "given", "text", "tokens", "logprob", "seconds")
EXAMPLES = """examples:
  python -m lab.export runs/20260101T120000Z-long_dialogue-1a2b --format messages --out chats.jsonl
  python -m lab.export RUN --format messages --seat user --out simulator.jsonl    what one trains a user simulator on
  python -m lab.export RUN --format trl --seat user --judge ledger --out kto.jsonl
  python -m lab.export TRAINING --format trl --out dpo.jsonl
  python -m lab.export RUN --format csv | head
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.export", description="Write a run's conversations as chats, TRL's rows or a table.", epilog=EXAMPLES)
    out.add_argument("run", help="the folder of a run, of scores, or for trl of a training that kept its dialogues")
    out.add_argument("--format", choices=FORMATS, required=True, help="chat JSONL, JSONL with TRL's column names, or CSV")
    out.add_argument("--seat", choices=SEATS,
                     help="whose lines are the assistant's (default: assistant; of a training: the seat that learns); csv: whose alone")
    out.add_argument("--judge", metavar="NAME", help="trl: label each line by this judge's verdict; unscored lines are left out")
    out.add_argument("--out", metavar="FILE", help="where it goes, whole or not at all (default: stdout)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 refused with a sentence on stderr, 130 interrupted, or whoever read the output has gone."""
    return obeyed(parser(), _export, arguments)


def _export(args: argparse.Namespace) -> int:
    from lab.notebook import TRAINING, load_run

    if args.judge and args.format != "trl":
        raise ValueError(f"--judge labels the rows of --format trl, not of {args.format}; expected none")
    run, counts = load_run(args.run), Counter()
    if run.kind == TRAINING:
        if args.format != "trl" or args.judge:
            raise ValueError(f"{run.path} is a training, whose dialogues are token ids with rewards; expected --format trl without --judge, "
                             "or a run")
        parts = _json_lines(preferences(run.path, args.seat), counts)
    elif args.format == "csv":
        parts = _csv_lines(table(run, args.seat), counts)
    else:
        seat = args.seat or "assistant"
        rows = map(lambda told: messages(told[0], seat, told[1]), _told(run, seat)) if args.format == "messages" \
            else completions(run, seat, args.judge)
        parts = _json_lines(rows, counts)
    _write(parts, args.out)
    left_out = f", {counts['left out']} lines that {args.judge} could not score left out" if args.judge else ""
    print(f"{counts['rows']} rows{left_out}", file=sys.stderr)
    return 0


# -- rows ----------------------------------------------------------------------------------------------------------------------


def messages(one: Transcript, seat: str, system: str) -> dict:
    """A conversation as chat messages, `seat` in the role of assistant under that system message ("" for none)."""
    roles = _roles(seat)
    said = [{"role": roles[line.seat], "content": line.text} for line in one.lines]
    people = {roles[name]: (name, persona) for name, persona in one.cast.items()}
    return {"id": one.conversation if one.name is None else one.name, "messages": _opened(system) + said,
            "seats": {role: {"seat": name, "persona": persona.id, "name": persona.name} for role, (name, persona) in people.items()},
            "personas": {role: persona.card for role, (_, persona) in people.items()}, "given": sorted(one.ready)}


def completions(run: Run, seat: str, judge: str | None) -> Iterator[dict | None]:
    """A row a line that the seat said in words of its own, with the judge's label if one is named; None for one without a verdict."""
    from lab.transcripts import own_turns

    verdicts = _verdicts(run, judge) if judge else {}
    for one, system in _told(run, seat):
        own = own_turns(one, seat)
        for place, line in enumerate(one.lines):
            if line.turn in own:
                said = [{"role": "assistant", "content": line.text}]
                row = {"prompt": _opened(system) + heard(one.lines[:place], seat), "completion": said}
                verdict = verdicts.get((line.conversation, line.turn))
                yield None if judge and verdict is None else row | ({"label": not verdict} if judge else {})


def heard(before: Sequence[Line], seat: str) -> list[dict]:
    """The lines as the seat's model read them when its turn came: a user's message between any two of its own."""
    from agents.seats import SPEAKS_FIRST, SPEAKS_ON

    found: list[dict] = []
    for line in before:
        role = _roles(seat)[line.seat]
        if role == "assistant" and (not found or found[-1]["role"] == role):
            found.append({"role": "user", "content": SPEAKS_ON if found else SPEAKS_FIRST})
        if role == "user" and found and found[-1]["role"] == role:
            found[-1]["content"] += "\n" + line.text
        else:
            found.append({"role": role, "content": line.text})
    if not found or found[-1]["role"] == "assistant":
        found.append({"role": "user", "content": SPEAKS_ON if found else SPEAKS_FIRST})
    return found


def preferences(folder: Path, seat: str | None) -> Iterator[dict]:
    """A row a place of a training's stored dialogues where several lines were sampled and their rewards differ: the best and the worst.
    ValueError: one sentence where it kept none, or none of that seat."""
    from agents.learning.views import at_places
    from agents.models import load_tokenizer
    from lab.corpus import COLLECTED, read_views
    from lab.store import SCENARIO
    from scenarios.recipe import load_recipe, played

    path, recipe = folder / COLLECTED, load_recipe(folder / SCENARIO)
    if not path.is_file():
        raise ValueError(f"{folder} is a training that kept no dialogues; expected one that has a {COLLECTED}, as offline methods without "
                         "data leave it, or a run")
    scenario, seat = played(recipe), seat or recipe.seats()[0]
    views, reading = read_views(path, recipe, scenario, seat), load_tokenizer(scenario.seats[seat].model).tokenizer
    for view in views:
        for some in at_places(view):
            best, worst = _extremes(some)
            if best.reward > worst.reward:
                told = reading.decode(view.ids[: best.start] + best.given)
                yield {"prompt": told, "chosen": _words(reading, best), "rejected": _words(reading, worst)}


def table(run: Run, seat: str | None) -> Iterator[dict]:
    """A row a line (of that seat, if one is named) under COLUMNS, then four columns a judge of lines."""
    import polars as pl

    from metrics.judges import LINES

    rows = run.judgements.filter(pl.col("metric").is_in(LINES))
    judges = sorted(rows["judge"].unique())
    told = {judge: _of_judge(rows.filter(pl.col("judge") == judge)) for judge in judges}
    for one in run.conversations:
        for line in one.lines:
            if seat in (None, line.seat):
                given = {"name": one.cast[line.seat].name, "given": line.turn in one.ready}
                row = {name: given[name] if name in given else getattr(line, name) for name in COLUMNS}
                for judge in judges:
                    found = told[judge].get((line.conversation, line.turn), {})
                    row |= {f"{judge}_{name}": found.get(name) for name in ("contradicts", "p", "conflicts_with", "unscored")}
                yield row


def _told(run: Run, seat: str) -> Iterator[tuple[Transcript, str]]:
    """Each conversation, and what the seat was told before its first line: of chats from elsewhere, its card."""
    from lab.conversation import system_text
    from lab.notebook import RUN
    from lab.transcripts import seated

    if run.kind != RUN:
        yield from ((one, one.cast[seat].card) for one in run.conversations)
        return
    scenario, found = seated(run.path, run.turns)
    yield from ((one, system_text(one.cast[seat], scenario.seats[seat].instruction)) for one in found)


def _roles(seat: str) -> dict[str, str]:
    """The role of each seat, where that one is the assistant."""
    return {name: "assistant" if name == seat else "user" for name in SEATS}


def _opened(system: str) -> list[dict]:
    return [{"role": "system", "content": system}] if system else []


def _verdicts(run: Run, judge: str) -> dict[tuple[int, int], bool | None]:
    """Whether the line of that conversation and turn contradicts its persona, says the judge. ValueError where it judged none."""
    import polars as pl

    from scenarios.reading import nearest

    rows = run.judgements.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona")
    if rows.is_empty():
        raise ValueError(f"{run.path} has no line that was judged against its persona; expected prompt_to_line among its metrics")
    if judge not in (known := sorted(rows["judge"].unique())):
        raise ValueError(f"--judge is {judge!r}, which judged no line of {run.path}{nearest(judge, known)}")
    rows = rows.filter(pl.col("judge") == judge)
    return {(conversation, turn): verdict for conversation, turn, verdict in rows.select("conversation", "turn", "verdict").iter_rows()}


def _of_judge(rows: pl.DataFrame) -> dict[tuple[int, int], dict]:
    """By conversation and turn, what one judge says of the line."""
    import polars as pl

    found: dict[tuple[int, int], dict] = {}
    whole = rows.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona")
    whole = whole.select("conversation", "turn", contradicts="verdict", p="p_inconsistent", unscored="unscored")
    for row in whole.iter_rows(named=True):
        found[row.pop("conversation"), row.pop("turn")] = row
    pairs = rows.filter(pl.col("metric") == "line_to_line", pl.col("verdict"))
    for conversation, turn, against in pairs.select("conversation", "turn", pl.col("against").cast(pl.Int64)).sort("against").iter_rows():
        row = found.setdefault((conversation, turn), {})
        row["conflicts_with"] = f"{row['conflicts_with']} {against}" if row.get("conflicts_with") else str(against)
    return found


def _extremes(some: Sequence[Sampled]) -> tuple[Sampled, Sampled]:
    """The best and the worst of the lines that have a reward; the same one twice where fewer than two have."""
    ranked = sorted((line for line in some if line.reward is not None), key=lambda line: line.reward)
    return (ranked[-1], ranked[0]) if ranked else (some[0], some[0])


def _words(reading, line: Sampled) -> str:
    """Without the token that ended it: TRL puts one behind every answer."""
    return reading.decode(line.ids, skip_special_tokens=True)


# -- writing -------------------------------------------------------------------------------------------------------------------


def _json_lines(rows: Iterable[Mapping | None], counts: Counter) -> Iterator[bytes]:
    from lab.files import dumps

    for row in rows:
        counts["left out" if row is None else "rows"] += 1
        if row is not None:
            yield dumps(row) + b"\n"
    _refuse_nothing(counts)


def _csv_lines(rows: Iterable[Mapping], counts: Counter) -> Iterator[bytes]:
    for row in rows:
        if not counts["rows"]:
            yield _csv_line(row)
        counts["rows"] += 1
        yield _csv_line(row.values())
    _refuse_nothing(counts)


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([str(cell).lower() if isinstance(cell, bool) else defused(cell) for cell in cells])
    return text.getvalue().encode()


def defused(cell: object) -> object:
    """Text that a spreadsheet would take for a formula, with an apostrophe before it (OWASP, CSV injection); all else as it is."""
    if isinstance(cell, str) and (cell[:1] in tuple(CONTROLS) or cell.lstrip()[:1] in tuple(FORMULA)):
        return "'" + cell
    return cell


def _refuse_nothing(counts: Counter) -> None:
    if not counts["rows"]:
        why = f", and {counts['left out']} could not be scored" if counts["left out"] else ""
        raise ValueError(f"there is no line to write{why}; expected some that were said, of that seat")


def _write(parts: Iterator[bytes], out: str | None) -> None:
    """All of it into the file, or nothing; or to stdout as it comes."""
    from lab.files import StoreError, replace_in_parts

    if out is None:
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return
    try:
        replace_in_parts(Path(out), parts)
    except StoreError as error:
        reason = error.__cause__.strerror or error.__cause__
        raise ValueError(f"cannot write {out} ({reason}); expected a file in a folder that can be written") from None


if __name__ == "__main__":
    sys.exit(main())
