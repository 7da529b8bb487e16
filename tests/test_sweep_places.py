"""Where trials are played: what each gets of a cluster, on machines that share no disk with the sweep, and what a sweep will take."""

from __future__ import annotations

import shutil

import pytest
import sweeps
from commands import ROOT, inside, turns
from rich.console import Console

from lab import sweeping
from lab.sweep import Home, Sent, main, resources
from lab.trial import carry_out, files, orders
from scenarios.sweep import load_sweep

SMOKE = ROOT / "scenarios/sweeps/smoke.yaml"
GPUS = [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}]


def wanted(*overrides: str, nodes=GPUS) -> dict:
    return resources(load_sweep(SMOKE, overrides), nodes)


def test_a_trial_gets_a_gpu_to_itself_or_a_fair_share_where_more_are_played_at_once():
    assert wanted() == {"CPU": 1, "GPU": 1} and wanted("at_once=2") == {"CPU": 1, "GPU": 1}
    assert wanted("at_once=4") == {"CPU": 1, "GPU": 0.5} and wanted("at_once=5") == {"CPU": 1, "GPU": pytest.approx(1 / 3)}  # two of three, one of two
    assert wanted("gpus=0.25", "cpus=4") == {"CPU": 4, "GPU": 0.25}


def test_no_gpu_is_taken_where_none_is_or_no_model_would_use_it():
    scripts = ["overrides.seats.user.script=[Yes.]", "overrides.seats.assistant.script=[Oh?]", "overrides.measure.metrics=[prompt_to_line]"]
    assert wanted(nodes=[{"CPU": 2.0}]) == wanted("overrides.device=cpu") == wanted(*scripts) == {"CPU": 1}


def test_a_trial_that_no_node_has_room_for_is_refused():
    with pytest.raises(ValueError, match="a trial wants CPU 9, GPU 1, and no node has as much .the most: CPU 8, GPU 2.; expected less"):
        wanted("cpus=9")


# -- on another machine ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path):
    """A plan whose scenario and personas are gone from where they were when it was made, and what travelled of them."""
    here = tmp_path / "here"
    shutil.copytree(ROOT / "scenarios", here, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    file = sweeps.written(tmp_path, scenario=str(here / "chitchat.yaml"), axes={"seed": [1]})
    plan = load_sweep(file)
    travelled = orders(plan), files(plan)
    yield plan, travelled, lambda: shutil.rmtree(here)


def test_a_trial_plays_the_same_where_its_files_lie_elsewhere(moved, tmp_path):
    plan, (every, given), leave = moved
    [trial] = plan.trials
    carry_out(every[trial.id], given, tmp_path / "there", lambda told: None)
    leave()
    heard = []
    found = carry_out(every[trial.id], given, tmp_path / "elsewhere", heard.append)
    assert found["counts"] == {"lines": 12, "failed": 0} and {"lines", "of"} == set(heard[0])
    assert turns(tmp_path / "elsewhere").equals(turns(tmp_path / "there"))
    kept = (tmp_path / "elsewhere" / "scenario.yaml").read_text()
    assert kept == (tmp_path / "there" / "scenario.yaml").read_text() and "lab-trial-" not in kept
    assert carry_out(every[trial.id], given, tmp_path / "elsewhere", heard.append)["metrics"] == found["metrics"]  # not played again


def test_a_folder_that_holds_another_trial_is_left_alone(moved, tmp_path):
    plan, (every, given), _ = moved
    [trial] = plan.trials
    carry_out(every[trial.id], given, tmp_path / "there", lambda told: None)
    other = load_sweep(sweeps.written(tmp_path, scenario=str(sweeps.CHITCHAT), axes={"seed": [2]}))
    with pytest.raises(ValueError, match="holds another trial"):
        carry_out(orders(other)[other.trials[0].id], files(other), tmp_path / "there", lambda told: None)


def test_a_storage_gets_a_trials_folder_and_gives_it_back_to_another_machine(tmp_path):
    folder, again = tmp_path / "a" / "trial", tmp_path / "b" / "trial"
    (folder / "plots").mkdir(parents=True)
    (folder / "events.jsonl").write_text("{}\n")
    (folder / "plots" / "one.png").write_bytes(b"png")
    home = Home(str(tmp_path / "sweep"), "sweep", (tmp_path / "store").as_uri(), 1)
    Sent(home, "trial", folder).all(lambda told: None)
    assert (tmp_path / "store/sweep/trials/trial/plots/one.png").read_bytes() == b"png"
    Sent(home, "trial", again).back()
    assert (again / "events.jsonl").read_text() == "{}\n"


# -- before and while it is played -----------------------------------------------------------------------------------------------------


def test_a_dry_run_plays_a_little_and_tells_what_the_sweep_takes(tmp_path):
    done = inside(main, sweeps.written(tmp_path), "--dry-run", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "small: 4 trials of chitchat.yaml" in done.stdout and "Probed 1 of them" in done.stdout and "It fits." in done.stdout
    assert not (tmp_path / "runs").exists()


def shown(*events: dict, width: int = 120) -> str:
    plan = load_sweep(SMOKE)
    course = sweeping.Course()
    course.fold({"event": "sweep", "name": "smoke", "trials": {trial.id: dict(trial.values) for trial in plan.trials}})
    for event in events:
        names = {name: trial.id for name, trial in zip("abcd", plan.trials)}
        course.fold(event | ({"trial": names[event["trial"]]} if "trial" in event else {}))
    console = Console(width=width, record=True, file=open("/dev/null", "w"))
    console.print(sweeping.render(course, plan.sweep, "runs/x", 100.0))
    return console.export_text()


def row(value: float) -> dict:
    return {"metric": "prompt_to_line", "judge": "ledger", "seat": "user", "value": value, "low": value, "high": value, "n": 4}


def test_the_screen_shows_trials_nodes_queue_best_and_failures():
    done = {"event": "trial", "status": "finished", "counts": {}, "seconds": 3.0}
    text = shown({"event": "nodes", "nodes": 3, "cores": 6, "free": 2}, {"event": "trial", "trial": "a", "status": "running", "node": "alpha"},
                 {"event": "progress", "trial": "a", "lines": 5, "of": 8}, done | {"trial": "b", "metrics": [row(0.5)]},
                 done | {"trial": "c", "metrics": [row(0.75)]}, {"event": "trial", "trial": "d", "status": "failed", "reason": "out of [b]memory"})
    assert "3/4 trials  1 running  0 in the queue  1 failed" in text and "3 nodes, 4 of 6 cores at work" in text
    assert "5/8" in text and "alpha" in text and "temperature=1.4 seed=1: 0.75 [0.75, 0.75] n=4" in text and "out of [b]memory" in text


def test_a_trial_that_ran_when_the_sweep_ended_waits_again():
    course = sweeping.Course()
    begun = {"event": "sweep", "name": "x", "trials": {"a": {"seed": 1}}}
    for event in (begun, {"event": "trial", "trial": "a", "status": "running", "node": "n"}, begun):
        course.fold(event)
    assert course.trials["a"].status == "waiting" and course.trials["a"].attempts == 1
