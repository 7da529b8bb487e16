"""The guides are true: their files are written, their changes made and their commands run, in order, in a copy of the
lab.

In a guide's fenced blocks, `python FILE`, `yaml FILE` and `toml FILE` are files, `diff` changes to files, `sh`
commands, and each line of `output` is in what the commands before it printed. In place of `pip install -e FOLDER`,
which needs a network, the package's metadata are written there. All guides run in one process, which loads everything
once.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import ROOT, environment
from packages import write_dist_info

GUIDES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "guides").glob("*.md"))}
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL = "pip install -e "
LONGEST = 100  # lines
PATIENCE_S = 900  # half a minute, where nothing else goes on
DRIVER = """
import contextlib, importlib, io, json, runpy, shlex, sys, traceback
outcomes = {}
for guide, lines in json.load(open(sys.argv[1])).items():
    for number, line in enumerate(lines):
        words, out, code = shlex.split(line), io.StringIO(), 1
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                if words[:2] == ["python", "-m"]:
                    code = importlib.import_module(words[2]).main(words[3:])
                else:
                    runpy.run_path(words[1], run_name="__main__")
                    code = 0
            except BaseException:
                traceback.print_exc()
        outcomes[f"{guide} {number}"] = [code, out.getvalue()]
json.dump(outcomes, open(sys.argv[1], "w"))
"""


def blocks(guide: str) -> list[tuple[str, str, str]]:
    """(language, file, text) of each fenced block."""
    return BLOCK.findall(GUIDES[guide])


def commands(text: str) -> list[str]:
    """A line each, but for installations; one that ends with a backslash goes on in the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith(INSTALL)]


def installed(text: str, root: Path) -> list[str]:
    """The folders that are installed, each with the metadata of its package."""
    folders = [root / line.removeprefix(INSTALL) for line in text.splitlines() if line.startswith(INSTALL)]
    for folder in folders:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        write_dist_info(folder, project["name"], project["version"], project["entry-points"])
    return [str(folder) for folder in folders]


def changed(diff: str, root: Path) -> None:
    """Makes the changes of a diff, each hunk where its lines stand, once in the file."""
    file, before, after = None, [], []

    def close() -> None:
        if before or after:
            text, old, new = file.read_text(), "".join(before), "".join(after)
            assert text.count(old) == 1, f"{file.name}: stands there {text.count(old)} times:\n{old}"
            file.write_text(text.replace(old, new))
        before.clear(), after.clear()

    for line in diff.splitlines(keepends=True):
        if line.startswith("---"):
            close()
        elif line.startswith("+++"):
            file = root / line.split()[1].removeprefix("b/")
        elif line.startswith("@@"):
            close()
        else:
            if line[0] in "- ":
                before.append(line[1:])
            if line[0] in "+ ":
                after.append(line[1:])
    close()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Guide and number of the command -> exit code and what it printed."""
    root = tmp_path_factory.mktemp("lab")
    for name in (
        "lab",
        "metrics",
        "scenarios",
    ):
        # no guide changes the agents, whose kernels are compiled where they stand
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    todo: dict[str, list[str]] = {}
    for guide in GUIDES:
        for language, file, text in blocks(guide):
            if language == "diff":
                changed(text, root)
            elif file:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_text(text)
        todo[guide] = [line for language, _, text in blocks(guide) if language == "sh" for line in commands(text)]
    shell = [text for guide in GUIDES for language, _, text in blocks(guide) if language == "sh"]
    folders = [folder for text in shell for folder in installed(text, root)]
    (root / "todo.json").write_text(json.dumps(todo))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "todo.json"],
        cwd=root,
        env=environment(PYTHONPATH=":".join([str(root), str(ROOT), *folders])),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((root / "todo.json").read_text())


@pytest.mark.parametrize("guide", GUIDES)
def test_what_a_guide_shows_happens(outcomes, guide):
    number, printed, wanted = 0, "", 0
    for language, _, text in blocks(guide):
        if language == "sh":
            for line in commands(text):
                code, out = outcomes[f"{guide} {number}"]
                assert code == 0, f"{line}\n{out}"
                number, printed = number + 1, printed + out
        elif language == "output":
            for line in text.splitlines():
                assert line in printed.splitlines(), f"{line!r} is not in\n{printed}"
                wanted += 1
    assert number and wanted, "it runs something, and says what comes of it"


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_a_page_of_blocks_that_run_and_names_files_that_are_there(guide):
    text = GUIDES[guide]
    assert text.count("\n") <= LONGEST and max(map(len, text.splitlines())) <= 160
    for language, file, _ in blocks(guide):
        assert language in ("sh", "diff", "output") or (language in ("python", "yaml", "toml") and file), (
            language,
            file,
        )
    unnamed = [
        file for before, file in re.findall(r"^(.+)\n\n```\w+ (\S+)$", text, re.MULTILINE) if f"`{file}`" not in before
    ]
    assert unnamed == [], "a page shows no more of a fence than its text, so the line before names the file"
    created = {file for name in GUIDES for _, file, _ in blocks(name)}
    for name in re.findall(r"`((?:lab|metrics|scenarios|agents)/[\w/]+\.(?:py|yaml))`", text):
        assert name in created or (ROOT / name).is_file() or "NAME" in name, name


def test_there_is_a_guide_for_each_thing_that_a_user_brings():
    assert set(GUIDES) == {"model", "personas", "scenario", "judge", "metric", "reward", "study"}
