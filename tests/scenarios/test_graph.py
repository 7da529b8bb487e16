from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from scenarios import graph as graphs
from scenarios.records import Fact, Persona, Slot
from scenarios.scenario import Scenario
from scenarios.yaml_files import ScenarioError


def fact(slot_id: str, value: str, *distractors: str) -> Fact:
    slot = Slot(
        slot_id,
        "It is {value}.",
        "It is {value}.",
        (f"What is your {slot_id}?",),
        ("it is {value}",),
        (value, *distractors),
    )
    return Fact(slot, value, distractors)


GRACE = Persona(
    "grace", "Grace", "", (fact("home", "Osaka", "Lyon"), fact("job", "baker", "vet"), fact("pet_kind", "dog", "cat"))
)
TOMAS = Persona("tomas", "Tomas", "", (fact("home", "Lyon", "Osaka"),))


def scenario(nodes: dict, edges: list, start: str = "a", turns: int = 10) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "t",
            "seed": 1,
            "conversations": 1,
            "turns": turns,
            "personas": "none.yaml",
            "seats": {"assistant": {"persona": "grace"}, "user": {"persona": "tomas"}},
            "graph": {"start": start, "nodes": nodes, "edges": edges},
        }
    )


def build(nodes: dict, edges: list, start: str = "a", turns: int = 10):
    return graphs.build(scenario(nodes, edges, start, turns))


def refusal(nodes: dict, edges: list, **more) -> tuple[str, str]:
    with pytest.raises(ScenarioError) as caught:
        build(nodes, edges, **more)
    return ".".join(map(str, caught.value.key)), caught.value.problem


def step(graph, node: str, lines: int = 1, text: str = "", contradiction: bool = False, seed: int = 0) -> str:
    return graphs.next_node(graph, node, lines, text, contradiction, random.Random(seed))


A_TO_B = {"from": "a", "to": "b"}
B_TO_A = {"from": "b", "to": "a"}


def test_start_must_be_a_node():
    assert refusal({"aa": {}}, [], start="a") == ("graph.start", "is 'a', which is no node; did you mean 'aa'?")


def test_edge_must_name_nodes():
    key, problem = refusal({"a": {}, "talk": {}}, [{"from": "a", "to": "tlk"}])
    assert (key, problem) == ("graph.edges.0.to", "is 'tlk', which is no node; did you mean 'talk'?")
    assert refusal({"a": {}}, [{"from": "zzz", "to": "a"}])[0] == "graph.edges.0.from"


def test_unreachable_node_is_refused():
    key, problem = refusal({"a": {}, "b": {}, "lost": {}}, [A_TO_B, B_TO_A, {"from": "lost", "to": "a"}])
    assert (key, problem) == ("graph.nodes.lost", "cannot be reached from the start, 'a'")


@pytest.mark.parametrize(
    "only_way",
    [
        {"weight": 0},  # never drawn
        {"after": 2},  # the plain edge from a to b has always been taken after one line
    ],
)
def test_node_behind_an_edge_that_is_never_taken_is_unreachable(only_way):
    edges = [A_TO_B, B_TO_A, {"from": "a", "to": "c"} | only_way, {"from": "c", "to": "a"}]
    assert refusal({"a": {}, "b": {}, "c": {}}, edges)[0] == "graph.nodes.c"


def test_dead_end_is_refused_when_a_walk_can_reach_it_before_the_last_turn():
    # a is said at turns 0, 1 and 2 at least, so b is first said at turn 3. With 4 turns that is the last one.
    edges = [A_TO_B | {"after": 3}]
    build({"a": {}, "b": {}}, edges, turns=4)
    key, problem = refusal({"a": {}, "b": {}}, edges, turns=5)
    assert key == "graph.nodes.b"
    assert problem.startswith("is a dead end: turn 3 can be said here and 5 turns are required")


