"""A persona as a list of statements in the first person, and a line as the sentences that may contradict them.

The statements of a persona are the claims of its facts and, where its card is a text of its own, the sentences of the
card. Of a card that was written from the facts, the other sentences tell a manner, and are left out. Sentences of cards
are put in the first person: "You live in Oslo", "Grace lives in Oslo" and "She lives in Oslo" all become "I live in
Oslo", by rules over words. The rules take every "he" or "she" of a card for its persona, and leave a second verb
unchanged ("I live alone and works").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from metrics.judges import is_blank
from metrics.judges.text.assertion import sentence_spans
from scenarios.records import Persona

_FIRST = re.compile(r"\b(?:I|me|my|mine|I['’]\w+)\b")
_SECOND = re.compile(r"\byou(?:r|rs|rself|['’]\w+)?\b", re.IGNORECASE)
_THIRD = re.compile(r"\b(?:s?he|his|hers?|him(?:self)?|herself)\b", re.IGNORECASE)
_OBJECT = "|".join(
    rf"(?<=\b{word} )" for word in ("to", "for", "with", "of", "by", "from", "at", "on", "about", "like", "makes")
)
_YOU = (  # in this order
    (re.compile(r"\byou(?:['’]re| are)\b", re.IGNORECASE), "I am"),
    (re.compile(r"\bare you\b", re.IGNORECASE), "am I"),
    (re.compile(r"\byou were\b", re.IGNORECASE), "I was"),
    (re.compile(r"\byour\b", re.IGNORECASE), "my"),
    (re.compile(r"\byours\b", re.IGNORECASE), "mine"),
    (re.compile(r"\byourself\b", re.IGNORECASE), "myself"),
    (re.compile(rf"(?:{_OBJECT})you\b", re.IGNORECASE), "me"),
    (re.compile(r"\byou(?=\s*[.,;!?]|$)", re.IGNORECASE), "me"),
    (re.compile(r"\byou\b", re.IGNORECASE), "I"),
)
_NO_NAMES = frozenset(
    """A An The I In On At As After Before Despite Through With While When Although Though Because Since For From By Of
    To And But Or So He She They It His Her Their My Your You We Our Its This That These Those There Here Born
    Growing Raised Known Meet Now Today Outside Beyond Overall However Currently Recently Throughout During Over
    Under Like Whether If One What Who Where Why How Once Each Every Some Many Most All Both No Not Yet Still Also
    Then Being Having""".split()
)
_ADVERB = (
    r"(?:(?:also|often|always|currently|never|now|still|really|usually|sometimes|recently|just|truly|deeply|\w+ly)\s+)?"
)
_NO_NOUN = r"(?:and|to|in|with|as|for|on|from|into|an?|the)\b"  # after "her": it stands for "me", not "my"
_NAME_FIRST = re.compile(r"(?:Meet\s+)?(?:\d[\w-]*\s+)?((?:[\"“']?[A-Z][\w-]*[\"”']?\s*){1,4})(?=,|is\b)")
_VERBS = {"is": "am", "has": "have", "does": "do", "goes": "go", "was": "was", "'s": " am", "’s": " am"}


def statements(persona: Persona) -> tuple[tuple[str | None, str], ...]:
    """(fact id, statement in the first person): the claims of the facts, then the sentences of a card that is a text of
    its own (their id is None).
    """
    claims = tuple((fact.id, fact.claim) for fact in persona.facts)
    if any(fact.card and fact.card in persona.card for fact in persona.facts):
        return claims
    return (*claims, *((None, text) for text in _of_card(persona.card, persona.name)))


def said(line: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a line that may claim something: all but questions without an "I".

    Where none is left, they are all sentences.
    """
    spans = [_stripped(line, *span) for span in sentence_spans(line)]
    spans = [(start, end) for start, end in spans if not is_blank(line[start:end])]
    claiming = [
        (start, end)
        for start, end in spans
        if not line[start:end].rstrip("\"”'’) ").endswith("?") or _FIRST.search(line, start, end)
    ]
    return claiming or spans


def first_person(text: str, names: Sequence[str] = ()) -> str:
    """The card in the first person; a card that mostly says "I" is returned unchanged."""
    counts = [len(pattern.findall(text)) for pattern in (_FIRST, _SECOND, _THIRD)]
    counts[2] += sum(len(re.findall(rf"\b{re.escape(name)}\b", text)) for name in names)
    if counts[0] >= max(counts[1:]):
        return text
    if counts[1] >= counts[2]:
        for pattern, word in _YOU:
            text = pattern.sub(word, text)
        return _capitals(text)
    return _capitals(_from_third(text, names))


