"""Whatever is sent is read, or refused with an error of the lab's own.

`make test` draws some inputs of each kind, always the same; `make fuzz` draws many more, at random.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import strategies as st
from odd_inputs import ANY_TEXT, damaged, files, fuzzed, lines_of_json, places, result

from lab.persona_files.reading import as_yaml, read_people
from lab.persona_files.rows import FORMS as PERSONA_FORMS
from lab.studies.runner import size_settings
from lab.transcripts.chat_forms import FORMS
from lab.transcripts.reading import read_records
from lab.transcripts.transcript import transcript_pairs
from metrics.judges import LINES, Pair
from metrics.judges.ledger import Ledger
from metrics.studies import card_distance
from metrics.tripwires import line_wires
from scenarios.jobs.study import load_study
from scenarios.jobs.sweep import load_sweep
from scenarios.jobs.training import load_recipe
from scenarios.personas import load_personas
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError, dump, parse_yaml

YAML = Path(__file__).parents[1] / "scenarios"


def said(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


CHAT = [{"role": "system", "content": "You are Mia."}, *said("Otto: Who are you?", "I am Mia.", "And now?", "Mia.")]
PARTS = [{"type": "text", "text": "Hi."}, {"type": "tool_use", "id": "x"}, "there"]
CALLS = [
    {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}], "name": "Mia"},
    {"role": "tool", "content": "7", "tool_messages": [{"a": 1}]},
    {"role": "assistant", "content": PARTS, "refusal": "No.", "function_call": {}},
]
PERSON = {"name": "Mia", "card": "You are Mia.", "facts": {"home": "Osaka", "job": {"value": "baker"}}}
RECORDS = {  # of each form
    "messages": {
        "messages": [*CHAT, *CALLS],
        "personas": {"user": "I am shy.", "assistant": PERSON},
        "seats": {"user": {"seat": "user", "name": "Al"}, "assistant": {"seat": "assistant", "name": None}},
        "given": [0],
        "id": 7,
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Ho."}], "system": "s"},
    "lmsys": {"conversation_id": "c", "model": "m", "conversation": said("Hi.", "Ho."), "turn": 1},
    "wildchat": {"conversation_hash": "h", "conversation": [m | {"turn_identifier": 3} for m in said("Hi.", "Ho.")]},
    "arena": {"question_id": "q", "conversation_a": said("Hi.", "A."), "conversation_b": said("Hi.", "B.")},
    "trl": {"prompt": said("Hi."), "chosen": [said("", "A.")[1]], "rejected": "Human: Hi.\n\nAssistant: B."},
    "tau2": {
        "tasks": [{"id": "1", "user_scenario": {"persona": "p", "instructions": {"known_info": "k"}}}],
        "simulations": [{"id": "s", "task_id": "1", "messages": [*CHAT, *CALLS]}],
    },
    "inspect": {"eval": {"task": "t"}, "samples": [{"id": 1, "epoch": 2, "messages": CHAT}]},
    "labelled": {
        "id": "x#1",
        "roles": {"P1": "Teacher", "P2": "Student"},
        "personas": {"P1": "", "P2": "I am shy."},
        "lines": [
            {"i": 0, "speaker": "P1", "text": "Welcome.", "contradicts_persona": None, "conflicts_with": None},
            {
                "i": 1,
                "speaker": "P2",
                "text": "Student: I LOVE crowds!",
                "contradicts_persona": True,
                "conflicts_with": [],
            },
        ],
    },
    "consistent-llms": {
        "P1": '"Ann, a nurse."',
        "P2": "Bob is a cook.",
        "pturn": 1,
        "conversation": [[0, "Ann: Hello.\n"], [1, "Bob: I cook."], "Ann: I cook too."],
        "eval_prompt_consistency": [[0, "Fine. NO"], [1, "YES"]],
        "eval_index_consistency": [[2, "He said so: [0, 1]"]],
    },
}


@fuzzed(
    st.sampled_from(list(RECORDS)).flatmap(
        lambda form: st.tuples(
            files([RECORDS[form], RECORDS["messages"]], lines_of_json), st.sampled_from((None, form, *FORMS))
        )
    )
)
def test_transcripts_are_conversations_or_refused(sent):
    data, form = sent
    source = result(lambda: read_records("sent.jsonl", data, form))
    for transcript in source.transcripts if source else ():
        json.dumps([line.text for line in transcript.lines], ensure_ascii=False).encode()
        assert {line.seat for line in transcript.lines} <= {"user", "assistant"}
        rows = Ledger().judge(list(transcript_pairs(transcript, LINES)))
        assert all((row.verdict is None) == (row.unscored is not None) for row in rows)
    for sentence in source.left_out if source else ():
        assert "\n" not in sentence.replace("\\n", ""), sentence


LINE = st.lists(
    ANY_TEXT
    | st.sampled_from(
        ("I live in Osaka. ", "I am 34 ", "not ", "Assistant: ", "<think>", "</think>", '"', "“", "“I am a ")
    )
    | st.sampled_from(("nurse", "我住在", "e\u0301", "\n", "User:", "?", ", ", "Ann ", "I'm Sven", "Just kidding. ")),
    max_size=8,
).map("".join)


@fuzzed(LINE, LINE)
def test_lines_of_any_text_are_judged(line, other):
    person = load_personas(YAML / "personas" / "townsfolk.yaml")[0]
    pairs = [Pair(0, 3, "user", metric, line, "1", person, other, person, other) for metric in LINES]
    rows = result(lambda: Ledger().judge(pairs)) or ()
    assert len(rows) >= 2
    for row in rows:
        assert (row.verdict is None) == (row.unscored is not None) and (row.p_inconsistent in (0.0, 0.5, 1.0, None))
        assert row.span is None or 0 <= row.span[0] < row.span[1] <= len(line)
    assert all(value >= 0 for value in line_wires(line, person.card, other).values())


# -- files of the lab

SCENARIO = {
    "name": "small",
    "seed": 1,
    "conversations": 2,
    "turns": 6,
    "personas": ["people.yaml"],
    "persona_pool": ["mia", "al"],
    "seats": {
        "assistant": {
            "model": "embedded", "temperature": 0.5, "script": None, "max_tokens": 9,
            "persona": {"name": "Ann", "card": "You are {{char}}, with {{user}}.", "facts": {}},
        },
        "user": {"model": "m", "endpoint": "vllm", "persona": "sample", "api_key_env": "KEY", "reminder": "{card}"},
    },
    "graph": {
        "start": "greet",
        "nodes": {
            "greet": {"speaker": "assistant", "says": ["Hi."]},
            "talk": {"instruct": {"user": "Ask about {fact.slot}."}, "pressure": 2},
            "end": {"end": True},
        },
        "edges": [
            {"from": "greet", "to": "talk", "after": 1},
            {"from": "talk", "to": "talk", "weight": 2.5},
            {"from": "talk", "to": "end", "when": "contradiction", "contains": ["bye"]},
        ],
    },
    "measure": {"judge": ["ledger", "cascade"], "metrics": ["qa"], "cascade": {"low": 0.1}, "llm": {"model": "m"}},
}  # fmt: skip
PEOPLE = {
    "slots": "slots.yaml",
    "personas": [
        {"name": "Mia", "id": "mia", "about": "You are kind.", "facts": {"home": "Osaka", "age": 34}},
        {"name": "Al", "id": "al", "card": "You are {{char}}.", "facts": {"job": {"value": "nurse", "draft": True}}},
    ],
}
SLOT = {
    "claim": "I live in {value}.", "card": "You live in {value}.", "questions": ["Where?"],
    "patterns": ["I live in {value}", "我住在{value}"], "values": ["Leeds", "Kyoto"],
    "recognition": {
        "open": ["I live in {value}"], "suspect": ["I am in {value}"], "loose": ["^I ... in {value}"],
        "denials": ["I have no home"], "phrases": {"Leeds": ["I row here"]}, "also": {"Japan": ["Osaka", "Kyoto"]},
    },
}  # fmt: skip
SLOTS = {"slots": {"home": SLOT, "age": SLOT, "job": SLOT, "name": SLOT}}
RECIPE = {
    "name": "quick", "seed": 3, "scenario": "small.yaml", "overrides": {"turns": 4}, "seat": "user", "method": "grpo",
    "max_steps": 3, "num_generations": 4, "reward": {"prompt_to_line": 1.0}, "tuning": {"lora_rank": 4},
    "held_out": {"share": 0.5}, "evaluation": {"judge": ["ledger"]}, "data": ["a.jsonl"],
}  # fmt: skip
SWEEP = {
    "name": "sweep", "seed": 5, "scenario": "small.yaml", "overrides": {"turns": 4, "seats.user.max_tokens": 3},
    "axes": {
        "seats.assistant.temperature": [0.2, 1.4], "conversations": {"from": 1, "to": 3, "steps": 3},
        "seats.user.top_p": {"uniform": [0.1, 0.9]},
    },
    "samples": 2, "retries": 1, "best": {"metric": "qa"},
}  # fmt: skip
NUMBERS = st.sampled_from(
    ["1", "0.5", "[]", "{}", "null", "true", "x", '"x"', "2001-01-01", "[1, 2]", "{a: 1}", "1e-5"]
)


def keys_of(content: dict) -> list[str]:
    return [".".join(map(str, path)) for path in places(content) if path]


@st.composite
def overrides(draw, content: dict) -> list[str]:
    """Items of the command line, most of them `key=value` with keys of the content."""
    items = []
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(keys_of(content))) if draw(st.integers(0, 9)) else draw(ANY_TEXT)
        value = draw(NUMBERS) if draw(st.integers(0, 4)) else draw(ANY_TEXT)
        items.append(f"{key}={value}" if draw(st.integers(0, 9)) else value)
    return items


def sent_file(content: dict, write=dump) -> st.SearchStrategy:
    """(bytes of a file, overrides): the file as it should be, or an odd one."""
    return st.tuples(st.just(write(content).encode()) | files(content, write), overrides(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a scenario and its personas; what a test writes there goes by other names."""
    path = tmp_path_factory.mktemp("sent")
    for name, content in {"small.yaml": SCENARIO, "people.yaml": PEOPLE, "slots.yaml": SLOTS}.items():
        (path / name).write_text(dump(content))
    return path


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@fuzzed(sent=sent_file(SCENARIO))
def test_scenarios_are_loaded_or_refused(folder, sent):
    data, items = sent
    scenario = result(lambda: load_scenario(written(folder, "sent.yaml", data), items))
    if scenario and scenario.conversations < 1000:
        assert (
            len(scenario.digest()) == 64 and parse_yaml(scenario.resolved_yaml(), "again").data["seed"] == scenario.seed
        )


