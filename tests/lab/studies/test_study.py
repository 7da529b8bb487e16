"""Studies through `python -m lab.run`: the file, what is asked of a model, the folder, the views, and going on where
one stopped.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import tiny
from commands import ROOT, events, inside, manifest, only
from dialect import serving
from event_streams import faults
from rich.console import Console

from agents.engine.protocol import Sampling
from agents.seats.respondent import LEAST, Respondent, text_of, together
from lab.findings import main as findings
from lab.live.study_screen import render, study_progress_text
from lab.progress.study import StudyProgress
from lab.report import main as report
from lab.results.load import load_run
from lab.run import main
from lab.store.frames import ANSWERS
from lab.studies.ask_model import Asking
from lab.studies.dry_run import Counting
from lab.studies.matrix import matrix, verdict_cells
from lab.studies.runner import finding_record, load_planned, study_names
from lab.studies.teaching import teach
from lab.watch import main as watch
from metrics.studies.protocol import Lesson, Steered, StudyQuestion, Teaching
from metrics.studies.verdict import study_verdict
from scenarios.jobs.study import SIZES

STUDIES = sorted((ROOT / "scenarios" / "studies").glob("*.yaml"))
GAMES, LOADED = (f"scenarios/studies/{name}.yaml" for name in ("twenty_questions", "false_presuppositions"))
SMALL = ["size=smoke", "--address", "none"]


def refused(*arguments: object) -> str:
    done = inside(main, *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# -- the files
#
#


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_comes_to_an_end_on_somebody_who_finds_all_options_alike(path):
    for size in SIZES[:2]:
        loaded = load_planned(path, [f"size={size}"])
        assert loaded.study.name == loaded.study.study == path.stem and loaded.asked and all(loaded.asked.values())
    finding = loaded.module.study(Counting(), loaded.stimuli, loaded.study.seed, **loaded.study.numbers())
    assert (
        finding.controls and finding.tests and finding.pictures and study_verdict(finding.controls, finding.tests).word
    )


def test_a_reading_has_dashes_where_nothing_is_known_and_no_nan():
    loaded = load_planned(ROOT / "scenarios/studies/context_override.yaml", ["size=smoke"])
    finding = loaded.module.study(Counting(), loaded.stimuli, loaded.study.seed, **loaded.study.numbers())
    record = finding_record(loaded.study, replace(finding, reading=f"{finding.reading} A nanny in Nanjing: +nan."))
    assert "nan%" in finding.reading and record["reading"].startswith("A false sentence overrides – of 0 capitals")
    assert record["reading"].endswith("A nanny in Nanjing: –.") and "nan%" not in record["reading"]
    assert record["needed"] is None and None in record["controls"].values()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_one_yaml_and_one_file_under_320_lines_together(path):
    assert sum(len(file.read_text().splitlines()) for file in (path, ROOT / f"metrics/studies/{path.stem}.py")) < 320


def test_every_finding_has_its_study():
    assert study_names() == [path.stem for path in STUDIES]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "sizes.smoke.gamez=3",
            "override 'sizes.smoke.gamez=3': sizes.smoke.gamez is no key of the file; did you mean 'games'?",
        ),
        ("sizes.smoke.games=0", "override 'sizes.smoke.games=0': sizes.smoke.games is 0; expected"),
        ("size=huge", "override 'size=huge': size is 'huge'; expected"),
        ("seats.assistant.modle=x", "did you mean 'model'?"),
        ("seats.assistant.model=/nowhere/at/all", "/nowhere/at/all"),
        ("stimuli=stimuli/twenty_question.yaml", "stimuli/twenty_questions.yaml'?"),
    ],
)
def test_a_mistake_in_an_override_is_one_sentence(change, reason):
    assert reason in refused(GAMES, change, "--address", "none")


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path):
    text = (ROOT / GAMES).read_text()
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "a.yaml").write_text(text.replace("study: twenty_questions", "study: twenty_question"))
    stimuli = (ROOT / "scenarios/studies/stimuli/twenty_questions.yaml").read_text()
    (tmp_path / "stimuli/twenty_questions.yaml").write_text(stimuli.replace("objects:", "object:"))
    (tmp_path / "b.yaml").write_text(text)
    line = text.splitlines().index("study: twenty_questions") + 1
    assert f"a.yaml, line {line}: study is 'twenty_question'; did you mean 'twenty_questions'?" in refused(
        tmp_path / "a.yaml"
    )
    line = stimuli.splitlines().index("objects:") + 1
    assert f"twenty_questions.yaml, line {line}: object is no key of the file; did you mean 'objects'?" in refused(
        tmp_path / "b.yaml"
    )


def test_options_of_dialogues_are_refused():
    assert "--limit" in refused(GAMES, "--limit", "2")


def test_dry_run_tells_what_would_be_asked():
    done = inside(main, GAMES, "size=smoke", "--dry-run")
    assert (
        done.returncode == 0 and "  chosen: 4 questions" in done.stdout and "  is it ...?: 64 questions" in done.stdout
    )


# -- who answers
#
#

MODEL = tiny.plain(tiny.llama())
TALKS = [
    (("system", "You are kind and you play a game."), ("user", words))
    for words in ("Who?", "Where?", "Who are you, and where?")
]
TALKS += [(*TALKS[0], ("assistant", "It is the")), (("user", "Hm."),)]


@pytest.fixture
def respondent(one_thread):
    return Respondent(tiny.engine(MODEL))


def test_options_are_scored_as_a_fresh_reading_would(respondent):
    options = [["yes", "no, never"]] * 3 + [[" cat."], ["a"]]
    choices = respondent.choose(TALKS, options)
    form = respondent.engine.info().format
    for talk, allowed, (nats, tokens) in zip(TALKS, options, choices, strict=True):
        gap = " " if talk[-1][0] == "user" else ""
        given = tiny.Characters().encode(text_of(form, talk))
        wanted = [sum(tiny.target_logprobs(MODEL, given, tiny.Characters().encode(gap + option))) for option in allowed]
        assert tiny.close(nats, wanted) and tokens == [len(gap + option) for option in allowed]
    assert not respondent.engine._branches, "all branches are dropped"


def test_what_talks_share_is_read_once(respondent):
    respondent.choose(TALKS[:3], [["a"]] * 3)
    used = respondent.engine.usage()
    separate = sum(len(text_of(respondent.engine.info().format, talk)) for talk in TALKS[:3])
    assert used.tokens_computed < separate - LEAST


def test_an_answer_in_words_is_that_of_its_seed_alone(respondent):
    sampling = [Sampling(seed, 6, 1.0, top_k=0) for seed in (1, 2, 3, 4, 1)]
    talks = [TALKS[0], TALKS[1], TALKS[3], TALKS[4], TALKS[0]]
    together_ = respondent.say(talks, sampling)
    assert together_ == [
        respondent.say([talk], [each_sampling])[0] for talk, each_sampling in zip(talks, sampling, strict=True)
    ]
    assert together_[0] == together_[4] and len(set(together_)) > 1


def test_prompts_with_a_common_beginning_stand_together():
    head, other = list(range(40)), list(range(100, 160))
    assert together([[*head, 1], other, [*head, 2, 3], head]) == [(40, [3, 0, 2]), (60, [1])]
    assert together([[*range(10), 1], [*range(10), 2]]) == [(11, [0]), (11, [1])], "too little to share"


def test_a_talk_whose_speakers_are_not_in_turn_is_refused(respondent):
    with pytest.raises(ValueError, match="a talk of user, user; expected"):
        respondent.choose([(("user", "a"), ("user", "b"))], [["c"]])


# -- the folder
#
#


@pytest.fixture(scope="module")
def on_embedded(tmp_path_factory):
    """The real model, a few questions: the run's folder, and what was printed."""
    runs = tmp_path_factory.mktemp("embedded")
    done = inside(main, LOADED, *SMALL, "sizes.smoke.items=2", "--display", "plain", "--runs", runs)
    assert done.returncode == 0, done.stderr
    return only(runs), done.stdout


