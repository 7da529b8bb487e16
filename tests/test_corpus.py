"""Stored data to learn from: what a speaker read, what its lines are worth, and who is never seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import learners
import pytest
import tiny

from agents.engine import LocalEngine
from agents.learning.views import View, row
from agents.models import load
from lab import corpus
from lab.conversation import SYSTEM
from lab.corpus import COLLECTED, held_out, read_views, stock, teaching, views_of, write_views
from lab.run import new_store
from lab.training import Training, engine_of, learner
from lab.wiring import play_of
from metrics.judges import judgement
from metrics.judges.ledger import Ledger
from scenarios.personas import load_personas
from scenarios.reading import ScenarioError
from scenarios.recipe import Recipe, load_recipe, played, split
from scenarios.schema import load_scenario

pytestmark = pytest.mark.usefixtures("one_thread")
TOWNSFOLK = (Path(__file__).parents[1] / "scenarios/personas/townsfolk.yaml").resolve()
SCENARIO = f"""
name: small
seed: 7
conversations: 4
side_by_side: 3
turns: 6
personas: {TOWNSFOLK}
seats:
  assistant: {{model: MODEL, persona: radio_host, max_tokens: 6}}
  user: {{model: MODEL, persona: sample, max_tokens: 8, instruction: You call a show.}}
graph:
  start: hello
  nodes:
    hello: {{speaker: assistant, says: ["Hello, {{partner.name}}!"]}}
    chat: {{direct: {{user: "Speak of your {{self.name}} self.", assistant: "Ask about their {{fact.slot}}."}}}}
    doubt: {{speaker: assistant, direct: {{assistant: "Doubt it."}}, pressure: 3}}
    defence: {{speaker: user, direct: {{user: "Defend yourself."}}}}
  edges:
    - {{from: hello, to: chat}}
    - {{from: chat, to: doubt, when: contradiction}}
    - {{from: doubt, to: defence}}
    - {{from: defence, to: chat}}
