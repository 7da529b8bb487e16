"""Renamed and removed keys and values of files: the message about an old name gives the new one, or why there is none.

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
REMOVED = {"Measure": {"resamples": "intervals are no longer drawn at random"}}  # key -> why
VALUES = {
    "metrics": {"questions": "qa"},
    "judge": {"reader": "answer_reader"},
    "qa_format": {"choice": "multiple_choice", "open": "free_text"},
    "groups": {"places": "turns", "dialogues": "episodes"},
}


def old_key(place: object, key: object) -> str:
    """ "; it is now called 'qa_every'" where the class `place`, or a class that it extends, had the key before under
    that name, "; it was removed: ..." where it has none any more; else "".
    """
    if not isinstance(key, str):
        return ""
    for name in [parent.__name__ for parent in getattr(place, "__mro__", ())]:
        if key in KEYS.get(name, ()):
            return _called(KEYS[name][key])
        if key in REMOVED.get(name, ()):
            return f"; it was removed: {REMOVED[name][key]}"
    return ""


def new_value(key: object, value: object) -> str:
    """ "; it is now called 'qa'" where the key accepted the value under another name before; else ""."""
    known = VALUES.get(key, {}) if isinstance(key, str) else {}
    return _called(known[value]) if isinstance(value, str) and value in known else ""


def _called(name: str) -> str:
    return f"; it is now called {name!r}"