def test_dead_end_counts_the_shortest_way():
    # by b: 1 + 1 = 2 lines before c; directly: 4 lines. The earliest c is turn 2 of 0..3.
    edges = [A_TO_B | {"contains": "go"}, {"from": "b", "to": "c"}, {"from": "a", "to": "c", "after": 4}]
    graph = build({"a": {}, "b": {}, "c": {}}, edges, turns=3)
    assert graphs.earliest_arrivals(graph) == {"a": 0, "b": 1, "c": 2}
    assert refusal({"a": {}, "b": {}, "c": {}}, edges, turns=4)[0] == "graph.nodes.c"


def test_parallel_edges_cost_what_the_cheaper_one_costs():
    graph = build({"a": {}, "b": {}}, [A_TO_B | {"after": 5}, A_TO_B | {"contains": "go"}, B_TO_A])
    assert graphs.earliest_arrivals(graph)["b"] == 1


def test_end_marks_a_dead_end_as_meant_and_nothing_leads_on_from_it():
    build({"a": {}, "b": {"end": True}}, [A_TO_B])
    assert refusal({"a": {}, "b": {"end": True}}, [A_TO_B, B_TO_A])[0] == "graph.nodes.b.end"


def test_single_node_graph_needs_one_turn_or_an_end():
    build({"a": {}}, [], turns=1)
    build({"a": {"end": True}}, [], turns=9)
    assert refusal({"a": {}}, [], turns=2)[0] == "graph.nodes.a"


def test_weights_that_sum_to_nothing_are_refused():
    edges = [A_TO_B | {"weight": 0}, A_TO_B | {"weight": 0}, B_TO_A]
    key, problem = refusal({"a": {}, "b": {}}, edges)
    assert key == "graph.nodes.a"
    assert "weights sum to 0" in problem
    build({"a": {}, "b": {}}, [A_TO_B | {"weight": 0}, A_TO_B | {"weight": 2}, B_TO_A])


def test_conditional_edge_of_weight_zero_is_refused():
    assert refusal({"a": {}, "b": {}}, [A_TO_B | {"after": 2, "weight": 0}, B_TO_A])[0] == "graph.edges.0.weight"


def test_unknown_placeholder_is_refused_in_directions_and_ready_lines():
    key, problem = refusal({"a": {"instruct": {"user": "Ask {fact.slto}."}}}, [], turns=1)
    assert (key, problem) == (
        "graph.nodes.a.instruct.user",
        "holds {fact.slto}, which is no placeholder; did you mean 'fact.slot'?",
    )
    assert refusal({"a": {"says": ["Hi", "{self.__class__}"]}}, [], turns=1)[0] == "graph.nodes.a.says.1"


def test_pressure_needs_somebody_who_presses():
    assert refusal({"a": {"pressure": 3}}, [], turns=1)[0] == "graph.nodes.a.pressure"


def test_after_moves_on_once_so_many_lines_were_said():
    graph = build({"a": {}, "b": {}}, [A_TO_B | {"after": 3}, B_TO_A])
    assert [step(graph, "a", lines) for lines in (1, 2, 3, 4)] == ["a", "a", "b", "b"]


def test_first_conditional_edge_that_holds_wins_over_later_ones_and_over_weights():
    edges = [
        {"from": "a", "to": "c", "when": "contradiction"},
        {"from": "a", "to": "d", "contains": "home"},
        {"from": "a", "to": "b", "weight": 5},
    ]
    graph = build({n: {} for n in "abcd"}, edges + [{"from": n, "to": "a"} for n in "bcd"])
    assert step(graph, "a", text="my home", contradiction=True) == "c"
    assert step(graph, "a", text="my home") == "d"
    assert step(graph, "a") == "b"


def test_all_conditions_of_an_edge_must_hold():
    graph = build({"a": {}, "b": {}}, [A_TO_B | {"after": 2, "contains": ["bye"], "when": "contradiction"}, B_TO_A])
    assert step(graph, "a", 2, "bye", True) == "b"
    assert step(graph, "a", 1, "bye", True) == "a"
    assert step(graph, "a", 2, "hello", True) == "a"
    assert step(graph, "a", 2, "bye", False) == "a"


