"""Judges by name: what a scenario may say of them, which engines they need, what is refused before anything is
loaded.
"""

from __future__ import annotations

import socket

import pytest

from agents.judge_models.card_likelihood import Reference
from lab.dialogue import wiring
from lab.dialogue.judges import check_judges, judge_engines, judges, may_cost
from metrics.judges import Pair
from scenarios.records import Persona
from scenarios.scenario import load_scenario
from scenarios.schema import Measure
from scenarios.yaml_files import ScenarioError

FILE = "scenarios/long_dialogue.yaml"
ADA = Persona("ada", "Ada", "Ada keeps bees on a hill.", ())


def nobody() -> str:
    """A URL that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def test_a_cascade_needs_its_two_judges():
    assert load_scenario(FILE, ["measure.judge=[ledger,cascade]"]).measure.judges() == {
        "ledger",
        "cascade",
        "nli",
        "llm",
    }
    assert load_scenario(FILE, ["measure.judge=cascade", "measure.cascade.first=ledger"]).measure.judges() == {
        "cascade",
        "ledger",
        "llm",
    }
    assert load_scenario(FILE, ["measure.judge=ledger"]).measure.judges() == {"ledger"}


@pytest.mark.parametrize(
    ("judge", "costs"), [("[ledger,nli,likelihood,combined]", False), ("cascade", True), ("llm", True)]
)
def test_judgements_of_a_measure_may_cost_money_where_one_of_its_judges_may(judge, costs):
    assert may_cost(load_scenario(FILE, [f"measure.judge={judge}"]).measure) is costs


def test_a_judges_model_is_an_engine_unless_it_has_an_endpoint(tmp_path):
    model = f"measure.llm.model={tmp_path}"
    assert str(tmp_path) in wiring.engine_names(load_scenario(FILE, ["measure.judge=llm", model]))
    assert str(tmp_path) in wiring.engine_names(load_scenario(FILE, ["measure.judge=cascade", model]))
    assert str(tmp_path) not in wiring.engine_names(load_scenario(FILE, ["measure.judge=nli", model]))
    assert str(tmp_path) not in wiring.engine_names(
        load_scenario(FILE, ["measure.judge=llm", model, f"measure.llm.endpoint={nobody()}"])
    )


@pytest.mark.parametrize("judge", ["llm", "cascade"])
def test_a_judges_endpoint_that_does_not_answer_is_refused(judge):
    with pytest.raises(ValueError, match="does not answer") as error:
        wiring.check_scenario(load_scenario(FILE, [f"measure.judge={judge}", f"measure.llm.endpoint={nobody()}"]))
    assert "\n" not in str(error.value)


def test_a_judges_model_that_is_not_there_is_refused(tmp_path):
    for key in ("llm", "nli"):
        with pytest.raises(ValueError, match="there is no"):
            wiring.check_scenario(load_scenario(FILE, [f"measure.judge={key}", f"measure.{key}.model={tmp_path}/none"]))


@pytest.mark.parametrize(
    "override",
    [
        "measure.judge=oracle",
        "measure.llm.protocol=lenient",
        "measure.llm.endpoint=ftp://here",
        "measure.cascade.low=1.5",
        "measure.cascade.low=0.95",
        "measure.cascade.second=nli",
        "measure.cascade.first=cascade",
        "measure.nli.model=",
    ],
)
def test_what_makes_no_sense_is_refused_with_its_key(override):
    with pytest.raises(ScenarioError, match=r"measure\.\w+"):
        load_scenario(FILE, [override])


def test_a_judges_local_model_means_the_same_from_any_folder(tmp_path):
    (tmp_path / "judge").mkdir()
    scenario = load_scenario(
        FILE, [f"measure.nli.model={tmp_path}/x/../judge", f"measure.llm.model={tmp_path}/x/../judge"]
    )
    assert scenario.measure.nli.model == f"{tmp_path}/x/../judge"  # x is not there: left as it is
    (tmp_path / "x").mkdir()
    scenario = load_scenario(
        FILE, [f"measure.nli.model={tmp_path}/x/../judge", f"measure.llm.model={tmp_path}/x/../judge"]
    )
    assert scenario.measure.nli.model == scenario.measure.llm.model == str(tmp_path / "judge")
    (tmp_path / "again.yaml").write_text(scenario.resolved_yaml())
    assert load_scenario(tmp_path / "again.yaml").measure == scenario.measure


def test_the_digest_changes_with_a_judges_model():
    assert load_scenario(FILE).digest() != load_scenario(FILE, ["measure.llm.protocol=strict"]).digest()


@pytest.mark.parametrize("judge", ["likelihood", "combined", "cascade"])
def test_likelihoods_are_those_of_the_model_that_the_measure_names(judge, tiny_name):
    cascade = {"first": "nli", "second": "likelihood"}
    own = Measure.model_validate({"metrics": ["prompt_to_line"], "judge": judge, "cascade": cascade})
    other = Measure.model_validate(own.model_dump(by_alias=True) | {"likelihood": {"model": str(tiny_name)}})
    assert (judge_engines(own), judge_engines(other)) == ({"embedded"}, {str(tiny_name)})


def test_lines_are_read_under_the_card_by_that_model(tiny_name, tiny_engine):
    measure = Measure.model_validate(
        {"metrics": ["prompt_to_line"], "judge": "likelihood", "likelihood": {"model": str(tiny_name)}}
    )
    [judge] = judges(measure, {str(tiny_name): tiny_engine}, "cpu")
    line = "I keep bees."
    assert judge.logprobs([ADA.card], [line]) == Reference(tiny_engine).logprobs([ADA.card], [line])
    [row] = judge.judge([Pair(0, 0, "user", "prompt_to_line", line, "persona", ADA)])
    assert row.unscored is None


@pytest.mark.parametrize("judge", ["likelihood", "combined"])
def test_a_model_that_is_not_there_is_told_before_anything_is_loaded(judge, tmp_path):
    measure = Measure.model_validate(
        {"metrics": ["prompt_to_line"], "judge": judge, "likelihood": {"model": str(tmp_path / "none")}}
    )
    with pytest.raises(ValueError, match="none"):
        check_judges(measure)
