from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scenarios.scenario import load_scenario, scenario_differences
from scenarios.yaml_files import ScenarioError, parse_yaml, read_yaml

BUNDLED = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
PEOPLE = Path(__file__).parents[2] / "scenarios" / "personas" / "townsfolk.yaml"
SMALL = """\
name: small
seed: 1
conversations: 2
turns: 6
personas: {people}
seats:
  assistant: {{persona: grace}}
  user:
    persona: sample
    temperature: 0.8
graph:
  start: hello
  nodes:
    hello: {{says: ["Hi {{partner.name}}!"]}}
    chat: {{instruct: {{assistant: "Ask about their {{fact.slot}}."}}}}
  edges:
    - {{from: hello, to: chat}}
    - {{from: chat, to: hello, after: 2}}
"""


@pytest.fixture
def small(tmp_path):
    """Writes the small scenario with one text replaced by another and returns its path."""

    def write(old: str = "", new: str = "") -> Path:
        text = SMALL.format(people=PEOPLE)
        assert old in text
        path = tmp_path / "small.yaml"
        path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_scenario_loads_and_its_saved_copy_equals_it(path, tmp_path):
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    copy = tmp_path / "elsewhere.yaml"
    copy.write_text(scenario.resolved_yaml(), encoding="utf-8")
    again = load_scenario(copy)
    assert again == scenario
    assert again.digest() == scenario.digest()


def test_bundled_scenarios_are_the_four_promised_and_plain_talk():
    assert {path.stem for path in BUNDLED} == {"long_dialogue", "chitchat", "tutoring", "therapy", "chat"}


def test_defaults_are_filled_in(small):
    scenario = load_scenario(small())
    user = scenario.seats["user"]
    assert (user.model, user.temperature, user.top_k, user.top_p, user.max_tokens, user.sentences) == (
        "embedded",
        0.8,
        50,
        1.0,
        48,
        2,
    )
    assert scenario.measure.judge == ["combined"]
    assert (scenario.dtype, scenario.concurrency, scenario.measure.qa_every) == ("auto", 32, 4)


def test_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: does not exist; expected a YAML file"


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert "holds no keys" in refusal(tmp_path / "empty.yaml")


def test_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    assert "is not UTF-8 text at byte 6" in refusal(tmp_path / "bytes.yaml")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; expected a YAML file"


def test_syntax_error_names_line_and_column(small):
    message = refusal(small("seed: 1", "seed: [1"))
    assert "small.yaml, line 3, column 14: not valid YAML" in message  # the mark where a ',' or ']' was expected


def test_python_tags_are_refused(small):
    assert "not valid YAML" in refusal(small("seed: 1", "seed: !!python/object/apply:os.getcwd []"))


@pytest.mark.parametrize("value", ["2024-13-45", "0b_", "!!int x"])
def test_value_yaml_itself_cannot_read_is_refused(small, value):
    assert "small.yaml: holds a value that YAML cannot read" in refusal(small("name: small", f"name: {value}"))


