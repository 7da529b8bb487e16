"""What strangers send, and what must not get out: files that would run code or lead elsewhere, keys, listening
sockets.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace as replaced
from pathlib import Path
from urllib.parse import quote, quote_plus

import learners
import pytest
import tiny
from commands import LONG, NOBODY_TALKS, ROOT, SECRETS, TIMEOUT_S, environment, inside, manifest, only

from agents.engine.sentences import ends_sentence, first_sentences
from agents.judge_models.answer_choice import spoken
from agents.models import adapter_files, loading
from lab import export, personas, report, run, score, sweep, train, watch
from lab.reports import markdown
from lab.store import session
from lab.store.atomic_write import StoreError, replace, replace_in_parts
from metrics.judges.answer_words import is_right
from metrics.judges.text import assertion, ownership, statements
from metrics.judges.text.claims import READ, claims
from metrics.studies.register_shift import features
from metrics.tripwires import line_wires
from scenarios import graph, scripts, turn_marks
from scenarios.messages import clean, clean_lines, escaped, first_line, hidden
from scenarios.personas import load_personas
from scenarios.spoken import Speaker, opens_thought, spoken_words
from scenarios.yaml_files import shown

TOWNSFOLK = ROOT / "scenarios/personas/townsfolk.yaml"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    runs = tmp_path_factory.mktemp("played")
    assert inside(run.main, LONG, *NOBODY_TALKS, "turns=4", "--display", "none", "--runs", runs).returncode == 0
    return only(runs)


def refused(done) -> str:
    """The one sentence of a command that ended with exit code 2."""
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, (
        done.returncode,
        done.stderr,
    )
    return done.stderr


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


# -- code that would be run


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:pathlib.Path.touch [{mark}]", "!!python/name:os.system", "!!python/module:this"]
)
def test_yaml_runs_nothing_wherever_it_is_read(tag, played, tmp_path):
    mark = tmp_path / "mark"
    tag = tag.replace("{mark}", str(mark))
    scenario, people, recipe = (tmp_path / name for name in ("scenario.yaml", "people.yaml", "recipe.yaml"))
    text = (ROOT / LONG).read_text().replace("personas/", f"{ROOT}/scenarios/personas/")
    scenario.write_text(
        f"{text}\ndescription: {tag}\n"
        if "description:" not in text
        else text.replace("seed: ", f"persona_pool: {tag}\nseed: ", 1)
    )
    recipe.write_text(f"name: x\nseed: 1\nscenario: {ROOT / LONG}\ndescription: {tag}\n")
    people.write_text(TOWNSFOLK.read_text().replace("slots: slots.yaml", f"slots: {tag}"))
    resumed = shutil.copytree(played, tmp_path / "run")
    (resumed / "scenario.yaml").write_text(f"{(resumed / 'scenario.yaml').read_text()}fork: {tag}\n")
    for done in (
        inside(run.main, scenario),
        inside(run.main, LONG, f"description={tag}"),
        inside(run.main, LONG, f"personas={people}"),
        inside(train.main, recipe),
        inside(run.main, "--resume", resumed),
        inside(report.main, resumed),
    ):
        assert "not valid YAML: could not determine a constructor for the tag" in refused(done), done.stderr
    assert not mark.exists()


@pytest.mark.parametrize(
    "names",
    [
        {"auto_mapping": {"base_model_class": "Planted", "parent_library": "planted"}},
        {"megatron_config": {"a": 1}, "megatron_core": "planted"},
        {"auto_map": {"AutoModel": "planted.Planted"}},
    ],
)
def test_an_adapters_config_makes_nothing_be_imported(names, tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    folder, model = tmp_path / "adapter", tiny.plain(tiny.llama())
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | names))
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    refusal = None
    try:
        adapter_files.read(tiny.plain(tiny.llama()), str(folder), "tiny")
    except ValueError as error:
        refusal = str(error)
    if refusal is None:
        assert "megatron_config" not in names
    else:
        assert "could not be read" in refusal and "\n" not in refusal
    assert not (tmp_path / "mark").exists()


def test_a_models_config_makes_nothing_be_imported(tmp_path):
    folder = Path(learners.saved(tiny.llama(), tmp_path / "model"))
    planted = f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Planted: pass\n"
    (folder / "planted.py").write_text(planted)
    for name, classes in (
        ("config.json", ("AutoConfig", "AutoModelForCausalLM")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
    ):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"auto_map": dict.fromkeys(classes, "planted.Planted")}))
    assert loading.load(str(folder), "float32", "cpu").info.context == 512  # by transformers' own classes
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "planted"}))
    with pytest.raises(ValueError, match="could not be loaded"):
        loading.load(str(folder), "float32", "cpu")
    assert not (tmp_path / "mark").exists()


# -- paths that would lead elsewhere


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/b", "x\n", ".hidden"])
def test_a_name_is_no_path(name, tmp_path):
    assert "name is " in refused(
        inside(run.main, LONG, *NOBODY_TALKS, f"name={json.dumps(name)}", "--runs", tmp_path / "runs")
    )
    assert "name is " in refused(
        inside(train.main, "scenarios/training/quick.yaml", f"name={json.dumps(name)}", "--runs", tmp_path / "runs")
    )
    assert files(tmp_path) == set()


def test_a_persona_whose_id_is_a_path_is_refused(tmp_path):
    people = tmp_path / "people.yaml"
    people.write_text(
        TOWNSFOLK.read_text().replace("id: grace", "id: ../../grace").replace("slots: ", f"slots: {TOWNSFOLK.parent}/")
    )
    error = refused(inside(run.main, LONG, *NOBODY_TALKS, f"personas={people}", "--runs", tmp_path / "runs"))
    assert "personas.0.id is '../../grace'; expected text of another form (letters, digits, '_' and '-'" in error
    assert files(tmp_path) == {Path("people.yaml")}


def test_nodes_people_and_conversations_that_are_named_like_paths_lead_nowhere(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    people, scenario, chats = inner / "people.yaml", inner / "scenario.yaml", inner / "chats.jsonl"
    people.write_text(
        TOWNSFOLK.read_text()
        .replace("name: Grace", "name: ../../Grace")
        .replace("slots: ", f"slots: {TOWNSFOLK.parent}/")
    )
    scenario.write_text(
        (ROOT / LONG).read_text().replace("greet", "../../greet").replace("personas/", f"{TOWNSFOLK.parent}/")
    )
    done = inside(
        run.main,
        scenario,
        *NOBODY_TALKS,
        "turns=4",
        f"personas=[{people}, {TOWNSFOLK.parent / 'assistants.yaml'}]",
        "seats.user.persona=grace",
        "--display",
        "none",
        "--runs",
        inner / "runs",
    )
    assert done.returncode == 0, done.stderr
    chats.write_text(
        json.dumps(
            {
                "id": "../../chat",
                "messages": [
                    {"role": "system", "content": "You are Mia."},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "I am Leo."},
                ],
            }
        )
    )
    done = inside(score.main, chats, "--judge", "ledger", "--runs", inner / "runs")
    assert done.returncode == 0, done.stderr
    assert {path.parts[0] for path in files(tmp_path)} == {"a"}
    assert {path.name for path in inner.iterdir()} == {people.name, scenario.name, chats.name, "runs"}
    assert len(list((inner / "runs").iterdir())) == 2


@pytest.mark.parametrize("name", ["events.jsonl", "log.txt", "report.md", "plots", ".lock", "checkpoints/step-000001"])
def test_a_run_that_holds_a_link_is_not_written_to(name, played, tmp_path):
    """What somebody sends as a run may hold a link to a file of ours."""
    sent, ours = shutil.copytree(played, tmp_path / "sent"), tmp_path / "ours"
    link = sent / name
    link.parent.mkdir(exist_ok=True)
    shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
    kept = (played / name).read_bytes() if (played / name).is_file() else b"ours"
    ours.write_bytes(kept)
    link.symlink_to(ours)
    commands = (
        [(run.main, "--resume", sent)]
        if name == "events.jsonl"
        else [(run.main, "--resume", sent), (report.main, sent)]
    )
    for main, *arguments in commands:
        assert f"{link} is a link to {ours}; expected files in the run's folder" in refused(inside(main, *arguments))
    assert ours.read_bytes() == kept and {path.name for path in tmp_path.iterdir()} == {"sent", "ours"}


def test_a_run_that_holds_a_pipe_is_not_written_to(played, tmp_path):
    sent = shutil.copytree(played, tmp_path / "sent")
    (sent / "log.txt").unlink()
    os.mkfifo(sent / "log.txt")
    for main, *arguments in ((run.main, "--resume", sent), (report.main, sent)):
        assert f"{sent / 'log.txt'} is a named pipe; expected files in the run's folder" in refused(
            inside(main, *arguments)
        )


@pytest.mark.parametrize("main", [run.main, train.main, sweep.main, score.main, personas.main, report.main, watch.main])
def test_a_pipe_in_place_of_a_file_blocks_no_command(main, played, tmp_path):
    pipe = tmp_path / "sent"
    os.mkfifo(pipe)
    runs = () if main in (personas.main, report.main, watch.main) else ("--runs", tmp_path / "runs")
    assert str(pipe) in refused(inside(main, pipe, *runs))
    if main is score.main:
        assert "is a named pipe; expected CSV" in refused(inside(main, played, "--labels", pipe))
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_file_is_not_written_through_a_link_that_waits_for_it(tmp_path):
    (tmp_path / "ours").write_text("ours")
    (tmp_path / ".new.tmp").symlink_to(tmp_path / "ours")
    (tmp_path / "new").symlink_to(tmp_path / "ours")
    replace(tmp_path / "new", b"theirs")
    assert (
        (tmp_path / "ours").read_text() == "ours"
        and (tmp_path / "new").read_bytes() == b"theirs"
        and not (tmp_path / "new").is_symlink()
    )


def test_a_gguf_file_is_converted_inside_the_cache_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        loading,
        "_dequantise",
        lambda file, folder: (
            folder.mkdir(),
            (folder / "config.json").write_text("{}"),
            (folder / "model.safetensors").touch(),
        ),
    )
    for name in ("...gguf", ".. ..gguf", "-rf.gguf"):
        (tmp_path / name).touch()
        folder = Path(loading.local_folder(str(tmp_path / name))).resolve()
        assert folder.parent == tmp_path / "cache" / "gguf" and (folder / "config.json").is_file()


# -- keys


def test_a_traceback_in_the_log_holds_no_key(tmp_path, monkeypatch):
    """Whatever an error that nobody foresaw may say."""

    def set_up(*_):
        key = os.environ["OPENAI_API_KEY"]
        raise RuntimeError(
            f"headers: Authorization: Bearer {key}\nHF_TOKEN={os.environ['HF_TOKEN']} "
            "http://me:pa55w0rd@host/v1?api_key=abc123"
        )

    monkeypatch.setattr("lab.dialogue.wiring.set_up", set_up)
    done = inside(run.main, LONG, *NOBODY_TALKS, "--display", "plain", "--runs", tmp_path)
    assert done.returncode == 2
    log = (only(tmp_path) / "log.txt").read_text()
    assert "Traceback" in log and "Bearer [OPENAI_API_KEY]" in log and manifest(only(tmp_path))["status"] == "failed"
    contents = {path: path.read_bytes() for path in only(tmp_path).rglob("*") if path.is_file()} | {
        "out": done.stdout.encode(),
        "err": done.stderr.encode(),
    }
    for secret in (*SECRETS.values(), "pa55w0rd", "abc123"):
        assert not [where for where, data in contents.items() if secret.encode() in data], secret


@pytest.mark.parametrize("key", ["seats.user.endpoint", "measure.llm.endpoint"])
@pytest.mark.parametrize("url", ["http://me:pa55w0rd@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?api_key=pa55w0rd"])
def test_a_password_in_an_address_is_refused_and_not_repeated(key, url, tmp_path):
    error = refused(inside(run.main, LONG, *NOBODY_TALKS, f"{key}={url}", "--runs", tmp_path / "runs"))
    assert "a key belongs in OPENAI_API_KEY" in error and "pa55w0rd" not in error and files(tmp_path) == set()


def test_what_is_hidden(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "abcdefgh")
    monkeypatch.setenv("SHORT_KEY", "the")
    assert hidden("abcdefgh and the rest") == "[MY_SECRET] and the rest"
    assert hidden("'https://a:b@c.d/v1?x=1&token=2&y=3' e@f.g") == "'https://…@c.d/v1?x=1&token=…&y=3' e@f.g"


def test_a_secret_is_hidden_in_every_form_and_before_anything_is_cut(monkeypatch):
    secret = 'p@ss "w/ord\\1'
    for name in ("DB_PASS", "github_pat", "MYSQL_PWD", "api_key_2", "OPENAI_API_KEY3", "Token", "AWS_CREDENTIALS"):
        with monkeypatch.context() as patched:
            patched.setenv(name, secret)
            for form in (secret, json.dumps(secret), repr(secret), quote(secret), quote_plus(secret).lower()):
                assert hidden(f"<{form}>").strip("<>\"'") == f"[{name}]", (name, form)
    monkeypatch.setenv("PWD", "/home/ada/notes")
    assert hidden("/home/ada/notes/a") == "/home/ada/notes/a", "the folder is no secret"
    monkeypatch.setenv("MY_KEY", "sk-" + "0123456789" * 5)
    for before in range(0, 80, 7):
        text = "x" * before + os.environ["MY_KEY"] + "y" * 60
        assert "0123" not in shown(text) and "0123" not in first_line(ValueError("z" * 9_950 + text), 20_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:p@ss@host/v1", "http://…@host/v1"),
        ("http://me:p'a\"ss@host/v1", "http://…@host/v1"),
        ("http://me:pa/ss@host/v1", "http://…@host/v1"),
        ("http://host:8000/@scope/x a@b", "http://host:8000/@scope/x a@b"),
        ("http://host/?db_pass=abc&x=1", "http://host/?db_pass=…&x=1"),
    ],
)
def test_a_login_is_hidden_whatever_its_password_holds(text, expected):
    assert hidden(text) == expected


# -- text that takes long to read
# ----------------------------------------------------------------------------------------------

PERSON = next(iter(load_personas(TOWNSFOLK)))
SLOTS = tuple(fact.slot for fact in PERSON.facts)
# all that is looked for
WORDS = " ".join(
    pattern.replace("{value}", fact.value) + "." for fact in PERSON.facts for pattern in fact.slot.patterns
)
READERS = {
    "hidden": hidden,
    "first_line": lambda text: first_line(ValueError(text)),
    "first_sentences": lambda text: first_sentences(text, 2),
    "ends_sentence": ends_sentence,
    "spoken": lambda text: spoken(text, ("YES", "NO")),
    "sentences": assertion.sentence_spans,
    "quotations": assertion.quotations,
    "own_words": lambda text: turn_marks.own_words(text, "user", "Grace", "Tomas"),
    "spoken_words": lambda text: spoken_words(text, Speaker("user", "Grace", "Tomas")),
    "opens_thought": opens_thought,
    "unreadable": lambda text: scripts.unreadable(text, ("I live in {value}",)),
    "contains": lambda text: graph.contains(text, "you a"),
    "claims": lambda text: claims(text, SLOTS),
    "is_right": lambda text: is_right(text, PERSON.facts[0]),
    "said": statements.said,
    "statements": lambda text: statements.statements(replaced(PERSON, facts=(), card=text)),
    "untagged": ownership.untagged,
    "borrowed": lambda text: ownership.borrowed(text, PERSON.card, text, text),
    "engages": ownership.engages,
    "asks_of_partner": ownership.asks_of_partner,
    "line_wires": lambda text: line_wires(text, PERSON.card, text),
    "features": features,
    "escape": markdown.escape,
    "clean": clean,
    "escaped": escaped,
}
UNITS = (
    ".",
    "?",
    "?key",
    "?key=",
    "://",
    "://a:b",
    " ",
    "\n",
    '"',
    "“",
    "I am ",
    "I am a baker, ",
    "I am 34, or ",
    "I'm Grace, a nurse, ",
    "Grace and ",
    "a",
    "a-",
    ".)",
    "you said ",
    "Grace ",
    "User:\n",
    "I live in a ",
    "。",
)
TAKE_LONG = ("claims", "statements", "line_wires")  # twenty seconds and more, for all units together
SLOW_S = 2.0  # of 100,000 characters; what takes time in proportion to the square of the length takes minutes


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TAKE_LONG else name for name in READERS]
)
def test_what_a_stranger_writes_is_read_in_time_in_proportion_to_its_length(name):
    def late(*_) -> None:
        raise TimeoutError

    def seconds(text: str) -> float:
        """Of this thread; infinity where reading was given up."""
        began = time.thread_time()
        signal.setitimer(signal.ITIMER_REAL, 5 * SLOW_S)
        try:
            read(text)
        except TimeoutError:
            return math.inf
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return time.thread_time() - began

    read, slow = READERS[name], []
    read(WORDS)  # what is compiled is compiled
    before = signal.signal(signal.SIGALRM, late)
    try:
        for unit, head, tail in ((unit, *ends) for unit in UNITS for ends in (("", ""), ("x", "x"), (WORDS, "x"))):
            for length in (1_000, 10_000, 100_000):
                text, most = head + unit * (length // len(unit)) + tail, SLOW_S * max(length, 25_000) / 100_000
                # a machine that stood still for once does not do so again
                if (took := seconds(text)) > most and (took := min(took, seconds(text))) > most:
                    slow.append((unit, length, took))
                    break
    finally:
        signal.signal(signal.SIGALRM, before)
    assert slow == []


def test_a_claim_behind_a_long_beginning_is_read_up_to_a_limit_and_no_word_is_cut():
    home = next(fact for fact in PERSON.facts if fact.id == "home")
    said = f"I live in {home.value}."
    assert claims(f"{'Hm. ' * 100}{said}", SLOTS) and claims(f"{'Hm. ' * 5000}{said}", SLOTS) == ()
    cut = "Hm. " * ((READ - len(said)) // 4)
    filled = cut + "x" * (READ - len(cut) - len(said)) + " "
    assert claims(f"{filled}{said[:-1]}shire. {'Hm. ' * 100}", SLOTS) == ()


def test_what_is_hidden_in_addresses_is_what_it_was():
    for text, expected in (
        ("a://b://c@d", "a://…@d"),
        ("?a?token=x&b=y", "?a?token=…&b=y"),
        ("?next=http://h?token=abc", "?next=http://h?token=…"),
        ("?key=a?b'c?token=x", "?key=…'c?token=…"),
        ("?key=&my_key==z", "?key=&my_key=…"),
        ("?KEY=1 &Token=2", "?KEY=… &Token=…"),
        ("?key'=x", "?key'=…"),
        ("://@x key=1", "://@x key=1"),
        ("?a=b?key=c", "?a=b?key=…"),
    ):
        assert hidden(text) == expected


# -- what reaches a terminal

ACTS = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\u202eyxoeht\u2066"  # title, screen, overwriting, colours, directions


def only_text(shown: str) -> bool:
    return all(char in "\n\t\u200c\u200d" or unicodedata.category(char) not in ACTING for char in shown)


ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # of Unicode's general categories


def test_every_character_that_a_terminal_may_act_upon_is_cleaned_and_no_other():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        acts = unicodedata.category(char) in ACTING and char not in "\u200c\u200d"
        if unicodedata.category(char) != "Cn":  # which later versions of Unicode assign
            assert clean(char) == (" " if acts else char), hex(code)
    assert clean_lines("a\tb\n\x1b") == "a\tb\n "
    assert escaped(json.dumps({"a": ACTS}, ensure_ascii=False)) == json.dumps({"a": ACTS})


def test_commands_print_by_what_cleans_alone():
    """In `lab`, nobody calls print, nor makes a console of rich's own."""
    for file in sorted((ROOT / "lab").rglob("*.py")):
        if file.name not in ("output.py", "console.py"):
            text = file.read_text()
            assert not re.search(r"(?<![\w.])print\(", text), file
            made = re.search(r"(?<![\w.])Console\((?!quiet=True\))", text)
            assert not made or "from lab.store.console import Console" in text, file


