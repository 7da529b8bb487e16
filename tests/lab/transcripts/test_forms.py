"""The forms in which others store conversations: what is a line, whose it is, what is the card, what is left out."""

from __future__ import annotations

import json
import time

import polars as pl
import pytest

from agents.seats.base import SPEAKS_FIRST
from lab.transcripts.messages import MARK, omissions
from lab.transcripts.reading import read_transcripts
from lab.transcripts.scoring import read_task, sources_read
from lab.transcripts.transcript import transcript_pairs

CARD = "You are Nora. You mend clocks in Turin."
SYSTEM = {"role": "system", "content": CARD}
ASKS = {"role": "user", "content": "Who are you?"}
ANSWERS = {"role": "assistant", "content": "I am Nora."}
TALK = [("user", "Who are you?"), ("assistant", "I am Nora.")]
CALL = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def read(tmp_path, *records, form=None, code="utf-8"):
    path = tmp_path / "talks.jsonl"
    path.write_bytes("\n".join(json.dumps(record) for record in records).encode(code))
    return read_transcripts(path, form)


def said(transcript):
    return [(line.seat, line.text) for line in transcript.lines]


def sharegpt(*roles):
    return {"conversations": [{"from": role, "value": words} for role, (_, words) in zip(roles, TALK, strict=True)]}


@pytest.mark.parametrize(
    ("record", "form"),
    [
        ({"messages": [SYSTEM, ASKS, ANSWERS]}, "chat messages"),
        ([SYSTEM, ASKS, ANSWERS], "chat messages"),
        ({"messages": [SYSTEM | {"role": "developer"}, ASKS, ANSWERS]}, "chat messages"),
        ({"system_prompt": CARD, "messages": [ASKS, ANSWERS]}, "chat messages"),
        (sharegpt("human", "gpt") | {"system": CARD}, "ShareGPT rows"),
        (sharegpt("Human", "bot") | {"system": CARD}, "ShareGPT rows"),
        (sharegpt("USER:", "CHARACTER:") | {"system": CARD}, "ShareGPT rows"),
        (sharegpt("prompter", "ai") | {"system": CARD}, "ShareGPT rows"),
        (sharegpt("customer", "model") | {"system": CARD}, "ShareGPT rows"),
        ({"conversation_id": "c", "model": "m", "conversation": [SYSTEM, ASKS, ANSWERS]}, "LMSYS rows"),
        ({"conversation_hash": "h", "turn": 1, "conversation": [SYSTEM, ASKS | {"toxic": False}, ANSWERS]}, "WildChat"),
        ({"prompt": [SYSTEM, ASKS], "completion": [ANSWERS], "label": True}, "TRL rows"),
        ({"prompt": [SYSTEM, ASKS], "completion": "I am Nora."}, "TRL rows"),
        (
            {
                "prompt": f"<|im_start|>system\n{CARD}<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
                "<|im_start|>assistant\n",
                "completion": " I am Nora.",
            },
            "TRL rows",
        ),
        ({"eval": {}, "samples": [{"id": 1, "epoch": 1, "messages": [SYSTEM, ASKS, ANSWERS]}]}, "inspect_ai log"),
        ({"simulations": [{"id": "s", "messages": [SYSTEM, ASKS, ANSWERS]}], "tasks": []}, "tau2-bench results"),
        ({"traj": [SYSTEM, ASKS, ANSWERS], "reward": 1.0}, "tau2-bench results"),
    ],
)
def test_each_form_gives_the_same_lines_and_the_same_card(tmp_path, record, form):
    source = read(tmp_path, record)
    (talk,) = source.transcripts
    assert (said(talk), talk.cast["assistant"].card, talk.cast["user"].card) == (TALK, CARD, "")
    assert source.form.startswith(form) and not talk.omitted


