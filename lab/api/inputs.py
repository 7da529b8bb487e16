"""The inputs of the Python interface: files by path or by the name of a built-in one, overrides, transcripts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scenarios
from scenarios.input_files import home_expanded
from scenarios.overrides import as_items
from scenarios.suggestions import nearest
from scenarios.yaml_files import check_type, shown

if TYPE_CHECKING:
    from lab.transcripts.transcript import Source
    from scenarios.scenario import Scenario

BUILT_IN = Path(scenarios.__file__).parent  # the folder of the YAML files that come with the lab
Overrides = Mapping[str, object] | Sequence[str]  # {"seats.user.temperature": 0.5}, or ["seats.user.temperature=0.5"]
Message = Mapping[str, str]  # {"role": "user" or "assistant", "content": what was said}
Conversation = Mapping[str, object] | Sequence[Message]  # {"messages": [...], "personas": {...}}, or the messages alone
PathLike = str | os.PathLike[str]  # a run is one, too
PATHS = (str, os.PathLike)  # the same for isinstance
TRANSCRIPTS = "paths of files or run folders, or lists of messages"  # what messages say is expected


def file_of(name: PathLike, folders: Sequence[str], kind: str) -> Path:
    """The path, or the built-in file of that name, such as "long_dialogue".

    Built-in files are in `folders` below scenarios/, where "" is scenarios/ itself. `kind` says in the error what is
    expected. Raises ValueError for what is no path, and for a plain name that is neither a file nor built in.
    """
    expected = f"the path of a YAML file, the name of a {kind} that comes with the lab, or a loaded one"
    check_type(kind, name, PATHS, expected)
    path = home_expanded(name)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    known = {file.stem: file for folder in folders for file in sorted((BUILT_IN / folder).glob("*.yaml"))}
    if path.name not in known:
        raise ValueError(f"{path.name!r} is no file and no {kind} that comes with the lab{nearest(path.name, known)}")
    return known[path.name]


def items_of(overrides: Overrides) -> list[str]:
    """Overrides as a list of `key=value`.

    The values of a mapping may be texts, numbers, booleans, None, paths, and lists and mappings of these. Raises
    ValueError for anything else.
    """
    listed = isinstance(overrides, Sequence) and not isinstance(overrides, str | bytes)
    if not listed and not isinstance(overrides, Mapping):
        raise ValueError(f"overrides are {shown(overrides)}; expected a mapping by dotted key, or a list of key=value")
    for item in overrides:
        check_type("an override", item, str, "text: a dotted key of a mapping, or key=value of a list")
    if not isinstance(overrides, Mapping):
        return list(overrides)
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in overrides.items()}
    return as_items(plain)


def scenario_of(scenario: PathLike | Scenario, overrides: Overrides) -> Scenario:
    """The scenario of a file, of a built-in file's name, or a loaded one, with the overrides.

    Raises ValueError with file and line (or the override), the key, its value and what was expected.
    """
    from scenarios.scenario import Scenario, load_scenario

    items = items_of(overrides)
    if not isinstance(scenario, Scenario):
        return load_scenario(file_of(scenario, [""], "scenario"), items)
    if not items:
        return scenario
    with tempfile.TemporaryDirectory(prefix="lab-scenario-") as folder:
        file = Path(folder) / f"{scenario.name}.yaml"
        file.write_text(scenario.resolved_yaml(), encoding="utf-8")
        return load_scenario(file, items)


def sources_of(
    transcripts: PathLike | Conversation | Sequence[PathLike] | Sequence[Conversation],
    form: str | None = None,
    limit: int | None = None,
) -> list[Source]:
    """The sources of transcripts; those of conversations in memory hold these as JSON lines.

    A list of messages is one conversation. `form` and `limit` are those of
    `lab.transcripts.reading.read_transcripts`. Raises ValueError, one sentence, where there are none or they cannot be
    read.
    """
    from lab.transcripts.reading import read_records, read_transcripts

    single = isinstance(transcripts, str | os.PathLike | Mapping)
    if not single:
        check_type("transcripts", transcripts, Sequence, TRANSCRIPTS)
    given: list[Any] = [transcripts] if single else list(transcripts)
    if given and all(isinstance(item, Mapping) and "role" in item for item in given):
        given = [given]
    if not given:
        raise ValueError(f"there are no transcripts; expected {TRANSCRIPTS}")
    for item in given:
        check_type("a transcript", item, (*PATHS, Mapping, Sequence), TRANSCRIPTS)
    paths = [home_expanded(item) for item in given if isinstance(item, str | os.PathLike)]
    if len(paths) == len(given):
        return [read_transcripts(path, form, limit) for path in paths]
    if paths:
        raise ValueError(f"{paths[0]} is mixed with lists of messages; expected only paths, or only lists of messages")
    records = [item if isinstance(item, Mapping) else {"messages": item} for item in given]
    try:
        data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode("utf-8", "replace")
    except (TypeError, ValueError) as error:
        raise ValueError(f"messages: hold what is no text ({error}); expected role and content as text") from None
    return [replace(read_records("messages", data, form), records=data)]
