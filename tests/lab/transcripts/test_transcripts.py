"""Conversations from elsewhere: what is read, who sits where, and what is refused."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lab.transcripts.reading import read_transcripts
from lab.transcripts.record_forms import persona
from lab.transcripts.transcript import transcript_pairs
from metrics.judges.ledger import Ledger
from scenarios import personas
from scenarios.yaml_files import validate

CHAT = {
    "messages": [
        {"role": "system", "content": "You are Mia."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am Mia."},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "now?"}]},
        {"role": "assistant", "content": "Mia still."},
    ]
}
LABELLED = {
    "id": "x#1",
    "roles": {"P1": "Teacher", "P2": "Student"},
    "personas": {"P1": "", "P2": "I am shy."},
    "lines": [
        {"i": 0, "speaker": "P1", "text": "Welcome.", "contradicts_persona": None, "conflicts_with": None},
        {"i": 1, "speaker": "P2", "text": "Hi.\n", "contradicts_persona": False, "conflicts_with": None},
        {"i": 2, "speaker": "P1", "text": "Sit down.", "contradicts_persona": None, "conflicts_with": []},
        {"i": 3, "speaker": "P2", "text": "I LOVE crowds!", "contradicts_persona": True, "conflicts_with": [1, 2]},
    ],
}
PUBLISHED = {
    "task_name": "Chatting",
    "P1": json.dumps('Ann, called "A".\nA nurse.'),
    "P2": "Bob is a cook.",
    "pturn": 1,
    "conversation": [[0, "Ann: Hello.\n"], [1, "Bob: I cook."], [2, "Ann: I cook too."], [3, "Bob: I never cook."]],
    "eval_prompt_consistency": [
        [0, "Fine. NO"],
        [1, "No contradiction, NO."],
        [2, "She nurses.\n\nYES"],
        [3, "YES and NO"],
    ],
    "eval_index_consistency": [[2, "No conflict with [1] of the other. []"], [3, "He said he cooks: [1]"]],
}


def written(tmp_path, *records, name="chats.jsonl", compress=False):
    path = tmp_path / name
    data = "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if compress else data)
    return path


def test_roles_are_seats_and_the_system_message_is_the_assistants_card(tmp_path):
    (chat,) = read_transcripts(written(tmp_path, CHAT)).transcripts
    assert [(line.turn, line.seat, line.text) for line in chat.lines] == [
        (0, "user", "Who are you?"),
        (1, "assistant", "I am Mia."),
        (2, "user", "And\nnow?"),
        (3, "assistant", "Mia still."),
    ]
    assert (chat.cast["assistant"].card, chat.cast["user"].card) == ("You are Mia.", "") and chat.cast[
        "assistant"
    ].facts == ()


def test_personas_that_are_given_go_before_the_system_message(tmp_path):
    (chat,) = read_transcripts(
        written(tmp_path, CHAT | {"personas": {"user": "You are Leo.", "assistant": "You are Zoe."}})
    ).transcripts
    assert (chat.cast["user"].card, chat.cast["assistant"].card) == ("You are Leo.", "You are Zoe.")


def test_a_person_with_facts_is_made_once_and_the_slots_are_read_once(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(personas, "validate", lambda document, shape: parsed.append(shape) or validate(document, shape))
    given = [{"name": name, "facts": {"age": age, "job": "a nurse"}} for name in ("Ann", "Ben") for age in (31, 32)]
    records = [{**CHAT, "personas": {"user": given[number % 4]}} for number in range(40)]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    chats = read_transcripts(file).transcripts
    people = [chat.cast["user"] for chat in chats]
    assert [person.facts[1].value for person in people[:4]] == ["31", "32", "31", "32"]
    assert len({id(person) for person in people}) == len({person.id for person in people}) == 4
    assert len(parsed) <= 2


def test_labelled_lines_give_labels_by_line_and_by_pair_of_own_lines(tmp_path):
    (transcript,) = read_transcripts(written(tmp_path, LABELLED)).transcripts
    assert [line.seat for line in transcript.lines] == ["assistant", "user", "assistant", "user"] and transcript.lines[
        1
    ].text == "Hi."
    assert (
        transcript.name == "x#1"
        and transcript.cast["user"].name == "Student"
        and transcript.cast["assistant"].card == ""
    )
    # turn 3 is said to conflict with 1, its own, and with 2, which is the teacher's: a stray
    assert transcript.labels == {
        (0, "persona"): None,
        (1, "persona"): False,
        (2, "persona"): None,
        (2, "0"): False,
        (3, "persona"): True,
        (3, "1"): True,
    }
    assert transcript.strays == 1


def test_published_json_is_read_with_the_judges_words_as_labels(tmp_path):
    source = read_transcripts(
        written(tmp_path, json.dumps([PUBLISHED, PUBLISHED], indent=1), name="raw.json.gz", compress=True)
    )
    first, second = source.transcripts
    assert first.cast["assistant"].card == 'Ann, called "A".\nA nurse.' and first.cast["user"].card == "Bob is a cook."
    assert first.labels == {
        (0, "persona"): False,
        (1, "persona"): False,
        (2, "persona"): True,
        (3, "persona"): None,
        (2, "0"): False,
        (3, "1"): True,
    }
    assert [line.text for line in first.lines] == [
        "Hello.",
        "I cook.",
        "I cook too.",
        "I never cook.",
    ]
    assert (second.conversation, {line.conversation for line in second.lines}) == (1, {1})


def test_published_json_may_lack_a_persona_the_turns_and_the_judges_words(tmp_path):
    lesson = {
        "P2": "I am shy.",
        "conversation": ["Teacher: Hi.", "Student: I LOVE crowds!"],
        "eval_prompt_consistency": [[1, "YES"]],
    }
    (first, second) = read_transcripts(
        written(tmp_path, lesson, {"P1": None, "P2": "x", "conversation": [[0, "A"]]})
    ).transcripts
    assert first.labels == {(0, "persona"): None, (1, "persona"): True}
    assert (first.cast["assistant"].card, first.cast["user"].card, second.cast["assistant"].card) == (
        "",
        "I am shy.",
        "",
    )


def test_gzip_is_known_by_its_content_and_not_by_its_name(tmp_path):
    plain, packed = written(tmp_path, CHAT), written(tmp_path, CHAT, name="packed.jsonl", compress=True)
    assert (
        read_transcripts(plain).transcripts == read_transcripts(packed).transcripts
        and read_transcripts(plain).digest == read_transcripts(packed).digest
    )


def test_one_conversation_that_cannot_be_read_does_not_lose_the_others(tmp_path):
    number = CHAT | {"messages": [{"role": "user", "content": 7}]}
    tool = CHAT | {"messages": [{"role": "tool", "content": "x"}]}
    path = written(
        tmp_path,
        CHAT,
        "{torn",
        number,
        "",
        tool,
        {"text": "x"},
        {"messages": [{"role": "system", "content": "x"}]},
        CHAT,
    )
    source = read_transcripts(path)
    assert [transcript.conversation for transcript in source.transcripts] == [0, 1] and len(source.left_out) == 5
    expected = [
        ("line 2", "is no JSON"),
        ("line 3", "messages.0.content: Input should be a valid string"),
        ("line 5", "holds no line of user or assistant"),
        ("line 6", "is no conversation; expected `messages`"),
        ("line 7", "holds no line of user or assistant"),
    ]
    for sentence, (where, why) in zip(source.left_out, expected, strict=True):
        assert sentence.startswith(f"{path}, {where}: ") and why in sentence


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"conversation,turn\n0,1\n", "line 1: is no JSON"),
        (b"", "line 1: there is no conversation; expected `messages`"),
        (b"\xe9\n{}", "line 1: is no text in UTF-8"),
        (gzip.compress(b"{}", mtime=0)[:-6], "is a damaged gzip file"),
        (b"[" * 100_000, "is JSON nested too deep"),
        (b'[{"messages": 1}', ": is no JSON"),
        (b'{"messages": [{"content": "Hi"}]}', "line 1: messages.0.role is missing"),
        (json.dumps(LABELLED | {"lines": [LABELLED["lines"][1]]}).encode(), "lines.0.i: is 1; expected 0"),
    ],
)
def test_file_that_is_none_of_the_forms_is_refused_with_one_sentence(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refused:
        read_transcripts(path)
    assert str(refused.value).startswith(str(path)) and message in str(refused.value) and "\n" not in str(refused.value)


def test_personas_of_the_documented_chats_are_texts_or_have_facts(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "personas.md").read_text(encoding="utf-8")
    file = tmp_path / "chats.jsonl"
    file.write_text(page.partition("```json\n")[2].partition("```")[0], encoding="utf-8")
    source = read_transcripts(file)
    text, known = (transcript.cast for transcript in source.transcripts)
    assert source.left_out == () and (text["user"].facts, known["assistant"].facts) == ((), ())
    assert {fact.id: fact.value for fact in known["user"].facts} == {"name": "Ada", "home": "Bergen", "pet": "cat"}
    assert known["user"].card == "Ada lives in Bergen with her cat." and known["user"].id.startswith("ada-")
    pairs = list(transcript_pairs(source.transcripts[1], {"prompt_to_line"}))
    assert [row.against for row in Ledger().judge(pairs) if row.verdict] == ["persona", "home"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "personas.user: Input should be a valid string"),
        ({"name": "Ada", "fcts": {}}, "personas.user.fcts: Extra inputs are not permitted"),
        ({"name": "Ada", "facts": {"hme": "Bergen"}}, "personas.user.facts.hme is no slot of the slots file"),
        ({"name": "Ada", "facts": {"name": "Eve"}}, "personas.user.facts.name is 'Eve', but the persona is called"),
    ],
)
def test_personas_that_are_not_valid_are_named(tmp_path, given, message):
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi."}], "personas": {"user": given}}))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_transcripts(file)


def test_file_that_is_not_there_and_folder_that_is_no_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist; expected"):
        read_transcripts(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="is no run"):
        read_transcripts(tmp_path)


def test_pairs_know_the_partner_and_what_was_heard_and_come_in_a_runs_order(tmp_path):
    (transcript,) = read_transcripts(written(tmp_path, LABELLED)).transcripts
    listed = list(transcript_pairs(transcript, {"prompt_to_line", "line_to_line"}))
    assert [(pair.turn, pair.metric, pair.against, pair.heard) for pair in listed] == [
        (0, "prompt_to_line", "persona", ""),
        (1, "prompt_to_line", "persona", "Welcome."),
        (2, "prompt_to_line", "persona", "Hi."),
        (2, "line_to_line", "0", "Hi."),
        (3, "prompt_to_line", "persona", "Sit down."),
        (3, "line_to_line", "1", "Sit down."),
    ]
    assert (
        listed[1].persona is transcript.cast["user"]
        and listed[1].partner is transcript.cast["assistant"]
        and listed[-1].other == "Hi."
    )
    assert [pair.metric for pair in transcript_pairs(transcript, {"line_to_line"})] == ["line_to_line"] * 2


def test_retrieved_pairs_are_a_part_of_all_pairs(tmp_path):
    talk = {"messages": [{"role": "user", "content": f"I have {number} cats."} for number in range(11)]}
    (transcript,) = read_transcripts(written(tmp_path, talk)).transcripts

    def embed(texts):
        return np.eye(11)[[int(text.split()[2]) for text in texts]]

    every, retrieved = (list(transcript_pairs(transcript, {"line_to_line"}, how)) for how in (None, embed))
    assert len(every) == 55 and 10 <= len(retrieved) < 20 and all(pair in every for pair in retrieved)


def test_the_same_text_is_the_same_persona_and_lone_surrogates_are_replaced():
    assert persona("I am shy.", "A").id == persona(" I am shy.", "B").id != persona("I am bold.", "A").id
    assert persona("odd \ud800", "A").card == "odd ?"


@pytest.mark.parametrize("listed", [False, True])
def test_text_that_is_no_utf_8_costs_its_conversation_alone(listed, tmp_path):
    said = [[{"role": "user", "content": text}] for text in ("Café", "CAF\u00c9", "Hi")]
    rows = [json.dumps({"messages": messages}, ensure_ascii=False).encode() for messages in said]
    rows[0] = rows[0].replace("é".encode(), b"\xe9")  # as Latin-1 has it
    path = tmp_path / "chats.json"
    path.write_bytes(b"[" + b",\n".join(rows) + b"]" if listed else b"\n".join(rows))
    source = read_transcripts(path)
    assert [transcript.lines[0].text for transcript in source.transcripts] == ["CAFÉ", "Hi"]
    (sentence,) = source.left_out
    place = "conversation 0" if listed else "line 1"
    assert sentence == f"{path}, {place}: is no text in UTF-8; expected it, or UTF-16 with a byte order mark"