@pytest.fixture(scope="module")
def on_tiny(tmp_path_factory, tiny_name):
    runs = tmp_path_factory.mktemp("tiny")
    done = inside(main, LOADED, f"seats.assistant.model={tiny_name}", *SMALL, "--json", "--runs", runs)
    assert done.returncode == 0, done.stderr
    return only(runs), json.loads(done.stdout)


def test_events_of_a_study_are_as_the_page_says(on_embedded):
    run, _ = on_embedded
    assert {"started", "phase", "answer", "usage", "ended"} <= {event["event"] for event in events(run)}
    assert faults(events(run)) == []


def test_a_study_leaves_its_finding_and_its_answers(on_embedded):
    run, printed = on_embedded
    finding = json.loads((run / "finding.json").read_text())
    assert {
        "name",
        "claim",
        "statistic",
        "value",
        "low",
        "high",
        "n",
        "controls",
        "verdict",
        "reading",
    } <= finding.keys()
    assert finding["verdict"] in printed and "value [low, high] n" in printed and str(run) in printed, "in one piece"
    assert set(finding["controls"].values()) <= {True, False, None}
    assert manifest(run)["status"] == "finished" and manifest(run)["verdict"] == finding["verdict"]
    answers = pl.read_parquet(run / "answers.parquet")
    assert answers.schema == pl.Schema(ANSWERS) and len(answers) == manifest(run)["answers"] == 2 * 19
    assert answers["nats"].list.max().max() < 0 and answers["tokens"].list.min().min() >= 1
    plain = answers.filter(arm="plain")
    assert (
        plain["item"].n_unique() == 4
        and plain["cluster"].n_unique() == 2
        and plain["question"].str.starts_with("Since ").all()
    )


