"""Actors measured side by side: the law by hand arithmetic, the measuring on small models, and one real run in a
private Ray.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import tiny
from commands import ROOT, TIMEOUT_S, environment, inside

from lab import bench
from lab.benchmark.actors import Law, _timed, actor_figures, fit_law, fitted_on
from lab.benchmark.work import SIZES

SIXTEEN = replace(SIZES["quick"], tokens=16)


def test_the_law_goes_through_both_measurements_and_foretells_the_third():
    """1/100 = 1/λ and 2/160 = (1 + σ)/λ: λ 100, σ .25. Four: 400 / (1 + 3 * .25) = 228.6."""
    law = fit_law({1: 100, 2: 160, 4: 999}, room=8)
    assert (law.rate, law.sigma) == (pytest.approx(100), pytest.approx(0.25))
    assert [law.tokens_per_s(n) for n in (1, 2, 4)] == pytest.approx([100, 160, 400 / 1.75])


def test_one_actor_need_not_be_among_the_measured():
    """2/160 = .0125 and 4/228.57 = .0175: a slope of .0025 each, so 1/λ = .01 and σ = .0025 / .01."""
    law = fit_law({2: 160, 4: 400 / 1.75}, room=4)
    assert (law.rate, law.sigma) == (pytest.approx(100), pytest.approx(0.25))


def test_actors_beyond_the_room_gain_nothing_and_are_not_fitted_to():
    law = fit_law({1: 100, 2: 160, 4: 150}, room=2)
    assert law.tokens_per_s(4) == law.tokens_per_s(2) == pytest.approx(160)
    assert (
        fitted_on([4, 1, 2], room=2) == [1, 2]
        and fitted_on([1, 2, 4], room=1) == [1]
        and fitted_on([8, 4], room=2) == [4]
    )


def test_more_than_twice_as_much_by_two_is_no_gain_of_sharing():
    """σ would be 2 * 100 / 210 - 1 < 0: λ is the mean of 100 / 1 and 210 / 2."""
    assert fit_law({1: 100, 2: 210}, room=2) == Law(102.5, 0.0, 2)


def test_less_by_two_than_by_one_is_all_shared():
    """σ would be 2 * 100 / 90 - 1 > 1: any number then makes the mean of 100 and 90."""
    law = fit_law({1: 100, 2: 90}, room=4)
    assert law == Law(95, 1.0, 4) and law.tokens_per_s(3) == pytest.approx(95)


def test_one_measurement_says_nothing_of_what_is_shared():
    """Four on the cores of two made 80: 40 each."""
    assert fit_law({4: 80}, room=2) == Law(40, 0.0, 2)


def test_rows_hold_medians_and_what_one_driver_feeds():
    """Medians 100 and 160 tokens/s give λ 100: 6.25 lines of 16 tokens a second. At 2 ms a line a driver makes 500 of
    these: 80 actors.
    """
    measured = actor_figures(
        {1: [(90, 0.003), (150, 0.001), (100, 0.002)], 2: [(160, 0.004)] * 3, 4: [(170, 0.002)] * 3}, 8, SIXTEEN
    )
    assert [row["tokens_per_s"] for row in measured["actors"]] == [100, 160, 170]
    assert [row["one_driver_feeds"] for row in measured["actors"]] == pytest.approx([80, 40, 80])
    assert [row["fitted"] for row in measured["actors"]] == [True, True, False]
    assert measured["actors"][2]["predicted_tokens_per_s"] == pytest.approx(400 / 1.75)


def test_every_actor_plays_all_its_dialogues_and_keeps_none():
    """2 dialogues of 3 lines of 6 tokens, by each of two engines that compute in this process: all of their CPU time is
    the driver's.
    """
    engines = [tiny.engine(tiny.plain(tiny.llama())) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        rate, driver = _timed(engines, replace(SIZES["quick"], dialogues=2, lines=3, tokens=6), pool)
    assert [engine.usage().generated for engine in engines] == [2 * 3 * 6] * 2
    assert rate > 0 < driver
    assert [engine._branches for engine in engines] == [{}, {}]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--actors", "1", "0"], "--actors 0: that many cannot be measured; expected whole numbers from 1 to 64"),
        (["--actors", "65"], "--actors 65: that many cannot be measured; expected whole numbers from 1 to 64"),
        (["--actors", "--plot", "x.png"], "--actors measures engine actors and nothing else; expected no --plot"),
        (
            ["--actors", "--json", "nowhere/x.json"],
            "nowhere/x.json: there is no folder nowhere; expected an existing folder",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(arguments, reason):
    done = inside(bench.main, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"lab.bench: {reason}\n")


def test_threads_that_are_no_number_are_refused(monkeypatch):
    monkeypatch.setenv("LAB_THREADS", "all")
    done = inside(bench.main, "--actors", "1")
    assert done.returncode == 2 and done.stderr == (
        "lab.bench: LAB_THREADS is 'all'; expected how many threads an actor computes on, a whole number from 1 on\n"
    )


@pytest.mark.slow
def test_two_actors_of_a_private_ray_are_measured(tiny_name, tmp_path):
    """Half a minute, most of it Ray's start."""
    file = tmp_path / "actors.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lab.bench",
            "--actors",
            "1",
            "2",
            "--quick",
            "--model",
            tiny_name,
            "--device",
            "cpu",
            "--json",
            file,
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(file.read_text())
    assert [row["actors"] for row in measured["actors"]] == [1, 2] and measured["machine"]["device"] == "cpu"
    assert all(
        len(row["each"]) == 3 and row["tokens_per_s"] > 0 < row["driver_s_per_line"] for row in measured["actors"]
    )
    assert "actors a driver feeds" in done.stdout
