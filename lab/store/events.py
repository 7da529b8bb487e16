"""The format of the event log: every kind of event in events.jsonl, with its fields, its writers and its readers.

An event is one JSON object on one line: `event` names its kind, `time` says when it was stored, and the class of that
kind below describes its other fields. `RunStore.append` stores all events and adds the time; the writer named below
makes the event. `lab.store.event_log.event_of` holds every line of a log against these types. A field that is
`NotRequired` may be missing, as its comment says or in older logs. A kind that is not in KINDS is read and ignored.

Every log is read by `lab.store.frames.Totals` for its manifest (counts, tokens, seconds by phase) and by the fold of
its kind in `lab.progress` for live views; each class names the other readers.
"""

from typing import Any, Literal, NotRequired

from lab.store.event_parts import (
    CastMember,
    JudgementRow,
    LineOrigin,
    MeasureRow,
    Pair,
    SampledDialogue,
    SeatName,
    TokenPrice,
    ValidityRow,
)
from lab.store.fields import CONFIG, Amount, Many, Moment, Number, Record, Seconds, Seed, TokenId


class Event(Record):
    """The fields of every event."""

    event: str  # the kind, a key of KINDS
    time: NotRequired[Moment]  # UTC, ISO 8601, to the millisecond; events that are only shown have none


# -- of every log
class Phase(Event):
    """A new phase of the work begins. Written by whatever carries out a run, training, study, sweep or scoring; read by
    `lab.live.replay`, which leaves out the time before a `loading`.
    """

    phase: str  # loading, playing, measuring, reporting; data, collecting, training, evaluating; asking; waiting
    detail: NotRequired[str]  # what is loaded, played, measured or waited for, in words; "" for nothing


class Recovered(Event):
    """An engine that had died was started again. Written by `lab.dialogue.cluster.hosting` through its callback."""

    detail: NotRequired[str]  # which engine, and how it died


class Notice(Event):
    """What a server made the lab change, each sentence once per execution. Written from `lab.dialogue.notices`."""

    detail: str


class Ended(Event):
    """The last event of an execution; one that was killed has none. Written by `lab.store.session`, `lab.sweeps.trial`
    and `lab.transcripts.scoring`; read by `lab.store.tail` too.
    """

    status: Literal["finished", "failed", "interrupted"]
    reason: NotRequired[str | None]  # None where it finished


class UsageEvent(Event):
    """The work of all engines since this execution began; counters begin at 0 in each execution. Written by
    `lab.dialogue.loop` after each turn of the current dialogues, and by `lab.studies.ask_model` after each batch.
    """

    tokens_new: NotRequired[Amount]  # that no branch had read before at their place
    tokens_computed: NotRequired[Amount]  # that went through a model
    generated: NotRequired[Amount]  # tokens
    seconds: NotRequired[dict[str, Seconds]]  # by engine activity: read, generate, score; absent in a study


class Spend(Event):
    """The answers of one model of a server since this execution began; the last event of a model counts. Written from
    `lab.dialogue.spending`; read by `lab.store.spend`.
    """

    endpoint: str
    model: str  # its name there
    answers: Amount
    uncounted: Amount  # of them, that do not say how many tokens they took
    input_tokens: Amount  # of the others
    output_tokens: Amount
    price: TokenPrice | None  # None where none was given


# -- of a run: dialogues that are played, or transcripts that are scored
class RunStarted(Event):
    """The models are loaded and the cast is known; once per execution, the last one counts. Written by
    `lab.runs.runner`, `lab.training.evaluation` and `lab.transcripts.judging`; read by `lab.progress.story` too.
    """

    name: str  # of the scenario
    run_id: NotRequired[str]  # the folder's name
    conversations: NotRequired[Number]  # how many there will be
    turns: NotRequired[Number]  # lines of each, both seats counted
    qa_every: NotRequired[Number]  # lines from one Q&A probe to the next; not where transcripts are scored
    cast: NotRequired[Many[CastMember]]  # an entry for each conversation
    nodes: NotRequired[Many[str]]  # of the scenario's graph
    edges: NotRequired[Many[Pair]]  # [from, to]
    models: NotRequired[dict[str, str]]  # by seat; "script" where the scenario gives the lines
    device: NotRequired[str]
    dtype: NotRequired[str]
    resumed: NotRequired[bool]  # whether there were events before; absent in an evaluation's runs


class Validated(Event):
    """What the judges make of lines that were planted for this run's personas; at most once in a log. Written by
    `lab.dialogue.validation`, which does not validate again where there is one; read by nobody but `Totals`.
    """

    rows: Many[ValidityRow]
    omitted: Many[str]  # personas for which nothing was planted, and why


