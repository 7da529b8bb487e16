"""The command lines, in a process of their own, as users run them, or in this one, which has everything loaded."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest import mock

import polars as pl

ROOT = Path(__file__).parents[2]
LONG = "scenarios/long_dialogue.yaml"
SECRETS = {"OPENAI_API_KEY": "sk-planted-4f1c9a", "HF_TOKEN": "hf_planted_77ab02"}
NOBODY_TALKS = [  # both seats read from a script: no model, no Ray
    'seats.user.script=["I am a baker.", "I live in Paris."]',
    'seats.assistant.script=["Who are you?", "Really?"]',
    "conversations=2",
    "measure.qa_every=100",
    "measure.judge=ledger",  # none of the judges that load models
]
TIMEOUT_S = 900  # several times what a quiet machine takes


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lab.run", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | SECRETS | more


def lab(*arguments: object, preexec_fn=None, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=preexec_fn,
    )


def inside(main: Callable[[Sequence[str]], int], *arguments: object, **env: str) -> subprocess.CompletedProcess:
    """`lab(...)` without the seconds that a process takes to start: the command in this one, which is left as it
    was.
    """
    import torch

    threads, terminate = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        chdir(ROOT),
        mock.patch.dict(os.environ, environment(**env), clear=True),
    ):
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            with (
                open(1, "w", closefd=False) as stdout,
                open(2, "w", closefd=False) as stderr,  # which the command may turn to its log
                redirect_stdout(stdout),
                redirect_stderr(stderr),
            ):
                code = main([str(argument) for argument in arguments])
        finally:
            for number, handle in enumerate(kept, start=1):
                os.dup2(handle, number)
                os.close(handle)
            torch.set_num_threads(threads)
            signal.signal(signal.SIGTERM, terminate)
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess([main.__module__, *arguments], code, out.read(), err.read())


def start(*arguments: object) -> subprocess.Popen:
    """In a session of its own, as a terminal starts it: a signal to the group reaches all that it started."""
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def only(runs: Path) -> Path:
    """The one run folder in `runs`."""
    (run,) = runs.iterdir()
    return run


def wait_for_lines(process: subprocess.Popen, runs: Path, lines: int) -> Path:
    """The run's folder, once that many lines were said."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for events in runs.glob("*/events.jsonl"):
            if events.read_bytes().count(b'"event": "line"') >= lines:
                return events.parent
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise TimeoutError(f"no {lines} lines in {runs} after {TIMEOUT_S} s")


def manifest(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())


def events(run: Path, *kinds: str) -> list[dict]:
    recorded = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event for event in recorded if event["event"] in kinds] if kinds else recorded


def turns(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "turns.parquet").drop("run_id", "seconds")


def judgements(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "judgements.parquet").drop("run_id")


def assert_same_play(run: Path, other: Path) -> None:
    """Every line and judgement, in every column; numbers that a model computed to 1e-3 (a resumed run reads in larger
    batches).
    """
    from polars.testing import assert_frame_equal

    assert_frame_equal(turns(run), turns(other), abs_tol=1e-3)
    assert_frame_equal(judgements(run), judgements(other), abs_tol=1e-3)
    assert turns(run)["token_ids"].to_list() == turns(other)["token_ids"].to_list()


def descendants(pid: int) -> dict[int, str]:
    """pid -> command line of all that the process started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
    seen, fresh = set(), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - seen
        seen |= fresh
    return {child: _command_line(child) for child in seen}


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextmanager
def listening(server: http.server.ThreadingHTTPServer) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server in a thread of this process. Its `over`, where it has one, is an event that ends what still waits
    there.
    """
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        if hasattr(server, "over"):
            server.over.set()
        server.shutdown()
        server.server_close()


@contextmanager
def answering(server: Sequence[object], url: str, log: Path, env: dict[str, str], timeout_s: float) -> Iterator[None]:
    """A server's process, from when its url answers; ended afterwards."""
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, server)], stdout=file, stderr=file, env=env)
    try:
        until = time.monotonic() + timeout_s
        while True:
            try:
                urllib.request.urlopen(url, timeout=2)
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < until, log.read_text()[-5000:]
                time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(60)


SERVE = Path(sys.executable).parent / "transformers"


SERVE_TIMEOUT_S = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening_sockets(pid: int) -> list[tuple[str, str, int]]:
    """Process, address and port of every socket at which the process, or one that it started, listens."""
    import psutil

    sockets = []
    for number in (pid, *descendants(pid)):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            sockets += [
                (process.name(), *connection.laddr)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
    return sockets
