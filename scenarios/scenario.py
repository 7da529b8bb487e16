"""A scenario file, read and checked against its graph and personas, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.fields import absolute, model_anywhere
from scenarios.input_files import is_file
from scenarios.overrides import override
from scenarios.persona_schema import PersonaSpec
from scenarios.records import PARTNER, SEATS, Persona
from scenarios.schema import Measure, ScenarioFile, SeatConfig, Seats
from scenarios.suggestions import nearest_path
from scenarios.yaml_files import Document, ScenarioError, parse_yaml, read_kind, validate

ACCESS = ("timeout_s", "api_key_env", "max_connections", "price")  # keys that decide nothing that a server says


class Scenario(ScenarioFile):
    """A checked scenario. After `load_scenario`, `personas` are absolute paths."""

    def digest(self) -> str:
        """SHA-256, in hex, of everything that decides the dialogues: the content, and the cast by the content of its
        files.

        The location of persona files does not count, nor the concurrency, how servers are accessed, and whether
        judges are validated.
        """
        content = self.resolved() | {"personas": [Path(path).name for path in self.personas], "concurrency": None}
        for settings in (*content["seats"].values(), content["measure"]["llm"]):
            for name in ACCESS:
                settings.pop(name, None)
        del content["measure"]["validate"]
        sha = hashlib.sha256(_sorted_json(content))
        known: dict[int, tuple[bytes, Persona]] = {}  # by identity: most conversations have the same few personas
        for seats in people.cast(self):
            for seat in SEATS:
                persona = seats[seat]
                if id(persona) not in known:
                    known[id(persona)] = hashlib.sha256(_sorted_json(persona)).digest(), persona
                sha.update(known[id(persona)][0])
        return sha.hexdigest()


def _sorted_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=vars).encode()  # vars: of dataclasses


def load_scenario(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a file with `key=value` overrides, with its graph and personas checked.

    Raises ScenarioError: one sentence with the file and line (or the override), the key, what is there and what was
    expected.
    """
    document = override(read_kind(path, "scenario"), overrides, Scenario)
    scenario = validate(document, Scenario)
    scenario = scenario.model_copy(
        update={
            "personas": _persona_paths(document, scenario, Path(path).parent),
            "seats": _seats_with_ids(document, _seats_anywhere(scenario.seats)),
            "measure": _measure_anywhere(scenario.measure),
        }
    )
    try:
        graphs.build(scenario)
        people.cast(scenario)
    except ScenarioError as error:
        raise (error if error.where else document.error(error.problem, error.key)) from None
    return scenario


def scenario_differences(old: str, new: str) -> list[str]:
    """The differences between two YAML texts, one string per value: `seats.user.temperature: 0.8 -> 0.9`."""
    before, after = _flat(parse_yaml(old, "old").data), _flat(parse_yaml(new, "new").data)
    keys = dict.fromkeys([*before, *after])
    return [
        f"{k}: {_value_text(before, k)} -> {_value_text(after, k)}"
        for k in keys
        if _value_text(before, k) != _value_text(after, k)
    ]


def _persona_paths(document: Document, scenario: Scenario, folder: Path) -> list[str]:
    """Absolute paths; a path in an override may also be relative to the working directory."""
    paths = []
    for place, name in enumerate(scenario.personas):
        key = ("personas", place) if isinstance(document.data["personas"], list) else ("personas",)
        overridden = document.where(key).startswith("override ")
        places = [folder / name, Path(name)] if overridden else [folder / name]
        file = next((file for file in places if is_file(file)), None)
        if file is None:
            hint = next(filter(None, map(nearest_path, places)), "")
            raise document.error(f"is {name!r}; expected the path of a persona file, {places[0]} is none{hint}", key)
        paths.append(str(file.resolve()))
    return paths


def _seats_anywhere(seats: Seats) -> Seats:
    """The seats with absolute paths of local models and adapters, valid from any folder and on any node."""

    def anywhere(seat: SeatConfig) -> SeatConfig:
        model = seat.model if seat.endpoint else model_anywhere(seat.model)
        return seat.model_copy(
            update={
                "model": model,
                "adapter": seat.adapter if seat.endpoint else seat.adapter and absolute(seat.adapter),
            }
        )

    return Seats(assistant=anywhere(seats.assistant), user=anywhere(seats.user))


def _seats_with_ids(document: Document, seats: Seats) -> Seats:
    """The seats with an id for every persona given inline: from its name where it has none, and not that of the other
    seat. Raises ScenarioError where both seats give one id.
    """
    ids = {seat: given.id if isinstance(given := seats[seat].persona, PersonaSpec) else given for seat in SEATS}
    for seat in SEATS:
        given = seats[seat].persona
        if not isinstance(given, PersonaSpec):
            continue
        if given.id is None:
            ids[seat] = people.id_from(given.name, set(filter(None, ids.values())))
            chosen = given.model_copy(update={"id": ids[seat]})
            seats = seats.model_copy(update={seat: seats[seat].model_copy(update={"persona": chosen})})
        elif given.id == ids[PARTNER[seat]]:
            problem = f"is {given.id!r}, as that of the other seat is; expected another"
            raise document.error(problem, ("seats", seat, "persona", "id"))
    return seats


def _measure_anywhere(measure: Measure) -> Measure:
    """The measure with absolute paths of the judges' local models."""
    nli = measure.nli.model_copy(update={"model": model_anywhere(measure.nli.model)})
    llm = (
        measure.llm
        if measure.llm.endpoint
        else measure.llm.model_copy(update={"model": model_anywhere(measure.llm.model)})
    )
    return measure.model_copy(update={"nli": nli, "llm": llm})


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """The values by dotted key. An empty mapping is a value, and so is a list without mappings."""
    if not isinstance(value, dict | list) or not value:
        return {key: value}
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return {key: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        within: inner
        for name, item in pairs
        for within, inner in _flat(item, f"{key}.{name}" if key else str(name)).items()
    }


def _value_text(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return "(absent)"
    return values[key] if isinstance(values[key], str) else json.dumps(values[key], default=str)
