"""Files of the lab from anybody: what they hold is bounded, and read in time in proportion to its length."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scenarios.jobs.sweep import load_sweep
from scenarios.overrides import override
from scenarios.personas import load_personas
from scenarios.scenario import load_scenario
from scenarios.schema import ScenarioFile
from scenarios.suggestions import MOST_COMPARED, nearest
from scenarios.yaml_files import ScenarioError, dump, parse_yaml, validate

ROOT = Path(__file__).parents[2] / "scenarios"
LONG = ROOT / "long_dialogue.yaml"
LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)  # 9 to the power of 11 lists


def seconds(work) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


@pytest.mark.parametrize(
    "text", [LAUGHS, "a: &a [*a]", "a: &a {b: *a}", LAUGHS.replace("[", "{<<: [").replace("]", "]}")]
)
def test_aliases_that_repeat_without_end_are_refused_at_once(text):
    began = time.thread_time()
    with pytest.raises(ScenarioError, match="repeat more than 1,048,576 values"):
        parse_yaml(text, "sent.yaml")
    assert time.thread_time() - began < 1


def test_aliases_in_an_override_are_bounded_too_and_a_few_are_what_they_repeat():
    levels = ", ".join(f"&b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 9))
    with pytest.raises(ScenarioError, match="repeat more than"):
        override(parse_yaml("name: x", "sent.yaml"), [f"description=[&b0 [x], {levels}]"], ScenarioFile)
    assert parse_yaml("a: &a [1, {b: 2}]\nc: [*a, *a]", "sent.yaml").data["c"] == [[1, {"b": 2}]] * 2


def test_many_unknown_keys_are_reported_in_time_in_proportion_to_their_number():
    def refuse(keys: int) -> None:
        document = parse_yaml(LONG.read_text() + "".join(f"unknown_{n}: 1\n" for n in range(keys)), "sent.yaml")
        with pytest.raises(ScenarioError, match="unknown_0 is no key of the file"):
            validate(document, ScenarioFile)

    assert seconds(lambda: refuse(20_000)) < 3


def test_suggestions_are_looked_for_among_a_bounded_number_of_names():
    assert seconds(lambda: nearest("x" * 10**6, ["y" * 10**6])) < 1
    names = [f"persona_{n}" for n in range(MOST_COMPARED * 100)]
    assert seconds(lambda: nearest("nobody", names)) < 1
    assert len(nearest("nobody", names)) < 2000 and nearest("nobody", names).endswith("and 99950 more")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("conversations=1000000000", "expected less than or equal to 1000000"),
        ("turns=1000000000", "expected less than or equal to 100000"),
        ("concurrency=1000000000", "expected less than or equal to 10000"),
    ],
)
def test_numbers_of_what_is_to_be_played_have_a_ceiling(item, expected):
    with pytest.raises(ScenarioError, match=expected):
        load_scenario(LONG, [item])


def test_a_sweep_of_too_many_trials_is_refused_before_any_is_made():
    axes = ("axes.seed={from: 1, to: 1000000000, steps: 1000000000}", "axes.turns=[2, 4]")
    with pytest.raises(ScenarioError, match="axes give 2,000,000,000 trials; expected at most 10,000"):
        load_sweep(ROOT / "sweeps" / "smoke.yaml", ["axes={}", *axes])


def test_a_digest_costs_microseconds_a_conversation_and_tells_casts_apart():
    few, many = (load_scenario(LONG, [f"conversations={n}"]) for n in (10, 5_000))
    few.digest()  # what is read once is read
    assert seconds(many.digest) - seconds(few.digest) < 5_000 * 300e-6  # milliseconds each, if each were read anew
    assert len({load_scenario(LONG, [f"seed={seed}"]).digest() for seed in (1, 2)} | {few.digest(), many.digest()}) == 4


@pytest.mark.parametrize(
    "pattern", ["I " + "... " * 3 + "in {value}", "I " + "do " * 12 + "in {value}", "I live in {value}" + "x" * 200]
)
def test_a_pattern_whose_search_could_take_exponential_time_is_refused(pattern, tmp_path):
    fact = {"value": "Leeds", "claim": "I live in {value}.", "questions": ["Where?"], "distractors": ["Hull"]}
    people = {"personas": [{"name": "Al", "card": "You are Al.", "facts": {"home": fact | {"patterns": [pattern]}}}]}
    file = tmp_path / "people.yaml"
    file.write_text(dump(people))
    with pytest.raises(ScenarioError, match=r"facts.home.patterns.0 is .*; expected a pattern of at most 200"):
        load_personas(file)