def test_unconditional_edges_are_drawn_by_weight():
    # weights 3 and (left out) 1: b is drawn with probability 3/4; of 4000 draws about 3000, deviation sqrt(750) = 27
    graph = build(
        {n: {} for n in "abc"}, [A_TO_B | {"weight": 3}, {"from": "a", "to": "c"}, B_TO_A, {"from": "c", "to": "a"}]
    )
    rng = random.Random(5)
    drawn = Counter(graphs.next_node(graph, "a", 1, "", False, rng) for _ in range(4000))
    assert abs(drawn["b"] - 3000) < 5 * 27
    assert drawn["b"] + drawn["c"] == 4000


def test_weighted_conditional_edges_that_hold_are_drawn_against_each_other():
    edges = [
        A_TO_B | {"after": 2, "weight": 1},
        {"from": "a", "to": "c", "after": 2, "weight": 1},
        {"from": "a", "to": "d", "after": 9, "weight": 50},
    ]
    graph = build({n: {} for n in "abcd"}, edges + [{"from": n, "to": "a"} for n in "bcd"], turns=20)
    assert step(graph, "a", 1) == "a"
    assert {step(graph, "a", 2, seed=seed) for seed in range(50)} == {"b", "c"}


def test_same_rng_gives_the_same_walk():
    graph = build({n: {} for n in "abc"}, [A_TO_B, {"from": "a", "to": "c"}, B_TO_A, {"from": "c", "to": "a"}])
    first, second = random.Random(3), random.Random(3)
    assert [graphs.next_node(graph, "a", 1, "", False, first) for _ in range(20)] == [
        graphs.next_node(graph, "a", 1, "", False, second) for _ in range(20)
    ]


def test_end_node_keeps_the_talk():
    graph = build({"a": {}, "b": {"end": True}}, [A_TO_B])
    assert step(graph, "b", 7, "anything", True) == "b"


@pytest.mark.parametrize(
    ("text", "phrase", "contained"),
    [
        ("I Remember it.", "remember", True),
        ("I remembered it.", "remember", False),
        ("when  I\nwas young", "When I was", True),
        ("I don\u2019t know", "don't know", True),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("what?!", "what?", True),
        ("", "x", False),
    ],
)
def test_phrase_is_found_as_whole_words(text, phrase, contained):
    assert graphs.contains(text, phrase) is contained


def test_speaker_is_the_nodes_else_who_did_not_speak_last():
    nodes = scenario({"a": {}, "b": {"speaker": "user"}}, [A_TO_B, B_TO_A]).graph.nodes
    assert [graphs.speaker(nodes["a"], last) for last in (None, "user", "assistant")] == [
        "assistant",
        "assistant",
        "user",
    ]
    assert graphs.speaker(nodes["b"], "user") == "user"


def test_direction_fills_in_the_partners_fact_and_adds_the_pressure():
    node = scenario(
        {"a": {"instruct": {"assistant": "{self.name}, ask {partner.name}: {fact.question}"}, "pressure": 5}}, []
    ).graph.nodes["a"]
    said = graphs.instruction(node, "assistant", TOMAS, GRACE, GRACE.fact("home"))
    assert said == "Tomas, ask Grace: What is your home? Tell them that the truth is: Lyon (their home)."
    assert graphs.instruction(node, "user", GRACE, TOMAS, None) == ""


def test_pressure_has_seven_levels_from_nothing_up():
    assert len(graphs.PRESSURE) == 7
    assert graphs.PRESSURE[0] == ""
    assert len(set(graphs.PRESSURE)) == 7
    for sentence in graphs.PRESSURE:
        graphs.fill_placeholders(sentence, TOMAS, GRACE, GRACE.facts[0])


def test_rendering_reads_no_attributes_and_looks_once():
    with pytest.raises(ValueError, match="no placeholder"):
        graphs.fill_placeholders("{fact.slot.__class__}", TOMAS, GRACE, GRACE.facts[0])
    odd = Persona("odd", "{self.name}", "", GRACE.facts)
    assert graphs.fill_placeholders("Hi {partner.name}, {", TOMAS, odd, None) == "Hi {self.name}, {"


