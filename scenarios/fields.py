"""Types of values that several kinds of file have: what they accept, and in what words they refuse the rest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of a file: no keys but those it names, no value bent into another type, nothing changed once it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
