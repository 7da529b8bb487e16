"""Personas of other formats: each form by its content, what is left out of it, and what is refused."""

from __future__ import annotations

import base64
import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import lab
from lab.persona_files import reading, rows
from lab.persona_files.reading import as_yaml, read_people
from lab.personas import main
from scenarios.personas import load_personas

CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Mira",
        "description": "{{char}} keeps a lighthouse.<script>alert('x')</script> She hates <b>fog</b>, <USER> not.",
        "personality": "dry ![portrait](http://example.org/m.png)",
        "scenario": "",
        "first_mes": "Ahoy!",
        "mes_example": "<START>",
        "character_book": {"entries": [{"content": "secret"}]},
    },
}
MIRA = "{{char}} keeps a lighthouse. She hates fog, {{user}} not.\nPersonality: dry"
TINY = {
    "type": "TinyPerson",
    "persona": {
        "name": "Lisa Carter",
        "age": 28,
        "residence": "Oslo",
        "occupation": {"title": "Data Scientist", "organization": "Nordlys", "description": "You read logs."},
        "personality": {"traits": ["You are curious."]},
        "preferences": {"likes": ["Clear code."]},
        "relationships": [{"name": "Alex", "description": "your colleague"}],
    },
}


@pytest.fixture
def written(tmp_path):
    """Writes a file, text or bytes, and returns its path."""

    def write(content: str | bytes, name: str = "people") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def cards(path: Path, **how) -> list[tuple[str, str | None]]:
    return [(person.name, person.card) for person in read_people(path, **how).people]


def png(*texts: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + b"\0" * 4

    body = [chunk(b"IHDR", bytes(13)), *(chunk(b"tEXt", b"\0".join(text)) for text in texts), chunk(b"IEND", b"")]
    return rows.PNG + b"".join(body)


def encoded(card: dict) -> bytes:
    return base64.b64encode(json.dumps(card).encode())


def test_personahub_lines_are_cards_and_get_names_in_order(written):
    path = written('{"persona": "A mathematician who keeps bees"}\n{"persona": "I paint boats."}\n')
    assert cards(path) == [("Alex", "A mathematician who keeps bees"), ("Robin", "I paint boats.")]


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("Ada Lund is a baker.", "Ada Lund"),
        ("My name is Bo. I bake.", "Bo"),
        ("You are Cy, a sailor.", "Cy"),
        ("Meet Dora, a nurse.", "Dora"),
        ("The baker is tired.", "Alex"),
        ("She is a baker.", "Alex"),
        ("I am Norwegian", "Alex"),
    ],
)
def test_a_name_in_the_card_is_the_personas(written, card, name):
    assert cards(written(json.dumps({"persona": card}))) == [(name, card)]


@pytest.mark.parametrize("form", ["json", "jsonl", "pretty", "v1", "png", "gzip"])
def test_a_character_card_gives_its_text_and_nothing_else(written, form):
    texts = {
        "json": json.dumps([CARD]),
        "jsonl": json.dumps(CARD),
        "pretty": json.dumps(CARD, indent=2),
        "v1": json.dumps(CARD["data"]),
        "png": png((b"Comment", b"x"), (b"chara", encoded(CARD))),
        "gzip": gzip.compress(json.dumps(CARD).encode()),
    }
    read = read_people(written(texts[form]))
    assert [(person.name, person.card) for person in read.people] == [("Mira", MIRA)]
    [note] = read.notes
    assert note == "left out of the character cards: example dialogue, greetings, lorebook, scripts, images and markup"


def test_the_newer_card_of_a_png_is_read(written):
    newer = {"spec": "chara_card_v3", "data": {"name": "Nia", "description": "Nia dives."}}
    path = written(png((b"chara", encoded(CARD)), (b"ccv3", encoded(newer))))
    assert cards(path) == [("Nia", "Nia dives.")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(), "is an image without a character card"),
        (png((b"chara", b"!!")), "its text 'chara' is no base64 of JSON"),
        (rows.PNG + (2**31).to_bytes(4, "big") + b"tEXt", "holds a text of 2,147,483,648 bytes; expected at most"),
    ],
)
def test_an_image_without_a_card_is_refused(written, content, expected):
    with pytest.raises(ValueError, match=expected):
        read_people(written(content))


