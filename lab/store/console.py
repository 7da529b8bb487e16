"""rich's console, which draws nothing that a stranger wrote as more than text."""

from __future__ import annotations

from collections.abc import Iterable

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from scenarios.messages import clean_lines


class Console(console.Console):
    """A console whose texts are cleaned (`scenarios.messages.clean_lines`); its own styles and movements are not."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of the renderable, as they go to the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean_lines(segment.text), segment.style)