class LineEvent(Event):
    """One line was said (`scenarios.records.Line`). If a turn is written twice, the last event counts. Written by
    `lab.dialogue.loop`, `lab.transcripts.judging` and, for kept lines, `lab.runs.fork`; read by `lab.store.resume`,
    `lab.store.frames` and `lab.progress.story`.
    """

    conversation: Number  # 0-based
    turn: Number  # 0-based, both seats counted
    seat: SeatName
    text: str
    persona: str  # id of the speaker's
    node: str  # of the scenario's graph, "" where there is none
    tokens: Amount  # generated; words, where the scenario gave the text
    token_ids: Many[TokenId]  # as sampled, with the stop token; [] if the server does not return them
    logprob: NotRequired[float | None]  # nats, summed over token_ids at temperature 1; None where nothing was sampled
    seconds: NotRequired[Seconds]  # this line's share of its batch
    activation: NotRequired[float | None]  # projection on the persona's direction; None where it is not watched
    cut: NotRequired[str]  # what stood behind the text and went on as the other speaker; "" for nothing
    origin: NotRequired[LineOrigin]  # only of a line of another run


class Judged(Event):
    """The judgements after a turn, of its line or of the answers to a Q&A probe. If a turn is judged twice, the last
    event counts. Written and read as a LineEvent is.
    """

    conversation: Number
    turn: Number
    by: Literal["judges", "qa"]
    rows: Many[JudgementRow]


class Walk(Event):
    """The node at which the next line will be said. Written by `lab.dialogue.loop`."""

    conversation: Number
    node: str
    turn: NotRequired[Number]  # of the line before


class Conversation(Event):
    """A conversation is over. Written by `lab.dialogue.loop` and `lab.transcripts.judging`; read by many."""

    conversation: Number
    status: Literal["finished", "failed"]
    reason: NotRequired[str | None]  # why it failed


# -- of a training
class TrainingStarted(Event):
    """Models and learners are loaded. Written by `lab.training.runner`."""

    name: str
    method: str  # of scenarios.jobs.training
    steps: Number  # how many there will be, those of earlier executions included
    first: NotRequired[Number]  # the first step of this execution; later steps are repeated


class Rewarded(Event):
    """Figures of the dialogues from which a step learns: means over the lines of the trained seat. NaN, stored as null,
    where none was scored. With offline methods, tripwires and samples exist at checkpoints only.
    """

    __pydantic_config__ = {**CONFIG, "extra": "allow"}  # reward_NAME  # pyright: ignore[reportGeneralTypeIssues]

    samples: NotRequired[dict[str, SampledDialogue]]  # best and worst
    reward: NotRequired[float | None]
    reward_prompt_to_line: NotRequired[float | None]  # its parts; one of an installed package is reward_NAME
    reward_line_to_line: NotRequired[float | None]
    reward_qa: NotRequired[float | None]
    reward_relevance: NotRequired[float | None]
    penalised: NotRequired[float | None]  # share of lines with a tripped wire
    lines: NotRequired[float | None]  # rewarded
    unscored: NotRequired[float | None]  # lines without a reward
    length: NotRequired[float | None]  # tokens a line
    wire_distinct_1: NotRequired[float | None]  # the tripwires of metrics.tripwires
    wire_distinct_2: NotRequired[float | None]
    wire_repetition: NotRequired[float | None]
    wire_parroting: NotRequired[float | None]
    wire_wrong_person: NotRequired[float | None]
    wire_helper_voice: NotRequired[float | None]
    wire_speaks_for_other: NotRequired[float | None]
    wire_evasion: NotRequired[float | None]
    wire_length: NotRequired[float | None]  # words a line
    wire_relevance: NotRequired[float | None]
    wire_perplexity_nats: NotRequired[float | None]  # nats a token


class Collected(Rewarded):
    """A batch of the untrained model's dialogues, before an offline method's first step. By `lab.training.loop`."""

    batch: Number  # 0-based
    batches: Number
    seat: SeatName
    seconds_play: Seconds


class StepEvent(Rewarded):
    """One update. Of a step that is repeated after a checkpoint, the last event counts. Written by `lab.training.loop`;
    read by `lab.training.runner` (training.parquet), `lab.sweeps.trial` and `lab.progress.story`.
    """

    step: Number  # 0-based
    seat: NotRequired[SeatName]  # that learns
    kl: NotRequired[float | None]  # nats a token, to the untouched model; this and the next four of online methods only
    entropy: NotRequired[float | None]  # nats a token
    ratio: NotRequired[float | None]  # of probabilities, learner to sampler: mean, greatest and least over tokens
    ratio_max: NotRequired[float | None]
    ratio_min: NotRequired[float | None]
    skipped: NotRequired[Amount]  # groups of one line, or with equal rewards
    note: NotRequired[str | None]  # why there was no update
    loss: NotRequired[float | None]
    grad_norm: NotRequired[float | None]  # before clipping
    learning_rate: NotRequired[float | None]
    tokens: NotRequired[Amount]  # of the lines that were there to learn from
    tokens_learnt: NotRequired[Amount]
    seconds_play: NotRequired[Seconds]
    seconds_learn: NotRequired[Seconds]