def names_of(persona_name: str, card: str) -> tuple[str, ...]:
    """The words by which a card names its persona, as far as they occur in the card.

    They are the words of the persona's name, those of the name with which the card opens ("Meet Ann Lee, a"), and the
    capitalised word that opens most sentences.
    """
    opening = _NAME_FIRST.match(card)
    words = re.findall(r"[^\W\d_][\w-]*", f"{persona_name} {opening[1] if opening else ''}")
    opens = (re.match(r"\W*([A-Z][^\W\d_]+)\b", card[start:end]) for start, end in sentence_spans(card))
    counts = Counter(match[1] for match in opens if match)
    words += [name for name, times in counts.most_common() if times > 1 and name not in _NO_NAMES][:1]
    return tuple(
        dict.fromkeys(
            word
            for word in words
            if word[0].isupper()
            and len(word) > 1
            and word not in _NO_NAMES
            and re.search(rf"\b{re.escape(word)}\b", card)
        )
    )


@lru_cache(maxsize=4096)
def _of_card(card: str, name: str) -> tuple[str, ...]:
    card = card.replace("\\n", "\n").replace('\\"', '"').strip().strip('"“”').strip()  # some files escape twice
    text = first_person(card, names_of(name, card))
    pieces = [text[slice(*_stripped(text, *span))] for span in sentence_spans(text)]
    return tuple(dict.fromkeys(piece for piece in pieces if not is_blank(piece)))


def _from_third(text: str, names: Sequence[str]) -> str:
    word = rf"[\"“']?\b(?:{'|'.join(map(re.escape, names))})\b[\"”']?" if names else r"(?!)"
    name = rf"(?:{word}(?:\s+{word}){{0,9}})"
    text = re.sub(rf"\bMeet\s+(\d+)-year-old\s+{name},(?=\s+an?\s)", r"I am \1 years old,", text)
    text = re.sub(rf"\bMeet\s+(?:\d[\w-]*\s+)?(?={name})", "", text)
    text = re.sub(rf"{name}['’]s\b(?=\s+(?!an?\b|the\b|not\b)\w)", "my", text)
    text = re.sub(rf"{name},(?=\s+an?\s)", "I am", text)
    text = re.sub(
        rf"(?:{name}|\b[Ss]?[Hh]e)['’]s(?=\s+(?:(?:also|never|always)\s+)?(?:been|had|\w+ed)\b)", "I have", text
    )
    text = re.sub(
        rf"(?:{name}|\b[Ss]?[Hh]e)(?P<space>\s+|(?=['’]s))(?P<adverb>{_ADVERB})(?P<verb>['’]s|\w+)", _with_verb, text
    )
    text = re.sub(r"\b(in|to|for|with|of|by|from|at|about|took|gave|taught|made)(\s+)I\b", r"\1\2me", text)
    text = re.sub(r"\b(?:[Hh]imself|[Hh]erself)\b", "myself", text)
    text = re.sub(rf"\b(?:[Hh]is|[Hh]er)\b(?=\s+(?!{_NO_NOUN})\w)", "my", text)
    return re.sub(r"\b(?:[Hh]im|[Hh]er)\b", "me", text)


def _with_verb(match: re.Match) -> str:
    verb = match["verb"]
    if verb in _VERBS:
        verb = _VERBS[verb]
    elif verb.endswith("ies") and len(verb) > 4:
        verb = f"{verb[:-3]}y"
    elif re.search(r"(?:ch|sh|ss|x|zz|o)es$", verb):
        verb = verb[:-2]
    elif verb.islower() and verb.endswith("s") and not verb.endswith("ss"):
        verb = verb[:-1]
    return f"I{match['space']}{match['adverb']}{verb}"


def _capitals(text: str) -> str:
    """The text with a capital letter at the start of every sentence."""
    parts, here = [], 0
    for start, end in sentence_spans(text):
        start, _ = _stripped(text, start, end)
        if start >= here:  # behind a blank sentence the next one's head is seen twice
            parts += [text[here:start], text[start : start + 1].upper()]
            here = start + 1
    return "".join([*parts, text[here:]])


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without surrounding blanks."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
