"""The scenario file: its keys with their ranges and units."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from scenarios import plugins
from scenarios.fields import (
    HUMAN,
    ApiKeyEnv,
    Connections,
    Endpoint,
    Finite,
    Price,
    Strict,
    Text,
    TokenPrice,
    Words,
    as_list,
    no_repeats,
)
from scenarios.persona_schema import PersonaSpec, mapping_or_text
from scenarios.plugins import name_in
from scenarios.records import ASSISTANT, SEATS
from scenarios.yaml_files import KINDS, dump

# where a file names none
DEFAULT_JUDGES = ("combined",)
DEFAULT_METRICS = (
    "prompt_to_line",
    "line_to_line",
    "qa",
    "drift",
    "contradictions",
    "tripwires",
)
LEFT_OUT = ("steer", "api_key_env", "max_connections", "price")  # of a resolved scenario, where they are not set
SeatName = Literal["assistant", "user"]
Metric = Annotated[str, name_in(plugins.METRICS)]
JudgeName = Annotated[str, name_in(plugins.JUDGES)]
# Of a cascade, of a reward.
SingleJudge = Annotated[str, name_in(plugins.JUDGES, ("ledger", "likelihood", "nli", "combined", "llm"))]


Priced = TypeVar("Priced", bound="SeatConfig | LlmConfig")
_MAPPING, _TEXT = KINDS
PersonaOrId = Annotated[
    Annotated[PersonaSpec, Tag(_MAPPING)] | Annotated[Text, Tag(_TEXT)],
    Discriminator(mapping_or_text),
]


def _priced(spec: Priced) -> Priced:
    """The configuration. Raises ValueError where it has a price and no endpoint."""
    if spec.price and not spec.endpoint:
        raise ValueError("expected no price without an endpoint: a model here costs nothing a token")
    return spec


class SteerConfig(Strict):
    """How the hidden states of a seat's model are moved along a direction while it reads and speaks."""

    direction: Literal["own_card"] = Field(
        default="own_card",
        description="own_card: from the card of an unknown person to the persona's card, with the instruction",
    )
    how: Literal["add", "ablate", "cap", "floor"] = Field(
        default="add", description="added, projected out, kept from going beyond, or short of it"
    )
    coefficient: Finite = Field(
        default=0.1,
        description="of add in lengths of a state; of cap and floor 0 for an unknown person's card, 1 for the "
        "persona's",
    )
    depths: list[Annotated[Finite, Field(ge=0, le=1)]] = Field(
        default=[0.5], min_length=1, description="which layers, as shares of them"
    )
    random: int | None = Field(
        default=None, ge=0, description="seed of a random direction of equal length in its place, as a control"
    )


class SeatConfig(Strict):
    """Who speaks in a seat, and how the lines are sampled."""

    model: Text = Field(
        default="embedded",
        description="embedded, a hub id, a path, with an endpoint its name there; human: who types (lab.chat)",
    )
    persona: PersonaOrId = Field(
        description="a persona's id, 'sample' to draw one per conversation, 'unknown' for a person of whom nothing is "
        "known, or a persona: {name: ..., card: ...}"
    )
    adapter: Text | None = Field(
        default=None, description="path of a trained adapter, or with an endpoint its name there"
    )
    steer: SteerConfig | None = Field(default=None, description="how its model's states are moved; null for not at all")
    endpoint: Endpoint = None
    api_key_env: ApiKeyEnv = None
    max_connections: Connections = None
    price: TokenPrice = None
    timeout_s: Finite = Field(
        default=120.0, gt=0, description="time limit of a line on an endpoint, in seconds, including retries"
    )
    temperature: Finite = Field(default=0.8, ge=0, description="0 takes the likeliest token")
    top_k: int = Field(default=50, ge=0, description="tokens to sample among; 0 for all")
    top_p: Finite = Field(default=1.0, gt=0, le=1, description="probability mass to sample among")
    max_tokens: int = Field(default=48, ge=1, description="most tokens per line")
    sentences: int | None = Field(default=2, ge=1, description="most sentences per line; null for no limit")
    instruction: str = Field(default="", description="added to the persona's card")
    reminder: str = Field(
        default="",
        description="text shown to the seat before each of its lines; {card} is replaced by its persona's card",
    )
    script: list[Words] | None = Field(
        default=None, min_length=1, description="scripted lines, said in this order and then from the beginning again"
    )

    @model_validator(mode="after")
    def _steerable(self) -> SeatConfig:
        if self.steer and (self.endpoint or self.script or self.model == HUMAN):
            raise ValueError(
                "expected no steer where a server, a script or a person speaks: their states are not ours to move"
            )
        return _priced(self)


