"""Which parts of a text assert something in the speaker's own voice, by rules over sentences.

A sentence does not assert where it

- asks (unless the question is a tag: "I live in Oslo, and you?");
- supposes (after if, unless, imagine, pretend, suppose, "in my dreams", "for Halloween": until a semicolon or "but");
- wishes (after wish, would, dream, maybe: until the end of the clause);
- speaks of the future or of a short visit ("I am thirty next year", "I'm in Oslo this weekend");
- is marked as no more than a joke ("yeah right", "and I'm the Queen of England", "Just kidding." behind it);
- takes it back ("I live in Leeds. No, wait, ...");
- reports another speaker ("you said I live in ...");
- quotes (in double quotes, unless the whole text is in them).
"""

from __future__ import annotations

import re

APOSTROPHE = "['’]"
# characters of a sentence before and behind a claim that are looked at, so that no line takes longer than its length
# warrants
LOOK = 400
_SENTENCE_END = re.compile(  # a run of marks is looked at once; with a word right behind it (`goes_on`) it ends nothing
    r"(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bProf)[.!?…؟۔।॥]++[\"”'’)]*+(?:(?=\s|$)|(?P<goes_on>))|"
    r"[。！？｡]++[\"”'’)」』）]*+|\n+|\s{20,}+"
)
_OPENING = r"\W*(?:(?:and|so|but|oh|well|hey|then|wait|ok|okay)\W+)*"
_ASKS_WHAT = re.compile(  # asks only with a question mark
    _OPENING + r"(?:what|where|who|when|why|how|which|whose)\b", re.IGNORECASE
)
_ASKS_WHETHER = re.compile(
    rf"{_OPENING}(?:do|does|did|are|is|am|was|were|can|could|will|would|should|have|has|had|may|might)(?:n{APOSTROPHE}?t)?\s+"
    r"(?:you|i|we|he|she|they|it|there|that|this|your|my)\b",
    re.IGNORECASE,
)
_ASKED_AFTER = re.compile(
    r"[,;–—-]\s*(?:(?:and|but|so)\s+)?(?:what|how|where|who|why|when|which|you\b|do you|are you|have you|can "
    r"you|could you|"
    r"would you|did you|is there|are there)|"
    r"\b(?:and|but|so)\s+(?:what|how|where|who|why|when|which|you\s*\?|do you|are you|have you|can you|did you)",
    re.IGNORECASE,
)
_IDIOMS = re.compile(
    r"\bif you ?(?:ask me|must know|want to know|(?:did|do)n['’]t know|don['’]t mind|like|"
    r"['’]re (?:asking|wondering)|are (?:asking|wondering))\b|\bi['’]d (?:have to |always |probably |"
    r"honestly )?say\b|\bif i (?:had to|have to|must|could only|had only to) (?:pick|choose|name|eat|play|say)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(  # holds until a semicolon or "but"
    r"\b(?:if|unless|whether|imagin(?:e|ing)|pretend(?:ing)?|suppos(?:e|ed|ing)|assuming|hypothetically|let['’]s "
    r"say|in (?:my|another|a|your|some) (?:(?:wildest|past|previous|former|different|parallel|other|next) )?"
    r"(?:dreams?|life|lives|fantas(?:y|ies)|imagination|head|world|universe)|dream(?:ed|t)|"
    r"in (?:the|our|my|a|this) (?:\w+ )?(?:play|film|movie|game|novel|story|sketch|musical|show|comic|"
    r"pantomime)|on stage|"
    r"for (?:halloween|carnival)|at the (?:costume|fancy dress) party|on paper|in theory|if only|according to|"
    r"rumou?r has it|legend has it|when i (?:grow|retire|get|become|turn|finish|am)|one day|some ?day|next "
    r"(?:year|month|week|spring|summer|autumn|winter)|by the time|before i|until i|when (?:pigs|hell))\b|"
    r"如果|要是|假如|假设|もし|仮に|梦见|夢見|希望|但愿|想要",
    re.IGNORECASE,
)
_WISHED = re.compile(  # holds until the clause ends
    r"\b(?:wish(?:es|ed|ing)?|would|i['’]d|dream(?:s|ed|t|ing)?|maybe|perhaps|not sure|doubt|almost|"
    r"nearly|could|might|like)\b",
    re.IGNORECASE,
)
_STRONG_BREAK = re.compile(r";|\bbut\b|\bhowever\b", re.IGNORECASE)
_WEAK_BREAK = re.compile(r"[;,:–—]|\b(?:but|and|because|since|however|so)\b", re.IGNORECASE)
_REPORTED = re.compile(
    r"(?:\b(?!i\b)[\w'’]+\s+(?:\w+\s+)?(?:said|says?|thinks?|thought|believe[sd]?|assume[sd]?|claim(?:s|"
    r"ed)?|told|tells?|guess(?:ed)?|"
    r"insists?|insisted|heard|reckons?|swears?|swore|suspects?|jokes?|joked|wonders?|asks?|asked|asking|"
    r"pretends?|hopes?|hoped|"
    r"has\s+it)|\bi\s+(?:never|did\s+not|didn['’]?t)\s+(?:say|said|claim(?:ed)?|tell|told|mention(?:ed)?))"
    r"(?:\s+(?:that|me|to\s+me|you|us|people|anyone|if|whether))*[\s,]*$|(?<!我)(?:说|說|觉得|以为|以為|认为)[：:，,]?$",
    re.IGNORECASE,
)
_OWN_REPORT = re.compile(
    r"\bi\s+(?:(?!never\b|not\b)\w+\s+)?(?:said|say|think|thought|believe|guess|told)\b(?:\s+\w+){0,2}[\s,]*$|"
    r"(?:\blet\s+me|\bi\s+(?:can|will|must|should|have\s+to|want\s+to)|\bi['’]ll|\bi(?:['’]m|\s+am)\s+(?:(?!not\b)\w+\s+)?"
    r"(?:happy|glad|proud|pleased|delighted|honou?red|excited|thrilled|sad|sorry|afraid|ashamed|embarrassed)\s+to)"
    r"\s+(?:just\s+)?(?:tell|say)(?:\s+you)?(?:\s+that)?[\s,]*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\bi\s+(?:do\s+not|don['’]?t)\s+(?:think|believe)|\b(?:it['’]?s|it\s+is|"
    r"that['’]?s)\s+(?:not\s+true|untrue|false|a\s+lie)|\bnot(?=\s+that))"
    r"(?:\s+that)?\s*$",
    re.IGNORECASE,
)
# behind a claim: it is of the future, of a short visit, or of a game
_NOT_NOW = re.compile(
    r"\s*,?\s*(?:(?:just|only|but)\s+)?(?:next\s+(?:year|month|week|birthday|spring|summer|autumn|"
    r"winter|january|february|march|april|may|"
    r"june|july|august|september|october|november|december)|(?:in|within)\s+(?:an?|two|three|four|five|"
    r"six|a\s+few|\d{1,2})\s+"
    r"(?:day|week|month|year)s?\b(?!\s+ago)|tomorrow|soon\b|some\s?day|one\s+day|(?:for\s+)?(?:this|"
    r"the)\s+(?:weekend|week|month)|"
    r"for\s+(?:a|the|two|three|\d{1,2})\s+(?:day|night|week|weekend|month|while|visit|wedding|conference)s?|on\s+"
    r"(?:holiday|business|vacation|stage|paper|tv|weekends|halloween)|for\s+(?:halloween|carnival|work)|"
    r"(?:in|with)\s+my\s+"
    r"(?:dreams|head|imagination|mind)|at\s+heart|in\s+(?:spirit|theory|another|a\s+past|a\s+previous)\b|"
    r"in\s+(?:the|our|a|this)\s+(?:\w+\s+)?(?:play|film|movie|game|novel|story|sketch|musical|show|comic|pantomime)|"
    r"apparently|supposedly|allegedly|according\s+to|or\s+so\s+(?:they|he|she|people)|(?:he|she|they|"
    r"people)\s+(?:say|said|claim|think)s?|"
    r"would\b|by\s+then|when\s+i\s+(?:retire|grow|was)|as\s+a\s+(?:joke|child|kid|boy|girl)|back\s+then|"
    r"at\s+the\s+time|in\s+those\s+days|"
    r"for\s+(?:my|our)\s+(?:mother|mum|mom|father|dad|sister|brother|aunt|uncle|son|daughter|grand\w+|"
    r"neighbou?rs?|friends?|boss)\b|"
    r"until\s+(?:\w+\s+)?(?:I|\d)|in\s+(?:19|20)\d\d)",
    re.IGNORECASE,
)
_JOKE = re.compile(
    r"\byeah,?\s+right\b|^\W*(?:oh|ah|yeah|well|ha|haha|yes|right)?\W*(?:sure|right|of\s+course|yeah|"
    r"yes|totally|obviously|clearly),?\s+"
    r"(?:and|because)\b|^\W*oh,?\s+(?:sure|yeah|totally|absolutely)\b|\bas\s+if\b|\bpigs\s+(?:can\s+|"
    r"might\s+|will\s+)?fly|"
    r"\b(?:queen|king)\s+of\s+(?:england|spain|france|sheba)|\bsaid\s+no\s*(?:one|body)|\b(?:just|"
    r"only)\s+kidding|\bjk\b|"
    r"\bi['’]m\s+(?:just\s+|only\s+)?(?:kidding|joking)|\s/s\b|[,–—-]\s*not!|\(not\)|🙄|\blol,?\s+no\b|"
    r"\bin\s+your\s+dreams|"
    r"\bsanta\s+claus|\bthe\s+(?:pope|tooth\s+fairy|easter\s+bunny)|\bnapoleon",
    re.IGNORECASE,
)
CORRECTING = (
    r"(?:wait|sorry|i\s+mean|i\s+meant|scratch\s+that|strike\s+that|correction|or\s+rather|make\s+that)"
    r"(?:[,\s]+(?:i\s+mean|i\s+meant|make\s+that|no|that['’]s))?"
)
_TAKEN_BACK = re.compile(  # at the head of the next sentence
    r"\s*(?:(?:oh|no|ha|haha|er|um|well|nah|hm+)\b[\s,.!—–-]{1,3}){0,2}(?:(?:just|only)\s+(?:kidding|"
    r"joking|teasing)|kidding|joking|"
    r"i['’]m\s+(?:kidding|joking)|not!|as\s+if|yeah,?\s+right|i\s+wish|in\s+my\s+dreams|gotcha|of\s+course\s+not|"
    r"(?:wait|sorry),|scratch\s+that|strike\s+that|correction|or\s+rather|i\s+mean,|i\s+meant|make\s+that)",
    re.IGNORECASE,
)
_NOT = re.compile(r"(?:\b(?:not|never)|n['’]t)\s+$", re.IGNORECASE)  # "that is not" before "my dog"
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”")
_QUOTES = str.maketrans("«»「」『』", "“”“”“”")
_WHOLLY_QUOTED = re.compile(r"\s*(?:\w+:\s*)?(?:\"[^\"]*\"?|“[^”“]*”?)\s*")


