"""Old keys and values are answered with their new names, removed keys with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenarios.fields import Strict
from scenarios.jobs import training
from scenarios.renames import KEYS, REMOVED, VALUES
from scenarios.scenario import load_scenario
from scenarios.schema import Measure
from scenarios.yaml_files import ScenarioError, fields_of

SCENARIO, TRAINING_FILE = "scenarios/long_dialogue.yaml", "scenarios/training/quick.yaml"
PLACES = {  # class -> where it stands in a file
    "ScenarioFile": (),
    "Node": ("graph", "nodes", "chat"),
    "Edge": ("graph", "edges", 0),
    "Measure": ("measure",),
    "CascadeConfig": ("measure", "cascade"),
    "Recipe": (),
    "Reward": ("reward",),
    "HeldOut": ("held_out",),
    "Tuning": ("tuning",),
}
TRAINING = {"Reward", "HeldOut", "Tuning", "Recipe"}


def classes(base: type) -> dict[str, type]:
    return {kind.__name__: kind for kind in base.__subclasses__()} | {
        name: kind for child in base.__subclasses__() for name, kind in classes(child).items()
    }


def written(tmp_path, name: str, key: str):
    """A file with the old key in it, and what reads it."""
    training_file = name in TRAINING
    data = yaml.safe_load(Path(TRAINING_FILE if training_file else SCENARIO).read_text())
    part = data
    for step in PLACES[name]:
        part = part.setdefault(step, {}) if isinstance(part, dict) else part[step]
    part[key] = 1
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(data))
    return file, training.load_recipe if training_file else load_scenario


@pytest.mark.parametrize(
    ("name", "old", "new"), [(n, old, new) for n, keys in KEYS.items() for old, new in keys.items()]
)
def test_an_old_key_is_answered_with_its_new_name(name, old, new, tmp_path):
    fields = fields_of(classes(Strict)[name])
    assert new in fields and old not in fields
    file, load = written(tmp_path, name, old)
    line = 1 + next(
        n for n, text in enumerate(file.read_text().splitlines()) if text.strip(" -").startswith(f"{old}: 1")
    )
    path = ".".join(str(part) for part in (*PLACES[name], old))
    with pytest.raises(ScenarioError) as error:
        load(file)
    assert str(error.value) == f"{file}, line {line}: {path} is no key of the file; it is now called {new!r}"


def test_an_old_key_of_an_override_is_answered_with_its_new_name():
    with pytest.raises(
        ScenarioError, match=r"measure\.questions_every is no key of the file; it is now called 'qa_every'"
    ):
        load_scenario(SCENARIO, ["measure.questions_every=4"])


@pytest.mark.parametrize(
    ("name", "old", "why"), [(n, old, why) for n, keys in REMOVED.items() for old, why in keys.items()]
)
def test_a_removed_key_is_answered_with_the_reason(name, old, why, tmp_path):
    assert old not in fields_of(classes(Strict)[name])
    file, load = written(tmp_path, name, old)
    path = ".".join(str(part) for part in (*PLACES[name], old))
    with pytest.raises(ScenarioError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}, line ")
    assert str(error.value).endswith(f": {path} is no key of the file; it was removed: {why}")


@pytest.mark.parametrize(
    ("key", "old", "new"), [(k, old, new) for k, names in VALUES.items() for old, new in names.items()]
)
def test_an_old_value_is_answered_with_its_new_name(key, old, new):
    if key in fields_of(Measure):
        load, source, item = load_scenario, SCENARIO, f"measure.{key}=[{{}}]"
    else:
        load, source, item = training.load_recipe, TRAINING_FILE, f"{key}={{}}"
    load(source, [item.format(new)])
    with pytest.raises(ScenarioError) as error:
        load(source, [item.format(old)])
    assert str(error.value).endswith(f"; it is now called {new!r}")
