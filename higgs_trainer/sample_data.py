"""A made-up set of samples in the ChatML form, with the audio that they name: ready to train on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.seeds import seed_for

SAMPLE_RATE = 24000
SYSTEM = "Generate speech in the provided voice."
TEXTS = (
    "Good morning, how are you today?",
    "The weather has been fine all week.",
    "Please leave the key under the mat.",
    "We'll meet again next Thursday.",
    "مرحبا، كيف حالك اليوم؟",
)
SPEAKERS = ("anna", "bruno", "chadi")


def create_sample_data(path: Path, *, n_samples: int = 10) -> Path:
    """Write samples to `path`, and tones for their audio into a folder beside it.

    Raises:
        UserError: if there is something at `path`
    """
    folder = path.with_name(f"{path.stem}_audio")
    for place in (path, folder):
        if place.exists():
            raise UserError("something is here already", where=place, fix="give another name")
    samples = []
    for number in range(n_samples):
        speaker = SPEAKERS[number % len(SPEAKERS)]
        texts = [TEXTS[number % len(TEXTS)], TEXTS[(number + 1) % len(TEXTS)]]
        names = [f"{speaker}_{number:02d}_{kind}.wav" for kind in ("reference", "target")]
        for name, text in zip(names, texts, strict=True):
            audio.save(folder / name, _tone(speaker, name, text), SAMPLE_RATE)
        samples.append(_sample(speaker, folder.name, texts, names))
    with atomic(path) as draft:
        draft.write_text(json.dumps(samples, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _sample(speaker: str, folder: str, texts: list[str], names: list[str]) -> dict[str, object]:
    said, wanted = texts
    answers = [{"type": "audio", "audio_url": f"{folder}/{name}"} for name in names]
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": said},
            {"role": "assistant", "content": answers[0]},
            {"role": "user", "content": wanted},
            {"role": "assistant", "content": answers[1]},
        ],
        "speaker": speaker,
        "start_index": 4,
    }


def _tone(speaker: str, name: str, text: str) -> np.ndarray:
    """A voice-like hum: a few partials of a pitch that is the speaker's, in syllables."""
    random = np.random.default_rng(seed_for("sample data", name))
    pitch = 110.0 * 2 ** (SPEAKERS.index(speaker) / 2)
    time = np.arange(int(SAMPLE_RATE * (0.6 + 0.02 * len(text)))) / SAMPLE_RATE
    partials = sum(
        np.sin(2 * np.pi * pitch * k * time + random.uniform(0, 6.28)) / k for k in range(1, 6)
    )
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time + random.uniform(0, 6.28))
    return (0.2 * partials * syllables + random.normal(0, 0.002, len(time))).astype(np.float32)