def test_tool_calls_results_thoughts_and_pictures_are_no_lines(tmp_path):
    messages = [
        SYSTEM,
        {"role": "user", "content": [{"type": "text", "text": "What time is it?"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "7:10", "name": "clock"},
        {"role": "assistant", "content": "", "function_call": {"name": "clock"}},
        {"role": "function", "content": None, "name": "clock"},
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "reasoning": "Early."}, {"type": "text", "text": "7."}],
        },
        {"role": "assistant", "content": "And ten.", "tool_calls": [CALL]},
        {"role": "user", "content": None},
        {"role": "assistant", "content": None, "refusal": "No more."},
    ]
    (talk,) = read(tmp_path, {"messages": messages}).transcripts
    texts = ["What time is it?", "7.", "And ten.", "No more."]
    assert [text for _, text in said(talk)] == texts
    assert dict(talk.omitted) == {
        "part without text": 1,
        "tool call": 4,
        "tool result": 2,
        "thought": 1,
        "message without words": 1,
    }
    assert "4 tool calls are no part of what was said" in omissions(talk.omitted)


def test_system_messages_after_the_first_line_are_no_card_and_are_reported(tmp_path):
    later = {"role": "system", "content": "From now on you are Ugo, a diver from Bari."}
    source = read(tmp_path, {"messages": [SYSTEM, ASKS, later, ANSWERS, later]}, {"messages": [SYSTEM, ASKS, ANSWERS]})
    told, plain = source.transcripts
    assert told.cast == plain.cast and said(told) == said(plain)
    lines = list(sources_read(read_task([source])))
    assert [line for line in lines if "not part of the card" in line] == [
        "  conversation 0: 2 system messages after the first line are not part of the card"
    ]


def test_many_conversations_with_something_left_out_are_summed(tmp_path):
    record = {"messages": [ASKS, {"role": "tool", "content": "x"}, ANSWERS]}
    lines = list(sources_read(read_task([read(tmp_path, *[record] * 7)])))
    assert sum("1 tool result is" in line for line in lines) == 5
    assert lines[-1] == "  7 conversations in all: 7 tool results are no part of what was said"


def named(name, role="user", words="Hello."):
    return {"role": role, "name": name, "content": words}


def test_more_than_two_speakers_are_left_out_by_their_names(tmp_path):
    group = {"messages": [SYSTEM, named("Ada"), named("Leo"), ANSWERS | {"name": "Nora"}]}
    marked = {"messages": [named(None, words=f"{name}: Hello.") for name in ("Ada", "Leo") * 2] + [ANSWERS]}
    source = read(tmp_path, group, marked, {"messages": [ASKS, ANSWERS]})
    assert len(source.transcripts) == 1
    assert "has 3 speakers (Ada, Leo, Nora); expected two" in source.left_out[0]
    assert "has 3 speakers (Ada, Leo, the assistant without a name)" in source.left_out[1]


def test_names_tell_two_people_apart_under_one_role(tmp_path):
    words = [("Ada", "I live in Rome."), ("Leo", "I live in Oslo."), ("Ada", "In Rome."), ("Leo", "In Oslo.")]
    (talk,) = read(tmp_path, {"messages": [SYSTEM, *(named(name, "user", text) for name, text in words)]}).transcripts
    assert {line.text[-5:]: line.seat for line in talk.lines} == {"Rome.": "user", "Oslo.": "assistant"}
    pairs = list(transcript_pairs(talk, {"line_to_line"}))
    assert sorted((pair.line, pair.other) for pair in pairs) == [
        ("In Oslo.", "I live in Oslo."),
        ("In Rome.", "I live in Rome."),
    ]
    assert [talk.cast[seat].name for seat in ("user", "assistant")] == ["Ada", "Leo"]
    assert talk.cast["assistant"].card == "" and talk.omitted == {"system message": 1}  # whose card it is, nobody says


def test_one_name_for_each_role_names_the_personas(tmp_path):
    (talk,) = read(tmp_path, {"messages": [SYSTEM, named("Ada"), ANSWERS | {"name": "Nora"}, ASKS]}).transcripts
    assert (talk.cast["user"].name, talk.cast["assistant"].name, talk.cast["assistant"].card) == ("Ada", "Nora", CARD)


def published(words, **more):
    cards = {"P1": "You are Ida, a baker from Kiel.", "P2": "You are Otto, a pilot from Graz."}
    return cards | {"conversation": [[place, text] for place, text in enumerate(words)]} | more


