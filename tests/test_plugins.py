"""A package of a stranger's brings a judge, a metric and a part of a reward, and scenarios use them by name."""

from __future__ import annotations

import math

import polars as pl
import pytest
from commands import LONG, NOBODY_TALKS, inside, judgements, only
from packages import write_dist_info

from agents.engine.protocol import Sample
from agents.seats.base import Spoken
from lab import __main__ as lab_list
from lab import run as lab_run
from lab import score as lab_score
from lab.dialogue.judges import JUDGES as LAB_JUDGES
from lab.dialogue.judges import check_judges, check_reward_judge
from lab.reports.headline import headline
from lab.training.reward_parts import REWARDS as LAB_REWARDS
from lab.training.reward_parts import Rollout
from lab.training.rewards import rewarded
from metrics.catalogue import METRICS as LAB_METRICS
from metrics.judges.ledger import Ledger
from metrics.measure import measure_run
from scenarios.jobs.training import load_recipe
from scenarios.jobs.training_keys import Reward
from scenarios.personas import load_personas
from scenarios.plugins import JUDGES, METRICS, OWN, REWARDS
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError

TRAINING = "scenarios/training/quick.yaml"
CODE = '''
import polars as pl

from lab.training.reward_parts import RewardEntry
from metrics import METRICS_SCHEMA, stacked
from metrics.entry import Figure, MetricEntry
from metrics.judges import judgement
from metrics.judges.entry import JudgeEntry
from metrics.reductions import by_level


class Bakers:
    """Every line that speaks of a baker contradicts."""

    name = "bakers"

    def judge(self, pairs):
        found = [("baker" in pair.line, pair) for pair in pairs]
        return [judgement(pair, self.name, p_inconsistent=float(bad), verdict=bad) for bad, pair in found]


def shouting(context):
    rows = context.turns.with_columns(y=pl.col("text").str.ends_with("!").cast(pl.Float64))
    parts = sorted(rows.partition_by("seat", as_dict=True).items())
    return stacked(by_level(part, "shouting", None, seat, **context.how) for (seat,), part in parts)


def twice(context):
    return shouting(context).with_columns(metric=pl.lit("prompt_to_line"))


def brevity(completions, context):
    return [score(one) for one in completions]


def score(one):
    return None if not one.heard else float("nan") if "?" in one.text else 1 - len(one.text.split()) / 5


def judge():  # an entry point may name a function
    return JudgeEntry("bakers", make=lambda models: Bakers())


ANSWERS = JudgeEntry("answers_only", make=lambda models: Bakers(), scores=("qa",))
METRIC = MetricEntry("shouting", shouting, {"shouting": Figure("style", "lines that shout", "{:.1%}".format)})
TWICE = MetricEntry("twice", twice)
REWARD = RewardEntry("brevity", brevity)
LOUD = RewardEntry("loud", lambda completions, context: [7.0 for _ in completions])
'''
POINTS = {
    JUDGES: {"bakers": "stranger:judge", "answers_only": "stranger:ANSWERS", "ledger": "stranger:judge"},
    METRICS: {
        "shouting": "stranger:METRIC",
        "twice": "stranger:TWICE",
        "wrong": "stranger:REWARD",
        "a-b": "stranger:METRIC",
    },
    REWARDS: {
        "brevity": "stranger:REWARD",
        "loud": "stranger:LOUD",
        "penalty": "stranger:REWARD",
        "gone": "no_such_module:ENTRY",
    },
}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stranger.py").write_text(CODE)
    write_dist_info(tmp_path / "site", "lab-stranger", "1.2", POINTS)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.fixture
def run(tmp_path):
    done = inside(
        lab_run.main,
        LONG,
        *NOBODY_TALKS,
        "turns=4",
        "measure.judge=[ledger,bakers]",
        "measure.metrics=[shouting,prompt_to_line]",
        "--display",
        "none",
        "--runs",
        tmp_path / "runs",
    )
    assert done.returncode == 0, done.stderr
    return only(tmp_path / "runs")


def test_the_names_that_a_scenario_may_use_are_those_of_the_entries():
    entries = {JUDGES: LAB_JUDGES, METRICS: LAB_METRICS, REWARDS: LAB_REWARDS}
    assert {group: tuple(table) for group, table in entries.items()} == OWN
    assert all(entry.name == name for table in entries.values() for name, entry in table.items())


def test_a_run_is_judged_and_measured_by_name_and_can_be_scored_again(run, tmp_path, capsys):
    verdicts = judgements(run).filter(judge="bakers", seat="user")
    assert verdicts.sort("conversation", "turn")["verdict"].to_list() == [True, False] * 2
    metrics = pl.read_parquet(run / "metrics.parquet")
    shouted = metrics.filter(metric="shouting", level="run")
    assert dict(shouted.select("seat", "value").iter_rows()) == {"assistant": 0.0, "user": 0.0}
    assert metrics["metric"].to_list()[-1] == "shouting", "the lab's own metrics come first"
    [row] = [row for row in headline(metrics, judgements(run)) if row.label == "lines that shout"]
    assert row.group == "style" and row.cells["user"].startswith("0.0%")
    code = lab_score.main(
        [str(run), "--judge", "bakers", "--metrics", "shouting,prompt_to_line", "--out", str(tmp_path / "s")]
    )
    assert code == 0 and "lines that shout" in capsys.readouterr().out
    assert judgements(tmp_path / "s").filter(seat="user", metric="prompt_to_line")["verdict"].sum() == 2


