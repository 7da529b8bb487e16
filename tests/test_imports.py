"""Rooms and arrows: imports go down the table below, no files import each other in a circle, heavy libraries stay where
they belong. Read from the syntax tree of every file, imports within functions and for type checkers included.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import networkx as nx

from lab.dialogue.cluster import PACKAGES

ROOT = Path(__file__).parent.parent

# From the top: a file imports from its own room and from rooms below it. `lab` is the commands, and nothing imports
# those.
ROOMS = (
    "lab",
    "lab/api",
    "lab/selftests",
    "lab/benchmark",
    "lab/results",
    "lab/sweeps",
    "lab/studies",
    "lab/training",
    "lab/runs",
    "lab/transcripts",
    "lab/persona_files",
    "lab/live",
    "lab/reports",
    "lab/dialogue",
    "lab/progress",
    "lab/store",
    "agents/learning",
    "agents/seats",
    "agents/judge_models",
    "agents/servers",
    "agents/engine",
    "agents/models",
    "agents",
    "metrics/studies",
    "metrics/validation",
    "metrics",
    "metrics/judges",
    "metrics/judges/text",
    "metrics/stats",
    "scenarios/jobs",
    "scenarios",
)
APART = ("agents", "metrics")  # floors that do not know each other
SHARED = {
    "lab/__init__.py",
    "lab/commands.py",
    "metrics/__init__.py",
    "metrics/judges/__init__.py",
    "metrics/studies/__init__.py",
}
MOST_LINES, MOST_LINES_OF_A_COMMAND = 400, 120
RAY = {"agents/engine/actor.py", "lab/dialogue/cluster.py", "lab/training/workers.py", "lab/sweeps/"}
NO_TORCH = ("scenarios/", "metrics/", "lab/store/", "lab/progress/", "lab/reports/", "lab/live/", "lab/results/")


def room(file: str) -> str:
    return file.rpartition("/")[0]


def imported_names(source: str) -> set[str]:
    """Dotted names that a file imports anywhere; of `from a import b` both `a` and `a.b`. Relative imports are left
    out.
    """
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            names |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    return names


SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for floor in ("lab", "agents", "metrics", "scenarios")
    for path in sorted((ROOT / floor).rglob("*.py"))
}
NAMES = {file: imported_names(source) for file, source in SOURCES.items()}
MODULES = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in SOURCES}
ARROWS = nx.DiGraph(
    [
        (file, MODULES[name])
        for file, names in NAMES.items()
        for name in names
        if name in MODULES and (MODULES[name] in SHARED or not MODULES[name].endswith("/__init__.py"))
    ]
)


def heavy(file: str) -> set[str]:
    return {name.partition(".")[0] for name in NAMES[file]}


def test_an_import_is_seen_wherever_it_hides():
    source = (
        "import a.b\nif x:\n    from c.d import e\ndef f():\n    import g, h as i\n    importlib.import_module('j.k')\n"
        "from . import z"
    )
    assert imported_names(source) == {"a.b", "c.d", "c.d.e", "g", "h", "j.k"}


def test_every_file_has_a_room_in_the_table():
    assert {room(file) for file in SOURCES} == set(ROOMS)


def test_imports_go_down_only():
    place = {name: number for number, name in enumerate(ROOMS)}
    upwards = [(a, b) for a, b in ARROWS.edges if b not in SHARED and place[room(a)] > place[room(b)]]
    assert ARROWS.number_of_edges() > 500 and upwards == []


def test_agents_and_metrics_do_not_know_each_other():
    assert [(a, b) for a, b in ARROWS.edges if {a.partition("/")[0], b.partition("/")[0]} == set(APART)] == []


def test_no_file_imports_itself():
    assert list(nx.selfloop_edges(ARROWS)) == []


def test_no_files_import_each_other_in_a_circle():
    assert [sorted(files) for files in nx.strongly_connected_components(ARROWS) if len(files) > 1] == []


def test_no_library_imports_a_command():
    commands = {file for file in SOURCES if room(file) == "lab"} - SHARED
    assert [(a, b) for a, b in ARROWS.edges if b in commands] == []


def test_no_file_is_long_and_commands_are_short():
    lines = {file: source.count("\n") for file, source in SOURCES.items()}
    assert {
        file: n for file, n in lines.items() if n > (MOST_LINES_OF_A_COMMAND if room(file) == "lab" else MOST_LINES)
    } == {}


def test_no_library_function_takes_a_commands_parsed_options():
    assert [file for file, source in SOURCES.items() if room(file) != "lab" and "argparse.Namespace" in source] == []


def test_what_travels_to_a_cluster_imports_nothing_of_ours_that_stays():
    travelled = {
        name
        for file in SOURCES
        if file.partition("/")[0] in PACKAGES
        for name in heavy(file) & {"lab", *APART, "scenarios"}
    }
    assert "lab" in travelled and travelled <= set(PACKAGES)


def test_ray_is_imported_where_actors_and_clusters_are_only():
    users = {file for file in SOURCES if "ray" in heavy(file)}
    assert "agents/engine/actor.py" in users and [file for file in users if not file.startswith(tuple(RAY))] == []


def test_torch_is_not_imported_where_results_are_kept_and_shown():
    assert [file for file in SOURCES if file.startswith(NO_TORCH) and "torch" in heavy(file)] == []


def test_nothing_imports_the_tests():
    assert [file for file in SOURCES if heavy(file) & {"tests", "tiny", "conftest", "pytest"}] == []


COMMANDS = [
    "lab",
    *sorted(
        f"lab.{path.stem}"
        for path in (ROOT / "lab").glob("*.py")
        if path.stem not in ("__init__", "__main__", "commands")
    ),
]
# Runs each command as `python -m NAME --help` does, one after the other. What a command has loaded stays loaded for
# those after it, so the first that is named is the one to mend.
HELPS = """
import contextlib, io, json, runpy, sys

def modules_after_help(name):
    sys.argv[:] = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            assert not stop.code, (name, stop.code)
    assert "python -m lab" in shown.getvalue(), name
    return sorted(sys.modules)

print(json.dumps({name: modules_after_help(name) for name in sys.argv[1:]}))
"""
SHOWING = """
import json, sys
import lab, lab.live.run_monitor, lab.store.run_store, lab.reports.write, lab.live.viewer, scenarios.scenario
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"torch", "ray", "transformers"}


def printed(code: str, *arguments: str) -> object:
    """The JSON that a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout)


def test_help_loads_neither_torch_nor_ray():
    loaded = printed(HELPS, *COMMANDS)
    assert len(loaded) > 10 and all("argparse" in modules for modules in loaded.values())
    heavy_by_command = {name: HEAVY.intersection(modules) for name, modules in loaded.items()}
    assert heavy_by_command == {name: set() for name in COMMANDS}


def test_what_shows_results_loads_no_torch():
    modules = printed(SHOWING)
    assert "polars" in modules and not HEAVY.intersection(modules)
