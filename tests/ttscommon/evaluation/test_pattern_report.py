"""The page of a made-up experiment."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from tests.ttscommon.evaluation.test_pattern_protocol import BASE, BETWEEN, SPEAKER, speak
from ttscommon.audio import save
from ttscommon.evaluation.conditions import Utterance
from ttscommon.evaluation.detection import Corrected
from ttscommon.evaluation.evaluate import Evaluation, GuardRail
from ttscommon.evaluation.pattern_figures import dose_figure, duration_figure, placement_figure
from ttscommon.evaluation.pattern_protocol import PatternResult, judge_patterns, over_generated
from ttscommon.evaluation.pattern_report import write_blind_test, write_pattern_report
from ttscommon.evaluation.pauses import Timing
from ttscommon.evaluation.scores import Score
from ttscommon.evaluation.style_identity import StyleIdentity
from ttscommon.segment import VAD_RATE, Span

MANNERS = {
    "R": speak(SPEAKER, 0, "r", 40),
    "B0": speak(BASE, 1, n=30),
    "LP": speak((30.0, 0.6, 6.0), 2, n=30),
    "LP0": speak(BASE, 3, n=30),
    "LP@0.5": speak(BETWEEN, 4, n=30),
}


@pytest.fixture(scope="module")
def result() -> PatternResult:
    return judge_patterns(MANNERS, n_draws=50)


def test_the_page_says_what_was_found(result, tmp_path):
    change = {"LP": {"fluent_wer": Score(0.05, 30, 0.02, 0.08)}}
    rails = [GuardRail("LP", "fluent_wer", "failed", 0.01)]
    evaluation = Evaluation("B0", "R", {}, change, rails, [])
    write_pattern_report(result, evaluation, MANNERS, tmp_path / "a.html", title="Does it?")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    for words in ("carries over", "not testable", "fluent wer", "0.67 and 1.5", "100 ms"):
        assert words in page
    assert page.count("<img") >= 3
    assert not re.search(r'(src|href)="https?://', page)


def test_the_page_says_what_a_classifier_and_labelled_recordings_told(result, tmp_path):
    score = Score(0.8, 30, 0.7, 0.9)
    style = StyleIdentity(12, score, {"B0": -1.0, "LP": 0.5}, {"LP": Score(1.5, 30, 1, 2, 0.001)},
                          {"log_pause_seconds": 1.25})  # fmt: skip
    pauses = Corrected(40, 200, score, score, {"LP": 0.2}, {"LP": score, "R": score}, {"LP": score})
    corrected = {"pauses": pauses, "fillers": Corrected(3, 9, refused="3 labelled events")}
    corrected["pauses"] = dataclasses.replace(pauses, observed={"LP": 0.2, "R": 0.3})
    found = dataclasses.replace(result, style=style, corrected=corrected)
    evaluation = Evaluation("B0", "R", {}, {}, [], [])
    write_pattern_report(found, evaluation, MANNERS, tmp_path / "a.html", title="Does it?")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    for words in ("12 others", "1.500 [1.000, 2.000], p 0.001", "log pause seconds", "times R",
                  "sensitivity 0.800 [0.700, 0.900]", "No fillers are corrected"):  # fmt: skip
        assert words in page
    told = json.loads(json.dumps(found.to_dict()))
    assert told["style"]["gains"]["LP"]["p"] == 0.001
    assert told["corrected"]["fillers"]["refused"] == "3 labelled events"


def test_a_page_of_nothing_that_can_be_scored_has_no_empty_tables(tmp_path):
    """So it is with the few held-out recordings of a small data set."""
    few = {"R": MANNERS["R"][:3]} | {n: MANNERS[n][:3] for n in ("B0", "LP", "LP0", "LP@0.5")}
    found = judge_patterns(few, n_draws=20)
    assert found.refused
    assert not any(found.transfer.values())
    write_pattern_report(
        found, Evaluation("B0", "R", {}, {}, [], []), few, tmp_path / "a.html", title="Does it?"
    )
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    for title in ("What the pattern does", "Against the base"):
        assert title not in page
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert tables
    for table in tables:
        assert len(re.findall(r"<th[ >]", table.partition("</tr>")[0])) > 1
        assert "<td" in table
    (refused,) = [table for table in tables if "not scored" in table]
    assert refused.count("recordings are too few to halve") == 1
    assert "3.000" not in page


@pytest.mark.parametrize("seconds", [0.35, 1.2, 4.0, 8.0])
def test_lengths_of_pauses_can_be_read_off_wherever_they_are(seconds):
    pauses = [Span(0.0, seconds * factor) for factor in (1.0, 1.05, 1.1)]
    one = dataclasses.replace(MANNERS["R"][0], timing=Timing(speech=(), pauses=tuple(pauses)))
    (axes,) = duration_figure({"R": [one]}).axes
    low, high = axes.get_xlim()
    assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2
    assert low <= seconds <= high


def test_pictures_show_every_condition_and_the_speaker(result):
    (axes,) = duration_figure(MANNERS).axes
    assert len(axes.get_legend_handles_labels()[1]) == len(MANNERS)
    (axes,) = placement_figure(MANNERS).axes
    assert len(axes.containers) == len(MANNERS)
    left, _ = dose_figure(result).axes
    assert np.array_equal(left.lines[0].get_xdata(), [0.0, 0.5, 1.0])


def test_more_pauses_than_the_speaker_makes_are_too_many(result):
    assert set(over_generated(result)) == {"pauses_per_minute"}


def test_the_blind_test_pairs_on_and_off_and_takes_x_from_the_speaker(result, tmp_path):
    sound = 0.1 * np.random.default_rng(0).standard_normal(VAD_RATE).astype(np.float32)
    utterances = {}
    for name in ("B0", "LP", "LP0", "R"):
        utterances[name] = []
        for number in range(4):
            path = tmp_path / name / f"{number}.wav"
            save(path, sound * (0.5 + 0.1 * number), VAD_RATE)
            text = f"real {number}" if name == "R" and number else f"text {number}"
            utterances[name].append(Utterance(path, text, id=str(number)))
    path = tmp_path / "blind.html"
    assert write_blind_test(result, utterances, path, title="Which?", most_items=3) == 3
    page = path.read_text(encoding="utf-8")
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert data["pairs"] == [["LP0", "LP"]]
    assert data["reference"] == "R"
    assert data["view"] == "like"
    assert all(set(item["clips"]) == {"LP0", "LP", "R"} for item in data["items"])