measure: {{metrics: [prompt_to_line], judge: ledger}}
"""
RECIPE = """
name: stored
seed: 5
scenario: small.yaml
method: kto
reward: {questions: 0, prompt_to_line: 1}
evaluation: {judge: [nli]}
dtype: float32
device: cpu
"""
MIA, LEO = "You are Mia. You play the flute.", "You are Leo. You bake bread."


class Parity:
    """Finds a contradiction in every line of an even number of characters."""

    name = "ledger"

    def __init__(self):
        self.asked = []

    def judge(self, pairs):
        self.asked += pairs
        even = [len(pair.line) % 2 == 0 for pair in pairs]
        return [judgement(pair, self.name, p_inconsistent=float(bad), verdict=bad) for pair, bad in zip(pairs, even, strict=True)]


def folder(at: Path, seed: int = 0) -> str:
    return learners.saved(tiny.llama(max_position_embeddings=4096), at, seed)


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def engine(name, one_thread):
    return LocalEngine(load(name, "float32", "cpu"))


@pytest.fixture
def recipe(tmp_path, name):
    """A function: overrides -> the recipe."""
    (tmp_path / "small.yaml").write_text(SCENARIO.replace("MODEL", name))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return lambda *overrides: load_recipe(tmp_path / "recipe.yaml", overrides)


def over(*paths: object) -> str:
    return f"data={json.dumps([str(path) for path in paths])}"


def learnt(recipe: Recipe, engine, judge=None, seat: str = "user") -> list[View]:
    return views_of(recipe, played(recipe), seat, engine, judge or Ledger(), None).views


def written(path: Path, *records: dict) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def talk(number: int, card: str = MIA, labels: tuple = (False, True)) -> dict:
    """The user, P2, says two lines; `labels`: whether each contradicts."""
    return {"id": number, "personas": {"P1": "You are a host.", "P2": card}, "lines": [
        {"speaker": "P1", "text": "Who is there?"}, {"speaker": "P2", "text": f"Caller {number}.", "contradicts_persona": labels[0]},
        {"speaker": "P1", "text": "Tell me more."}, {"speaker": "P2", "text": "I play the drums all day.", "contradicts_persona": labels[1]}]}


# -- a training's own file -------------------------------------------------------------------------------------------------

REWARDS = (1, -1, 0.1 + 0.2, None, -0.5, 0)
KEPT = [replace(learners.view(4, 2, conversation=number, rewards=REWARDS), persona="grace") for number in range(3)]
KEPT[1] = replace(KEPT[1], lines=tuple(replace(line, logprobs=(-1 / 3,) * len(line.ids), text="naïve ☂") for line in KEPT[1].lines))


def test_views_written_and_read_are_the_same_to_the_last_bit(tmp_path):
    write_views(tmp_path / COLLECTED, {"user": "embedded", "assistant": "embedded:an/adapter"}, {"user": KEPT, "assistant": KEPT[:1]})
    assert read_views(tmp_path / COLLECTED, "user", "embedded:other/adapter") == KEPT
    assert read_views(tmp_path / COLLECTED, "assistant", "embedded") == KEPT[:1]


def spoilt(view: View) -> bytes:
    """A row whose first line is not what stands on the trunk."""
    return json.dumps({"seat": "user", "view": corpus.asdict(replace(view, ids=(0,) * len(view.ids)))}).encode()


@pytest.mark.parametrize(("damage", "told"), [
    (lambda lines: [*lines[:2], lines[2][:-9], lines[3]], "line 3: Invalid JSON"),
    (lambda lines: lines[:-1], "line 3: the file ends after 2 views; expected the 3"),
    (lambda lines: lines[1:], "line 1: models: Field required"),
    (lambda lines: [], "line 1: Invalid JSON"),
    (lambda lines: [*lines[:3], lines[3].replace(b'"turn": 0', b'"turn": "0"')], "line 4: view.lines.0.turn: Input should be"),
    (lambda lines: [*lines[:3], spoilt(KEPT[2])], "line 4: the line of turn 0 is not what stands in its view"),
    (lambda lines: [lines[0].replace(b"embedded", b"other/model"), *lines[1:]], "was played by other/model; expected embedded"),
    (lambda lines: [line.replace(b'"user"', b'"assistant"') for line in lines], "dialogues of the assistant; expected some of the user"),
])
def test_damage_to_a_file_of_views_is_one_sentence_with_file_and_line(tmp_path, damage, told):
    path = tmp_path / COLLECTED
    write_views(path, {"user": "embedded"}, {"user": KEPT})
    path.write_bytes(b"\n".join(damage(path.read_bytes().splitlines())))
    with pytest.raises(ValueError) as caught:
        read_views(path, "user", "embedded")
    assert str(caught.value).startswith(f"{path}, line") and told in str(caught.value) and "\n" not in str(caught.value)


def test_a_trainings_views_come_with_their_rewards_and_their_siblings(tmp_path, recipe, name, engine):
    learn, _ = split(recipe())
    write_views(tmp_path / COLLECTED, {"user": name}, {"user": [replace(view, persona=learn[0]) for view in KEPT]})
    found = learnt(recipe("method=dpo", over(tmp_path)), engine)
    assert sorted(view.conversation for view in found) == [0, 1, 2] and {view.lines for view in found} == {view.lines for view in KEPT}


# -- runs ------------------------------------------------------------------------------------------------------------------

def run(at: Path, name: str, engine, judge, events: int | None = None):
    """A run folder of four dialogues, and the user's seat as the play left it; its events are cut after so many."""
    (at / "small.yaml").write_text(SCENARIO.replace("MODEL", name))
    scenario = load_scenario(at / "small.yaml")
    play = replace(play_of(scenario, {name: engine}, {}, {"user": 1}), judges=[judge])
    with new_store(at / "runs", load_scenario(at / "small.yaml", [f"measure.judge={judge.name}"])) as store:
        for number, event in enumerate(play.events()):
            if events is None or number < events:
                store.append(event)
        store.finish("finished" if events is None else "interrupted")
    return store.path, play.seats["user"], play.cast


def by_ids(views: list[View]) -> dict[tuple[int, ...], View]:
    return {view.ids: view for view in views}


