"""Reading and checking a training file: which seat is trained, on which dialogues, with which rewards, and how it is
evaluated.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from scenarios.input_files import home_expanded, is_file
from scenarios.jobs.recipe import Recipe, all_played, persona_files, played, shared_overrides
from scenarios.overrides import as_items, override
from scenarios.persona_schema import SAMPLE
from scenarios.personas import NAME_SLOT, load_personas, named_personas
from scenarios.records import Persona, derive_seed
from scenarios.scenario import Scenario, load_scenario
from scenarios.schema import SeatConfig
from scenarios.suggestions import nearest_path
from scenarios.yaml_files import Document, Key, ScenarioError, read_kind, validate


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The training of a file with `key=value` overrides.

    Raises ScenarioError with the file, line and key, what is there and what was expected.
    """
    document = override(read_kind(path, "training"), overrides, Recipe, {"overrides": 1})
    recipe = validate(document, Recipe)
    folder = Path(path).parent
    scenarios = [
        each.model_copy(update={"scenario": _file(document, folder, each.scenario, ("scenario", place, "scenario"))})
        for place, each in enumerate(recipe.scenario)
    ]
    others = [
        _file(document, folder, name, ("evaluation", "scenario", place))
        for place, name in enumerate(recipe.evaluation.scenario)
    ]
    recipe = recipe.model_copy(
        update={
            "scenario": scenarios,
            "data": [_absolute(name) for name in recipe.data],
            "tuning": recipe.tuning.model_copy(
                update={"adapter": recipe.tuning.adapter and _absolute(recipe.tuning.adapter)}
            ),
            "evaluation": recipe.evaluation.model_copy(update={"scenario": others}),
        }
    )
    try:
        for check in (_overridden, _apart, split, held_out_slots, _cast, _trainable, _worded):
            check(recipe)
    except ScenarioError as error:
        raise (error if error.where else document.error(error.problem, error.key)) from None
    return recipe


def _file(document: Document, folder: Path, name: str, key: Key) -> str:
    """The absolute path of a scenario's file. Raises ScenarioError where there is none."""
    file = next((file for file in (folder / name, Path(name)) if is_file(file)), None)
    if file is None:
        hint = nearest_path(folder / name) or nearest_path(name)
        raise document.error(f"is {name!r}; expected the path of a scenario file, {folder / name} is none{hint}", key)
    return str(file.resolve())


def _absolute(name: str) -> str:
    return str(home_expanded(name).resolve())


def _overridden(recipe: Recipe) -> None:
    """Raises ScenarioError where a key of `overrides` is one of no scenario."""
    for key, value in recipe.overrides.items():
        if not any(key in shared_overrides(recipe, number) for number in range(len(recipe.scenario))):
            load_scenario(recipe.scenario[0].scenario, as_items({key: value}))


def _apart(recipe: Recipe) -> None:
    """Raises ScenarioError where two scenarios have one name, or one to evaluate in is also trained on."""
    trained, names, paths = all_played(recipe), set[str](), {each.scenario for each in recipe.scenario}
    for place, scenario in enumerate(trained):
        if scenario.name in names:
            raise ScenarioError(
                f"is named {scenario.name!r} like an earlier one; expected another name, to tell rows apart, such as "
                f"overrides: {{name: {scenario.name}_{place}}}",
                ("scenario", place, "scenario"),
            )
        names.add(scenario.name)
    for place, path in enumerate(recipe.evaluation.scenario):
        other, key = load_scenario(path), ("evaluation", "scenario", place)
        like = next((scenario.name for scenario in trained if scenario.graph == other.graph), None)
        if like or path in paths:
            same = f"has the graph of {like!r}" if path not in paths else f"is {Path(path).name}"
            raise ScenarioError(f"{same}, which is trained on; expected a scenario that no training sees", key)
        if other.name in names:
            raise ScenarioError(
                f"is named {other.name!r} like another scenario; expected another name, to tell rows apart", key
            )
        names.add(other.name)


def _cast(recipe: Recipe) -> None:
    """Raises ScenarioError where the people of the training are too few for the seats of a scenario."""
    learnt, _ = split(recipe)
    for number in range(len(recipe.scenario)):
        played(recipe, number, persona_pool=pool(played(recipe, number), learnt))


def _worded(recipe: Recipe) -> None:
    """Raises ScenarioError where a fact has no paraphrase that can be held out."""
    people = load_personas(persona_files(all_played(recipe)))
    least = min(
        (fact for person in people for fact in person.facts), key=lambda fact: len(fact.slot.questions), default=None
    )
    if least and len(least.slot.questions) <= recipe.held_out.paraphrase:
        raise ScenarioError(
            f"is {recipe.held_out.paraphrase}, but {least.id!r} has {len(least.slot.questions)} wordings of its "
            "question, counted from 0; expected a smaller one, or more wordings in the personas' files",
            ("held_out", "paraphrase"),
        )


