"""Judges on labelled lines: what the figures make of judges of known skill, and the command on a file of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from lab.selftest import main
from lab.selftests.judge_figures import free_text_personas, judge_figures, townsfolk_sentences
from lab.selftests.planted_drift import PERSONAS
from metrics.judges import judgement
from scenarios.personas import load_personas

HOW = {"confidence": 0.95}
PEOPLE = free_text_personas()


@dataclass(frozen=True)
class Scripted:
    """A judge whose p is that of a table, by line and card, or 0.5; `silent` lines are unscored."""

    p: dict
    silent: frozenset = field(default_factory=frozenset)
    name: str = "scripted"

    def judge(self, pairs):
        for pair in pairs:
            if pair.line in self.silent:
                yield judgement(pair, self.name, unscored="silent")
            else:
                p = self.p.get((pair.line, pair.persona.card), self.p.get(pair.line, 0.5))
                yield judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5)


def labels():
    return zip(PEOPLE.pairs, PEOPLE.contradicts, strict=True)


def test_a_judge_that_knows_the_labels_is_perfect_in_both():
    p = {(pair.line, pair.persona.card): 0.9 if wrong else 0.1 for pair, wrong in labels()}
    for place, mirror in PEOPLE.mirrors.items():
        p[mirror.line, mirror.persona.card] = 0.1 if PEOPLE.contradicts[place] else 0.9
    figures = judge_figures(Scripted(p), PEOPLE, **HOW)
    for name in ("auroc", "mirrored", "precision", "recall", "recall_at"):
        assert figures.statistics[name].value == 1.0, name
    assert figures.statistics["accused"].value == 0.0
    assert (figures.n, figures.contradicting, figures.unscored) == (700, 280, 0)


def test_a_judge_that_reads_the_line_alone_ranks_lines_perfectly_and_mirrors_at_chance():
    figures = judge_figures(Scripted({pair.line: 0.9 if wrong else 0.1 for pair, wrong in labels()}), PEOPLE, **HOW)
    assert figures.statistics["auroc"].value == 1.0
    assert figures.statistics["mirrored"].value == 0.5


def test_what_a_judge_leaves_unscored_is_counted_and_in_no_figure():
    silent = frozenset(pair.line for pair, wrong in labels() if not wrong and pair.persona.id == "0")
    p = {pair.line: 0.9 if wrong else 0.1 for pair, wrong in labels()}
    figures = judge_figures(Scripted(p, silent), PEOPLE, **HOW)
    assert figures.unscored == len(silent) > 0
    assert figures.n + figures.unscored == len(PEOPLE.pairs)
    nothing = judge_figures(Scripted({}, frozenset(pair.line for pair in PEOPLE.pairs)), PEOPLE, **HOW)
    assert nothing.n == 0
    assert nothing.statistics["auroc"].value != nothing.statistics["auroc"].value


def test_half_of_the_sentences_of_the_townsfolk_contradict_and_every_mirror_has_a_line():
    sentences = townsfolk_sentences(load_personas(PERSONAS))
    assert (len(sentences.pairs), sum(sentences.contradicts)) == (80, 40)
    assert all(mirror.line == PEOPLE.pairs[place].line for place, mirror in PEOPLE.mirrors.items())


def test_the_command_judges_files_of_ones_own_too(tmp_path, capsys):
    said = ["I live in Oslo by the sea.", "Hello.", "My home has always been Lima.", "Nice."]
    lines = [
        {"i": turn, "speaker": ("P1", "P2")[turn % 2], "text": text, "contradicts_persona": turn == 2}
        for turn, text in enumerate(said)
    ]
    record = {"id": "a", "roles": {"P1": "user", "P2": "assistant"}, "lines": lines}
    record["personas"] = {"P1": "I live in Oslo.", "P2": "I like tea."}
    (tmp_path / "own.jsonl").write_text(json.dumps(record) + "\n")
    out = tmp_path / "figures.json"
    assert main(["--judges", str(tmp_path / "own.jsonl"), "--judge", "ledger", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "own.jsonl: 4 lines, 1 of them contradict" in printed
    figures = {row["lines"]: row for row in json.loads(out.read_text())["figures"]}
    assert figures["townsfolk"]["n"] == 80
    assert figures["own.jsonl"]["unscored"] == 4  # a ledger knows no facts there


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--judges", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--judges", "measure.nli.mdoel=x"], "measure.nli.mdoel"),
        (["--judges", "--plot", "figure.pdf"], "expected a name that ends with .png"),
        (["--judges", "--size", "smoke"], "--size is smoke, of the dialogues with planted drift; expected no --judges"),
        (["--kill", "2", "--size", "default"], "--size is default"),
        (["nowhere.yaml"], "'nowhere.yaml' is for --judges or --kill N"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_sentence(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    sentence = capsys.readouterr().err
    assert expected in sentence
    assert "Traceback" not in sentence


def test_a_file_without_labels_is_refused(tmp_path, capsys):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi."}]}) + "\n")
    assert main(["--judges", str(path), "--judge", "ledger"]) == 2
    assert "labels no line" in capsys.readouterr().err