def test_a_runs_views_are_what_its_speaker_read_and_nothing_is_sampled_for_them(tmp_path, recipe, name, engine):
    path, seat, cast = run(tmp_path, name, engine, Parity())
    before = engine.usage().generated
    found = by_ids(learnt(recipe("held_out.personas=[ingrid]", over(path)), engine))
    assert engine.usage().generated == before
    kept = {tuple(ids): c for c, ids in seat.ids.items() if cast[c]["user"].id != "ingrid"}
    assert len(kept) >= 3 and found.keys() == kept.keys()
    assert any("[Defend yourself.]" in learners.text(ids) for ids in kept)  # where a stored verdict moved the walk
    for ids, c in kept.items():
        view = found[ids]
        assert view.persona == cast[c]["user"].id
        assert [(line.turn, line.start, line.ids, line.text) for line in view.lines] == [
            (one.turn, one.start, one.samples[0].token_ids, one.texts[0].strip()) for one in seat.spoken[c]]
        assert all(line.on_trunk and not line.logprobs for line in view.lines)
        assert row(view).ids.tolist() == list(ids[:view.lines[-1].start + len(view.lines[-1].ids)])


def test_stored_judgements_are_the_rewards_and_the_judge_is_asked_for_nothing_else(tmp_path, recipe, name, engine):
    path, _, _ = run(tmp_path, name, engine, Parity())
    asked = Parity()
    found = learnt(recipe("reward.penalty=0", over(path)), engine, asked)
    lines = [line for view in found for line in view.lines]
    assert lines and not asked.asked
    assert [line.reward for line in lines] == [-1.0 if len(line.text) % 2 == 0 else 1.0 for line in lines]


def test_what_another_judge_stored_is_judged_anew(tmp_path, recipe, name, engine):
    stored = Parity()
    stored.name = "likelihood"
    path, _, _ = run(tmp_path, name, engine, stored)
    asked = Parity()
    lines = [line for view in learnt(recipe("reward.penalty=0", over(path)), engine, asked) for line in view.lines]
    assert {pair.line for pair in asked.asked} >= {line.text for line in lines} and {line.reward for line in lines} <= {1.0, -1.0}


def test_a_run_that_was_stopped_gives_the_beginning_of_its_views(tmp_path, recipe, name, engine):
    path, seat, _ = run(tmp_path, name, engine, Parity(), events=25)
    found = learnt(recipe("held_out.personas=[ingrid]", over(path)), engine)
    views = [tuple(ids) for ids in seat.ids.values()]
    assert found and all(any(whole[:len(view.ids)] == view.ids for whole in views) for view in found)
    assert any(view.ids not in views for view in found)


def test_a_run_of_another_model_is_encoded_anew_with_the_token_that_closes_a_line(tmp_path, recipe, name, engine):
    other = folder(tmp_path / "other", seed=1)
    (tmp_path / "played").mkdir()
    path, seat, cast = run(tmp_path / "played", other, LocalEngine(load(other, "float32", "cpu")), Parity())
    found = learnt(recipe("held_out.personas=[ingrid]", over(path)), engine)
    assert found
    for line in (line for view in found for line in view.lines):
        assert line.ids == (*map(ord, line.text), ord("\n"))


# -- words from elsewhere --------------------------------------------------------------------------------------------------

def test_labels_are_rewards_and_what_has_none_is_judged(tmp_path, recipe, engine):
    path = written(tmp_path / "talks.jsonl", talk(0), talk(1, labels=(None, None)), talk(2, labels=(True, False)))
    views = {view.lines[0].text: view for view in learnt(recipe(over(path)), engine)}
    rewards = {text: [line.reward for line in view.lines] for text, view in views.items()}
    # the ledger knows nothing of Mia's prose card, so that its word counts for what has no label only
    assert rewards["Caller 0."] == [1.0, -1.0] and rewards["Caller 2."] == [-1.0, 1.0]
    assert "Caller 1." not in rewards or rewards["Caller 1."] != [1.0, -1.0]
    asked = Parity()
    found = {view.lines[0].text: view for view in learnt(recipe(over(path)), engine, asked)}
    assert [pair.line for pair in asked.asked] == ["Caller 1.", "I play the drums all day."]  # 9 characters, 25
    assert [line.reward for line in found["Caller 1."].lines] == [1.0, 1.0]


