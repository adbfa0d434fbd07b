"""The embedded voice's recipe: fair texts, a fair schedule, and a corpus that survives a kill."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples.embedded_voice import corpus, engines, texts, voices
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.manifest import read_manifest

WORDS = [a + b + c for a in ("bal", "ker", "min", "sot") for b in "aeiou" for c in "dgklnprst"]


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Data files with a definition and two examples a word, and things that nobody should say."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for n, part in enumerate(texts.PARTS_OF_SPEECH):
        lines = ["  1 This software and database is being provided to you"]
        for i, word in enumerate(WORDS[n::4]):
            other = WORDS[(7 * i + n) % len(WORDS)]
            gloss = f'a kind of {other} (of any sort); "we saw the {word} near the town"; '
            gloss += f'"they took {other} for a walk on the beach today"; "UN men, 3 of them came"'
            lines.append(f"0001 03 n 02 {word} 0 {word}_{other} 0 000 | {gloss}  ")
        (folder / f"data.{part}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def sources(wordnet: Path) -> texts.Sources:
    return texts.read_wordnet(wordnet)


def test_wordnet_gives_whole_sentences_without_brackets_or_figures(sources: texts.Sources) -> None:
    assert "we saw the balad near the town" in sources.examples
    assert "a kind of balad" in sources.definitions
    assert {"balad", "balad balad"} <= set(sources.lemmas)
    assert not any("3" in text or "(" in text or "software" in text for text in sources.examples)


def test_a_missing_wordnet_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wordnet-base"):
        texts.read_wordnet(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_no_held_out_text_is_trained_on(sources: texts.Sources, seed: int) -> None:
    choice = texts.choose(sources, texts.read_everyday(), 200, 20, seed)
    parts = [
        [texts.key(sentence) for t in part for sentence in re.split(r"(?<=[.?!]) ", t.text)]
        for part in (choice.training, choice.hard, choice.plain)
    ]
    n_two = sum(t.kind == "two" for t in choice.training)
    assert 10 < n_two < 60  # of 15 % of 200
    assert [len(keys) for keys in parts] == [200 + n_two, 20, 20]
    assert len({key for keys in parts for key in keys}) == 240 + n_two


def test_the_same_seed_chooses_the_same_and_a_longer_choice_begins_with_it(sources) -> None:
    everyday = texts.read_everyday()
    choice = texts.choose(sources, everyday, 120, 10)
    assert texts.choose(sources, everyday, 120, 10) == choice
    longer = texts.choose(sources, everyday, 180, 10)
    assert longer.training[:120] == choice.training
    assert (longer.hard, longer.plain) == (choice.hard, choice.plain)
    assert texts.choose(sources, everyday, 120, 10, seed=1) != choice


def test_asking_for_more_texts_than_there_are_is_refused(sources: texts.Sources) -> None:
    with pytest.raises(UserError, match="not 100000"):
        texts.choose(sources, texts.read_everyday(), 100_000, 10)


def test_everyday_sentences_can_be_held_out_and_are_all_different() -> None:
    sentences = texts.read_everyday()
    assert len(sentences) == len({texts.key(sentence) for sentence in sentences}) >= 300
    assert all(sentence == texts.written(sentence) for sentence in sentences)


@pytest.mark.parametrize(
    ("text", "speakable"),
    [
        ("the dog barked", True),
        ("well-known, surely?", False),
        ("a well-known fact, isn't it?", True),
        ("the UN met today", False),
        ("it was 3 feet long", False),
        ("two words", False),
        (" ".join(["word"] * 15), False),
    ],
)
def test_only_plain_sentences_are_speakable(text: str, speakable: bool) -> None:
    assert texts.is_speakable(text) is speakable


def test_texts_come_back_from_their_file(tmp_path: Path) -> None:
    texts.write_texts(tmp_path / "a.csv", [texts.Text('He said, "no".', "rare")])
    assert texts.read_texts(tmp_path / "a.csv") == [("00000", 'He said, "no".')]


def test_every_voice_gets_its_share_at_every_point() -> None:
    total = sum(voice.chunks for voice in voices.VOICES)
    order = voices.schedule(3 * total)
    assert voices.schedule(total) == order[:total]
    said = Counter(voice.name for voice in order)
    assert said == {voice.name: 3 * voice.chunks for voice in voices.VOICES}
    early = Counter(voice.name for voice in order[: total // 4])
    assert all(abs(early[v.name] - v.chunks / 4) <= 1 for v in voices.VOICES)


def test_voices_have_one_name_each() -> None:
    names = [voice.name for voice in voices.VOICES]
    assert len(set(names)) == len(names)
    assert set(voices.HELD_OUT_VOICES) <= set(names)


def test_a_mixture_names_its_parts_and_shares() -> None:
    assert engines.mixture("jm_kumo") == [("jm_kumo", 1.0)]
    assert engines.mixture("a=0.6 b=0.4") == [("a", 0.6), ("b", 0.4)]


def test_phonemes_are_rewritten_for_the_voices_that_read_another_alphabet() -> None:
    assert engines.misaki("dʒˈoʊ tʃˈɛɹi fˈɑːðɚ bˈɜːd ɡˈeɪm") == "ʤˈO ʧˈɛɹi fˈɑðəɹ bˈɜɹd ɡˈAm"


@pytest.mark.parametrize("size", [0.85, 1.15])
def test_a_size_moves_pitch_and_length_together(size: float) -> None:
    time = np.arange(24_000) / 24_000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    resized = engines.resized(tone, size)
    assert len(resized) == pytest.approx(24_000 / size, abs=2)
    peak = np.abs(np.fft.rfft(resized)).argmax() * 24_000 / len(resized)
    assert peak == pytest.approx(440 * size, rel=0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Texts for three chunks."""
    for name, n in (("training", 150), ("hard", 3), ("plain", 3)):
        spoken = [texts.Text(f"{name} {i}", "example") for i in range(n)]
        texts.write_texts(tmp_path / "texts" / f"{name}.csv", spoken)
    return tmp_path