def _trainable(recipe: Recipe) -> None:
    """Raises ScenarioError where a seat to be trained is not spoken by one local model in all scenarios, or always has
    the same persona.
    """
    for scenario in all_played(recipe):
        for seat in recipe.seats():
            if problem := _untrainable(recipe, scenario, seat):
                within = f" in {scenario.name}" if len(recipe.scenario) > 1 else ""
                raise ScenarioError(f"is to learn, but{within} {problem}", ("seat",))


def _untrainable(recipe: Recipe, scenario: Scenario, seat: str) -> str:
    """Why the seat cannot learn in the scenario, and what was expected; "" where it can."""
    spec, model = scenario.seats[seat], played(recipe).seats[seat].model
    if speaker := other_speaker(spec):
        cure = "tuning.adapter, to go on from it" if speaker == "an adapter" else "a model that is trained here"
        return f"{speaker} speaks for the {seat}; expected {cure}"
    if spec.model != model:
        return f"{spec.model!r} speaks for the {seat}; expected {model!r} as in the first scenario"
    if spec.steer:
        return f"the {seat} is steered; expected no seats.{seat}.steer"
    if spec.temperature == 0 and not recipe.data:
        return (
            f"the {seat} always says the likeliest line, and what differs is learnt from; expected "
            f"seats.{seat}.temperature above 0"
        )
    if spec.persona != SAMPLE and not recipe.data:
        who = spec.persona if isinstance(spec.persona, str) else spec.persona.id
        return (
            f"the {seat} is always {who!r}; expected overrides with seats.{seat}.persona: sample, so that some people "
            "can be held out"
        )
    return ""


def other_speaker(spec: SeatConfig) -> str:
    """Who speaks in a seat in place of an unchanged local model, in words; "" where such a model speaks."""
    return (
        "a script"
        if spec.script
        else "a server"
        if spec.endpoint
        else "an adapter"
        if spec.adapter or ":" in spec.model
        else ""
    )


def drawable(scenario: Scenario) -> list[str]:
    """The ids of the personas that the scenario can draw, those of its named seats included."""
    return [
        persona.id
        for persona in load_personas(scenario.personas)
        if scenario.persona_pool is None or persona.id in scenario.persona_pool
    ]


def held_out_slots(recipe: Recipe) -> list[str]:
    """The ids of the slots whose facts training never asks for and never rewards; a share is drawn among all but the
    name's.

    Raises ScenarioError for an id that no persona has a fact of, and where no slot is left or held out.
    """
    wanted, key = recipe.held_out.slots, ("held_out", "slots")
    if wanted == []:
        return []
    people = load_personas(persona_files(all_played(recipe)))
    known = list(dict.fromkeys(fact.id for person in people for fact in person.facts))
    if isinstance(wanted, list):
        out = wanted
        if strange := [name for name in out if name not in known]:
            raise ScenarioError(f"holds {strange[0]!r}; expected slots of the personas: {', '.join(known)}", key)
    else:
        own = [name for name in known if name != NAME_SLOT]
        out = random.Random(derive_seed(recipe.seed, "held out slots")).sample(own, round(wanted * len(own)))
    if not out or not set(known) - set(out):
        raise ScenarioError(
            f"leaves {len(set(known) - set(out))} of {len(known)} slots to learn with; expected at least one, and one "
            "that is held out",
            key,
        )
    return out


def without_slots(persona: Persona, slots: Collection[str]) -> Persona:
    """The persona without its facts of these slots; its card stays as it is."""
    return replace(persona, facts=tuple(fact for fact in persona.facts if fact.id not in slots)) if slots else persona


def pool(scenario: Scenario, people: Sequence[str]) -> list[str]:
    """Those of the people that the scenario can draw."""
    there = set(drawable(scenario))
    return [name for name in people if name in there]


def split(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The ids of the personas for training, and those of the held-out ones, over all scenarios of the training.

    A persona that a seat of a scenario names is neither. Raises ScenarioError where either is empty in a scenario, or a
    given id cannot be drawn.
    """
    scenarios = all_played(recipe)
    named = {persona.id for scenario in scenarios for persona in named_personas(scenario).values()}
    pools = [[name for name in drawable(scenario) if name not in named] for scenario in scenarios]
    known = list(dict.fromkeys(name for pool in pools for name in pool))
    wanted = recipe.held_out.personas
    if isinstance(wanted, list):
        if strange := [name for name in wanted if name not in known]:
            raise ScenarioError(
                f"holds {strange[0]!r}; expected ids of personas that can be drawn: {', '.join(known)}",
                ("held_out", "personas"),
            )
        out = wanted
    else:
        shuffled = random.Random(derive_seed(recipe.seed, "held out")).sample(known, len(known))
        out = shuffled[: round(wanted * len(known))]
    for scenario, pool in zip(scenarios, pools, strict=True):
        left, taken = len(set(pool) - set(out)), len(set(pool) & set(out))
        if not left or not taken:
            within = f" in {scenario.name}" if len(scenarios) > 1 else ""
            raise ScenarioError(
                f"leaves {left} personas to learn with and {taken} to evaluate with{within}; expected at least one of "
                "each",
                ("held_out", "personas"),
            )
    return [name for name in known if name not in out], out