class Seats(Strict):
    """The two seats of a dialogue."""

    assistant: SeatConfig
    user: SeatConfig

    def humans(self) -> list[str]:
        """The seats in which a person types."""
        return [
            seat
            for seat in SEATS
            if self[seat].model == HUMAN and self[seat].script is None and not self[seat].endpoint
        ]

    def __getitem__(self, seat: str) -> SeatConfig:
        return self.assistant if seat == ASSISTANT else self.user


class Node(Strict):
    """A node of the scenario graph: who speaks there, with which instruction or which given lines."""

    speaker: SeatName | None = Field(default=None, description="null: whoever did not speak last")
    says: list[Words] | None = Field(
        default=None, min_length=1, description="scripted lines; one is drawn in place of a model's line"
    )
    instruct: dict[SeatName, Words] = Field(default={}, description="instruction to a seat before its line")
    pressure: int = Field(
        default=0, ge=0, le=6, description="how hard the instructed seat presses, 0 not at all to 6 insisting"
    )
    end: bool = Field(default=False, description="the dialogue stays here until the last turn; no edge may lead on")


class Edge(Strict):
    """A transition between two nodes; all of its conditions must hold."""

    source: Text = Field(alias="from", description="a node's id")
    target: Text = Field(alias="to", description="a node's id")
    after: int | None = Field(default=None, ge=1, description="lines said at the node in this visit")
    weight: Finite | None = Field(default=None, ge=0, description="share of the draw; 1 where left out")
    contains: Annotated[list[Words], BeforeValidator(as_list)] | None = Field(
        default=None, min_length=1, description="words or phrases; the last line contains one of them"
    )
    when: Literal["contradiction"] | None = Field(default=None, description="a judge's verdict on the last line")


class Graph(Strict):
    """The scenario graph."""

    start: Text = Field(description="the first line's node")
    nodes: dict[Text, Node] = Field(min_length=1)
    edges: list[Edge] = []


class NliConfig(Strict):
    """The model of the judge `nli`."""

    model: Text = Field(
        default="embedded",
        description="embedded, or a hub id or folder of a sequence classifier with a label 'contradiction'",
    )


class LikelihoodConfig(Strict):
    """The model of the judge `likelihood`, and of its share in `combined`."""

    model: Text = Field(
        default="embedded",
        description="embedded, a hub id or a path of a language model, under which lines are likely or not",
    )


