"""What the documentation names is there: pages and sections it links to, commands, options, files, keys and tests."""

from __future__ import annotations

import html
import importlib
import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from io import StringIO

import pytest
from commands import ROOT

from lab.progress.training import SHOWN
from lab.reports.headline import FEW_UNITS
from lab.studies.runner import study_names
from metrics.catalogue import TITLES
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.study import study_named
from scenarios.jobs.sweep import Scheduler, Sweep, load_sweep
from scenarios.jobs.training import load_recipe
from scenarios.jobs.training_keys import Evaluation, HeldOut, Reward
from scenarios.renames import KEYS, VALUES
from scenarios.scenario import load_scenario
from scenarios.schema import CascadeConfig, Edge, LlmConfig, Measure, Node, ScenarioFile, SeatConfig

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), ROOT / "runs" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
COMMANDS = sorted(
    path.stem for path in (ROOT / "lab").glob("*.py") if path.stem not in ("__init__", "__main__", "commands")
)
MOST_LINES_OF_README = 200
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
CALL = re.compile(r"python -m lab\.(\w+)([^\n`]*)")
KEY = re.compile(r"[a-z][\w.]*=")
PLACEHOLDER = re.compile(r"\b(?:mine|RUN|THAT|TRAINING)\b")  # files that a reader has
GENERAL = "Options that several commands share"


