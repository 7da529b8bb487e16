"""report.html: what stands in it, and what it does in a browser, opened from the disk."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from browsing import awaited, find, opened
from event_streams import judged, line, phase, row, started

from lab import report
from lab.progress.story import ConversationStory, Story, story
from lab.reports import sides, write
from lab.reports.run_page import runs_page
from lab.reports.sides import Side
from lab.reports.transcript_reader import as_script, packed
from lab.store import frames, run_store

NASTY = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> <!-- &amp; ✈️ I work as a nurse."
JOB = (NASTY.index("I work"), len(NASTY))
SCENARIO = "name: small\nseed: 7\npersonas: [{}]\n"


def answered(conversation: int, turn: int, wrong: bool) -> dict:
    answer = row(conversation, turn, wrong, "job", "qa", "answer_reader", seat="user") | {
        "answer": "A <b>baker</b>." if wrong else "A nurse."
    }
    return judged(conversation, turn, answer, by="qa")


def events(contradicts: bool = True) -> list[dict]:
    """Two dialogues of four lines; the user of the first contradicts its job, and then its own earlier line."""
    recorded = [started(), phase("playing", 1)]
    for c in (0, 1):
        recorded += [
            line(c, 0, "Who is this?", node="greet"),
            line(c, 1, NASTY if c == 0 else "I bake bread."),
            line(c, 2, "Really?"),
            line(c, 3, "I never worked a day."),
        ]
        recorded += [
            judged(c, 0, row(c, 0, False), row(c, 0, False, judge="nli")),
            judged(c, 2, row(c, 2, None), row(c, 2, False, judge="nli")),
        ]
        bad = contradicts and c == 0
        recorded += [
            judged(
                c, 1, row(c, 1, bad), row(c, 1, bad, judge="nli"), *([row(0, 1, True, "job", span=JOB)] if bad else [])
            ),
            judged(c, 3, row(c, 3, False), row(c, 3, bad, judge="nli"), row(c, 3, bad, "1", "line_to_line")),
            answered(c, 3, bad),
            {
                "event": "conversation",
                "time": recorded[0]["time"],
                "conversation": c,
                "status": "finished",
                "reason": None,
            },
        ]
    return [*recorded, phase("measuring", 3)]


@pytest.fixture(scope="module")
def townsfolk():
    return str((Path(__file__).parents[3] / "scenarios" / "personas" / "townsfolk.yaml").resolve())


def a_run(folder, townsfolk, recorded) -> Path:
    run = run_store.create(folder, "small", SCENARIO.format(townsfolk), 7, "digest")
    with run:
        for event in recorded:
            run.append(event)
        run.finish("finished", metrics=pl.DataFrame(schema=frames.METRICS))
    return run.path


@pytest.fixture(scope="module")
def run(tmp_path_factory, townsfolk):
    return a_run(tmp_path_factory.mktemp("runs"), townsfolk, events())


@pytest.fixture(scope="module")
def other(tmp_path_factory, townsfolk):
    return a_run(tmp_path_factory.mktemp("others"), townsfolk, events(contradicts=False))


# -- what stands in it


def test_packets_hold_every_conversation_and_the_index_says_where():
    long_story = Story(
        talks={
            number: ConversationStory(lines={0: {"t": 0, "s": "user", "n": "a", "x": f"line {number} " + "x" * 30_000}})
            for number in range(5)
        }
    )
    packing = packed(long_story.talks)
    assert len(packing.packets) > 1
    for entry in packing.index:
        packet = json.loads(gzip.decompress(base64.b64decode(packing.packets[entry["k"]])))
        assert packet[entry["i"]]["lines"][0]["x"].startswith(f"line {entry['c']} ")


def test_story_keeps_the_last_telling_of_a_turn_and_counts_what_nobody_could_score():
    folded = story([*events(), judged(0, 1, row(0, 1, None))])
    assert folded.talks[0].judged[1, "judges"] == {
        "conflict": None,
        "marks": [],
        "answers": [],
        "scored": 0,
        "unscored": {"no claim found": 1},
    }
    again = [judged(0, 1, row(0, 1, True, "job", span=(0, 3))), judged(0, 1, row(0, 1, True, "job", span=(4, 9)))]
    assert story(again).spans() == {(0, 1, "prompt_to_line", "ledger", "job"): (4, 9)}
    assert story(events()).spans() == {(0, 1, "prompt_to_line", "ledger", "job"): JOB}
    index = packed(story(events()).talks).index
    # #0: line 1 (the job by the ledger, the persona by nli), and line 3 by nli; against line 1 it is no return by the
    # ledger, which names a fact in line 1 and none in line 3
    assert [(entry["bad"]["user"], entry["un"], entry["wrong"]["user"]) for entry in index] == [(2, 1, 1), (0, 1, 0)]


def test_nothing_that_anybody_said_can_end_its_script_element():
    text = as_script({"x": "</script> <!-- \u2028 \ud800 & <script>"})
    assert not re.search(r"[<>&\u2028]", text) and json.loads(text)["x"].startswith("</script> <!--")


def test_page_needs_no_network_and_holds_nobodys_markup(run):
    text = write.write_report(run).read_text()
    assert (run / "report.md").is_file()
    assert (
        not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
        and "@import" not in text
        and "url(" not in text.replace("url(#", "")
    )
    assert "taken" not in text.replace("&lt;", "") or "<script>document" not in text
    for heading in (
        "Results",
        "Contradictions",
        "Graph: drift by node",
        "Agreement of the judges",
        "Run information",
        "Transcripts",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert "2 of 3 nodes reached" in text and "ledger and nli" in text


def test_several_runs_stand_side_by_side_each_with_its_letter(run, other):
    text = runs_page([sides.side(path, mark) for path, mark in zip([run, other, run], "ABC", strict=True)])
    assert text.count('id="packet-') == 3 and "Contradictions, B" in text


def test_what_is_no_run_or_damaged_is_one_sentence(run, tmp_path, capsys):
    assert report.main([str(tmp_path / "nowhere")]) == 2 and report.main([str(run), "--out", "x"]) == 2
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "training.parquet").write_bytes(b"PAR1")
    assert report.main([str(broken)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(
        (text.startswith("lab.report: ") and "expected" in text) or "no such folder" in text for text in errors
    )


# -- in a browser


def pressed(browser, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def chosen(browser, name: str, value: str) -> list[str]:
    """The dialogues that are listed once that filter is set."""
    from selenium.webdriver.support.ui import Select

    Select(find(browser, f"#{name}")[0]).select_by_value(value)
    return [button.text.split()[0] for button in find(browser, "#list button")]


def test_transcript_shows_markup_as_text_and_marks_the_words_that_contradict(browser, run):
    opened(browser, write.write_report(run))
    assert browser.title == "small" and not find(browser, "#talk img, #talk script")
    said = find(browser, '[data-key="0-1"] p')[0]
    assert said.text == NASTY and find(browser, '[data-key="0-1"] mark')[0].text == "I work as a nurse."
    assert "0 of 1 right (answer_reader)" in find(browser, '[data-key="0-3"] details summary')[0].text
    find(browser, '[data-key="0-3"] details summary')[0].click()
    assert find(browser, '[data-key="0-3"] details li')[0].text == "✗ job: A <b>baker</b>."
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_click_on_a_contradiction_leads_to_both_lines_and_to_the_fact(browser, run):
    opened(browser, run / "report.html")
    find(browser, '[data-key="0-3"] .mark-link')[1].click()
    assert {box.get_attribute("data-key") for box in find(browser, ".lit")} == {"0-1", "0-3"}
    detail = find(browser, "#detail")[0].text
    assert "own line t1" in detail and NASTY in detail and "I never worked a day." in detail
    find(browser, '[data-key="0-1"] .mark-link')[-1].click()
    assert {box.get_attribute("data-key") for box in find(browser, ".lit")} == {"0-1"}
    assert "the fact: job = " in find(browser, "#detail")[0].text and "the card" in find(browser, "#detail")[0].text


def test_dialogues_are_filtered_by_persona_seat_and_verdict(browser, run):
    opened(browser, run / "report.html")
    assert chosen(browser, "persona", "grace") == ["#0"] and chosen(browser, "persona", "") == ["#0", "#1"]
    assert chosen(browser, "verdict", "bad") == ["#0"] and chosen(browser, "verdict", "clean") == ["#1"]
    assert chosen(browser, "seat", "assistant") == ["#0", "#1"] and chosen(browser, "verdict", "bad") == []
    assert chosen(browser, "seat", "user") == ["#0"] and chosen(browser, "verdict", "wrong") == ["#0"]
    assert find(browser, "#count")[0].text == "1 of 2 dialogues" and find(browser, ".line.other")


def test_keys_lead_through_dialogues_and_contradictions(browser, run):
    opened(browser, run / "report.html")
    pressed(browser, "j")
    awaited(browser, "#talk .turn", "#1")
    assert browser.current_url.endswith("#c1")
    pressed(browser, "k")
    awaited(browser, "#talk .turn", "#0")
    pressed(browser, "n")
    assert len(find(browser, ".lit")) == 1 and find(browser, "#detail")[0].is_displayed()
    pressed(browser, "n", "n", "n")
    assert {box.get_attribute("data-key") for box in find(browser, ".lit")} == {"0-1", "0-3"}
    pressed(browser, "\ue00c")  # Esc
    assert not find(browser, "#detail")[0].is_displayed()
    opened(browser, run / "report.html", "#c1t3")
    assert find(browser, ".lit")[0].get_attribute("data-key") == "0-3" and "#1" in find(browser, "#talk .turn")[0].text


def test_two_arms_are_read_side_by_side_turn_by_turn(browser, run, other, tmp_path):
    (tmp_path / "two.html").write_text(runs_page([sides.side(run, "A"), sides.side(other, "B")]))
    opened(browser, tmp_path / "two.html")
    turns = find(browser, "#talk .turn")
    assert len(turns) == 5 and len(find(browser, '[data-key="0-1"], [data-key="1-1"]')) == 2
    left, right = (find(browser, f'[data-key="{side}-1"]')[0] for side in (0, 1))
    assert left.location["y"] == right.location["y"] and left.location["x"] < right.location["x"]
    assert "A✗2" in find(browser, "#list button")[0].text and "B✓" in find(browser, "#list button")[0].text


def test_page_is_dark_or_light_as_asked_and_prints_without_its_tools(browser, run):
    opened(browser, run / "report.html")
    paper = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(paper)
    find(browser, "#theme")[0].click()
    assert browser.execute_script(paper) != before
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not find(browser, "nav")[0].is_displayed() and not find(browser, "#list")[0].is_displayed()
    assert find(browser, "#talk")[0].is_displayed() and find(browser, "#results h2")[0].is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_two_thousand_dialogues_open_without_freezing(browser, run, tmp_path):
    talk = story(events()).talks[0]
    many = Story(
        opening=events()[0],
        talks={
            number: ConversationStory(
                "finished",
                None,
                talk.cast,
                {
                    turn: talk.lines[turn % 4] | {"t": turn, "x": f"{number} {turn} {hash((number, turn))}"}
                    for turn in range(40)
                },
                talk.judged,
            )
            for number in range(2000)
        },
    )
    side = sides.side(run)
    whole = tmp_path / "many.html"
    whole.write_text(runs_page([Side("", side.manifest, many, side.frames, {}, side.confidence)]))
    assert whole.stat().st_size < 15e6
    began = time.monotonic()
    opened(browser, whole)
    took = time.monotonic() - began
    assert find(browser, "#count")[0].text == "2000 of 2000 dialogues" and took < 20  # about 2 s on a quiet machine
    began = time.monotonic()
    pressed(browser, "j")
    awaited(browser, "#talk .turn", "#1")
    assert time.monotonic() - began < 20
