from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from reach import names_used

# Threads that wait sleep, instead of keeping a core that the other worker's processes need. Read where torch is
# imported.
os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has cores of its own: two that share them hinder each other by far more than half.
    worker, workers = (
        int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")),
        int(os.environ["PYTEST_XDIST_WORKER_COUNT"]),
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[worker::workers] or cores)

TAKES_LONG = {  # names: of fixtures, of modules, and of what a test calls; `getfixturevalue` may be any fixture
    *("embedded", "EMBEDDED", "browser", "quick"),
    *("subprocess", "multiprocessing", "ray", "hosting"),
    *("inside", "terminal", "getfixturevalue"),
}
THOROUGH = {  # files whose tests train, play whole jobs, take times or draw many samples
    *("test_api", "test_engine", "test_killing", "test_nli_judge", "test_policy_gradients", "test_replay"),
    *("test_dataset", "test_retrieval", "test_safety", "test_score", "test_selftest", "test_study"),
    *("test_sweep_places", "test_training", "test_tripwires", "test_comparison"),
    *("test_validation", "test_resume", "test_bench", "test_planted"),
}


# of inputs that hypothesis draws: of `make test` the same each time, of `make fuzz` anew, 20,000 in all
HOW = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("suite", max_examples=100, derandomize=True, **HOW)
settings.register_profile("fuzz", max_examples=2000, print_blob=True, **HOW)
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a test as fast that uses no model with real weights, no other process, browser or whole command."""
    for item in (item for item in items if isinstance(item, pytest.Function)):
        if any(map(item.get_closest_marker, ("slow", "vllm", "gpu"))) or item.path.stem in THOROUGH:
            continue
        if not names_used(item) & TAKES_LONG:
            item.add_marker("fast")


@pytest.fixture(scope="session")
def one_thread():
    """Small models are faster on one thread, and far faster where other work is going on."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def embedded(one_thread):
    """The embedded model in float32 on the CPU, loaded once."""
    from agents.engine.local import LocalEngine
    from agents.models.loading import EMBEDDED, load

    return LocalEngine(load(EMBEDDED, "float32", "cpu"))


@pytest.fixture(scope="session")
def tiny_name(tmp_path_factory):
    """The folder of a small model whose tokens are characters and whose views may be long."""
    from corpora import folder

    return folder(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def tiny_engine(tiny_name, one_thread):
    from agents.engine.local import LocalEngine
    from agents.models.loading import load

    return LocalEngine(load(tiny_name, "float32", "cpu"))


@pytest.fixture
def recipe(tmp_path, tiny_name):
    """A function: overrides -> a recipe that trains that model."""
    from corpora import recipes

    return recipes(tmp_path, tiny_name)


@pytest.fixture
def unreported(monkeypatch):
    """For tests of something else than reports, which take longest of a run whose lines are given: none is written."""
    monkeypatch.setattr("lab.reports.write.write_report", lambda path: path)


@pytest.fixture(scope="session")
def browser():
    from browsing import CHROMIUM, DRIVER, chromium

    if not CHROMIUM or not DRIVER:
        pytest.skip(
            "there is no Chromium with its chromedriver here (Debian: apt-get install chromium chromium-driver)"
        )
    yield from chromium()


@pytest.fixture
def folder(tmp_path):
    """A function: events -> the folder of a run that wrote them."""
    from event_streams import append

    def write(*events):
        path = tmp_path / "20260101T120000Z-small-1a2b"
        path.mkdir()
        (path / "scenario.yaml").write_text("name: small\n")
        append(path / "events.jsonl", *events)
        return path

    return write


def pytest_terminal_summary(terminalreporter):
    """After `make fuzz`, the number of inputs."""
    counts = getattr(sys.modules.get("odd_inputs"), "COUNTS", None)
    if counts and terminalreporter.config.getoption("hypothesis_profile") == "fuzz":
        words = "{inputs:,} inputs: {read:,} were read, {refused:,} refused in a sentence".format_map(counts)
        terminalreporter.write_line(words)
