"""The objects within events (`lab.store.events`): members of a cast, judgements, validities and the like."""

# Annotations are not postponed here: what is required follows from NotRequired itself.

from typing import Annotated, Literal, NotRequired

from pydantic import Field

from lab.store.fields import Amount, Many, Number, Record, Share

SeatName = Literal["user", "assistant"]
Cost = Annotated[float, Field(ge=0)]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Against = Annotated[str, Field(max_length=1000)]
Span = Annotated[list[Amount], Field(min_length=2, max_length=2)]


class CastMember(Record):
    """The personas of a conversation: their ids by seat."""

    conversation: Number  # 0-based
    name: NotRequired[str | None]  # what a transcript calls it; only where transcripts are scored
    user: NotRequired[str]  # missing where a transcript has no such seat
    assistant: NotRequired[str]


class ValidityRow(Record):
    """The fields of `metrics.validation.validity.Validity`; null for NaN."""

    judge: str
    metric: Literal["prompt_to_line", "line_to_line", "qa"]
    valid: bool | None
    reason: str | None
    contradictions: Amount
    clean: Amount
    unscored: Amount
    auroc: NotRequired[Share | None]
    auroc_low: NotRequired[Share | None]
    auroc_high: NotRequired[Share | None]
    recall: NotRequired[Share | None]
    recall_low: NotRequired[Share | None]
    recall_high: NotRequired[Share | None]
    false_alarms: NotRequired[Share | None]
    false_alarms_low: NotRequired[Share | None]
    false_alarms_high: NotRequired[Share | None]
    threshold: NotRequired[Share | None]
    recall_at_threshold: NotRequired[Share | None]


class TokenPrice(Record):
    """The price of a million tokens, in any currency."""

    input: Cost
    output: Cost


class SpendRow(Record):
    """What one model of a server took for a run (`lab.store.spend`); None for what is not known."""

    endpoint: str
    model: str
    answers: Amount
    uncounted: Amount
    input_tokens: Amount | None
    output_tokens: Amount | None
    price: TokenPrice | None
    cost: Cost | None


class LineOrigin(Record):
    """How a line of another run, with which a fork or an attribution begins, was produced."""

    instruction: str  # the instruction that its speaker had, "" for none
    fact: str | None  # id of the partner's fact that it was about
    ready: bool  # the scenario gave its words


class JudgementRow(Record):
    """A judgement (`scenarios.records.Judgement`) of one line: `unscored` or `verdict` is None, not both."""

    conversation: Number
    turn: Number
    seat: SeatName
    metric: str  # prompt_to_line, line_to_line or qa
    judge: str
    against: Against  # "persona", a fact's id, or an earlier turn in digits
    p_inconsistent: Share | None
    verdict: bool | None  # True: contradicts
    unscored: str | None  # why there is no verdict
    span: Span | None  # characters [start, end) of the line that contradict
    claim: NotRequired[str | None]  # what it contradicts, in words
    answer: NotRequired[str | None]  # to a question of a Q&A probe, in the speaker's words
    by: NotRequired[str | None]  # the judge that decided, where several share a name


class SampledDialogue(Record):
    """One dialogue of a training step, as an example."""

    reward: float | None  # mean over its trained seat's lines
    lines: Many[Pair]  # [seat, text] of its last lines


class MeasureRow(Record):
    """A row of metrics.parquet at the level of the run."""

    metric: str
    judge: str | None
    seat: str
    value: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    n: NotRequired[Amount | None]