def test_rendering_a_fact_without_one_is_refused():
    with pytest.raises(ValueError, match=r"\{fact.slot\} in 'Ask \{fact.slot\}' needs a fact of 'grace'"):
        graphs.fill_placeholders("Ask {fact.slot}", TOMAS, GRACE, None)


def test_slot_id_is_rendered_with_blanks():
    assert graphs.fill_placeholders("{fact.slot}", TOMAS, GRACE, GRACE.fact("pet_kind")) == "pet kind"


def test_ready_line_is_one_of_the_nodes():
    nodes = scenario({"a": {"says": ["Hi {partner.name}", "Hello"]}, "b": {}}, [A_TO_B, B_TO_A]).graph.nodes
    drawn = {graphs.ready_line(nodes["a"], TOMAS, GRACE, None, random.Random(seed)) for seed in range(20)}
    assert drawn == {"Hi Grace", "Hello"}
    assert graphs.ready_line(nodes["b"], TOMAS, GRACE, None, random.Random(0)) is None


def test_facts_are_asked_about_in_turn_before_any_is_asked_again():
    ids = [graphs.pick_fact(GRACE, asked, 7, 0).id for asked in range(6)]
    assert set(ids[:3]) == {"home", "job", "pet_kind"}
    assert ids[3:] == ids[:3]


def test_order_of_facts_depends_on_the_seed_parts():
    orders = {
        tuple(graphs.pick_fact(GRACE, asked, 7, conversation).id for asked in range(3)) for conversation in range(30)
    }
    assert len(orders) == 6  # all 3! orders turn up


def test_pressing_node_stays_with_the_last_fact_and_others_take_the_next():
    nodes = scenario(
        {
            "a": {"instruct": {"assistant": "Ask {fact.slot}."}},
            "b": {"instruct": {"assistant": "Doubt it."}, "pressure": 6},
            "c": {"instruct": {"assistant": "Chat."}},
        },
        [A_TO_B, {"from": "b", "to": "c"}, {"from": "c", "to": "a"}],
    ).graph.nodes
    first = graphs.fact_for(nodes["a"], "assistant", GRACE, 0, None, 7, 0)
    second = graphs.fact_for(nodes["a"], "assistant", GRACE, 1, first, 7, 0)
    assert first != second
    assert graphs.fact_for(nodes["b"], "assistant", GRACE, 2, second, 7, 0) == second
    assert graphs.fact_for(nodes["b"], "assistant", GRACE, 0, None, 7, 0) == first
    assert graphs.fact_for(nodes["c"], "assistant", GRACE, 2, second, 7, 0) is None
    assert graphs.fact_for(nodes["a"], "user", GRACE, 2, second, 7, 0) is None


def test_what_speaks_of_a_fact_is_left_out_where_the_partner_has_none():
    bare = replace(GRACE, facts=())
    texts = {"instruct": {"assistant": "Ask about their {fact.slot}.", "user": "Be brief."}, "pressure": 5}
    node = scenario({"a": texts}, []).graph.nodes["a"]
    assert graphs.fact_for(node, "assistant", bare, 0, None, 7, 0) is None
    assert graphs.instruction(node, "assistant", TOMAS, bare, None) == ""
    assert graphs.instruction(node, "user", TOMAS, bare, None) == "Be brief."
    said = scenario({"a": {"says": ["Your {fact.slot}?", "Hello, {partner.name}."]}}, []).graph.nodes["a"]
    drawn = {graphs.ready_line(said, TOMAS, bare, None, random.Random(seed)) for seed in range(9)}
    assert drawn == {"Hello, Grace."}
    only = scenario({"a": {"says": ["Your {fact.slot}?"]}}, []).graph.nodes["a"]
    assert graphs.ready_line(only, TOMAS, bare, None, random.Random(0)) is None