def test_key_written_twice_is_refused_with_both_lines(small):
    message = refusal(small("turns: 6", "turns: 6\nseed: 2"))
    assert message.endswith("small.yaml, line 5: seed is written twice (first in line 2)")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "temperature: 0.8",
            "temprature: 0.8",
            "line 10: seats.user.temprature is no key of the file; did you mean 'temperature'?",
        ),
        ("seed: 1", "sed: 1", "line 2: sed is no key of the file; did you mean 'seed'?"),
        (
            "after: 2",
            "zzz: 2",
            "line 18: graph.edges.1.zzz is no key of the file; expected one of from, to, after, weight, contains, when",
        ),
        (
            "temperature: 0.8",
            "temperature: -1",
            "line 10: seats.user.temperature is -1; expected greater than or equal to 0",
        ),
        ("temperature: 0.8", "temperature: .nan", "line 10: seats.user.temperature is nan; expected a finite number"),
        ("temperature: 0.8", "top_p: 0", "line 10: seats.user.top_p is 0; expected greater than 0"),
        ("temperature: 0.8", "top_p: 1.5", "line 10: seats.user.top_p is 1.5; expected less than or equal to 1"),
        (
            "turns: 6",
            "turns: six",
            "line 4: turns is 'six'; expected a whole number (lines per dialogue, both seats counted)",
        ),
        ("turns: 6", "turns: '6'", "line 4: turns is '6'; expected a whole number"),
        ("turns: 6", "turns: true", "line 4: turns is true; expected a whole number"),
        ("turns: 6", "turns: 0", "line 4: turns is 0; expected greater than or equal to 1"),
        ("turns: 6", "turns:", "line 4: turns is empty; expected a whole number"),
        ("seed: 1\n", "", "line 1: seed is missing; expected a value (every random choice derives from it)"),
        ("    persona: sample\n", "", "line 8: seats.user.persona is missing"),
        ("name: small", "name: a/b", "line 1: name is 'a/b'; expected text of another form (letters, digits, blanks"),
        ("name: small", "name: no", "line 1: name is false; expected text (in quotes where it looks like"),
        (
            "seed: 1",
            "seed: 1\ndtype: float8",
            "line 3: dtype is 'float8'; expected 'auto', 'bfloat16', 'float32' or 'float16'",
        ),
        (
            "temperature: 0.8",
            "endpoint: ftp://x",
            "line 10: seats.user.endpoint is 'ftp://x'; expected a URL that starts with",
        ),
        ("temperature: 0.8", "script: []", "line 10: seats.user.script is a list of 0; expected at least 1 of them"),
        ("temperature: 0.8", "script: ['  ']", "line 10: seats.user.script.0 is '  '; expected words"),
        (
            "turns: 6",
            "turns: 6\nmeasure: {judge: [ledger, oracle]}",
            "line 5: measure.judge.1 is 'oracle'; expected 'ledger', 'likelihood', 'nli', 'combined', 'llm'",
        ),
        (
            "turns: 6",
            "turns: 6\nmeasure: {judge: [ledger, ledger]}",
            "line 5: measure.judge is a list of 2; expected each entry once",
        ),
        ("turns: 6", "turns: 6\nmeasure: {confidence: 1.0}", "line 5: measure.confidence is 1.0; expected less than 1"),
        (
            'assistant: "Ask',
            'listener: "Ask',
            "line 15: graph.nodes.chat.instruct.listener is 'listener'; expected 'assistant' or 'user'",
        ),
        (
            "says: [",
            "pressure: 7, says: [",
            "line 14: graph.nodes.hello.pressure is 7; expected less than or equal to 6",
        ),
        ("after: 2", "after: 0", "line 18: graph.edges.1.after is 0; expected greater than or equal to 1"),
        ("after: 2", "weight: -1", "line 18: graph.edges.1.weight is -1; expected greater than or equal to 0"),
        ("after: 2", "when: agreement", "line 18: graph.edges.1.when is 'agreement'; expected 'contradiction'"),
        ("seats:", "seats: 3\nrest:", "line 7: rest is no key of the file"),
    ],
)
def test_mistake_is_one_sentence_with_line_key_found_and_expected(small, old, new, expected):
    assert f"small.yaml, {expected}" in refusal(small(old, new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("start: hello", "start: helo", "line 12: graph.start is 'helo', which is no node; did you mean 'hello'?"),
        ("to: hello", "to: helo", "line 18: graph.edges.1.to is 'helo', which is no node; did you mean 'hello'?"),
        ("    - {from: hello, to: chat}\n", "", "line 15: graph.nodes.chat cannot be reached from the start, 'hello'"),
        (
            "fact.slot",
            "fact.slt",
            "line 15: graph.nodes.chat.instruct.assistant holds {fact.slt}, which is no placeholder; did you mean "
            "'fact.slot'?",
        ),
        ("partner.name", "name", "line 14: graph.nodes.hello.says.0 holds {name}, which is no placeholder"),
        (
            "    - {from: chat, to: hello, after: 2}\n",
            "",
            "line 15: graph.nodes.chat is a dead end: turn 1 can be said here and 6 turns",
        ),
        (
            "to: hello, after: 2",
            "to: hello, weight: 0",
            "line 15: graph.nodes.chat has edges out whose weights sum to 0",
        ),
        (
            "persona: grace",
            "persona: grce",
            "line 7: seats.assistant.persona is 'grce', which is no persona; did you mean 'grace'?",
        ),
    ],
)
def test_mistake_of_meaning_is_placed_as_well(small, old, new, expected):
    assert f"small.yaml, {expected}" in refusal(small(old, new))


def test_missing_persona_file_names_the_line_and_where_it_was_looked_for(small, tmp_path):
    message = refusal(small(f"personas: {PEOPLE}", "personas: nobody.yaml"))
    assert "small.yaml, line 5: personas is 'nobody.yaml'; expected the path of a persona file" in message
    assert str(tmp_path / "nobody.yaml") in message
    message = refusal(small(f"personas: {PEOPLE}", f"personas:\n  - {PEOPLE}\n  - nobody.yaml"))
    assert "small.yaml, line 7: personas.1 is 'nobody.yaml'" in message


