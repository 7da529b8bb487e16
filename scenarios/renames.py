"""Renamed keys and values of files: the message about an old name gives the new one.

The place of a key is the part of a file in which it stands, by the name of the class that checks it. The place of a
value is its key.
"""

from __future__ import annotations

KEYS = {
    "ScenarioFile": {"side_by_side": "concurrency", "drawn": "persona_pool"},
    "Node": {"direct": "instruct"},
    "Edge": {"says": "contains"},
    "Measure": {
        "questions_every": "qa_every",
        "questions_first": "qa_first",
        "asked": "qa_format",
        "wording": "paraphrase",
    },
    "CascadeConfig": {"cheap": "first", "dear": "second"},
    "Recipe": {"overlap": "async_rollouts"},
    "Reward": {"questions": "qa", "asked": "probes"},
    "HeldOut": {"wording": "paraphrase"},
    "Tuning": {"layers_from": "train_from_depth"},
}
VALUES = {
    "metrics": {"questions": "qa"},
    "judge": {"reader": "answer_reader"},
    "qa_format": {"choice": "multiple_choice", "open": "free_text"},
    "groups": {"places": "turns", "dialogues": "episodes"},
}


def new_key(place: object, key: object) -> str:
    """ "; it is now called 'qa_every'" where the class `place`, or a class that it extends, had the key before; else
    "".
    """
    names = [parent.__name__ for parent in getattr(place, "__mro__", ())]
    return next((_called(KEYS[name][key]) for name in names if isinstance(key, str) and key in KEYS.get(name, ())), "")


def new_value(key: object, value: object) -> str:
    """ "; it is now called 'qa'" where the key accepted the value under another name before; else ""."""
    known = VALUES.get(key, {}) if isinstance(key, str) else {}
    return _called(known[value]) if isinstance(value, str) and value in known else ""


def _called(name: str) -> str:
    return f"; it is now called {name!r}"
