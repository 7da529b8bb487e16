"""Thoughts are no words of a seat, and a line ends where it goes on as the other, in the speaker's view too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.engine.protocol import Sample, Sampling
from agents.models.chat_template import ChatFormat
from agents.models.info import EngineInfo
from agents.seats.base import Cue, Trouble, Utterance
from agents.seats.chat import EndpointSeat
from agents.seats.model import ModelSeat
from agents.seats.scripted import ScriptedSeat
from scenarios.spoken import Speaker

CUE = Cue("", 1, 0, Speaker("user", "Chloe", "Martin"))
BOTH = "I am well.\nAssistant: I have a dog."


class Says:
    """An engine whose tokens are characters, and whose every line is the same."""

    def __init__(self, line: str, before_said: str = "A:") -> None:
        self.line, self.branches = line, dict[int, list[int]]()
        self._info = EngineInfo("says", "cpu", "float32", 500, 0, ChatFormat("", "|", before_said, "\n"))

    def info(self):
        return self._info

    def encode(self, texts):
        return [[ord(letter) for letter in text] for text in texts]

    def decode(self, ids):
        return ["".join(map(chr, row)) for row in ids]

    def open(self, prompts, adapter=None, steer=None):
        names = range(len(self.branches), len(self.branches) + len(prompts))
        self.branches |= dict(zip(names, map(list, prompts), strict=True))
        return list(names)

    def extend(self, branches, ids):
        for branch, new in zip(branches, ids, strict=True):
            self.branches[branch] += new

    def fork(self, branches):
        return self.open([self.branches[branch] for branch in branches])

    def drop(self, branches):
        for branch in branches:
            self.branches[branch] = []

    def generate(self, branches, sampling):
        ids = tuple(map(ord, self.line))
        self.extend(branches, [list(ids)] * len(branches))
        return [Sample(ids, (-1.0,) * len(ids), "length")] * len(branches)


def seated(line: str, **more) -> tuple[ModelSeat, Says]:
    engine = Says(line, **more)
    seat = ModelSeat(engine, Sampling(seed=0))
    seat.open({0: "You are Chloe."})
    return seat, engine


def test_a_models_line_ends_where_it_goes_on_as_the_other_and_its_view_too():
    seat, engine = seated(BOTH)
    said = seat.speak({0: CUE})[0]
    assert isinstance(said, Utterance)
    assert (said.text, said.cut) == ("I am well.", "Assistant: I have a dog.")
    view = engine.decode([seat.ids[0]])[0]
    assert view.endswith("A:I am well.") and engine.decode([engine.branches[seat._branch[0]]]) == [view]
    assert said.logprob == -len(said.token_ids) and engine.decode([said.token_ids]) == ["I am well."]


def test_a_thought_that_the_template_opens_is_no_word_and_one_without_end_is_trouble():
    seat, _ = seated("Rome?</think>By the sea.", before_said="A:<think>")
    assert seat.sampling.thinking and seat.speak({0: CUE})[0].text == "By the sea."
    seat, _ = seated("Rome? Or", before_said="A:<think>")
    trouble = seat.speak({0: CUE})[0]
    assert isinstance(trouble, Trouble) and "thought" in trouble.reason


def test_a_scripted_line_is_cut_and_counts_as_said_when_it_is_recited():
    script = ScriptedSeat([BOTH, "B"])
    script.open({0: ""})
    line = script.speak({0: CUE})[0]
    assert (line.text, line.cut) == ("I am well.", "Assistant: I have a dog.")
    again = ScriptedSeat([BOTH, "B"])
    again.open({0: ""})
    again.recite({0: CUE}, {0: line})
    assert again.speak({0: CUE})[0].text == script.speak({0: CUE})[0].text == "B"


def served(message: dict, finish_reason: str) -> Utterance | Trouble:
    seat = EndpointSeat("http://127.0.0.1:9/v1", "m", Sampling(seed=0, sentences=2))
    answer = SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(**message), finish_reason=finish_reason)], usage=None
    )
    seat.client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: answer)))
    return seat._answer(([{"role": "user", "content": "Hi."}], CUE))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>\nI play somebody. I could say Rome.\n</think>\n\nBy the sea.", "By the sea."),
        ([{"type": "thinking", "thinking": "Rome?"}, {"type": "text", "text": "By the sea."}], "By the sea."),
        ("By the sea.\nUser: And where?\nAssistant: At the harbour.", "By the sea."),
    ],
)
def test_what_a_server_says_is_its_words(content, text):
    assert served({"content": content}, "stop").text == text


@pytest.mark.parametrize(
    ("message", "finish_reason", "why"),
    [
        ({"content": None, "reasoning_content": "They greet me"}, "length", "finish_reason length, all of max_tokens"),
        ({"content": None, "reasoning": "They greet me"}, "length", "all of max_tokens (48) went into reasoning"),
        ({"content": None}, "length", "finish_reason length"),
        ({"content": "<think>They greet me"}, "length", "went into reasoning"),
        ({"content": ["x"]}, "stop", "reasoning alone"),
        ({"content": 7}, "stop", "expected text"),
    ],
)
def test_an_answer_of_a_thought_alone_is_trouble_with_its_reason(message, finish_reason, why):
    said = served(message, finish_reason)
    assert isinstance(said, Trouble) and why in said.reason
