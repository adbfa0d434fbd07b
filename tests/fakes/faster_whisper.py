"""A recogniser that hears the same few words again and again, as many as there is time for.

It is loaded as the real one is: from a folder with `model.bin` and a `config.json`, whose "words"
it says. Silence says nothing. Where the environment names a file, a line for each clip is added to
it.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

RATE = 16_000
PACE = 0.35  # seconds a word
LOUD = 0.01
LISTENING = "VOXTUNE_FAKE_LISTENING"  # names the file


def write_model(folder: Path, text: str, slow: float = 0.0) -> Path:
    """A model folder whose recogniser hears `text`, and takes `slow` seconds for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(b"fake")
    config = {"words": text.split(), "slow": slow}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


class WhisperModel:
    def __init__(self, folder: str, **_: Any):
        config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        self.known: Sequence[str] = config["words"]
        self.slow: float = config["slow"]
        self.model = SimpleNamespace(is_multilingual=True)

    def detect_language(self, audio: np.ndarray) -> tuple[str, float, list]:
        return "en", 1.0, [("en", 1.0)]

    def transcribe(self, audio: np.ndarray, **_: Any) -> tuple[list[SimpleNamespace], Any]:
        if LISTENING in os.environ:
            with Path(os.environ[LISTENING]).open("a", encoding="utf-8") as file:
                file.write(f"{len(audio)}\n")
        time.sleep(self.slow)
        loud = np.flatnonzero(np.abs(audio) > LOUD) / RATE
        if not len(loud):
            return [], SimpleNamespace(language="en")
        start, end = float(loud[0]), float(loud[-1])
        edges = np.linspace(start, end, max(1, round((end - start) / PACE)) + 1)
        words = [
            SimpleNamespace(
                word=" " + self.known[i % len(self.known)], start=a, end=b, probability=0.9
            )
            for i, (a, b) in enumerate(itertools.pairwise(edges))
        ]
        text = "".join(word.word for word in words)
        segment = SimpleNamespace(
            text=text, words=words, start=start, end=end, avg_logprob=-0.2, no_speech_prob=0.0
        )
        return [segment], SimpleNamespace(language="en")