def test_a_judge_that_the_recipe_does_not_weigh_is_not_asked_and_labels_count_all_the_same(tmp_path, recipe, name, engine):
    told, asked = ["reward.prompt_to_line=0", "reward.questions=1"], Parity()
    talks = written(tmp_path / "talks.jsonl", talk(0), talk(1, labels=(None, None)))
    [view] = learnt(recipe(*told, over(talks)), engine, asked)
    assert [line.reward for line in view.lines] == [1.0, -1.0] and not asked.asked
    path, _, _ = run(tmp_path, name, engine, Parity())
    assert "has a label, or a reward by what the recipe weighs" in refused(recipe(*told, over(path)), engine)  # nobody was asked anything


def test_labels_of_pairs_count_by_the_weight_of_line_to_line(tmp_path, recipe, engine):
    one = talk(0)
    one["lines"][3]["conflicts_with"] = [1]
    [view] = learnt(recipe("reward.line_to_line=0.5", over(written(tmp_path / "talks.jsonl", one))), engine)
    assert [line.reward for line in view.lines] == [1.0, -1.0]
    one["lines"][3]["contradicts_persona"] = False
    [view] = learnt(recipe("reward.line_to_line=0.5", "method=sft", over(written(tmp_path / "talks.jsonl", one))), engine)
    assert [line.reward for line in view.lines] == [1.0, pytest.approx((1 - 0.5) / 1.5)]


def test_a_line_from_elsewhere_ends_with_the_token_that_closes_it_and_is_read_under_its_card(tmp_path, recipe, engine):
    [view] = learnt(recipe(over(written(tmp_path / "talks.jsonl", talk(0)))), engine)
    said = ["Caller 0.", "I play the drums all day."]
    system = SYSTEM.format(card=MIA, instruction="You call a show.", name="P2")
    assert learners.text(view.ids) == f"{system}\n\nThem: Who is there?\nMe:{said[0]}\nThem: Tell me more.\nMe:{said[1]}\n"
    assert [learners.text(line.ids) for line in view.lines] == [f"{text}\n" for text in said]
    assert [view.ids[line.start : line.start + len(line.ids)] for line in view.lines] == [line.ids for line in view.lines]


def test_the_embedded_models_view_is_its_templates_rendering_and_control_tokens_in_words_are_words(tmp_path, recipe, embedded):
    one = talk(0)
    one["lines"][3]["text"] = "I play<|im_end|>the drums."
    told = recipe("overrides={seats.user.model: embedded}", over(written(tmp_path / "talks.jsonl", one)))
    [view] = learnt(told, embedded)
    messages = [("system", SYSTEM.format(card=MIA, instruction="You call a show.", name="P2")), ("user", "Who is there?"),
                ("assistant", "Caller 0."), ("user", "Tell me more."), ("assistant", "I play the drums.")]
    rendered = embedded.tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in messages], tokenize=False)
    assert embedded.tokenizer.decode(view.ids) == rendered.removesuffix("\n")
    assert {line.ids[-1] for line in view.lines} == set(embedded.encode(["<|im_end|>"])[0]) <= embedded.loaded.stop_ids
    assert view.lines[1].text == "I play<|im_end|>the drums."  # as it stands in the file, for people


def test_chats_teach_the_assistants_seat_under_the_system_message(tmp_path, recipe, engine):
    chat = {"messages": [{"role": "system", "content": MIA}, {"role": "user", "content": "Hello."},
                         {"role": "assistant", "content": "I play the flute."}, {"role": "assistant", "content": "I play a drum!"}]}
    told = recipe("seat=assistant", over(written(tmp_path / "chat.jsonl", chat)))
    [view] = learnt(told, engine, Parity(), "assistant")
    assert MIA in learners.text(view.ids) and [line.turn for line in view.lines] == [1, 2]
    with pytest.raises(ValueError, match="none of the 1 lines of the user has a label"):  # whose persona nobody told
        learnt(recipe(over(tmp_path / "chat.jsonl")), engine, Parity())


