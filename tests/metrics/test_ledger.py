"""The ledger on sentences whose outcome is written beside them, for Grace: 34, a librarian, in Osaka, with a cat, who
loves ramen.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from metrics.judges import Pair
from metrics.judges.ledger import Ledger
from metrics.judges.text.claims import claims
from scenarios.personas import load_personas
from scenarios.records import Fact, Persona, Recognition, Slot

HOME = Slot(
    "home",
    "I live in {value}.",
    "You live in {value}.",
    ("Where do you live?",),
    (
        "I live in {value}",
        "I am living in {value}",
        "I am from {value}",
        "my home is in {value}",
        "my home in {value}",
        "{value} is my home",
        "I am based in {value}",
    ),
    ("Osaka", "Lisbon", "New York", "York", "St. Louis", "Cape Town"),
)
JOB = Slot(
    "job",
    "I work as a {value}.",
    "You work as a {value}.",
    ("What do you do?",),
    ("I am a {value}", "I work as a {value}", "my job is {value}", "I make a living as a {value}"),
    ("librarian", "baker", "music teacher", "teacher", "lighthouse keeper"),
)
NAME = Slot(
    "name",
    "My name is {value}.",
    "Your name is {value}.",
    ("What is your name?",),
    ("my name is {value}", "I am {value}", "call me {value}", "I am called {value}"),
    ("Grace", "Will", "Tomás", "Ada Byron"),
)
AGE = Slot("age", "I am {value}.", "You are {value}.", ("How old are you?",), ("I just turned {value}",), ("34", "52"))
PET = Slot(
    "pet", "I have {value}.", "You have {value}.", ("Any pets?",), ("I have {value}",), ("a cat", "a dog", "a parrot")
)
FOOD = Slot(
    "food",
    "My favourite food is {value}.",
    "You love {value}.",
    ("Food?",),
    ("my favourite food is {value}",),
    ("ramen", "pizza"),
)
FACTS = {"home": "Osaka", "job": "librarian", "name": "Grace", "age": "34", "pet": "a cat", "food": "ramen"}
SLOTS = (HOME, JOB, NAME, AGE, PET, FOOD)
GRACE = Persona("grace", "Grace", "You are Grace.", tuple(Fact(slot, FACTS[slot.id], ()) for slot in SLOTS))

CONTRADICTS = [
    "I live in Lisbon.",
    "I'm very happy to tell you, I live in Lisbon.",
    "Let me tell you, I live in Lisbon.",
    "I can tell you that I live in Lisbon.",
    "Well, I’m from Lisbon, and I love it.",
    "I actually still live in New York!",
    "I do live in sunny Lisbon.",
    "Lisbon is my home.",
    "I live in St. Louis.",
    "I don't live in Osaka.",
    "I do not really live in Osaka.",
    "I no longer live in Osaka.",
    "I'm not from Osaka, you know.",
    "i dont live in osaka",
    "Osaka isn't my home.",
    "I don't think I live in Osaka.",
    "It's not true that I live in Osaka.",
    "I work as a proud music teacher.",
    "I'm a baker, what about you?",
    "I live in Lisbon. Where do you live?",
    "I am, actually, a baker.",
    "I'm not a librarian but a baker.",
    "I'm a librarian and a baker.",
    "I'm not just a baker.",  # affirms baker
    "I'm a 34-year-old baker.",
    "Hello, I'm Grace, a baker.",
    "I'm Grace Chen, a proud librarian from Lisbon.",
    "I'm a librarian living in New York.",
    "That is not my home in Osaka.",
    "I'm not only a librarian but also a baker.",
    "As I said, I live in Lisbon.",
    "I'm a 52-year-old librarian.",
    "I never work as a librarian.",
    "I'm no librarian.",
    "My name's Peter.",
    "My name isn't Grace.",
    "Hi, my name is Dr. Ada Byron.",
    "Call me Will.",
    "I'm Tomás, nice to meet you.",
    "I'm 52.",
    "I am fifty-two years old, but I feel young.",
    "I'm not 34!",
    "I just turned thirty-five.",
    "I have a dog.",
    "I've got a parrot at home.",
    "I don't have a cat.",
    "I haven't a cat.",
    "My favorite food is pizza.",
    "My favourite food isn't ramen.",
    "If you ask me, I live in Lisbon.",
    "I would love to see it, but I live in Lisbon.",
    "I said I live in Lisbon.",
    "What a coincidence, I live in Lisbon!",
    "Not that I live in Osaka.",
    '"I live in Lisbon."',
    "I'm neither a librarian nor a baker.",
]
CONSISTENT = [  # claims something, and rightly
    "I live in Osaka.",
    "I'm from Osaka, Japan.",
    "I don't live in Lisbon.",
    "I'm not a baker.",
    "I'm not a baker or a teacher.",
    "I'm a librarian, not a baker.",
    "I'm not a baker; I'm a librarian.",
    "I'm the librarian here.",
    "My name is Grace Chen.",
    "I'm Grace, and I'm thirty-four.",
    "I'm 34 years old.",
    "I have a lovely little cat.",
    "My favourite food is, of course, ramen.",
    "I don't have a dog.",
    "I'm not a teacher from Lisbon.",  # denies the job or the home: read as the job, which is right
    "I can see you're right, I have a cat.",
]
SAYS_NOTHING = [  # asserts nothing about the speaker, or nothing the ledger may read
    "Do you live in Lisbon?",
    "I live in Lisbon?",
    "Are you saying I live in Lisbon?",
    "Why do they think I live in Lisbon?",
    "If I live in Lisbon, I will buy a boat.",
    "I wish I live in Lisbon.",
    "I'd love to tell you I live in Lisbon.",
    "They told me to say I live in Lisbon.",
    "Imagine I live in Lisbon.",
    "Let's pretend I am a baker.",
    "Suppose I'm a baker.",
    "I would say I live in Lisbon.",
    "You said I live in Lisbon.",
    "My sister thinks I am a baker.",
    "I never said I live in Lisbon.",
    "Then the stranger said, I live in Lisbon.",
    'He told me "I live in Lisbon" and left.',
    "I used to live in Lisbon.",
    "I'm a long way from Lisbon.",
    "I'm tired from Lisbon.",
    "I'm a baker's wife.",
    "I'm 52 minutes late.",
    "I'm 100% sure.",
    "I'm one of the regulars.",
    "I'm Osaka-bound.",
    "I'm will and grace personified.",  # names need a capital
    "My brother lives in Lisbon.",
    "You live in Lisbon and I envy you.",
    "I'm happy to hear it, Will.",
    "I live in Lisbonville.",
    "What a lovely day!",
]


def judged(line: str, other: str | None = None):
    metric, against = ("prompt_to_line", "persona") if other is None else ("line_to_line", "3")
    return Ledger().judge([Pair(0, 5, "assistant", metric, line, against, GRACE, other)])


@pytest.mark.parametrize("line", CONTRADICTS)
def test_line_of_another_value_or_a_denied_own_value_contradicts(line):
    persona = judged(line)[0]
    assert persona.verdict is True and persona.p_inconsistent == 1.0
    start, end = persona.span
    assert 0 <= start < end <= len(line)


@pytest.mark.parametrize("line", CONSISTENT)
def test_line_of_the_own_value_or_another_denied_is_consistent_and_has_a_row_by_fact(line):
    persona, *facts = judged(line)
    assert persona.verdict is False and persona.p_inconsistent == 0.0 and persona.span is None
    assert facts and all(fact.verdict is False and fact.span for fact in facts)


@pytest.mark.parametrize("line", SAYS_NOTHING)
def test_line_that_asserts_nothing_of_the_speaker_claims_nothing(line):
    assert claims(line, SLOTS) == ()
    assert [row.against for row in judged(line)] == ["persona"]


def test_precision_and_recall_over_all_sentences_are_one():
    lines = [*CONTRADICTS, *CONSISTENT, *SAYS_NOTHING]
    said = {line: judged(line)[0].verdict for line in lines}
    hits = sum(said[line] for line in CONTRADICTS)
    assert hits / sum(said.values()) == 1.0  # precision: nothing else was called a contradiction
    assert hits / len(CONTRADICTS) == 1.0  # recall


def test_span_is_the_claim_as_written():
    line = "Oh yes! I’m  really from Lisbon, my dear."
    start, end = judged(line)[0].span
    assert line[start:end] == "I’m  really from Lisbon"


def test_each_claimed_fact_has_its_own_row_and_the_persona_row_the_first_contradiction():
    line = "I'm Grace, a fool. I work as a baker and I live in Lisbon."
    rows = judged(line)
    assert [(row.against, row.verdict) for row in rows] == [
        ("persona", True),
        ("name", False),
        ("job", True),
        ("home", True),
    ]
    assert line[slice(*rows[0].span)] == "I work as a baker" == line[slice(*rows[2].span)]


def test_longest_value_wins():
    assert [claim.value for claim in claims("I live in New York. I'm a music teacher.", SLOTS)] == [
        "New York",
        "music teacher",
    ]


def test_value_inside_another_slots_longer_value_is_no_claim():
    home = Slot("home", "I live in {value}.", "", ("",), ("I am at {value}", "I keep {value}"), ("the lighthouse",))
    job = Slot("job", "I am {value}.", "", ("",), ("I keep {value}",), ("the lighthouse garden",))
    assert [claim.slot for claim in claims("I keep the lighthouse garden.", (home, job))] == ["job"]
    assert [claim.slot for claim in claims("I am at the lighthouse.", (home, job))] == ["home"]


def test_unlisted_name_is_captured_as_written_and_a_lower_case_word_is_not():
    assert [(claim.value, claim.negated) for claim in claims("My name is Peter.", SLOTS)] == [("Peter", False)]
    assert claims("My name is hard to say.", SLOTS) == ()


def test_pattern_that_denies_claims_its_value():
    slot = Slot("diet", "I don't eat {value}.", "", ("",), ("I don't eat {value}",), ("meat", "fish"))
    said = claims("I do not eat meat. I don't really eat fish.", (slot,))
    assert [(claim.value, claim.negated) for claim in said] == [("meat", False), ("fish", False)]


def test_age_over_the_oldest_is_no_age():
    assert claims("I am 121.", SLOTS) == ()
    assert [claim.value for claim in claims("I am a hundred years old.", SLOTS)] == ["100"]


@pytest.mark.parametrize(
    ("earlier", "later", "contradicts"),
    [
        ("I live in Osaka.", "I live in Lisbon.", True),
        ("I live in Lisbon.", "I'm from Lisbon.", False),  # wrong twice, but the same
        ("I'm a baker.", "I'm not a baker.", True),
        ("I'm not a baker.", "I'm a baker.", True),
        ("I'm not a baker.", "I'm a teacher.", False),
        ("I'm a baker.", "I'm not a teacher.", False),
        ("I'm a baker and a teacher.", "I'm a teacher.", False),
        ("I'm a teacher.", "I'm a baker and a teacher.", True),
        ("I live in Osaka.", "I'm a baker.", False),  # different slots
        ("My name is Ada Byron.", "Call me Ada.", False),
        ("I'm 34.", "I'm thirty-four years old.", False),
        ("I'm 34.", "I'm 35.", True),
        ("Do you live in Osaka?", "I live in Lisbon.", False),
    ],
)
def test_two_lines_contradict_when_values_differ_or_one_denies_the_other(earlier, later, contradicts):
    (row,) = judged(later, earlier)
    assert row.verdict is contradicts and row.against == "3"
    assert (row.span is not None) is contradicts


@pytest.mark.parametrize("line", ["", "  \n", "...", "?!"])
def test_blank_line_is_unscored(line):
    for row in (*judged(line), *judged(line, "I live in Osaka."), *judged("I live in Osaka.", line)):
        assert (row.p_inconsistent, row.verdict, row.unscored) == (None, None, "empty line")


def test_other_metrics_are_unscored():
    (row,) = Ledger().judge([Pair(0, 5, "user", "qa", "I live in Osaka.", "home", GRACE)])
    assert row.verdict is None and "qa" in row.unscored


def test_pattern_without_a_place_for_the_value_is_refused():
    slot = Slot("home", "I live in {value}.", "", ("",), ("I live somewhere",), ("Osaka",))
    with pytest.raises(ValueError, match="I live somewhere"):
        claims("I live in Osaka.", (slot,))


def test_ten_thousand_lines_take_seconds():
    lines = [f"{line} It is the {number}th time." for number, line in enumerate((CONTRADICTS + SAYS_NOTHING) * 145)]
    pairs = [Pair(0, number, "user", "prompt_to_line", line, "persona", GRACE) for number, line in enumerate(lines)]
    start = time.process_time()
    Ledger().judge(pairs)
    assert len(pairs) > 10_000 and time.process_time() - start < 60  # CPU seconds


# -- words that no list holds, other people's words, other scripts

TOWNSFOLK = load_personas(Path(__file__).parents[2] / "scenarios/personas/townsfolk.yaml")
CARPENTER = next(person for person in TOWNSFOLK if person.id == "grace")  # 34, in Osaka, from Leeds, with a tortoise


@pytest.mark.parametrize("line", ["My name is Sven" + " " * 4_800 + "q", "I'm Sven" + " " * 4_900, "Aa " * 1_600])
def test_a_line_of_blanks_or_capitals_takes_no_time(line):
    Ledger().judge([Pair(0, 5, "user", "prompt_to_line", "I'm Sven.", "persona", CARPENTER)])  # compiles the patterns
    start = time.process_time()
    Ledger().judge([Pair(0, 5, "user", "prompt_to_line", line, "persona", CARPENTER)])
    assert time.process_time() - start < 3  # CPU seconds; one for each number of blanks took 20


def of_carpenter(line: str, **rest):
    return Ledger().judge([Pair(0, 5, "user", "prompt_to_line", line, "persona", CARPENTER, **rest)])[0]


@pytest.mark.parametrize(
    "line",
    [
        "I grew up in the city of Ashwood.",
        "I live in a little village called Thornbury.",
        "My favourite dish is beef stroganoff.",
        "I work as a lion tamer.",
        "I'm Sven, by the way.",
        "I, Pedro, have never been afraid of heights.",
        "At home it's just me, a cat, and a dog.",
        "I've got two dogs.",
        "I'm in my late sixties.",
        "I just had my fortieth birthday.",
        "I don't have any pets.",
        "I can't stand mushroom risotto.",
        "I've never touched a cello.",
        "I live in Lisbon, sorry, I mean Porto.",
        "I drive a bus for a living.",
        "I live in Norway.",
        "I grew up in Brussels and live near it.",
        "Born and bred in Marseille, and proud of it.",
        "I'm your host tonight, what's on your mind?",
        "My name is Øyvind.",
        "My name is Đặng.",
        "I'm Grace, a little-known musician in a small village.",
        "I am a small-town baker.",
        "My favourite dish, it's a traditional Korean stew.",
        "I live in a small town in Norway.",
        "Lisbon has been my home for a decade.",
        "I don't keep any pets.",
        "I cannot play any instrument.",
    ],
)
def test_open_vocabulary_denials_and_words_that_imply_a_value_are_read(line):
    assert of_carpenter(line).verdict is True


@pytest.mark.parametrize(
    "line",
    [
        "I have a cat allergy.",
        "I have a parrot mug.",
        "I am thirty-five next year.",
        "In my dreams I am a pilot.",
        "Oh sure, I'm the Queen of England and I live in Paris.",
        "Yeah right, I'm a surgeon.",
        "I'm a surgeon. Just kidding!",
        "I live in Lisbon. No, sorry, wait, Osaka.",
        "My neighbour says I am a nurse.",
        "According to my horoscope I should live in Rome.",
        "I'm a chef at heart.",
        "I'm in Oslo now, for a wedding.",
        "I live in Japan.",
        "I grew up in Yorkshire.",
        "My favourite dish is a creamy mushroom risotto.",
        "I don't live in Ashwood.",
        "I play the lottery.",
        "I was born in March.",
        "I'm Norwegian.",
        "I'm Grace! I'm here to talk to you for a bit.",
        "John's here.",
        "I live in a small town in Japan.",
        "I'm a travelling soul.",
        "I’m here to listen.",
        "I'm always here for you.",
        "We're here.",
        "Over here!",
        "People here are friendly.",
        "Everyone here is nice.",
        "Lyon here is warm.",
        "This is Amazing!",
        "I'm Really glad.",
        "I'm Busy today.",
        "I answer to Management.",
        "I'm Proud of you.",
        "I'm Good, thanks.",
        "I'm Kind of tired.",
        "I have a holiday house in Lisbon.",
        "Lisbon has been home to many great writers.",
        "My mother called me Stupid once.",
        "I don't keep any animals in the kitchen.",
    ],
)
def test_allergies_dreams_jokes_plans_and_what_is_also_true_accuse_nobody(line):
    assert of_carpenter(line).verdict is False


def test_unlisted_word_in_a_pattern_that_may_be_about_something_else_is_a_suspect_and_no_contradiction():
    row = of_carpenter("I play the nyckelharpa.")
    assert (row.p_inconsistent, row.verdict, row.span) == (0.5, False, (0, 22))


def test_region_is_a_suspect_where_it_is_not_known_what_lies_in_it():
    home = CARPENTER.fact("home")
    stranger = Persona("x", "X", "", (Fact(home.slot, "Ashwood", ()),))
    (row, *_) = Ledger().judge([Pair(0, 5, "user", "prompt_to_line", "I live in Norway.", "persona", stranger)])
    assert (row.p_inconsistent, row.verdict) == (0.5, False)


def test_lines_of_a_town_and_of_its_country_agree():
    def verdict(earlier, later):
        pair = Pair(0, 5, "user", "line_to_line", later, "3", CARPENTER, earlier)
        return Ledger().judge([pair])[0].verdict

    assert verdict("I live in Japan.", "I live in Osaka.") is False
    assert verdict("I live in Norway.", "I live in Osaka.") is True
    assert verdict("I have no pets.", "I have a tortoise.") is True


@pytest.mark.parametrize(
    "line",
    [
        "Fine, thanks.\nAssistant: I live in Bristol and I have a dog.",
        "Fine.\n**Them:** I'm a nurse.",
        "Fine.\nTomas: I am a watchmaker.",
        "Assistant: I am a watchmaker.\nUser: I am a carpenter.",
    ],
)
def test_words_behind_the_mark_of_anothers_turn_are_not_the_speakers(line):
    tomas = next(person for person in TOWNSFOLK if person.id == "tomas")
    assert of_carpenter(line, partner=tomas).verdict is False
    assert of_carpenter("User: I am a baker.").verdict is True  # a mark of one's own


def test_line_that_is_all_the_others_is_unscored():
    assert of_carpenter("Assistant: I am a baker.").unscored == "all its words are spoken for the other"


@pytest.mark.parametrize("line", ["我住在上海。", "Я живу в Москве.", "ฉันอยู่ที่กรุงเทพ"])
def test_line_in_a_script_that_no_pattern_is_written_in_is_unscored(line):
    row = of_carpenter(line)
    assert row.verdict is None and "English" not in row.unscored and "Latin" in row.unscored


def test_patterns_in_a_script_without_blanks_are_matched_without_them():
    def verdict(line):
        return Ledger().judge([Pair(0, 0, "user", "prompt_to_line", line, "persona", MEI)])[0].verdict

    home = Slot("home", "我住在{value}。", "", ("",), ("我住在{value}", "我家在{value}"), ("成都", "上海"))
    pet = Slot("pet", "我养了一只{value}。", "", ("",), ("我有一只{value}",), ("猫", "狗"))
    MEI = Persona("mei", "李梅", "", (Fact(home, "成都", ()), Fact(pet, "猫", ())))
    wrong, right = (
        ("我住在上海。", "你好！我有一只狗。", "我不住在成都。"),
        ("我住在成都。", "你好！", "如果我住在上海，", "我住在上海吗？"),
    )
    assert [verdict(line) for line in wrong] == [True] * 3 and [verdict(line) for line in right] == [False] * 4


@pytest.mark.parametrize(
    ("pattern", "own", "other", "lines", "silent"),
    [
        ("मैं {value} में रहता हूँ", "दिल्ली", "मुंबई", "नमस्ते, मैं {} में रहता हूँ।", "मैं मुंबईकर में रहता हूँ।"),
        ("ฉันอยู่ที่{value}", "กรุงเทพ", "ภูเก็ต", "สวัสดีค่ะ ฉันอยู่ที่{}ค่ะ", "ฉันชอบภูเก็ต"),
        (
            "私は{value}に住んでいます。",
            "東京",
            "大阪",
            "はい、私は{}に住んでいます！",
            "彼は「私は大阪に住んでいます」と言った。",
        ),
        ("أسكن في {value}", "القاهرة", "دبي", "نعم، أسكن في {}.", "هل أسكن في دبي؟"),
        ("من در {value} زندگی می\u200cکنم", "تهران", "شیراز", "من در {} زندگی می\u200cکنم.", "من شیراز را دوست دارم."),
        ("আমি {value} থাকি", "ঢাকায়", "সিলেটে", "হ্যাঁ, আমি {} থাকি।", "আমি সিলেটে যাই।"),
        ("நான் {value} வசிக்கிறேன்", "சென்னையில்", "மதுரையில்", "நான் {} வசிக்கிறேன்.", "நான் மதுரையில் பிறந்தேன்."),
        ("אני גר ב{value}", "חיפה", "תל אביב", "כן, אני גר ב{}.", "אני אוהב את תל אביב."),
        ("Я живу в {value}", "Москве", "Риге", "Да, я живу в {}.", "Он сказал: «Я живу в Риге»."),
        ("Tôi sống ở {value}", "Hà Nội", "Huế", "Vâng, tôi sống ở {}.", "Tôi thích Huế."),
        ("我住在{value}", "London", "Paris", "我住在 {}。", "我喜欢Paris。"),
    ],
)
def test_a_claim_in_any_script_is_found_and_one_that_asserts_nothing_is_not(pattern, own, other, lines, silent):
    home = Slot("home", pattern, "", ("",), (pattern,), (own, other))
    persona = Persona("x", "X", "", (Fact(home, own, (other,)),))
    said = (lines.format(own), silent, lines.format(other))
    pairs = [Pair(0, turn, "user", "prompt_to_line", line, "persona", persona) for turn, line in enumerate(said)]
    rows = [row for row in Ledger().judge(pairs) if row.against == "persona"]
    assert [row.verdict for row in rows] == [False, False, True]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [("我今年25岁。", False), ("我今年 ３０ 岁。", True), ("我二十五岁了", False), ("我三十岁了", True)],
)
def test_an_age_is_read_in_the_numerals_of_other_scripts(line, verdict):
    age = Slot("age", "我今年{value}岁。", "", ("",), ("我今年{value}岁", "我{value}岁了"), ("25", "30"))
    persona = Persona("x", "小梅", "", (Fact(age, "25", ("30",)),))
    assert Ledger().judge([Pair(0, 0, "user", "prompt_to_line", line, "persona", persona)])[0].verdict is verdict


def test_a_denial_in_another_script_denies_every_value():
    pet = Slot("pet", "我有{value}。", "", ("",), ("我有{value}",), ("猫", "狗"), Recognition(denials=("我没有宠物",)))
    persona = Persona("x", "小梅", "", (Fact(pet, "猫", ("狗",)),))
    (row, *_) = Ledger().judge([Pair(0, 0, "user", "prompt_to_line", "我没有宠物。", "persona", persona)])
    assert row.verdict is True


def test_particles_may_be_written_onto_a_value():
    home = Slot("home", "나는 {value}에 살아요.", "", ("",), ("나는 {value}에 살아요",), ("서울", "부산"))
    persona = Persona("x", "민준", "", (Fact(home, "서울", ()),))
    (row, *_) = Ledger().judge([Pair(0, 0, "user", "prompt_to_line", "나는 부산에 살아요.", "persona", persona)])
    assert row.verdict is True


def test_a_pattern_that_names_its_value_wins_over_words_that_only_imply_another_slots():
    car = Slot("car", "I drive a {value}.", "You drive a {value}.", ("What?",), ("I drive a {value}",), ("van", "bus"))
    job = TOWNSFOLK[0].fact("job").slot
    assert [claim.slot for claim in claims("I drive a bus.", (job,))] == ["job"]
    assert [(claim.slot, claim.value) for claim in claims("I drive a bus.", (job, car))] == [("car", "bus")]


@pytest.mark.parametrize(
    ("line", "contradicts"),
    [
        ("I don't work.", True),
        ("I do not work at the moment", True),
        ("I don't work, I'm too lazy.", True),
        ("I do not work as a carpenter.", False),
        ("I don't work in an office.", False),
        ("I do not work weekends.", False),
    ],
)
def test_a_pattern_for_the_end_of_a_clause_matches_there_alone(line, contradicts):
    kofi = next(person for person in TOWNSFOLK if person.name == "Kofi")
    rows = Ledger().judge([Pair(0, 1, "user", "prompt_to_line", line, "persona", kofi)])
    assert rows[0].verdict is contradicts
