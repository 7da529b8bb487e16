"""What a stranger's file makes a library do, done in a process of its own with limits of time and memory.

Run as a script: reads one request as JSON from standard input, and writes the result as JSON. It imports nothing of
this project, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from typing import Any

CPU_S, MEMORY_BYTES = 5, 2**31
TEXT_CHARACTERS = 1_000_000  # most that a template may write
RUN, RUNS = (
    2_000,
    "aA0 \n.,-_'é中ा\u0301",
)  # characters that a pattern is tried on, beside its own, and how many in a row


def rendered(
    template: str, variables: dict[str, Any], dialogues: list[dict[str, Any]], day: str
) -> list[dict[str, str]]:
    """The `text` of each dialogue (`messages`, `add_generation_prompt`) under a chat template, or the `error`.

    The template sees what transformers shows it, with `day` (ISO) as the date.
    """
    results = []
    for dialogue in dialogues:
        try:
            text = _environment(day).from_string(template).render(**variables, **dialogue)
            if len(text) > TEXT_CHARACTERS:
                raise ValueError(f"it writes {len(text)} characters, expected at most {TEXT_CHARACTERS}")
            results.append({"text": text})
        except Exception as error:  # of any kind: a template calls whatever Python's types offer
            results.append({"error": f"{type(error).__name__}: {error}"[:300]})
    return results


def _environment(day: str):
    """Jinja's sandbox as transformers sets it up for chat templates, but for the day."""
    from datetime import datetime

    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}`, which marks what a model says and writes nothing."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    class PlainNamespace(Namespace):
        """A namespace without attributes that begin with "_", which lead out of the sandbox."""

        def __init__(*args, **values):
            Namespace.__init__(
                args[0], {PlainNamespace.checked(key): value for key, value in dict(*args[1:], **values).items()}
            )

        def __setitem__(self, name, value):
            Namespace.__setitem__(self, PlainNamespace.checked(name), value)

        @staticmethod
        def checked(name):
            if str(name).startswith("_"):
                raise SecurityError(f"a namespace has no {name!r}")
            return name

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.fromisoformat(day).strftime(form),
        "dict": lambda *args, **values: dict(*args, **values),
        "namespace": PlainNamespace,
    }
    return environment


def matched(patterns: list[str], names: list[str]) -> int:
    """The number of matches of an adapter's regular expressions in names of modules, tried in PEFT's three ways."""
    forms = [re.compile(form) for key in patterns for form in (key, rf"(.*\.)?({key})$", rf".*\.[^.]*{key}\.(\d+)\.")]
    return sum(form.match(name) is not None for form in forms for name in names)


def split(patterns: list[str]) -> int:
    """The number of pieces into which a tokenizer's patterns split texts that repeat a character or a word."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    count = 0
    for pattern in patterns:
        splitter = Split(Regex(pattern), "isolated")
        for part in dict.fromkeys([*RUNS, *pattern[:200], *re.findall(r"\w+", pattern)]):
            text = (part * RUN)[:RUN] + "\0" + pattern[:200]  # without its letters it would not be tried at all
            count += len(splitter.pre_tokenize_str(text))
    return count


if __name__ == "__main__":
    request = json.load(sys.stdin)
    cpu_s = request.pop("cpu_s")
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file is written; standard output is a pipe
    work = {"rendered": rendered, "matched": matched, "split": split}[request.pop("work")]
    json.dump(work(**request), sys.stdout)