def test_a_tinytroupe_agent_becomes_sentences(written):
    [(name, card)] = cards(written(json.dumps(TINY, indent=1)))
    assert name == "Lisa Carter"
    assert card.splitlines() == [
        "You are 28 years old.",
        "You live in Oslo.",
        "Your occupation: Data Scientist.",
        "You work at Nordlys.",
        "You read logs.",
        "You are curious.",
        "You like: Clear code.",
        "Relationships: Alex: your colleague",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[["i like to ski .", "i \'ve 2 dogs"], ["i am from ohio ."]]',
        '[["i like to ski .", "i \'ve 2 dogs"],\n ["i am from ohio ."]]',
        '{"personality": ["i like to ski .", "i \'ve 2 dogs"]}\n{"personality": ["i am from ohio ."]}',
        "1 your persona: i like to ski .\n2 your persona: i 've 2 dogs\n3 hi\tho\n1 your persona: i am from ohio .",
        "1 your persona: i like to ski .\n2 your persona: i 've 2 dogs\n3 partner's persona: i am from ohio .\n4 a\tb",
    ],
)
def test_personachat_lists_become_sentences_of_one_speaker_each(written, text):
    assert [card for _, card in cards(written(text))] == ["I like to ski. I've 2 dogs.", "I am from ohio."]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ('id,name,persona\n1,Ann,"Ann bakes,\nand sings."\n', {}),
        ("id\tname\tpersona\n1\tAnn\tAnn bakes,\\nand sings.\n", {"form": "tsv"}),
        ('name,life\nAnn,"Ann bakes,\nand sings."\n', {"column": "life"}),
        ('persona\n"Ann is one who bakes,\nand sings."\n', {}),
    ],
)
def test_a_table_has_a_persona_in_each_row(written, text, how):
    [(name, card)] = cards(written(text), **how)
    assert name == "Ann" and card.endswith("sings.")


def test_both_users_of_a_synthetic_persona_chat_are_read(written):
    text = 'user 1 personas,user 2 personas\n"I ski.\nI bake.","I dive."\n'
    assert [card for _, card in cards(written(text))] == ["I ski.\nI bake.", "I dive."]


def test_parquet_is_read_as_far_as_the_limit(tmp_path):
    pl.DataFrame({"name": ["Ann", None, "Cy"], "text": ["I ski.", "I dive.", None]}).write_parquet(tmp_path / "p")
    assert cards(tmp_path / "p") == [("Ann", "I ski."), ("Alex", "I dive.")]
    assert cards(tmp_path / "p", limit=1) == [("Ann", "I ski.")]


def test_a_long_list_of_texts_is_a_persona_each(written):
    texts = [f"I own {number} boats." for number in range(11)]
    assert [card for _, card in cards(written(json.dumps(texts)))] == texts


def test_paragraphs_are_cards_where_that_is_asked_for(written):
    path = written("I keep goats\nand hum.\n\n\nI paint.\n")
    assert [card for _, card in cards(path, form="text")] == ["I keep goats\nand hum.", "I paint."]
    with pytest.raises(ValueError, match=r"is of no known form; expected JSON .* --form text takes each paragraph"):
        read_people(path)


def test_the_labs_own_file_keeps_ids_and_facts(tmp_path):
    own = "scenarios/personas/townsfolk.yaml"
    read = read_people(own, limit=3)
    assert [person.id for person in read.people] == ["grace", "tomas", "amina"]
    (tmp_path / "copy.yaml").write_text(as_yaml(read, own, tmp_path))
    assert [p.card for p in load_personas(tmp_path / "copy.yaml")] == [p.card for p in load_personas(own)[:3]]


def test_what_is_written_is_read_back_as_the_same_cards(written, tmp_path, capsys):
    texts = [
        "Zoë: “yes”\n- a list\n# no comment",
        "a: b, {c} {{char}} [d] & *e !f %g",
        "  x\t\x07 ",
        "null",
        "1e5",
        "日本",
    ]
    path = written("".join(json.dumps({"card": text}) + "\n" for text in texts))
    assert main([str(path), "--out", str(tmp_path / "people.yaml")]) == 0
    expected = [texts[0], texts[1].replace("{{char}}", "Robin"), "x", *texts[3:]]
    assert [persona.card for persona in load_personas(tmp_path / "people.yaml")] == expected
    assert "6 personas" in capsys.readouterr().err


def test_bad_rows_are_left_out_and_reported_with_their_lines(written):
    lines = [
        '{"persona": "I ski."}',
        "{broken",
        "",
        '{"foo": 1}',
        '{"persona": "  "}',
        '{"persona": 3}',
        '{"persona": "I ski."}',
    ]
    read = read_people(written("\n".join([*lines, '{"persona": "\\ud800"}', '{"persona": "I dive."}'])))
    assert [person.card for person in read.people] == ["I ski.", "I dive."]
    reasons = [line.partition("people, ")[2] for line in read.left_out]
    assert [reason.partition(":")[0] for reason in reasons] == ["line 2", "line 4", "line 5", "line 6", "line 8"]
    assert "has no key that holds a persona; its keys are foo" in reasons[1] and "is empty" in reasons[2]
    assert "5 rows left out" in read.notes and "1 repeated persona left out" in read.notes


