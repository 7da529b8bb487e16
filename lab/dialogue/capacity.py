"""The number of tokens that a seat's view may reach, and whether the keys and values of all dialogues fit into
memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.engine.protocol import Engine
from agents.models.info import EngineInfo
from lab.dialogue.seats import engine_name
from scenarios.records import SEATS, Persona
from scenarios.scenario import Scenario

FRAME = 100  # tokens of the system text around a card, about
SPARE = 12  # tokens that a template may put around a line
INSTRUCTION_TOKENS = 40  # tokens of the longest instruction, about
ASKED = 512  # tokens of the questions read behind a view, about
SLACK = 1.25  # a view's room over its tokens: it grows by quarters
KEPT = 0.9  # of the free memory, for views: judges and passing results need some too


def _longest_line(scenario: Scenario, seat: str, engine: Engine) -> int:
    """The number of tokens of the longest line that the seat may say, from its script or its max_tokens."""
    script = scenario.seats[seat].script
    return max(len(ids) for ids in engine.encode(script)) if script else scenario.seats[seat].max_tokens


def longest_view(
    scenario: Scenario, seat: str, engines: Mapping[str, Engine], cast: Sequence[Mapping[str, Persona]]
) -> int:
    """The largest number of tokens that the seat's view can reach in any conversation; 0 for a seat without an engine.

    Raises ValueError where that, or a card alone, exceeds the context of the seat's model.
    """
    spec = scenario.seats[seat]
    engine = engines.get(engine_name(spec))
    if spec.script is not None or engine is None:
        return 0
    cards = dict.fromkeys((seats[seat].id, seats[seat].card + spec.instruction) for seats in cast)
    sizes = [len(ids) for ids in engine.encode([card for _, card in cards])]
    card, (who, _) = max(zip(sizes, cards, strict=True))
    if card + FRAME + spec.max_tokens > engine.info().context:
        raise ValueError(
            f"seats.{seat}: the card of {who!r} has {card} tokens, but {spec.model} reads at most "
            f"{engine.info().context}; expected a shorter card"
        )
    reminder = max(
        len(ids) for ids in engine.encode([spec.reminder.replace("{card}", seats[seat].card) for seats in cast])
    )
    directed = any(seat in node.instruct for node in scenario.graph.nodes.values())
    lines = sum(_longest_line(scenario, name, engine) + SPARE for name in SEATS)
    longest = card + FRAME + -(-scenario.turns // 2) * (lines + INSTRUCTION_TOKENS * directed + reminder)
    if longest > engine.info().context:
        raise ValueError(
            f"seats.{seat}: {scenario.turns} turns may take {longest} tokens, but {spec.model} reads at most "
            f"{engine.info().context}; expected fewer turns or a smaller max_tokens"
        )
    return longest


def view_bytes(tokens: int, info: EngineInfo) -> float:
    """The bytes of the keys and values of a view of that many tokens, with room for the Q&A probes that follow it."""
    return (tokens + ASKED) * SLACK * info.token_bytes


def check_dialogue_memory(scenario: Scenario, engines: dict[str, Engine], longest: dict[str, int]) -> None:
    """Raises ValueError where the keys and values of all concurrent dialogues, at their longest, exceed the free
    memory.

    `longest` is the result of `longest_view` for each seat.
    """
    wanted = min(scenario.concurrency, scenario.conversations)
    infos = {seat: engines[engine_name(scenario.seats[seat])].info() for seat, tokens in longest.items() if tokens}
    for place in {info.place for info in infos.values() if info.token_bytes}:
        there = {seat: info for seat, info in infos.items() if info.place == place}
        each = sum(view_bytes(longest[seat], info) for seat, info in there.items())
        free = KEPT * min(info.free_bytes for info in there.values())
        if each * wanted > free:
            fewer = f"concurrency={int(free / each)}, " if each <= free else ""
            raise ValueError(
                f"concurrency: {wanted} dialogues at once may need {each * wanted / 2**30:.1f} GiB of keys and values, "
                f"and {free / 2**30:.1f} GiB is free on {next(iter(there.values())).device}; expected {fewer}fewer "
                "turns or a smaller max_tokens"
            )