@fuzzed(sent=sent_file(RECIPE))
def test_trainings_are_loaded_or_refused(folder, sent):
    data, items = sent
    result(lambda: load_recipe(written(folder, "sent.yaml", data), items))


@fuzzed(sent=sent_file(SWEEP))
def test_sweeps_are_loaded_or_refused(folder, sent):
    data, items = sent
    result(lambda: load_sweep(written(folder, "sent.yaml", data), items))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["axes=[]", "axes.seed=1"], "override 'axes.seed=1': axes is a list of 0, which has no keys"),
        (["overrides=1", "overrides.turns=2"], "override 'overrides.turns=2': overrides is 1, which has no keys"),
        ([f"scenario={'x' * 5000}"], "expected the path of a file"),
    ],
)
def test_what_fuzzing_found_in_sweeps_is_refused(items, expected):
    with pytest.raises(ScenarioError) as caught:
        load_sweep(YAML / "sweeps" / "smoke.yaml", items)
    assert expected in str(caught.value)


STUDY = YAML / "studies" / "card_distance.yaml"


@fuzzed(sent=sent_file(parse_yaml(STUDY.read_text(), "").data))
def test_studies_are_loaded_or_refused(folder, sent):
    data, items = sent
    path = written(folder, "sent.yaml", data)
    result(lambda: load_study(path, items, size_settings(card_distance)))