def test_a_line_or_a_card_that_is_too_long_is_left_out(written, monkeypatch):
    monkeypatch.setattr(rows, "LONGEST_ROW", 60)
    path = written(json.dumps({"persona": "x" * 200}) + '\n{"persona": "I dive."}\n')
    read = read_people(path, form="jsonl")
    assert [person.card for person in read.people] == ["I dive."]
    assert read.left_out[0].endswith("line 1: is longer than 60 bytes")
    monkeypatch.setattr("lab.persona_files.records.LONGEST_CARD", 5)
    with pytest.raises(ValueError, match=r"line 1: is longer than 60 bytes"):
        read_people(path, form="jsonl")


def test_a_file_that_has_to_be_read_whole_is_bounded(written, monkeypatch):
    monkeypatch.setattr(rows, "LARGEST_FILE", 10)
    with pytest.raises(ValueError, match="is larger than 10 bytes; expected a smaller file, or JSON lines or CSV"):
        read_people(written(json.dumps([["i ski"]])))


def test_no_more_is_read_than_the_limit_asks_for(written, monkeypatch):
    asked = []
    parsed = rows.parsed_json
    monkeypatch.setattr(rows, "parsed_json", lambda text: asked.append(text) or parsed(text))
    path = written("".join(json.dumps({"persona": f"I own {n} boats."}) + "\n" for n in range(20_000)))
    read = read_people(path, limit=7)
    assert len(read.people) == 7 and len(asked) < 20
    assert "stopped at the limit of 7 personas; --limit N reads more" in read.notes


@pytest.mark.parametrize(
    ("content", "how", "expected"),
    [
        ("", {}, "people is empty"),
        ('{"foo": "x"}', {}, "line 1: has no key that holds a persona"),
        ("[]", {}, "holds no persona"),
        ("[" * 100_000, {}, "is JSON nested too deep"),
        ("a,b\n1,2\n", {}, "line 1: no column is named like the text of a persona; its columns are a, b"),
        ("a,b\n1,2\n", {"column": "c"}, "line 1: --column is 'c'; its columns are a, b"),
        ("PAR1 and no more", {}, "is a damaged parquet file"),
        (b"\x1f\x8b broken", {}, "is a damaged gzip file"),
        ("x", {"form": "word"}, "the form is 'word'"),
        ("x", {"limit": 0}, "the limit is 0; expected 1 or more"),
    ],
)
def test_a_file_without_any_persona_is_refused_in_one_sentence(written, content, how, expected):
    with pytest.raises(ValueError) as caught:
        read_people(written(content), **how)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_refused_with_the_nearest_name(written):
    path = written('{"persona": "x"}', "people.jsonl")
    with pytest.raises(ValueError, match="does not exist; did you mean"):
        read_people(path.with_name("peple.jsonl"))


def test_a_data_set_of_the_hub_is_streamed(monkeypatch):
    asked = []

    def load_dataset(*names, **how):
        asked.append((names, how))
        return ({"persona": f"I own {n} boats."} for n in range(10**9))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    read = read_people("hf:some/people/persona:test", limit=3)
    assert len(read.people) == 3
    assert asked == [(("some/people", "persona"), {"split": "test", "streaming": True})]


def test_a_data_set_without_the_library_or_the_network_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="needs the package datasets, which is not installed; expected it: pip"):
        read_people("hf:some/people")

    def load_dataset(*_, **__):
        raise ConnectionError("offline\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError, match=r"hf:some/people cannot be read \(offline\); expected a data set of the hub"):
        read_people("hf:some/people")
    with pytest.raises(ValueError, match="hf:people names no data set; expected hf:owner/name"):
        read_people("hf:people")


def test_python_gets_records(written):
    [mira] = lab.read_personas(written(json.dumps(CARD)))
    assert (mira.id, mira.facts) == ("mira", ()) and mira.card.startswith("Mira keeps a lighthouse.")
    assert [person.id for person in lab.read_personas("scenarios/personas/townsfolk.yaml", limit=np.int64(2))] == [
        "grace",
        "tomas",
    ]


def test_names_that_are_given_are_many(written):
    names = [reading.records.nth_name(number) for number in range(12_000)]
    assert len(set(names)) == len(names) and names[:2] == ["Alex", "Robin"]
