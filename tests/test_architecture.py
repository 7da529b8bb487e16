"""docs/architecture.md names files, functions and rooms that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_imports import ROOMS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
STATIONS = re.findall(r"\| `([\w/]+\.py)` \| `([\w.]+)` \|$", PAGE, flags=re.M)


def defined(file: Path) -> set[str]:
    """Functions and classes at the top of a file, and methods as Class.method."""
    top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = {
        f"{node.name}.{inner.name}"
        for node in top
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef)
    }
    return methods | {node.name for node in top}


@pytest.mark.parametrize(("file", "name"), STATIONS)
def test_a_station_is_where_the_page_says(file, name):
    assert name in defined(ROOT / file)


def test_the_page_has_all_its_stations_and_is_short():
    assert len(STATIONS) > 50 and PAGE.count("\n") <= 150
    for path in re.findall(r"python -m [\w.]+ (\S+\.yaml)", PAGE):
        assert (ROOT / path).is_file(), path


def test_every_room_is_on_the_page():
    named = set(re.findall(r"`([\w/]+)`", PAGE))
    assert {room for room in ROOMS if room not in ("agents", "metrics/judges/text")} <= named
