"""Words of texts in any writing system."""

from __future__ import annotations

import unicodedata

import pytest
import yaml

from scenarios.graph import contains
from scenarios.overrides import override
from scenarios.scenario import Scenario
from scenarios.scripts import count_words, words_of
from scenarios.yaml_files import Document


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's o'clock, ''so'' x_y: 3.14!", ["It's", "o'clock", "so", "x", "y", "3", "14"]),
        ("我住在成都。iPhone手机", ["我", "住", "在", "成", "都", "iPhone", "手", "机"]),
        ("コーヒーを飲む", ["コーヒー", "を", "飲", "む"]),
        ("ไปไหน ที่นี่", ["ไ", "ป", "ไ", "ห", "น", "ที่", "นี่"]),
        ("मेरा नाम गीता है।", ["मेरा", "नाम", "गीता", "है"]),
        ("می\u200cخواهم بروم؟", ["می\u200cخواهم", "بروم"]),
        ("שָׁלוֹם 한국어 \U00031350", ["שָׁלוֹם", "한국어", "\U00031350"]),
        ("😀\ufe0f …", []),
    ],
)
def test_words_are_those_between_blanks_or_the_letters_of_a_script_without_blanks(text, words):
    assert words_of(text) == words


@pytest.mark.parametrize(("text", "count"), [("I'm twenty-one, well …", 4), ("你好。 I'm Wei.", 4), ("。", 1), ("", 0)])
def test_a_line_that_no_model_wrote_has_a_token_for_each_part_between_blanks_or_letter_without_them(text, count):
    assert count_words(text) == count


@pytest.mark.parametrize(
    ("text", "phrase", "holds"),
    [
        ("我有一只狗。", "狗", True),
        ("我有一只狗。", "猫", False),
        ("我的iPhone很好", "iphone", True),
        ("I have dogs.", "dog", False),
        ("I don’t\nknow!", "don't know", True),
        ("वे अच्छे हैं", "है", False),
    ],
)
def test_an_edge_hears_a_phrase_as_whole_words_and_wherever_there_are_no_blanks(text, phrase, holds):
    assert contains(text, phrase) is holds


def test_an_override_is_in_normal_form_c():
    empty = Document("s.yaml", {}, yaml.MappingNode("", []))
    overridden = override(empty, [f"name={unicodedata.normalize('NFD', 'Café')}"], Scenario)
    assert overridden.data == {"name": "Café"}