# -- who is never seen -----------------------------------------------------------------------------------------------------

def test_no_held_out_persona_is_ever_in_what_is_learnt_from(tmp_path, recipe, engine, name):
    """Eight seeds: a run's people by the recipe's split, strangers by a share of their own; conversations whole, on one side each."""
    path, _, cast = run(tmp_path, name, engine, Parity())
    cards = [f"You are Caller {number}." for number in range(6)]
    talks = written(tmp_path / "talks.jsonl", *(talk(number, cards[number % 6]) for number in range(18)))
    seen = set()
    for seed in range(8):
        told = recipe(f"seed={seed}", over(path, talks))
        found = stock(told, played(told))
        kept = [one for source in found.sources for one in source.transcripts]
        known = {one.cast["user"].id for one in kept if one.cast["user"].facts}
        strangers = [one for one in kept if not one.cast["user"].facts]
        assert known == {seats["user"].id for seats in cast} & set(split(told)[0])
        by_card = {card: [one for one in strangers if one.cast["user"].card == card] for card in cards}
        assert sorted(map(len, by_card.values())) == [0, 0, 0, 3, 3, 3]  # half of six people, each with all their conversations
        assert found.left_out == 4 + 18 - len(kept)
        seen.add(tuple(bool(some) for some in by_card.values()))
    assert len(seen) > 3


def test_the_host_is_nobody_to_hold_out_and_one_stranger_alone_is_learnt_from(recipe):
    told = recipe()
    assert held_out(told, played(told), {"radio_host", "text-1"}) == set(split(told)[1])
    named = recipe("held_out.personas=[grace]")
    assert held_out(named, played(named), {"text-1", "text-2", "text-3"}) == {"grace"}
    most = recipe("held_out.personas=0.9")
    assert len(held_out(most, played(most), {"a", "b", "c"}) & {"a", "b", "c"}) == 2


def test_a_dialogue_with_a_held_out_partner_is_left_out_too(tmp_path, recipe, engine, name):
    path, _, cast = run(tmp_path, name, engine, Parity())
    people = list(dict.fromkeys(seats["user"].id for seats in cast))
    told = recipe("seat=assistant", f"held_out.personas=[{people[0]}]", over(path))
    kept = [one for source in stock(told, played(told)).sources for one in source.transcripts]
    assert kept and people[0] not in {one.cast["user"].id for one in kept}


# -- what is refused -------------------------------------------------------------------------------------------------------

def refused(recipe: Recipe, engine) -> str:
    with pytest.raises(ValueError) as caught:
        learnt(recipe, engine)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("method", "labels", "told"), [
    ("sft", (True, True), "none of the 2 scored ones has a reward above 0"), ("kto", (False, False), "kto learns from bad lines too"),
    ("gold", (False, False), "gold learns from bad lines too"), ("varmi", (False, False), "reward below 0"),
    ("unlikelihood", (False, False), "or method=sft"), ("dpo", (False, True), "dpo compares lines said at the same place"),
])
def test_a_method_without_the_lines_that_it_needs_is_refused(tmp_path, recipe, engine, method, labels, told):
    assert told in refused(recipe(f"method={method}", over(written(tmp_path / "talks.jsonl", talk(0, labels=labels)))), engine)


def test_lines_that_nobody_could_score_are_refused(tmp_path, recipe, engine):
    one = talk(0, labels=(None, None))
    one["lines"][1]["text"] = one["lines"][3]["text"] = "Well, well."
    one["personas"]["P2"] = ""
    assert "none of the 2 lines of the user has a label, or a reward by what the recipe weighs (judge: ledger)" in refused(
        recipe(over(written(tmp_path / "talks.jsonl", one))), engine)


def test_data_of_held_out_personas_only_is_refused(tmp_path, recipe, engine, name):
    people = [persona.id for persona in load_personas(TOWNSFOLK)][:3]
    views = [replace(view, persona=who) for view, who in zip(KEPT, people, strict=True)]
    write_views(tmp_path / COLLECTED, {"user": name}, {"user": views})
    told = refused(recipe(f"held_out.personas={json.dumps(people)}", over(tmp_path)), engine)
    assert told.startswith("data holds nothing but conversations of personas that are held out") and all(who in told for who in people)


