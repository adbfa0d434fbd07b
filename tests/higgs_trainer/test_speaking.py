"""Whole texts: in pieces, judged, tried again, and within what a text can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from higgs_trainer.audio_validation import Finding, Verdict
from higgs_trainer.conversation import Audio, request
from higgs_trainer.delay import Cut
from higgs_trainer.dialogue import Line
from higgs_trainer.inference import HiggsVoice, Reference, Speech
from higgs_trainer.speaking import Narrator, Segment, Take, tries
from higgs_trainer.speaking_config import Sampling, SpeakingConfig
from higgs_trainer.statistics import Statistics
from higgs_trainer.text import TextConfig
from ttscommon import audio
from ttscommon.errors import UserError

SILENT = Finding("silence", False, 0.9, "at most 0.6")
NOISY = Finding("flatness", False, 0.9, "at most 0.4")


@pytest.fixture(scope="module")
def voice(miniature) -> HiggsVoice:
    torch.set_num_threads(1)
    return HiggsVoice.open(*miniature, device="cpu")


def take(seed: int, *findings: Finding) -> Take:
    cut = Cut(torch.zeros(8, 3, dtype=torch.long), True)
    return Take(seed, Speech(np.zeros(9, np.float32), 24000, cut), Verdict(findings))


def segment_of(takes: tuple[Take, ...]) -> Segment:
    return Segment(Line("Hi."), Statistics().bounds("Hi."), takes)


def narrator(voice: HiggsVoice, **settings: Any) -> Narrator:
    return Narrator(voice, SpeakingConfig(**settings), Sampling(temperature=1.0, seed=5))


def test_silence_is_tried_again_until_it_speaks():
    found = {5: take(5, SILENT), 6: take(6, SILENT, NOISY), 7: take(7, NOISY), 8: take(8)}
    (takes,) = tries(lambda seed, _: [found[seed]], 1, 5, 3)
    assert [one.seed for one in takes] == [5, 6, 7]  # another seed wouldn't mend noise
    assert segment_of(takes).take.seed == 7


def test_of_takes_that_all_fail_the_one_with_least_wrong_is_kept():
    found = {5: take(5, SILENT, NOISY), 6: take(6, SILENT)}
    segment = segment_of(tries(lambda seed, _: [found[seed]], 1, 5, 1)[0])
    assert segment.take.seed == 6
    assert [one["seed"] for one in segment.to_dict()["takes"]] == [5, 6]


def test_speech_is_no_longer_than_its_text_can_take(voice):
    told = narrator(voice, retries=1).tell("Hi there.")
    (segment,) = told.segments
    most = segment.bounds.steps(25)[1]
    for one in segment.takes:
        assert one.speech.cut.codes.shape[1] <= most + 3  # what is cut short has no end
    assert [one.seed for one in segment.takes] == [5, 6][: len(segment.takes)]
    assert told.n_retries == len(segment.takes) - 1
    assert len(told.audio) == 960 * segment.take.speech.cut.codes.shape[1]


def test_of_a_batch_only_what_failed_is_tried_again():
    found = {(5, 0): take(5, SILENT), (5, 1): take(5), (6, 0): take(6)}
    asked = []

    def attempt(seed: int, due: Sequence[int]) -> list[Take]:
        asked.append((seed, *due))
        return [found[seed, number] for number in due]

    takes = tries(attempt, 2, 5, 3)
    assert asked == [(5, 0, 1), (6, 0)]
    assert [[one.seed for one in each] for each in takes] == [[5, 6], [5]]


def test_a_batch_of_texts_says_what_each_says_alone(voice):
    texts = ["Hi.", "Good day, how are you all? Well, bye.", "No."]
    settings = {"max_text_tokens_per_segment": 26}
    teller = Narrator(voice, SpeakingConfig(**settings), Sampling.greedy())
    together = teller.tell_all(texts)
    assert [len(one.segments) for one in together] == [1, 2, 1]
    for text, ours in zip(texts, together, strict=True):
        alone = teller.tell(text)
        for one, other in zip(ours.segments, alone.segments, strict=True):
            assert torch.equal(one.take.speech.cut.codes, other.take.speech.cut.codes)
        assert ours.verdict.issues == alone.verdict.issues


def test_a_conversation_is_answered_after_its_own_audio(voice, tmp_path):
    hum = np.sin(np.arange(24000) / 20).astype(np.float32)
    audio.save(tmp_path / "me.wav", hum, 24000)
    asked = request("What next", references=[("What I say.", Audio(tmp_path / "me.wav"))])
    teller = Narrator(voice, SpeakingConfig(), Sampling.greedy())
    answer, plain = teller.tell_all([asked, "What next."])
    assert answer.segments[0].line.text == "What next."
    heard = voice.heard(Reference(tmp_path / "me.wav", "What I say."))
    after = Narrator(voice, SpeakingConfig(), Sampling.greedy(), [heard]).tell("What next.")
    codes = [one.segments[0].take.speech.cut.codes for one in (answer, after, plain)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_the_same_seed_says_the_same(voice):
    first, again = (narrator(voice, retries=0).tell("Good day.") for _ in range(2))
    assert np.array_equal(first.audio, again.audio)
    other = Narrator(voice, SpeakingConfig(retries=0), Sampling(temperature=1.0, seed=6))
    assert not np.array_equal(first.audio, other.tell("Good day.").audio)


def test_without_chance_nothing_is_tried_twice(voice):
    greedy = Narrator(voice, SpeakingConfig(retries=3), Sampling.greedy())
    assert greedy.tell("Hi.").n_retries == 0


def test_a_long_text_is_joined_from_its_sentences(voice):
    settings = {"max_text_tokens_per_segment": 12, "interval_silence": 200, "retries": 0}
    passed: list[float] = []
    teller = narrator(voice, **settings)
    told = teller.tell("Good day. Well, bye.", passed.append)
    assert [one.line.text for one in told.segments] == ["Good day.", "Well, bye."]
    pieces = [one.take.speech.audio for one in told.segments]
    assert len(told.audio) == sum(map(len, pieces)) + 4800
    assert sum(passed) == pytest.approx(teller.usual_seconds("Good day. Well, bye."))
    assert {finding.what.partition(":")[0] for finding in told.verdict.findings} >= {
        "segment 1",
        "segment 2",
        "seconds",
    }


def test_bounds_of_the_data_set_decide_how_long_it_may_speak(voice, monkeypatch):
    usual = narrator(voice).bounds(Line("Hello there."))
    hurried = Statistics.of([("Twenty letters are in here.", 0.5)] * 20, TextConfig())
    monkeypatch.setattr(voice, "statistics", hurried)
    (segment,) = narrator(voice, retries=0).tell("Hello there.").segments
    assert segment.bounds.most < usual.most / 3
    assert segment.take.speech.seconds <= segment.bounds.most + 0.2


def test_texts_are_asked_for_in_the_form_that_was_learned(voice, monkeypatch):
    learned = TextConfig(arabic_diacritics="strip", arabic_digits="keep")
    monkeypatch.setattr(voice, "statistics", Statistics(text=learned))
    (line,) = narrator(voice).lines("مرحبـــا (يا) صديقي، عُمري ٣٥")
    assert line.text == "مرحبا يا صديقي، عمري ٣٥."
    assert narrator(voice).lines(line.text) == [line]


def test_references_that_cannot_be_used_are_refused(voice, tmp_path):
    hum = np.sin(np.arange(24000 * 31) / 20).astype(np.float32)
    audio.save(tmp_path / "long.wav", hum, 24000)
    audio.save(tmp_path / "short.wav", hum[:24000], 24000)
    audio.save(tmp_path / "click.wav", hum[:400], 24000)
    for name, text, what in (
        ("long.wav", "Hm.", "31.0 s, at most 30"),
        ("click.wav", "Hm.", "0 frames"),
        ("short.wav", " ", "has no text"),
        ("gone.wav", "Hm.", "no such audio"),
    ):
        with pytest.raises(UserError, match=what):
            voice.heard(Reference(tmp_path / name, text))
    said, codes = voice.heard(Reference(tmp_path / "short.wav", "Hm"))
    assert said == "Hm."
    assert codes.shape == (8, 25)
