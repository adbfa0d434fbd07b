"""A recogniser that knows what is said by how long a clip is, and the clips it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttscommon.audio import load, save, trim_silence
from ttscommon.hearing import Ear
from ttscommon.transcribe import Word

RECORDINGS = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker" / "audio"
RATE = 16_000


class Listener:
    """Says `words` of every clip, evenly spread; counts how often it was asked.

    Attributes:
        stop_at: raises KeyboardInterrupt when asked so many times
    """

    def __init__(self, words: str = "Um, hello there.", *, stop_at: int | None = None):
        self.said, self.stop_at, self.asked = words.split(), stop_at, 0
        self.prompts: list[str] = []
        self.languages: list[str] = []

    def text(self, audio, sample_rate, language):
        return " ".join(self.said)

    def words(self, audio, sample_rate, language, prompt=""):
        self.asked += 1
        if self.asked == self.stop_at:
            raise KeyboardInterrupt
        self.prompts.append(prompt)
        self.languages.append(language)
        step = len(audio) / sample_rate / max(1, len(self.said))
        return [Word(word, i * step, (i + 1) * step) for i, word in enumerate(self.said)]

    def spoken_language(self, audio, sample_rate):
        return "de"

    @property
    def ear(self) -> Ear:
        return Ear("fake", lambda: self)


def sentence_audio(number: int) -> np.ndarray:
    """One sentence of a real speaker (S,), trimmed."""
    return trim_silence(load(RECORDINGS / f"spk_{number:03d}.flac", RATE), RATE, -42.0)


def put(folder: Path, name: str, audio: np.ndarray) -> Path:
    save(folder / name, audio.astype(np.float32), RATE)
    return folder / name
