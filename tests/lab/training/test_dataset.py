"""Stored data to learn from: what is kept and read again, who is never seen, what is refused, and what the loop makes
of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import learners
import pytest
from corpora import KEPT, LEO, TOWNSFOLK, Parity, learnt, over, refused, run, talk, written

from agents.learning.views import View
from lab.dialogue.seats import engine_name
from lab.training.collected import COLLECTED, read_views, write_views
from lab.training.dataset import held_out_personas, stock, teaching
from lab.training.loop import TrainingLoop, learner
from metrics.judges.ledger import Ledger
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.training import split
from scenarios.jobs.training_keys import Reward
from scenarios.personas import load_personas
from scenarios.yaml_files import ScenarioError

pytestmark = pytest.mark.usefixtures("one_thread")


# -- a training's own file


def kept(at: Path, recipe: Recipe, **views: list[View]) -> Path:
    """The file as a training by that recipe leaves it in a folder."""
    at.mkdir(exist_ok=True)
    write_views(at / COLLECTED, recipe, played(recipe), views)
    return at / COLLECTED


def test_views_written_and_read_are_the_same_to_the_last_bit(tmp_path, recipe):
    settings = recipe()
    path = kept(tmp_path, settings, user=KEPT, assistant=KEPT[:1])
    assert read_views(path, settings, played(settings), "user") == KEPT
    assert read_views(path, settings, played(settings), "assistant") == KEPT[:1]


def test_a_file_of_views_tells_who_spoke_where_and_what_its_lines_are_worth_by(tmp_path, recipe, tiny_name):
    settings = recipe("overrides={seats.assistant.script: [Well.]}", "held_out={paraphrase: 2, slots: [pet]}")
    head = json.loads(kept(tmp_path, settings, user=KEPT).read_bytes().splitlines()[0])
    assert head == {
        "scenario": "small",
        "models": {"user": tiny_name, "assistant": "a script"},
        "views": {"user": 3},
        "paraphrase": 2,
        "slots": ["pet"],
        "reward": {
            "prompt_to_line": 1.0,
            "line_to_line": 0.0,
            "qa": 0.0,
            "claims": 0.0,
            "relevance": 0.0,
            "penalty": 1.0,
            "judge": "ledger",
            "probes": 2,
        },
    }


@pytest.mark.parametrize(
    ("own", "stored", "here"),
    [
        ("reward.judge=likelihood", "reward.judge=ledger", "reward.judge=likelihood"),
        ("held_out.paraphrase=2", "held_out.paraphrase=1", "held_out.paraphrase=2"),
        ("held_out.slots=[pet]", "held_out.slots=[]", "held_out.slots=['pet']"),
        (
            "reward={prompt_to_line: 0.5, line_to_line: 2, qa: 0}",
            "reward.prompt_to_line=1.0 reward.line_to_line=0.0",
            "reward.prompt_to_line=0.5 reward.line_to_line=2.0",
        ),
    ],
)
def test_lines_that_another_training_rewarded_otherwise_are_refused_with_what_would_fit(
    tmp_path, recipe, tiny_engine, own, stored, here
):
    path = kept(tmp_path, recipe(), user=KEPT)
    assert refused(recipe("method=dpo", own, over(tmp_path)), tiny_engine) == (
        f"{path}, line 1: its lines were asked and rewarded with {stored}, not with {here} as here; expected {stored} "
        "in this training too, or other data"
    )
    assert learnt(recipe("method=dpo", over(tmp_path), own, *stored.split()), tiny_engine)  # which fits


def spoilt(view: View) -> bytes:
    """A row whose first line is not what stands on the trunk."""
    return json.dumps({"seat": "user", "view": asdict(replace(view, ids=(0,) * len(view.ids)))}).encode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [*lines[:2], lines[2][:-9], lines[3]], "line 3: Invalid JSON"),
        (lambda lines: lines[:-1], "line 3: the file ends after 2 views; expected the 3"),
        (lambda lines: lines[1:], "line 1: scenario: Field required"),
        (lambda lines: [lines[0].replace(b'"reward"', b'"rewards"'), *lines[1:]], "line 1: reward: Field required"),
        (lambda lines: [], "line 1: Invalid JSON"),
        (
            lambda lines: [*lines[:3], lines[3].replace(b'"turn": 0', b'"turn": "0"')],
            "line 4: view.lines.0.turn: Input should be",
        ),
        (lambda lines: [*lines[:3], spoilt(KEPT[2])], "line 4: the line of turn 0 differs from its view"),
        (
            lambda lines: [lines[0].replace(b"embedded", b"other/model"), *lines[1:]],
            "was played by other/model; expected embedded",
        ),
        (
            lambda lines: [
                line.replace(b'"views": {"user"', b'"views": {"assistant"').replace(
                    b'"seat": "user"', b'"seat": "assistant"'
                )
                for line in lines
            ],
            "dialogues of the assistant; expected dialogues of the user",
        ),
    ],
)
def test_damage_to_a_file_of_views_is_one_sentence_with_file_and_line(tmp_path, recipe, damage, message):
    own = recipe("overrides={seats.user.model: embedded}")
    path = kept(tmp_path, own, user=KEPT)
    path.write_bytes(b"\n".join(damage(path.read_bytes().splitlines())))
    with pytest.raises(ValueError) as caught:
        read_views(path, own, played(own), "user")
    assert (
        str(caught.value).startswith(f"{path}, line") and message in str(caught.value) and "\n" not in str(caught.value)
    )


def test_a_trainings_views_come_with_their_rewards_and_their_siblings(tmp_path, recipe, tiny_engine):
    learn, out = split(recipe())
    views = [replace(view, persona=who) for view, who in zip(KEPT, (learn[0], out[0], learn[1]), strict=True)]
    kept(tmp_path, recipe(), user=views)
    learnt_views = learnt(recipe("method=dpo", over(tmp_path)), tiny_engine)
    assert sorted(view.conversation for view in learnt_views) == [0, 1]
    assert {view.lines for view in learnt_views} == {KEPT[0].lines, KEPT[2].lines}  # the second's persona is held out


# -- who is never seen


def test_no_held_out_persona_is_ever_in_what_is_learnt_from(tmp_path, recipe, tiny_engine, tiny_name):
    """Eight seeds: a run's people by the recipe's split, strangers by a share of their own; conversations whole, on one
    side each.
    """
    path, _, cast = run(tmp_path, tiny_name, tiny_engine, Parity())
    cards = [f"You are Caller {number}." for number in range(6)]
    talks = written(tmp_path / "talks.jsonl", *(talk(number, cards[number % 6]) for number in range(18)))
    seen = set()
    for seed in range(8):
        settings = recipe(f"seed={seed}", over(path, talks))
        stocked = stock(settings, played(settings))
        kept = [transcript for source in stocked.sources for transcript in source.transcripts]
        known = {transcript.cast["user"].id for transcript in kept if transcript.cast["user"].facts}
        strangers = [transcript for transcript in kept if not transcript.cast["user"].facts]
        assert known == {seats["user"].id for seats in cast} & set(split(settings)[0])
        by_card = {
            card: [transcript for transcript in strangers if transcript.cast["user"].card == card] for card in cards
        }
        # half of six people, each with all their conversations
        assert sorted(map(len, by_card.values())) == [
            0,
            0,
            0,
            3,
            3,
            3,
        ]
        assert stocked.left_out == 4 + 18 - len(kept)
        seen.add(tuple(bool(of_card) for of_card in by_card.values()))
    assert len(seen) > 3


def test_the_host_is_nobody_to_hold_out_and_one_stranger_alone_is_learnt_from(recipe):
    settings = recipe()
    assert held_out_personas(settings, played(settings), {"radio_host", "text-1"}) == set(split(settings)[1])
    named = recipe("held_out.personas=[grace]")
    assert held_out_personas(named, played(named), {"text-1", "text-2", "text-3"}) == {"grace"}
    most = recipe("held_out.personas=0.9")
    assert len(held_out_personas(most, played(most), {"a", "b", "c"}) & {"a", "b", "c"}) == 2


def test_someone_of_the_scenario_is_recognised_by_their_card_in_a_chat(tmp_path, recipe, tiny_engine):
    people = {persona.id: persona for persona in load_personas(TOWNSFOLK)}
    cards = [f"{people[who].card} Be brief." for who in ("leon", "grace")]
    talks = written(tmp_path / "talks.jsonl", *(talk(number, card) for number, card in enumerate(cards)))
    [view] = learnt(recipe("held_out.personas=[grace]", over(talks)), tiny_engine)
    assert view.persona == "leon" and f"{people['leon'].card} Be brief.\n" in learners.text(view.ids)


def test_a_dialogue_with_a_held_out_partner_is_left_out_too(tmp_path, recipe, tiny_engine, tiny_name):
    path, _, cast = run(tmp_path, tiny_name, tiny_engine, Parity())
    people = list(dict.fromkeys(seats["user"].id for seats in cast))
    settings = recipe("seat=assistant", f"held_out.personas=[{people[0]}]", over(path))
    kept = [transcript for source in stock(settings, played(settings)).sources for transcript in source.transcripts]
    assert kept and people[0] not in {transcript.cast["user"].id for transcript in kept}


# -- what is refused


@pytest.mark.parametrize(
    ("method", "labels", "message"),
    [
        ("sft", (True, True), "none of the 2 scored ones has a reward above 0"),
        ("kto", (False, False), "kto learns from bad lines too"),
        ("gold", (False, False), "gold learns from bad lines too"),
        ("varmi", (False, False), "reward below 0"),
        ("unlikelihood", (False, False), "or method=sft"),
        ("dpo", (False, True), "dpo compares lines said at the same place"),
    ],
)
def test_a_method_without_the_lines_that_it_needs_is_refused(tmp_path, recipe, tiny_engine, method, labels, message):
    assert message in refused(
        recipe(f"method={method}", over(written(tmp_path / "talks.jsonl", talk(0, labels=labels)))), tiny_engine
    )


def test_lines_that_nobody_could_score_are_refused(tmp_path, recipe, tiny_engine):
    chat = talk(0, labels=(None, None))
    chat["lines"][1]["text"] = chat["lines"][3]["text"] = "Well, well."
    chat["personas"]["P2"] = ""
    assert (
        "none of the 2 lines of the user has a label, or a reward by what the recipe weighs (judge: ledger)"
        in refused(recipe(over(written(tmp_path / "talks.jsonl", chat))), tiny_engine)
    )


def test_unlabelled_chats_are_refused_with_what_would_score_them_where_only_questions_are_weighed(
    tmp_path, recipe, tiny_engine
):
    data = over(written(tmp_path / "talks.jsonl", talk(0, labels=(None, None))))
    default = recipe(data, "reward={}", "evaluation.judge=answer_reader")
    assert default.reward == Reward()
    error = refused(default, tiny_engine)
    assert error.endswith(
        "expected labelled lines, or reward.prompt_to_line=1.0 with a judge that reads any card: reward.judge=combined"
    )
    assert refused(recipe(data), tiny_engine).endswith(
        "(judge: ledger); expected labelled lines, or another reward.judge"
    )
    cure = recipe(
        data, "reward={}", "evaluation.judge=answer_reader", "method=sft", *re.findall(r"[a-z_.]+=[\w.]+", error)
    )
    assert learnt(cure, tiny_engine, Parity())


def test_data_of_held_out_personas_only_is_refused(tmp_path, recipe, tiny_engine):
    people = [persona.id for persona in load_personas(TOWNSFOLK)][:3]
    views = [replace(view, persona=who) for view, who in zip(KEPT, people, strict=True)]
    kept(tmp_path, recipe(), user=views)
    error = refused(recipe(f"held_out.personas={json.dumps(people)}", over(tmp_path)), tiny_engine)
    assert error.startswith("data holds nothing but conversations of personas that are held out") and all(
        who in error for who in people
    )


def test_data_without_a_line_of_the_trained_seat_is_refused(tmp_path, recipe, tiny_engine):
    chat = {"messages": [{"role": "user", "content": "Hello."}]}
    assert "no line of the assistant" in refused(
        recipe("seat=assistant", over(written(tmp_path / "chat.jsonl", chat))), tiny_engine
    )


def test_files_and_folders_that_hold_no_dialogues_are_refused(tmp_path, recipe, tiny_engine):
    assert f"{tmp_path / 'none.jsonl'} does not exist" in refused(recipe(over(tmp_path / "none.jsonl")), tiny_engine)
    assert "line 1: is no conversation" in refused(recipe(over(written(tmp_path / "odd.jsonl", {"a": 1}))), tiny_engine)
    (tmp_path / "trained" / "checkpoints").mkdir(parents=True)
    assert "is a training that kept no dialogues" in refused(recipe(over(tmp_path / "trained")), tiny_engine)


def test_places_of_equal_rewards_teach_dpo_nothing(recipe):
    with pytest.raises(ValueError, match="the same as others at their places"):
        teaching([learners.view(4, rewards=(1, 1, -1, -1))], "dpo", "user", Reward())
    assert (
        len(
            teaching(
                [learners.view(4, rewards=(1, -1, 0, 0)), learners.view(4, rewards=(1, None, 0, 0))],
                "dpo",
                "user",
                Reward(),
            )
        )
        == 1
    )


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_online_methods_take_no_data(recipe, method):
    with pytest.raises(ScenarioError, match=f"no data with method '{method}'"):
        recipe(f"method={method}", over("talks.jsonl"))


# -- in the loop


def trained(recipe: Recipe, engine, at: Path, judge, first: int = 0) -> list[dict]:
    """The events of a training in that folder, without the times."""
    at.mkdir(exist_ok=True)
    scenario = played(recipe)
    student = learner(recipe, scenario, "user")
    aids = {"embed": None, "logprobs": None}
    training = TrainingLoop(
        recipe, scenario, {engine_name(scenario.seats["user"]): engine}, {"user": student}, judge, aids, at
    )
    if first:
        training.restore(at / "checkpoints" / f"step-{first:06d}")
    return [
        {key: value for key, value in event.items() if not key.startswith("seconds")} for event in training.steps(first)
    ]


def test_a_training_learns_from_data_and_tells_what_it_read(tmp_path, recipe, tiny_engine):
    settings = recipe(
        "max_steps=2",
        "conversations=2",
        over(written(tmp_path / "talks.jsonl", *(talk(number, LEO) for number in range(3)))),
    )
    events = trained(settings, tiny_engine, tmp_path / "out", Ledger())
    [data, back, *steps] = [event for event in events if event["event"] != "checkpoint"]
    assert (data["phase"], back["phase"]) == ("data", "training")
    assert data["detail"].startswith(
        "3 of 3 conversations teach the user; lines: 6, of them 3 good, 3 bad, 0 worth 0, 0 unscored; "
    )
    assert len(steps) == 2 and all(step["loss"] is not None and step["grad_norm"] > 0 for step in steps)
    # each line with the blank behind "Name:"
    assert [(step["tokens"], step["tokens_learnt"]) for step in steps] == [(2 * (11 + 27),) * 2] * 2
    assert not (tmp_path / "out" / COLLECTED).exists()


def test_what_the_untouched_model_played_is_kept_and_read_when_a_training_goes_on(
    tmp_path, recipe, tiny_engine, monkeypatch
):
    monkeypatch.setattr(
        "lab.training.loop.TrainingLoop._monitored", lambda self, step: {}
    )  # what is played for the wires
    settings = recipe(
        "max_steps=2", "conversations=2", "num_generations=2", "save_steps=1", "reward.penalty=0", "overrides.turns=4"
    )
    whole = trained(settings, tiny_engine, tmp_path / "out", Parity())
    collecting = ["phase", "collected", "collected", "phase"]
    assert [event["event"] for event in whole] == collecting + ["step", "checkpoint"] * 2
    kept, before, judge = (tmp_path / "out" / COLLECTED).read_bytes(), tiny_engine.usage().generated, Parity()
    assert trained(settings, tiny_engine, tmp_path / "out", judge, first=1) == [whole[0], whole[3], *whole[6:]]
    assert (
        tiny_engine.usage().generated == before
        and not judge.asked
        and (tmp_path / "out" / COLLECTED).read_bytes() == kept
    )
    other = recipe("max_steps=1", "conversations=2", "method=dpo", "reward.penalty=0", over(tmp_path / "out"))
    assert [event["event"] for event in trained(other, tiny_engine, tmp_path / "next", judge)] == [
        "phase",
        "phase",
        "step",
        "checkpoint",
    ]
    assert tiny_engine.usage().generated == before and not judge.asked
