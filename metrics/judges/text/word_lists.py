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
