"""The numbers of one utterance, from measurements that were made up, against those by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import save
from ttscommon.evaluation.comparison import Context, Known, compare
from ttscommon.evaluation.conditions import Utterance
from ttscommon.evaluation.measuring import Measured

RATE = 16_000
TUNED = Measured(
    sample_rate=RATE,
    seconds=4.0,
    speech=[[0.5, 1.5], [2.5, 3.5]],
    heard="Um, please please hold on.",
    prosody={"f0": 120.0, "f0_spread": None},
    quality={"overall": 3.0, "signal": 3.5, "background": 4.0, "p808": 2.5},
    voices={"similarity": [1.0, 0.0]},
)
REAL = Measured(speech=[[0.0, 2.0]], seconds=2.0, voices={"similarity": [0.0, 1.0]})
OTHER = Measured(speech=[[0.0, 2.0]], seconds=2.0, voices={"similarity": [1.0, 0.0]})


@pytest.fixture
def spoken(tmp_path) -> dict[str, Utterance]:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    texts = {"tuned": "Please hold on.", "real": "Please hold on.", "other": "Four."}
    for name in texts:
        save(tmp_path / f"{name}.wav", noise, RATE)
    return {name: Utterance(tmp_path / f"{name}.wav", text) for name, text in texts.items()}


@pytest.fixture
def context(spoken) -> Context:
    measured = {"tuned": TUNED, "real": REAL, "other": OTHER}
    by_path: dict[Path, Measured] = {spoken[name].path: one for name, one in measured.items()}
    return Context(by_path, [spoken["real"], spoken["other"]], "en")


def with_speech(context: Context, utterance: Utterance, *spans: list[float]) -> Context:
    changed = replace(context.measured[utterance.path], speech=spans)
    return replace(context, measured={**context.measured, utterance.path: changed})


def test_hesitations_that_were_heard_are_counted_and_forgiven(spoken, context):
    found = compare("tuned", spoken["tuned"], context).values
    assert found["wer"] == pytest.approx(2 / 3)
    assert found["fluent_wer"] == 0
    assert found["fillers_per_minute"] == pytest.approx(20)  # one in 3 s
    assert found["repetitions_per_minute"] == pytest.approx(20)
    assert context.manner(spoken["tuned"]).fillers == [("um", "initial")]
    assert found["syllables_per_second"] == pytest.approx(3 / 2)  # of the text, while speaking


def test_hesitations_are_those_of_the_hearing_that_expects_them(spoken, context):
    path = spoken["tuned"].path
    twice = replace(TUNED, heard="Please hold.", verbatim="Um, please please hold, uh, on.")
    context = replace(context, measured={**context.measured, path: twice})
    found = compare("tuned", spoken["tuned"], context).values
    assert found["wer"] == found["fluent_wer"] == pytest.approx(1 / 3)  # "on" wasn't understood
    assert found["fillers_per_minute"] == pytest.approx(40)  # two in 3 s
    assert found["repetitions_per_minute"] == pytest.approx(20)
    assert context.manner(spoken["tuned"]).fillers == [("um", "initial"), ("uh", "medial")]


def test_words_are_drawn_out_by_the_real_speaker_s_measure(spoken, context):
    def saying(*seconds: float) -> Measured:
        ends = np.cumsum(seconds)
        words = [("cat", end - own, end) for own, end in zip(seconds, ends, strict=True)]
        return replace(REAL, words=words, heard="cat " * len(seconds))

    real, tuned = saying(*[0.3] * 24, 0.9), saying(0.3, 0.6, 0.9)
    own = {spoken["real"].path: real, spoken["tuned"].path: tuned}
    context = replace(context, measured={**context.measured, **own})
    assert context.manner(spoken["tuned"]).n_drawn_out == 2
    assert context.manner(spoken["real"]).n_drawn_out == 1
    assert replace(context, real=[]).manner(spoken["tuned"]).n_drawn_out == 0


def test_a_voice_is_compared_with_the_recordings_but_itself(spoken, context):
    tuned = compare("tuned", spoken["tuned"], context).values
    assert tuned["similarity"] == pytest.approx(0.5**0.5)  # halfway between the two
    assert compare("real", spoken["real"], context).values["similarity"] == pytest.approx(0)


def test_opinions_keep_their_names(spoken, context):
    found = compare("tuned", spoken["tuned"], context).values
    opinions = found["dnsmos"], found["dnsmos_signal"], found["dnsmos_p808"]
    assert opinions == (3.0, 3.5, 2.5)
    assert found["f0"] == 120
    assert "f0_spread" not in found


@pytest.mark.parametrize(
    ("end", "ratio", "is_right"), [(1.2, 0.6, 0), (1.5, 0.75, 1), (2.7, 1.35, 1), (3.0, 1.5, 0)]
)
def test_length_is_that_of_the_recording_of_the_same_text(spoken, context, end, ratio, is_right):
    context = with_speech(context, spoken["tuned"], [0.0, end])
    result = compare("tuned", spoken["tuned"], context)
    assert result.values["duration_ratio"] == pytest.approx(ratio)
    assert result.values["right_length"] == is_right
    assert any(fault.startswith("too_") for fault in result.faults) != bool(is_right)
    assert "mel_cepstral_distance" in result.values


@pytest.mark.parametrize("name", ["real", "other"])
def test_a_recording_has_nothing_to_be_compared_with_but_voices(spoken, context, name):
    found = compare("real", spoken[name], context).values
    assert not {"duration_ratio", "mel_cepstral_distance", "pause_placement_f1"} & set(found)


def test_what_nobody_read_has_no_errors(spoken, context):
    silent = replace(spoken["tuned"], text=None)
    found = compare("tuned", silent, context).values
    assert "wer" not in found
    assert found["pauses_per_100_words"] == pytest.approx(20)  # of what was heard: one in five


def test_the_voice_is_that_of_the_same_speaker_and_what_is_known_is_added(spoken, context):
    named = [replace(spoken[n], speaker=n) for n in ("real", "other")]
    path = spoken["tuned"].path
    known = {path: Known({"failures": (1.0, 1.0)}, ["no_end: speech never ended"])}
    told = replace(context, real=named, known=known)
    heard = {n: compare("tuned", replace(spoken["tuned"], speaker=n), told) for n in spoken}
    assert heard["other"].values["similarity"] == pytest.approx(1.0)
    assert heard["real"].values["similarity"] == pytest.approx(0.0)
    assert "similarity" not in heard["tuned"].values
    assert heard["real"].values["failures"] == 1
    assert heard["real"].faults[-1] == "no_end: speech never ended"
