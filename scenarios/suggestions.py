"""The known name or path that is nearest to a mistyped one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

LONGEST = 200  # characters of a name
MOST_COMPARED, MOST_LISTED = 1000, 50  # names: each takes some 10 µs to compare


def nearest(word: object, known: Iterable[object]) -> str:
    """ "; did you mean 'home'?", or, where no known name is near, "; expected one of home, job"."""
    names = [str(name) for name in known]
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    expected = f"; expected one of {', '.join(names[:MOST_LISTED])}{more}" if names else ""
    return did_you_mean(closest(word, names)) or expected


def nearest_path(path: str | Path) -> str:
    """ "; did you mean 'scenarios/long_dialogue.yaml'?", or "" where no path is near.

    Missing parts of the path are replaced by the nearest name in their folder.
    """
    reached = Path()
    for part in Path(path).parts:
        there = reached / part
        if len(part) > LONGEST:
            return ""
        if not there.exists():
            beside = [Path(name).stem for name in _names_in(reached) if Path(name).suffix == there.suffix]
            if not (close := closest(there.stem, beside)):
                return ""
            there = reached / (close + there.suffix)
        reached = there
    return did_you_mean(str(reached)) if reached != Path(path) else ""


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def closest(word: object, names: Sequence[str]) -> str:
    """The name most similar to the word; "" where none is similar, or the word is no name.

    Of many names, the first MOST_COMPARED are looked at, and none of more than LONGEST characters.
    """
    if len(str(word)) > LONGEST:
        return ""
    compared = [name for name in names[:MOST_COMPARED] if len(name) <= LONGEST]
    return next(iter(difflib.get_close_matches(str(word), compared, n=1, cutoff=0.6)), "")


def did_you_mean(name: str) -> str:
    """ "; did you mean 'NAME'?"."""
    return f"; did you mean {name!r}?" if name else ""