def test_mistake_in_a_persona_file_is_named_by_that_file(small, tmp_path):
    (tmp_path / "people.yaml").write_text("personas:\n  - {id: a, name: A, facts: {home: Osaka}}\n")
    message = refusal(small(f"personas: {PEOPLE}", "personas: people.yaml"))
    assert "people.yaml, line 2: personas.0.facts.home is no slot of the slots file" in message


def test_persona_paths_are_relative_to_the_scenario_file(small, tmp_path, monkeypatch):
    (tmp_path / "people.yaml").write_text(
        PEOPLE.read_text(encoding="utf-8").replace("slots.yaml\n\n", f"{PEOPLE.parent / 'slots.yaml'}\n\n")
    )
    path = small(f"personas: {PEOPLE}", "personas: people.yaml")
    monkeypatch.chdir("/")
    assert load_scenario(path).personas == [str(tmp_path / "people.yaml")]


def test_override_replaces_values_of_every_kind(small):
    scenario = load_scenario(
        small(),
        [
            "seats.user.temperature=0.25",
            "seats.user.adapter=null",
            "graph.edges.1.after=3",
            "graph.nodes.chat.pressure=2",
            "measure.judge=[ledger, likelihood]",
            "measure.confidence=9e-1",
            "description=a = b",
        ],
    )
    assert scenario.seats.user.temperature == 0.25
    assert scenario.graph.edges[1].after == 3
    assert scenario.graph.nodes["chat"].pressure == 2
    assert scenario.measure.judge == ["ledger", "likelihood"]
    assert scenario.measure.confidence == 0.9
    assert scenario.description == "a = b"


def test_override_may_add_a_node_and_the_edges_to_it(small):
    extra = "graph.edges=[{from: hello, to: chat}, {from: chat, to: bye, after: 2}]"
    scenario = load_scenario(small(), ["graph.nodes.bye={end: true}", extra])
    assert scenario.graph.nodes["bye"].end


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("turns", "override 'turns': is not of the form key=value"),
        ("trns=3", "override 'trns=3': trns is no key of the file; did you mean 'turns'?"),
        (
            "seats.user.temprature=3",
            "override 'seats.user.temprature=3': seats.user.temprature is no key of the file; did you mean "
            "'temperature'?",
        ),
        ("seats.usr.top_k=3", "override 'seats.usr.top_k=3': seats.usr is no key of the file; did you mean 'user'?"),
        ("turns=-3", "override 'turns=-3': turns is -3; expected greater than or equal to 1"),
        ("turns=[", "override 'turns=[': the value is not valid YAML"),
        ("turns.x=3", "override 'turns.x=3': turns is a single value and has no keys within"),
        (
            "graph.edges.2.after=3",
            "override 'graph.edges.2.after=3': graph.edges.2 is no entry; expected the number of one of 2",
        ),
        ("graph.edges.first.after=3", "graph.edges.first is no entry"),
        ("graph.nodes.chatt.pressure=3", "graph.nodes.chatt is not in the file; did you mean 'chat'?"),
        (
            "graph.start=caht",
            "override 'graph.start=caht': graph.start is 'caht', which is no node; did you mean 'chat'?",
        ),
        (
            "seats.user={persona: sample, top_k: -1}",
            "override 'seats.user={persona: sample, top_k: -1}': seats.user.top_k is -1",
        ),
        ("personas=nobody.yaml", "override 'personas=nobody.yaml': personas is 'nobody.yaml'"),
    ],
)
def test_wrong_override_is_named_in_place_of_a_line(small, item, expected):
    assert expected in refusal(small(), item)


def test_overrides_do_not_touch_what_was_read(small):
    path = small()
    load_scenario(path, ["turns=9"])
    assert load_scenario(path).turns == 6


def test_digest_follows_content_and_cast_but_not_the_layout_of_the_file(small):
    digest = load_scenario(small()).digest()
    assert load_scenario(small("seed: 1\nconversations: 2", "# first\nconversations: 2\nseed: 1")).digest() == digest
    assert load_scenario(small(), ["seats.user.temperature=0.8"]).digest() == digest
    assert load_scenario(small(), ["seats.user.temperature=0.9"]).digest() != digest
    assert load_scenario(small(), ["seed=2"]).digest() != digest
    assert len(digest) == 64


