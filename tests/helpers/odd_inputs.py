"""Inputs for fuzzing: data in which some values are replaced by values of any type, and texts that are damaged; and
what may become of them, a result or an error of the lab's own.
"""

from __future__ import annotations

import functools
import json
import linecache
import math
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
FLOORS = tuple(str(ROOT / floor) for floor in ("lab", "agents", "metrics", "scenarios"))
COUNTS: Counter[str] = Counter()  # inputs of this process, by what became of them
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)  # lone surrogates among them
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    ANY_TEXT,
    st.sampled_from(
        ["", "\ud83d", "YES", "1e30", 1e30, 10**30, -1, 0, math.inf, "x" * 5000, "{value}", "a\0b", "../x"]
    ),
    st.sampled_from([[], {}, [[]], [{}], [None], {"": None}, {"a": []}, [0] * 50]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
)
Made = TypeVar("Made")


def places(value: Any, here: tuple = ()) -> Iterator[tuple]:
    """The path of every value within nested lists and mappings, the whole included."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*here, key))


def replaced(value: Any, path: tuple, odd: Any) -> Any:
    """A copy with another value at the path, as far as the path is there."""
    if not path:
        return odd
    inside = path[0] in value if isinstance(value, dict) else isinstance(value, list) and path[0] in range(len(value))
    if not inside:
        return value
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], odd)
    return copy


@st.composite
def spoilt(draw: Callable, value: Any, most: int = 2) -> Any:
    """The value with one to `most` of its values replaced by any other, or by another of its own; seldom anything."""
    here = [path for path in places(value) if path]
    if not here or draw(st.integers(0, 19)) == 0:
        return draw(ODD)
    out = value
    for _ in range(draw(st.integers(1, most))):
        own = draw(st.booleans())
        odd = _at(value, draw(st.sampled_from(here))) if own else draw(ODD)
        out = replaced(out, draw(st.sampled_from(here)), odd)
    return out


def _at(value: Any, path: tuple) -> Any:
    for part in path:
        value = value[part]
    return value


@st.composite
def damaged(draw: Callable, text: str | bytes) -> Any:
    """The text, cut off, with a piece of it left out, repeated or moved, or with odd characters in it."""
    odd = draw(ANY_TEXT) if isinstance(text, str) else draw(st.binary(max_size=20))
    a, b = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    way = draw(st.sampled_from(("cut", "leave out", "repeat", "insert", "replace")))
    return {
        "cut": text[:a],
        "leave out": text[:a] + text[b:],
        "repeat": text[:b] + text[a:],
        "insert": text[:a] + odd + text[a:],
        "replace": text[:a] + odd + text[min(b, a + 3) :],
    }[way]


@st.composite
def files(draw: Callable, content: Any, write: Callable[[Any], str]) -> bytes:
    """The bytes of a file: of the content with odd values, as it is written or as JSON, or of its text, damaged."""
    way = draw(st.sampled_from(("written", "json", "written", "json", "damaged", "bytes")))
    if way in ("written", "json"):
        odd = draw(spoilt(content))
        try:
            text = write(odd) if way == "written" else json.dumps(odd)
        except (TypeError, ValueError, yaml.YAMLError):
            text = json.dumps(odd, default=str)
        return text.encode("utf-8", "surrogatepass")
    if way == "damaged":
        return draw(damaged(write(content))).encode("utf-8", "surrogatepass")
    return draw(damaged(write(content).encode(draw(st.sampled_from(("utf-8", "utf-16", "latin-1"))), "replace")))


def lines_of_json(records: Any) -> str:
    """JSON lines of a list, JSON of anything else."""
    return "\n".join(map(json.dumps, records)) if isinstance(records, list) else json.dumps(records)


def fuzzed(*drawn: st.SearchStrategy, **named: st.SearchStrategy) -> Callable:
    """A decorator of tests: `hypothesis.given`, with the mark `fuzz`, and counted."""

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def counted(*arguments: Any, **options: Any) -> None:
            COUNTS["inputs"] += 1
            test(*arguments, **options)

        return pytest.mark.fuzz(given(*drawn, **named)(counted))

    return decorate


def result(make: Callable[[], Made], *errors: type[Exception]) -> Made | None:
    """What `make` returns; None where it raises an error of the lab's own. Any other exception goes on.

    An error of the lab's own is a ValueError (none of pydantic's, of JSON or of Unicode), or one of `errors`, with
    words, that a statement `raise` of the lab raises.
    """
    try:
        made = make()
    except (ValueError, *errors) as error:
        if not is_own(error, *errors) or not str(error).strip():
            raise AssertionError(f"not the lab's own: {type(error).__name__}: {error}") from error
        COUNTS["refused"] += 1
        return None
    COUNTS["read"] += 1
    return made


def is_own(error: Exception, *errors: type[Exception]) -> bool:
    """Whether the lab has raised the error by a statement of its own."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    kind = type(error)
    known = kind in (ValueError, *errors) or kind.__module__.partition(".")[0] in (
        "lab",
        "agents",
        "metrics",
        "scenarios",
    )
    statement = linecache.getline(last.filename, last.lineno or 0).strip()
    return known and last.filename.startswith(FLOORS) and statement.startswith("raise")