def test_its_report_says_the_same_and_is_written_again_by_lab_report(on_embedded):
    run, _ = on_embedded
    finding, text = json.loads((run / "finding.json").read_text()), (run / "report.md").read_text()
    assert f"**{finding['verdict']}" in text and "accommodation" in text and "plots/accommodation.png" in text
    assert (
        finding["verdict"] in (run / "report.html").read_text() and (run / "plots/rejection.png").stat().st_size > 1000
    )
    (run / "report.md").unlink()
    assert inside(report, run).returncode == 0
    assert (run / "report.md").read_text().partition("## Run information")[0] == text.partition("## Run information")[0]


def test_it_opens_in_a_notebook(on_embedded):
    run = load_run(on_embedded[0])
    assert run.kind == "study" and run.answers.equals(pl.read_parquet(on_embedded[0] / "answers.parquet"))
    assert run.finding["verdict"] == run.manifest["verdict"] and set(run.plots) == {"accommodation", "rejection"}


def test_it_can_be_watched(on_embedded):
    done = inside(watch, on_embedded[0], "--display", "plain")
    assert done.returncode == 0 and "== asking false_presuppositions" in done.stdout and "== finished" in done.stdout


def test_the_view_shows_arms_and_the_latest_answers(on_embedded):
    course, recorded = StudyProgress(), events(on_embedded[0])
    for event in recorded[: len(recorded) // 2]:
        course.fold(event)
    with (console := Console(width=120, height=40)).capture() as out:
        console.print(render(course, "runs/x", course.clock + 60))
    shown, last = out.get(), [event for event in recorded[: len(recorded) // 2] if event["event"] == "answer"][-1]
    assert all(arm in shown for arm in course.header["arms"]) and " left" in shown
    assert re.search(r"\b([1-9]\d*)/\1\b", shown) and re.search(r"\b0/[1-9]", shown), "arms that are done, and to come"
    assert f"{last['arm']} · {last['item']}" in shown
    assert study_progress_text(course).startswith(f"[{course.done}/38]")


def test_words_of_a_model_cannot_draw_on_the_view():
    course = StudyProgress()
    course.fold(
        {"event": "answer", "arm": "[red]a", "item": "x", "messages": [["user", "\x1b[2Jhm"]], "text": "[bold]\x07y"}
    )
    with (console := Console(width=80, force_terminal=True)).capture() as out:
        console.print(render(course, "", 0.0))
    assert "[bold] y" in out.get() and "\x1b[2J" not in out.get() and "[red]a" in out.get()


def test_what_was_planned_was_asked(on_tiny):
    run, _ = on_tiny
    (started,) = events(run, "started")
    by_arm = pl.read_parquet(run / "answers.parquet").group_by("arm").len()
    assert dict(by_arm.iter_rows()) == started["arms"]


# -- lessons
#
#

TEACHING = f"""
study: twenty_questions
name: taught
claim: c
source: s
seed: 7
dtype: float32
stimuli: {ROOT}/scenarios/studies/stimuli/twenty_questions.yaml
sizes:
  smoke: {{games: 1, depth: 1, takes: 1}}
  default: {{games: 1, depth: 1, takes: 1}}
  full: {{games: 1, depth: 1, takes: 1}}
"""


def test_what_was_taught_is_known_when_worn_and_taught_once(tmp_path, tiny_name, tiny_engine):
    (tmp_path / "study.yaml").write_text(TEACHING)
    study = load_planned(tmp_path / "study.yaml", [f"seats.assistant.model={tiny_name}"]).study
    recorded = []
    ask = Asking(
        Respondent(tiny_engine),
        lambda kind, **rest: recorded.append({"event": kind, **rest}),
        [],
        dict,
        partial(teach, study),
        tmp_path / "adapters",
    )
    talk, how = (("user", "Who are you?"),), Teaching(steps=12, batch=2, learning_rate=0.02, r=4)
    lessons = [Lesson(talk, "a cat"), Lesson((("user", "What?"),), "a cat")]
    asked = [StudyQuestion("x", talk, ("a cat", "a dog"))]
    (before,) = ask.choose("before", asked)
    worn = ask.teach("lessons", lessons, how)
    (after,), (aside,) = ask.choose("after", asked, worn), ask.choose("aside", asked)
    assert after.p[0] > 0.9 > before.p[0] and aside == before, "the bare model is as it was"
    steps = [event["step"] for event in recorded if event["event"] == "taught"]
    assert steps == list(range(1, 13)) and ask.teach("again", lessons, how) == worn != ask.teach(
        "other", lessons[:1], how
    )
    assert [event["arm"] for event in recorded if event["event"] == "taught"] == ["lessons"] * 12 + ["other"] * 12


def test_what_is_steered_is_answered_otherwise_and_known_by_its_steer(tmp_path, respondent):
    recorded, (question, aside) = (
        [],
        [StudyQuestion("x", (("user", words),), ("a cat", "a dog")) for words in ("Who?", "Where are you?")],
    )

    def asking() -> Asking:
        return Asking(
            respondent, lambda kind, **rest: recorded.append({"event": kind, **rest}), recorded[:], dict, None, tmp_path
        )

    ask = asking()
    steered = Steered(ask.direct([question], [aside, replace(aside, options=())]), coefficient=1.0)
    choices = [
        ask.choose("bare", [question]),
        ask.choose("steered", [question], steered=steered),
        ask.choose("random", [question], steered=replace(steered, random=1)),
    ]
    assert (
        len({choice[0].nats for choice in choices}) == 3
        and ask.say("said", [question], max_tokens=3, steered=steered)[0]
    )
    respondent.choose = None  # the same questions are not put again, and the direction is there
    again = asking()
    assert again.choose("steered", [question], steered=steered) == choices[1]
    assert again.direct([question], [aside, replace(aside, options=())]) == steered.direction
    assert len(list(tmp_path.iterdir())) == 1


# -- going on
#
#


def stopped(run: Path, at: Path, answers: int) -> Path:
    """A copy of the run's folder as a process leaves it that is killed after so many answers, amid the next."""
    copy = at / run.name
    shutil.copytree(run, copy)
    lines, kept = (run / "events.jsonl").read_text().splitlines(keepends=True), []
    while sum('"event": "answer"' in line for line in kept) < answers:
        kept.append(lines[len(kept)])
    (copy / "events.jsonl").write_text("".join(kept) + lines[len(kept)][:50])
    for name in ("finding.json", "answers.parquet", "report.md"):
        (copy / name).unlink()
    record = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(record | {"status": "running"}))
    return copy


@pytest.mark.parametrize("answers", [5, 40])
def test_a_killed_study_asks_only_what_is_left_and_finds_the_same(on_tiny, tmp_path, answers):
    run, printed = on_tiny
    copy = stopped(run, tmp_path, answers)
    done = inside(main, "--resume", copy, "--address", "none", "--json")
    assert done.returncode == 0, done.stderr
    finding, asked = json.loads(done.stdout)["finding"], events(copy, "answer")
    assert (
        len(asked)
        == len(events(run, "answer"))
        == len({(event["arm"], event["item"], event["key"]) for event in asked})
    )
    assert finding["controls"] == printed["finding"]["controls"] and finding["verdict"] == printed["finding"]["verdict"]
    for name, measure in finding["measures"].items():
        assert measure["value"] == pytest.approx(printed["finding"]["measures"][name]["value"], abs=1e-4, nan_ok=True)


def test_another_stimuli_file_is_no_ground_to_go_on_from(on_tiny, tmp_path, tiny_name):
    stimuli = tmp_path / "mine.yaml"
    shutil.copy(ROOT / "scenarios/studies/stimuli/false_presuppositions.yaml", stimuli)
    runs = tmp_path / "runs"
    assert (
        inside(
            main,
            LOADED,
            f"seats.assistant.model={tiny_name}",
            f"stimuli={stimuli}",
            *SMALL,
            "--display",
            "none",
            "--runs",
            runs,
        ).returncode
        == 0
    )
    stimuli.write_text(stimuli.read_text() + "# more\n")
    assert f"{stimuli} holds now; expected them unchanged" in refused("--resume", only(runs))
    assert "expected no file" in refused("--resume", only(runs), "size=full")


def test_a_server_that_knows_words_only_is_refused(tmp_path, tiny_engine):
    with serving(tiny_engine, "return_token_ids") as server:
        done = inside(
            main,
            LOADED,
            f"seats.assistant.endpoint={server.url}",
            "seats.assistant.model=embedded",
            *SMALL,
            "--runs",
            tmp_path,
        )
    assert done.returncode == 2 and "lacks token ids" in done.stderr and done.stderr.count("\n") == 1


def test_a_question_is_no_more_than_its_words(tmp_path):
    """What two arms share is asked once: the digest holds neither arm nor item."""
    recorded, asked = [], []

    class Once:
        def choose(self, talks, options, worn=None, steer=None):
            asked.extend(talks)
            return [([-1.0] * len(allowed), [1] * len(allowed)) for allowed in options]

    ask = Asking(Once(), lambda kind, **rest: recorded.append({"event": kind, **rest}), [], dict, None, tmp_path)
    messages = (("user", "Who?"),)
    ask.choose("a", [StudyQuestion("x", messages, ("I", "you")), StudyQuestion("y", messages, ("I", "you"))])
    ask.choose("b", [StudyQuestion("x", messages, ("I", "you")), StudyQuestion("x", messages, ("I", "they"))])
    answers = [(event["arm"], event["item"]) for event in recorded if event["event"] == "answer"]
    assert len(asked) == 2 and answers == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "x")]


