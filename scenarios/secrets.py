"""Keys and passwords, kept out of everything that is said or stored."""

from __future__ import annotations

import os
import re

NAMED = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")  # environment variables that hold one
SHORTEST = 8  # characters; what is shorter is hidden nowhere, since it may be any word
_IN_A_URL = re.compile(r"(?i)(?<=://)[^\s'\"@]+(?=@)|(?<=[?&])(?P<name>[^=&\s]*(?:key|token|secret|password)[^=&\s]*=)[^&\s'\"]+")


def hidden(text: str) -> str:
    """The text with every secret of the environment replaced by its variable's name in brackets, and by "…" what a URL logs in with."""
    for name, value in os.environ.items():
        if NAMED.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, f"[{name}]")
    return _IN_A_URL.sub(lambda found: f"{found['name'] or ''}…", text)