def test_lines_are_rewarded_by_name():
    people = {persona.id: persona for persona in load_personas("scenarios/personas/townsfolk.yaml")}
    cast = {"user": people["grace"], "assistant": people["leon"]}
    texts = ("Yes indeed.", "No.", "Why?")  # 2, 1 and 1 words
    samples = tuple(Sample((1, 2), (-1.0, -1.0), "stop") for _ in texts)
    said = [load_line("assistant", "Do you sing?")]
    talk = Rollout(0, "user", cast, said, tuple(range(40)), [Spoken(1, 11, samples, texts, (), "")])
    weights = load_recipe(TRAINING, ["reward.brevity=2", "reward.qa=0", "reward.penalty=0"]).reward
    assert weights.weights() == {"brevity": 2.0}
    views, log = rewarded([talk], weights, Ledger(), None)
    first, second, third = (line.reward for line in views[0].lines)
    assert (first, second, third) == (pytest.approx(1 - 2 / 5), pytest.approx(1 - 1 / 5), None)
    assert log["reward_brevity"] == pytest.approx(0.7) and log["unscored"] == 1 and math.isnan(log["reward_qa"])
    with pytest.raises(ValueError, match=r"'loud' gave 7\.0; expected -1 to 1"):
        rewarded([talk], Reward(loud=1.0), Ledger(), None)


def load_line(seat, text):
    from scenarios.records import Line

    return Line(0, 0, seat, "leon", "", text, 3, (1,), -1.0)


@pytest.mark.parametrize(
    ("load", "override", "sentence"),
    [
        (load_scenario, "measure.judge=[baker]", "did you mean 'bakers'"),
        (load_scenario, "measure.metrics=[shoutin]", "did you mean 'shouting'"),
        (load_scenario, "measure.metrics=[a-b]", "expected 'prompt_to_line'"),
        (load_recipe, "reward.brevitty=1", "is no key of the file; did you mean 'brevity'"),
        (load_recipe, "reward={brevitty: 1.0}", "is no key of the file; did you mean 'brevity'"),
        (load_recipe, "reward.brevity=-1", "reward.brevity is -1"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(load, override, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        load(TRAINING if load is load_recipe else LONG, [override])


def test_a_file_that_names_them_is_read_again_as_the_same(tmp_path):
    recipe = load_recipe(TRAINING, ["reward.brevity=0.5"])
    (tmp_path / "again.yaml").write_text(recipe.resolved_yaml())
    assert load_recipe(tmp_path / "again.yaml").reward == recipe.reward
    scenario = load_scenario(LONG, ["measure.judge=bakers", "measure.metrics=[shouting]"])
    (tmp_path / "scenario.yaml").write_text(scenario.resolved_yaml())
    assert load_scenario(tmp_path / "scenario.yaml").digest() == scenario.digest()


def test_what_does_not_fit_is_refused_in_one_sentence():
    frames = pl.DataFrame({"conversation": [0], "turn": [0], "seat": ["user"], "text": ["Oh!"]}), pl.DataFrame()
    how = {"window": 5, "confidence": 0.95}
    with pytest.raises(ValueError, match="'twice' gave rows of 'prompt_to_line', which is the lab's"):
        measure_run(*frames, metrics=["twice"], **how)
    with pytest.raises(ValueError, match=r"wrong of lab-stranger 1.2 .* cannot be used: stranger:REWARD is"):
        measure_run(*frames, metrics=["wrong"], **how)
    with pytest.raises(ValueError, match="'answers_only', which scores no lines"):
        check_reward_judge("answers_only")
    cascade = ["measure.judge=cascade", "measure.cascade.first=ledger", "measure.cascade.second=answers_only"]
    with pytest.raises(ValueError, match="'answers_only', which scores no lines"):
        check_judges(load_scenario(LONG, [*cascade]).measure)
    with pytest.raises(ValueError, match=r"gone of lab-stranger 1.2 .* ModuleNotFoundError: No module named 'no_such"):
        rewarded([], Reward(gone=1.0), Ledger(), None)


def test_all_are_listed_with_their_package_and_what_cannot_be_used_with_its_reason(tmp_path, monkeypatch, capsys):
    (tmp_path / "other" / "odd-1.dist-info").mkdir(parents=True)
    (tmp_path / "other" / "odd-1.dist-info" / "METADATA").write_text("Name: odd\nVersion: 1\n")
    (tmp_path / "other" / "odd-1.dist-info" / "entry_points.txt").write_text(f"[{METRICS}]\nno equals sign\n")
    write_dist_info(tmp_path / "other", "lab-second", "0.1", {REWARDS: {"loud": "stranger:LOUD"}})
    monkeypatch.syspath_prepend(tmp_path / "other")
    assert lab_list.main(["--help"]) == 0
    rows = {tuple(line.split()[:-1]) and line.strip() for line in capsys.readouterr().out.splitlines()}

    def listed(*words):
        return any(all(word in row for word in words) for row in rows)

    assert listed("judge ", " bakers ", "lab-stranger 1.2") and not listed(" bakers ", "cannot")
    assert listed("metric ", " shouting ", "lab-stranger 1.2") and listed("reward part", " brevity ", "lab-stranger")
    assert listed(" gone ", "lab-stranger 1.2, cannot be used: ", "No module named 'no_such_module'")
    assert listed(" ledger ", "the lab has an entry of that name") and listed(" penalty ", "the lab has")
    assert listed(" a-b ", "letters, digits and '_'") and listed("lab-second and lab-stranger both have")
    assert listed("odd 1, cannot be used: ", "entry_points.txt cannot be read")
    assert load_scenario(LONG, ["measure.metrics=[shouting]"]).measure.metrics == ["shouting"]
