"""What wiring refuses once it knows its engines."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass

import pytest
import tiny

from agents.engine.steering import own_card
from agents.models.chat_template import ChatFormat
from agents.models.info import EngineInfo
from lab.dialogue import cluster
from lab.dialogue.capacity import check_dialogue_memory, longest_view
from lab.dialogue.seats import _steer
from scenarios.personas import cast
from scenarios.scenario import load_scenario

GIB = 2**30


@dataclass(frozen=True)
class Known:
    """An engine of which only its info is asked."""

    about: EngineInfo

    def info(self) -> EngineInfo:
        return self.about


def engine(free_gib: float, place: str = "here cpu") -> Known:
    return Known(
        EngineInfo("m", place.split()[-1], "float32", 8192, 1, ChatFormat.plain(), 2**15, int(free_gib * GIB), place)
    )


def scenario(**keys):
    return load_scenario(
        "scenarios/long_dialogue.yaml", ["conversations=64", *(f"{key}={value}" for key, value in keys.items())]
    )


def test_views_that_do_not_fit_are_refused_with_a_number_that_does():
    """(1488 + 512 tokens) * 1.25 * 32 KiB * 2 seats = 160 MB a dialogue: 64 need 9.8 GiB, and of 4 GiB free 3.6 may be
    used for 23.
    """
    with pytest.raises(
        ValueError,
        match=r"concurrency: 32 dialogues at once may need 4\.9 GiB .* 3\.6 GiB is free on cpu; "
        r"expected concurrency=23, fewer turns",
    ):
        check_dialogue_memory(scenario(), {"embedded": engine(4)}, {"user": 1488, "assistant": 1488})
    check_dialogue_memory(scenario(concurrency=23), {"embedded": engine(4)}, {"user": 1488, "assistant": 1488})


def test_where_not_even_one_fits_no_number_is_named():
    with pytest.raises(ValueError, match="expected fewer turns or a smaller max_tokens"):
        check_dialogue_memory(scenario(concurrency=1), {"embedded": engine(0.1)}, {"user": 1488, "assistant": 1488})


def test_engines_with_memories_of_their_own_are_not_added_up():
    seats = {"seats.user.model": "first", "seats.assistant.model": "second"}
    apart = {"first": engine(3, "a cuda:0"), "second": engine(3, "b cuda:0")}
    check_dialogue_memory(scenario(**seats), apart, {"user": 1488, "assistant": 1488})
    together = {"first": engine(3, "a cuda:0"), "second": engine(3, "a cuda:0")}
    with pytest.raises(ValueError, match="is free on cuda:0"):
        check_dialogue_memory(scenario(**seats), together, {"user": 1488, "assistant": 1488})


def test_a_card_longer_than_the_context_is_refused_with_persona_tokens_and_context(tiny_engine):
    context = tiny_engine.info().context
    card = f"{{name: Ada, card: {'x' * context}}}"
    long = scenario(**{"seats.user.persona": card, "seats.user.instruction": "''"}, conversations=1, turns=2)
    told = rf"^seats.user: the card of 'ada' has {context} tokens, but embedded reads at most {context}; expected a sh"
    with pytest.raises(ValueError, match=told):
        longest_view(long, "user", {"embedded": tiny_engine}, cast(long))
    short = scenario(**{"seats.user.persona": "{name: Ada, card: A pilot.}"}, conversations=1, turns=2)
    assert 0 < longest_view(short, "user", {"embedded": tiny_engine}, cast(short)) <= context


def test_a_server_keeps_its_own_keys():
    check_dialogue_memory(
        scenario(),
        {"embedded": Known(EngineInfo("m", "http://x", "served", 8192, 0, ChatFormat.plain()))},
        {"user": 1488, "assistant": 1488},
    )


def test_a_seat_is_steered_along_its_own_card(one_thread):
    engine, bare = tiny.engine(tiny.plain(tiny.llama())), scenario().seats.user
    spec = scenario(**{"seats.user.steer": "{coefficient: 0.3, depths: [0, 0.5]}"}).seats.user
    steer = _steer(spec, engine)
    assert (
        steer("You are Ada.") == own_card(engine, "You are Ada.").steer("add", 0.3, (0, 0.5)) != steer("You are Tom.")
    )
    assert _steer(bare, engine)("You are Ada.") is None


@pytest.mark.parametrize("answer", [b"", b"\0\0\x12\x04\0"])
def test_an_address_that_accepts_and_stays_silent_is_given_up_in_seconds(answer, monkeypatch):
    """What answers as an HTTP/2 server does, with its settings, is left to Ray."""

    def serve():
        with server.accept()[0] as client:
            client.sendall(answer)
            over.wait(10)

    over = threading.Event()
    monkeypatch.setattr(cluster, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        expected = pytest.raises(ValueError, match="no Ray cluster answers at")
        with expected if not answer else contextlib.nullcontext():
            cluster.check_cluster(address)
        over.set()
