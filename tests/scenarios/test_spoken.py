"""Thoughts are no words, and a line ends where it goes on as the other."""

from __future__ import annotations

import pytest

from scenarios.spoken import Speaker, opens_thought, spoken_words, without_thoughts

USER = Speaker("user", "Chloe", "Martin Hall")
SEA = "I live by the sea."


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\nI could say Rome.\n</think>\n\n{SEA}",
        f"I could say Rome.\n</think>\n\n{SEA}",
        f"{SEA} <thinking>Was that right? Rome?</thinking>",
        f"{SEA}\n<think>Was that right",
        f"[THINK]Rome.[/THINK]{SEA}",
        f"<seed:think>Rome.</seed:think>{SEA}",
        f"◁think▷Rome.◁/think▷{SEA}",
        f"<|START_THINKING|>Rome.<|END_THINKING|><|START_RESPONSE|>{SEA}<|END_RESPONSE|>",
        f"<|channel|>analysis<|message|>Rome.<|end|><|start|>assistant<|channel|>final<|message|>{SEA}<|return|>",
        SEA,
    ],
)
def test_thoughts_are_no_words(answer):
    assert without_thoughts(answer) == SEA


def test_a_thought_that_the_prompt_opened_ends_at_its_closing_tag_or_never():
    assert opens_thought("<assistant><think>\n") and not opens_thought("<assistant><think>\n\n</think>\n\n")
    assert spoken_words(f"Rome.</think>{SEA}", thinking=True).text == SEA
    nothing = spoken_words("Rome, and then", thinking=True)
    assert (nothing.text, nothing.thought) == ("", True)


def test_a_text_without_thoughts_is_the_same_object():
    assert without_thoughts(text := " I think <b> so.\n") is text


@pytest.mark.parametrize(
    "mark", ["Assistant:", "User:", "Them:", "Martin:", "Martin Hall:", "**Assistant:**", "assistant :", "Human:"]
)
def test_a_line_is_cut_where_it_goes_on_as_the_other(mark):
    words = spoken_words(f"{SEA}\n{mark} Do you? I have a dog.\nUser: Yes.", USER)
    assert words.text == SEA and words.cut == f"{mark} Do you? I have a dog.\nUser: Yes."


@pytest.mark.parametrize("text", ["Note:\nthis is mine.", "I met Martin: he is kind.", "Chloe: hello.", "User: hello."])
def test_other_colons_cut_nothing(text):
    assert spoken_words(text, USER) == spoken_words(text) and spoken_words(text, USER).cut == ""


def test_marks_within_a_thought_cut_nothing():
    words = spoken_words(f"<think>Hm.\nAssistant: no</think>{SEA}", USER)
    assert (words.text, words.cut) == (SEA, "")
