"""What is read of files that anybody sent: regular files alone, and no more than a limit."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import pytest

from lab.store.tail import Log
from scenarios import input_files, yaml_files
from scenarios.input_files import InputError, content, opened


def entry(kind: str, folder: Path) -> Path:
    path = folder / "entry"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind("entry")  # a socket's path is short
    return Path("/dev/zero") if kind == "a device" else path


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a socket", "a device"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused_and_not_opened(kind, linked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = entry(kind, tmp_path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    monkeypatch.setattr(os, "open", None)  # which would fail
    with pytest.raises(InputError) as refused:
        content(path, 10, "a file of labels")
    assert str(refused.value) == f"{path} is {kind}; expected a file of labels"
    with pytest.raises(yaml_files.ScenarioError, match=f"{path}: is {kind}; expected a YAML file"):
        yaml_files.read_yaml(path)
    with pytest.raises(InputError, match=f"is {kind}; expected the log of a run"):
        Log(path).next()


def test_what_takes_the_place_of_a_file_before_it_is_opened_is_refused_too(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    really = os.open

    def exchanged(name, *how):
        path.unlink()
        os.mkfifo(path)
        return really(name, *how)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(InputError, match="is a named pipe; expected text"):
        content(path, 10, "text")


def test_a_file_that_unpacks_to_more_than_the_limit_is_not_unpacked_further(tmp_path, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b"\n" * 300_000))
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match="is larger than 97 KiB; expected a smaller file"):
        content(path, 100_000, "text")
    monkeypatch.setattr(yaml_files, "LARGEST_YAML", 1000)
    with pytest.raises(yaml_files.ScenarioError, match="bomb: is larger than 1000 bytes"):
        yaml_files.read_yaml(path)
    monkeypatch.setattr(input_files, "LARGEST", 100_000)
    with opened(path, "text") as file, pytest.raises(InputError, match="goes on after 0 MiB"):
        sum(1 for _ in file)


def test_the_whole_of_a_file_within_the_limit_is_read_gzipped_or_not(tmp_path):
    (tmp_path / "plain").write_bytes(b"name: x\n")
    (tmp_path / "packed").write_bytes(gzip.compress(b"name: x\n"))
    for name in ("plain", "packed"):
        assert content(tmp_path / name, 8, "text") == b"name: x\n"
        assert yaml_files.read_yaml(tmp_path / name).data == {"name": "x"}
    (tmp_path / "torn").write_bytes(gzip.compress(b"name: x\n")[:-9])
    with pytest.raises(InputError, match="is a damaged gzip file"):
        content(tmp_path / "torn", 8, "text")
