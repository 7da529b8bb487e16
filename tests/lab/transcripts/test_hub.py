"""Conversations of data sets of the hub, with a stand-in for the library that streams them."""

from __future__ import annotations

import sys
from itertools import count
from types import SimpleNamespace

import pytest

import lab
from lab.transcripts.continued import stored_task
from lab.transcripts.reading import read_transcripts
from lab.transcripts.scoring import open_scores, read_task


@pytest.fixture
def hub(monkeypatch):
    """A function: rows -> the arguments with which data sets are asked for, which all have these rows."""

    def stand_in(rows) -> list:
        asked = []

        def load_dataset(*names, **how):
            asked.append((names, how))
            return iter(rows)

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        return asked

    return stand_in


def chat(number: int, lines: int = 2) -> list[dict]:
    return [{"role": ("user", "assistant")[turn % 2], "content": f"{number}, {turn}"} for turn in range(lines)]


def wildchat(number: int) -> dict:
    said = [message | {"timestamp": object()} for message in chat(number)]
    return {"conversation_hash": f"h{number}", "conversation": said, "picture": object(), "system": None}


def first_lines(source) -> list[str]:
    return [transcript.lines[0].text for transcript in source.transcripts]


def test_a_data_set_is_read_as_far_as_the_limit(hub):
    asked = hub(map(wildchat, count()))
    source = read_transcripts("hf:some/chats/short:test", limit=3)
    assert asked == [(("some/chats", "short"), {"split": "test", "streaming": True})]
    assert first_lines(source) == ["0, 0", "1, 0", "2, 0"] and source.path == "hf:some/chats/short:test"
    assert source.form.startswith("WildChat rows")
    assert source.notes == ("stopped at the limit of 3 conversations; --limit N reads more",)
    hub(map(wildchat, range(3)))
    assert read_transcripts("hf:some/chats", limit=3).notes == ()


def test_a_row_that_the_next_continues_is_read_with_it_and_one_of_two_conversations_is_whole(hub):
    grown = ({"prompt": chat(n, turns), "completion": chat(n, turns + 2)[turns:]} for n in count() for turns in (1, 3))
    hub(grown)
    source = read_transcripts("hf:some/rows", "trl", limit=2)
    assert [len(transcript.lines) for transcript in source.transcripts] == [5, 5]
    hub({"conversation_a": chat(n), "conversation_b": chat(n)} for n in count())
    assert first_lines(read_transcripts("hf:some/rows", limit=3)) == ["0, 0", "0, 0"]
    assert first_lines(read_transcripts("hf:some/rows", limit=1)) == ["2, 0", "2, 0"], "of one row all"


def test_a_row_that_is_no_conversation_is_left_out(hub):
    hub([{"messages": [{"role": "usr", "content": "Hi."}]}, {"messages": chat(1)}])
    source = read_transcripts("hf:some/chats")
    assert first_lines(source) == ["1, 0"]
    assert source.left_out[0].startswith("hf:some/chats, line 1: messages.0.role")


def test_the_rows_are_kept_so_that_a_scoring_goes_on_without_the_hub(hub, tmp_path, monkeypatch):
    hub(map(wildchat, count()))
    sources = [read_transcripts(name, limit=2) for name in ("hf:some/chats", "hf:some/more")]
    task = read_task(sources, judge="ledger", limit=3)
    assert first_lines(task) == ["0, 0", "1, 0", "3, 0"]
    with open_scores(task, tmp_path) as store:
        assert store.manifest["scored"]["transcripts"][0].startswith(str(store.path))
        assert "hf:some/chats" in (store.path / "scenario.yaml").read_text()
    monkeypatch.setitem(sys.modules, "datasets", None)
    again = stored_task(store.path)
    assert again.transcripts == task.transcripts and again.limit == 3


@pytest.mark.parametrize(
    ("rows", "name", "limit", "expected"),
    [
        ([{"text": "x"}], "hf:some/books", None, "hf:some/books has no column of a conversation; expected `messages`"),
        (["x"], "hf:some/books", None, "hf:some/books, row 1: is no conversation; expected `messages`"),
        ([], "hf:some/books", None, "hf:some/books, line 1: there is no conversation"),
        ([], "hf:books", None, "hf:books names no data set; expected hf:owner/name"),
        ([wildchat(1)], "hf:some/chats", 0, "--limit is 0; expected 1 or more"),
        (None, "hf:some/chats", None, "needs the package datasets, which is not installed; expected it: pip install"),
    ],
)
def test_what_cannot_be_read_of_a_data_set_is_a_sentence(rows, name, limit, expected, hub, monkeypatch):
    hub(rows)
    if rows is None:
        monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError) as caught:
        read_task([read_transcripts(name, limit=limit)], judge="ledger", limit=limit)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_python_reads_data_sets_too(hub, tmp_path):
    hub(map(wildchat, count()))
    scores = lab.judge("hf:some/chats", judge="ledger", limit=2, runs=tmp_path, progress="none")
    assert scores.turns["text"].to_list() == ["0, 0", "0, 1", "1, 0", "1, 1"]
    with pytest.raises(ValueError, match="limit is '2'; expected a whole number"):
        lab.judge("hf:some/chats", limit="2")
