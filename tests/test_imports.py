"""Imports go down only, and the heavy ones stay where they belong: by the syntax tree of every file, nested imports included."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cluster import PACKAGES

ROOT = Path(__file__).parent.parent
BELOW = {"lab": {"lab", "agents", "metrics", "scenarios"}, "agents": {"agents", "scenarios"}, "metrics": {"metrics", "scenarios"},
         "scenarios": {"scenarios"}}
RAY = {"agents/hosts.py", "lab/cluster.py", "lab/learners.py", "lab/sweep.py"}
NO_TORCH = ("scenarios/", "lab/monitor.py", "lab/store.py", "lab/report.py")


def imports(source: str) -> set[str]:
    """Top-level packages that a file imports anywhere. A relative import stays in its own and is left out."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    found |= {node.args[0].value for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in
              ("importlib.import_module", "import_module", "__import__") and isinstance(node.args[0], ast.Constant)}
    return {name.partition(".")[0] for name in found}


FILES = {path.relative_to(ROOT).as_posix(): imports(path.read_text()) for floor in BELOW for path in sorted((ROOT / floor).rglob("*.py"))}


def test_an_import_is_seen_wherever_it_hides():
    source = "import a.b\nif x:\n    from c.d import e\ndef f():\n    import g, h as i\n    importlib.import_module('j.k')\nfrom . import z"
    assert imports(source) == {"a", "c", "g", "h", "j"}


@pytest.mark.parametrize("floor", BELOW)
def test_imports_go_down_only(floor):
    upwards = {file: sorted(found & BELOW.keys() - BELOW[floor]) for file, found in FILES.items() if file.startswith(f"{floor}/")}
    assert upwards and {file: names for file, names in upwards.items() if names} == {}


def test_what_travels_to_a_cluster_imports_nothing_of_ours_that_stays():
    travelled = {name for file, found in FILES.items() if file.partition("/")[0] in PACKAGES for name in found & BELOW.keys()}
    assert "lab" in travelled and travelled <= set(PACKAGES)


def test_ray_is_imported_in_four_files_only():
    found = {file for file, names in FILES.items() if "ray" in names}
    assert "agents/hosts.py" in found and found <= RAY


def test_torch_is_not_imported_where_results_are_kept_and_shown():
    assert [file for file, names in FILES.items() if file.startswith(NO_TORCH) and "torch" in names] == []


def test_nothing_imports_the_tests():
    assert [file for file, names in FILES.items() if names & {"tests", "tiny", "conftest", "pytest"}] == []


def loaded(*arguments: str) -> set[str]:
    """Top-level modules that a Python command has loaded, by its own account of import times."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    lines = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in lines}


COMMANDS = ["lab", "lab.run", "lab.report", "lab.attribute", "lab.selftest", "lab.score", "lab.export", "lab.watch",
            "lab.fork", "lab.chat", "lab.findings", "lab.sweep", "lab.bench"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_neither_torch_nor_ray(command):
    found = loaded("-m", command, "--help")
    assert "argparse" in found and not found & {"torch", "ray", "transformers"}


def test_what_shows_results_loads_no_torch():
    found = loaded("-c", "import lab.monitor, lab.store, lab.report, lab.viewer, scenarios.schema, scenarios.graph, scenarios.personas")
    assert "polars" in found and not found & {"torch", "ray", "transformers"}
