"""What a run's personas leave open, in sentences: facts that are missing, instructions that are left out, shared
names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scenarios.graph import speaks_of_facts
from scenarios.personas import STRANGER, cast, draft_counts, load_personas
from scenarios.records import PARTNER, SEATS, Persona

if TYPE_CHECKING:
    from scenarios.schema import ScenarioFile

LISTED = 3  # names in a sentence


def persona_notes(scenario: ScenarioFile) -> list[str]:
    """One sentence for each thing that a reader of the run's results should know about its personas; [] as a rule.

    Raises ScenarioError where the personas cannot be cast.
    """
    casts = cast(scenario)
    notes = [*_without_facts(scenario, casts), *_outside_cards(casts)]
    drafts = draft_counts(scenario)
    for persona_id in dict.fromkeys(persona.id for seats in casts for persona in seats.values()):
        if count := drafts.get(persona_id):
            facts = "fact is" if count == 1 else "facts are"
            notes.append(f"{persona_id}: {count} draft {facts} not played until 'draft: true' is removed")
    for path in scenario.personas:
        notes += [f"{path}: {sentence}" for sentence in same_names(load_personas(path))]
    return notes


def same_names(people: Sequence[Persona]) -> list[str]:
    """A sentence where personas share a name, else none."""
    by_name: dict[str, list[str]] = {}
    for persona in people:
        by_name.setdefault(persona.name, []).append(persona.id)
    shared = {name: ids for name, ids in by_name.items() if len(ids) > 1}
    if not shared:
        return []
    return ["several personas share a name: " + listed([f"{name} ({listed(ids)})" for name, ids in shared.items()])]


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def holds(card: str, value: str) -> bool:
    """Whether a card has the value of a fact, without regard to case and a leading article."""
    return re.sub(r"^(?:an?|the) ", "", value.casefold()) in card.casefold()


def _without_facts(scenario: ScenarioFile, casts: Sequence[dict[str, Persona]]) -> Iterator[str]:
    for seat in SEATS:
        without = {
            seats[seat].id: seats[seat].name for seats in casts if not seats[seat].facts and seats[seat] is not STRANGER
        }
        if not without:
            continue
        unscored = "; the ledger leaves every line unscored" if "ledger" in scenario.measure.judge else ""
        yield (
            f"seats.{seat}: {listed(list(without.values()))} {'has' if len(without) == 1 else 'have'} no facts, so "
            f"there is nothing to ask in Q&A; judged by {listed(scenario.measure.judge)}{unscored}"
        )
        nodes = [name for name, node in scenario.graph.nodes.items() if speaks_of_facts(node, PARTNER[seat])]
        if nodes:
            yield (
                f"graph.nodes: {listed(nodes)}: where the {seat} has no facts, the {PARTNER[seat]} is not instructed "
                "to speak of one"
            )


def _outside_cards(casts: Sequence[dict[str, Persona]]) -> Iterator[str]:
    for persona in {persona.id: persona for seats in casts for persona in seats.values()}.values():
        outside = [f"{fact.id} ({fact.value})" for fact in persona.facts if not holds(persona.card, fact.value)]
        if outside:
            yield f"{persona.id}: facts that are not in the card: {listed(outside)}"
