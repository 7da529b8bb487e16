"""What a stranger wrote into a log, a manifest or a parquet file of a run: refused in a sentence, or harmless."""

from __future__ import annotations

import json
from copy import deepcopy
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import polars as pl
import pytest
from event_streams import a_run, line
from hypothesis import strategies as st
from odd_inputs import COUNTS, fuzzed
from typing_extensions import is_typeddict

from lab.progress.run import State, apply
from lab.progress.story import story
from lab.progress.study import StudyProgress
from lab.progress.sweep import SweepProgress
from lab.progress.training import TrainingProgress
from lab.store import event_log, stored_frames, tail
from lab.store.event_log import EventError, event_of, read_events
from lab.store.events import KINDS
from lab.store.fields import Moment
from lab.store.frames import JUDGEMENTS, METRICS, TURNS, Totals, answers_frame, frames_of
from lab.store.manifest import Manifest, checked_manifest
from lab.store.resume import stored
from lab.store.stored_frames import read_stored
from lab.store.tail import Log

TIME = "2026-01-01T12:00:00.000+00:00"
SHAPES = {
    (kind, shape.__name__): shape
    for kind, whole in KINDS.items()
    for shape in (get_args(whole) if isinstance(whole, UnionType) else [whole])
}


def example(shape: Any) -> Any:
    """A value of the type, with every field of an object."""
    if is_typeddict(shape):
        return {name: example(kind) for name, kind in get_type_hints(shape, include_extras=True).items()}
    origin, arguments = get_origin(shape), get_args(shape)
    if shape == Moment:
        return TIME
    if origin is Annotated:
        least = max(
            (getattr(each, "min_length", None) or 1 for part in arguments[1:] for each in metadata(part)), default=1
        )
        return example(arguments[0]) * least if get_origin(arguments[0]) is list else example(arguments[0])
    if origin is NotRequired or origin in (UnionType, Union):
        return example(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is list:
        return [example(arguments[0])]
    if origin is dict:
        return {"key": example(arguments[1])}
    return {int: 1, float: 0.5, str: "1", bool: True}.get(shape, "anything")


def metadata(part: Any) -> list:
    return getattr(part, "metadata", [part])


def event(kind: str, name: str) -> dict:
    made = example(SHAPES[kind, name]) | {"event": kind}
    return made | ({"rows": [row | {"metric": "line_to_line"} for row in made["rows"]]} if kind == "judged" else {})


def written(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize(("kind", "name"), SHAPES)
def test_an_event_is_read_as_it_was_written_and_not_without_a_field_that_its_kind_requires(kind, name):
    whole = event(kind, name)
    assert event_of(written(whole)) == whole
    assert event_of(json.dumps(whole, separators=(",", ":")).encode()) == whole, "however it is spaced"
    for field in SHAPES[kind, name].__required_keys__ - {"event"} | {"time"}:
        if (kind, field) not in (("started", "method"), ("started", "study")):  # which say what has started
            with pytest.raises(EventError, match=f"^has no {field}; expected"):
                event_of(written({key: value for key, value in whole.items() if key != field}))


WRONG = st.one_of(
    st.sampled_from(
        [float("nan"), float("inf"), -1, 2**70, 10**400, 1.5, True, None, "x", "\ud800", "\x1b[2J", "2026", "", [], {}]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=3,
    ),
)


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """The way to every value within the value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, inner in items for way in ((*here, key), *places(inner, (*here, key)))]


@fuzzed(st.data())
def test_a_wrong_value_anywhere_is_refused_or_breaks_no_reader(data):
    drawn = deepcopy(event(*data.draw(st.sampled_from(sorted(SHAPES)))))
    *way, last = data.draw(st.sampled_from(places(drawn)))
    holder = drawn
    for key in way:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(WRONG)
    elif isinstance(holder, dict):
        del holder[last]
    refusal = ""
    try:
        read = event_of(written(drawn))
    except EventError as error:
        read, refusal = None, str(error)
    COUNTS["refused" if refusal else "read"] += 1
    assert not refusal or ("expected" in refusal and len(refusal) < 500)
    for log in ([read], [*a_run(), read]) if read else ():
        read_by_all(log)


def read_by_all(log: list[dict]) -> None:
    totals, state, sweep = Totals(), State(), SweepProgress()
    for each in log:
        totals.add(each)
        apply(state, each)
        sweep.fold(each)
        for progress in (TrainingProgress(), StudyProgress()):
            progress.fold(each)
    totals.as_fields(), story(log).spans(), frames_of("r", log), stored(log), answers_frame("r", "s", log)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (line(0, 1) | {"turn": "x"}, "turn is 'x'; expected a whole number"),
        (line(0, 1) | {"text": 5}, "text is 5; expected text"),
        (line(0, 1) | {"logprob": float("nan")}, "logprob is nan; expected a finite number"),
        (line(0, 1) | {"conversation": -1}, "conversation is -1; expected greater than or equal to 0"),
        (line(0, 1) | {"conversation": 2**70}, f"conversation is {2**70}; expected less than 10000000"),
        (line(0, 1) | {"time": "noon"}, "time is 'noon'; expected a time like 2026-01-01T12:00:00.000+00:00"),
        (line(0, 1) | {"seat": "bot"}, "seat is 'bot'; expected 'user' or 'assistant'"),
        (line(0, 1) | {"token_ids": [1, {}]}, "token_ids.1 is a mapping with 0 keys; expected a whole number"),
        ([line(0, 1)], "not an event (one JSON object with an `event` key and that event's fields)"),
        (b"[" * 100_000 + b"]" * 100_000 + b"\n", "not an event (one JSON object with an `event` key and that"),
        (written(line(0, 1)).replace(b"-1.5", b"1e999"), "logprob is inf; expected a finite number"),
    ],
    ids=range(11),
)
def test_a_log_with_a_wrong_value_is_refused_by_its_file_line_and_field(line, said, tmp_path):
    wrong = line if isinstance(line, bytes) else written(line)
    good = [written(event) for event in a_run()]
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"".join([*good[:4], wrong, *good[4:]]))
    with pytest.raises(ValueError) as refused:
        read_events(tmp_path)
    assert str(refused.value).startswith(f"{log}, line 5: {said}")
    with pytest.raises(ValueError) as refused:
        list(iter(Log(log).next, None))
    assert str(refused.value).startswith(f"{log}, line 5: {said}")


def test_a_last_line_of_a_wrong_type_is_refused_and_not_cut_away(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"".join(map(written, [*a_run(), line(0, 1) | {"text": None}])))
    with pytest.raises(ValueError, match=r"text is empty; expected text$"):
        read_events(tmp_path)


# -- manifests


def test_a_manifest_with_a_wrong_value_is_refused_by_its_file_and_key(tmp_path):
    file, whole = tmp_path / "manifest.json", example(Manifest)
    file.write_bytes(written(whole))
    assert checked_manifest(file) == whole
    for name in whole:
        file.write_bytes(written(whole | {name: [[]]}))
        with pytest.raises(ValueError, match=rf"manifest.json: {name}[\w.]* is .*; expected"):
            checked_manifest(file)
    for data, said in (
        (b"[1]", "is a list of 1; expected"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"{}", "has no run_id"),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=said):
            checked_manifest(file)


# -- parquet


def good_turns() -> pl.DataFrame:
    return pl.DataFrame([{**line(0, turn), "run_id": "r"} for turn in range(3)]).select(list(TURNS)).cast(dict(TURNS))


def good_judgements() -> pl.DataFrame:
    row = {"run_id": "r", "conversation": 0, "turn": 1, "seat": "user", "metric": "line_to_line", "judge": "nli"}
    row |= {"against": "0", "p_inconsistent": 0.5, "verdict": True, "unscored": None}
    return pl.DataFrame([row], schema=JUDGEMENTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop("turn"), "has no column turn; expected the columns run_id, conversation, persona,"),
        (lambda frame: frame.cast({"turn": pl.String}), "column turn: holds String; expected Int64"),
        (lambda frame: frame.cast({"text": pl.Binary}), "column text: holds Binary; expected String"),
        (
            lambda frame: frame.with_columns(turn=-pl.col("turn")),
            "column turn: row 1 holds -1; expected a whole number",
        ),
        (lambda frame: frame.with_columns(conversation=2**62), f"column conversation: row 0 holds {2**62}; expected"),
        (
            lambda frame: frame.with_columns(seat=pl.lit("bot")),
            "column seat: row 0 holds 'bot'; expected user or assis",
        ),
        (
            lambda frame: frame.with_columns(text=pl.lit(None, pl.String)),
            "column text: row 0 holds None; expected a value",
        ),
    ],
    ids=range(7),
)
def test_a_frame_of_turns_with_other_columns_types_or_values_is_refused(change, said, tmp_path):
    good_turns().write_parquet(tmp_path / "turns.parquet")
    assert read_stored(tmp_path / "turns.parquet", TURNS).equals(good_turns())
    change(good_turns()).write_parquet(tmp_path / "turns.parquet")
    with pytest.raises(ValueError) as refused:
        read_stored(tmp_path / "turns.parquet", TURNS)
    assert said in str(refused.value) and str(refused.value).startswith(str(tmp_path / "turns.parquet"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("against", "persona", "column against: row 0 holds 'persona'; expected an earlier turn in digits"),
        ("against", None, "column against: row 0 holds None; expected a value"),
        ("p_inconsistent", 1.5, "column p_inconsistent: row 0 holds 1.5; expected a number from 0 to 1"),
        ("judge", None, "column judge: row 0 holds None; expected a value"),
    ],
)
def test_a_frame_of_judgements_with_other_values_is_refused(column, value, said, tmp_path):
    file = tmp_path / "judgements.parquet"
    good_judgements().write_parquet(file)
    assert read_stored(file, JUDGEMENTS).equals(good_judgements())
    good_judgements().with_columns(pl.lit(value, JUDGEMENTS[column]).alias(column)).write_parquet(file)
    with pytest.raises(ValueError, match=said):
        read_stored(file, JUDGEMENTS)


def test_a_frame_that_says_it_holds_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    good_turns().write_parquet(tmp_path / "turns.parquet")
    monkeypatch.setattr(stored_frames, "MOST_ROWS", 2)
    monkeypatch.setattr(pl, "read_parquet", pytest.fail)
    with pytest.raises(ValueError, match=r"says that it holds 3 rows and 0 MiB; expected at most 2"):
        read_stored(tmp_path / "turns.parquet", TURNS)
    assert read_stored(tmp_path / "metrics.parquet", METRICS, optional=True).schema == pl.Schema(METRICS)


def test_a_line_without_end_is_refused_before_it_is_held(tmp_path, monkeypatch):
    for module in (event_log, tail):
        monkeypatch.setattr(module, "LONGEST", 2**21)
    (tmp_path / event_log.EVENTS).write_bytes(b'{"event": "no' + b"o" * 2**24)
    for read in (read_events, lambda folder: Log(folder / event_log.EVENTS).next()):
        with pytest.raises(ValueError, match=r"line 1: is longer than 256 MiB; expected one event per line"):
            read(tmp_path)
