"""The speakers of the experiment on speech, and their recordings as prepared data sets.

A speaker is a synthetic voice with a habit of its own. Codes and prompts go through the files that
real recordings go through; what is known of the pauses comes from how a recording was made.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.pattern_experiment import speech_texts
from examples.pattern_experiment.speech_bank import VOICES, Recording, read_voice, recorded
from examples.pattern_experiment.speech_codes import Hears, Quantiser
from examples.pattern_experiment.speech_texts import Habit, Text, sentence
from indextts.clips import INFO_FILE, INFO_FORMAT, TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.pattern_clips import PATTERN_INFO
from indextts.pattern_features import PatternFeatures
from indextts.silence_codes import learn_silence_codes
from ttscommon.evaluation.wording import count_syllables
from ttscommon.files import atomic, write_json
from ttscommon.seeds import seed_for
from ttscommon.segment import Span

log = logging.getLogger(__name__)

FRAMES_A_SECOND = 50
N_SPEAKERS, N_PROMPTERS = 9 * len(VOICES), len(VOICES)  # the former can be set
CLIPS_A_SPEAKER, N_VALIDATION = 32, 1  # the latter of each speaker
N_TARGET_CLIPS, N_TARGET_HELD_OUT = 60, 12
N_TEXTS = 100  # of the test
N_LATENTS = 8  # of a prompt, in the language model
TARGET_VOICES = {"slow": "joe", "um": "slt"}


@dataclass(frozen=True)
class Speaker:
    """Somebody with a voice and a habit.

    Attributes:
        voice: number of it in VOICES
        n_clips: recordings
        whole: whether whole sentences are said only
    """

    name: str
    voice: int
    habit: Habit
    n_clips: int
    whole: bool = False


@dataclass(frozen=True)
class Clip:
    """A recording of a speaker."""

    id: str
    speaker: Speaker
    text: Text
    recording: Recording


@dataclass(frozen=True)
class Studio:
    """Where speech is made.

    Attributes:
        bank: folder of the voices
        n_texts: of the test
        n_speakers: that a base learns from
    """

    bank: Path
    seed: int
    n_texts: int = N_TEXTS
    n_speakers: int = N_SPEAKERS

    def speakers(self) -> list[Speaker]:
        """Those that a base learns from."""
        return [self._drawn(f"speaker_{i:02d}", i, CLIPS_A_SPEAKER) for i in range(self.n_speakers)]

    def prompters(self) -> list[Speaker]:
        """One for each voice; they prompt whoever is tested, and no base has met them."""
        return [self._drawn(f"prompter_{i}", i, 12) for i in range(N_PROMPTERS)]

    def target(self, name: str) -> Speaker:
        """One of those whose pattern is learned."""
        habit, voice = speech_texts.targets()[name], VOICES.index(TARGET_VOICES[name])
        return Speaker(name, voice, habit, N_TARGET_CLIPS + N_TARGET_HELD_OUT)

    def test_texts(self) -> list[Text]:
        chance = np.random.default_rng(seed_for(self.seed, "held-out texts"))
        return speech_texts.held_out_texts(self.n_texts, chance)

    def clips(self, speaker: Speaker, n: int | None = None) -> Iterator[Clip]:
        """The recordings of somebody, or the first n."""
        chance = np.random.default_rng(seed_for(self.seed, "texts", speaker.name))
        texts = speech_texts.draw_texts(speaker.n_clips, chance, self.test_texts())
        for number, text in enumerate(texts[:n]):
            yield Clip(
                f"{speaker.name}_{number:03d}", speaker, text, self.said(speaker, text, number)
            )

    def said(self, speaker: Speaker, text: Text, number: object) -> Recording:
        """The text as the speaker says it; another number, another way."""
        chance = np.random.default_rng(seed_for(self.seed, "said", speaker.name, number))
        pieces = speech_texts.say(text, speaker.habit, chance)
        return recorded(pieces, read_voice(self.bank / f"{VOICES[speaker.voice]}.npz"), chance)

    def _drawn(self, name: str, number: int, n_clips: int) -> Speaker:
        chance = np.random.default_rng(seed_for(self.seed, "habit", name))
        return Speaker(name, number % len(VOICES), Habit.drawn(chance), n_clips)


def encode(clips: Sequence[Clip], folder: Path, encoder: Hears, quantiser: Quantiser) -> None:
    """Write codes, text and prompt features of clips; `lines.jsonl` says that all are there."""
    if (folder / "lines.jsonl").is_file():
        return
    features, lines = folder / "features", []
    features.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        heard = encoder(clip.recording.audio)
        arrays = {
            "text_ids": np.array(speech_texts.text_ids(clip.text), np.int32),
            "codes": quantiser.codes(heard, clip.speaker.voice),
            "features": quantiser.heard(heard),
        }
        for kind, array in arrays.items():
            np.save(features / f"{clip.id}_{kind}.npy", array)
        known = known_of(clip, len(heard))
        known.write(features / f"{clip.id}_pattern.json")
        lines.append(_line(clip, arrays))
    with atomic(folder / "lines.jsonl") as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """What `encode` wrote there."""
    text = (folder / "lines.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_manifests(
    folder: Path, train: Sequence[Path], validation: Mapping[Path, int], base: str
) -> tuple[Path, Path]:
    """Manifests of encoded folders beside each other.

    Args:
        train: folders of `encode` inside of `folder`
        validation: how many clips of each go there instead, the first
        base: fingerprint of the model that is to learn from them
    """
    parts: dict[str, list[dict[str, Any]]] = {TRAIN_MANIFEST: [], VALIDATION_MANIFEST: []}
    for own in train:
        lines, n = [_inside(line, own.name) for line in read_lines(own)], validation.get(own, 0)
        parts[VALIDATION_MANIFEST] += lines[:n]
        parts[TRAIN_MANIFEST] += lines[n:]
    write_json(folder / INFO_FILE, {"format": INFO_FORMAT, "version": 1, "base": base})
    for name, lines in parts.items():
        with atomic(folder / name) as draft:
            draft.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    return folder / TRAIN_MANIFEST, folder / VALIDATION_MANIFEST


def write_silence(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Say beside `folder` which codes are silence in its clips, as data sets of speech do."""
    found = []
    for line in lines:
        codes: NDArray = np.load(folder / line["codes_path"])
        known = PatternFeatures.read(
            folder / line["codes_path"].replace("_codes.npy", "_pattern.json")
        )
        found.append((codes, known.kinds))
    learned = learn_silence_codes(found)
    log.info(
        "%d codes are silence: %.1f %% of the silent frames, %.2f %% of the spoken ones",
        *(len(learned.codes), 100 * learned.coverage, 100 * learned.leakage),
    )
    write_json(folder.parent / PATTERN_INFO, {**learned.to_dict(), "rates": {}})