class Checkpoint(Event):
    """A checkpoint was saved. Written by `lab.training.loop`."""

    step: Number  # how many steps had been done


class Stopped(Event):
    """A tripwire ended the training. Written by `lab.training.loop`; read by `lab.training.runner`."""

    step: Number  # how many steps had been done
    reason: str


# -- of a study
class StudyStarted(Event):
    """The model is loaded. Written by `lab.studies.runner`."""

    name: str
    study: str  # its module in metrics.studies
    claim: str
    size: str
    arms: dict[str, Amount]  # by arm, questions, lines of a run, or steps and conditions of a training, about
    models: dict[str, str]  # by seat
    run_id: NotRequired[str]
    device: NotRequired[str]
    dtype: NotRequired[str]
    resumed: NotRequired[bool]


class Answer(Event):
    """An answer to an item of an arm: log-probabilities of options (`nats`, `tokens`, `options`), or a sampled text
    (`text`, `seed`). Written by `lab.studies.ask_model`, which reads it on a resume; read by `lab.store.frames` too.
    """

    key: str  # digest of all that the answer depends on
    method: Literal["choose", "say"]
    arm: str
    item: str
    messages: Many[Pair]  # [role, text]
    cluster: NotRequired[str]  # items of one unit of the intervals
    prompt: NotRequired[str]  # digest of the messages
    options: NotRequired[Many[str]]
    nats: NotRequired[Many[float]]  # log-probability of each option
    tokens: NotRequired[Many[Amount]]  # of each option
    seed: NotRequired[Seed]
    text: NotRequired[str]


class Taught(Event):
    """A training step of an adapter that a study trains on lessons. Written by `lab.studies.ask_model`."""

    arm: str
    step: Number  # 1-based
    steps: Number
    loss: float  # nats a token
    worn: NotRequired[str]  # the adapter's name


class Arm(Event):
    """The progress of an arm that is a run or a training with its own log. Written by `lab.studies.arms`."""

    arm: str
    done: Amount  # lines, or steps and conditions
    detail: str  # its last line or step, in words


# -- of a sweep
class SweepStarted(Event):
    """An execution of a sweep begins. Written by `lab.sweeps.runner`."""

    name: str
    trials: dict[str, dict[str, Any]]  # by trial, the axes' values under their keys
    resumed: NotRequired[bool]


class TrialEvent(Event):
    """A trial begins, ends or is to be repeated. Written by `lab.sweeps.runner` and `lab.sweeps.sweep_events`."""

    trial: str
    status: Literal["running", "finished", "stopped", "failed", "again"]  # stopped: by the scheduler
    node: NotRequired[str]  # where it runs; of `running` only
    reason: NotRequired[str]  # of stopped, failed and again
    counts: NotRequired[dict[str, Amount]]  # lines and failed conversations, or steps; from here on of `finished` only
    metrics: NotRequired[Many[MeasureRow]]  # its rows of metrics.parquet at the level of the run
    seconds: NotRequired[Seconds | None]  # None if no process was there to measure it
    stopped: NotRequired[str | None]  # which tripwire ended the training
    verdict: NotRequired[str]  # of a study


class Progress(Event):
    """The progress of a trial; shown and not stored. Written by `lab.sweeps.sweep_events`."""

    trial: str
    lines: Amount  # said, or steps, or answers
    of: Amount  # how many there will be


class Reported(Progress):
    """A step of a training as a trial, from which a scheduler may stop it. Written by `lab.sweeps.sweep_events`."""

    step: NotRequired[Number]  # how many steps had been done
    numbers: NotRequired[dict[str, float]]  # the step's


class Nodes(Event):
    """The state of the cluster; stored where `nodes` changed, else only shown. Written by `lab.sweeps.sweep_events`."""

    nodes: Amount  # alive
    cores: float
    free: float  # cores


# -- the kinds by name
KINDS = {
    "phase": Phase,
    "recovered": Recovered,
    "notice": Notice,
    "ended": Ended,
    "usage": UsageEvent,
    "spend": Spend,
    "validated": Validated,
    "started": RunStarted | TrainingStarted | StudyStarted,
    "line": LineEvent,
    "judged": Judged,
    "walk": Walk,
    "conversation": Conversation,
    "collected": Collected,
    "step": StepEvent,
    "checkpoint": Checkpoint,
    "stopped": Stopped,
    "answer": Answer,
    "taught": Taught,
    "arm": Arm,
    "sweep": SweepStarted,
    "trial": TrialEvent,
    "progress": Progress,
    "reported": Reported,
    "nodes": Nodes,
}