class LlmConfig(Strict):
    """The model and the protocol of the judge `llm`."""

    model: Text = Field(
        default="embedded", description="embedded, a hub id, a path, or with an endpoint its name there"
    )
    endpoint: Endpoint = None
    api_key_env: ApiKeyEnv = None
    max_connections: Connections = None
    price: TokenPrice = None
    timeout_s: Finite = Field(
        default=120.0, gt=0, description="time limit of a judgement on an endpoint, in seconds, including retries"
    )
    protocol: Literal["published", "strict"] = Field(
        default="published", description="the published question, or ours, which asks for the claim"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> LlmConfig:
        return _priced(self)


class CascadeConfig(Strict):
    """The two judges of a cascade; the second decides where the first one's p_inconsistent lies between low and
    high.
    """

    first: SingleJudge = "nli"
    second: SingleJudge = "llm"
    low: Finite = Field(default=0.1, ge=0, le=1)
    high: Finite = Field(default=0.9, ge=0, le=1)

    @model_validator(mode="after")
    def _makes_sense(self) -> CascadeConfig:
        if self.first == self.second or self.low > self.high:
            raise ValueError("expected two different judges, and low <= high")
        return self


class Measure(Strict):
    """What is measured, and by which judges."""

    model_config = ConfigDict(serialize_by_alias=True)

    metrics: Annotated[list[Metric], AfterValidator(no_repeats)] = Field(default=list(DEFAULT_METRICS))
    judge: Annotated[list[JudgeName], BeforeValidator(as_list), AfterValidator(no_repeats)] = Field(
        default=list(DEFAULT_JUDGES),
        min_length=1,
        description="one name or a list",
    )
    nli: NliConfig = Field(default_factory=NliConfig)
    likelihood: LikelihoodConfig = Field(default_factory=LikelihoodConfig)
    llm: LlmConfig = Field(default_factory=LlmConfig)
    cascade: CascadeConfig = Field(default_factory=CascadeConfig)
    validated: bool = Field(
        default=True,
        alias="validate",  # a field of this name would hide a method of pydantic's
        description="judge lines planted for this run's personas first, to say what the judges can see there",
    )
    pairs: Literal["all", "retrieved"] = Field(
        default="all", description="line to line: all earlier lines, or a fifth of them, the nearest in meaning"
    )
    qa_every: int = Field(default=4, ge=1, description="turns between two rounds of questions")
    qa_first: bool = Field(default=True, description="a round after the first line too, for a start to compare with")
    qa_format: Annotated[
        list[Literal["multiple_choice", "free_text"]], BeforeValidator(as_list), AfterValidator(no_repeats)
    ] = Field(
        default=["multiple_choice"],
        min_length=1,
        description="multiple_choice: the likeliest claim; free_text: an answer in the speaker's words",
    )
    paraphrase: int = Field(
        default=0, ge=0, description="which of a fact's question wordings is asked; the last where it has fewer"
    )
    window: int = Field(
        default=5, ge=1, description="number of the seat's previous lines that local drift compares with"
    )
    confidence: Finite = Field(default=0.95, gt=0, lt=1, description="of intervals")

    def judges(self) -> set[str]:
        """The names of all judges that are needed, including those of a cascade."""
        return set(self.judge) | ({self.cascade.first, self.cascade.second} if "cascade" in self.judge else set())


class Fork(Strict):
    """The line of a stored conversation from which all conversations of a run branch off.

    Every branch draws its nodes, facts and scripted lines as that conversation did; the first branch also samples as it
    did.
    """

    run: Text = Field(description="id of the original run")
    conversation: int = Field(ge=0, description="its conversation")
    turn: int = Field(ge=1, description="the first line that is played anew")
    of: Fork | None = Field(default=None, description="what that run was a fork of itself")

    def draws(self) -> int:
        """The conversation number from which the walk, the facts and the scripted lines are derived."""
        return self.of.draws() if self.of else self.conversation

    def samples(self, branch: int) -> tuple[object, ...]:
        """The parts from which the seeds of a branch's samples are derived."""
        own = self.of.samples(self.conversation) if self.of else (self.conversation,)
        return (*own, "branch", branch) if branch else own


class ScenarioFile(Strict):
    """The keys of a scenario file."""

    name: str = Field(pattern=r"^\w[\w .-]*$", description="letters, digits, blanks, '_', '.' and '-'")
    description: str = ""
    seed: int = Field(description="every random choice derives from it")
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = "auto"
    device: Text = Field(default="auto", description="auto, cpu, cuda, ...")
    conversations: int = Field(ge=1, le=1_000_000, description="dialogues to play")
    concurrency: int = Field(default=32, ge=1, le=10_000, description="most dialogues played in parallel")
    turns: int = Field(ge=1, le=100_000, description="lines per dialogue, both seats counted")
    personas: Annotated[list[Text], BeforeValidator(as_list), AfterValidator(no_repeats)] = Field(
        default=[], description="paths of persona files, relative to the scenario file"
    )
    persona_pool: list[Text] | None = Field(
        default=None, min_length=1, description="ids of the personas that 'sample' draws from; null for all"
    )
    seats: Seats
    graph: Graph
    measure: Measure = Field(default_factory=Measure)
    fork: Fork | None = Field(default=None, description="the stored line from which lab.fork continued")

    @model_validator(mode="after")
    def _one_price(self) -> ScenarioFile:
        prices: dict[tuple[str | None, str], Price] = {}
        for spec in (*(self.seats[seat] for seat in SEATS), self.measure.llm):
            if spec.price and prices.setdefault((spec.endpoint, spec.model), spec.price) != spec.price:
                raise ValueError(f"expected one price for {spec.model} at {spec.endpoint}, and there are two")
        return self

    def resolved(self) -> dict[str, Any]:
        """The content as plain data with defaults written out.

        Defaults of nodes, edges and inline personas are left out, and so are `fork` and LEFT_OUT where not set.
        """
        content = self.model_dump(mode="json", by_alias=True, exclude=None if self.fork else {"fork"})
        if self.fork:
            content["fork"] = self.fork.model_dump(mode="json", exclude_none=True)
        content["seats"] = {
            name: {key: value for key, value in seat.items() if key not in LEFT_OUT or value}
            | ({"persona": given.plain()} if isinstance(given := self.seats[name].persona, PersonaSpec) else {})
            for name, seat in content["seats"].items()
        }
        llm = content["measure"]["llm"]
        content["measure"]["llm"] = {key: value for key, value in llm.items() if key not in LEFT_OUT or value}
        content["graph"] = self.graph.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return content

    def resolved_yaml(self) -> str:
        """A YAML text that `load_scenario` reads as an equal scenario, whatever folder it is saved in."""
        return dump(self.resolved())
