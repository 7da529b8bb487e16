"""Chat completions of servers that refuse parameters: a refused one is left out, or sent under its other name.

Servers differ in what they take: `max_tokens` or `max_completion_tokens`, a temperature or none, a seed, `top_k`. A
response 400, 403 or 422 that names a parameter of the request is followed by the same request without it. What a server
refused for a model is remembered for the process as soon as a request without it is answered.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agents.servers.spend import noted

READ = 10_000  # characters of an error response that are looked at
RENAMED = {"max_tokens": "max_completion_tokens"}
# where a parameter is named, in JSON and in Python's notation: OpenAI's `param`, the `loc` of pydantic and FastAPI
_PARAM = re.compile(r"""["']param["']\s{0,9}:\s{0,9}["'](\w{1,40})["']""")
_LOC = re.compile(r"""["']loc["']\s{0,9}:\s{0,9}[\[(]([^\])]{0,200})""")
_QUOTED = re.compile(r"""["'](\w{1,40})["']""")
_INPUT = re.compile(r"""["']input["']\s{0,9}:""")  # pydantic repeats the request there
_UNKNOWN = re.compile(
    r"support|recogni[sz]ed|unknown|unexpected|extra|permitted|allowed|deprecated|max_completion_tokens", re.IGNORECASE
)
_TOO_MANY = re.compile(r"too (?:large|long|many|big)|maximum|exceed|context|limit", re.IGNORECASE)
_lock = threading.Lock()
_refused: dict[tuple[str, str], dict[str, None]] = {}  # by endpoint and model, in the order of refusal


class NeededParameter(ValueError):
    """A server refused a parameter without which a request has no sense; the text is the server's."""


def chat(
    server,
    endpoint: str,
    model: str,
    messages: Sequence[Mapping[str, str]],
    parameters: Mapping[str, Any],
    needed: Collection[str] = (),
):
    """The answer of `server`, an openai client for `endpoint`, to a chat completion.

    `parameters` are sent as they stand in JSON, without those that the server is known to refuse. Raises
    NeededParameter where it refuses one of `needed`, and the client's errors.
    """
    from openai import BadRequestError, PermissionDeniedError, UnprocessableEntityError

    refused = dict.fromkeys(refused_parameters(endpoint, model))
    while True:
        sent = _accepted(parameters, refused)
        try:
            answer = server.chat.completions.create(model=model, messages=list(messages), extra_body=sent)
        except (BadRequestError, PermissionDeniedError, UnprocessableEntityError) as error:
            named = named_parameters(error.response.text, sent)
            if any(name in needed for name in named):
                raise NeededParameter(str(error)) from error
            if not named:
                raise
            refused |= dict.fromkeys(named)
            continue
        if refused:
            with _lock:
                _refused.setdefault((endpoint, model), {}).update(refused)
        return noted(endpoint, model, answer)


def refused_parameters(endpoint: str, model: str) -> tuple[str, ...]:
    """The parameters that the server has refused for the model in this process."""
    with _lock:
        return tuple(_refused.get((endpoint, model), ()))


def refusal_notice(endpoint: str, model: str) -> str:
    """One sentence on what the server refuses for the model, and what is sent in its place; "" for nothing."""
    names = refused_parameters(endpoint, model)
    if not names:
        return ""
    left_out = [name for name in names if name not in RENAMED]
    parts = [f"{RENAMED[name]} is sent in place of {name}" for name in names if name in RENAMED]
    if left_out:
        parts.append(f"{', '.join(left_out)} {'is' if len(left_out) == 1 else 'are'} left out of its requests")
    return f"{model} at {endpoint} refuses {', '.join(names)}: {', and '.join(parts)}"


def _accepted(parameters: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    kept = {name: value for name, value in parameters.items() if name not in refused}
    return kept | {RENAMED[name]: parameters[name] for name in parameters if name in refused and name in RENAMED}


def named_parameters(response: str, sent: Collection[str]) -> list[str]:
    """Those of the sent parameters that an error response refuses, by name; the first `READ` characters count.

    A field for the name (`param`, `loc`) goes before names in quotes, and those before words of the text. Of
    temperature and top_p, which some servers take one at a time, top_p is the one. A limit on tokens counts only where
    it is unknown, and not where it is too high.
    """
    text = response[:READ].replace("\\", "")  # JSON within a text of JSON
    fields = set(_PARAM.findall(text)).union(*(_QUOTED.findall(loc) for loc in _LOC.findall(text)))
    words = _INPUT.split(text, maxsplit=1)[0]
    named = (
        [name for name in sent if name in fields]
        or [name for name in sent if any(f"{mark}{name}{mark}" in words for mark in "'\"`")]
        or [name for name in sent if _word(name).search(words)]
    )
    if {"temperature", "top_p"} <= set(named):
        named.remove("temperature")
    unknown = _UNKNOWN.search(words) and not _TOO_MANY.search(words)
    return [name for name in named if (name not in RENAMED or unknown) and name not in RENAMED.values()]


def _word(name: str) -> re.Pattern[str]:
    """The name as a word of a text, also as topK or "top k"."""
    return re.compile(rf"(?<!\w){name.replace('_', '[_ -]?')}(?!\w)", re.IGNORECASE)