# -- personas


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ({**PEOPLE, "slots": "x" * 5000}, "expected the path of a file"),
    ],
)
def test_what_fuzzing_found_in_persona_files_is_refused(folder, people, expected):
    with pytest.raises(ScenarioError, match=expected):
        load_personas(written(folder, "found.yaml", dump(people).encode()))


@fuzzed(people=files(PEOPLE, dump), slots=st.just(dump(SLOTS).encode()) | files(SLOTS, dump))
def test_persona_files_are_loaded_or_refused(folder, people, slots):
    (folder / "sent").mkdir(exist_ok=True)
    written(folder, "sent/slots.yaml", slots)
    read = result(lambda: load_personas(written(folder, "sent/people.yaml", people)))
    for person in read or ():
        assert person.name and isinstance(person.card, str)


TINY = {
    "type": "TinyPerson",
    "persona": {"name": "Lisa", "age": 28, "likes": ["tea"], "style": {"a": {"b": [1, None]}}},
}
CARD = {"spec": "chara_card_v2", "data": {"name": "Ada", "description": "<b>Kind</b> {{char}}", "first_mes": "Hi."}}
RECORDS_OF_PEOPLE = [
    {"persona": "A nurse from Leeds.", "name": "Ann"},
    TINY,
    CARD,
    {"user 1 personas": ["i like tea .", "i ski ."], "user 2 personas": ["i cook ."]},
    {"name": "Mia", "about": "You are kind.", "facts": {"home": "Osaka"}},
    ["i like tea .", "i ski ."],
]


def table(records) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([["name", "persona"], ["Ann", "A nurse."], ["Bob", '"quoted", with\nlines']])
    return out.getvalue()


def personachat(records) -> str:
    return "1 your persona: i like tea .\n2 partner's persona: i ski .\n3 hi\thello\n1 your persona: i cook .\n"


OTHERS = st.one_of(
    files(RECORDS_OF_PEOPLE, lines_of_json), files(RECORDS_OF_PEOPLE, json.dumps), files(TINY, json.dumps),
    files([], table), files([], personachat), files(PEOPLE, dump),
    damaged(b"\x89PNG\r\n\x1a\n\0\0\0\x0atEXtchara\0e30=\0\0\0\0"),
)  # fmt: skip


def test_a_table_whose_first_line_is_none_is_refused(folder):
    with pytest.raises(ValueError, match=r"others, line 1: is no row of a table \(new-line character"):
        read_people(written(folder, "others", b"name,persona\r\0\nAnn,A nurse.\r\n"))


@fuzzed(
    data=OTHERS, form=st.none() | st.sampled_from(PERSONA_FORMS), column=st.none() | st.sampled_from(["persona", "x"])
)
def test_personas_of_other_formats_are_read_or_refused(folder, data, form, column):
    path = written(folder, "others", data)
    read = result(lambda: read_people(path, form=form, column=column, limit=50))
    if read:
        assert parse_yaml(as_yaml(read, "others"), "out").data["personas"]
