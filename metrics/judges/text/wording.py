"""Regular expressions, from the words that a persona file lists for a slot, that match them in the original text.

Between two words of a pattern, up to three fillers ("I still live in") and a negation ("I don't live in") may stand.
Contractions match the words for which they stand, and "we" stands for "I". In a pattern that begins with "I am", a name
and a description may follow ("I'm Grace, a nurse from Leeds"). {value} matches a value listed for the slot (longest
first, whole words, article, number and plain adjectives optional); for "age", a number in digits or words; for "name",
a listed name with a capital letter, or any capitalised word where the pattern itself is about naming ("my name is").

Three kinds of patterns read more (`scenarios.records.Recognition`). In an open pattern, {value} also matches what the
slot does not list: a capitalised name where all listed values are names, otherwise a noun of up to four words. In a
loose pattern, "..." stands for up to six words of the clause and "^" for the head of a sentence. A denial may have no
{value}: it denies them all ("I have no pets").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from metrics.judges.text import literal
from metrics.judges.text.ages import DECADE, NUMBER, NUMBER_ENDS, ORDINAL, years
from metrics.judges.text.assertion import APOSTROPHE, CORRECTING
from metrics.judges.text.word_lists import BEHIND_NOUNS, NO_NOUNS, OF_NOUNS
from scenarios.records import Slot
from scenarios.scripts import CAPITAL, LETTER, MARKS, has_no_blanks

NAME, AGE = "name", "age"  # the slots whose values are words of another kind
MASK = "\ue000"  # a character of private use, which stands in place of every character of a listed value
ANY = ""  # the value of a denial that denies all values
LISTED, OPEN, SUSPECT = "listed", "open", "suspect"  # how a value was recognised
OLDEST = 120  # years
AGE_PATTERNS = ("I am {value}", "I am a {value} year old")  # safe for numbers only, so every age slot has them
_FILLERS = (
    r"actually|really|still|also|now|currently|just|always|only|simply|merely|truly|definitely|certainly|basically|honestly|obviously|"
    r"clearly|of course|happily|proudly|presently|today|usually|mostly|mainly|indeed|in fact|already|even|very "
    r"much|very|well|quite|"
    r"too|both|technically|officially|personally|absolutely|totally|exactly|as you know|you know|do"
)
_NEGATIONS = rf"not|never|no longer|no|neither|cannot|(?:do|did|does|is|am|are|was|were|have|has|had|ai)n{APOSTROPHE}?t"
_GAP = rf"(?:(?:,\s+|\s+)(?:{_FILLERS}|{_NEGATIONS})\b,?){{0,3}}\s+"
NEGATION = re.compile(
    rf"(?:\b(?:not|cannot)|\b(?:do|did|does|is|are|was|were|ai|have|has|had|ca|could|would|should|wo)n{APOSTROPHE}?t)\b"
    r"(?!\s+(?:just|only|merely|simply)\b)|\b(?:never|no longer|no|neither)\b|不|没|沒",
    re.IGNORECASE,
)
_AUXILIARY = frozenset("do did does is are was were have has had could would should".split())
_CONTRACTIONS = {
    "i'm": "I am",
    "i've": "I have",
    "we're": "we are",
    "we've": "we have",
    "it's": "it is",
    "that's": "that is",
    "name's": "name is",
}
_SPELLINGS = {
    "favorite": "favou?rite",
    "favourite": "favou?rite",
    "color": "colou?r",
    "colour": "colou?r",
    "year": "years?",
    "years": "years?",
}
_BENDS = (
    _AUXILIARY | _SPELLINGS.keys() | {"i", "am", "can", "cannot", "will", "would"}
)  # words that a text may write otherwise
_ARTICLE = r"(?:(?:an?|the|my|our|one|two|three|four|five|six|seven|several|some|another)\s+)?"
_KIND_OF_PLACE = "city|town|village|hamlet|suburb|place"
_MODIFIERS = (  # none that tells a pastime from a trade: "a good cook" has no job
    r"(?:(?:proud|professional|full[- ]time|part[- "
    r"]time|local|freelance|busy|humble|simple|experienced|passionate|dedicated|"
    r"devoted|skilled|trained|licensed|certified|registered|qualified|senior|junior|head|chief|"
    r"self[- ]employed|retired|(?:well|little|lesser|un)[- ]?known|famous|renowned|respected|celebrated|"
    r"award[- ]winning|hard[- ]?working|struggling|successful|independent|working|jobbing|travell?ing|"
    r"village|street|small[- ]town|"
    r"young|old|little|small|big|large|huge|tiny|great|lovely|beautiful|sunny|rainy|charming|pet|rescue|elderly|"
    r"black|white|grey|gray|brown|ginger|orange|tabby|fluffy|fat|lazy|grumpy|noisy|cute|sweet|dear|beloved|tame|adorable|"
    r"proper|decent|mean|good old|homemade|home-made|spicy|grilled|fresh|crispy|classic|"
    r"plate of|bowl of|slice of|bit of|dish of|portion of|couple of|pair of|"
    r"electric|acoustic|grand|upright|concert|"
    rf"(?:[\w-]{{1,20}}\s+)?(?:{_KIND_OF_PLACE})\s+(?:of|called|named|near|outside|in|on)|(?:the\s+)?(?:isle?|island)\s+of|"
    r"(?:north|south|east|west)(?:ern)?|central|downtown|greater|"
    r"(?:heart|centre|center|middle|outskirts|suburbs|edge|streets|north|south|east|west) of|"
    r"[\w-]{1,40}[- ]years?[- ]old),?\s+){0,3}"
)
_PLURAL = r"(?:e?s)?"  # of a listed noun
_VALUE_ENDS = rf"(?!{APOSTROPHE}s\b|[\w{MARKS}-])"
# "I have a cat" ends here; "I have a cat allergy" goes on
_NOUN_ENDS = (
    rf"(?=\s*(?:$|[^\w\s'’-]|[–—-]\s)|\s+(?:{'|'.join(BEHIND_NOUNS)})\b|\s+\w+(?:ly|ing|ed)\b|\s+(?-i:{CAPITAL}))"
)
_COMPOUND = rf"(?!\s+(?:{'|'.join(OF_NOUNS)})\b)"  # "my cat food"
_PLACE_ENDS = (  # "Leeds United", "Leeds station" are no homes
    rf"(?!\s+(?!I\b)(?-i:{CAPITAL})|\s+(?:street|road|avenue|lane|station|airport|time|style|jacket|house|hotel)\b)"
)
_STOP = rf"(?:{'|'.join(BEHIND_NOUNS)})\b"
_NOUN = (  # up to four words that are no function words, at whose end the clause goes on or ends
    rf"(?:(?:a|an|the)\s+)?(?P<open>(?!(?:{'|'.join(NO_NOUNS)})\b)(?!{_STOP})[^\W\d_][\w'’-]*"
    rf"(?:\s+(?!{_STOP})[^\W\d_][\w'’-]*){{0,3}})(?=\s*(?:$|[^\w\s'’-]|[–—-]\s)|\s+{_STOP})"
)
_OTHER_SUBJECT = (  # words behind which a clause is about something else
    r"i|though|although|but|because|so|where|you|he|she|they|it|who|whom|whose|which|that|if|when|while|before|until|"
    r"used|him|her|them|friends?|his|their"
)
_SOME_WORDS = rf"(?:,?\s+(?!(?:{_OTHER_SUBJECT})\b)[\w'’{MASK}-]+){{0,6}}?"  # what "..." in a pattern stands for
_NAMING = frozenset({"name", "call", "calls", "called"})  # a pattern with one of these names someone
_NAME_ENDS = (  # "I'm Sven, hello", "I'm Sven from Oslo"; not "I'm Really glad"
    rf"(?=\s*(?:$|[^\w\s'’-]|[–—-]\s)|\s+(?:(?:and|but|from|by|the|who|your|speaking)\b|(?-i:{CAPITAL})))"
)
_TITLE = r"(?:(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Captain|Sir|Father|Sister)\.?\s+)?"
_CAPITALISED = (  # "Ann-Marie", "O'Brien"; not "I'm"
    rf"(?-i:{CAPITAL}(?:{LETTER}|-(?={LETTER})|['’](?!(?:m|s|re|ve|ll|d|t)\b)(?={LETTER}))*)(?!['’](?:m|re|ve|ll|d|t)\b)"
)
_PLACE_NAME = (
    rf"(?:{_CAPITALISED}\.?\s+|{_CAPITALISED}\s+(?:de|del|da|do|di|la|le|los|las|of|upon|on|am|an|der|sur|en|in)\s+)"
    rf"{{0,2}}{_CAPITALISED}"
)
_NAMED = rf",?\s+{_CAPITALISED}(?:\s+{_CAPITALISED})?"
_NOT_FROM = "way|ways|friend|fan|relative|hour|hours|mile|miles|drive|flight|ride|walk|letter|call|who|that|not"
# "I am [Grace, a nurse] from"
_ASIDE = rf"(?P<aside>(?:{_NAMED},?)?(?:\s+an?(?:\s+(?!(?:{_NOT_FROM})\b)[\w'’-]+){{1,4}}?,?)?)"
_APPOSED = rf"(?P<aside>{_NAMED},(?=\s+an?\s))?"  # "I am [Grace,] a nurse"
NO_NAMES = frozenset(
    "a an the not never no i my your his her it that what something and or but so unknown still dr mr mrs ms".split()
)
OPENS = re.compile(  # before "Grace here": elsewhere in a sentence it speaks of someone else
    r"\W*(?:(?:hi|hello|hey|yes|yeah|no|nope|nah|well|oh|so|ah|actually|honestly|good\s+(?:morning|afternoon|evening|day)|there|everyone|it['’]s)\W+)*",
    re.IGNORECASE,
)
CLAUSE_ENDS = (  # "I do not work", and not "I do not work as a vet"
    r"(?=\s*(?:[^\w\s'’-]|$)|\s+(?:and|but|so|because|since|now|right|any\s?more|at\s+(?:all|the\s+moment|present)|these"
    r"|currently|yet|for\s+a\s+living)\b)"
)
_VERB_NEXT = r"(?!\s+(?:is|are|was|were|has|have|had|can|will|would|sounds?|seems?|looks?)\b)"
_LINK = (
    r"(?:\s*,)?\s*(?P<link>,(?=\s+[^.!?;]{0,200}\b(?:and|or)\b)|\b(?:but\s+not|and\s+not|but\s+(?:rather|also)|"
    r"and\s+also|as\s+well\s+as|rather|and|or|nor|but|not)\b)\s+"
    r"(?:(?:in|at|as|from|of|near|on|my)\s+)?"
)

# "a nurse, I mean, a baker"
_CORRECTED = (
    rf"\s?[,.…–—-]{{0,3}}\s*(?:(?:no|oh|erm?|um|uh|well|oops|hang\s+on|hold\s+on)\b[,\s]{{0,2}}){{0,3}}{CORRECTING}\b[,:…]?\s*"
    r"(?:(?:no|i\s+mean|make\s+that)\b,?\s+)?(?:(?:in|at|as|from|it['’]s|i['’]m|i\s+am|my)\s+)?"
)


@dataclass(frozen=True)
class Pattern:
    """One wording of a claim about a slot, to be searched for in a text in which the listed values are masked; in the
    text itself where `reads` is not LISTED, where the slot is an age, and where it names no value.
    """

    source: str  # of the expression, with the group `value`, or `open` for a value that is not listed
    needs: frozenset[str]  # words that stand in every text it matches: looked up first, because searching is slow
    negative: bool  # whether it holds a negation of its own ("I don't eat {value}")
    reads: str = LISTED  # how a value that is not listed is read: OPEN, SUSPECT; LISTED: not at all
    heads: bool = False  # whether it matches only at the head of a sentence
    value: str | None = None  # the value it claims where it names none
    denies: bool = False  # whether it denies its value, or all of them

    @cached_property
    def expression(self) -> re.Pattern:
        """The regular expression, compiled at the first use, since most are never used."""
        return re.compile(self.source, re.IGNORECASE)


def patterns_of(slot: Slot, known: dict[str, str]) -> tuple[Pattern, ...]:
    """All patterns of a slot. Raises ValueError where one that needs a {value} does not have exactly one."""
    extra = slot.recognition
    read = dict.fromkeys(extra.open, OPEN) | dict.fromkeys(extra.suspect, SUSPECT)
    listed = dict.fromkeys((*slot.patterns, *(AGE_PATTERNS if slot.id == AGE else ()), *read, *extra.loose))
    patterns = [compiled(slot, known, pattern) for pattern in listed]
    patterns += [compiled(slot, known, pattern, reads) for pattern, reads in read.items()]
    patterns += [replace(compiled(slot, known, text), value=value) for text, value in extra.phrases]
    denied = {text: None if "{value}" in text else ANY for text in extra.denials}
    patterns += [replace(compiled(slot, known, text), value=value, denies=True) for text, value in denied.items()]
    return tuple(patterns)


def compiled(slot: Slot, known: dict[str, str], pattern: str, reads: str = LISTED) -> Pattern:
    """A pattern of the slot, ready for search; one without {value} matches as it is, and only at the end of a clause
    where it ends with "$".

    Raises ValueError where there are several {value}, or none in one of the slot's `patterns`.
    """
    if pattern.count("{value}") != 1 and (pattern in slot.patterns or "{value}" in pattern):
        raise ValueError(f"pattern {pattern!r} of slot {slot.id!r}: expected exactly one {{value}}")
    if literal.is_literal(pattern, known):
        source = literal.source(pattern, None if slot.id == AGE else f"{MASK}+")
        return Pattern(source, frozenset(), len(NEGATION.findall(pattern)) % 2 == 1, heads=pattern.startswith("^"))
    heads = pattern.startswith("^")
    before, _, rest = pattern.removeprefix("^").strip().rstrip(".!$").partition("{value}")
    before, after = _words(before), _words(rest)
    if "{value}" not in pattern:
        ends = CLAUSE_ENDS if pattern.endswith("$") else ""
        return Pattern(rf"\b(?P<value>{_sequence(before)})\b{ends}", _needs(before), False, heads=heads)
    article = before[-1] if before and before[-1].lower() in ("a", "an", "the") else None
    before = before[:-1] if article else before
    prefix = rf"\b{_sequence(before)}{_gap(before)}" if before else rf"(?<![\w{MASK}])"
    if slot.id not in (NAME, AGE) and _lower(before) == ["i", "am"]:
        prefix = rf"\b{_sequence(before)}{_APPOSED}{_GAP}"
    elif slot.id not in (NAME, AGE) and _lower(before)[:2] == ["i", "am"] and before[2] != "...":
        prefix = rf"\b{_sequence(before[:2])}{_ASIDE}{_joint(before[2])}{_sequence(before[2:])}{_GAP}"
    suffix = _joint(after[0]) + _sequence(after) + (r"\b" if after[-1][-1].isalnum() else "") if after else ""
    negative = len(NEGATION.findall(" ".join([*before, *after]))) % 2 == 1
    value = _value_group(slot.id, known, before, article, bool(after), reads)
    prefix += _ARTICLE if article else ""
    return Pattern(prefix + value + suffix, _needs([*before, *after]), negative, reads, heads)


def further(slot_id: str, known: dict[str, str]) -> re.Pattern | None:
    """An expression of one more value after a claim, in a masked text, with groups `link` ("and", "not", ...; None for
    a correction) and `value`. None for a slot whose values are numbers.
    """
    if not known or slot_id == AGE:
        return None
    return re.compile(rf"(?:{_LINK}|{_CORRECTED}){_listed(slot_id, known)}{_VERB_NEXT}", re.IGNORECASE)


def listed_values(slot: Slot, known: dict[str, str]) -> re.Pattern | None:
    """An expression of any listed value of a slot; None where there are none, or the values are numbers.

    Names of people match only where they are written with a capital letter.
    """
    ordered = sorted((value for value in known if value), key=len, reverse=True)
    if not ordered or slot.id == AGE:
        return None
    joined = [
        "|".join(r"[\s-]+".join(map(_word_of_value, value.split())) for value in part)
        for part in ([v for v in ordered if not has_no_blanks(v)], [v for v in ordered if has_no_blanks(v)])
    ]
    glued = any(literal.is_glued(pattern) for pattern in slot.patterns)
    starts = (
        ""
        if any(literal.is_glued(pattern.partition("{value}")[0] + "{value}") for pattern in slot.patterns)
        else (rf"(?<![\w{MARKS}-])")
    )
    ends = "" if glued else _VALUE_ENDS if slot.id == NAME or are_names(known) else rf"{_PLURAL}{_VALUE_ENDS}"
    capital = rf"(?=(?-i:{CAPITAL}))" if slot.id == NAME else ""
    parts = [rf"{starts}{capital}(?:{joined[0]}){ends}"] * bool(joined[0]) + [joined[1]] * bool(joined[1])
    return re.compile("|".join(parts), re.IGNORECASE)


def _word_of_value(word: str) -> str:
    return re.escape(word).replace("'", APOSTROPHE)


def are_names(known: dict[str, str]) -> bool:
    """Whether all values that a slot lists are proper names: none begins with a small letter."""
    return bool(known) and not any(value[:1].islower() for value in known.values())


def canonical(slot_id: str, value: str) -> str:
    """A value without case, leading article, and variants of apostrophes, hyphens and blanks; an age as digits."""
    plain = re.sub(r"[\s-]+", " ", value.strip().rstrip(".").replace("’", "'")).casefold()
    plain = re.sub(r"^(?:a|an|the) ", "", plain)
    if slot_id != AGE:
        return plain
    return years(plain)


def _value_group(
    slot_id: str, known: dict[str, str], before: list[str], article: str | None, followed: bool, reads: str
) -> str:
    """The part of the expression that captures the value, chosen by the kind of slot."""
    if slot_id == AGE:
        return rf"(?P<value>{NUMBER}|{DECADE}|{ORDINAL})" + ("" if followed else NUMBER_ENDS)
    if reads == LISTED:
        listed = _listed(slot_id, known)
        if slot_id == NAME and _NAMING & {word.lower() for word in before}:
            return rf"{_TITLE}(?P<value>{MASK}+|{_CAPITALISED}{_VALUE_ENDS})"
        if slot_id != NAME and not are_names(known) and not followed:
            possessed = article is None and before and before[-1].lower() == "my"
            listed += _COMPOUND if possessed else _NOUN_ENDS
        return listed
    if slot_id == NAME:
        return rf"{_TITLE}(?P<open>{_CAPITALISED}){_VALUE_ENDS}{'' if followed else _NAME_ENDS}"
    return rf"{_ARTICLE}{_MODIFIERS}(?P<open>(?-i:{_PLACE_NAME})){_VALUE_ENDS}" if are_names(known) else _NOUN


def _listed(slot_id: str, known: dict[str, str]) -> str:
    """A masked value as group `value`, with what may stand before it."""
    if slot_id == NAME:
        return rf"{_TITLE}(?P<value>{MASK}+)"
    return rf"{_ARTICLE}{_MODIFIERS}(?P<value>{MASK}+){_PLACE_ENDS if are_names(known) else ''}"


def _needs(words: list[str]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words if word.isalnum() and word.lower() not in _BENDS)


def _lower(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


def _words(part: str) -> list[str]:
    """The words of one side of a pattern, contractions spelled out."""
    spelled = (_CONTRACTIONS.get(word.lower(), word) for word in part.replace("’", "'").split())
    return re.sub(r"\b(do|did|does|was|is|have|had) not\b", r"\1n't", " ".join(spelled)).split()


def _sequence(words: list[str]) -> str:
    """An expression of the words in order, with gaps for fillers and negations, contractions allowed."""
    built = ""
    for place, word in enumerate(words):
        lower, previous = word.lower(), words[place - 1].lower() if place else ""
        if word == "...":
            built += _SOME_WORDS
        elif not place:
            built = _word(word)
        elif lower == "am" and previous == "i":
            built += rf"(?:{APOSTROPHE}?m|{APOSTROPHE}re|{_GAP}(?:am|are(?:n{APOSTROPHE}?t)?)|\s+ain{APOSTROPHE}?t)\b"
        elif lower == "have" and previous in ("i", "we"):
            built += rf"(?:{APOSTROPHE}ve|{_GAP}have(?:n{APOSTROPHE}?t)?)(?:\s+got)?\b"
        elif lower == "will":
            built += rf"(?:{APOSTROPHE}ll|{_GAP}will)\b"
        elif lower == "would":
            built += rf"(?:{APOSTROPHE}d|{_GAP}would(?:n{APOSTROPHE}?t)?)\b"
        elif lower == "is":
            again = rf",?\s+(?:it|that)(?:{APOSTROPHE}s|\s+is)"  # "my favourite dish, it's"
            built += rf"(?:{APOSTROPHE}s|{_GAP}is(?:n{APOSTROPHE}?t)?|{again})\b"
        elif lower == "are":
            built += rf"(?:{APOSTROPHE}re|{_GAP}are(?:n{APOSTROPHE}?t)?)\b"
        else:
            built += _joint(word) + _word(word)
    return built


def _gap(before: list[str]) -> str:
    """What stands between a pattern's words and its value."""
    return _GAP if before[-1][-1].isalnum() or before[-1] == "..." else r"\s+"


def _joint(word: str) -> str:
    """What may stand before a word: a gap; a hyphen in "34-year-old"; next to nothing before a comma."""
    if word.lower() in ("year", "years", "old"):
        return r"[\s-]+"
    return _GAP if word[0].isalnum() else r"\s*"


def _word(word: str) -> str:
    """An expression of one word: either spelling, with its contracted negation where it is an auxiliary."""
    lower = word.lower()
    if lower == "i":
        return "(?:i|we)"
    if lower.endswith("n't"):
        return rf"{re.escape(lower[:-3])}(?:n{APOSTROPHE}?t|\s+not)"
    if lower == "cannot":
        return rf"can(?:not|\s+not|{APOSTROPHE}?t)"
    if lower == "can":
        return rf"can(?:{APOSTROPHE}?t|not)?"
    plain = _SPELLINGS.get(lower) or re.escape(lower).replace("'", APOSTROPHE)
    return rf"{plain}(?:n{APOSTROPHE}?t)?" if lower in _AUXILIARY else plain
