"""What the site needs of the guides: a block of code that is a file shows the file's name above it."""

from __future__ import annotations

import re

NAMED_BLOCK = re.compile(r"^```(\w+) ([\w./-]+)$", re.MULTILINE)  # ```python mine/model.py


def on_page_markdown(markdown: str, **_) -> str:
    """The page's text with the file's name as the title of its block."""
    return NAMED_BLOCK.sub(r'```\1 title="\2"', markdown)
