"""Views of what was said before: what the speaker read, token by token, and what its lines are worth."""

from __future__ import annotations

import learners
import pytest
from corpora import MIA, Parity, by_ids, folder, learnt, over, refused, run, talk, written

from agents.engine.local import LocalEngine
from agents.learning.views import row
from agents.models.loading import load
from lab.dialogue.loop import SYSTEM

pytestmark = pytest.mark.usefixtures("one_thread")


# -- runs


def test_a_runs_views_are_what_its_speaker_read_and_nothing_is_sampled_for_them(
    tmp_path, recipe, tiny_name, tiny_engine
):
    path, seat, cast = run(tmp_path, tiny_name, tiny_engine, Parity())
    before = tiny_engine.usage().generated
    learnt_views = by_ids(learnt(recipe("held_out.personas=[ingrid]", over(path)), tiny_engine))
    assert tiny_engine.usage().generated == before
    kept = {tuple(ids): c for c, ids in seat.ids.items() if cast[c]["user"].id != "ingrid"}
    assert len(kept) >= 3 and learnt_views.keys() == kept.keys()
    assert any("[Defend yourself.]" in learners.text(ids) for ids in kept)  # where a stored verdict moved the walk
    for ids, c in kept.items():
        view = learnt_views[ids]
        assert view.persona == cast[c]["user"].id
        assert [(line.turn, line.start, line.ids, line.text) for line in view.lines] == [
            (spoken_line.turn, spoken_line.start, spoken_line.samples[0].token_ids, spoken_line.texts[0].strip())
            for spoken_line in seat.spoken[c]
        ]
        assert all(line.on_trunk and not line.logprobs for line in view.lines)
        assert row(view).ids.tolist() == list(ids[: view.lines[-1].start + len(view.lines[-1].ids)])


def test_stored_judgements_are_the_rewards_and_the_judge_is_asked_for_nothing_else(
    tmp_path, recipe, tiny_name, tiny_engine
):
    path, _, _ = run(tmp_path, tiny_name, tiny_engine, Parity())
    asked = Parity()
    learnt_views = learnt(recipe("reward.penalty=0", over(path)), tiny_engine, asked)
    lines = [line for view in learnt_views for line in view.lines]
    assert lines and not asked.asked
    assert [line.reward for line in lines] == [-1.0 if len(line.text) % 2 == 0 else 1.0 for line in lines]


def test_what_another_judge_stored_is_judged_anew(tmp_path, recipe, tiny_name, tiny_engine):
    stored = Parity()
    stored.name = "likelihood"
    path, _, _ = run(tmp_path, tiny_name, tiny_engine, stored)
    asked = Parity()
    lines = [line for view in learnt(recipe("reward.penalty=0", over(path)), tiny_engine, asked) for line in view.lines]
    assert {pair.line for pair in asked.asked} >= {line.text for line in lines} and {line.reward for line in lines} <= {
        1.0,
        -1.0,
    }


def test_a_run_that_was_stopped_gives_the_beginning_of_its_views(tmp_path, recipe, tiny_name, tiny_engine):
    path, seat, _ = run(tmp_path, tiny_name, tiny_engine, Parity(), events=25)
    learnt_views = learnt(recipe("held_out.personas=[ingrid]", over(path)), tiny_engine)
    views = [tuple(ids) for ids in seat.ids.values()]
    assert learnt_views and all(any(whole[: len(view.ids)] == view.ids for whole in views) for view in learnt_views)
    assert any(view.ids not in views for view in learnt_views)


def test_a_run_of_another_model_is_encoded_anew_with_the_token_that_closes_a_line(
    tmp_path, recipe, tiny_name, tiny_engine
):
    other = folder(tmp_path / "other", seed=1)
    (tmp_path / "played").mkdir()
    path, _, _ = run(tmp_path / "played", other, LocalEngine(load(other, "float32", "cpu")), Parity())
    learnt_views = learnt(recipe("held_out.personas=[ingrid]", over(path)), tiny_engine)
    assert learnt_views
    for line in (line for view in learnt_views for line in view.lines):
        assert line.ids == tuple(map(ord, f" {line.text}\n")), "as in a plain transcript"


# -- words from elsewhere


def test_labels_are_rewards_and_what_has_none_is_judged(tmp_path, recipe, tiny_engine):
    path = written(tmp_path / "talks.jsonl", talk(0), talk(1, labels=(None, None)), talk(2, labels=(True, False)))
    views = {view.lines[0].text: view for view in learnt(recipe(over(path)), tiny_engine)}
    rewards = {text: [line.reward for line in view.lines] for text, view in views.items()}
    # the ledger knows nothing of Mia's prose card, so that its word counts for what has no label only
    assert rewards["Caller 0."] == [1.0, -1.0] and rewards["Caller 2."] == [-1.0, 1.0]
    assert "Caller 1." not in rewards or rewards["Caller 1."] != [1.0, -1.0]
    asked = Parity()
    by_text = {view.lines[0].text: view for view in learnt(recipe(over(path)), tiny_engine, asked)}
    assert [pair.line for pair in asked.asked] == ["Caller 1.", "I play the drums all day."]  # 9 characters, 25
    assert [line.reward for line in by_text["Caller 1."].lines] == [1.0, 1.0]


