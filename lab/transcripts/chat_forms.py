"""The forms in which others store conversations, brought into one: `messages`, with an id and a card.

A form is recognised by the keys of a record; its name can be given instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scenarios.records import ASSISTANT, USER

Split = Iterator[tuple[str, object]]  # where in the record, and one conversation
CARDS = ("system", "system_prompt")
IDS = ("id", "conversation_id", "conversation_hash", "question_id")
CHATML = re.compile(r"<\|im_start\|>(\w{1,20})\n(.*?)(?:<\|im_end\|>|\Z)\s*", re.DOTALL)
HUMAN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
TEMPLATES = ("<|im_start|>", "[INST]", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "<|turn>")
SCENARIO = ("persona", "instructions", "known_info", "reason_for_call", "task_instructions", "unknown_info")


@dataclass(frozen=True)
class Form:
    """What a form is called for people, which records have it, and the conversations of a record.

    `split` is None for the forms that are read as they are.
    """

    words: str
    fits: Callable[[Mapping[str, Any]], bool]
    split: Callable[[Mapping[str, Any]], Split] | None


def form_of(record: Mapping[str, Any]) -> str | None:
    """The name of the record's form; None where it has none of them."""
    return next((name for name, form in FORMS.items() if form.fits(record)), None)


def _chat(record: Mapping[str, Any], key: str, **more: object) -> dict[str, object]:
    """The conversation under the key, with what else the record says of it."""
    kept = {name: record[name] for name in ("personas", "seats", "given") if record.get(name) is not None}
    named = next((record[name] for name in IDS if isinstance(record.get(name), str | int)), None)
    card = next((record[name] for name in CARDS if isinstance(record.get(name), str)), None)
    return kept | {"id": named, "card": card, "messages": record[key]} | more


def _one(key: str) -> Callable[[Mapping[str, Any]], Split]:
    return lambda record: iter([("", _chat(record, key))])


def _arena(record: Mapping[str, Any]) -> Split:
    for key in ("conversation_a", "conversation_b"):
        yield key, _chat(record, key, id=None)


def _trl(record: Mapping[str, Any]) -> Split:
    """One conversation of the prompt and the completion; of a preference, one with each answer."""
    answers = [key for key in ("completion", "chosen", "rejected") if record.get(key) is not None]
    prompt = _text_or_messages(record, "prompt", USER) if record.get("prompt") is not None else []
    for key in answers or ["prompt"]:
        said = prompt + _text_or_messages(record, key, ASSISTANT) if answers else prompt
        yield key if len(answers) > 1 else "", _chat({**record, "messages": said}, "messages")


def _text_or_messages(record: Mapping[str, Any], key: str, role: str) -> list:
    """Messages, as they are or read from a text: with the marks of ChatML, "Human:" and "Assistant:", or none."""
    value = record[key]
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, str):
        if not isinstance(value, list):
            raise ValueError(f"{key}: is {type(value).__name__}; expected messages, or a text")
        return value
    if value.lstrip().startswith("<|im_start|>"):
        read = [{"role": match[1], "content": match[2].strip()} for match in CHATML.finditer(value)]
        return [message for message in read if message["content"]]  # the cue to speak is empty
    if template := next((mark for mark in TEMPLATES if mark in value), None):
        raise ValueError(f"{key}: is a text with {template}, the marks of a chat template; expected messages")
    pieces = HUMAN.split(value)
    if len(pieces) > 1:
        read = zip(pieces[1::2], pieces[2::2], strict=True)
        return [{"role": who.lower(), "content": text.strip()} for who, text in read if text.strip()]
    return [{"role": role, "content": value.strip()}]


def _tau2(record: Mapping[str, Any]) -> Split:
    """Each simulation; what its task tells the simulated user is the user's card."""
    if "traj" in record:
        yield "", _chat(record, "traj", id=None)
        return
    tasks = [task for task in _listed(record, "tasks", []) if isinstance(task, Mapping)]
    users = {str(task.get("id")): _scenario(task.get("user_scenario")) for task in tasks}
    for place, simulation in enumerate(_listed(record, "simulations")):
        where = f"simulation {place}"
        if not isinstance(simulation, Mapping) or "messages" not in simulation:
            yield where, ValueError("has no messages; expected a simulation of tau2-bench")
            continue
        card = users.get(str(simulation.get("task_id")))
        yield where, _chat(simulation, "messages", **({"personas": {USER: card}} if card else {}))


def _scenario(given: object) -> str:
    """The texts of a user's scenario, one on a line."""
    if isinstance(given, str):
        return given.strip()
    if not isinstance(given, Mapping):
        return ""
    texts = [
        _scenario(given[key]) if key == "instructions" else given[key]
        for key in SCENARIO
        if isinstance(given.get(key), str | Mapping)
    ]
    return "\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _inspect(record: Mapping[str, Any]) -> Split:
    for place, sample in enumerate(_listed(record, "samples")):
        where = f"sample {place}"
        if not isinstance(sample, Mapping) or "messages" not in sample:
            yield where, ValueError("has no messages; expected a sample of an inspect_ai log")
            continue
        epoch = f" epoch {sample['epoch']}" if sample.get("epoch") not in (None, 1) else ""
        yield where, _chat(sample, "messages", id=f"{sample.get('id', place)}{epoch}", personas={}, seats={}, given=[])


def _listed(record: Mapping[str, Any], key: str, default: object = None) -> list:
    value = record.get(key, default)
    if not isinstance(value, list):
        raise ValueError(f"{key}: is {type(value).__name__}; expected a list")
    return value


def _is_talk(value: object) -> bool:
    """Whether it is a list that begins with a message."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


FORMS = {  # in the order in which they are recognised
    "inspect": Form(
        "inspect_ai log", lambda record: "samples" in record and ("eval" in record or "plan" in record), _inspect
    ),
    "tau2": Form("tau2-bench results", lambda record: "simulations" in record or "traj" in record, _tau2),
    "messages": Form("chat messages", lambda record: record.get("messages") is not None, _one("messages")),
    "labelled": Form(
        "labelled lines (P1 in the assistant's seat, P2 in the user's)",
        lambda record: "lines" in record and "personas" in record,
        None,
    ),
    "consistent-llms": Form(
        "consistent-LLMs dialogues (P1 in the assistant's seat, P2 in the user's)",
        lambda record: "conversation" in record and ("P1" in record or "P2" in record),
        None,
    ),
    "sharegpt": Form("ShareGPT rows", lambda record: record.get("conversations") is not None, _one("conversations")),
    "wildchat": Form(
        "WildChat rows",
        lambda record: "conversation_hash" in record and "conversation" in record,
        _one("conversation"),
    ),
    "lmsys": Form("LMSYS rows", lambda record: _is_talk(record.get("conversation")), _one("conversation")),
    "arena": Form(
        "Chatbot Arena rows, two conversations each",
        lambda record: "conversation_a" in record and "conversation_b" in record,
        _arena,
    ),
    "trl": Form(
        "TRL rows",
        lambda record: {"prompt", "completion"} <= record.keys() or {"chosen", "rejected"} <= record.keys(),
        _trl,
    ),
}
EXPECTED = (
    "`messages` (chat), `conversations` (ShareGPT), `conversation` (LMSYS, WildChat), `prompt` and `completion` or "
    "`chosen` and `rejected` (TRL), `simulations` (tau2-bench), `samples` (inspect_ai), `lines` with `personas` "
    "(labelled lines), or `conversation` with `P1` and `P2` (the JSON that consistent-LLMs publishes)"
)
