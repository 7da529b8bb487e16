"""Packages as an installation leaves them: code on the path, and metadata beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_dist_info(folder: Path, name: str, version: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """The metadata of a package with entry points, by group and name; found where the folder is on the path."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [line for group, by_name in points.items() for line in (f"[{group}]", *map(" = ".join, by_name.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