OTTO_BEGINS = ["Hello, I bake not.", "Hello, I bake.", "I fly at night.", "I sleep at night."]


def marked(*names, **more):
    return published([f"{name}: {text}" for name, text in zip(names, OTTO_BEGINS, strict=True)], **more)


@pytest.mark.parametrize(
    ("record", "seats"),
    [
        (published(OTTO_BEGINS), "assistant user assistant user"),
        (published(OTTO_BEGINS, pturn=1), "assistant user assistant user"),
        (published(OTTO_BEGINS, pturn=2), "user assistant user assistant"),
        (
            published([f"{'Otto' if i % 2 == 0 else 'Ida'}: {t}" for i, t in enumerate(OTTO_BEGINS)]),
            "user assistant " * 2,
        ),
        (  # a speaker goes on: the names say so
            marked("Otto", "Otto", "Ida", "Ida", pturn=2),
            "user user assistant assistant",
        ),
    ],
)
def test_published_json_says_who_begins_and_names_are_no_part_of_lines(tmp_path, record, seats):
    (talk,) = read(tmp_path, record).transcripts
    assert [line.seat for line in talk.lines] == seats.split()
    assert [line.text for line in talk.lines] == OTTO_BEGINS
    assert talk.cast["assistant"].card.startswith("You are Ida")


@pytest.mark.parametrize(
    ("lines", "read_as"),
    [
        (["Nora: I am Nora.", "I mend clocks."], ["I am Nora.", "I mend clocks."]),  # the card's name
        (["**Nora:** Hello.", "[Nora]: Yes."], ["Hello.", "Yes."]),
        (["Assistant: Hello."], ["Hello."]),
        (["Clerk: Hello.", "Clerk: Yes."], ["Hello.", "Yes."]),  # before all lines
        (["Note: I am late.", "I mend clocks."], ["Note: I am late.", "I mend clocks."]),
        (["Leo: Hello."], ["Leo: Hello."]),  # somebody else's
        (["At 7:10 then.", "https://x.org is it."], ["At 7:10 then.", "https://x.org is it."]),
        (["Nora:", "Yes."], ["Nora:", "Yes."]),
    ],
)
def test_a_name_before_a_line_is_taken_away_where_it_is_the_speakers(tmp_path, lines, read_as):
    messages = [SYSTEM, ASKS, *({"role": "assistant", "content": text} for text in lines)]
    (talk,) = read(tmp_path, {"messages": messages}).transcripts
    assert [text for seat, text in said(talk) if seat == "assistant"] == read_as


def test_tau2_gives_the_users_scenario_as_card_and_leaves_stop_marks_out(tmp_path):
    scenario = {"persona": "You are curt.", "instructions": {"known_info": "You are Ada Bo.", "domain": "retail"}}
    messages = [ANSWERS, {"role": "user", "content": "Fine. ###STOP###"}, {"role": "user", "content": "###TRANSFER###"}]
    record = {
        "tasks": [{"id": "7", "user_scenario": scenario}],
        "simulations": [{"id": "s", "task_id": "7", "messages": messages}, {"id": "t", "task_id": "7"}],
    }
    source = read(tmp_path, record)
    (talk,) = source.transcripts
    assert talk.cast["user"].card == "You are curt.\nYou are Ada Bo." and talk.omitted == {"stop mark": 2}
    assert [text for _, text in said(talk)] == ["I am Nora.", "Fine."]
    assert "line 1, simulation 1: has no messages" in source.left_out[0]


def test_preferences_are_a_conversation_with_each_answer(tmp_path):
    row = {"prompt": [SYSTEM, ASKS], "chosen": [ANSWERS], "rejected": [ANSWERS | {"content": "I am Ugo."}]}
    talks = [
        {key: "\n\nHuman: Who are you?\n\nAssistant: " + text for key, text in answers.items()}
        for answers in [{"chosen": "I am Nora.", "rejected": "I am Ugo."}]
    ]
    for record in (row, *talks):
        chosen, rejected = read(tmp_path, record).transcripts
        assert said(chosen) == TALK and said(rejected)[-1] == ("assistant", "I am Ugo.")
        assert (chosen.conversation, rejected.conversation) == (0, 1)


