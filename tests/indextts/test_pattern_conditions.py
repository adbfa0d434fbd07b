"""Folders of speech for the pattern protocol: each condition as it is called, nothing twice."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from indextts.clips import TrainingClip
from indextts.infer_v2 import IndexTTS2
from indextts.lora import write_base
from indextts.pattern_conditions import Speakers, plain_texts, speak_conditions, write_recordings
from indextts.pattern_ways import ways_to_speak
from tests.indextts.speakers import write_adapter, write_pattern, write_recording
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import find_utterances, pair

QUICK = {"num_beams": 1, "diffusion_steps": 1, "max_mel_tokens": 30}


@pytest.fixture(scope="module")
def tts(trained):
    return IndexTTS2(model_dir=trained.checkpoint, device="cpu")


@pytest.fixture
def who(trained, tmp_path) -> Speakers:
    speaker = trained.speaker("ozzy", tmp_path, "adapted")
    best = speaker.pattern_training.best_checkpoint
    pattern = best / "pattern_embedding.pt"
    return Speakers(pattern, speaker.speaker_embeddings, best / "lora")


def speak(tts, who, folder: Path, *, texts=("The cat sat.",), seeds=(1,), names=()) -> dict:
    """{condition: files made now}"""
    wanted = ways_to_speak(
        has_adapter=who.adapter is not None,
        strengths=[0.5],
        has_other=who.other is not None,
        has_lora=who.lora is not None,
    )
    wanted = [one for one in wanted if not names or one.name in names]
    done = speak_conditions(tts, wanted, who, list(texts), seeds, folder, hesitant, **QUICK)
    return {condition.name: n_made for condition, _, n_made in done}


def hesitant(text: str, seed: int) -> str:
    return f"Um, {text}"


def sound(folder: Path, name: str) -> bytes:
    (file,) = (folder / name).glob("*.wav")
    return file.read_bytes()


def test_every_condition_sounds_as_its_name_says(tts, who, trained, tmp_path):
    write_pattern(trained.checkpoint, tmp_path / "other.pt", strength=5.0)
    out = tmp_path / "out"
    write_adapter(trained.checkpoint, tmp_path / "lora", seed=1)
    who = dataclasses.replace(who, other=tmp_path / "other.pt", lora=tmp_path / "lora")
    names = {"B0", "B1", "L", "P", "LP", "LP0", "LPr", "LPx", "LP@0.5"}
    assert set(speak(tts, who, out)) == names
    assert len({sound(out, path.name) for path in out.iterdir()}) == len(names)
    # B1 is paired with B0 by its name, and says which text it read.
    assert [path.name for path in (out / "B1").glob("*.wav")] == ["001_the-cat-sat_seed1.wav"]
    assert "Um, The cat sat." in (out / "B1" / "transcripts.csv").read_text(encoding="utf-8")
    assert tts.synthesizer.manner is None
    # Of a pattern alone, strength 0 is the base, and P is what it was with the adapter left out.
    alone = dataclasses.replace(who, adapter=None)
    speak(tts, alone, tmp_path / "alone", names=("B0", "P", "P0"))
    assert sound(tmp_path / "alone", "P0") == sound(out, "B0") == sound(tmp_path / "alone", "B0")
    assert sound(tmp_path / "alone", "P") == sound(out, "P")


def test_an_adapter_of_another_base_is_refused_before_anything_is_spoken(
    tts, who, trained, tmp_path
):
    write_adapter(trained.checkpoint, tmp_path / "lora")
    write_base(tmp_path / "lora", "0" * 64)
    who = dataclasses.replace(who, lora=tmp_path / "lora")
    with pytest.raises(UserError, match="trained on another base"):
        speak(tts, who, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_spoken_again_and_what_changed_is(tts, who, trained, tmp_path):
    out, texts = tmp_path / "out", ("The cat sat.", "It slept.")
    few = {"names": ("B0", "P"), "texts": texts}
    assert speak(tts, who, out, names=few["names"], texts=texts[:1]) == {"B0": 1, "P": 1}
    assert speak(tts, who, out, **few) == {"B0": 1, "P": 1}
    assert speak(tts, who, out, **few) == {"B0": 0, "P": 0}
    next((out / "B0").glob("001_*.wav")).write_bytes(b"broken")
    assert speak(tts, who, out, **few) == {"B0": 1, "P": 0}
    write_pattern(trained.checkpoint, who.pattern, strength=2.0)
    assert speak(tts, who, out, **few) == {"B0": 0, "P": 2}


def test_speech_that_is_not_asked_for_any_more_is_not_measured_but_kept(tts, who, tmp_path):
    out, texts = tmp_path / "out", ("The cat sat.", "It slept.")
    many = {"names": ("B0",), "texts": texts, "seeds": (1, 2)}
    assert speak(tts, who, out, **many) == {"B0": 4}
    spoken = {path.name: path.read_bytes() for path in (out / "B0").glob("*.wav")}
    first = "001_the-cat-sat_seed1.wav"
    for _ in range(2):
        assert speak(tts, who, out, names=("B0",), texts=texts[:1]) == {"B0": 0}
        assert [one.path.name for one in find_utterances(out / "B0")] == [first]
        assert len((out / "B0" / "transcripts.csv").read_text(encoding="utf-8").split("\n")) == 3
        assert {path.name for path in out.rglob("*.wav")} == spoken.keys()
    assert speak(tts, who, out, **many) == {"B0": 0}
    assert {path.name: path.read_bytes() for path in (out / "B0").glob("*.wav")} == spoken
    assert len(find_utterances(out / "B0")) == 4
    # What was broken meanwhile is spoken again, as anywhere.
    speak(tts, who, out, names=("B0",), texts=texts[:1])
    next((out / "earlier" / "B0").glob("*seed1.wav")).write_bytes(b"broken")
    assert speak(tts, who, out, **many) == {"B0": 1}
    assert {path.name: path.read_bytes() for path in (out / "B0").glob("*.wav")} == spoken
    assert not list((out / "earlier").rglob("*.wav"))


def test_the_evaluation_finds_texts_and_seeds_and_pairs_them_with_recordings(tts, who, tmp_path):
    clip = held_out_clip(tmp_path)
    texts = plain_texts([clip], 2, "en")
    assert texts[0] == "The cat sat."
    assert len(texts) == 2
    out = tmp_path / "out"
    speak(tts, who, out, texts=texts[:1], seeds=(1, 2), names=("B0",))
    assert write_recordings([clip], out / "R", "en") == 1
    spoken, real = find_utterances(out / "B0"), find_utterances(out / "R")
    assert [(one.text, one.seed) for one in spoken] == [("The cat sat.", 1), ("The cat sat.", 2)]
    assert real[0].text == "The cat sat."
    assert len(pair(real, spoken)) == 1
    with (out / "B0" / "transcripts.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2


def held_out_clip(folder: Path) -> TrainingClip:
    recording = write_recording(folder / "a.wav", 2.0)
    return TrainingClip(
        id="a", text="The um, the cat... sat.", text_ids_path=recording, codes_path=recording,
        text_len=1, code_len=1, audio_path=recording,
    )  # fmt: skip


@pytest.mark.parametrize("was_ours", [False, True])
def test_recordings_that_people_put_among_the_conditions_stay(tmp_path, was_ours):
    clip, place = held_out_clip(tmp_path), tmp_path / "out" / "R"
    if was_ours:
        assert write_recordings([clip], place, "en") == 1
        assert write_recordings([clip], place, "en") == 1  # what is ours is replaced
    mine = write_recording(place / "mine.wav")
    before = mine.read_bytes()
    with pytest.raises(UserError, match=r"'mine.wav' isn't one of our copies.*R=FOLDER"):
        write_recordings([clip], place, "en")
    assert mine.read_bytes() == before
    assert (place / "a.wav").is_file() == was_ours
    mine.unlink()
    assert write_recordings([clip], place, "en") == 1  # an empty folder is nobody's
    assert {path.name for path in place.iterdir()} == {"a.wav", "transcripts.csv", "held_out.json"}


def test_without_held_out_recordings_or_texts_it_is_said(tmp_path):
    with pytest.raises(UserError, match="no held-out recordings"):
        write_recordings([], tmp_path / "R", "en")
    with pytest.raises(UserError, match="nothing to say in 'de'"):
        plain_texts([], 5, "de")


def test_fewer_texts_than_asked_for_are_said(caplog):
    assert len(plain_texts([], 100, "en")) == 100
    assert not caplog.text
    assert len(plain_texts([], 500, "en")) == 100
    assert "100 texts, not 500" in caplog.text
