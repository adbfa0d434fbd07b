"""The page says first what was found, then lets the worst be heard; nothing is lost on the way."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.ttscommon.test_report import Page
from ttscommon.audio import save
from ttscommon.evaluation.comparison import Result
from ttscommon.evaluation.evaluate import Evaluation, GuardRail
from ttscommon.evaluation.likeness import Floor, Likeness
from ttscommon.evaluation.pages import findings, marked_words, write_report
from ttscommon.evaluation.scores import Score

RATE = 24_000
BETTER, WORSE, SAME = Score(0.03, 20, 0.02, 0.04), Score(-0.2, 20, -0.3, -0.1), Score(0, 20, -1, 1)


def result(folder: Path, condition: str, number: int, seconds: float) -> Result:
    path = folder / condition / f"{number}.wav"
    noise = np.random.default_rng(number).uniform(-0.1, 0.1, round(seconds * RATE))
    save(path, noise.astype(np.float32), RATE)
    errors = float(number) if condition == "tuned" else 0.0
    faults = ["repeats: 'no' 9 times in a row"] if (condition, number) == ("tuned", 3) else []
    parts = {"fluent_wer": [errors, 5.0], "similarity": [0.8, 1.0]}
    text, heard = f"This is number {number} here.", f"This is number {number} hear."
    return Result(condition, f"t{number}", f"g{number}", text, None, str(path), seconds, heard,
                  [[0.1, 0.2]], faults, parts)  # fmt: skip


def an_evaluation(folder: Path, n_texts: int, seconds: float = 0.3) -> Evaluation:
    score = Score(0.8, n_texts, 0.7, 0.9)
    return Evaluation(
        base="base",
        real=None,
        scores={name: {"similarity": score, "fluent_wer": score} for name in ("base", "tuned")},
        differences={"tuned": {"similarity": BETTER, "dnsmos": WORSE, "fluent_wer": SAME}},
        guard_rails=[GuardRail("tuned", "dnsmos", "failed", 0.05)],
        results=[
            result(folder, name, number, seconds)
            for name in ("base", "tuned")
            for number in range(n_texts)
        ],
        absent={"similarity_wavlm": "no second speaker encoder was given"},
        skipped=[("broken.wav", "audio file has zero bytes")],
    )


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Evaluation:
    return an_evaluation(tmp_path_factory.mktemp("clips"), 6)


@pytest.fixture(scope="module")
def page(evaluation, tmp_path_factory) -> Page:
    path = tmp_path_factory.mktemp("page") / "evaluation.html"
    write_report(evaluation, path)
    return Page(path)


def test_the_verdict_says_by_how_much_and_what_broke(evaluation):
    change, rails = findings(evaluation)
    assert change.text == (
        "tuned is better in similarity by 0.030 (+0.020 to +0.040), but worse in dnsmos by 0.200 "
        "(-0.300 to -0.100) than base."
    )
    assert (change.kind, rails.kind) == ("neither", "worse")
    assert rails.text == "tuned broke 1 guard rail: dnsmos."


def test_among_several_metrics_one_chance_finding_is_none(evaluation):
    barely = replace(BETTER, p=0.03)
    others = {name: replace(SAME, p=0.6) for name in ("fluent_wer", "dnsmos", "faults")}
    several = replace(evaluation, differences={"tuned": {"similarity": barely, **others}})
    assert "no clear difference" in findings(several)[0].text
    alone = replace(evaluation, differences={"tuned": {"similarity": barely}})
    assert "better in similarity" in findings(alone)[0].text


def test_where_nothing_differs_the_verdict_says_so(evaluation):
    same = replace(
        evaluation,
        differences={"tuned": {"fluent_wer": SAME}},
        guard_rails=[GuardRail("tuned", "fluent_wer", "not shown", 0.01)],
    )
    change, rails = findings(same)
    assert change.text == "tuned and base: no clear difference in fluent_wer."
    assert "Not shown that tuned kept up" in rails.text


def test_the_way_to_the_speaker_is_a_sentence_and_a_table(evaluation, tmp_path):
    way = Score(0.45, 20, 0.2, 0.7)
    manner = Likeness(
        {"base": {"pause_rate": Score(0.5, 20, 0.4, 0.6)}, "tuned": {}},
        {"pause_rate": Floor(0.05, 0.1)},
        {"tuned": {"pause_rate": way, "mean": way}},
        {"word_rhythm": "nothing to compare"},
    )
    told = replace(evaluation, real="real", likeness=manner)
    (sentence,) = [f.text for f in findings(told) if "way" in f.text]
    assert "tuned went 45% of the way from base to the real recordings (20% to 70%)" in sentence
    write_report(told, tmp_path / "page.html")
    words = " ".join(Page(tmp_path / "page.html").text.split())
    assert "0.050, up to 0.100" in words
    assert "nothing to compare" in words


def test_the_worst_text_comes_first(page, evaluation):
    (order,) = re.findall(r"This is number (\d) here\..*?t\1", page.text, re.DOTALL)[:1]
    assert order == "3"  # the one with a fault; then by words
    assert "worst first" in page.text
    assert "repeats: 'no' 9 times in a row" in page.text
    assert len(page.all("audio")) == len(evaluation.results)


def test_absent_and_skipped_are_on_the_page(page):
    assert "no second speaker encoder was given" in page.text
    assert "broken.wav" in page.text
    assert "audio file has zero bytes" in page.text


def test_words_heard_wrongly_are_marked(page):
    assert marked_words("Go to the bank of the town", "go too bank of the town now", "en") == [
        ("right", "go"), ("wrong", "too"), ("missing", "the"), ("right", "bank"), ("right", "of"),
        ("right", "the"), ("right", "town"), ("extra", "now"),
    ]  # fmt: skip
    assert [mark["title"] for mark in page.all("mark")] == ["wrong"] * 12


def test_forty_clips_take_under_five_seconds_and_fifteen_megabytes(tmp_path):
    evaluation = an_evaluation(tmp_path, 20, seconds=4.0)
    began = time.process_time()  # of this process: others may keep the machine busy
    write_report(evaluation, tmp_path / "page.html")
    assert time.process_time() - began < 5
    assert (tmp_path / "page.html").stat().st_size < 15_000_000
    assert len(Page(tmp_path / "page.html").all("audio")) == 40


def test_of_many_clips_the_worst_and_some_others_are_kept_and_the_page_says_so(
    evaluation, tmp_path
):
    write_report(evaluation, tmp_path / "page.html", most_clips=8)
    page = Page(tmp_path / "page.html")
    assert len(page.all("audio")) == 8
    assert "4 of 6 texts, the 2 worst and 2 others drawn at random" in page.text