def anchors(text: str) -> set[str]:
    """What a link may name behind `#`: headings, as GitHub and mkdocs spell them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@cache
def options(command: str) -> frozenset[str]:
    """The options of a command, as its --help lists them."""
    out = StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        importlib.import_module(f"lab.{command}").main(["--help"])
    listed = out.getvalue().partition("options:\n")[2].partition("\n\n")[0]
    return frozenset(OPTION.findall("\n".join(line for line in listed.splitlines() if line.startswith("  -"))))


def sections(text: str) -> dict[str, str]:
    """Second-level heading -> what stands below it."""
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def calls() -> list[tuple[str, str, str]]:
    """page, command, arguments of every call of a command that a page shows."""
    joined = {page: text.replace("\\\n", " ") for page, text in PAGES.items()}
    return [
        (page, name, words) for page, text in joined.items() for name, words in CALL.findall(text) if name.islower()
    ]


def test_the_readme_is_short():
    assert PAGES["README.md"].count("\n") <= MOST_LINES_OF_README


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_section_of_it(page):
    for target in LINK.findall(FENCED.sub("", PAGES[page])):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def cells(page: str) -> dict[str, list[str]]:
    """Measure -> cells of the first table of results that a page shows as a terminal prints it."""
    table = next(block for block in FENCED.findall(PAGES[page]) if block.startswith("```\nmeasure "))
    rows = [re.split(r" {2,}", line.strip()) for line in table.splitlines()[3:-1] if line]
    return {measure: others for measure, *others in rows}


def test_the_readme_s_table_is_part_of_the_page_on_metrics():
    short, whole = cells("README.md"), cells("docs/metrics.md")
    assert len(short) > 5 and {name: whole.get(name) for name in short} == short


def test_the_printed_caution_on_few_conversations_has_the_figures_of_the_page():
    [cells] = re.findall(r"\| drift of \.01 a line \| (.+) \|", PAGES["docs/statistics.md"])
    shares = [float(cell) for cell in cells.split(" | ")]
    words = {"one of six": 0.17, "half": 0.5, "nine of ten": 0.9}
    assert [word for word in words if word in FEW_UNITS] == list(words)
    assert shares == pytest.approx(list(words.values()), abs=0.08)


def test_pictures_of_the_terminal_have_the_labels_that_it_shows_now():
    words = {
        name: html.unescape((ROOT / "docs" / "pictures" / f"{name}.svg").read_text()).replace("\xa0", " ")
        for name in ("live", "watch", "training")
    }
    for name in ("live", "watch"):
        assert [title for title in (*TITLES.values(), "tokens through the model") if title not in words[name]] == []
    assert [
        key for key in ("reward_qa", "penalised", "kl", "length") if f">{SHOWN[key]}" not in words["training"]
    ] == []


def test_every_file_of_scenarios_that_a_page_names_is_there():
    names = {name for text in PAGES.values() for name in re.findall(r"(?<![\w./])scenarios/[a-z_/]+\.yaml", text)}
    created = {
        name
        for text in PAGES.values()
        for name in re.findall(r"^(?:```yaml|cp \S+) (scenarios/\S+)", text, re.MULTILINE)
    }
    assert len(names) > 10
    assert [name for name in sorted(names - created) if not (ROOT / name).is_file()] == []


def test_every_test_that_the_page_on_faults_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGES["docs/reliability.md"])
    assert len(named) > 15
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()]
    assert missing == []


def test_the_page_on_the_command_line_lists_every_option_of_every_command_and_no_other():
    by_command = {
        heading.split()[0].strip("`").removeprefix("lab."): frozenset(OPTION.findall(text))
        for heading, text in sections(PAGES["docs/cli.md"]).items()
    }
    general = by_command.pop(GENERAL.split()[0])
    assert sorted(by_command) == COMMANDS
    everywhere = frozenset.intersection(*map(options, COMMANDS))
    assert general >= everywhere
    assert general <= frozenset().union(*map(options, COMMANDS))
    assert {name: sorted(listed | everywhere) for name, listed in by_command.items()} == {
        name: sorted(options(name)) for name in COMMANDS
    }


def test_every_option_of_a_call_that_a_page_shows_is_one_of_the_command():
    shown = [
        (page, name, option) for page, name, words in calls() for option in OPTION.findall(words.partition(" #")[0])
    ]
    assert len(shown) > 40
    assert [call for call in shown if call[2] not in options(call[1])] == []


def test_every_key_of_a_call_that_a_page_shows_is_one_of_its_file():
    """Of the guides, tests/test_guides.py shows it."""
    read = {"run": load_scenario, "train": load_recipe, "sweep": load_sweep}
    checked = 0
    for page, name, text in calls():
        if name not in read or page.startswith("docs/guides/") or text.count("'") % 2:
            continue
        words = shlex.split(text.partition(" #")[0])
        file = next((word for word in words if re.fullmatch(r"scenarios/[a-z_/]+\.yaml", word)), "")
        if not (ROOT / file).is_file():
            continue
        if "/studies/" in file:
            assert study_named(ROOT / file, study_names()), (page, text)
        else:
            read[name](ROOT / file, [word for word in words if KEY.match(word) and not PLACEHOLDER.search(word)])
            checked += 1
    assert checked > 20


def test_the_page_on_scenarios_names_every_key_of_a_scenario():
    models = (ScenarioFile, SeatConfig, Node, Edge, Measure, LlmConfig, CascadeConfig)
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    page = PAGES["docs/scenarios.md"]
    # fork: written by lab.fork
    assert sorted(key for key in keys - {"fork"} if not re.search(rf"\b{key}\b", page)) == []


def test_the_page_on_training_names_every_key_of_a_training_and_every_part_of_its_reward():
    page = PAGES["docs/training.md"]
    keys = {name for model in (Recipe, Reward, HeldOut, Evaluation) for name in model.model_fields}
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_the_page_on_sweeps_names_every_key_of_a_sweep():
    keys = {*Sweep.model_fields, *Scheduler.model_fields} - {"name", "description", "seed"}  # as in a scenario
    page = PAGES["docs/sweeps.md"]
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", page)) == []


def test_the_table_of_changes_lists_every_new_name_that_an_old_one_is_answered_with():
    table = sections(PAGES["CHANGELOG.md"])["[0.2.0] - 2026-11-30"]
    listed = set()
    for row in table.splitlines():
        old, new = (
            re.findall(r"[\w.]+", " ".join(re.findall(r"`([^`]+)`", cell))) for cell in (row.split("|") + [""] * 4)[2:4]
        )
        listed |= set(zip(old, new, strict=True))
    renamed = {pair for place in (*KEYS.values(), *VALUES.values()) for pair in place.items()}
    assert renamed and renamed - listed == set()