def test_rows_that_the_next_row_continues_are_one_conversation(tmp_path):
    cue = {"role": "user", "content": SPEAKS_FIRST}
    hello = {"role": "assistant", "content": "Hello."}
    rows = [
        {"prompt": [SYSTEM, cue], "completion": [hello]},
        {"prompt": [SYSTEM, cue, hello, ASKS], "completion": [ANSWERS]},
        {"prompt": [SYSTEM, ASKS], "completion": [ANSWERS]},
    ]
    source = read(tmp_path, *rows)
    assert [said(talk) for talk in source.transcripts] == [[("assistant", "Hello."), *TALK], TALK]
    assert [talk.conversation for talk in source.transcripts] == [0, 1]
    assert source.notes == ("rows that the next row continues, and that are counted with it: 1",)


def test_the_form_can_be_named(tmp_path):
    row = {"messages": [ASKS], "prompt": "Who are you?", "chosen": "I am Nora.", "rejected": "I am Ugo."}
    assert len(read(tmp_path, row).transcripts) == 1 and len(read(tmp_path, row, form="trl").transcripts) == 2
    with pytest.raises(ValueError, match=r"line 1: is not of the form sharegpt; its keys are messages, prompt"):
        read(tmp_path, row, form="sharegpt")
    with pytest.raises(ValueError, match=r"the form is 'sharegtp'.*sharegpt"):
        read(tmp_path, row, form="sharegtp")


@pytest.mark.parametrize("code", ["utf-16", "utf-8-sig"])
def test_text_with_a_byte_order_mark_is_read(tmp_path, code):
    (talk,) = read(tmp_path, {"messages": [SYSTEM, ASKS, ANSWERS]}, code=code).transcripts
    assert said(talk) == TALK


def test_parquet_is_read_by_its_columns(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Nora."}]
    frame = pl.DataFrame({"conversation_hash": ["h"], "conversation": [rows], "language": ["English"]})
    frame.write_parquet(path)
    (talk,) = read_transcripts(path).transcripts
    assert (talk.name, said(talk)) == ("h", TALK)
    frame.select("language").write_parquet(path)
    with pytest.raises(ValueError, match="has no column of a conversation"):
        read_transcripts(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="is a damaged parquet file"):
        read_transcripts(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"messages": [{"role": "Zoe", "content": "x"}]}, "messages.0.role: is 'Zoe'; expected user, assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "holds no line of user or assistant"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages.0.content"),
        ({"messages": 3}, "messages: Input should be a valid list"),
        ({"conversations": [3]}, "messages.0: Input should be"),
        ({"samples": None, "eval": {}}, "samples: is NoneType; expected a list"),
        ({"simulations": {"a": 1}}, "simulations: is dict; expected a list"),
        ({"prompt": 3, "completion": "x"}, "prompt: is int; expected messages, or a text"),
        ({"prompt": "[INST] Hi [/INST]", "completion": "x"}, "the marks of a chat template; expected messages"),
        (published(["A: x", "B: x", "C: x"] * 2), "conversation: has 3 speakers (A, B, C); expected two"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, record, message):
    with pytest.raises(ValueError) as refused:
        read(tmp_path, record)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_too_large_or_no_files_are_refused(tmp_path, monkeypatch):
    from lab.transcripts import reading

    monkeypatch.setattr(reading, "LARGEST", 10)
    with pytest.raises(ValueError, match="is larger than"):
        read(tmp_path, {"messages": [ASKS]})
    with pytest.raises(ValueError, match="is a device; expected"):
        read_transcripts("/dev/null")
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="inspect log convert --to json"):
        read_transcripts(tmp_path / "log.eval")


@pytest.mark.parametrize("piece", ["a", "a ", "A.", "*", " ", "A: ", "'"])
def test_marks_are_looked_for_in_bounded_time(piece):
    text = piece * 300_000
    began = time.perf_counter()
    MARK.match(text)
    assert time.perf_counter() - began < 1.0