def test_what_strangers_wrote_reaches_a_terminal_as_text_alone(played, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main([f"--{ACTS}"])
    assert "is no option" in (said := capsys.readouterr().err) and only_text(said)
    sent, chats = shutil.copytree(played, tmp_path / "sent"), tmp_path / "chats.jsonl"
    log = [json.loads(line) for line in (played / "events.jsonl").read_text().splitlines()]
    for event in log:
        event |= {"text": f"Hi {ACTS}"} if event["event"] == "line" else {}
        event |= {"models": {"user": ACTS}, "name": ACTS, "device": ACTS} if event["event"] == "started" else {}
        event |= {"reason": ACTS, "status": "failed"} if event["event"] == "conversation" else {}
    (sent / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    (sent / "manifest.json").write_text(json.dumps(manifest(played) | {"scenario": ACTS, "status": ACTS}))
    chats.write_text(json.dumps({"messages": [{"role": ACTS, "content": "x"}]}) + "\n" + f'{{"{ACTS}": 1}}')
    rows = []
    for main, *arguments in (
        (run.main, tmp_path / f"none{ACTS}.yaml"),
        (run.main, LONG, f"seats.user.{ACTS}=1"),
        (score.main, chats),
        (score.main, sent, "--judge", ACTS),
        (report.main, sent),
        (watch.main, sent, "--display", "plain", "--speed", "max"),
        *((export.main, sent, "--format", form) for form in ("csv", "messages", "trl")),
    ):
        done = inside(main, *arguments)
        assert only_text(done.stdout) and only_text(done.stderr), (arguments, done.stdout, done.stderr)
        rows += [done.stdout] if main is export.main else []
    assert rows[0].count("Hi ") == 8 and json.loads(rows[1].splitlines()[0])["messages"][-1]["content"] == f"Hi {ACTS}"


@pytest.mark.parametrize("context", [session.aside, session.apart])
def test_what_libraries_print_is_text_alone_in_a_log(context, tmp_path):
    before = sys.stdout, sys.stderr
    with context(tmp_path / "log.txt"):
        sys.stdout.write(f"Hi {ACTS}\n")
        sys.stderr.write(f"Ho {ACTS}\n")
    said = (tmp_path / "log.txt").read_text()
    assert "Hi " in said and "Ho " in said and only_text(said)
    assert (sys.stdout, sys.stderr) == before


# -- sockets that listen


@pytest.mark.parametrize("first", [pytest.param("pass", marks=pytest.mark.slow), "from ray import train, tune"])
def test_a_private_ray_listens_to_this_machine_alone_whoever_imported_ray_before(first):
    """Whatever the environment says of clusters; and what it says stays, for those that come later."""
    code = f"""{first}
import json, os, sys
from lab.dialogue.cluster import connected
with connected("local", 1):
    import ray
    from commands import listening_sockets
    ray.get(ray.remote(lambda: None).remote())
    print(json.dumps([*listening_sockets(os.getpid()), os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]]))
"""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(PYTHONPATH=path, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1"),
    )
    assert done.returncode == 0, done.stderr
    *open_to, left = json.loads(done.stdout.splitlines()[-1])
    assert (
        left == "1"
        and len(open_to) >= 5
        and {address for _, address, _ in open_to} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    ), open_to


# -- what is no file


def test_a_character_device_is_written_into_and_stays(tmp_path):
    """Made here, of the same kind as /dev/null: the machine's own is not to be put at risk."""
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user makes no device nodes")
    try:
        device.open("wb").close()
    except PermissionError:
        pytest.skip("devices here cannot be opened (a file system without them)")
    replace(device, b"theirs")
    (tmp_path / "link").symlink_to(device)
    replace(tmp_path / "link", b"theirs")
    assert (
        stat.S_ISCHR(device.stat().st_mode)
        and (tmp_path / "link").is_symlink()
        and {path.name for path in tmp_path.iterdir()} == {"null", "link"}
    )


def test_a_pipe_gets_what_is_written_to_it_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_in_parts(pipe, iter((b"one\n", b"two\n")))
        assert os.read(reader, 100) == b"one\ntwo\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


def test_the_systems_own_link_to_an_open_file_is_followed(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        link = Path(f"/proc/self/fd/{file.fileno()}")
        replace(link, b"theirs")
        assert link.is_symlink() and (tmp_path / "file").read_bytes() == b"theirs"


def test_a_socket_is_refused_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("taken")
        with pytest.raises(StoreError, match=r"cannot write taken in .*No such device or address"):
            replace(Path("taken"), b"theirs")
        assert stat.S_ISSOCK(os.stat("taken").st_mode) and os.listdir() == ["taken"]


def test_an_export_into_a_pipe_leaves_the_pipe(played, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert inside(export.main, played, "--format", "csv", "--out", pipe).returncode == 0
        assert os.read(reader, 1 << 16).count(b"\n") == 9
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