def test_data_without_a_line_of_the_trained_seat_is_refused(tmp_path, recipe, engine):
    chat = {"messages": [{"role": "user", "content": "Hello."}]}
    assert "no line of the assistant" in refused(recipe("seat=assistant", over(written(tmp_path / "chat.jsonl", chat))), engine)


def test_files_and_folders_that_hold_no_dialogues_are_refused(tmp_path, recipe, engine):
    assert f"{tmp_path / 'none.jsonl'} cannot be read" in refused(recipe(over(tmp_path / "none.jsonl")), engine)
    assert "line 1: is no conversation" in refused(recipe(over(written(tmp_path / "odd.jsonl", {"a": 1}))), engine)
    (tmp_path / "trained" / "checkpoints").mkdir(parents=True)
    assert "is a training that kept no dialogues" in refused(recipe(over(tmp_path / "trained")), engine)


def test_places_of_equal_rewards_teach_dpo_nothing(recipe):
    with pytest.raises(ValueError, match="the same as others at their places"):
        teaching([learners.view(4, rewards=(1, 1, -1, -1))], "dpo", "user", "ledger")
    assert len(teaching([learners.view(4, rewards=(1, -1, 0, 0)), learners.view(4, rewards=(1, None, 0, 0))], "dpo", "user", "ledger")) == 1


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_online_methods_take_no_data(recipe, method):
    with pytest.raises(ScenarioError, match=f"no data with method '{method}'"):
        recipe(f"method={method}", over("talks.jsonl"))


# -- in the loop -----------------------------------------------------------------------------------------------------------

def trained(recipe: Recipe, engine, at: Path, judge, first: int = 0) -> list[dict]:
    """The events of a training in that folder, without what a clock told."""
    at.mkdir(exist_ok=True)
    scenario = played(recipe)
    student = learner(recipe, scenario, "user")
    aids = {"embed": None, "logprobs": None}
    training = Training(recipe, scenario, {engine_of(scenario, "user"): engine}, {"user": student}, judge, aids, at)
    if first:
        training.restore(at / "checkpoints" / f"step-{first:06d}")
    return [{key: value for key, value in event.items() if not key.startswith("seconds")} for event in training.steps(first)]


def test_a_training_learns_from_data_and_tells_what_it_read(tmp_path, recipe, engine):
    told = recipe("max_steps=2", "conversations=2", over(written(tmp_path / "talks.jsonl", *(talk(number, LEO) for number in range(3)))))
    events = trained(told, engine, tmp_path / "out", Ledger())
    [data, back, *steps] = [event for event in events if event["event"] != "checkpoint"]
    assert (data["phase"], back["phase"]) == ("data", "training")
    assert data["detail"].startswith("3 of 3 conversations teach the user; lines: 6, of them 3 good, 3 bad, 0 unscored; ")
    assert len(steps) == 2 and all(step["loss"] is not None and step["grad_norm"] > 0 for step in steps)
    assert [step["tokens"] for step in steps] == [2 * (10 + 26)] * 2 and not (tmp_path / "out" / COLLECTED).exists()


def test_what_the_untouched_model_played_is_kept_and_read_when_a_training_goes_on(tmp_path, recipe, engine):
    told = recipe("max_steps=2", "conversations=2", "num_generations=2", "save_steps=1", "reward.penalty=0", "overrides.turns=4")
    whole = trained(told, engine, tmp_path / "out", Parity())
    kept, before, judge = (tmp_path / "out" / COLLECTED).read_bytes(), engine.usage().generated, Parity()
    assert trained(told, engine, tmp_path / "out", judge, first=1) == whole[2:]
    assert engine.usage().generated == before and not judge.asked and (tmp_path / "out" / COLLECTED).read_bytes() == kept
    other = recipe("max_steps=1", "conversations=2", "method=dpo", over(tmp_path / "out"))
    assert [event["event"] for event in trained(other, engine, tmp_path / "next", judge)] == ["phase", "phase", "step", "checkpoint"]
    assert engine.usage().generated == before and not judge.asked
