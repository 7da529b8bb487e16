"""English words that the tripwires look for."""

from __future__ import annotations

import re

EMPTY_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
a an the this that these those it its it's i i'm i've i'll i'd me my mine myself you you're you've you'll you'd your
yours yourself we we're
we've us our he she they them their his her him one ones someone something anything everything nothing there here
there's that's what's
who what which when where why how who's am is are was were be been being do does did doing done don't doesn't didn't
have has had having
haven't hasn't can can't could couldn't will won't would wouldn't shall should shouldn't may might must isn't aren't
wasn't weren't
and or but so if then than as because since while though although not no nor yes of to in on at by for with from about
into over under
up down out off again also too very really quite just only even still already yet now well more most much many some
any all both each
few such same other another like as's let let's
yeah yep yup nope ok okay sure right true correct exactly indeed absolutely definitely certainly totally course agree
agreed agreeing
nice good great fine lovely wonderful amazing awesome cool interesting fascinating fantastic perfect brilliant glad
happy pleased
thanks thank welcome please sorry pardon hello hi hey bye goodbye haha ha oh ah wow hmm hm um uh mm
sound sounds sounding seem seems look looks see say said saying tell telling mean means know think thought guess
suppose believe
understand feel feels hear heard wonder hope want wanted rather prefer sense point thing things way lot bit kind sort
little
afraid able unable reply respond maybe perhaps probably possibly always never sometimes today matter idea question
answer opinion
""",
    )
)
HELPER = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|(?:virtual|digital) assistant|chatbot)\b|"
    r"\bi(?:['’]m| am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language "
    r"model|(?:ai|virtual|digital) assistant|chatbot|"
    r"computer program)\b|"
    r"\b(?:how|what) (?:can|may) i (?:help|assist|do for) you\b|\b(?:happy|glad|here) to (?:help|assist)(?: you)?\b|"
    r"\banything else (?:i can|you(?:['’]d| would) like)\b|\bi (?:do not|don['’]t|cannot|can['’]t) have personal "
    r"(?:experiences|feelings|opinions)\b",
    re.IGNORECASE,
)


def of_oneself(name: str) -> re.Pattern:
    """A pattern that matches "you are NAME", "your name is NAME", "NAME is" and "NAME lives".

    It does not match "my name is NAME" or "NAME here".
    """
    name = re.escape(name)
    verbs = (
        r"is|was|has|had|does|will|would|lives|lived|works|worked|loves|likes|plays|keeps|says|said|thinks|feels|wants|"
        r"enjoys|comes|grew"
    )
    return re.compile(
        rf"\b(?:[Yy]ou are|[Yy]ou['’]re|[Yy]our name is) (?:called )?{name}\b|"
        rf"(?<!name is )(?<!call me )(?<!I am )(?<!I['’]m )\b{name} (?:{verbs})\b"
    )


def _alternation(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words.split()))


BEHIND_NOUNS = _alternation(  # words with which a clause goes on behind a noun, so that the noun is whole
    """
    a an the this that these those and or but nor so yet as than because since though although while if unless when
    where who whom whose which what how why of in on at by for to from with without within into over under up down out
    off about around after before behind beside between among against along across near inside outside through
    throughout during until till upon towards like unlike per via except instead
    i i'm i've i'll i'd me my mine we us our you your he him his she her they them their it its it's there here
    am is are was were be been being do does did have has had having can could will would shall should may might must
    isn't aren't wasn't weren't don't doesn't didn't haven't hasn't can't couldn't won't wouldn't
    not no never too also now then still just only even ever always often sometimes usually once twice again already
    today tonight tomorrow yesterday these days back home first last next myself instead please though sir dear mate
    named called by each every all both any some most more less much many very quite rather really pretty
    full part one two three four five six seven eight nine ten hands there's that's who's what's
    """
)
OF_NOUNS = _alternation(  # what a pet, a dish or an instrument only describes: "my cat food", "my piano teacher"
    """
    allergy allergies food foods bed beds house houses photo photos picture pictures poster posters mug mugs costume
    costumes lover lovers person people sitter walker owner owners hair fur toy toys book books calendar tattoo statue
    figurine shirt shirts sweater socks slippers video videos phobia whisperer breeder show shop store collar bowl cage
    teacher lesson lessons player players concert recital solo recipe recipes impression days years
    """
)
NO_NOUNS = _alternation(  # what may stand where a value belongs and is none
    """
    what whatever whichever something anything everything nothing somewhere anywhere everyone someone anyone nobody
    secret hard difficult tricky easy impossible simple delicious amazing good great nice best worst better worse bad
    ready done gone cold hot spicy tasty probably maybe definitely perhaps certainly likely always still also
    usual same other others thing things stuff kind sort type lot lots bit while way fact truth question answer choice
    team rule result whole matter volunteer freelancer contractor favour favor joke jokes child kid boy girl man woman
    host guest friend person people mess fool game games lottery market role part parts long card cards chess football
    soccer tennis golf basketball baseball rugby poker hockey cricket sports sport along it's dead dumb hooky hard
    victim field devil's piece pieces music songs song tune tunes numbers odds waiting blame hero host blues classical
    jazz
    rock outside together nicely fair dirty catch tag house around with to for in on at by from well badly
    """
)
NO_PROPER_NAMES = frozenset(  # of people or places, though written with a capital letter
    """
    january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday spring summer autumn winter christmas easter god heaven hell mars earth money i
    sixties seventies eighties nineties twenties thirties fifties forties english spanish french ok okay hello hi
    mum mom mama dad papa mother father grandma grandpa mister sorry sure fine glad happy afraid tired just not so very
    new sick excited doing going trying looking thinking feeling team aries taurus gemini cancer leo virgo libra scorpio
    sagittarius capricorn aquarius pisces jewish catholic muslim hindu buddhist christian atheist protestant dutch greek
    swiss thai welsh irish scots queen king president santa batman superman
    a an all ears born busy from grateful here human yours too also only really vegan vegetarian single married alone
    ready back free late home sober retired management proud good kind great big
    """.split()
)
NATIONALITY = re.compile(r"(?:ish|ese|[ai]an|i[sc]t|ch)$", re.IGNORECASE)  # "I'm Norwegian" gives no name