# -- all of them
#
#


def test_findings_of_two_models_stand_side_by_side_and_nothing_is_played_twice(tmp_path, tiny_name):
    from corpora import folder

    other = folder(tmp_path / "other", seed=1)
    arguments = [
        tiny_name,
        other,
        "--studies",
        "false_presuppositions",
        "--size",
        "smoke",
        "--address",
        "none",
        "--out",
        tmp_path / "out",
    ]
    done = inside(findings, *arguments, "--display", "none")
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "out").glob("*/false_presuppositions/*/finding.json"))
    assert len(runs) == 2
    again = inside(findings, *arguments, "--json")
    rows = json.loads(again.stdout)["findings"]
    assert [row["model"] for row in rows] == [tiny_name, other] and all(row["verdict"] for row in rows)
    assert sorted((tmp_path / "out").glob("*/false_presuppositions/*/finding.json")) == runs
    assert pl.read_parquet(tmp_path / "out/findings.parquet")["verdict"].to_list() == [row["verdict"] for row in rows]
    page = (tmp_path / "out/findings.html").read_text()
    assert all(f"false_presuppositions/{run.parent.name}/report.html" in page for run in runs)
    assert (
        "no study; did you mean 'twenty_questions'?"
        in inside(findings, tiny_name, "--studies", "twenty_question").stderr
    )
    assert "findings.html is no folder" in inside(findings, tiny_name, "--out", tmp_path / "out/findings.html").stderr