def stance(text: str, start: int, end: int, match: re.Match) -> bool | None:
    """None where the sentence does not assert the match; otherwise whether a phrase outside of the match denies it.

    For example, "I don't think ..." denies it.
    """
    before, opening = (
        _IDIOMS.sub(" ", text[max(start, match.start() - LOOK) : match.start()]),
        text[start : min(end, start + LOOK)],
    )
    if _ASKS_WHETHER.match(opening):
        return None
    if _JOKE.search(opening) or withdrawn(text, match.end(), end):
        return None
    asks = text[max(start, end - LOOK) : end].rstrip("\"”'’)」』） ").endswith(("?", "？", "؟"))
    if asks and (_ASKS_WHAT.match(opening) or not _ASKED_AFTER.search(text, match.end(), min(end, match.end() + LOOK))):
        return None
    if _SUPPOSED.search(_STRONG_BREAK.split(before)[-1]) or _WISHED.search(_WEAK_BREAK.split(before)[-1]):
        return None
    if _DENIED.search(before) or (_NOT.search(before) and not match[0].lower().startswith("i")):
        return True
    return None if _REPORTED.search(before) and not _OWN_REPORT.search(before) else False


def withdrawn(text: str, here: int, end: int) -> bool:
    """Whether what follows a claim that ends at `here`, in a sentence that ends at `end`, says that it does not hold
    now, or takes it back.
    """
    return bool(_NOT_NOW.match(text, here, end) or _TAKEN_BACK.match(text, end, end + LOOK))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, with their closing punctuation."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match["goes_on"] is None]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def quotations(text: str) -> list[tuple[int, int]]:
    """Spans in double quotes; none where the whole text is a single quotation."""
    text = text if text.isascii() else text.translate(_QUOTES)
    if _WHOLLY_QUOTED.fullmatch(text):
        return []
    closed = text.rfind("”") + 1  # what opens behind it never closes, and each would be sought to the end
    return [match.span() for match in _QUOTED.finditer(text[:closed] + text[closed:].replace("“", " "))]
