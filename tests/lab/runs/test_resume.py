"""Resumed trainings: the files they name must be unchanged, and the screen shows the steps from the first on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from corpora import TOWNSFOLK, recipes
from rich.console import Console

from lab.live.display import Screen
from lab.live.training_screen import BARS, render, training_display
from lab.store.run_store import create
from lab.train import main
from scenarios import personas
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.training import load_recipe


@pytest.fixture
def begun(tmp_path):
    """A training's folder as it is when nothing has been loaded yet, and the scenario and persona files that it
    names.
    """
    recipes(tmp_path, "embedded")
    people, scenario = tmp_path / "people" / TOWNSFOLK.name, tmp_path / "small.yaml"
    shutil.copytree(TOWNSFOLK.parent, people.parent)
    scenario.write_text(scenario.read_text().replace(str(TOWNSFOLK), str(people)))
    recipe = load_recipe(tmp_path / "recipe.yaml")
    with create(tmp_path / "runs", recipe.name, recipe.resolved_yaml(), recipe.seed, recipe.digest()) as store:
        return store.path, scenario, people


def refused(run: Path, capsys) -> str:
    terminate = signal.getsignal(signal.SIGTERM)
    code = main(["--resume", str(run), "--address", "nowhere"])  # which is refused next
    signal.signal(signal.SIGTERM, terminate)
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_a_training_whose_files_are_what_they_were_may_go_on(begun, capsys):
    assert "'nowhere' is no address" in refused(begun[0], capsys)


def test_a_training_does_not_go_on_in_another_scenario(begun, capsys):
    run, scenario, _ = begun
    scenario.write_text(scenario.read_text().replace("Doubt it.", "Believe it."))
    error = refused(run, capsys)
    assert error.startswith(f"lab.train: {run} was begun with other files than {scenario}, ")
    assert error.endswith(" are now; expected them unchanged, or a new training without --resume\n")


@pytest.mark.parametrize("cast", [True, False])
def test_a_training_does_not_go_on_with_other_people_whether_or_not_the_scenario_would_cast_them(begun, capsys, cast):
    run, _, people = begun
    recipe = load_recipe(run / "scenario.yaml")
    here = {seats["user"].id for seats in personas.cast(played(recipe))}
    [who, *_] = [persona for persona in personas.load_personas([people]) if (persona.id in here) == cast]
    text = people.read_text()
    people.write_text(
        text.replace(f"name: {who.name}\n    about: You", f"name: {who.name}\n    about: They say that you")
    )
    assert people.read_text() != text and "was begun with other files" in refused(run, capsys)


# -- what is shown


def steps(first: int, last: int) -> list[dict]:
    return [
        {"event": "step", "step": n, "reward": n / 10, "seconds_play": 20.0, "seconds_learn": 10.0}
        for n in range(first, last)
    ]


def shown(recipe: Recipe, earlier: list[dict], *events: dict) -> str:
    console = Console(force_terminal=True, width=140, height=40, legacy_windows=False)
    screen = training_display("rich", console, recipe, "runs/one", earlier)
    assert isinstance(screen, Screen)
    for event in events:
        screen.show(event)
    with console.capture() as out:
        console.print(screen.view())
    return out.get()


def test_the_screen_of_a_training_that_goes_on_has_its_earlier_steps_number_and_time_left():
    recipe = load_recipe("scenarios/training/quick.yaml", ["max_steps=10"])
    screen = shown(recipe, steps(0, 6))
    assert "step 6/10" in screen and "2:00 left in training" in screen  # four more of 30 s
    screen = shown(recipe, steps(0, 6), *steps(6, 8))
    # eight rewards, from 0 to 0.7
    assert "step 8/10" in screen and "1:00 left in training" in screen and BARS in screen


def test_a_steps_number_is_its_own_and_not_how_many_steps_are_known():
    recipe = load_recipe("scenarios/training/quick.yaml", ["max_steps=10"])
    with (console := Console(width=140)).capture() as out:
        console.print(render(recipe, "runs/one", steps(4, 7), "training", 0.0))
    assert "step 7/10" in out.get() and "1:30 left in training" in out.get()


@pytest.mark.parametrize("display", ["rich", "plain"])
def test_a_training_tells_how_to_watch_it_from_elsewhere(display):
    recipe, hint = (
        load_recipe("scenarios/training/quick.yaml"),
        "watch it from another terminal: python -m lab.watch runs/one",
    )
    if display == "rich":
        assert hint in shown(recipe, [])
    else:
        with (console := Console(width=140)).capture() as out, training_display("plain", console, recipe, "runs/one"):
            pass
        assert out.get() == f"{hint}\n"
        with (console := Console(width=140)).capture() as out, training_display("none", console, recipe, "runs/one"):
            pass
        assert out.get() == ""


@pytest.mark.parametrize("display", ["rich", "plain"])
def test_batches_of_the_untouched_model_are_shown_as_they_are_played(display):
    recipe = load_recipe("scenarios/training/quick.yaml", ["method=kto"])
    event = {
        "event": "collected",
        "batch": 1,
        "batches": 3,
        "seat": "user",
        "reward": 0.25,
        "wire_parroting": 0.0,
        "seconds_play": 7.0,
    }
    progress = "played by the untouched user 2/3  reward 0.25"
    if display == "rich":
        assert progress in shown(recipe, [], event)
    else:
        with (console := Console(width=140)).capture() as out:
            training_display("plain", console, recipe, "runs/one").show(event)
        assert out.get() == f"{progress}  7 s\n"
