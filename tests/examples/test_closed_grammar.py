"""The closed grammar is a fair test, and its corpus survives being stopped."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path

import pytest

from examples.closed_grammar import corpus, grammar
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

# Speaks a line as a buzz, 10 ms a letter; gives up where a file "stop" lies.
FAKE_PIPER = """
import argparse, array, pathlib, sys, wave
parser = argparse.ArgumentParser()
parser.add_argument("--input-file")
parser.add_argument("--output-dir")
args, _ = parser.parse_known_args()
for i, line in enumerate(open(args.input_file, encoding="utf-8")):
    if pathlib.Path("stop").exists():
        sys.exit("out of breath")
    n_samples = len(line.strip()) * 220
    with wave.open(f"{args.output_dir}/{99 + i}.wav", "wb") as file:
        file.setparams((1, 2, 22050, n_samples, "NONE", ""))
        file.writeframes(array.array("h", [1000, -1000] * (n_samples // 2)).tobytes())
"""


@pytest.fixture
def piper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags that make the corpus speak with a stand-in, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    script, voice = tmp_path / "piper.py", tmp_path / "voice.onnx"
    script.write_text(FAKE_PIPER, encoding="utf-8")
    voice.touch()
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    return ["--piper", command, "--voice", str(voice), "--training", "42", "--held-out", "7"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("seed", range(5))
def test_no_held_out_sentence_is_trained_on(seed: int) -> None:
    split = grammar.split(1100, 60, seed)
    assert len(set(split.training)) == 1100
    assert len(set(split.held_out)) == 60
    assert not set(split.training) & set(split.held_out)


@pytest.mark.parametrize("seed", range(5))
def test_every_held_out_word_is_trained_on(seed: int) -> None:
    split = grammar.split(1100, 60, seed)
    assert grammar.words(split.held_out) <= grammar.words(split.training)


def test_too_few_training_sentences_for_the_held_out_words_are_refused() -> None:
    with pytest.raises(UserError, match="don't cover the held-out words"):
        grammar.split(2, 60)


def test_more_sentences_than_the_grammar_has_are_refused() -> None:
    with pytest.raises(UserError, match="20736 sentences"):
        grammar.split(20_700, 60)


def test_the_same_seed_draws_the_same_sentences() -> None:
    assert grammar.split(1100, 60, 3) == grammar.split(1100, 60, 3)
    assert grammar.split(1100, 60, 3) != grammar.split(1100, 60, 4)


def test_no_phrase_is_in_two_slots() -> None:
    phrases = [phrase for slot in grammar.SLOTS for phrase in slot]
    assert len(phrases) == len(set(phrases)) == 48


def test_sentences_read_like_sentences() -> None:
    for text in grammar.split(200, 20).held_out:
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.isascii()
        assert not any(letter.isdigit() for letter in text)  # Whisper spells numbers as it likes


def test_groups_leave_out_what_does_not_fill_one() -> None:
    assert grammar.groups("abcdefgh", 3) == [["a", "b", "c"], ["d", "e", "f"]]


def test_corpus_pairs_every_sentence_with_its_own_recording(piper: list[str]) -> None:
    corpus.main(piper)
    speaker = Speaker("grammar")
    held_out = speaker.folder / "heldout" / "transcripts.csv"
    for transcripts, n in ((speaker.transcripts, 42), (held_out, 7)):
        listed = rows(transcripts)
        assert len(listed) == n
        for row in listed:
            path = transcripts.parent / row["audio_path"]
            assert audio.duration(path) == pytest.approx(len(row["text"]) * 220 / 22050, abs=0.001)


def test_corpus_lists_long_texts_of_three_held_out_sentences(piper: list[str]) -> None:
    corpus.main(piper)
    folder = Speaker("grammar").folder / "heldout"
    texts = [row["text"] for row in rows(folder / "transcripts.csv")]
    long = rows(folder / "long.csv")
    assert [row["text"] for row in long] == [" ".join(texts[:3]), " ".join(texts[3:6])]
    assert long[1]["audio_paths"] == "audio/00004.wav audio/00005.wav audio/00006.wav"


def test_corpus_keeps_what_is_spoken_and_goes_on(piper: list[str]) -> None:
    corpus.main(piper)
    clips = audio.find_audio(Speaker("grammar").audio)
    kept, lost = clips[0], clips[31]
    lost.unlink()
    before = kept.stat().st_mtime_ns
    corpus.main(piper)
    assert kept.stat().st_mtime_ns == before
    assert lost.is_file()


def test_corpus_says_why_piper_gave_up(piper: list[str], tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(UserError, match="spoke 0 of 49 texts: out of breath"):
        corpus.main(piper)


def test_corpus_refuses_to_mix_two_sets_of_sentences(piper: list[str]) -> None:
    corpus.main(piper)
    with pytest.raises(UserError, match="other settings"):
        corpus.main([*piper, "--seed", "1"])


def test_corpus_leaves_a_persons_recordings_alone(piper: list[str]) -> None:
    recording = Speaker("ozzy").audio / "letter.wav"
    recording.parent.mkdir(parents=True)
    recording.touch()
    with pytest.raises(UserError, match="weren't made here"):
        corpus.main([*piper, "--speaker", "ozzy", "--overwrite"])
    assert recording.is_file()