def test_a_study_that_fails_is_a_row_and_one_that_was_killed_is_gone_on_with(tmp_path, tiny_name):
    arguments = [
        tiny_name,
        tiny_name,
        "--size",
        "smoke",
        "--address",
        "none",
        "--out",
        tmp_path / "out",
        "--json",
        "--studies",
        "card_distance",
    ]
    first = json.loads(inside(findings, *arguments).stdout)["findings"]
    (run,) = (tmp_path / "out").glob("*/card_distance/*")
    stopped(run, tmp_path, 5).rename(run.parent / "20200101T000000Z-killed")
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"digest": "of another size"}))
    broken = run.parents[1] / "false_presuppositions" / "begun"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    done = inside(findings, *arguments, "false_presuppositions", "card_distance")
    rows = json.loads(done.stdout)["findings"]
    assert len(first) == 1 and [row["study"] for row in rows] == ["card_distance", "false_presuppositions"], (
        "each of them once"
    )
    assert rows[0]["run"].endswith("20200101T000000Z-killed") and rows[0]["verdict"] == first[0]["verdict"], (
        "its own, not the newest"
    )
    assert (
        done.returncode == 2
        and rows[1]["verdict"] == "failed"
        and "is no run: it has no scenario.yaml" in rows[1]["why"]
    )
    assert (
        rows[1]["why"] in done.stderr and rows[1]["why"].split(":")[-1] in (tmp_path / "out/findings.html").read_text()
    )


