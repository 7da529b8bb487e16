"""The engine against transformers' `generate` on the same work, each in a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.store.output import say


def measure_engine(
    model: str,
    dtype: str = "auto",
    device: str = "auto",
    *,
    quick: bool = False,
    endpoint: str | None = None,
    endpoint_model: str | None = None,
) -> dict:
    """The figures of `combine`, measured for the engine, `generate` and the machine's ceilings.

    `quick` takes smaller sizes. `endpoint` is the URL of an OpenAI-compatible server that also plays the dialogues,
    with the model `endpoint_model` (default: `model`). Raises ValueError where a model is missing or a measurement
    fails.
    """
    from agents.models import loading

    loading.check(model)
    options = ["--model", model, "--dtype", dtype, "--device", device, *["--quick"] * quick]
    by_way = {way: _in_process_of_its_own(way, options) for way in ("ceilings", "generate", "engine")}
    if endpoint:
        options += ["--endpoint", endpoint, "--endpoint-model", endpoint_model or model]
        by_way["endpoint"] = _in_process_of_its_own("endpoint", options)
    return combine(by_way, quick=quick)


def combine(by_way: dict[str, dict], quick: bool) -> dict:
    """`{machine, quick, ceilings, dialogue, decode, long, questions, scoring}`; ratios are engine / generate in
    rate.
    """
    engine, plain, ceilings = by_way["engine"], by_way["generate"], by_way["ceilings"]
    dialogue = {f"{way}_tokens_per_s": by_way[way]["dialogue"]["tokens_per_s"] for way in by_way if way != "ceilings"}
    decode = []
    for ours, theirs in zip(engine["decode"], plain["decode"], strict=True):
        floor = ceilings["fixed_s"][str(ours["batch"])] + ours["cache_bytes"] / ceilings["read_bytes_per_s"]
        decode.append(
            {
                "batch": ours["batch"],
                "context": ours["context"],
                "engine_tokens_per_s": ours["tokens_per_s"],
                "generate_tokens_per_s": theirs["tokens_per_s"],
                "ratio": ours["tokens_per_s"] / theirs["tokens_per_s"],
                "ceiling_tokens_per_s": ours["batch"] / floor,
                "ceiling_share": ours["tokens_per_s"] * floor / ours["batch"],
            }
        )
    out = {
        "machine": engine["machine"] | {"host": platform.processor() or platform.machine()},
        "quick": quick,
        "ceilings": ceilings,
        "dialogue": dialogue
        | {
            "ratio": dialogue["engine_tokens_per_s"] / dialogue["generate_tokens_per_s"],
            "engine_peak_bytes": engine["peak_bytes"],
            "generate_peak_bytes": plain["peak_bytes"],
            "engine_computed_over_new": engine["dialogue"]["computed_over_new"],
            "generate_computed_over_new": plain["dialogue"]["computed_over_new"],
        },
        "decode": decode,
        "long": engine["long"] | {"reread": plain["long"]},
    }
    for kind in ("questions", "scoring"):
        out[kind] = {
            "ratio": plain[kind]["seconds"] / engine[kind]["seconds"],
            "engine_s": engine[kind]["seconds"],
            "generate_s": plain[kind]["seconds"],
            "computed_over_new": engine[kind]["computed_over_new"],
            "largest_difference_nats": max(
                (abs(a - b) for a, b in zip(engine[kind]["check"], plain[kind]["check"], strict=True)), default=0.0
            ),
        }
    return out


def _in_process_of_its_own(way: str, options: Sequence[str]) -> dict:
    """The figures of one way, measured by `python -m lab.bench --worker` with those options."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "lab.bench", "--worker", way, "--json", str(file), *options]
        say(f"measuring: {way} ...", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"measuring {way} failed: {reason.removeprefix('lab.bench: ')}")
        return json.loads(file.read_text())


def print_figures(figures: dict) -> None:
    """Prints the figures of `combine` as a table."""
    from rich import box
    from rich.table import Table

    from lab.store.console import Console

    console = Console()
    machine = figures["machine"]
    table = Table(
        title=f"{machine['model']} · {machine['device']} {machine['dtype']} · {machine['threads']} threads",
        box=box.SIMPLE_HEAD,
    )
    for column in ("work", "generate", "engine", "ratio", "of the ceiling"):
        table.add_column(column, justify="left" if column == "work" else "right")
    dialogue = figures["dialogue"]
    table.add_row(
        "dialogues, generated tokens/s",
        f"{dialogue['generate_tokens_per_s']:.0f}",
        f"{dialogue['engine_tokens_per_s']:.0f}",
        f"{dialogue['ratio']:.1f}×",
        "",
    )
    if "endpoint_tokens_per_s" in dialogue:
        table.add_row(
            "  the same on the endpoint",
            f"{dialogue['endpoint_tokens_per_s']:.0f}",
            f"{dialogue['engine_tokens_per_s']:.0f}",
            f"{dialogue['engine_tokens_per_s'] / dialogue['endpoint_tokens_per_s']:.1f}×",
            "",
        )
    table.add_row(
        "  tokens through the model / read",
        f"{dialogue['generate_computed_over_new']:.2f}",
        f"{dialogue['engine_computed_over_new']:.2f}",
        "",
        "",
    )
    table.add_row(
        "  peak memory, GiB",
        *(f"{dialogue[f'{way}_peak_bytes'] / 2**30:.2f}" for way in ("generate", "engine")),
        "",
        "",
    )
    for row in figures["decode"]:
        table.add_row(
            f"decoding, batch {row['batch']} context {row['context']}",
            f"{row['generate_tokens_per_s']:.0f}",
            f"{row['engine_tokens_per_s']:.0f}",
            f"{row['ratio']:.1f}×",
            f"{row['ceiling_share']:.0%}",
        )
    for kind, name in (("questions", "questions, seconds"), ("scoring", "scoring lines, seconds")):
        timings = figures[kind]
        table.add_row(
            name, f"{timings['generate_s']:.1f}", f"{timings['engine_s']:.1f}", f"{timings['ratio']:.1f}×", ""
        )
        table.add_row("  tokens through the model / read", "", f"{timings['computed_over_new']:.2f}", "", "")
    console.print(table)
    ceilings = figures["ceilings"]
    console.print(
        f"ceilings: {ceilings['flop_per_s'] / 1e9:.0f} GFLOP/s in matrix products, "
        f"{ceilings['read_bytes_per_s'] / 1e9:.1f} GB/s read"
    )
    lines = figures["long"]["seconds"]
    again = dict(zip(figures["long"]["reread"]["lines"], figures["long"]["reread"]["seconds"], strict=True))
    console.print(
        f"one dialogue of {len(lines)} lines: the last costs {figures['long']['last_over_tenth']:.2f} times the tenth "
        f"({again[max(again)] / again[10]:.0f} times with the history read again)"
    )


def plot(figures: dict, file: Path) -> None:
    """Draws the seconds per line of one long dialogue into the PNG `file`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds = figures["long"]["seconds"]
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.plot(range(1, len(seconds) + 1), seconds, ".", label="engine")
    axes.plot(
        figures["long"]["reread"]["lines"], figures["long"]["reread"]["seconds"], "x--", label="history read again"
    )
    axes.set(xlabel="line", ylabel="seconds per line", ylim=(0, None), title="Cost per line against the line's index")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
