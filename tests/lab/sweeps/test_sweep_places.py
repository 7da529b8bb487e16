"""Where trials are played: what each gets of a cluster, on machines that share no disk with the sweep, and what a sweep
will take.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import threading

import polars as pl
import pytest
import sweeps
from commands import ROOT, inside, turns
from rich.console import Console

from lab.live import sweep_screen
from lab.live.display import Screen
from lab.progress import sweep as sweeping_sweep
from lab.progress.trials_table import trials_frame
from lab.reports.sweep_curves import AXIS, SCHEMA, curves
from lab.reports.sweep_report import curve_rows, plot_responses
from lab.sweep import main
from lab.sweeps import dry_run
from lab.sweeps.folder_sync import Home, SentFolder
from lab.sweeps.ray_tune import awaited
from lab.sweeps.resources import resources
from lab.sweeps.sweep_events import SweepEvents
from lab.sweeps.trial import carry_out_trial, files, orders
from scenarios.jobs.sweep import Best, load_sweep

SMOKE = ROOT / "scenarios/sweeps/smoke.yaml"
GPUS = [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}]


def wanted(*overrides: str, nodes=GPUS) -> dict:
    return resources(load_sweep(SMOKE, overrides), nodes)


def test_a_trial_gets_a_gpu_to_itself_or_a_fair_share_where_more_are_played_at_once():
    assert wanted() == {"CPU": 1, "GPU": 1} and wanted("at_once=2") == {"CPU": 1, "GPU": 1}
    # two of three, one of two
    assert wanted("at_once=4") == {"CPU": 1, "GPU": 0.5} and wanted("at_once=5") == {
        "CPU": 1,
        "GPU": pytest.approx(1 / 3),
    }
    assert wanted("gpus=0.25", "cpus=4") == {"CPU": 4, "GPU": 0.25}


def test_no_gpu_is_taken_where_none_is_or_no_model_would_use_it():
    scripts = [
        "overrides.seats.user.script=[Yes.]",
        "overrides.seats.assistant.script=[Oh?]",
        "overrides.measure={metrics: [prompt_to_line], judge: ledger}",
    ]
    assert wanted(nodes=[{"CPU": 2.0}]) == wanted("overrides.device=cpu") == wanted(*scripts) == {"CPU": 1}


def test_a_trial_that_no_node_has_room_for_is_refused():
    with pytest.raises(
        ValueError, match=r"a trial wants CPU 9, GPU 1, and no node has as much .the most: CPU 8, GPU 2.; expected less"
    ):
        wanted("cpus=9")


# -- on another machine


@pytest.fixture
def moved(tmp_path):
    """A plan whose scenario and personas are gone from where they were when it was made, and what travelled of them."""
    here = tmp_path / "here"
    shutil.copytree(ROOT / "scenarios", here, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    file = sweeps.written(tmp_path, scenario=str(here / "chitchat.yaml"), axes={"seed": [1]})
    plan = load_sweep(file)
    travelled = orders(plan), files(plan)
    return plan, travelled, lambda: shutil.rmtree(here)


@pytest.mark.slow
def test_a_trial_plays_the_same_where_its_files_lie_elsewhere(moved, tmp_path):
    plan, (every, given), leave = moved
    [trial] = plan.trials
    carry_out_trial(every[trial.id], given, tmp_path / "there", lambda progress: None)
    leave()
    heard = []
    outcome = carry_out_trial(every[trial.id], given, tmp_path / "elsewhere", heard.append)
    assert outcome["counts"] == {"lines": 12, "failed": 0} and {"lines", "of"} == set(heard[0])
    assert turns(tmp_path / "elsewhere").equals(turns(tmp_path / "there"))
    kept = (tmp_path / "elsewhere" / "scenario.yaml").read_text()
    assert kept == (tmp_path / "there" / "scenario.yaml").read_text() and "lab-trial-" not in kept
    # not played again
    assert (
        carry_out_trial(every[trial.id], given, tmp_path / "elsewhere", heard.append)["metrics"] == outcome["metrics"]
    )


@pytest.mark.slow
def test_a_folder_that_holds_another_trial_is_left_alone(moved, tmp_path):
    plan, (every, given), _ = moved
    [trial] = plan.trials
    carry_out_trial(every[trial.id], given, tmp_path / "there", lambda progress: None)
    other = load_sweep(sweeps.written(tmp_path, scenario=str(sweeps.CHITCHAT), axes={"seed": [2]}))
    with pytest.raises(ValueError, match="holds another trial"):
        carry_out_trial(orders(other)[other.trials[0].id], files(other), tmp_path / "there", lambda progress: None)


def test_a_storage_gets_a_trials_folder_and_gives_it_back_to_another_machine(tmp_path):
    folder, again = tmp_path / "a" / "trial", tmp_path / "b" / "trial"
    (folder / "plots").mkdir(parents=True)
    (folder / "events.jsonl").write_text("{}\n")
    (folder / "plots" / "one.png").write_bytes(b"png")
    home = Home(str(tmp_path / "sweep"), "sweep", (tmp_path / "store").as_uri(), 1)
    SentFolder(home, "trial", folder).send_all(lambda progress: None)
    assert (tmp_path / "store/sweep/trials/trial/plots/one.png").read_bytes() == b"png"
    SentFolder(home, "trial", again).bring_back()
    assert (again / "events.jsonl").read_text() == "{}\n"
    (again / "events.jsonl").write_text("{}\n{}\n")  # further than the storage
    SentFolder(home, "trial", again).bring_back()
    assert (again / "events.jsonl").read_text() == "{}\n{}\n"
    SentFolder(home, "trial", again).send_all(lambda progress: None)
    SentFolder(home, "trial", folder).bring_back()  # it was begun here, and gone on with there
    assert (folder / "events.jsonl").read_text() == "{}\n{}\n" and (folder / "plots" / "one.png").read_bytes() == b"png"


# -- a cluster that grows


def growing(monkeypatch, *looks) -> list[dict]:
    """Makes each look at the cluster return the next of `looks`. Returns an empty list for the notices."""
    coming = iter(looks)
    monkeypatch.setattr("lab.sweeps.ray_tune.nodes", lambda: next(coming))
    monkeypatch.setattr("lab.sweeps.ray_tune.NODES_EVERY_S", 0.01)
    return []


def test_a_node_that_comes_up_later_is_waited_for_and_the_wait_is_told(monkeypatch):
    plan, course = load_sweep(SMOKE), sweeping_sweep.SweepProgress()
    notices = growing(monkeypatch, [{"CPU": 0.0}], [{"CPU": 0.0}], [{"CPU": 0.0}, {"CPU": 2.0}])

    def emit(kind: str, **rest: object) -> None:
        course.fold({"event": kind, **rest})
        notices.append(sweep_screen.sweep_event_text(course, plan.sweep, {"event": kind, **rest}))

    assert awaited(plan, 60.0, emit) == {"CPU": 1}
    assert notices == [
        "== waiting for a node: a trial wants CPU 1, and no node has as much (the most: CPU 0); expected less of it: "
        "cpus, gpus",
        "== playing",
    ]


def test_a_node_that_does_not_come_is_waited_for_no_longer_than_that(monkeypatch):
    plan, phases = load_sweep(SMOKE), growing(monkeypatch, *[[{"CPU": 0.0}]] * 1000)
    with pytest.raises(ValueError, match="no node has as much"):
        awaited(plan, 0.05, lambda kind, **rest: phases.append(rest["phase"]))
    assert phases == ["waiting"]
    with pytest.raises(ValueError, match="no node has as much"):  # a private one does not grow
        awaited(plan, 0.0, lambda kind, **rest: pytest.fail("nobody waits"))


# -- before and while it is played


@pytest.mark.slow
def test_a_dry_run_plays_a_little_and_tells_what_the_sweep_takes(tmp_path):
    done = inside(main, sweeps.written(tmp_path), "--dry-run", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert (
        "small: 4 trials of chitchat.yaml" in done.stdout
        and "Probed 1 of them" in done.stdout
        and "It fits." in done.stdout
    )
    assert not (tmp_path / "runs").exists()


def killed(*given) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_probe_that_is_killed_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.sweeps.dry_run._play", killed)
    done = inside(main, sweeps.written(tmp_path), "--dry-run", "--runs", tmp_path / "runs")
    assert (
        done.returncode == 2 and "was killed, probably because memory ran out; expected a smaller model" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_a_dry_run_counts_the_memory_of_dialogues_as_many_and_as_long_as_they_are_to_be(tmp_path, tiny_name):
    base = {"seats.user.script": None, "seats.user.model": tiny_name, "device": "cpu"}
    plan = load_sweep(sweeps.written(tmp_path, overrides=base, axes={"conversations": [1, 3], "turns": [6, 60]}))
    [short, longer, three, _] = [dry_run._views(variant)[0] for variant in plan.bases.values()]
    assert three == pytest.approx(3 * short) and longer > 2 * short > 0


def test_trials_whose_lines_may_be_of_other_lengths_are_probed_apart(tmp_path, tiny_name):
    base = {"seats.user.script": None, "seats.user.model": tiny_name}
    plan = load_sweep(sweeps.written(tmp_path, overrides=base, axes={"seed": [1, 2], "seats.user.max_tokens": [8, 64]}))
    assert [len(trials) for trials in dry_run._kinds(plan).values()] == [2, 2]


def shown(*events: dict, width: int = 120) -> str:
    plan = load_sweep(SMOKE)
    course = sweeping_sweep.SweepProgress()
    course.fold({"event": "sweep", "name": "smoke", "trials": {trial.id: dict(trial.values) for trial in plan.trials}})
    for event in events:
        names = {name: trial.id for name, trial in zip("abcd", plan.trials, strict=True)}
        course.fold(event | ({"trial": names[event["trial"]]} if "trial" in event else {}))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(sweep_screen.render(course, plan.sweep, "runs/x", 100.0))
    return console.export_text()


def row(value: float) -> dict:
    return {
        "metric": "prompt_to_line",
        "judge": "ledger",
        "seat": "user",
        "value": value,
        "low": value,
        "high": value,
        "n": 4,
    }


def test_the_screen_shows_trials_nodes_queue_best_and_failures():
    done = {"event": "trial", "status": "finished", "counts": {}, "seconds": 3.0}
    text = shown(
        {"event": "nodes", "nodes": 3, "cores": 6, "free": 2},
        {"event": "trial", "trial": "a", "status": "running", "node": "alpha"},
        {"event": "progress", "trial": "a", "lines": 5, "of": 8},
        done | {"trial": "b", "metrics": [row(0.5)]},
        done | {"trial": "c", "metrics": [row(0.75)]},
        {"event": "trial", "trial": "d", "status": "failed", "reason": "out of [b]memory"},
    )
    assert "3/4 trials  1 running  0 in the queue  1 failed" in text and "3 nodes, 4 of 6 cores at work" in text
    assert (
        "5/8" in text
        and "alpha" in text
        and "temperature=1.4 seed=1: 0.75 [0.75, 0.75] n=4" in text
        and "out of [b]memory" in text
    )


def test_a_trial_that_fails_after_it_had_finished_keeps_no_measures_and_is_not_the_best():
    course = sweeping_sweep.SweepProgress()
    course.fold({"event": "sweep", "name": "x", "trials": {"a": {"seed": 1}, "b": {"seed": 2}}})
    for trial, value in (("a", 0.9), ("b", 0.5)):
        course.fold(
            {
                "event": "trial",
                "trial": trial,
                "status": "finished",
                "counts": {"failed": 1},
                "metrics": [row(value)],
                "seconds": 1.0,
            }
        )
    course.fold({"event": "trial", "trial": "a", "status": "running", "node": "n"})
    assert course.best(Best())[1]["value"] == 0.5  # it is being played again
    course.fold({"event": "trial", "trial": "a", "status": "failed", "reason": "no server"})
    assert (
        trials_frame(course)["prompt_to_line.ledger.user"].to_list() == [None, 0.5]
        and course.best(Best())[1]["value"] == 0.5
    )


def test_a_key_in_what_a_worker_says_is_told_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER_API_KEY", "sk-planted-4f1c9a77")
    notices = []
    to_events = SweepEvents(
        tmp_path, lambda kind, **rest: notices.append(rest), sweeping_sweep.SweepProgress(), notices.append
    )
    to_events.trial_ended("a", "failed", "401 for sk-planted-4f1c9a77")
    assert notices == [{"trial": "a", "status": "failed", "reason": "401 for [OTHER_API_KEY]"}]


def test_times_that_may_be_without_end_are_in_no_curve():
    """Where half of the trials contradict nothing, a mean of the others' half-lives says nothing of all."""
    sweep = load_sweep(SMOKE).sweep
    values = [
        dict(zip(SCHEMA, (metric, "ledger", "user", f"{seed}/0", 1.0, 1.0, True), strict=True))
        | {f"{AXIS}seed": seed, f"{AXIS}seats.user.temperature": 0.2}
        for metric in ("prompt_to_line", "half_life", "time_to_first_contradiction")
        for seed in (1, 2)
    ]
    drawn = curves(pl.DataFrame(values), sweep)
    assert {curve.measure[0] for curve in drawn} == {"prompt_to_line"}