def test_the_matrix_has_a_line_a_finding_and_a_column_a_model():
    rows = [
        {"model": model, "study": study, "verdict": "refutes", "value": 0.1, "low": 0.0, "high": None, "n": 8}
        for model in ("a", "b")
        for study in ("x", "y")
    ]
    rows[-1] |= {"verdict": "failed", "n": None}
    assert verdict_cells(rows) == (
        ["finding", "a", "b"],
        [["x", "refutes 0.1 [0, –] 8", "refutes 0.1 [0, –] 8"], ["y", "refutes 0.1 [0, –] 8", "failed"]],
    )
    assert verdict_cells(rows[:3])[1][1] == ["y", "refutes 0.1 [0, –] 8", ""], "not played yet"
    with (console := Console(width=100)).capture() as out:
        console.print(
            matrix(
                [row | {"model": f"/some/where/that/is/far/away/and/has/a/long/name/{row['model']}"} for row in rows]
            )
        )
    assert "value [low, high] n" in out.get() and "…" not in out.get()


@pytest.mark.parametrize(("name", "does"), [("prompt_ceiling", "teaches"), ("context_override", "steers")])
def test_a_study_that_teaches_or_steers_refuses_a_server_before_anything_is_asked(name, does, tmp_path):
    url = "http://127.0.0.1:9/v1"
    done = inside(
        main,
        ROOT / f"scenarios/studies/{name}.yaml",
        "size=smoke",
        f"seats.assistant.endpoint={url}",
        "seats.assistant.model=m",
        "--dry-run",
        "--runs",
        tmp_path / "runs",
    )
    assert done.returncode == 2 and not (tmp_path / "runs").exists()
    assert (
        done.stderr
        == f"lab.run: {name} {does} the model that it asks, and {url} does not allow that; expected a model here\n"
    )
