"""The names of judges, metrics and reward parts: the lab's own, and those that installed packages add as entry points.

A package names an object (or a function that returns it) under `dialogue_lab.judges`, `dialogue_lab.metrics` or
`dialogue_lab.rewards`. Names are read from the metadata of installed packages; a package's code is imported when an
entry of it is used, and when `python -m lab` lists the entries. A scenario can name an entry, but never a module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Protocol, TypeVar

from pydantic import AfterValidator, PlainValidator
from pydantic_core import PydanticKnownError

JUDGES, METRICS, REWARDS = GROUPS = ("dialogue_lab.judges", "dialogue_lab.metrics", "dialogue_lab.rewards")
OWN = {  # the lab's names by group; a package cannot take one of them
    JUDGES: ("ledger", "likelihood", "nli", "combined", "llm", "cascade", "answer_reader"),
    METRICS: ("prompt_to_line", "line_to_line", "qa", "drift", "contradictions", "tripwires", "activation"),
    REWARDS: ("prompt_to_line", "line_to_line", "qa", "claims", "relevance"),
}
RESERVED = {REWARDS: ("penalty", "judge", "asked", "probes")}  # other keys of the place where the names stand
NAME = re.compile(r"[A-Za-z_]\w*")


class Named(Protocol):
    """An object with a name, as every entry has."""

    @property
    def name(self) -> str:
        """The name of the entry."""
        ...


Entry = TypeVar("Entry", bound=Named)


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package; `problem` says why it cannot be used, "" where its metadata are valid."""

    group: str
    name: str
    package: str
    version: str
    point: EntryPoint | None
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.package} {self.version}"


def plugins(group: str) -> list[Plugin]:
    """The entry points of the group in all installed packages, by name, including those with a problem."""
    return list(_plugins(group, tuple(sys.path)))


@cache
def _plugins(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    entries = sorted(_entry_points(group), key=lambda plugin: (plugin.name, plugin.package))
    owners: dict[str, list[str]] = {}
    for plugin in entries:
        owners.setdefault(plugin.name, []).append(plugin.package)
    return tuple(_checked(plugin, owners[plugin.name]) for plugin in entries)


def names(group: str) -> list[str]:
    """The names that a scenario may use: the lab's, then those of installed packages."""
    return [*OWN[group], *(plugin.name for plugin in plugins(group) if not plugin.problem)]


def added(group: str) -> list[str]:
    """The names that installed packages add to the lab's."""
    return names(group)[len(OWN[group]) :]


def load_entry(group: str, name: str, kind: type[Entry]) -> Entry:
    """The entry of that name from an installed package.

    Raises ValueError, with the package and the reason, where there is none, where its code cannot be imported, or where
    the object is no `kind` with that name.
    """
    plugin = next((plugin for plugin in plugins(group) if plugin.name == name), None)
    if plugin is None:
        raise ValueError(f"no installed package has {name!r} as an entry point of {group}")
    return load_plugin(plugin, kind)


def load_plugin(plugin: Plugin, kind: type[Entry]) -> Entry:
    """The entry of an entry point that `plugins` returned. Raises ValueError like `load_entry`."""
    problem, point = plugin.problem, plugin.point
    if point is not None and not problem:
        entry = _imported(point)
        if isinstance(entry, kind) and entry.name == plugin.name:
            return entry
        if isinstance(entry, kind):
            problem = f"{point.value} is named {entry.name!r}; expected the entry point's name"
        else:
            problem = entry if isinstance(entry, _Failure) else f"{point.value} is {entry!r:.80}"
            problem += f"; expected a {kind.__name__}, or a function that returns one"
    raise ValueError(f"{plugin} ({plugin.group}) cannot be used: {problem}")


def name_in(group: str, own: Sequence[str] | None = None) -> PlainValidator:
    """A validator of names of the group: those of `own` (by default all names of the lab) and of installed packages."""
    accepted = OWN[group] if own is None else own

    def check(value: Any) -> str:
        if isinstance(value, str) and (value in accepted or value in added(group)):
            return value
        *most, last = map(repr, (*accepted, *added(group)))
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})

    return PlainValidator(check)


def added_key(group: str) -> AfterValidator:
    """A validator of keys beyond a file's own: names from installed packages."""

    def check(value: str) -> str:
        if value not in added(group):
            raise PydanticKnownError("extra_forbidden")
        return value

    return AfterValidator(check)


class _Failure(str):
    """The reason why the code of an entry point could not be imported or called."""


@cache
def _imported(point: EntryPoint) -> object:
    """The object of the entry point; for a function or class, its return value; a `_Failure` where that fails."""
    try:
        named = point.load()
        return named() if callable(named) else named
    except (Exception, SystemExit) as error:  # foreign code: whatever it raises is the reason, in one line
        return _Failure(f"{point.value} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _entry_points(group: str) -> Iterator[Plugin]:
    """The entry points of the group; of two installed copies of a package, those of the first on the path."""
    seen: set[str] = set()
    for distribution in distributions():
        if group in _entry_points_text(distribution):
            package = str(distribution.metadata["Name"] or "a package without a name")
            if package not in seen:
                seen.add(package)
                yield from _of_package(distribution, group, package)


def _entry_points_text(distribution: Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _of_package(distribution: Distribution, group: str, package: str) -> Iterator[Plugin]:
    version = str(distribution.metadata["Version"] or "without a version")
    try:
        points = list(distribution.entry_points.select(group=group))
    except (TypeError, ValueError) as error:
        yield Plugin(group, "?", package, version, None, f"its entry_points.txt cannot be read: {error}")
        return
    for point in points:
        yield Plugin(group, point.name, package, version, point)


def _checked(plugin: Plugin, owners: Sequence[str]) -> Plugin:
    problem = plugin.problem
    if not problem and not NAME.fullmatch(plugin.name):
        problem = "its name may hold letters, digits and '_' only"
    elif plugin.name in (*OWN[plugin.group], *RESERVED.get(plugin.group, ())):
        problem = "the lab has an entry of that name"
    elif len(owners) > 1:
        problem = f"{' and '.join(owners)} both have an entry of that name"
    return Plugin(plugin.group, plugin.name, plugin.package, plugin.version, plugin.point, problem)