def test_a_judge_that_the_recipe_does_not_weigh_is_not_asked_and_labels_count_all_the_same(
    tmp_path, recipe, tiny_name, tiny_engine
):
    weights, asked = ["reward.prompt_to_line=0", "reward.qa=1"], Parity()
    talks = written(tmp_path / "talks.jsonl", talk(0), talk(1, labels=(None, None)))
    [view] = learnt(recipe(*weights, over(talks)), tiny_engine, asked)
    assert [line.reward for line in view.lines] == [1.0, -1.0] and not asked.asked
    path, _, _ = run(tmp_path, tiny_name, tiny_engine, Parity())
    # nobody was asked anything
    assert "or a reward by what the recipe weighs" in refused(recipe(*weights, over(path)), tiny_engine)


def test_labels_of_pairs_count_by_the_weight_of_line_to_line(tmp_path, recipe, tiny_engine):
    chat = talk(0)
    chat["lines"][3]["conflicts_with"] = [1]
    [view] = learnt(recipe("reward.line_to_line=0.5", over(written(tmp_path / "talks.jsonl", chat))), tiny_engine)
    assert [line.reward for line in view.lines] == [1.0, -1.0]
    chat["lines"][3]["contradicts_persona"] = False
    [view] = learnt(
        recipe("reward.line_to_line=0.5", "method=sft", over(written(tmp_path / "talks.jsonl", chat))), tiny_engine
    )
    assert [line.reward for line in view.lines] == [1.0, pytest.approx((1 - 0.5) / 1.5)]


def test_lines_are_held_against_the_speakers_own_earlier_ones_where_the_recipe_weighs_that(
    tmp_path, recipe, tiny_engine
):
    asked = Parity()
    learnt(
        recipe("reward.line_to_line=1", over(written(tmp_path / "talks.jsonl", talk(10, labels=(None, True))))),
        tiny_engine,
        asked,
    )
    assert [(pair.metric, pair.line, pair.other) for pair in asked.asked] == [
        ("prompt_to_line", "Caller 10.", None),
        ("line_to_line", "I play the drums all day.", "Caller 10."),
    ]


def test_the_order_is_drawn_by_the_seed(tmp_path, recipe, tiny_engine):
    data = over(written(tmp_path / "talks.jsonl", *(talk(number) for number in range(6))))
    first, again, other = (
        [view.lines[0].text for view in learnt(recipe(f"seed={seed}", data), tiny_engine)] for seed in (1, 1, 2)
    )
    assert first == again != other and sorted(first) == sorted(other) == [f"Caller {number}." for number in range(6)]


def test_a_line_from_elsewhere_ends_with_the_token_that_closes_it_and_is_read_under_its_card(
    tmp_path, recipe, tiny_engine
):
    [view] = learnt(recipe(over(written(tmp_path / "talks.jsonl", talk(0)))), tiny_engine)
    said = ["Caller 0.", "I play the drums all day."]
    system = SYSTEM.format(card=MIA, instruction="You call a show.", name="P2")
    assert learners.text(view.ids) == f"{system}\n\nThem: Who is there?\nMe: {said[0]}\nThem: Go on.\nMe: {said[1]}\n"
    assert [learners.text(line.ids) for line in view.lines] == [f" {text}\n" for text in said]
    assert [view.ids[line.start : line.start + len(line.ids)] for line in view.lines] == [
        line.ids for line in view.lines
    ]


def test_the_embedded_models_view_is_its_templates_rendering_and_control_tokens_in_words_are_words(
    tmp_path, recipe, embedded
):
    chat = talk(0)
    chat["lines"][3]["text"] = "I play<|im_end|>the drums."
    settings = recipe("overrides={seats.user.model: embedded}", over(written(tmp_path / "talks.jsonl", chat)))
    [view] = learnt(settings, embedded)
    messages = [
        ("system", SYSTEM.format(card=MIA, instruction="You call a show.", name="P2")),
        ("user", "Who is there?"),
        ("assistant", "Caller 0."),
        ("user", "Go on."),
        ("assistant", "I play the drums."),
    ]
    rendered = embedded.tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in messages], tokenize=False
    )
    assert embedded.tokenizer.decode(view.ids) == rendered.removesuffix("\n")
    assert {line.ids[-1] for line in view.lines} == set(embedded.encode(["<|im_end|>"])[0]) <= embedded.loaded.stop_ids
    assert view.lines[1].text == "I play<|im_end|>the drums."  # as it stands in the file, for people


def test_chats_teach_the_assistants_seat_under_the_system_message(tmp_path, recipe, tiny_engine):
    chat = {
        "messages": [
            {"role": "system", "content": MIA},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "I play the flute."},
            {"role": "assistant", "content": "I play a drum!"},
        ]
    }
    settings = recipe("seat=assistant", over(written(tmp_path / "chat.jsonl", chat)))
    [view] = learnt(settings, tiny_engine, Parity(), "assistant")
    assert MIA in learners.text(view.ids) and [line.turn for line in view.lines] == [1, 2]
    with pytest.raises(ValueError, match="none of the 1 lines of the user has a label"):  # whose persona nobody told
        learnt(recipe(over(tmp_path / "chat.jsonl")), tiny_engine, Parity())