def known_of(clip: Clip, n_frames: int) -> PatternFeatures:
    """What is known of a clip, as `indextts.pattern_features` finds it in recordings."""
    own = clip.recording
    pauses = [_frames(span, n_frames) for span in own.pauses]
    loud = np.flatnonzero(np.abs(own.audio) > 0.01) / len(own.audio) * n_frames
    lead, trail = (0, int(loud[0])), (min(n_frames, int(loud[-1]) + 1), n_frames)
    edges = [lead[1], *(edge for pause in pauses for edge in pause), trail[0]]
    spoken = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    words = sentence(clip.text)
    return PatternFeatures(
        key="made up",
        frames=n_frames,
        pauses=pauses,
        lead=lead,
        trail=trail,
        silent=[lead, *((a + 1, b - 1) for a, b in pauses), trail],
        spoken=[(a + 1, b - 1) for a, b in spoken if b - a > 2],
        fillers=[_frames(span, n_frames) for span in own.fillers],
        filler_words=["um"] * len(own.fillers),
        n_words=len(words.split()),
        n_syllables=count_syllables(words, "en"),
    )


def _frames(span: Span, n_frames: int) -> tuple[int, int]:
    first, last = (round(edge * FRAMES_A_SECOND) for edge in (span.start, span.end))
    return min(first, n_frames), min(last, n_frames)


def _line(clip: Clip, arrays: Mapping[str, NDArray]) -> dict[str, Any]:
    mark = hashlib.sha256(clip.recording.audio.tobytes() + sentence(clip.text).encode())
    return {
        "id": clip.id,
        "text": sentence(clip.text),
        **{f"{kind}_path": f"features/{clip.id}_{kind}.npy" for kind in arrays},
        "text_len": len(arrays["text_ids"]),
        "code_len": len(arrays["codes"]),
        "condition_len": N_LATENTS,
        "duration": len(arrays["codes"]) / FRAMES_A_SECOND,
        "recording": clip.id,
        "speaker": clip.speaker.name,
        "voice": clip.speaker.voice,
        "sha256": mark.hexdigest(),
    }


def _inside(line: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {
        key: f"{folder}/{value}" if key.endswith("_path") else value for key, value in line.items()
    }
