"""A voice that reads letters or phonemes is trained on both and speaks from either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lewm import weights
from lewm.config import ModelConfig, TrainConfig
from lewm.dataset import Sentences, SpeechPlan
from lewm.features import FeatureStore
from lewm.generation import Request, generate
from lewm.text import PHONEMES_FOLLOW, phonemes
from tests.lewm.prepared import prepare_tones
from tools.lewm_train import main as train

MIXED = ModelConfig(text_form="mixed", speakers=("tone",), languages=("en",))


@pytest.fixture
def fake_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An espeak-ng that says its text in capitals, a line per clause."""
    script = tmp_path / "espeak-ng"
    script.write_text("#!/bin/sh\ntr a-z A-Z\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    phonemes.cache_clear()


@pytest.fixture
def store(tmp_path: Path, fake_espeak: None) -> FeatureStore:
    return FeatureStore(prepare_tones(tmp_path / "data", n_clips=24))


def plan(store: FeatureStore, *, augment: bool, phoneme_share: float = 0.5) -> SpeechPlan:
    sentences, n_frames = Sentences(store, MIXED), store.n_frames
    return SpeechPlan(
        sentences,
        lambda item: torch.zeros(int(n_frames[item]), 2),
        n_frames,
        range(len(store)),
        TrainConfig(batch_size=8, phoneme_share=phoneme_share),
        stride=1,
        downsample=4,
        limit=10_000,
        data="tones",
        augment=augment,
    )


def forms(plan: SpeechPlan, epoch: int) -> list[str]:
    """What each row of an epoch is read as, checked letter by letter."""
    found = []
    for key in plan.epoch(epoch):
        for row in plan.load(key).text_ids.tolist():
            letters = bytes(i - 1 for i in row if 0 < i < PHONEMES_FOLLOW).decode()
            form = "phonemes" if PHONEMES_FOLLOW in row else "letters"
            assert row.index(PHONEMES_FOLLOW) == 1 if form == "phonemes" else True
            assert letters == (letters.upper() if form == "phonemes" else letters.lower())
            found.append(form)
    return found


@pytest.mark.parametrize("share", [0.5, 0.2, 0.0])
def test_training_reads_a_share_of_the_rows_as_phonemes(store: FeatureStore, share: float) -> None:
    read = plan(store, augment=True, phoneme_share=share)
    found = [form for epoch in range(8) for form in forms(read, epoch)]
    assert found.count("phonemes") / len(found) == pytest.approx(share, abs=0.15 if share else 0)
    assert forms(read, 3) == forms(read, 3)


def test_held_out_clips_are_read_both_ways_in_turn(store: FeatureStore) -> None:
    assert forms(plan(store, augment=False), 0) == ["letters", "phonemes"] * 12


def test_both_forms_train_a_voice_that_speaks_from_either(tmp_path: Path, fake_espeak) -> None:
    data, voice = prepare_tones(tmp_path / "data"), tmp_path / "voice"
    steps = ["--autoencoder-steps", "2", "--predictor-steps", "2", "--batch-size", "4"]
    flags = ["--preset", "tiny", "--text-form", "mixed", "--device", "cpu", *steps]
    train(["--data-dir", str(data), "--output-dir", str(voice), *flags])
    model, info = weights.load(voice / "best_checkpoint")
    assert model.config.text_form == "mixed"
    requests = [Request(text="abc", reading=reading) for reading in ("letters", "phonemes")]
    letters, spelled = generate(model, info, requests)
    assert len(letters.latents)
    assert letters.latents.shape != spelled.latents.shape or bool(
        (letters.latents != spelled.latents).any()
    )
