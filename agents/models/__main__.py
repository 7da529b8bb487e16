"""Prepares the embedded model: `python -m agents.models`, which the set-up calls once."""

from __future__ import annotations

from agents.models.loading import EMBEDDED, local_folder

if __name__ == "__main__":
    print(f"embedded model ready in {local_folder(EMBEDDED)}")
