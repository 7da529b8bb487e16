"""What the judges of a run can see in its personas, as text: a sentence per judge and metric, and what is not valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan

from metrics.catalogue import CONSISTENCIES, TITLES
from metrics.entry import MISSING, estimate_text, share_format
from metrics.judges import JUDGED, LINES
from metrics.validation.validity import FALSE_ALARMS, FLOOR, NOTHING_PLANTED, Validity

NOT_VALID = "not valid here"
CERTAIN = 0.995  # a consistency from here on would be read as 1.00, which no judge that is not valid may say
TITLE = "Validity of the judges"
NOTE = (
    "Before the run, each judge read lines planted for its personas. Where AUROC may be "
    f"{FLOOR:.2f} or less, its figures are not valid here. A corrected consistency accounts for what the judge misses "
    "and invents (Rogan and Gladen 1978), as far as the run's lines are as plain as the planted ones."
)
PROMPT_TO_LINE, LINE_TO_LINE, QA = JUDGED
SOURCES = {  # the judgements that a figure is made of, where they are not those of its own name
    "corrected_prompt_to_line": (PROMPT_TO_LINE,),
    "corrected_line_to_line": (LINE_TO_LINE,),
    "corrected_global_drift_slope": (PROMPT_TO_LINE,),
    "judged_pairs": (),  # how many were judged, whatever was said of them
    "local_drift": (LINE_TO_LINE,),
    "local_drift_slope": (LINE_TO_LINE,),
    "global_drift_slope": (PROMPT_TO_LINE,),
    "global_drift_thirds": (PROMPT_TO_LINE,),
    "qa_drift_slope": (QA,),
    "qa_drift_thirds": (QA,),
    "time_to_first_contradiction": (PROMPT_TO_LINE,),
    "half_life": (PROMPT_TO_LINE,),
    "contradicting_lines": LINES,
    "contradicted_facts": (PROMPT_TO_LINE,),
    "suspects": (PROMPT_TO_LINE,),
    "most_contradicted_fact": (PROMPT_TO_LINE,),
    "contradiction_components": LINES,
    "longest_contradiction": (LINE_TO_LINE,),
    "activation_correlation": (PROMPT_TO_LINE,),
}
HEADER = (
    "judge",
    "measure",
    "AUROC",
    "finds",
    "accuses",
    "n",
    f"p at {FALSE_ALARMS:.0%} false alarms",
    "finds at that p",
    "",
)


def validities_of(manifest: Mapping) -> list[Validity]:
    """The results that a manifest holds; [] where the judges were not validated."""
    return [Validity.of_plain(row) for row in manifest.get("validation", {}).get("rows", ())]


def not_valid(validities: Iterable[Validity]) -> set[tuple[str, str]]:
    """(metric, judge) of the judges that are not valid in these personas."""
    return {(each.metric, each.judge) for each in validities if each.valid is False}


def is_valid(metric: str, judge: str, bad: set[tuple[str, str]]) -> bool:
    """Whether a figure is made of no judgements in `bad`, as `not_valid` returns them."""
    return not any((source, judge) in bad for source in SOURCES.get(metric, (metric,)))


def overstates(metric: str, value: float, valid: bool) -> bool:
    """Whether a value is a consistency that would be read as 1.00 though its judge is not valid."""
    return not valid and metric in CONSISTENCIES and value >= CERTAIN


def marked(text: str, valid: bool) -> str:
    """The text of a figure, with NOT_VALID behind it where its judge is not valid."""
    return text if valid else f"{text}, {NOT_VALID}"


def validity_sentences(manifest: Mapping) -> list[str]:
    """A sentence for each judge and metric, then one for what could not be planted; [] where nothing was validated.

    `ledger: finds 61% [52, 70] of planted contradictions in these personas, accuses 3% [1, 8] of clean lines (n=30+30)`
    """
    sentences = [_sentence(each) for each in validities_of(manifest)]
    if omitted := manifest.get("validation", {}).get("omitted"):
        sentences.append(f"nothing planted: {'; '.join(dict.fromkeys(omitted))}")
    return sentences


def validity_rows(manifest: Mapping) -> list[list[str]]:
    """The rows of a table with HEADER."""
    return [
        [
            each.judge,
            TITLES[each.metric],
            _auroc(each),
            _share(each.recall, each.recall_low, each.recall_high),
            _share(each.false_alarms, each.false_alarms_low, each.false_alarms_high),
            f"{each.contradictions}+{each.clean}",
            MISSING if isnan(each.threshold) else f"> {each.threshold:.2f}",
            MISSING if isnan(each.recall_at_threshold) else f"{each.recall_at_threshold:.0%}",
            {True: "", False: NOT_VALID, None: f"not validated: {each.reason}"}[each.valid],
        ]
        for each in validities_of(manifest)
    ]


def _sentence(each: Validity) -> str:
    name = each.judge if each.metric == PROMPT_TO_LINE else f"{each.judge}, {TITLES[each.metric]}"
    if each.valid is None:
        scored = "" if each.reason == NOTHING_PLANTED else "scores no planted contradiction or no clean line here: "
        return f"{name}: {scored}{each.reason}"
    found = _share(each.recall, each.recall_low, each.recall_high)
    accused = _share(each.false_alarms, each.false_alarms_low, each.false_alarms_high)
    notes = [f"n={each.contradictions}+{each.clean}", *([f"{each.unscored} unscored"] if each.unscored else [])]
    area = f"; AUROC {_auroc(each)}: {NOT_VALID}"
    return (
        f"{name}: finds {found} of planted contradictions in these personas, accuses {accused} of clean lines "
        f"({', '.join(notes)}){'' if each.valid else area}"
    )


def _share(value: float, low: float, high: float) -> str:
    """`61% [52, 70]`."""
    if isnan(value):
        return MISSING
    return f"{value:.0%}" + ("" if isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]")


def _auroc(each: Validity) -> str:
    return estimate_text(each.auroc, each.auroc_low, each.auroc_high, share_format)