def test_digest_does_not_follow_how_many_are_played_at_once(small):
    assert load_scenario(small(), ["concurrency=2"]).digest() == load_scenario(small(), ["concurrency=3"]).digest()


def test_local_models_and_adapters_mean_the_same_from_any_folder(small, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    seats = load_scenario(
        small(), ["seats.user.model=model:lora", "seats.user.adapter=model", "seats.assistant.model=org/name"]
    ).seats
    assert (seats.user.model, seats.user.adapter) == (f"{tmp_path}/model:lora", f"{tmp_path}/model")
    assert seats.assistant.model == "org/name"


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?api_key=secret"])
def test_endpoint_that_carries_a_secret_is_refused(small, url):
    with pytest.raises(ScenarioError, match="OPENAI_API_KEY"):
        load_scenario(small(), [f"seats.user.endpoint={url}"])


def test_endpoint_whose_port_is_no_number_is_refused(small):
    with pytest.raises(ScenarioError, match="whose port is a number"):
        load_scenario(small(), ["seats.user.endpoint=http://127.0.0.1:notaport/v1"])


def test_digest_changes_with_what_a_persona_file_says_of_the_cast(small, tmp_path):
    text = PEOPLE.read_text(encoding="utf-8").replace("slots: slots.yaml", f"slots: {PEOPLE.parent / 'slots.yaml'}")
    (tmp_path / "people.yaml").write_text(text, encoding="utf-8")
    path = small(f"personas: {PEOPLE}", "personas: people.yaml")
    before = load_scenario(path).digest()
    (tmp_path / "people.yaml").write_text(text.replace("warm and curious", "cold and bored"), encoding="utf-8")
    assert load_scenario(path).digest() != before


def test_difference_has_a_line_for_each_value_that_differs(small):
    old = load_scenario(small()).resolved_yaml()
    new = load_scenario(
        small(),
        [
            "seats.user.temperature=0.9",
            "graph.edges.0.after=2",
            "seats.user.sentences=null",
            "measure.judge=[ledger, nli]",
        ],
    )
    assert scenario_differences(old, new.resolved_yaml()) == [
        "seats.user.temperature: 0.8 -> 0.9",
        "seats.user.sentences: 2 -> null",
        'measure.judge: ["combined"] -> ["ledger", "nli"]',
        "graph.edges.0.after: (absent) -> 2",
    ]
    assert scenario_differences(old, old) == []


def test_resolved_yaml_keeps_text_that_looks_like_a_number(small):
    scenario = load_scenario(small("name: small", "name: '1e5'"))
    assert parse_yaml(scenario.resolved_yaml(), "copy").data["name"] == "1e5"
    assert yaml.safe_load(scenario.resolved_yaml())["seats"]["user"]["temperature"] == 0.8


def test_exponent_without_a_point_is_a_number(small):
    assert load_scenario(small("temperature: 0.8", "temperature: 8e-1")).seats.user.temperature == 0.8


def test_error_line_follows_aliases_and_merges(tmp_path):
    path = tmp_path / "merge.yaml"
    path.write_text("a: &base {x: 1}\nb:\n  <<: *base\n  y: 2\n")
    document = read_yaml(path)
    assert document.data["b"] == {"x": 1, "y": 2}
    assert document.where(("b", "y")) == f"{path}, line 4"
    assert document.where(("b", "x")) == f"{path}, line 1"


def test_loading_a_scenario_needs_neither_torch_nor_ray():
    code = (
        "import sys; from scenarios.scenario import load_scenario; "
        f"load_scenario({str(BUNDLED[0])!r}); print([m for m in ('torch', 'ray', 'transformers') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "[]"


def test_a_steer_is_a_key_of_a_seat_whose_model_is_ours_and_stands_nowhere_else(small):
    bare, steered = (
        load_scenario(small()),
        load_scenario(small(), ["seats.user.steer={coefficient: 0.2, depths: [0.5, 0.7]}"]),
    )
    steer = steered.seats.user.steer
    assert (steer.direction, steer.how, steer.coefficient, steer.depths) == ("own_card", "add", 0.2, [0.5, 0.7])
    assert "steer:" not in bare.resolved_yaml() and bare.digest() != steered.digest()
    assert "steer" in steered.resolved()["seats"]["user"] and "steer" not in steered.resolved()["seats"]["assistant"]
    with pytest.raises(ScenarioError, match="expected no steer where a server, a script or a person speaks"):
        load_scenario(small(), ["seats.user.steer={}", "seats.user.script=[Hm.]"])