def hum(asked: list[str], limit: int = 10**9):
    """An engine that speaks a text as a tone of its seed, and gives up after `limit` chunks."""

    def speak_all(voice, said, seed):
        if len(asked) >= limit:
            raise KeyboardInterrupt
        asked.append(f"{voice.name} {said[0]}")
        time = np.arange(2400) / 24_000
        return [np.sin((200 + seed % 97 + i) * time).astype(np.float32) for i in range(len(said))]

    return speak_all


def jobs(root: Path) -> list[corpus.Job]:
    spoken = texts.read_texts(root / "texts/training.csv")
    order = voices.schedule(3, [voices.Voice("hum", "", "", 2), voices.Voice("buzz", "", "", 1)])
    chunks = [tuple(spoken[i : i + voices.CHUNK]) for i in range(0, len(spoken), voices.CHUNK)]
    return [
        corpus.Job(voice, "", root / voice.name, c) for voice, c in zip(order, chunks, strict=True)
    ]


def files(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_stopped_corpus_goes_on_to_the_same_sounds(root: Path) -> None:
    asked: list[str] = []
    corpus.speak(jobs(root), hum(asked), seed=0)
    whole = files(root)
    for name in ("hum", "buzz"):
        for path in sorted((root / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    again: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        corpus.speak(jobs(root), hum(again, limit=1), seed=0)
    assert len(again) == 1
    corpus.speak(jobs(root), hum(again), seed=0)
    assert again == asked  # nothing twice
    assert files(root) == whole


def test_what_was_spoken_is_ready_to_be_prepared(root: Path) -> None:
    corpus.speak(jobs(root), hum([]), seed=0)
    clips = read_manifest(root / "hum/spoken.jsonl")
    assert len(clips) == 64 + 22
    sound = audio.load(root / "hum" / clips[0].audio, 24_000)
    assert clips[0].duration == pytest.approx(len(sound) / 24_000)
    with (root / "hum/dataset/transcripts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"audio_path": "audio/00000.flac", "text": "training 0"}
    assert len(rows) == len(clips)


def test_another_seed_or_text_is_refused(root: Path) -> None:
    corpus.speak(jobs(root), hum([]), seed=0)
    with pytest.raises(UserError, match="other settings"):
        corpus.speak(jobs(root), hum([]), seed=1)
    changed = [texts.Text(f"changed {i}", "example") for i in range(150)]
    texts.write_texts(root / "texts/training.csv", changed)
    with pytest.raises(UserError, match="says something else"):
        corpus.speak(jobs(root), hum([]), seed=0)