def test_a_level_at_which_the_judge_was_not_valid_is_marked_and_never_1():
    """Of two seeds, the judge was not valid in the personas of the second."""
    sweep = load_sweep(SMOKE).sweep
    values = [
        dict(zip(SCHEMA, ("prompt_to_line", "ledger", "user", f"{seed}/{c}", 1.0, 1.0, seed == 1), strict=True))
        | {f"{AXIS}seed": seed, f"{AXIS}seats.user.temperature": heat}
        for seed in (1, 2)
        for heat in (0.2, 0.9)
        for c in (0, 1)
    ]
    of_seeds, of_heat = curves(pl.DataFrame(values), sweep)
    if of_seeds.axis != "seed":
        of_seeds, of_heat = of_heat, of_seeds
    assert list(of_seeds.valid) == [True, False] and list(of_heat.valid) == [False, False]
    _, [row] = curve_rows([of_seeds])
    assert row[3].startswith("1.00") and row[4] == "–, not valid here"
    assert plot_responses("seed", [of_seeds]) is not None


def test_the_screen_is_not_drawn_while_an_event_is_taken_in():
    done, drawing = [], []

    def fold(event: dict) -> None:
        drawing.append(threading.Thread(target=screen.view))
        drawing[0].start()
        drawing[0].join(0.1)
        done.append("folded")

    screen = Screen(Console(file=io.StringIO()), "runs/x", fold, lambda where: done.append("drawn") or "")
    done.clear()  # it is drawn once as it is made
    screen.show({})
    drawing[0].join()
    assert done == ["folded", "drawn"]


def test_a_trial_that_ran_when_the_sweep_ended_waits_again():
    course = sweeping_sweep.SweepProgress()
    begun = {"event": "sweep", "name": "x", "trials": {"a": {"seed": 1}}}
    for event in (begun, {"event": "trial", "trial": "a", "status": "running", "node": "n"}, begun):
        course.fold(event)
    assert course.trials["a"].status == "waiting" and course.trials["a"].attempts == 1
