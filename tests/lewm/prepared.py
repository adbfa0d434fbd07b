"""Prepared features made from nothing: a 'language' of tones, one pitch for each letter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lewm.features import FEATURES_FILE, Features, describe, write_shard
from ttscommon.files import write_json
from ttscommon.mel import MelRecipe, log_mel

RECIPE = MelRecipe()
LETTER_SECONDS = 0.12


def spoken(text: str, pitch: float = 1.0) -> np.ndarray:
    """(S,) each letter as a tone of its own, spaces as silence."""
    n = int(LETTER_SECONDS * RECIPE.sample_rate)
    time = np.arange(n) / RECIPE.sample_rate
    tones = [
        np.zeros(n)
        if letter == " "
        else 0.3 * np.sin(2 * np.pi * pitch * (200 + 40 * (ord(letter) - 97)) * time)
        for letter in text
    ]
    return np.concatenate(tones).astype(np.float32)


def prepare_tones(
    folder: Path, *, n_clips: int = 12, speaker: str = "tone", pitch: float = 1.0, seed: int = 0
) -> Path:
    """Write a processed folder of `n_clips` random words and return it."""
    random = np.random.default_rng(seed)
    clips = []
    for index in range(n_clips):
        letters = random.choice(list("abcdefgh "), size=int(random.integers(6, 14)))
        text = "a" + "".join(letters).strip()
        mel = log_mel(torch.from_numpy(spoken(text, pitch)), RECIPE).numpy().astype(np.float16)
        name = f"{speaker}{index:03d}"
        clips.append(Features(name, mel, text, speaker, "en", f"{name}.wav"))
    folder.mkdir(parents=True, exist_ok=True)
    shard = folder / "shard-0.arrow"
    write_shard(shard, clips, RECIPE)
    write_json(folder / FEATURES_FILE, describe([shard], {}))
    return folder
